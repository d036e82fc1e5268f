"""What each way costs and how old its answers are, at any load: arithmetic on what was measured, and nothing else.

Costs are machine-seconds a day, of machines like the one that was measured. A job's machine is paid while the job runs,
a server's all day, idle time too."""

import math
from dataclasses import dataclass, replace

from foretell.compare.measured import Measured, Quantiles, Step
from foretell.compare.units import DAY

JOBS, SERVERS = "batch", "real time"
"""The two ways, as people call them."""


@dataclass(frozen=True)
class Speeds:
    """What a machine does. start: seconds before a job's first row. rows_per_s: of a job. capacity: requests of one row
    a second that keep the SLO; 0 where none did."""

    start: float
    rows_per_s: float
    capacity: float

    def scaled(self, job: float, server: float) -> "Speeds":
        """The same, so many times as fast."""
        return replace(self, rows_per_s=self.rows_per_s * job, capacity=self.capacity * server)


@dataclass(frozen=True)
class Jobs:
    """A job every `refresh` seconds. machines: that share each run so that it ends before the next. seconds: of one
    run. cost: machine-seconds a day."""

    refresh: float
    rows: float
    machines: int
    seconds: float
    cost: float

    @property
    def runs(self) -> float:
        """Runs a day."""
        return DAY / self.refresh

    @property
    def mean_age(self) -> float:
        """Of an answer when it is read: half a refresh, and the run that made it."""
        return self.refresh / 2 + self.seconds

    @property
    def worst_age(self) -> float:
        """Of an answer just before the next run replaces it."""
        return self.refresh + self.seconds


@dataclass(frozen=True)
class Replicas:
    """Servers that wait all day. idle: the share of what they could answer that nobody asks for."""

    machines: int
    idle: float
    cost: float


@dataclass(frozen=True)
class Crossing:
    """Where two lines of cost cross: rows a second, or None where they do not. below, above: the cheaper one there."""

    rate: float | None
    below: str
    above: str


@dataclass(frozen=True)
class Latency:
    """p99 in seconds at some rate, and where it lies with 95 % confidence. measured: whether at that very rate, or
    between two that were."""

    p99: float
    low: float
    high: float
    measured: bool


def speeds(measured: Measured, slo: float, overhead: float) -> Speeds:
    """What was measured, for this bound on p99."""
    return Speeds(measured.offline.start_s + overhead, measured.offline.rows_per_s, capacity(measured, slo))


def capacity(measured: Measured, slo: float) -> float:
    """The highest rate that keeps a bound: the search's own, or for another bound than it kept to, the fastest step
    below the first one that broke it."""
    server = measured.server
    if math.isclose(slo, server.slo_p99):
        return server.capacity
    best = 0.0
    for step in steps(measured):
        late = tail(step.latency, server.quantile)
        if late is not None and (late > slo or step.failed):
            break
        best = best if late is None else step.done
    return best if slo < server.slo_p99 else max(best, server.capacity)


def bound_name(measured: Measured) -> str:
    """The quantile that the search kept: p99, or p95 or p90 where its time was too short for that."""
    return f"p{measured.server.quantile * 100:g}"


def tail(latency: Quantiles, quantile: float) -> float | None:
    """p99, or p95 or p90 by the quantile's number; None where too few requests tell it."""
    return {0.9: latency.p90, 0.95: latency.p95}.get(quantile, latency.p99)


def steps(measured: Measured) -> list[Step]:
    """Every step under open-loop load, the slowest rate first. A rate that was missed once and kept later counts as
    kept."""
    server = measured.server
    searched = [step for step in server.search if step.within or step.asked > server.capacity]
    return sorted([*server.curve, *searched], key=lambda step: step.asked)


def jobs(
    speeds: Speeds, rate: float, refresh: float, keys: float | None = None, within: float = math.inf
) -> Jobs | None:
    """Jobs that predict what came since the last one, or always the same keys; None where a start alone takes longer
    than the refresh. within: seconds that a run may take, where that is possible at all."""
    room = min(refresh, within if within > speeds.start else refresh) - speeds.start
    if room <= 0 or speeds.rows_per_s <= 0:
        return None
    rows = rate * refresh if keys is None else keys
    work = rows / speeds.rows_per_s
    machines = _enough(work / room)
    cost = (machines * speeds.start + work) * DAY / refresh
    return Jobs(refresh, rows, machines, speeds.start + work / machines, cost)


