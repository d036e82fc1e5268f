"""What a client may do to a server to make it work or hold much for little: it does neither."""

import contextlib
import json
import random
import re
import socket
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest

import foretell as package
from conftest import PATIENCE, Server, serving
from foretell.cells import Column
from foretell.errors import ForetellError, InputTooLarge, InputUnreadable
from foretell.rows import RowDecoder
from foretell.serve import keys
from foretell.serve.clocks import Late, Phase, Watch
from foretell.serve.exchange import MOST_PARTS, Exchange
from foretell.serve.head import Head
from foretell.serve.limits import Limits
from foretell.serve.unpacking import unpacked
from foretell.signature import Signature
from foretell.strict_json import strict_json
from foretell.tables import json_document
from foretell.tables.kept import NONE

IRIS = Path(package.__file__).parent / "demo" / "iris"
ROW = b'{"data": [[5.1, 3.5, 1.4, 0.2]]}'
LIMITS = ["--max-body-mb", "8", "--max-in-flight-mb", "8", "--write-timeout", "18"]
HEAD = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n%b\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("-m", IRIS, *LIMITS) as running:
        yield running


@contextlib.contextmanager
def connected(server: Server) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as client:
        yield client


def said(client: socket.socket) -> bytes:
    """All that comes until the server closes; nothing more after a reset."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := client.recv(1 << 16):
            found += piece
    return found


def peak(server: Server) -> int:
    """Bytes that the server's process has ever held at a time."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


# Bodies


