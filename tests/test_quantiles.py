"""What latencies say: the quantiles that so many of them can tell, and the rule by which a bound is kept."""

import numpy as np
import pytest

from foretell.compare.quantiles import BUCKETS, LEAST, allowed, quantiles, stable, told_by

MLPERF = {
    0.9: {44: 0, 64: 1, 81: 2, 127: 5, 197: 10},
    0.95: {90: 0, 130: 1, 165: 2, 259: 5, 398: 10},
    0.99: {459: 0, 662: 1, 838: 2, 1307: 5, 2010: 10},
    0.999: {4603: 0, 6636: 1, 8403: 2},
}
"""By quantile and requests, how many may be late; from MLPerf's rules of early stopping."""


@pytest.mark.parametrize("at", MLPERF)
def test_so_many_may_be_late(at: float) -> None:
    """As in MLPerf's table, in which each number of requests is the smallest that allows so many."""
    for count, late in MLPERF[at].items():
        assert (late, late - 1) == (allowed(count, at), allowed(count - 1, at))


@pytest.mark.parametrize(("at", "least"), LEAST.items())
def test_a_quantile_is_told_by_enough_requests_only(at: float, least: int) -> None:
    """With one request less it is not there."""
    name = {0.5: "p50", 0.9: "p90", 0.95: "p95", 0.99: "p99", 0.999: "p999"}[at]
    random = np.random.default_rng(1)
    latency = random.exponential(1, least)
    assert getattr(quantiles(latency, random), name) == np.quantile(latency, at, method="inverted_cdf")
    assert getattr(quantiles(latency[1:], random), name) is None


def test_the_quantile_that_is_kept_to() -> None:
    """The highest that so many requests can tell."""
    assert [None, 0.9, 0.95, 0.95, 0.99] == [told_by(count) for count in (43, 44, 90, 458, 459)]


def test_the_interval_holds_the_true_quantile() -> None:
    """About as often as it says; and it is wider where late requests come together."""
    random = np.random.default_rng(1)
    found = [quantiles(random.exponential(1, 2000), random) for _ in range(100)]
    holds = sum((one.p99_low or 0) <= np.log(100) <= (one.p99_high or 0) for one in found)
    print(f"{holds} of {len(found)} intervals hold it")
    assert holds >= 80
    together = np.sort(random.exponential(1, 2000))
    apart, joined = quantiles(random.permutation(together), random), quantiles(together, random)
    assert apart.p99 == joined.p99
    assert width(joined.p99_low, joined.p99_high) > 2 * width(apart.p99_low, apart.p99_high)


def width(low: float | None, high: float | None) -> float:
    assert low is not None and high is not None
    return high - low


def test_every_latency_is_in_the_histogram() -> None:
    """Also what is below the first bucket and beyond the last; a bucket's end is in it."""
    latency = np.array([0.0, BUCKETS[0], BUCKETS[1], BUCKETS[-1], BUCKETS[-1] * 2])
    counts = quantiles(latency, np.random.default_rng(1)).counts
    assert (2, 1, 1, 1, 5) == (counts[0], counts[1], counts[-2], counts[-1], sum(counts))
    assert [0] * (len(BUCKETS) + 1) == quantiles(np.empty(0), np.random.default_rng(1)).counts


@pytest.mark.parametrize(
    ("rates", "answer"),
    [([100, 105, 110], True), ([1, 100, 105, 110], True), ([100, 105, 111], False), ([100, 100], False), ([], False)],
)
def test_windows_are_stable(rates: list[float], answer: bool) -> None:
    """Three within a tenth of each other, the last ones."""
    assert answer == stable(rates)
