"""What happens on one connection, byte by byte: keep-alive, pipelines, odd and hostile clients, over bare sockets."""

import contextlib
import http.client
import json
import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import Server, model_path, serving
from scripted import taken_in

ROW = [5.1, 3.5, 1.4, 0.2]
OTHER = [6.3, 3.3, 6.0, 2.5]
ANSWERS = {"setosa": b'{"predictions": ["setosa"]}', "virginica": b'{"predictions": ["virginica"]}'}
SETOSA = (200, ANSWERS["setosa"])
VIRGINICA = (200, ANSWERS["virginica"])
PING = (200, b"\n")


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with serving("-m", model_path(models, "logistic")) as running:
        yield running


def body_of(*rows: list[float]) -> bytes:
    return json.dumps({"data": rows}).encode()


def post(*rows: list[float], headers: str = "", target: str = "/invocations", version: str = "1.1") -> bytes:
    """A request for predictions, as bytes."""
    body = body_of(*rows)
    head = f"POST {target} HTTP/{version}\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


def get(path: str, headers: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode()


@contextlib.contextmanager
def connected(server: Server) -> Iterator["Wire"]:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection, connection.makefile("rb") as incoming:
        yield Wire(connection, incoming)


class Wire:
    """A connection and its answers, read one by one."""

    def __init__(self, connection: socket.socket, incoming: "socket.SocketIO") -> None:
        self.connection = connection
        self.incoming = incoming
        self.send = connection.sendall

    def line(self) -> bytes:
        return self.incoming.readline()

    def headers(self) -> tuple[int, dict[str, str]]:
        """An answer's status and headers."""
        status = int(self.line().split()[1])
        return status, {name.lower(): value for name, value in http.client.parse_headers(self.incoming).items()}

    def answer(self) -> tuple[int, bytes]:
        """An answer's status and body."""
        status, headers = self.headers()
        return status, self.incoming.read(int(headers["content-length"]))

    def ended(self) -> bool:
        """Whether the server closes the connection now, with nothing more to read."""
        return self.incoming.read() == b""


# Several requests on one connection


def test_keeps_a_connection_for_the_next_request(server: Server) -> None:
    """Predictions and other routes follow each other on one connection."""
    with connected(server) as wire:
        got = []
        for request in (post(ROW), get("/ping"), post(OTHER), get("/nope"), post(ROW)):
            wire.send(request)
            got.append(wire.answer())
    assert [SETOSA, PING, VIRGINICA, SETOSA] == [got[0], got[1], got[2], got[4]]
    assert 404 == got[3][0]


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        pytest.param([post(ROW), post(OTHER)], [SETOSA, VIRGINICA], id="hot-hot"),
        pytest.param([post(ROW), get("/ping"), post(OTHER)], [SETOSA, PING, VIRGINICA], id="hot-cold-hot"),
        pytest.param([get("/ping"), post(OTHER)], [PING, VIRGINICA], id="cold-hot"),
        pytest.param([get("/ping"), get("/ping"), post(ROW)], [PING, PING, SETOSA], id="cold-cold-hot"),
        pytest.param([post(ROW), post(OTHER)] * 100, [SETOSA, VIRGINICA] * 100, id="200"),
        pytest.param([post(ROW), get("/ping")] * 100, [SETOSA, PING] * 100, id="200-in-turn"),
        pytest.param(
            [post(ROW), post(*[OTHER] * 5000), get("/ping"), post(OTHER)],
            [SETOSA, (200, b'{"predictions": [%s]}' % b",".join([b'"virginica"'] * 5000)), PING, VIRGINICA],
            id="long-between-short",
        ),
    ],
)
@pytest.mark.parametrize("size", [1 << 20, 7], ids=["one-write", "seven-bytes-a-write"])
def test_answers_in_the_order_of_the_requests(
    server: Server, requests: list[bytes], expected: list[tuple[int, bytes]], size: int
) -> None:
    """A pipeline's answers come in its order, however its bytes are cut."""
    stream = b"".join(requests)
    with connected(server) as wire:
        for at in range(0, len(stream), size):
            wire.send(stream[at : at + size])
        assert expected == [wire.answer() for _ in requests]


def test_a_long_pipeline_may_end_in_the_middle_of_a_request(server: Server) -> None:
    """However many requests stand before it, one whose body is still coming is waited for and answered."""
    with connected(server) as wire:
        wire.send(post(ROW) * 100 + post(OTHER)[:-5])
        assert [SETOSA] * 100 == [wire.answer() for _ in range(100)]
        wire.send(post(OTHER)[-5:])
        assert VIRGINICA == wire.answer()


