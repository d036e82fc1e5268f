"""What hostile, broken and merely strict clients send, byte by byte: the right status or the end, and never a hang."""

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import Server, model_path, serving

BODY = b'{"data": [[5.1, 3.5, 1.4, 0.2]]}'
GOOD = b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
LIMITS = ["--header-timeout", "0.5", "--body-timeout", "0.5", "--keep-alive", "1", "--max-body-mb", "1"]


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with serving("-m", model_path(models, "onnx"), *LIMITS) as running:
        yield running


@dataclass(frozen=True)
class Heard:
    """What a server said before it closed the connection: the statuses of its answers."""

    statuses: tuple[int, ...]


def heard(server: Server, sent: bytes) -> Heard:
    """Sends bytes, and no end, and reads until the server closes; a server that never does fails the test."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        pieces = []
        try:
            connection.sendall(sent)
            while piece := connection.recv(65536):
                pieces.append(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return Heard(tuple(int(status) for status in re.findall(rb"HTTP/1.1 (\d{3}) ", b"".join(pieces))))


def post(*lines: bytes, body: bytes = b"", target: bytes = b"/invocations", version: bytes = b"1.1") -> bytes:
    return b"\r\n".join([b"POST %b HTTP/%b" % (target, version), b"Host: localhost", *lines, b"", body])


LENGTH = b"Content-Length: %d" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
TABLE: dict[str, tuple[bytes, tuple[int, ...]]] = {
    # Framing that two readers could read differently
    "length-and-chunked": (post(LENGTH, CHUNKED, body=CHUNKS), (400,)),
    "chunked-and-length": (post(CHUNKED, LENGTH, body=CHUNKS), (400,)),
    "two-lengths": (post(LENGTH, b"Content-Length: 3", body=BODY), (400,)),
    "the-same-length-twice": (post(LENGTH, LENGTH, body=BODY), (400,)),
    "a-list-of-lengths": (post(b"Content-Length: %d, %d" % (len(BODY), len(BODY)), body=BODY), (400,)),
    "negative-length": (post(b"Content-Length: -1"), (400,)),
    "signed-length": (post(b"Content-Length: +%d" % len(BODY), body=BODY), (400,)),
    "hex-length": (post(b"Content-Length: 0x20", body=BODY), (400,)),
    "length-beyond-all": (post(b"Content-Length: " + b"9" * 40), (400,)),
    "empty-length": (post(b"Content-Length:"), (400,)),
    "chunked-twice": (post(CHUNKED, CHUNKED, body=CHUNKS), (400,)),
    "chunked-not-last": (post(b"Transfer-Encoding: chunked, gzip", body=CHUNKS), (400,)),
    "unknown-transfer": (post(b"Transfer-Encoding: rot13", body=BODY), (400,)),
    "chunked-misspelt": (post(b"Transfer-Encoding: xchunked", body=CHUNKS), (400,)),
    "space-before-colon": (post(b"Content-Length : %d" % len(BODY), body=BODY), (400,)),
    "chunk-size-in-words": (post(CHUNKED, body=b"zz\r\n{}\r\n0\r\n\r\n"), (400,)),
    "negative-chunk": (post(CHUNKED, body=b"-2\r\n{}\r\n0\r\n\r\n"), (400,)),
    "chunk-too-short": (post(CHUNKED, body=b"1\r\n{}\r\n0\r\n\r\n"), (400,)),
    "chunk-beyond-all": (post(CHUNKED, body=b"f" * 17 + b"\r\n"), (400,)),
    "bare-lf-in-chunk": (post(CHUNKED, body=b"2\n{}\n0\n\n"), (400,)),
    # Heads that are none
    "nonsense": (b"NONSENSE\r\n\r\n", (400,)),
    "lower-case-method": (GOOD.replace(b"POST", b"post"), (400,)),
    "no-target": (b"POST  HTTP/1.1\r\nHost: localhost\r\n\r\n", (400,)),
    "no-version": (b"POST /invocations\r\nHost: localhost\r\n\r\n", (400,)),
    "version-of-the-future": (post(LENGTH, body=BODY, version=b"3.7"), (400,)),
    "http2-preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400,)),
    "tls-hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 40, (400,)),
    "space-in-a-name": (post(b"Bad Header: 1", LENGTH, body=BODY), (400,)),
    "zero-byte-in-a-value": (post(b"A: b\0c", LENGTH, body=BODY), (400,)),
    "zero-byte-in-the-target": (post(LENGTH, body=BODY, target=b"/invo\0cations"), (400,)),
    "no-colon": (post(b"Headerwithout", LENGTH, body=BODY), (400,)),
    "folded-header": (post(b"A: b\r\n  c", LENGTH, b"Connection: close", body=BODY), (400,)),
    "bare-cr": (post(b"A: b\rC: d", LENGTH, body=BODY), (400,)),
    "connect": (b"CONNECT x:1 HTTP/1.1\r\nHost: localhost\r\n\r\n", (400,)),
    "no-host": (GOOD.replace(b"Host: localhost\r\n", b""), (400,)),
    "two-hosts": (post(b"Host: 127.0.0.1", LENGTH, body=BODY), (400,)),
    "no-host-elsewhere": (b"GET /ping HTTP/1.1\r\n\r\n", (400,)),
    # Too much, too long
    "long-target": (post(LENGTH, body=BODY, target=b"/" + b"a" * 20_000), (414,)),
    "large-head": (post(b"A: " + b"b" * 70_000, LENGTH, body=BODY), (431,)),
    "many-headers": (post(*[b"A%d: b" % at for at in range(9000)], LENGTH, body=BODY), (431,)),
    "endless-name": (b"POST /invocations HTTP/1.1\r\n" + b"a" * 600_000, (431,)),
    "endless-value": (b"POST /invocations HTTP/1.1\r\nA: " + b"b" * 600_000, (431,)),
    "endless-trailer": (post(CHUNKED, body=CHUNKS[:-2] + b"A: " + b"b" * 600_000), (431,)),
    "endless-chunk-extension": (post(CHUNKED, body=b"2;" + b"a" * 600_000), (431,)),
    "declared-too-large": (post(b"Content-Length: 2000000"), (413,)),
    "declared-too-large-and-asking": (post(b"Content-Length: 2000000", b"Expect: 100-continue"), (413,)),
    "chunks-too-large": (post(CHUNKED, body=b"200000\r\n" + b" " * 2_000_000), (413,)),
    # Too slow
    "silence": (b"", ()),
    "blank-lines": (b"\r\n\r\n", ()),
    "half-a-head": (GOOD[:40], (408,)),
    "half-a-body": (GOOD[:-5], (408,)),
    "no-body": (post(LENGTH), (408,)),
    "half-a-chunk": (post(CHUNKED, body=CHUNKS[:9]), (408,)),
    "no-body-elsewhere": (b"POST /nope HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n", (404, 408)),
    "idle-after-an-answer": (GOOD, (200,)),
    "half-a-head-after-an-answer": (GOOD + GOOD[:20], (200, 408)),
    # Strict and right
    "lower-case-names": (post(b"content-length: %d" % len(BODY), b"connection: close", body=BODY), (200,)),
    "no-space-after-colon": (post(b"Content-Length:%d" % len(BODY), b"Connection:close", body=BODY), (200,)),
    "host-with-port": (GOOD.replace(b"Host: localhost", b"Host: localhost:80\r\nConnection: close"), (200,)),
    "http-1.0-without-host": (b"POST /invocations HTTP/1.0\r\n%b\r\n\r\n%b" % (LENGTH, BODY), (200,)),
    "asking-first": (post(LENGTH, b"Expect: 100-continue", b"Connection: close", body=BODY), (100, 200)),
    "a-blank-line-before": (b"\r\n" + GOOD.replace(b"Host", b"Connection: close\r\nHost"), (200,)),
    "nonsense-after-an-answer": (GOOD + b"NONSENSE\r\n\r\n", (200, 400)),
    "bad-length-after-an-answer": (GOOD + post(b"Content-Length: -1"), (200, 400)),
}


@pytest.mark.parametrize(("sent", "expected"), TABLE.values(), ids=TABLE.keys())
def test_every_request_is_answered_or_ended(server: Server, sent: bytes, expected: tuple[int, ...]) -> None:
    """What cannot be read, is too much or comes too late gets its status and then the end; the rest is served."""
    assert Heard(expected) == heard(server, sent)
