"""The ways to answer: what each costs a day, how old and how fast its answers are, and whether it meets each need."""

import math

import msgspec

from foretell.compare import units
from foretell.compare.costs import (
    JOBS,
    SERVERS,
    Jobs,
    Latency,
    Speeds,
    jobs,
    latency,
    refresh_for,
    replicas,
    speeds,
)
from foretell.compare.measured import Measured
from foretell.compare.needs import Load, Needs
from foretell.compare.units import DAY

BOTH = "both"
"""Answers made ahead for the rows that are known, and a server for the rest."""

_HAIR = 1 + 1e-9


class Check(msgspec.Struct, frozen=True):
    """A need against what a way gives. asked, found: in words, with their numbers."""

    need: str
    asked: str
    found: str
    ok: bool


class Way(msgspec.Struct, frozen=True):
    """One way to answer. feasible: whether every check holds. machines: that run at the same time, of jobs and servers.

    cost: machine-seconds a day; cost_low, cost_high: at the ends of what was measured. per_million: machine-seconds per
    1M predictions that are asked for. refresh, run_s, mean_age, worst_age: of jobs, in seconds. rps: that each replica
    gets at the peak; p99, p99_low, p99_high: there, of what a server answers. idle: share of the servers' capacity.
    """

    name: str
    feasible: bool
    checks: list[Check]
    machines: int = 0
    cost: float = 0.0
    cost_low: float = 0.0
    cost_high: float = 0.0
    per_million: float = 0.0
    refresh: float | None = None
    run_s: float | None = None
    mean_age: float | None = None
    worst_age: float | None = None
    rps: float | None = None
    p99: float | None = None
    p99_low: float | None = None
    p99_high: float | None = None
    idle: float | None = None


def ways(measured: Measured, needs: Needs, load: Load, job: float = 1.0, server: float = 1.0) -> list[Way]:
    """Every way, batch first. job, server: as if jobs and servers were so many times as fast as measured."""
    speed = speeds(measured, needs.slo, needs.job_overhead).scaled(job, server)
    found = [_batch(speed, needs, load), _served(measured, speed, needs, load)]
    if needs.known is not None and 0 < needs.known < 1:
        found.append(_both(measured, speed, needs, load))
    return found


def best(found: list[Way]) -> Way | None:
    """The cheapest that meets every need; of two that cost the same, the fresher."""
    fitting = [way for way in found if way.feasible]
    return min(fitting, key=lambda way: (way.cost, way.worst_age or 0.0)) if fitting else None


def _batch(speed: Speeds, needs: Needs, load: Load) -> Way:
    made, age = _jobs(speed, needs, load.rate)
    checks = [age]
    if needs.known is not None and needs.known < 1:
        missing = 1 - needs.known
        checks.append(
            Check(
                "rows known ahead",
                "an answer for each",
                f"{units.share(missing)} of the rows are new when somebody asks",
                False,
            )
        )
    return _way(JOBS, checks, load, made)


def _served(measured: Measured, speed: Speeds, needs: Needs, load: Load) -> Way:
    served = replicas(speed, load.rate, load.peak)
    if served is None:
        return Way(SERVERS, False, [_latency_check(measured, needs, load.peak, None, None)])
    at = latency(measured, load.peak / served.machines)
    check = _latency_check(measured, needs, load.peak, served.machines, at)
    return Way(
        SERVERS,
        check.ok,
        [check],
        served.machines,
        served.cost,
        served.cost,
        served.cost,
        per_million=served.cost / (load.rate * DAY) * 1e6,
        rps=load.peak / served.machines,
        p99=at.p99 if at else None,
        p99_low=at.low if at else None,
        p99_high=at.high if at else None,
        idle=served.idle,
    )


def _both(measured: Measured, speed: Speeds, needs: Needs, load: Load) -> Way:
    known = needs.known or 0.0
    rest = Load(load.rate * (1 - known), load.peak * (1 - known), ())
    made, age = _jobs(speed, needs, load.rate * known)
    served = _served(measured, speed, needs, rest)
    way = _way(BOTH, [age, *served.checks], load, made)
    if not served.machines:
        return msgspec.structs.replace(way, feasible=False)
    cost = way.cost + served.cost
    return msgspec.structs.replace(
        way,
        feasible=way.feasible and served.feasible,
        machines=way.machines + served.machines,
        cost=cost,
        cost_low=cost,
        cost_high=cost,
        per_million=cost / (load.rate * DAY) * 1e6,
        rps=served.rps,
        p99=served.p99,
        p99_low=served.p99_low,
        p99_high=served.p99_high,
        idle=served.idle,
    )


def _way(name: str, checks: list[Check], load: Load, made: Jobs | None) -> Way:
    if made is None:
        return Way(name, False, checks)
    return Way(
        name,
        all(check.ok for check in checks),
        checks,
        made.machines,
        made.cost,
        made.cost,
        made.cost,
        per_million=made.cost / (load.rate * DAY) * 1e6,
        refresh=made.refresh,
        run_s=made.seconds,
        mean_age=made.mean_age,
        worst_age=made.worst_age,
    )


def _jobs(speed: Speeds, needs: Needs, rate: float) -> tuple[Jobs | None, Check]:
    """Jobs at the refresh that is given, else at the longest that keeps answers young enough."""
    refresh = needs.refresh
    if refresh is None:
        refresh = DAY if needs.max_age is None else refresh_for(speed, rate, needs.max_age, needs.keys)
    within = math.inf if refresh is None or needs.max_age is None else needs.max_age - refresh
    made = None if refresh is None else jobs(speed, rate, refresh, needs.keys, within)
    asked = "any age" if needs.max_age is None else f"at most {units.seconds(needs.max_age)} old"
    if made is None:
        found = f"a job takes {units.seconds(speed.start)} to start, before its first row"
        return None, Check("fresh enough", asked, found, False)
    found = f"{units.seconds(made.mean_age)} old on average, {units.seconds(made.worst_age)} at most"
    ok = needs.max_age is None or made.worst_age <= needs.max_age * _HAIR
    return made, Check("fresh enough", asked, found, ok)


def _latency_check(measured: Measured, needs: Needs, peak: float, machines: int | None, at: Latency | None) -> Check:
    asked = f"p99 within {units.seconds(needs.slo)} at {units.rate(peak)}"
    if machines is None:
        alone = measured.single.latency.p99
        seen = f"; one client alone sees p99 {units.seconds(alone)}" if alone is not None else ""
        other = "" if math.isclose(needs.slo, measured.server.slo_p99) else ", of those measured by another bound"
        return Check("fast enough", asked, f"no rate kept it{other}{seen}", False)
    if at is None:
        return Check("fast enough", asked, f"kept by {_replicas(machines)}", True)
    found = f"p99 {units.seconds(at.p99)} with {_replicas(machines)}"
    if at.low > needs.slo:
        found += ", though the search saw it kept at a higher rate: on a quiet machine, measure again"
    return Check("fast enough", asked, found, at.low <= needs.slo)


def _replicas(machines: int) -> str:
    return f"{machines:,} replica{'s' * (machines != 1)}"
