"""What a server counts, by name: every metric with its labels, and how the counts of several processes are one."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from foretell.serve.meters import ROWS, SECONDS, Histogram, Meter

COUNTER, GAUGE, HISTOGRAM, INFO = "counter", "gauge", "histogram", "info"
EARLIER = "earlier"
"""In the place of a version, for those long gone."""


@dataclass(frozen=True)
class Metric:
    """kind: a counter, or a histogram, goes on where a worker that died left it; a gauge and an info are of the
    processes that live. A gauge is their sum, or, if it is shared, the largest."""

    kind: str
    help: str
    labels: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()
    shared: bool = False


_MODEL = ("model", "version")

METRICS = {
    "foretell_requests": Metric(COUNTER, "Requests for predictions, answered.", (*_MODEL, "protocol", "status")),
    "foretell_rejections": Metric(COUNTER, "Requests for predictions that got none, by reason.", (*_MODEL, "reason")),
    "foretell_requests_abandoned": Metric(COUNTER, "Requests whose client went before the answer.", _MODEL),
    "foretell_requests_in_flight": Metric(GAUGE, "Requests that have begun and are owed an answer.", _MODEL),
    "foretell_requests_queued": Metric(GAUGE, "Requests that wait for the model.", _MODEL),
    "foretell_request_seconds": Metric(HISTOGRAM, "From a request's head to its answer.", _MODEL, SECONDS),
    "foretell_queue_seconds": Metric(HISTOGRAM, "From a decoded request to the model's call.", _MODEL, SECONDS),
    "foretell_compute_seconds": Metric(HISTOGRAM, "Calls of the model.", _MODEL, SECONDS),
    "foretell_batch_rows": Metric(HISTOGRAM, "Rows of a call of the model.", _MODEL, ROWS),
    "foretell_rows": Metric(COUNTER, "Rows that the model was given.", _MODEL),
    "foretell_model": Metric(INFO, "The versions that are served.", (*_MODEL, "uri", "digest", "engine")),
    "foretell_model_ready": Metric(GAUGE, "Workers in which the model takes requests.", _MODEL),
    "foretell_reloads": Metric(
        COUNTER, "Attempts to serve another version, by outcome.", ("model", "outcome"), shared=True
    ),
    "foretell_newer_version": Metric(
        GAUGE, "The version that the model's uri means, where that does not serve; else 0.", ("model",), shared=True
    ),
    "foretell_registry_confirmed_time_seconds": Metric(
        GAUGE,
        "When the registry last said what the model's uri means, since the epoch; time() less this is its age.",
        ("model",),
        shared=True,
    ),
    "foretell_shadow_rows": Metric(
        COUNTER, "Rows that a shadow was to answer too, by how its answers were.", ("model", "outcome")
    ),
    "foretell_shadow_disagreements": Metric(
        COUNTER, "Rows that got another class from the shadow.", ("model", "served", "shadow")
    ),
    "foretell_shadow_largest_difference": Metric(
        GAUGE, "Between two numbers, the model's and its shadow's.", ("model",), shared=True
    ),
    "foretell_http_requests": Metric(COUNTER, "Requests for anything but predictions.", ("path", "status")),
    "foretell_traces": Metric(COUNTER, "Requests whose spans were sent, or were not.", ("outcome",)),
    "foretell_logged_rows": Metric(COUNTER, "Rows for the log of predictions, written or not.", ("outcome",)),
    "foretell_connections": Metric(GAUGE, "Open connections."),
    "foretell_request_bytes_held": Metric(GAUGE, "Bytes of request bodies, and of answers not taken yet, at hand."),
    "foretell_workers": Metric(GAUGE, "Server processes."),
    "foretell_worker_starts": Metric(COUNTER, "Server processes that were started."),
    "foretell_build": Metric(INFO, "The version of foretell.", ("version",)),
    "process_cpu_seconds": Metric(COUNTER, "User and system CPU time of all workers."),
    "process_resident_memory_bytes": Metric(GAUGE, "Resident memory of all workers."),
    "process_open_fds": Metric(GAUGE, "Open file descriptors of all workers."),
    "process_start_time_seconds": Metric(GAUGE, "When the youngest worker started, since the epoch.", shared=True),
}
"""By name, a counter's without _total and an info's without _info, which exposition adds."""

Labels = tuple[str, ...]
Series = dict[tuple[str, Labels], Any]
"""By metric and labels: a number, or for a histogram the counts of its buckets and then its sum."""


def of_meter(meter: Meter, protocol: str = "invocations") -> Series:
    """What was counted of one version of a model."""
    labels = (meter.model, meter.version)
    found: Series = {
        ("foretell_requests", (*labels, protocol, "200")): meter.good,
        ("foretell_requests_abandoned", labels): meter.abandoned,
        ("foretell_requests_in_flight", labels): meter.in_flight,
        ("foretell_request_seconds", labels): _numbers(meter.whole),
        ("foretell_queue_seconds", labels): _numbers(meter.queue),
        ("foretell_compute_seconds", labels): _numbers(meter.compute),
        ("foretell_batch_rows", labels): _numbers(meter.batch),
        ("foretell_rows", labels): meter.rows,
    }
    for (status, reason), count in meter.others.items():
        add(found, "foretell_requests", (*labels, protocol, str(status)), count)
        add(found, "foretell_rejections", (*labels, reason.lower()), count)
    return found


def add(series: Series, name: str, labels: Labels, value: Any) -> None:
    """Adds to what is there."""
    there = series.get((name, labels))
    series[name, labels] = value if there is None else _joined(METRICS[name], there, value)


def merged(parts: Iterable[Series]) -> Series:
    """Several processes' counts as one's."""
    whole: Series = {}
    for part in parts:
        for (name, labels), value in part.items():
            add(whole, name, labels, value)
    return whole


def lasting(series: Series) -> Series:
    """What stays true when its process is gone."""
    return {key: value for key, value in series.items() if METRICS[key[0]].kind in (COUNTER, HISTOGRAM)}


def earlier(series: Series, apart: set[tuple[str, ...]]) -> Series:
    """The same, where only these versions of models are told apart from each other."""
    found: Series = {}
    for (name, labels), value in series.items():
        if METRICS[name].labels[:2] == _MODEL and labels[:2] not in apart:
            labels = (labels[0], EARLIER, *labels[2:])
        add(found, name, labels, value)
    return found


def rows(series: Series) -> list[Any]:
    """As plain lists, to be sent."""
    return [(name, labels, value) for (name, labels), value in series.items()]


def listed(rows: list[Any]) -> Series:
    """What another process sent; names that this one does not know are left out."""
    return {(name, tuple(labels)): value for name, labels, value in rows if name in METRICS}


def packed(series: Series) -> bytes:
    return msgspec.msgpack.encode(rows(series))


def unpacked(packed: bytes) -> Series:
    return listed(msgspec.msgpack.decode(packed))


def _numbers(histogram: Histogram) -> list[float]:
    return [*histogram.counts, histogram.total]


def _joined(metric: Metric, one: Any, other: Any) -> Any:
    if metric.kind == HISTOGRAM:
        return [a + b for a, b in zip(one, other, strict=True)]
    return max(one, other) if metric.shared or metric.kind == INFO else one + other
