"""Counts as Prometheus reads them: its text format, or OpenMetrics for those who ask for it."""

from collections.abc import Iterator
from typing import Any

from foretell.serve.figures import COUNTER, HISTOGRAM, INFO, METRICS, Series

_OPENMETRICS = "application/openmetrics-text"


def exposed(series: Series, accept: str) -> tuple[bytes, str]:
    """(body, content type). Loads Prometheus's client, which takes its time: not for the event loop."""
    from prometheus_client import exposition
    from prometheus_client.openmetrics import exposition as openmetrics

    made: Any = _Collector(series)
    latest: Any = openmetrics.generate_latest
    if _OPENMETRICS in accept.lower():
        return latest(made), openmetrics.CONTENT_TYPE_LATEST
    return exposition.generate_latest(made), exposition.CONTENT_TYPE_PLAIN_0_0_4


class _Collector:
    """What prometheus_client asks for families of samples."""

    def __init__(self, series: Series) -> None:
        self._series = series

    def collect(self) -> Iterator[Any]:
        from prometheus_client import core

        kinds = {COUNTER: core.CounterMetricFamily, INFO: core.InfoMetricFamily, HISTOGRAM: core.HistogramMetricFamily}
        found: dict[str, Any] = {}
        for name, metric in METRICS.items():
            labels = metric.labels if metric.kind != INFO else ()
            found[name] = kinds.get(metric.kind, core.GaugeMetricFamily)(name, metric.help, labels=labels)
        for (name, labels), value in sorted(self._series.items()):
            _add(found[name], name, labels, value)
        yield from (family for family in found.values() if family.samples)


def _add(family: Any, name: str, labels: tuple[str, ...], value: Any) -> None:
    metric = METRICS[name]
    if metric.kind == INFO:
        family.add_metric([], dict(zip(metric.labels, labels, strict=True)))
    elif metric.kind == HISTOGRAM:
        family.add_metric(labels, _buckets(metric.edges, value), value[-1])
    else:
        family.add_metric(labels, value)


def _buckets(edges: tuple[float, ...], value: list[float]) -> list[tuple[str, float]]:
    """Each bucket's count with those of all before it."""
    found, count = [], 0.0
    for edge, more in zip((*edges, float("inf")), value, strict=False):
        count += more
        found.append(("+Inf" if edge == float("inf") else repr(edge), count))
    return found
