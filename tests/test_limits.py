"""What a server takes from a client, and what it does with one that sends or wants too much, or nothing any more."""

import contextlib
import gzip
import json
import socket
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from conftest import PATIENCE, Server, model_path, serving
from foretell import machine
from scripted import PLAIN, answer, data, held_at_gate, scripted_model, sent, taken_in

ROW = [5.1, 3.5, 1.4, 0.2]
ANSWER = b'{"predictions": [0]}'
DATA = json.dumps({"data": [ROW]}).encode()
LIMITS = ["--max-body-mb", "16", "--max-connections", "40", "--write-timeout", "0.5"]


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with serving("-m", model_path(models, "onnx"), *LIMITS) as running:
        yield running


# Packed bodies


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


def zstd(body: bytes) -> bytes:
    return pa.Codec("zstd").compress(body, asbytes=True)


PACKERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "zstd": ("zstd", zstd),
    "deflate": ("deflate", zlib.compress),
    "bare-deflate": ("deflate", raw_deflate),
}


@pytest.mark.parametrize(("encoding", "pack"), PACKERS.values(), ids=PACKERS.keys())
def test_takes_packed_bodies(server: Server, encoding: str, pack: Callable[[bytes], bytes]) -> None:
    """A body that is packed gets the answer of the same body unpacked."""
    assert ANSWER == server.post(pack(DATA), **{"Content-Encoding": encoding}).body


@pytest.mark.parametrize(("encoding", "pack"), PACKERS.values(), ids=PACKERS.keys())
@pytest.mark.parametrize("size", [12 << 20, 100 << 20], ids=["beyond-measure", "beyond-the-limit"])
def test_refuses_bodies_that_grow_too_much(
    server: Server, encoding: str, pack: Callable[[bytes], bytes], size: int
) -> None:
    """A small body that would unpack to a large one is a 413, and never in memory whole."""
    reply = server.post(pack(b" " * size), **{"Content-Encoding": encoding})
    assert (413, "REQUEST_LIMIT_EXCEEDED") == (reply.status, reply.json()["error_code"])


@pytest.mark.parametrize(("encoding", "pack"), PACKERS.values(), ids=PACKERS.keys())
@pytest.mark.parametrize("damage", [lambda body: body[:-6], lambda body: body[:4] + b"\xff\xff" + body[6:]])
def test_refuses_damaged_packs(
    server: Server, encoding: str, pack: Callable[[bytes], bytes], damage: Callable[[bytes], bytes]
) -> None:
    """A pack that is cut short or torn is the client's mistake."""
    assert 400 == server.post(damage(pack(DATA * 40)), **{"Content-Encoding": encoding}).status


def test_gzip_in_many_members(server: Server) -> None:
    """A body may be packed in pieces, empty ones between them; one of hardly anything but empty ones is refused."""
    empty = gzip.compress(b"")
    pieces = b"".join(empty * 99 + gzip.compress(DATA[at : at + 1]) for at in range(len(DATA)))
    assert ANSWER == server.post(pieces, **{"Content-Encoding": "gzip"}).body
    reply = server.post(empty * 20_000 + gzip.compress(DATA), **{"Content-Encoding": "gzip"})
    assert 400 == reply.status
    assert "gzip data are empty" in reply.json()["message"]


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "compress"])
def test_names_the_packs_that_it_takes(server: Server, encoding: str) -> None:
    """Any other encoding is a 415."""
    reply = server.post(DATA, **{"Content-Encoding": encoding})
    assert 415 == reply.status
    assert "gzip, zstd, deflate" in reply.json()["message"]


# Depth


def deep(levels: int) -> str:
    return '{"data": [[1, 1, 1, 1]], "x": ' + "[" * levels + "]" * levels + "}"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(deep(99), 200, id="hundred"),
        pytest.param(deep(100), 400, id="hundred-and-one"),
        pytest.param('{"data": [[1, 1, 1, 1]], "x": "%s", "y": ":"}' % ("[{" * 999), 200, id="in-a-string"),
        pytest.param('{"data": [[1, 1, 1, 1]], "x": "%s", "y": ":"}' % ('\\"[{' * 999), 200, id="behind-quotes"),
        pytest.param('{"data": %s}' % ('[{"a": ' * 60 + "1" + "}]" * 60), 400, id="objects"),
    ],
)
def test_reads_json_to_a_depth_of_a_hundred(server: Server, body: str, status: int) -> None:
    """Deeper documents are refused, whatever key they stand under; brackets in text are none."""
    reply = server.post(body)
    assert status == reply.status, reply.body
    assert ("nested too deeply" in reply.body.decode()) == (status == 400)


