"""One line a request on stderr: when, who, what, status, milliseconds, and an error's code."""

import contextlib
import sys
import time
from typing import TextIO

from foretell.serve.exchange import Reply

_MOST_A_SECOND = 100


class AccessLog:
    """which: "all"; "errors", which leaves out predictions and probes that went well, and counts what there is too much
    of; or "none"."""

    def __init__(self, which: str, stream: TextIO | None = None) -> None:
        self._all = which == "all"
        self._none = which == "none"
        self._stream = stream or sys.stderr
        self._second = 0
        self._lines = 0

    def wants(self, reply: Reply) -> bool:
        """Whether a request for predictions is to be logged."""
        return self._all or (reply.status >= 400 and not self._none)

    def hot(self, client: tuple[str, int] | None, reply: Reply, seconds: float) -> None:
        """A request for predictions."""
        self._line(client, "POST /invocations", reply.status, seconds, reply.note)

    def cold(self, client: tuple[str, int] | None, request: str, status: int, seconds: float, *, probe: bool) -> None:
        """Any other request."""
        if self._all or (not self._none and not (probe and status < 400)):
            self._line(client, request, status, seconds, "")

    def _line(self, client: tuple[str, int] | None, request: str, status: int, seconds: float, note: str) -> None:
        now = time.time()
        stamp = time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(now))
        if int(now) != self._second:
            if (more := self._lines - _MOST_A_SECOND) > 0 and not self._all:
                self._write(f"{stamp} and {more} more in a second")
            self._second, self._lines = int(now), 0
        self._lines += 1
        if self._lines <= _MOST_A_SECOND or self._all:
            who = client[0] if client else "-"
            self._write(f'{stamp} {who} "{request}" {status} {seconds * 1000:.1f}ms {note}'.rstrip())

    def _write(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(line + "\n")
            self._stream.flush()