def test_a_body_in_crumbs_takes_no_more_than_one_in_loaves(server: Server) -> None:
    """Two million chunks of two bytes are held as what they are, and not as two million objects."""
    crumbs = b"2\r\n1,\r\n" * 50_000
    with connected(server) as client:
        client.sendall(HEAD % (b"/invocations", b"Transfer-Encoding: chunked\r\n"))
        before = peak(server)
        for _ in range(40):
            client.sendall(crumbs)
        client.sendall(b"0\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        assert b" 413 " in said(client)[:20], "it has too many values for a closer look"
    assert peak(server) - before < 40 << 20


def test_pieces_are_joined_in_order() -> None:
    """However a body is cut, it is what was sent."""
    exchange, whole = Exchange(None, Head(b"/"), 0.0, None), b""  # type: ignore[arg-type]
    for number in range(3 * MOST_PARTS + 7):
        exchange.add(b"%d," % number)
        whole += b"%d," % number
    assert len(exchange.parts or ()) < MOST_PARTS + 4
    assert whole == exchange.take_body()


@pytest.mark.parametrize("path", [b"/livez", b"/version", b"/nowhere", b"/metrics"])
@pytest.mark.parametrize("how", ["declared", "chunked"])
def test_no_route_swallows_more_than_a_body(server: Server, path: bytes, how: str) -> None:
    """A body that nobody reads is refused like any other: before it is read where its length is declared."""
    with connected(server) as client:
        if how == "declared":
            client.sendall(HEAD % (path, b"Content-Length: 10000000000\r\n"))
        else:
            client.sendall(HEAD % (path, b"Transfer-Encoding: chunked\r\n"))
            with contextlib.suppress(ConnectionError):
                for _ in range(20):
                    client.sendall(b"100000\r\n" + b"x" * (1 << 20) + b"\r\n")
        answer = said(client)
    assert how == "chunked" or b" 413 " in answer[:20]
    assert server.post(ROW).status == 200


def deep(levels: int, inner: bytes = b"1") -> bytes:
    return b"[" * levels + inner + b"]" * levels


TEXTS = [b'"[[[["', rb'"\"[["', rb'"\\"', rb'"\\\"[["', rb'"\\\\"', b'"{}"', rb'"[\\\\\"]]"', '"列["'.encode()]


@pytest.mark.parametrize("text", TEXTS)
def test_depth_is_counted_outside_of_texts(text: bytes) -> None:
    """Brackets in texts, behind any backslashes, are none."""
    inner = b"[" + b",".join([text] * 300) + b"]"
    assert json.loads(text) == strict_json(deep(98, inner))[0][0] or strict_json(deep(98, inner))
    with pytest.raises(InputUnreadable, match="nested too deeply"):
        strict_json(deep(100, inner))


def test_depth_is_found_wherever_it_is() -> None:
    """A nest behind much that is shallow is found, and shallow things, however many, are no nest."""
    shallow = b"[" + b"[1,[2]]," * 200_000
    assert 200_001 == len(strict_json(shallow + b"3]"))
    with pytest.raises(InputUnreadable, match="nested too deeply"):
        strict_json(shallow + deep(200) + b"]")


def test_what_needs_a_closer_look_must_be_small_enough_for_one() -> None:
    """A large document is read as ever by the fast decoders; one that they refuse is refused whole."""
    columns = Signature((Column("a", "double"), Column("b", "long")))
    decoder = RowDecoder(columns, most=1000)
    rows = [[0.5, at] for at in range(5000)]
    for body in (rows, [{"a": 1, "b": at} for at in range(5000)]):
        assert 5000 == json_document.read(json.dumps({"inputs": body}).encode(), decoder, NONE).rows.batch.rows
    for bad in (
        {"data": [*rows, ["x", 1]]},
        {"data": [{"a": 1, "b": 2, "c": 3}] * 5000},
        {"dataframe_split": {"columns": ["b", "a"], "data": [[1, 0.5]] * 5000}},
        {"data": [[1, 2]], "params": {"x": [1] * 5000}},
        {"data": [[[[]]] * 5000]},
    ):
        with pytest.raises(InputTooLarge, match="needs a closer look"):
            json_document.read(json.dumps(bad).encode(), decoder, NONE)
    small = {"data": [["x", 1]]}
    with pytest.raises(ForetellError, match=r'\$\.data\[0\]\[0\] \(a\): "x" is not a number'):
        json_document.read(json.dumps(small).encode(), decoder, NONE)


@pytest.mark.parametrize("body", ["objects", "numbers", "arrays"])
def test_odd_json_takes_little_more_than_its_size(server: Server, body: str) -> None:
    """Eight MiB of the smallest values there are, which fit nothing, do not become hundreds."""
    part = {"objects": b'{"a":1},', "numbers": b"1,", "arrays": b"[],"}[body]
    before = peak(server)
    sent = b'{"data":[' + part * ((7 << 20) // len(part)) + b"1]}"
    reply = server.post(sent)
    assert 413 == reply.status, reply.body
    assert peak(server) - before < 60 << 20


def test_deflate_is_read_in_pieces() -> None:
    """A body that does not shrink, longer than any piece, comes out as it was; one that is cut or goes on does not."""
    raw = random.Random(1).randbytes(300_000)
    for level in (0, 9):
        packed = zlib.compress(raw, level)
        assert raw == unpacked(packed, "deflate", 1 << 20)
        for wrong in (packed[:-1], packed[:70_000], packed + b"x", packed + b"x" * 70_000):
            with pytest.raises(InputUnreadable):
                unpacked(wrong, "deflate", 1 << 20)
    assert b"" == unpacked(zlib.compress(b""), "deflate", 10)


# Segments


def asked(kind: int, number: int) -> tuple[bytes, int]:
    """A request of some kind, and the status of its answer."""
    body = b'{"data": [[%d.5, 3.5, 1.4, 0.2]]}' % number if kind != 1 else b'{"data": [[1]]}'
    head = HEAD[:-4] % b"/invocations"
    if kind == 2:
        return head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body), 200
    if kind == 3:
        return b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n", 200
    own = b"X-Request-Id: %d\r\n" % number if kind == 4 else b""
    return head + own + b"Content-Length: %d\r\n\r\n%b" % (len(body), body), 400 if kind == 1 else 200


def test_requests_mean_the_same_however_they_are_cut(server: Server) -> None:
    """Requests whose heads came before, and others, in a pipeline and in any segments, get their answers in order."""
    chance, count = random.Random(3), 0
    for _ in range(80):
        requests = [
            asked(chance.choice([0, 0, 0, 1, 2, 3, 4]), chance.randrange(5)) for _ in range(chance.randrange(9))
        ]
        sent = b"".join(request for request, _ in requests)
        cuts = sorted(chance.sample(range(len(sent)), min(len(sent), chance.randrange(12))))
        with connected(server) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for start, stop in zip([0, *cuts], [*cuts, len(sent)], strict=True):
                client.sendall(sent[start:stop])
            client.shutdown(socket.SHUT_WR)
            statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", said(client))]
        assert [status for _, status in requests] == statuses
        count += len(statuses)
    assert 200 < count


# What is told to whom


def test_probes_tell_strangers_nothing_of_the_models(tmp_path: Path) -> None:
    """Health needs no key, so that where others do it names no model, no path, and no reason."""
    key = keys.add(tmp_path / "keys", "me", "predict")
    with serving("-m", IRIS, "-m", tmp_path / "broken", "--api-key-file", tmp_path / "keys") as guarded:
        told = [guarded.request("GET", f"/models/{name}/ready") for name in ("broken", "nobody", "iris")]
        known = guarded.request("POST", "/models/broken/invocations", ROW, {"X-API-Key": key})
    assert [503, 404, 200] == [reply.status for reply in told]
    assert not [reply.body for reply in told if b"iris" in reply.body or str(tmp_path).encode() in reply.body]
    assert b"no such file" in known.body


def test_workers_are_told_nothing_that_others_can_read(tmp_path: Path) -> None:
    """What may hold a password reaches workers by no argument, which every user of the machine can read."""
    secret = "https://me:the-secret@127.0.0.1:9"
    with serving("-m", IRIS, "-w", "2", FORETELL_REGISTRY=secret, FORETELL_OTEL_ENDPOINT=secret) as running:
        assert 200 == running.post(ROW).status
        lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.parent.exists()]
        ours = [line for line in lines if b"serve-worker" in line]
    assert len(ours) >= 2
    assert not [line for line in ours if b"the-secret" in line]


