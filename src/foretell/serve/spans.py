"""OpenTelemetry's side of traces: what was seen of requests becomes spans, sent to a collector by OTLP over HTTP."""

import logging
import os
import time
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from foretell import __version__
from foretell.errors import LibraryMissing, UsageError, printable
from foretell.registry.choose import without_secrets
from foretell.serve.exchange import Trail

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_SPOKEN = "http/protobuf"
_PATH = "/v1/traces"
_MOST_STATE = 512
_MOST_PATH = 500


class Parent(NamedTuple):
    """The caller's span."""

    trace: int
    span: int
    flags: int


class Seen(NamedTuple):
    """A request to make spans of. Times by the monotonic clock, in seconds. trail: what became of its rows."""

    parent: Parent | None
    state: bytes
    began: float
    ended: float
    client: str
    id: str
    method: str
    path: str
    model: str
    version: str
    status: int
    note: str
    trail: Trail | None


def wanted() -> bool:
    """Whether the environment says that traces are wanted, and where they go."""
    off = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    none = os.environ.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower() == "none"
    return not (off or none) and any(os.environ.get(name) for name in _ENDPOINTS)


class Spans:
    """where: they go, without secrets. Used by one thread."""

    def __init__(self, endpoint: str | None) -> None:
        """endpoint: of a collector; without one what the environment says. Raises UsageError, LibraryMissing."""
        told = endpoint or next(filter(None, map(os.environ.get, _ENDPOINTS)), "")
        parts = urlsplit(told)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                f"traces cannot be sent to {without_secrets(told)[:200]}", "For example: http://localhost:4318"
            )
        spoken = next(filter(None, map(os.environ.get, _PROTOCOLS)), _SPOKEN)
        if spoken != _SPOKEN:
            raise UsageError(f"traces are sent by {_SPOKEN}, not by {spoken[:40]}", "Unset OTEL_EXPORTER_OTLP_PROTOCOL")
        self.where = without_secrets(told)
        whole = None
        if endpoint:
            whole = endpoint if parts.path.endswith(_PATH) else endpoint.rstrip("/") + _PATH
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
            from opentelemetry.sdk.util.instrumentation import InstrumentationScope
        except ImportError as error:
            raise LibraryMissing("traces need OpenTelemetry's SDK", "pip install 'foretell[otel]'") from error
        # What goes wrong is told by the backlog, seldom, and not for each batch.
        logger = logging.getLogger("opentelemetry")
        logger.addHandler(logging.NullHandler())
        logger.propagate = False
        self._exporter: Any = OTLPSpanExporter(endpoint=whole)
        self._ids = RandomIdGenerator()
        self._scope = InstrumentationScope("foretell", __version__)
        resource = Resource.create({"service.version": __version__, "process.pid": os.getpid()})
        if str(resource.attributes.get("service.name", "unknown_service")).startswith("unknown_service"):
            resource = resource.merge(Resource({"service.name": "foretell"}))
        self._resource = resource

    def send(self, seen: list[Seen]) -> bool:
        """Takes its time. Returns whether the collector took them."""
        since = time.time_ns() - int(time.monotonic() * 1e9)
        spans = [span for one in seen for span in self._of(one, since)]
        return bool(self._exporter.export(spans).value == 0)

    def close(self) -> None:
        """Also ends a send that another thread is in the middle of."""
        self._exporter.shutdown()

    def _of(self, seen: Seen, since: int) -> Iterator[Any]:
        """The spans of a request. since: nanoseconds from the epoch to the monotonic clock's zero."""
        from opentelemetry.trace import SpanKind, Status, StatusCode

        parent = self._context(seen.parent, seen.state) if seen.parent else None
        trace = parent.trace_id if parent else self._ids.generate_trace_id()
        own = self._new(trace, parent.trace_state if parent else None)
        failed = Status(StatusCode.ERROR) if seen.status >= 500 else Status(StatusCode.UNSET)
        yield self._span(
            f"{seen.method} {_route(seen)}".rstrip(),
            own,
            parent,
            (since + int(seen.began * 1e9), since + int(seen.ended * 1e9)),
            _attributes(seen),
            kind=SpanKind.SERVER,
            status=failed,
        )
        trail = seen.trail
        turn = trail.turn if trail else None
        if trail is None or turn is None:
            return
        began, ended = (since + int(moment * 1e9) for moment in (turn.began, turn.ended))
        batch = {"foretell.batch.rows": turn.rows, "foretell.batch.requests": turn.requests}
        queue = (since + int(trail.since * 1e9), began)
        yield self._span("queue", self._new(trace, own.trace_state), own, queue, {})
        yield self._span("compute", self._new(trace, own.trace_state), own, (began, ended), batch)

    def _span(
        self, name: str, own: Any, parent: Any, when: tuple[int, int], attributes: dict[str, Any], **more: Any
    ) -> Any:
        from opentelemetry.sdk.trace import ReadableSpan

        return ReadableSpan(
            name,
            own,
            parent,
            self._resource,
            attributes,
            start_time=when[0],
            end_time=when[1],
            instrumentation_scope=self._scope,
            **more,
        )

    def _new(self, trace: int, state: Any) -> Any:
        from opentelemetry.trace import SpanContext, TraceFlags

        return SpanContext(trace, self._ids.generate_span_id(), False, TraceFlags(TraceFlags.SAMPLED), state)

    def _context(self, parent: Parent, state: bytes) -> Any:
        from opentelemetry.trace import SpanContext, TraceFlags, TraceState

        given = TraceState.from_header([state[:_MOST_STATE].decode("latin-1")] if state else [])
        return SpanContext(parent.trace, parent.span, True, TraceFlags(parent.flags), given)


def _route(seen: Seen) -> str:
    """The path of a request that came to a model. Others may have any, which would make as many names."""
    return seen.path if seen.trail is not None or seen.path == "/invocations" else ""


def _attributes(seen: Seen) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "http.request.method": seen.method,
        "url.path": printable(seen.path[:_MOST_PATH]),
        "http.response.status_code": seen.status,
        "client.address": seen.client,
        "foretell.request.id": seen.id,
        "foretell.model.name": seen.model,
        "foretell.model.version": seen.version,
    }
    if route := _route(seen):
        attributes["http.route"] = route
    if seen.trail is not None:
        attributes["foretell.rows"] = seen.trail.rows
    if seen.note:
        attributes["error.type"] = seen.note
    return attributes