def test_a_mistake_in_a_pipeline_is_answered_in_its_place(server: Server) -> None:
    """A request that cannot be read as HTTP is refused after the answers to those before it."""
    with connected(server) as wire:
        wire.send(post(ROW) + post(OTHER) + b"NONSENSE\r\n\r\n")
        got = [wire.answer() for _ in range(3)]
        assert wire.ended()
    assert [SETOSA, VIRGINICA] == got[:2]
    assert 400 == got[2][0]


# How connections end


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(post(ROW, headers="Connection: close\r\n"), id="close"),
        pytest.param(post(ROW, headers="Connection: Close\r\n"), id="Close"),
        pytest.param(post(ROW, version="1.0"), id="1.0"),
        pytest.param(post(ROW, headers="Connection: keep-alive\r\n", version="1.0"), id="1.0-keep-alive"),
    ],
)
def test_closes_when_the_client_wants_it(server: Server, request_bytes: bytes) -> None:
    """After Connection: close and after HTTP/1.0 the connection ends, or is kept where the answer says so."""
    with connected(server) as wire:
        wire.send(request_bytes)
        status, headers = wire.headers()
        body = wire.incoming.read(int(headers["content-length"]))
        kept = headers.get("connection", "").lower() == "keep-alive"
        if kept:
            wire.send(request_bytes)
            assert SETOSA == wire.answer()
        else:
            assert "close" == headers["connection"]
            assert wire.ended()
    assert SETOSA == (status, body)


def test_a_client_that_has_said_all_still_gets_its_answer(server: Server) -> None:
    """Closing the sending half after the request is no hanging up."""
    with connected(server) as wire:
        wire.send(post(*[ROW] * 2000) + post(OTHER))
        wire.connection.shutdown(socket.SHUT_WR)
        assert [200, 200] == [wire.answer()[0] for _ in range(2)]
        assert wire.ended()


def test_a_page_among_the_last_requests_ends_none_of_them(server: Server) -> None:
    """What was asked behind a page is answered too, before the connection ends."""
    with connected(server) as wire:
        wire.send(post(*[ROW] * 2000) + get("/version") + post(OTHER) + get("/version"))
        wire.connection.shutdown(socket.SHUT_WR)
        assert [200] * 4 == [wire.answer()[0] for _ in range(4)]
        assert wire.ended()


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(post(ROW)[:40], id="in-the-head"),
        pytest.param(post(ROW)[:-5], id="in-the-body"),
        pytest.param(post(*[ROW] * 2000), id="before-its-answer"),
        pytest.param(post(ROW) * 50, id="in-a-pipeline"),
        pytest.param(get("/") * 50, id="in-a-pipeline-of-pages"),
    ],
)
@pytest.mark.parametrize("reset", [False, True], ids=["closes", "resets"])
def test_a_client_that_leaves_harms_nobody(server: Server, sent: bytes, reset: bool) -> None:
    """Whoever hangs up, at whatever moment, others are served and nothing is logged but requests."""
    for _ in range(5):
        with connected(server) as wire:
            if reset:
                wire.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            wire.send(sent)
    assert ANSWERS["setosa"] == server.post(body_of(ROW)).body
    assert [] == [line for line in server.lines if "Traceback" in line or "Error" in line]


# Bodies in pieces


def test_waits_with_the_body_until_it_may_send_it(server: Server) -> None:
    """Expect: 100-continue is answered before the body comes."""
    whole = post(ROW, headers="Expect: 100-continue\r\n")
    at = whole.index(b"\r\n\r\n") + 4
    with connected(server) as wire:
        wire.send(whole[:at])
        assert b"HTTP/1.1 100 Continue\r\n" == wire.line()
        assert b"\r\n" == wire.line()
        wire.send(whole[at:])
        assert SETOSA == wire.answer()
        wire.send(post(OTHER))
        assert VIRGINICA == wire.answer()


def test_waits_with_the_body_behind_another_request(server: Server) -> None:
    """Expect: 100-continue is answered also where the request before it was still being answered."""
    whole = post(OTHER, headers="Expect: 100-continue\r\n")
    at = whole.index(b"\r\n\r\n") + 4
    with connected(server) as wire:
        wire.send(post(ROW) + whole[:at])
        assert SETOSA == wire.answer()
        assert b"HTTP/1.1 100 Continue\r\n" == wire.line()
        assert b"\r\n" == wire.line()
        wire.send(whole[at:])
        assert VIRGINICA == wire.answer()


def chunked(body: bytes, size: int) -> Iterator[bytes]:
    yield b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    for at in range(0, len(body), size):
        piece = body[at : at + size]
        yield b"%x;note=1\r\n%s\r\n" % (len(piece), piece)
    yield b"0\r\nX-Trailer: 1\r\n\r\n"


