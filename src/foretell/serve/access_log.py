"""One line a request on stderr, for people or as JSON: when, who, what, status, rows, milliseconds, an error's code."""

import contextlib
import sys
import time
from datetime import UTC, datetime
from typing import NamedTuple, TextIO

import msgspec

from foretell.errors import printable
from foretell.serve.exchange import Exchange, Reply

TEXT, JSON = "text", "json"
FORMATS = (TEXT, JSON)
_MOST_A_SECOND = 100
_MOST_PATH = 500
_ENCODE = msgspec.json.Encoder().encode


class Entry(NamedTuple):
    """A request and its answer. client: an address. note: why it is no good one. bytes: of the answer's body. timings:
    seconds; None for what it did not come to."""

    client: str
    id: str
    model: str
    version: str
    method: str
    path: str
    status: int
    bytes: int
    total: float
    rows: int | None = None
    queue: float | None = None
    compute: float | None = None
    note: str = ""


class AccessLog:
    """which: "all"; "errors", which leaves out predictions and probes that went well, and counts what there is too much
    of; or "none"."""

    def __init__(self, which: str, form: str = TEXT, stream: TextIO | None = None) -> None:
        self.all = which == "all"
        self._none = which == "none"
        self._json = form == JSON
        self._stream = stream or sys.stderr
        self._second = 0
        self._lines = 0

    def wants(self, status: int, *, quiet: bool) -> bool:
        """Whether an answer is to be logged. quiet: whether there are so many that a good one says nothing."""
        return self.all or not (self._none or (quiet and status < 400))

    def hot(self, client: tuple[str, int] | None, exchange: Exchange, reply: Reply, seconds: float) -> None:
        """A request for predictions."""
        meter, trail = exchange.service.meter, exchange.trail
        turn = trail.turn if trail else None
        self.take(
            Entry(
                client=client[0] if client else "-",
                id=exchange.request_id.decode("latin-1"),
                model=meter.model,
                version=meter.version,
                method=exchange.head.method,
                path=exchange.head.path.decode("latin-1"),
                status=reply.status,
                bytes=len(reply.body),
                total=seconds,
                rows=trail.rows if trail else None,
                queue=turn.began - trail.since if trail and turn else None,
                compute=turn.ended - turn.began if turn else None,
                note=reply.note,
            )
        )

    def take(self, entry: Entry) -> None:
        """Writes a line, if it is not one of too many."""
        now = time.time()
        if int(now) != self._second:
            if (more := self._lines - _MOST_A_SECOND) > 0 and not self.all:
                self._write(self._said(now, f"and {more} more in a second"))
            self._second, self._lines = int(now), 0
        self._lines += 1
        if self._lines <= _MOST_A_SECOND or self.all:
            self._write(_as_json(now, entry) if self._json else _as_text(now, entry))

    def _said(self, now: float, message: str) -> str:
        return _ENCODE({"time": _utc(now), "message": message}).decode() if self._json else f"{_stamp(now)} {message}"

    def _write(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(line + "\n")
            self._stream.flush()


def _as_text(now: float, entry: Entry) -> str:
    asked = _quoted(f"{entry.method} {entry.path}")
    parts = [f"{_stamp(now)} {entry.client} {asked} {entry.status} {entry.total * 1000:.1f}ms", entry.note]
    return " ".join(filter(None, parts))


def _as_json(now: float, entry: Entry) -> str:
    line = {
        "time": _utc(now),
        "client": entry.client,
        "id": entry.id,
        "method": printable(entry.method[:_MOST_PATH]),
        "path": printable(entry.path[:_MOST_PATH]),
        "model": entry.model,
        "version": entry.version,
        "status": entry.status,
        "error": entry.note or None,
        "rows": entry.rows,
        "bytes": entry.bytes,
        "queue_ms": _milliseconds(entry.queue),
        "compute_ms": _milliseconds(entry.compute),
        "total_ms": _milliseconds(entry.total),
    }
    return _ENCODE(line).decode()


def _quoted(text: str) -> str:
    """A client's text, fit for a line."""
    return _ENCODE(printable(text[:_MOST_PATH])).decode()


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def _stamp(now: float) -> str:
    return time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(now))


def _utc(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