# Answers that nobody takes


def test_answers_that_nobody_takes_do_not_pile_up(server: Server) -> None:
    """Clients that ask for large answers and read none are cut off when these fill half of what may be held; others are
    refused no longer than that."""
    body = b"sepal_length,sepal_width,petal_length,petal_width\n" + b"1,1,1,1\n" * 150_000
    head = HEAD.replace(b"application/json", b"text/csv") % (
        b"/invocations?proba=true",
        b"Accept: application/json\r\nContent-Length: %d\r\n" % len(body),
    )
    with contextlib.ExitStack() as stack:
        idle = []
        for _ in range(2):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", server.port))
            client.sendall(head + body)
            idle.append(client)
        until(lambda: held(server) > 8 << 20)
        assert 503 == server.post(ROW).status
        until(lambda: not held(server))
        assert all(len(said(client)) < 14 << 20 for client in idle)
    assert 200 == server.post(ROW).status


def until(reached: Callable[[], bool]) -> None:
    end = monotonic() + PATIENCE
    while not reached():
        assert monotonic() < end


def held(server: Server) -> float:
    """Bytes of bodies and answers, as the server counts them."""
    text = server.request("GET", "/metrics").body.decode()
    return float(text.partition("\nforetell_request_bytes_held ")[2].split()[0])


@pytest.mark.parametrize(
    ("taken", "late"),
    [
        pytest.param([0] * 8, True, id="nothing"),
        pytest.param([1] * 8, True, id="a-byte-at-a-time"),
        pytest.param([500] * 8, True, id="too-slowly"),
        pytest.param([2000] * 20, False, id="slowly"),
        pytest.param([0, 0, 8000, 0, 0, 8000], False, id="at-times"),
        pytest.param([10_000, *[0] * 7], True, id="not-any-more"),
    ],
)
def test_a_slow_reader_must_keep_a_pace(taken: list[int], late: bool) -> None:
    """So many bytes in each write timeout as a body must bring; taking one now and then is no way to hold an answer."""
    limits, watch, unsent = Limits(write_timeout=10.0, body_rate=240.0), Watch(0.0, phase=Phase.NOTHING), 100_000
    found = []
    for at, more in enumerate(taken):
        found.append(watch.late(at * 4.0, limits, owed=True, unsent=unsent))
        unsent -= more
    assert late == (Late.READER in found)
