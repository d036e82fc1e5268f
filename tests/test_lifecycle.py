"""A server that stops, or whose workers are killed, while its clients go on asking: nothing is lost, nobody is cut off.

FORETELL_SOAK multiplies how often it happens, up to 100 stops and 60 kills.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from conftest import PATIENCE, Server, serving
from load import Load, double, doubled
from scripted import PLAIN, WAITS, answer, data, held_at_gate, scripted_model, sent

SOAK = int(os.environ.get("FORETELL_SOAK", "1"))
CLIENTS = 12
_PIDFD_GETFD = 438


@pytest.fixture
def scripted(tmp_path: Path) -> Path:
    return scripted_model(tmp_path / "scripted")


WAYS_TO_STOP = {
    "at-once": ([], signal.SIGTERM),
    "after-a-delay": (["--drain-delay", "0.3"], signal.SIGTERM),
    "by-ctrl-c": (["--drain-delay", "0.3"], signal.SIGINT),
    "asyncio": (["--loop", "asyncio", "--drain-delay", "0.2"], signal.SIGTERM),
    "workers": (["-w", "2", "--drain-delay", "0.2"], signal.SIGTERM),
}


@pytest.mark.parametrize(("options", "number"), WAYS_TO_STOP.values(), ids=WAYS_TO_STOP.keys())
@pytest.mark.parametrize("turn", range(min(20, SOAK)))
def test_stops_under_load_without_losing_anything(
    scripted: Path, options: list[str], number: int, turn: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Clients that keep their connections get every answer, see no reset, and are told to leave; the exit code is 0."""

    async def drive(server: Server) -> Load:
        load = Load(server.port, CLIENTS, doubled, double, retry=False)
        running = asyncio.ensure_future(load.run())
        await load.until(300 + 37 * turn)
        server.process.send_signal(number)
        await asyncio.wait_for(running, PATIENCE)
        return load

    with serving("--trust", "-m", scripted, *options) as server:
        account = asyncio.run(drive(server)).account
        code = server.process.wait(PATIENCE)
    with capsys.disabled():
        print(f"\nstopped under load: {account.answered} answered, {account.refused} refused afterwards", end="")
    assert (0, 0, 0, 0) == (account.wrong, account.lost, account.reset, code)
    assert {200} == set(account.statuses)
    assert CLIENTS == account.refused


def test_is_alive_and_not_ready_while_it_stops(scripted: Path) -> None:
    """From SIGTERM on balancers are told to look away, while new connections are still served and then closed."""
    with serving("--trust", "-m", scripted, "--drain-delay", "30") as server:
        before = server.request("GET", "/readyz")
        server.process.terminate()
        while 200 == (ready := server.request("GET", "/readyz")).status:
            pass
        live, reply = server.request("GET", "/livez"), server.post(data([PLAIN, 4]))
        server.process.terminate()
        assert 0 == server.process.wait(PATIENCE)
    assert [200, 503, 200, 200] == [before.status, ready.status, live.status, reply.status]
    assert ["close"] * 3 == [one.headers["connection"] for one in (ready, live, reply)]
    assert b'{"predictions": [8.0]}' == reply.body


def test_a_connection_that_nobody_greeted_is_served(scripted: Path) -> None:
    """Who connected before the end, and was not accepted yet, still gets an answer."""
    with serving("--trust", "-m", scripted) as server:
        os.kill(server.process.pid, signal.SIGSTOP)
        connections = [sent(server.port, data([PLAIN, at])) for at in range(20)]
        server.process.terminate()
        os.kill(server.process.pid, signal.SIGCONT)
        answers = [answer(connection) for connection in connections]
        assert 0 == server.process.wait(PATIENCE)
    assert [(200, b'{"predictions": [%.1f]}' % (2 * at)) for at in range(20)] == answers


def test_a_second_signal_ends_it_at_once(scripted: Path) -> None:
    """Whoever does not want to wait for a slow answer signals again."""
    with serving("--trust", "-m", scripted) as server, sent(server.port, data([WAITS, 1])), held_at_gate(scripted):
        server.process.terminate()
        while 200 == status_of_ready(server):
            pass
        server.process.terminate()
        assert 0 == server.process.wait(PATIENCE)


def status_of_ready(server: Server) -> int:
    try:
        return server.request("GET", "/readyz").status
    except ConnectionError:
        return 0


def children(process: subprocess.Popen[str]) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def test_killed_workers_cost_no_more_than_they_held(scripted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each kill fails at most the requests in flight at that worker, and trying once more always helps."""
    kills = min(60, 3 * SOAK)

    async def drive(server: Server) -> Load:
        load = Load(server.port, CLIENTS, doubled, double, retry=True)
        running = asyncio.ensure_future(load.run())
        for kill in range(kills):
            await load.until(load.account.answered + 200)
            victim = children(server.process)[kill % 2]
            os.kill(victim, signal.SIGKILL)
            while victim in children(server.process) or len(children(server.process)) < 2:
                await load.until(load.account.answered + 20)
        await load.until(load.account.answered + 200)
        load.ended.set()
        await asyncio.wait_for(running, PATIENCE)
        return load

    with serving("--trust", "-m", scripted, "-w", "2") as server:
        account = asyncio.run(drive(server)).account
    failed = account.lost + account.reset
    with capsys.disabled():
        print(f"\n{kills} workers killed: {account.answered} answered, {failed} tried again", end="")
    assert (0, 0, 0) == (account.wrong, account.given_up, account.refused)
    assert 0 < failed <= kills * CLIENTS


# Speed that only a mistake can lose


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_connections_wait_for_no_acknowledgement(models: Path, loop: str, workers: str) -> None:
    """TCP_NODELAY is set on every accepted connection, by either event loop and in workers too."""
    said = ("--loop", loop, "-w", workers)
    with serving("-m", models / "onnx", *said) as server, socket.create_connection(("127.0.0.1", server.port)) as one:
        one.sendall(b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert one.recv(12) == b"HTTP/1.1 200"
        pids = children(server.process) or [server.process.pid]
        options = [no_delay(pid, one.getsockname()) for pid in pids]
    assert 1 == sum(option for option in options if option is not None)


def no_delay(pid: int, peer: tuple[str, int]) -> int | None:
    """TCP_NODELAY of a process's socket whose other end is peer; None without such a socket."""
    process = os.pidfd_open(pid)
    try:
        for held in Path(f"/proc/{pid}/fd").iterdir():
            number = ctypes.CDLL(None).syscall(_PIDFD_GETFD, process, int(held.name), 0)
            if number < 0:
                continue
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                os.close(number)
                continue
            with socket.socket(fileno=number) as found, contextlib.suppress(OSError):
                if found.family == socket.AF_INET and found.getpeername() == peer:
                    return found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    finally:
        os.close(process)
    return None
