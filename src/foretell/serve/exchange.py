"""One request for predictions, from its headers to its reply, and the bytes of a reply."""

import http
import re
import secrets
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING

import msgspec

from foretell.serve.head import Head

if TYPE_CHECKING:
    from foretell.batch import Batch, Call
    from foretell.serve.absent import Absent
    from foretell.serve.meters import Turn
    from foretell.serve.protocols import Place, Portion
    from foretell.serve.service import Service
    from foretell.serve.waiting import Waiting

RETRY_SECONDS = 1
MOST_PARTS = 256
_SANE_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_STATUS = {int(status): f"HTTP/1.1 {status} {status.phrase}\r\n".encode() for status in http.HTTPStatus}
next_id = map(f"{secrets.token_hex(6)}-%x".encode().__mod__, count(1)).__next__
"""Makes a request's id that no other request has."""

Done = Callable[["Exchange", "Reply"], None]


class Reply(msgspec.Struct, frozen=True):
    """An answer to a request. note: for logs and counts, the error's code, or what is full."""

    status: int
    content_type: str
    body: bytes
    note: str = ""


class Trail(msgspec.Struct, frozen=True):
    """What became of a request's rows: how many there are, since when they waited, the call that answered them; the
    rows themselves, what was asked of them, and the answers, where there are some."""

    rows: int
    since: float
    turn: "Turn | None"
    batch: "Batch | None"
    call: "Call"
    portion: "Portion | None"

    def bare(self) -> "Trail":
        """The same without rows and answers, to keep for a while."""
        return msgspec.structs.replace(self, batch=None, portion=None)


class Exchange(msgspec.Struct, eq=False):
    """A request as it came, and what becomes of it. A Struct, for which it takes half the time to be made.

    started: when its head had come. done: called with its reply. size: bytes of its body at hand, parts: those that
    came in pieces, of which so many were joined. request_id: set for those who are told of it. batch: the rows that the
    body has, place: says where one is. waiting: them on their way. trail: what became of them, where somebody wants to
    know. abandoned: whether its client has gone.
    """

    service: "Service | Absent"
    head: Head
    started: float
    done: "Done"
    size: int = 0
    parts: list[bytes] | None = None
    request_id: bytes = b""
    expects: bool = False
    keep_alive: bool = True
    abandoned: bool = False
    reply: Reply | None = None
    batch: "Batch" = None  # type: ignore[assignment]
    place: "Place" = None  # type: ignore[assignment]
    waiting: "Waiting | None" = None
    trail: Trail | None = None
    joined: int = 0

    def add(self, part: bytes) -> None:
        """More of the body. The last parts are joined now and then: of millions of small ones each would take forty
        bytes more than it holds."""
        parts = self.parts
        if parts is None:
            self.parts = [part]
            return
        parts.append(part)
        if len(parts) - self.joined >= MOST_PARTS:
            parts[self.joined :] = [b"".join(parts[self.joined :])]
            self.joined += 1

    def take_body(self) -> bytes:
        """The parts as one."""
        parts, self.parts = self.parts, None
        return b"" if not parts else parts[0] if len(parts) == 1 else b"".join(parts)

    def abandon(self) -> None:
        """Nobody waits for the answer any more."""
        self.abandoned = True
        if self.waiting is not None:
            self.waiting.answered = True


def request_id(given: bytes) -> bytes:
    """The client's own, if it is short and printable; else one that no other request has."""
    return given if given and _SANE_ID.fullmatch(given) else next_id()


class Heads:
    """Makes replies' bytes, head and body in one piece. What many heads share is made once for each second's date."""

    def __init__(self) -> None:
        self._common: list[tuple[bytes, bytes]] = []
        self._starts: dict[tuple[int, str, bytes], bytes] = {}

    def reply(
        self, service: "Service | Absent", reply: Reply, given: bytes, common: list[tuple[bytes, bytes]], close: bool
    ) -> bytes:
        """given: the request's id. common: headers of every response, a new list whenever they change."""
        if common is not self._common:
            self._common = common
            self._starts.clear()
        key = (reply.status, reply.content_type, service.version)
        start = self._starts.get(key)
        if start is None:
            start = self._starts[key] = self._start(*key)
        end = b"\r\nconnection: close\r\n\r\n" if close else b"\r\n\r\n"
        body = reply.body
        return b"%b%b\r\ncontent-length: %d%b%b" % (start, given, len(body), end, body)

    def _start(self, status: int, content_type: str, version: bytes) -> bytes:
        lines = [b"%b: %b\r\n" % pair for pair in self._common]
        lines.append(f"content-type: {content_type}\r\n".encode())
        if status == 503:
            lines.append(f"retry-after: {RETRY_SECONDS}\r\n".encode())
        if status == 401:
            lines.append(b"www-authenticate: Bearer\r\n")
        lines.append(b"x-model-version: %b\r\nx-request-id: " % version)
        return b"".join([_STATUS[status], *lines])
