"""OpenTelemetry traces: a span for each request, with its time in the queue and in the model, sent by OTLP over HTTP.

The event loop keeps a few numbers of each sampled request; a thread of its own makes spans of them and sends them.
https://www.w3.org/TR/trace-context, https://opentelemetry.io/docs/specs/semconv/http/http-spans
"""

import os
import random
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foretell.errors import UsageError
from foretell.serve.backlog import FAILED, Backlog
from foretell.serve.exchange import Exchange, Reply
from foretell.serve.spans import Parent, Seen, Spans

if TYPE_CHECKING:
    from foretell.serve.counts import Counts

_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_MOST_WAITING = 4096
_AT_A_TIME = 512
_EVERY_SECONDS = 1.0
_GOODBYE_SECONDS = 2.0
_BOUND = 1 << 64


@dataclass(frozen=True)
class Sampler:
    """Which requests are traced. ratio: of those that nothing else decides. parents: whether a caller's decision
    counts."""

    ratio: float = 1.0
    parents: bool = True

    @classmethod
    def from_environment(cls) -> "Sampler":
        """By OTEL_TRACES_SAMPLER and its _ARG. Raises UsageError."""
        name = os.environ.get("OTEL_TRACES_SAMPLER", "").strip().lower() or "parentbased_always_on"
        kind = name.removeprefix("parentbased_")
        ratios = {"always_on": "1", "always_off": "0", "traceidratio": os.environ.get("OTEL_TRACES_SAMPLER_ARG") or "1"}
        try:
            ratio = float(ratios[kind])
            if not 0 <= ratio <= 1:
                raise ValueError
        except (KeyError, ValueError):
            hint = (
                "always_on, always_off, traceidratio with OTEL_TRACES_SAMPLER_ARG from 0 to 1, or parentbased_ before"
            )
            raise UsageError(f"OTEL_TRACES_SAMPLER={name} cannot be used", hint) from None
        return cls(ratio, name != kind)

    def wants(self, parent: "Parent | None") -> bool:
        if parent is None:
            return self.ratio >= 1 or random.random() < self.ratio
        if self.parents:
            return bool(parent.flags & 1)
        return (parent.trace & (_BOUND - 1)) < self.ratio * _BOUND


def parent_of(header: bytes) -> Parent | None:
    """What a traceparent header says; None for none that is valid."""
    found = _PARENT.fullmatch(header) if header else None
    if found is None or found[1] == b"ff" or (found[1] == b"00" and found[5]):
        return None
    parent = Parent(int(found[2], 16), int(found[3], 16), int(found[4], 16))
    return parent if parent.trace and parent.span else None


class Tracing:
    """A witness. endpoint: of a collector, such as http://localhost:4318; without one what the environment says."""

    def __init__(self, endpoint: str | None = None) -> None:
        """Raises UsageError, LibraryMissing."""
        self._sampler = Sampler.from_environment()
        self._spans = Spans(endpoint)
        self._backlog = Backlog(
            "traces", "foretell_traces", self._send, most=_MOST_WAITING, enough=_AT_A_TIME, every=_EVERY_SECONDS
        )

    def take(self, client: tuple[str, int] | None, exchange: Exchange, reply: Reply, seconds: float) -> None:
        parent = parent_of(exchange.head.traceparent)
        if not self._sampler.wants(parent):
            return
        meter = exchange.service.meter
        trail = exchange.trail
        self._backlog.put(
            Seen(
                parent,
                exchange.head.tracestate,
                exchange.started,
                exchange.started + seconds,
                client[0] if client else "",
                exchange.request_id.decode("latin-1"),
                exchange.head.method,
                exchange.head.path.decode("latin-1"),
                meter.model,
                meter.version,
                reply.status,
                reply.note,
                trail and trail.bare(),
            )
        )

    def look(self, counts: "Counts") -> None:
        self._backlog.look(counts)

    def close(self) -> None:
        self._backlog.close(_GOODBYE_SECONDS)
        self._spans.close()

    def _send(self, seen: list[Seen]) -> dict[str, int]:
        if not seen:
            return {}
        if self._spans.send(seen):
            return {"sent": len(seen)}
        self._backlog.complain(f"traces could not be sent to {self._spans.where}")
        return {FAILED: len(seen)}
