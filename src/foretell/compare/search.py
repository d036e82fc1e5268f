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
_START, _UP, _DOWN = 0.7, 1.3, 0.6
_STEPS = 8
_SPARE = 1.2
_WARM, _WARM_SHARE = 0.5, 0.2
_HOPELESS = 0.01
_TRIES = 3
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
    """Looks for the highest rate by halves. most: requests a second that the server answers at all."""

    def __init__(self, loading: Loading, bound: float, most: float, seconds: float) -> None:
        rate = max(_START * most, 1e-3)
        self._loading = loading
        self._seconds = min(max(seconds / _STEPS / (1 + _WARM_SHARE), _SPARE * LEAST[0.99] / rate), seconds / 3)
        self.aim = Aim(bound, told_by(int(rate * self._seconds / _SPARE)) or 0.9)
        self.steps: list[Step] = []
        self._most = most
        self._rate = rate
        self._kept, self._missed = 0.0, math.inf
        self._bad: Step | None = None

    @property
    def capacity(self) -> float:
        return self._kept

    @property
    def at_least(self) -> bool:
        """Whether the server might do more: no rate was too much for it, or the generator was what was late."""
        return self._kept > 0 and (self._bad is None or self._bad.limited)

    def run(self, until: float, say: Progress) -> None:
        while self._missed > max(_NEAR * self._kept, _HOPELESS * self._most):
            seconds = max(self._seconds, _SPARE * LEAST[self.aim.at] / self._rate)
            if not self._fits(seconds, until):
                if self.steps:
                    return
                seconds = max(_LEAST_SPAN, (until - time.perf_counter()) / (1 + _WARM_SHARE))
            say(f"{self._rate:,.0f} requests a second")
            tries = [self._try(seconds)]
            while len(tries) < _TRIES and self._hiccup(tries[-1]) and self._fits(seconds, until):
                tries.append(self._try(seconds))
            self._learn(tries[-1])

    def _try(self, seconds: float) -> Step:
        warm = min(_WARM, _WARM_SHARE * seconds)
        self.steps.append(self._loading.step(self._rate, warm, seconds, self.aim, to_its_end=False))
        return self.steps[-1]

    def _hiccup(self, step: Step) -> bool:
        """Whether the machine may have held its breath: it failed, but most answers were there in time. Such a rate is
        tried again."""
        return not step.within and step.latency.p50 is not None and step.latency.p50 <= self.aim.bound

    def _fits(self, seconds: float, until: float) -> bool:
        return time.perf_counter() + seconds * (1 + _WARM_SHARE) <= until

    def _learn(self, step: Step) -> None:
        if step.within:
            self._kept = self._rate
        else:
            self._missed, self._bad = self._rate, step
        if math.isinf(self._missed):
            self._rate = self._kept * _UP
        elif self._kept:
            self._rate = math.sqrt(self._kept * self._missed)
        else:
            self._rate = self._missed * _DOWN


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