@pytest.mark.parametrize(
    "writes",
    [
        pytest.param(lambda: chunked(body_of(ROW), 1), id="chunks-of-one-byte"),
        pytest.param(lambda: chunked(body_of(ROW), 1000), id="one-chunk"),
        pytest.param(lambda: (bytes([byte]) for byte in b"".join(chunked(body_of(ROW), 5))), id="chunked-byte-by-byte"),
        pytest.param(lambda: (bytes([byte]) for byte in post(ROW)), id="byte-by-byte"),
    ],
)
def test_takes_a_request_in_any_pieces(server: Server, writes: Callable[[], Iterator[bytes]]) -> None:
    """Chunks and packets are cut where the network likes."""
    with connected(server) as wire:
        for _ in range(2):
            for piece in writes():
                wire.send(piece)
            assert SETOSA == wire.answer()


def test_takes_large_bodies_and_gives_large_answers(server: Server) -> None:
    """5 MB of rows are answered, each with its own prediction."""
    numbers = random.Random(7)
    rows = [ROW if numbers.random() < 0.5 else OTHER for _ in range(240_000)]
    expected = ["setosa" if row is ROW else "virginica" for row in rows]
    request = post(*rows)
    with connected(server) as wire:
        wire.send(request + post(ROW))
        status, body = wire.answer()
        assert SETOSA == wire.answer()
    assert 5_000_000 < len(request)
    assert 200 == status
    assert expected == json.loads(body)["predictions"]


# Heads that came before, which are not parsed again

A, B, WRONG = post(ROW), post(OTHER), post(["x"] * 4)  # type: ignore[list-item]
HEAD = len(A) - len(body_of(ROW))
CARRIER = b"POST /nope HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(A)
REPEATS: dict[str, tuple[list[bytes], list[tuple[int, bytes]]]] = {
    "one-a-write": ([A, B, A], [SETOSA, VIRGINICA, SETOSA]),
    "two-a-write": ([A + B, B + A], [SETOSA, VIRGINICA, VIRGINICA, SETOSA]),
    "head-then-body": ([A[:HEAD], A[HEAD:], B[:HEAD], B[HEAD:]], [SETOSA, VIRGINICA]),
    "half-a-head": ([A[:20], A[20:], B], [SETOSA, VIRGINICA]),
    "half-a-body": ([A[:-5], A[-5:] + B[:-5], B[-5:]], [SETOSA, VIRGINICA]),
    "behind-a-blank-line": ([b"\r\n" + A, b"\r\n", B], [SETOSA, VIRGINICA]),
    "more-than-its-body": ([A + b"P", A[1:], B], [SETOSA, SETOSA, VIRGINICA]),
    "inside-of-a-body": ([CARRIER, A, B], [(404, b""), VIRGINICA]),
    "beside-other-routes": ([A, get("/ping"), B], [SETOSA, PING, VIRGINICA]),
    "after-a-wrong-one": ([WRONG, A, WRONG, B], [(400, b""), SETOSA, (400, b""), VIRGINICA]),
    "chunked-between": ([A, *chunked(body_of(OTHER), 9), A], [SETOSA, VIRGINICA, SETOSA]),
}


@pytest.mark.parametrize(("writes", "expected"), REPEATS.values(), ids=REPEATS.keys())
def test_a_head_that_came_before_means_the_same(
    server: Server, writes: list[bytes], expected: list[tuple[int, bytes]]
) -> None:
    """However the bytes arrive, a request whose head the server knows gets what one with a new head gets."""
    with connected(server) as wire:
        for request, answer in ((A, SETOSA), (B, VIRGINICA)):
            wire.send(request)
            assert answer == wire.answer()
        for write in writes:
            wire.send(write)
            taken_in(server.port)
        answers = [wire.answer() for _ in expected]
    assert [(status, body or got[1]) for (status, body), got in zip(expected, answers, strict=True)] == answers


def test_nothing_is_taken_behind_a_last_request(server: Server) -> None:
    """Who said that a request is the last gets one answer, whatever known heads follow it."""
    with connected(server) as wire:
        wire.send(A)
        assert SETOSA == wire.answer()
        wire.send(post(OTHER, headers="Connection: close\r\n"))
        with contextlib.suppress(OSError):
            wire.send(A)
        assert VIRGINICA == wire.answer()
        assert wire.ended()


# Odd requests


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("http://localhost/invocations", id="absolute"),
        pytest.param("http://localhost:8080/invocations?proba=false", id="absolute-with-query"),
        pytest.param("/%69nvocations", id="percent-encoded"),
        pytest.param("/invocations?", id="empty-query"),
    ],
)
def test_the_same_address_may_be_written_in_other_ways(server: Server, target: str) -> None:
    """An address as a proxy's client sends it, or one that is percent-encoded, means the same route."""
    with connected(server) as wire:
        wire.send(post(ROW, target=target) + post(OTHER))
        assert SETOSA == wire.answer()
        assert VIRGINICA == wire.answer()


