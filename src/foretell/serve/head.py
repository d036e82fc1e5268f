"""What the head of a request for predictions says, and the heads that came before: a client sends the same one again
and again, and the same bytes say the same."""

from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import httptools

if TYPE_CHECKING:
    from foretell.serve.headers import Wish

END = b"\r\n\r\n"
_BEGINS = b"POST "
_LONGEST = 2048
_MOST = 512
_FIELDS = {
    b"content-type": "content_type",
    b"accept": "accept",
    b"content-encoding": "encoding",
    b"expect": "expect",
    b"x-request-id": "request_id",
    b"x-request-timeout-ms": "patience",
    b"traceparent": "traceparent",
    b"tracestate": "tracestate",
}
"""Headers that matter, and where they go."""

_OWN = frozenset((b"x-request-id", b"traceparent", b"expect", b"transfer-encoding", b"upgrade"))
"""Headers that are a request's own, or need the parser: a head with one is not worth remembering."""


_UPGRADES = (b"upgrade", b"connection", b"http2-settings")


class Head:
    """path, query: of the target. size: of the body, -1 where it is not told. hosts: how many the request names. usual:
    whether others like it may come. wish: what is asked for, once somebody has looked."""

    path = b""
    query = b""
    method = "POST"
    content_type = b""
    accept = b""
    encoding = b""
    expect = b""
    request_id = b""
    patience = b""
    traceparent = b""
    tracestate = b""
    size = -1
    hosts = 0
    keep_alive = True
    usual = True
    wish: "Wish | None" = None

    def __init__(self, path: bytes, query: bytes = b"") -> None:
        self.path = path
        self.query = query

    def read(self, headers: Iterable[tuple[bytes, bytes]], version: str) -> "Head":
        """headers: with names in small letters. version: of HTTP."""
        for name, value in headers:
            field = _FIELDS.get(name)
            if field is not None:
                setattr(self, field, value)
            elif name == b"host":
                self.hosts += 1
            elif name == b"content-length":
                self.size = int(value)
            elif name == b"connection" and version == "1.0":
                self.keep_alive = False
            if name in _OWN:
                self.usual = False
        return self


def without_upgrade(method: bytes, url: bytes, version: str, headers: list[tuple[bytes, bytes]]) -> bytes:
    """The same head without the offer to speak another protocol."""
    lines = [b"%b: %b" % pair for pair in headers if pair[0] not in _UPGRADES]
    return b"\r\n".join([b"%b %b HTTP/%b" % (method, url, version.encode()), *lines, b"", b""])


def declared(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """How long the body will be, as far as it is told."""
    return max((int(value) for name, value in headers if name == b"content-length"), default=0)


def plain_path(url: bytes) -> bytes:
    """The path of a target that names its host too, or is percent-encoded."""
    try:
        return unquote_to_bytes(httptools.parse_url(url).path or b"")
    except httptools.HttpParserInvalidURLError:
        return b""


class Familiar(dict[bytes, Head]):
    """Heads that were let in at one port, by their bytes without the blank line that ends them."""

    def learn(self, start: bytes, head: Head) -> None:
        """start: a whole head, of a request that came in one piece with its body."""
        if head.usual and start.startswith(_BEGINS) and len(start) <= _LONGEST:
            if len(self) >= _MOST:
                self.clear()
            self[start] = head