def replicas(speeds: Speeds, rate: float, peak: float) -> Replicas | None:
    """Servers enough for the peak; None where a single request breaks the SLO."""
    if speeds.capacity <= 0:
        return None
    machines = _enough(peak / speeds.capacity)
    return Replicas(machines, max(0.0, 1 - rate / (machines * speeds.capacity)), machines * DAY)


def _enough(machines: float) -> int:
    """Whole machines; a billionth over one is how floats round, and no machine."""
    return max(1, math.ceil(machines * (1 - 1e-9)))


def refresh_for(speeds: Speeds, rate: float, max_age: float, keys: float | None = None) -> float | None:
    """The longest refresh whose oldest answer is just young enough on one machine, or where that is too little, on as
    many as it takes to run half the time; None where a start alone takes longer."""
    room = max_age - speeds.start
    if room <= 0 or speeds.rows_per_s <= 0:
        return None
    each = rate / speeds.rows_per_s
    refresh = room / (1 + each) if keys is None else room - keys / speeds.rows_per_s
    if refresh > 0 and speeds.start + (each * refresh if keys is None else keys / speeds.rows_per_s) <= refresh:
        return refresh
    return max_age / 2 if max_age / 2 > speeds.start else None


def break_even_rate(speeds: Speeds, refresh: float, spread: float = 1.0, keys: float | None = None) -> Crossing:
    """Where jobs every `refresh` and servers cost the same, by the average rate. spread: the peak's ratio to it.

    Of new rows, jobs take one machine's whole day at the rate at which it never rests; where one replica answers that
    rate, the lines meet there, else nowhere. Of keys, jobs cost the same at any rate, and replicas in steps.
    """
    if speeds.capacity <= 0:
        return Crossing(None, JOBS, JOBS)
    if keys is not None:
        made = jobs(speeds, 0.0, refresh, keys)
        machines = 0 if made is None else math.floor(made.cost / DAY + 1e-9)
        if made is None:
            return Crossing(None, SERVERS, SERVERS)
        return Crossing(machines * speeds.capacity / spread, SERVERS, JOBS) if machines else Crossing(None, JOBS, JOBS)
    most = speeds.rows_per_s * (1 - speeds.start / refresh)
    if most <= 0:
        return Crossing(None, SERVERS, SERVERS)
    return Crossing(most, JOBS, SERVERS) if most <= speeds.capacity / spread else Crossing(None, JOBS, JOBS)


def break_even_refresh(speeds: Speeds, rate: float, peak: float, keys: float | None = None) -> float | None:
    """The refresh at which jobs cost what the servers for this load do; the shorter, the dearer. None where no refresh
    does."""
    served = replicas(speeds, rate, peak)
    if served is None or speeds.rows_per_s <= 0:
        return None
    if keys is not None:
        return _meeting(speeds, served.machines, 0.0, keys / speeds.rows_per_s)
    return _meeting(speeds, served.machines, rate / speeds.rows_per_s, 0.0)


def _meeting(speeds: Speeds, machines: int, each: float, fixed: float) -> float | None:
    """Where n starts and the work of a run, each · refresh + fixed, take machines · refresh of machine time. The n that
    fits is the one that a run of that refresh needs, which is `machines` itself: fewer would be cheaper."""
    if machines <= each:
        return None
    return (machines * speeds.start + fixed) / (machines - each)


def latency(measured: Measured, rate: float) -> Latency | None:
    """p99 of one replica at some rate: of the step there, or between its neighbours, with the widest of their
    intervals. None above the fastest step."""
    known = [step for step in steps(measured) if step.latency.p99 is not None and not step.failed]
    below = [step for step in known if step.asked <= rate * 1.02]
    above = [step for step in known if step.asked >= rate * 0.98]
    if not known or not above:
        return None
    under, over = (below or above)[-1 if below else 0], above[0]
    p99s = [step.latency.p99 for step in (under, over) if step.latency.p99 is not None]
    lows = [step.latency.p99_low or step.latency.p99 or 0.0 for step in (under, over)]
    highs = [step.latency.p99_high or step.latency.p99 or 0.0 for step in (under, over)]
    if under is over or over.asked <= under.asked:
        return Latency(p99s[-1], min(lows), max(highs), measured=abs(over.asked - rate) <= 0.05 * rate)
    share = min(1.0, max(0.0, (rate - under.asked) / (over.asked - under.asked)))
    return Latency(p99s[0] + share * (p99s[1] - p99s[0]), min(lows), max(highs), measured=False)
