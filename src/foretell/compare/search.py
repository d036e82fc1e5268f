"""The server trial: the highest rate at which a server keeps its bound, and how it answers around it."""

import math
import time
from collections.abc import Callable

from foretell.compare.measured import Server, Single, Step
from foretell.compare.quantiles import LEAST, told_by
from foretell.compare.served import Served
from foretell.compare.steps import Aim, Loading

CURVE = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.2)
"""Shares of the capacity at which the curve is measured."""

_NEAR = 1.05
_START, _UP, _MOST_UP, _DOWN = 0.9, 1.15, 2.0, 0.6
_STEPS = 20
_LATE = 4
"""Times the bound that a step takes at least: in a shorter one those of too high a rate have not waited so long yet."""
_SPARE = 1.2
_WARM, _WARM_SHARE = 0.5, 0.2
_HOPELESS = 0.01
_TRIES = 4
_GRACE = 0.5
_LEAST_SPAN = 0.05
_LEAST_SLO, _TIMES, _TIMES_P99 = 0.01, 10, 4
Progress = Callable[[str], None]


def derived_slo(single: Single) -> float:
    """The bound where none is asked for: ten times what a row takes alone at the median, four times what it takes at
    p99, at least 10 ms; up to the next of 1, 2 and 5 in its decade. So waiting shows, and neither a row's own time nor
    an unquiet machine decides."""
    alone = single.latency
    usual = alone.p50 if alone.p50 is not None else alone.mean
    wanted = max(_LEAST_SLO, _TIMES * usual, _TIMES_P99 * (alone.p99 or 0.0))
    decade = 10.0 ** math.floor(math.log10(wanted) + 1e-9)
    return float(f"{next(step * decade for step in (1, 2, 5, 10) if step * decade >= wanted * (1 - 1e-9)):.6g}")


class Search:
    """Looks for the highest rate, by halves, and then tries the lowest that was missed again and again: what else runs
    on a machine takes from it for a second or so, and never gives. most: requests a second that the server answers at
    all."""

    def __init__(self, loading: Loading, bound: float, most: float, seconds: float) -> None:
        rate = max(_START * most, 1e-3)
        self._loading = loading
        usual = max(seconds / _STEPS / (1 + _WARM_SHARE), _LATE * bound, _SPARE * LEAST[0.99] / rate)
        self._seconds = min(usual, seconds / 3)
        self.aim = Aim(bound, told_by(int(rate * self._seconds / _SPARE)) or 0.9)
        self.steps: list[Step] = []
        self._most = most
        self._first = rate
        self._kept, self._up = 0.0, _UP
        self._missed: dict[float, list[Step]] = {}

    @property
    def capacity(self) -> float:
        return self._kept

    @property
    def at_least(self) -> bool:
        """Whether the server might do more: no rate was too much for it, or the generator was what was late."""
        return self._kept > 0 and all(steps[-1].limited for steps in self._missed.values())

    def run(self, until: float, say: Progress) -> None:
        rate: float | None = self._first
        while rate:
            seconds = max(self._seconds, _SPARE * LEAST[self.aim.at] / rate)
            if time.perf_counter() + seconds * (1 + _WARM_SHARE) > until:
                if self.steps:
                    return
                seconds = max(_LEAST_SPAN, (until - time.perf_counter()) / (1 + _WARM_SHARE))
            say(f"{rate:,.0f} requests a second")
            step = self._loading.step(rate, min(_WARM, _WARM_SHARE * seconds), seconds, self.aim, to_its_end=False)
            self.steps.append(step)
            rate = self._next(rate, step)

    def _next(self, rate: float, step: Step) -> float | None:
        """Which rate is of most use after that one; None for none."""
        if step.within:
            self._kept = max(self._kept, rate)
            self._missed = {each: steps for each, steps in self._missed.items() if each >= self._kept}
        else:
            self._missed.setdefault(rate, []).append(step)
            self._up = _UP
        low = min((each for each in self._missed if each > self._kept), default=0.0)
        if not low:
            rate, self._up = self._kept * self._up, min(self._up**2, _MOST_UP)
            return rate
        again = len(self._missed[low]) < _TRIES and self._hiccup(self._missed[low][-1])
        if not self._kept:
            return low if again else low * _DOWN if low > _HOPELESS * self._most else None
        if low <= _NEAR * self._kept or (again and step.within and low <= _UP * self._kept):
            return low
        return math.sqrt(self._kept * low)

    def _hiccup(self, step: Step) -> bool:
        """Whether the machine may have held its breath: it failed, but most answers were there in time."""
        return step.latency.p50 is not None and step.latency.p50 <= self.aim.bound


def curve(
    loading: Loading, server: Served, aim: Aim, capacity: float, until: float, say: Progress
) -> tuple[list[Step], dict[str, float]]:
    """Steps at shares of the capacity, as many as there is time for; and where a request's time goes at half of it."""
    steps: list[Step] = []
    stages: dict[str, float] = {}
    for at, share in enumerate(CURVE):
        span = (until - time.perf_counter()) / (len(CURVE) - at)
        warm = min(_WARM, _WARM_SHARE * span)
        if span <= _LEAST_SPAN:
            break
        say(f"{share:.0%} of {capacity:,.0f} requests a second")
        before = server.times()
        seconds = span - warm - (_GRACE if share >= 1 else 0.0)
        steps.append(loading.step(share * capacity, warm, max(seconds, span / 4), aim, to_its_end=True))
        if share == 0.5:
            stages = _stages(before, server.times())
    return steps, stages


def _stages(before: dict[str, tuple[float, float]], after: dict[str, tuple[float, float]]) -> dict[str, float]:
    """Seconds a request, by what it waits for."""
    means = {}
    for part in ("request", "queue", "compute"):
        name = f"foretell_{part}_seconds"
        (begin, first), (end, last) = before.get(name, (0.0, 0.0)), after.get(name, (0.0, 0.0))
        means[part] = (end - begin) / (last - first) if last > first else 0.0
    http = max(0.0, means["request"] - means["queue"] - means["compute"])
    return {"http": http, "queue": means["queue"], "compute": means["compute"]}


def told(
    server: Served,
    search: Search,
    *,
    given: bool,
    steps: list[Step],
    stages: dict[str, float],
) -> Server:
    return Server(
        ready_s=server.ready_s,
        idle=server.idle,
        peak=server.peak,
        slo_p99=search.aim.bound,
        slo_given=given,
        quantile=search.aim.at,
        capacity=search.capacity,
        at_least=search.at_least,
        search=search.steps,
        curve=steps,
        stages=stages,
    )
