"""What latencies say, and how many of them it takes to say it. Trials ask here; nothing here measures."""

import math

import numpy as np
from numpy.typing import NDArray

from foretell.compare.measured import Quantiles

BUCKETS = tuple(float(f"{10 ** (power / 10):.3g}") for power in range(-50, 21))
"""Upper ends of the histogram's buckets, in seconds: ten a decade, from 10 µs to 100 s. What is beyond is counted in
one more."""

LEAST = {0.5: 7, 0.9: 44, 0.95: 90, 0.99: 459, 0.999: 4603}
"""By quantile, the fewest requests that can tell it: so many of which none is late show at 99 % confidence that it is
within a bound."""

_CONFIDENCE = 0.99
_PIECES, _RESAMPLES, _STEPS = 40, 1000, 400
Seconds = NDArray[np.float64]


def quantiles(latency: Seconds, random: np.random.Generator) -> Quantiles:
    """Of latencies in the order in which the requests were due."""
    count = len(latency)
    if not count:
        return Quantiles(0, 0.0, None, None, None, None, None, None, None, 0.0, [0] * (len(BUCKETS) + 1))
    p50, p90, p95, p99, p999 = (quantile(latency, at) if count >= least else None for at, least in LEAST.items())
    low, high = interval(latency, 0.99, random) if p99 is not None else (None, None)
    counts = np.bincount(np.searchsorted(BUCKETS, latency), minlength=len(BUCKETS) + 1)
    return Quantiles(
        count, float(latency.mean()), p50, p90, p95, p99, p999, low, high, float(latency.max()), counts.tolist()
    )


def quantile(latency: Seconds, at: float) -> float:
    """The smallest of them that no more than the rest exceeds."""
    return float(np.quantile(latency, at, method="inverted_cdf"))


def interval(latency: Seconds, at: float, random: np.random.Generator) -> tuple[float, float]:
    """A 95 % bootstrap interval of a quantile from 0.9 up. Stretches of time are drawn anew, not single requests: those
    of one queue are late together, and each for itself they would promise too narrow an interval."""
    count = len(latency)
    pieces = max(1, min(_PIECES, count // 10))
    edges = np.unique(np.quantile(latency, np.linspace(0.9, 1, _STEPS + 1), method="inverted_cdf"))
    bucket = np.searchsorted(edges, latency)
    piece = np.arange(count) * pieces // count
    counts = np.bincount(piece * len(edges) + bucket, minlength=pieces * len(edges)).reshape(pieces, len(edges))
    drawn = random.multinomial(pieces, np.full(pieces, 1 / pieces), size=_RESAMPLES)
    below = np.cumsum(drawn @ counts, axis=1)
    found = edges[(below >= at * below[:, -1:]).argmax(axis=1)]
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def allowed(count: int, at: float) -> int:
    """How many of count requests may be over a bound and the quantile still be within it at 99 % confidence (MLPerf's
    early stopping); -1 where count is too small for any."""
    log_below = count * math.log(at)
    if log_below > math.log(1 - _CONFIDENCE):
        return -1
    over = np.arange(1, min(count, int(2 * (1 - at) * count) + 100) + 1)
    steps = np.log((count - over + 1) / over) + math.log((1 - at) / at)
    log_chance = log_below + np.concatenate([[0.0], np.cumsum(steps)])
    return int(np.searchsorted(np.cumsum(np.exp(log_chance)), 1 - _CONFIDENCE, side="right")) - 1


def told_by(count: int) -> float | None:
    """The highest of 0.99, 0.95 and 0.9 that so many requests can tell, or None."""
    return next((at for at in (0.99, 0.95, 0.9) if count >= LEAST[at]), None)


def stable(rates: list[float], within: float = 0.1) -> bool:
    """Whether there are three windows, and the last three lie within a tenth of each other."""
    last = rates[-3:]
    return len(last) == 3 and max(last) <= (1 + within) * min(last)
