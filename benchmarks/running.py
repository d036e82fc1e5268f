"""A server under load: started, asked, and what that costs it. Loads come from foretell's own generator, in C."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from peers import NGINX, Server

from foretell.compare.load import Generator, Load, Sent

_PATIENCE = 120.0
_TICK = 0.02
_NS = 1e9


@dataclass(frozen=True)
class Running:
    """A server. ready: seconds from its start to its first answer."""

    port: int
    pid: int
    ready: float

    @property
    def family(self) -> list[int]:
        return [self.pid, *children(self.pid)]


@dataclass(frozen=True)
class Measured:
    """rate: good answers a second. p50, p99: of all answers, ms. cpu: µs of the server's a request. memory: in MiB."""

    rate: float
    p50: float
    p99: float
    cpu: float
    memory: float
    statuses: dict[int, int]

    def __str__(self) -> str:
        wrong = {status: count for status, count in self.statuses.items() if status != 200}
        said = f"{self.rate:>9.0f}{self.p50:>9.2f}{self.p99:>9.2f}{self.cpu:>8.1f}{self.memory:>6.0f}"
        return f"{said} {wrong}" if wrong else said


def request(body: dict[str, object]) -> bytes:
    raw = json.dumps(body).encode()
    head = "POST /invocations HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: "
    return f"{head}{len(raw)}\r\n\r\n".encode() + raw


@contextlib.contextmanager
def running(server: Server, asked: bytes, environment: dict[str, str] | None = None) -> Iterator[Running]:
    """Raises RuntimeError where it does not start."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    Path("nginx.conf").write_text(NGINX.format(folder=Path.cwd(), port=port))
    for name, text in (server.files or {}).items():
        Path(name).write_text(text.replace("PORT", str(port)))
    places = {"PORT": str(port), "NGINX": str(Path.cwd() / "nginx.conf")}
    started = time.monotonic()
    with Path("server.log").open("w") as log:
        process = subprocess.Popen(
            [places.get(part, part) for part in server.command or ()],
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
    try:
        while not answers(port, asked):
            if process.poll() is not None or time.monotonic() - started > _PATIENCE:
                lines = Path("server.log").read_text().strip().splitlines()
                raise RuntimeError(f"it did not start: {lines[-1][:150] if lines else process.poll()}")
            time.sleep(_TICK)
        yield Running(port, process.pid, time.monotonic() - started)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def answers(port: int, asked: bytes) -> bool:
    body = asked.partition(b"\r\n\r\n")[2]
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        try:
            connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False


def closed_loop(generator: Generator, server: Running, asked: bytes, connections: int, seconds: float) -> Measured:
    """So many connections, each of which asks as soon as it is answered, after a while to warm up."""
    which = np.zeros(1, np.int32)
    generator.run("127.0.0.1", server.port, Load([asked], which, min(1.0, seconds), connections=connections))
    return measured(generator, server, Load([asked], which, seconds, connections=connections))


def open_loop(generator: Generator, server: Running, asked: bytes, rate: float, seconds: float, **more: float) -> Sent:
    """Requests at random moments, so many a second on the average, whether or not others were answered."""
    gaps = np.random.default_rng(5).exponential(1 / rate, int(rate * seconds) + 1)
    load = Load([asked], np.zeros(1, np.int32), seconds, np.cumsum(gaps), **more)  # type: ignore[arg-type]
    return generator.run("127.0.0.1", server.port, load)


def measured(generator: Generator, server: Running, load: Load) -> Measured:
    before = sum(map(cpu, server.family))
    sent = generator.run("127.0.0.1", server.port, load)
    used = sum(map(cpu, server.family)) - before
    statuses = dict(zip(*(part.tolist() for part in np.unique(sent.status, return_counts=True)), strict=True))
    p50, p99 = milliseconds(sent.latency, 50), milliseconds(sent.latency, 99)
    each = used / max(len(sent.status), 1) * 1e6
    return Measured(statuses.get(200, 0) / sent.seconds, p50, p99, each, sum(map(resident, server.family)), statuses)


def milliseconds(latency: np.ndarray, percent: float) -> float:
    return float(np.percentile(latency, percent)) * 1000 if len(latency) else float("nan")


def children(pid: int) -> list[int]:
    try:
        found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [*found, *(inner for child in found for inner in children(child))]


def cpu(pid: int) -> float:
    """Seconds of CPU that a process's threads have used."""
    used = 0.0
    for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):
            used += int(task.read_text().split()[0]) / _NS
    return used


def resident(pid: int) -> float:
    """MiB of memory that a process holds."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return 0.0