# Bytes and connections at hand


def test_refuses_when_it_holds_too_many_bytes(tmp_path: Path) -> None:
    """Bodies that would not fit into the memory are refused with 503, and taken when there is room again."""
    scripted = scripted_model(tmp_path / "scripted")
    body = data(*[[PLAIN, 1.0]] * 60_000)
    with serving("--trust", "-m", scripted, "--max-in-flight-mb", "1") as server:
        with sent(server.port, data([2, 1])), held_at_gate(scripted):
            held = sent(server.port, body)
            taken_in(server.port)
            refused = server.post(body)
            small = sent(server.port, data([PLAIN, 1]))
        assert [200, 200] == [answer(held)[0], answer(small)[0]]
        assert 200 == server.post(body).status
    assert 524_288 < len(body)
    assert (503, "1") == (refused.status, refused.headers["retry-after"])


def test_connections_beyond_the_bound_are_told(server: Server) -> None:
    """The next one gets a 503 and the end; when others leave, it is served."""
    with contextlib.ExitStack() as open_ones:
        for _ in range(40):
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
            open_ones.enter_context(connection)
            connection.sendall(b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.1 200"
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as one_more:
            got = b"".join(iter(lambda: one_more.recv(4096), b""))
    assert got.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1\r\n" in got
    while 200 != server.post(DATA).status:
        pass


def test_a_client_that_does_not_read_is_left(server: Server) -> None:
    """Answers that nobody takes do not pile up: after a while the connection ends, and others are served."""
    request = b"POST /invocations?proba=true HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b"
    body = json.dumps({"data": [ROW] * 20_000}).encode()
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.settimeout(PATIENCE)
        deaf.connect(("127.0.0.1", server.port))
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            for _ in range(2000):
                deaf.sendall(request % (len(body), body))
    assert ANSWER == server.post(DATA).body


# What the machine lends

V2 = "0::/pods/one\n"
V1 = "9:cpuacct,cpu:/pods/one\n4:memory:/pods/one\n0::/\n"
TREES: dict[str, tuple[str, dict[str, str], float, int]] = {
    "v2": (V2, {"pods/one/cpu.max": "150000 100000", "pods/one/memory.max": "1000000"}, 2, 1_000_000),
    "v2-of-a-parent": (
        V2,
        {"pods/cpu.max": "50000 100000", "pods/memory.max": "7", "pods/one/memory.max": "max"},
        1,
        7,
    ),
    "v2-in-its-own-namespace": ("0::/\n", {"cpu.max": "100000 100000", "memory.max": "5"}, 1, 5),
    "v1": (
        V1,
        {
            "cpu/pods/one/cpu.cfs_quota_us": "100000",
            "cpu/pods/one/cpu.cfs_period_us": "100000",
            "memory/pods/one/memory.limit_in_bytes": "42",
        },
        1,
        42,
    ),
    "v1-seen-from-inside": (V1, {"memory/memory.limit_in_bytes": "43"}, 0, 43),
    "no-limits": (V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 0, 0),
    "none": ("", {}, 0, 0),
}


@pytest.mark.parametrize(("own", "files", "cores", "memory"), TREES.values(), ids=TREES.keys())
def test_reads_what_the_container_may_use(
    tmp_path: Path, own: str, files: dict[str, str], cores: int, memory: int
) -> None:
    """Cores and memory are the machine's, or less where a cgroup of either version, or one above it, says so."""
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text(text + "\n")
    given = (tmp_path / "tree", tmp_path / "own")
    all_cores, all_memory = machine.cores(tmp_path, tmp_path / "none"), machine.memory(tmp_path, tmp_path / "none")
    assert (min(cores or all_cores, all_cores), memory or all_memory) == (machine.cores(*given), machine.memory(*given))
