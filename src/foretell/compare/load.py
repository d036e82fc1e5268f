"""How load is put on a server: requests by a schedule or by so many clients, each one's times kept. Trials ask here.

The sending itself is C (`_load`), in a process of its own, so that what Python does meanwhile delays no request.
"""

import contextlib
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Any, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from foretell import parent
from foretell.errors import ForetellError

UNANSWERED, LATE, UNCONNECTED, CUT, GARBLED = 0, -1, -2, -3, -4
"""In the place of a status: under way when the load ended; without an answer in time; no connection; the connection
ended before the answer did; an answer that is no HTTP."""

CONNECTIONS = 1024
_SPARE_FILES = 64
_NS = 1_000_000_000
_NEVER = 2**62
_SIZE = struct.Struct("<q")
_TOLD = ("connections", "settle", "sending", "patience", "end", "bound", "allowed", "first")


@dataclass(frozen=True)
class Load:
    """Requests to a server that speaks plain HTTP/1.1.

    requests: whole ones, heads too. which: of them is sent as the first, the second, …; gone through again and again.
    due: seconds from the start at which each is due, in order (open loop); None for a closed loop, in which each of the
    connections asks as soon as it is answered. connections: at most; they are opened as they are needed, and a request
    that finds every one busy waits, which counts. settle: seconds before the start in which they are all opened, and
    the server takes them up; 0 for none. seconds: after that no request is begun.
    patience: seconds from when it was due after which a request is given up. grace: seconds after the last one is begun
    for which answers are awaited. count: most requests of a closed loop.

    bound, allowed, first: the load ends early once more than allowed requests, from the first-th on, were answered
    later than bound seconds, not counting the generator's own lag, or not with 200.
    """

    requests: Sequence[bytes]
    which: NDArray[np.int32]
    seconds: float
    due: NDArray[np.float64] | None = None
    connections: int = CONNECTIONS
    settle: float = 0.0
    patience: float = 10.0
    grace: float = 10.0
    count: int = 1 << 20
    bound: float = 0.0
    allowed: int | None = None
    first: int = 0


@dataclass(frozen=True)
class Sent:
    """What became of the requests that were due, in order. Arrays of one length; times in seconds.

    due: from the start. latency: from when it was due until it was answered (or given up, or the load ended). service:
    the same from when it was sent. lag: by how much the generator itself noticed late that it was due. status: HTTP's,
    or one of those above. opened: connections. waited: requests that found every connection busy. seconds: in all.
    cpu_s: that the generator used.
    """

    due: NDArray[np.float64]
    latency: NDArray[np.float64]
    service: NDArray[np.float64]
    lag: NDArray[np.float64]
    status: NDArray[np.int32]
    opened: int
    waited: int
    seconds: float
    cpu_s: float


class Generator:
    """The process that sends. Loads are run one after another; close() ends it, also in the midst of one,
    and so does the end of the thread that made it."""

    def __init__(self) -> None:
        check_built()
        self._process = subprocess.Popen(  # noqa: S603 - our own command
            parent.command("foretell.compare.load"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._into, self._from, self._said = (
            cast(IO[bytes], stream) for stream in (self._process.stdin, self._process.stdout, self._process.stderr)
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def run(self, address: str, port: int, load: Load) -> Sent:
        """Puts the load on a server, and returns when it ended. address: in numbers. Raises ForetellError where the
        generator fails, ValueError for a load that is none."""
        try:
            _write(self._into, msgspec.msgpack.encode(_told(address, port, load)))
            answer = msgspec.msgpack.decode(_read(self._from))
        except (OSError, EOFError) as error:
            raise ForetellError(f"the load generator ended: {self._last_words()}") from error
        if "wrong" in answer:
            raise ValueError(answer["wrong"])
        return _sent(answer)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._into, self._from, self._said):
            with contextlib.suppress(OSError):
                stream.close()

    def __enter__(self) -> "Generator":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _last_words(self) -> str:
        self._process.kill()
        said = self._said.read().decode("utf-8", "replace").strip().splitlines()
        return said[-1] if said else f"exit code {self._process.wait()}"


def check_built() -> None:
    """Raises ForetellError where the generator is not there."""
    try:
        from foretell.compare import _load  # noqa: F401
    except ImportError as error:
        raise ForetellError(
            "the load generator was not built with this installation",
            "It needs Linux, and a C compiler when foretell is installed from its sources",
        ) from error


def _told(address: str, port: int, load: Load) -> dict[str, Any]:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = CONNECTIONS if soft == resource.RLIM_INFINITY else max(1, soft - _SPARE_FILES)
    due = None if load.due is None else np.rint(load.due * _NS).astype("<i8").tobytes()
    return {
        "address": address,
        "port": port,
        "due": due,
        "count": load.count if due is None else len(due) // 8,
        "connections": min(load.connections, files),
        "settle": int(load.settle * _NS),
        "sending": int(load.seconds * _NS),
        "patience": int(load.patience * _NS),
        "end": int((load.seconds + load.grace) * _NS),
        "bound": int(load.bound * _NS),
        "allowed": _NEVER if load.allowed is None else load.allowed,
        "first": load.first,
        "requests": b"".join(load.requests),
        "ends": np.cumsum([len(request) for request in load.requests], dtype="<i8").tobytes(),
        "which": np.ascontiguousarray(load.which, "<i4").tobytes(),
    }


def _sent(answer: dict[str, Any]) -> Sent:
    def seconds(name: str) -> NDArray[np.float64]:
        return np.frombuffer(answer[name], "<i8") / _NS

    return Sent(
        seconds("due"),
        seconds("latency"),
        seconds("service"),
        seconds("lag"),
        np.frombuffer(answer["status"], "<i4"),
        answer["opened"],
        answer["waited"],
        answer["elapsed"] / _NS,
        answer["cpu"] / _NS,
    )


def _run(told: dict[str, Any]) -> dict[str, Any]:
    """What the process of its own does with a load."""
    from foretell.compare import _load

    count = told["count"]
    times = {name: bytearray(8 * count) for name in ("due", "latency", "service", "lag")}
    if told["due"] is not None:
        times["due"] = bytearray(told["due"])
    status = bytearray(4 * count)
    try:
        begun, opened, waited, elapsed, cpu = _load.run(
            told["address"],
            told["port"],
            told["due"] is not None,
            *(told[name] for name in _TOLD),
            *(told[name] for name in ("requests", "ends", "which")),
            *times.values(),
            status,
        )
    except ValueError as error:
        return {"wrong": str(error)}
    answer: dict[str, Any] = {name: values[: 8 * begun] for name, values in times.items()}
    return {
        **answer,
        "status": status[: 4 * begun],
        "opened": opened,
        "waited": waited,
        "elapsed": elapsed,
        "cpu": cpu,
    }


def _write(stream: IO[bytes], message: bytes) -> None:
    stream.write(_SIZE.pack(len(message)))
    stream.write(message)
    stream.flush()


def _read(stream: IO[bytes]) -> bytes:
    """A message. Raises EOFError where there is none."""
    head = stream.read(_SIZE.size)
    if len(head) < _SIZE.size:
        raise EOFError
    (size,) = _SIZE.unpack(head)
    message = stream.read(size)
    if len(message) < size:
        raise EOFError
    return message


def _serve() -> None:
    """Runs loads as they are told, until there are no more. Ctrl-C is the caller's to answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            _write(sys.stdout.buffer, msgspec.msgpack.encode(_run(msgspec.msgpack.decode(_read(sys.stdin.buffer)))))


if __name__ == "__main__":
    _serve()