def test_head_has_no_body(server: Server) -> None:
    """HEAD gives the length of what GET gives, and then the next answer follows."""
    with connected(server) as wire:
        wire.send(get("/").replace(b"GET", b"HEAD") + post(ROW))
        status, headers = wire.headers()
        assert SETOSA == wire.answer()
    assert 200 == status
    assert 1000 < int(headers["content-length"])


@pytest.mark.parametrize("upgrade", ["h2c", "websocket"])
@pytest.mark.parametrize("piped", [False, True], ids=["then-another", "pipelined"])
def test_an_offer_to_upgrade_is_passed_over(server: Server, upgrade: str, piped: bool) -> None:
    """Connection: Upgrade, as Java's client and curl --http2 send it, gets a normal answer in HTTP/1.1."""
    offer = f"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {upgrade}\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"
    with connected(server) as wire:
        wire.send(post(ROW, headers=offer) + (post(OTHER) if piped else b""))
        assert SETOSA == wire.answer()
        if not piped:
            wire.send(post(OTHER))
        assert VIRGINICA == wire.answer()


def test_an_offer_to_upgrade_is_not_worth_a_word(models: Path) -> None:
    """Clients that offer HTTP/2 do so with every request: nobody wants to read about it, or to install anything."""
    with serving("-m", model_path(models, "onnx")) as quiet, connected(quiet) as wire:
        wire.send(post(ROW, headers="Connection: Upgrade\r\nUpgrade: h2c\r\n"))
        assert 200 == wire.answer()[0]
    assert [] == [line for line in quiet.lines if "pgrade" in line or "pip install" in line]


def head(*lines: str) -> bytes:
    return "\r\n".join(["POST /invocations HTTP/1.1", "Host: localhost", *lines, "", ""]).encode()


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(
            head("Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\nGET /ping HTTP/1.1\r\n\r\n",
            id="length-and-chunked",
        ),
        pytest.param(head("Transfer-Encoding: chunked", "Content-Length: 5") + b"0\r\n\r\n", id="chunked-and-length"),
        pytest.param(head("Content-Length: 2", "Content-Length: 3") + b"{} ", id="two-lengths"),
        pytest.param(head("Content-Length: -1") + b"{}", id="negative-length"),
        pytest.param(head("Content-Length: +2") + b"{}", id="signed-length"),
        pytest.param(head("Content-Length: 0x2") + b"{}", id="hex-length"),
        pytest.param(head("Content-Length: two") + b"{}", id="length-in-words"),
        pytest.param(head("Content-Length: " + "9" * 40) + b"{}", id="length-beyond-all"),
        pytest.param(head("Content-Length:") + b"{}", id="no-length"),
        pytest.param(head("Transfer-Encoding: chunked") + b"zz\r\n{}\r\n0\r\n\r\n", id="chunk-size-in-words"),
        pytest.param(head("Transfer-Encoding: chunked") + b"-2\r\n{}\r\n0\r\n\r\n", id="negative-chunk"),
        pytest.param(head("Transfer-Encoding: chunked") + b"2\r\n{}xx0\r\n\r\n", id="chunk-too-long"),
        pytest.param(head("Bad Header: 1", "Content-Length: 2") + b"{}", id="space-in-a-name"),
        pytest.param(head("A: b\0c", "Content-Length: 2") + b"{}", id="zero-byte"),
        pytest.param(b"POST /invocations HTTP/3.7\r\n\r\n", id="version"),
        pytest.param(b"POST  HTTP/1.1\r\n\r\n", id="no-target"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="tls"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="http2"),
    ],
)
def test_what_is_no_http_is_refused_and_the_connection_ends(server: Server, request_bytes: bytes) -> None:
    """400, then the end: nothing that follows is taken for a request, and nothing hangs."""
    with connected(server) as wire:
        wire.send(request_bytes)
        status, headers = wire.headers()
        body = wire.incoming.read(int(headers["content-length"]))
        assert wire.ended()
    assert (400, "close") == (status, headers["connection"])
    assert 0 < len(body) <= 4096


def test_what_is_no_http_is_told_in_the_usual_form(server: Server) -> None:
    """Also this 400 is a JSON document with a code and a message, as all errors are."""
    with connected(server) as wire:
        wire.send(b"NONSENSE\r\n\r\n")
        status, headers = wire.headers()
        body = wire.incoming.read(int(headers["content-length"]))
    assert (400, "application/json") == (status, headers["content-type"])
    assert {"error_code", "message"} == set(json.loads(body))


# Speed that only a mistake can lose


def test_no_exchange_waits_for_a_delayed_acknowledgement(server: Server) -> None:
    """50 requests in a row take far less than the 40 ms each that a server without TCP_NODELAY loses."""
    with connected(server) as wire:
        for request in (post(ROW), get("/ping")):
            started = time.perf_counter()
            for _ in range(50):
                wire.send(request)
                wire.answer()
            assert time.perf_counter() - started < 1
