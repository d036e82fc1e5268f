"""How sure the advice is: whether it holds at the ends of what was measured, and what was not steady meanwhile."""

import msgspec

from foretell.compare import units
from foretell.compare.costs import bound_name, capacity, latency, replicas, speeds
from foretell.compare.measured import Measured
from foretell.compare.needs import Load, Needs
from foretell.compare.ways import best, ways

HIGH, MEDIUM, LOW = "high", "medium", "low"
_NOISE = 0.1
_FEW = 459


class Confidence(msgspec.Struct, frozen=True):
    """level: HIGH, MEDIUM or LOW. why: what it rests on, or what is against it, a sentence each."""

    level: str
    why: list[str]


def confidence(measured: Measured, needs: Needs, load: Load | None) -> Confidence:
    """Low where another way wins at an end of what was measured; medium where something was unsteady or too short."""
    doubts = _doubts(measured, needs, load)
    if load is None or not needs.decidable:
        return Confidence(MEDIUM if doubts else HIGH, doubts or [_steady(measured)])
    job, server = spans(measured, needs)
    verdicts = set()
    for one in (1.0, *job):
        for other in (1.0, *server):
            won = best(ways(measured, needs, load, one, other))
            verdicts.add(won.name if won else "neither")
    if len(verdicts) > 1:
        return Confidence(LOW, [f"within the noise of what was measured the verdict is {_or(verdicts)}", *doubts])
    if doubts:
        return Confidence(MEDIUM, doubts)
    held = (
        f"the verdict holds from {units.share(min(*job, *server))} to {units.share(max(*job, *server))} of the speeds"
    )
    return Confidence(HIGH, [held, _steady(measured)])


def spans(measured: Measured, needs: Needs) -> tuple[tuple[float, float], tuple[float, float]]:
    """How many times as slow and as fast jobs and servers may really be: by the windows of the job; by the search, up
    to the slowest rate that failed; at least a tenth each way, within which windows count as steady."""
    made = measured.offline
    windows = [*made.windows, made.rows_per_s]
    job = min(1 - _NOISE, min(windows) / made.rows_per_s), max(1 + _NOISE, max(windows) / made.rows_per_s)
    limit = capacity(measured, needs.slo)
    over = [step.asked for step in measured.server.search if not step.within and step.asked > limit]
    return job, (1 - _NOISE, max(1 + _NOISE, min(over, default=0.0) / limit if limit else 1.0))


def _doubts(measured: Measured, needs: Needs, load: Load | None) -> list[str]:
    found = []
    if not measured.offline.stable:
        found.append("the job's rate was not steady to 10 %")
    unsteady = sum(not step.stable for step in measured.server.curve)
    if unsteady:
        found.append(f"{unsteady} of {len(measured.server.curve)} steps of the server not steady to 10 %")
    if measured.server.quantile < 0.99:
        name = bound_name(measured)
        found.append(f"the time was too short for p99: servers were held to {name}; a longer --budget tells it")
    if measured.server.at_least:
        found.append("the load generator was the limit: a server may answer more than is said")
    if measured.parity.equal < measured.parity.rows:
        found.append(f"{measured.parity.rows - measured.parity.equal:,} rows were answered otherwise by the other way")
    few = [step for step in measured.server.curve if step.latency.requests < _FEW]
    if few:
        found.append(f"{len(few)} of {len(measured.server.curve)} steps with too few requests for a p99")
    served = load and replicas(speeds(measured, needs.slo, 0.0), load.rate, load.peak)
    at = latency(measured, load.peak / served.machines) if load and served else None
    if at is not None and needs.slo < at.high:
        found.append(f"p99 may be {units.seconds(at.high)} there, more than {units.seconds(needs.slo)}")
    return found


def _steady(measured: Measured) -> str:
    requests = sum(step.latency.requests for step in measured.server.curve)
    return f"every trial was steady to 10 %, over {requests:,} requests and {measured.offline.rows:,} rows"


def _or(names: set[str]) -> str:
    return " or ".join(sorted(names))
