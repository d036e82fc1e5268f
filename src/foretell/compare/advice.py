"""Batch or real time? The advice that follows from what was measured and what is needed: a sentence, the two strongest
reasons, what would change it, and how sure it is."""

import msgspec

from foretell.compare import units
from foretell.compare.confidence import Confidence, confidence
from foretell.compare.costs import JOBS, SERVERS, Crossing, break_even_rate, break_even_refresh, speeds
from foretell.compare.flips import changes
from foretell.compare.frontier import Frontier, frontier
from foretell.compare.measured import Measured
from foretell.compare.needs import UNSAID, Load, Needs, load
from foretell.compare.reasons import cost_told, reasons
from foretell.compare.units import DAY
from foretell.compare.ways import BOTH, Way, best, ways

UNDECIDED = "it depends"
NEITHER = "neither"


class Advice(msgspec.Struct, frozen=True):
    """verdict: a way's name, UNDECIDED where too little was said, or NEITHER. sentence: what to do. reasons: the two
    strongest. changes: at which value the verdict is another. assumed: what nobody said. ways: empty without a load.

    crossing: the rate at which batch at this refresh and servers cost the same. refresh_even: the refresh at which they
    do at this load. map: which way wins where.
    """

    needs: Needs
    verdict: str
    sentence: str
    reasons: list[str]
    changes: list[str]
    assumed: list[str]
    confidence: Confidence
    ways: list[Way]
    crossing: Crossing | None
    refresh_even: float | None
    map: Frontier

    def way(self, name: str) -> Way | None:
        """One of the ways, by its name."""
        return next((way for way in self.ways if way.name == name), None)


def advise(measured: Measured, needs: Needs) -> Advice:
    """The advice for these needs; with too little said, the map and what it tells. A bound on p99 that nobody gave is
    the one that was measured by."""
    if needs.slo == UNSAID:
        needs = msgspec.structs.replace(needs, slo=measured.server.slo_p99)
    speed = speeds(measured, needs.slo, needs.job_overhead)
    given = load(needs)
    spread = given.peak / given.rate if given else 1.0
    drawn = frontier(speed, spread, needs.keys)
    if given is None or not needs.decidable:
        return _undecided(measured, needs, given, drawn)
    found = [_with_range(measured, needs, given, way) for way in ways(measured, needs, given)]
    won = best(found)
    batch = next(way for way in found if way.name == JOBS)
    sure = confidence(measured, needs, given)
    return Advice(
        needs,
        won.name if won else NEITHER,
        _sentence(won, found, needs),
        reasons(won, found, measured, needs, given)[:2],
        changes(measured, needs, given),
        [*given.assumed, *_assumed(needs), *_machine(measured)],
        sure,
        found,
        break_even_rate(speed, batch.refresh, spread, needs.keys) if batch.refresh else None,
        break_even_refresh(speed, given.rate, given.peak, needs.keys),
        drawn,
    )


def _undecided(measured: Measured, needs: Needs, given: Load | None, drawn: Frontier) -> Advice:
    lacking = [] if given else ["--rows-per-day"]
    lacking += [] if needs.max_age or needs.refresh else ["--max-age"]
    return Advice(
        needs,
        UNDECIDED,
        _from_map(drawn),
        [],
        [f"Say {' and '.join(lacking)}, or --scenario, for a verdict"] if lacking else [],
        list(given.assumed) if given else [],
        confidence(measured, needs, given),
        [],
        None,
        None,
        drawn,
    )


def _from_map(drawn: Frontier) -> str:
    ages = [point.age for point in drawn.points if point.age is not None]
    if not ages:
        return "Serve it in real time: batch costs more at every rate."
    if not drawn.served:
        return f"Only batch: no rate keeps p99, and answers can be as young as {units.seconds(min(ages))}."
    low, high = min(ages), max(ages)
    if high / low < 1.5:
        return (
            f"It depends on freshness: where an answer may be {units.seconds(high)} old, batch costs less at every "
            "rate; where it may not, serve."
        )
    return (
        f"It depends on freshness: batch costs less where an answer may be {units.seconds(low)} old at low rates, "
        f"{units.seconds(high)} at high ones; below that, serve."
    )


def _sentence(won: Way | None, found: list[Way], needs: Needs) -> str:
    if won is None:
        failed = [f"{way.name}: {next(check.found for check in way.checks if not check.ok)}" for way in found]
        return f"Neither way meets these needs on this machine ({'; '.join(failed)})."
    cost = cost_told(won.cost, needs.price)
    others = [way for way in found if way.feasible and way is not won]
    against = min(others, key=lambda way: way.cost, default=None)
    than = f", against {cost_told(against.cost, needs.price)} {_as(against)}" if against else ""
    if won.name == JOBS:
        return f"Predict in batch, every {units.seconds(won.refresh or 0.0)}: {cost} a day{than}."
    replicas = f"{won.machines:,} replica{'s' * (won.machines != 1)}"
    if won.name == SERVERS:
        return f"Serve it in real time, with {replicas}: {cost} a day{than}."
    return f"Precompute every {units.seconds(won.refresh or 0.0)} and serve the rest: {cost} a day{than}."


def _as(way: Way) -> str:
    return {JOBS: "in batch", SERVERS: "in real time", BOTH: "for both"}[way.name]


def _assumed(needs: Needs) -> list[str]:
    found = []
    if needs.max_age is None and needs.refresh is not None:
        found.append(f"answers as old as a refresh of {units.seconds(needs.refresh)} makes them still help")
    if needs.refresh is None and needs.max_age is not None:
        found.append("batch runs as seldom as the age of its answers allows, as --refresh is not given")
    if needs.refresh is None and needs.max_age is None:
        found.append("batch runs once a day, as neither --refresh nor --max-age is given")
    if needs.known is None:
        found.append("every row is there before somebody asks; if not, say --known")
    if needs.price is None:
        found.append("costs are machine time, of machines like this one; --price makes them money")
    return found


def _machine(measured: Measured) -> list[str]:
    workers, cores = measured.server.workers, measured.machine.cores
    if workers >= int(cores):
        return []
    what = "one server process" if workers == 1 else f"{workers} server processes"
    return [f"a replica is {what} on a machine of {cores:g} cores; -w {int(cores)} measures one that uses them all"]


def _with_range(measured: Measured, needs: Needs, given: Load, way: Way) -> Way:
    """The same with its cost at the ends of the rate that was measured, window by window."""
    if not way.machines:
        return way
    windows = measured.offline.windows or [measured.offline.rows_per_s]
    ends = [min(windows) / measured.offline.rows_per_s, max(windows) / measured.offline.rows_per_s]
    costs = [other.cost for end in ends for other in ways(measured, needs, given, job=end) if other.name == way.name]
    return msgspec.structs.replace(way, cost_low=min([way.cost, *costs]), cost_high=max([way.cost, *costs]))


def per_million_told(way: Way, needs: Needs) -> str:
    """What 1M predictions cost."""
    return cost_told(way.per_million, needs.price)


def idle_told(way: Way) -> str:
    """How much of the servers is paid for nothing."""
    return "–" if way.idle is None else units.share(way.idle)


def rows_per_day(given: Load) -> float:
    """Predictions that are asked for a day."""
    return given.rate * DAY
