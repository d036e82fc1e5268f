"""The load generator against a real server that answers well, badly, late or not at all."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from answering import REPLIES, Answering, answering, asking
from foretell.compare.load import CUT, GARBLED, LATE, UNANSWERED, UNCONNECTED, Generator, Load, Sent
from foretell.errors import ForetellError
from tracking import free_port

LONG = 30.0
HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def generator() -> Iterator[Generator]:
    with Generator() as running:
        yield running


@pytest.fixture
def server() -> Iterator[Answering]:
    with answering() as running:
        yield running


def every(paths: list[str], gap: float = 0.001, **more: Any) -> Load:
    """Each path once, in order, gap seconds apart."""
    due = np.arange(len(paths)) * gap
    order = np.arange(len(paths), dtype=np.int32)
    return Load([asking(path) for path in paths], order, LONG, due, **more)


def statuses(sent: Sent) -> list[int]:
    return sent.status.tolist()


EXPECTED = {
    "ok": 200,
    "none": 204,
    "empty": 200,
    "refused": 503,
    "continued": 200,
    "chunked": 200,
    "closing": 200,
    "old": 200,
    "old and kept": 200,
    "until closed": 200,
    "cut in the head": CUT,
    "cut in the body": CUT,
    "cut in a chunk": CUT,
    "nothing": CUT,
    "no http": GARBLED,
    "no status": GARBLED,
    "two sizes": GARBLED,
    "negative": GARBLED,
    "too large": GARBLED,
    "no chunk": GARBLED,
    "long chunk": GARBLED,
    "upgrade": GARBLED,
    "endless line": GARBLED,
    "endless head": GARBLED,
    "more than asked": 200,
    "reset": CUT,
    "bytes": 200,
}
KEPT = ("ok", "none", "empty", "refused", "continued", "chunked", "old and kept", "bytes")
"""After these the connection is used again."""


@pytest.mark.parametrize("path", EXPECTED)
def test_every_kind_of_answer_is_told_by_its_bytes(path: str, generator: Generator, server: Answering) -> None:
    """An answer's status, or what is wrong with it, and whether its connection is asked again."""
    assert {*REPLIES, "reset", "bytes"} == EXPECTED.keys()
    sent = generator.run(HOST, server.port, every([path] * 3, connections=1))
    assert [EXPECTED[path]] * 3 == statuses(sent)
    assert (1 if path in KEPT else 3) == sent.opened == server.connections
    assert {path: 3} == server.asked


def test_requests_go_out_when_they_are_due_whatever_is_answered(generator: Generator) -> None:
    """While the server holds its answers back others are sent all the same, and each waits from when it was due."""
    with answering(held=40) as server:
        sent = generator.run(HOST, server.port, every(["held"] * 40))
    assert [200] * 40 == statuses(sent)
    assert 40 == sent.opened
    assert (sent.due + sent.latency >= sent.due[-1]).all()
    assert 0 == sent.waited


def test_a_stall_is_in_the_latency_of_all_who_waited(generator: Generator) -> None:
    """Where one connection has to do, those that were due while it was stalled are late too, though each was answered
    soon after it was sent."""
    with answering(pause=0.2) as server:
        sent = generator.run(HOST, server.port, every([*["ok"] * 20, "stall", *["ok"] * 100], connections=1))
    done = sent.due + sent.latency
    late = (sent.due > sent.due[20]) & (sent.due < done[20])
    assert sent.service[20] >= 0.2
    waited = sent.waited - int((done[:20] > sent.due[1:21]).sum())
    # One may become due between the moment at which an answer is noted and the next look at what is due.
    assert abs(int(late.sum()) - waited) <= 2 and waited > 50
    assert (done[late] >= done[20]).all()
    assert (np.diff(done) >= 0).all()


def test_a_closed_loop_asks_when_it_was_answered(generator: Generator, server: Answering) -> None:
    """So many clients, each with one request at a time, in the order that was given."""
    load = Load([asking("ok"), asking("none")], np.array([0, 1, 1], np.int32), LONG, connections=3, count=300)
    sent = generator.run(HOST, server.port, load)
    assert [200, 204, 204] * 100 == statuses(sent)
    assert {"ok": 100, "none": 200} == server.asked
    assert 3 == sent.opened
    assert (sent.due >= 0).all() and (np.diff(sent.due) >= 0).all()
    assert (sent.latency > 0).all()


def test_a_closed_loop_ends_after_its_time(generator: Generator, server: Answering) -> None:
    """Nothing is begun after that, and what was begun is answered."""
    load = Load([asking("ok")], np.zeros(1, np.int32), 0.05, connections=2)
    sent = generator.run(HOST, server.port, load)
    assert {200} == set(statuses(sent))
    assert (sent.due < 0.05).all()
    assert server.asked["ok"] == len(sent.status)


def test_large_requests_arrive_whole(generator: Generator, server: Answering) -> None:
    """A request of more bytes than a socket takes at once is sent piece by piece."""
    head = asking("ok")[:-2]
    padded = head + b"".join(b"X-%d: %b\r\n" % (at, b"y" * 1000) for at in range(60)) + b"\r\n"
    load = Load([padded], np.zeros(1, np.int32), LONG, np.zeros(20))
    assert [200] * 20 == statuses(generator.run(HOST, server.port, load))
    assert 20 == server.asked["ok"]


def test_connections_may_all_be_there_from_the_start(generator: Generator, server: Answering) -> None:
    """In the time to settle they are opened and accepted, before the clock starts; one that fails is opened when it is
    needed."""
    load = every(["ok"] * 3, gap=0.05, connections=9, settle=0.1)
    sent = generator.run(HOST, server.port, load)
    assert [200] * 3 == statuses(sent)
    assert 9 == sent.opened == server.connections
    assert sent.seconds < 0.2
    assert [UNCONNECTED] * 3 == statuses(generator.run(HOST, free_port(), load))
    assert [] == statuses(generator.run(HOST, server.port, replace(load, due=np.empty(0))))


def test_patience_ends(generator: Generator, server: Answering) -> None:
    """A request without an answer is given up in its time, and so is one that never found a connection."""
    sent = generator.run(HOST, server.port, every(["silent", "ok"], connections=1, patience=0.1))
    assert LATE == sent.status[0]
    assert sent.latency[0] >= 0.1
    sent = generator.run(HOST, server.port, every(["silent"] * 3, gap=0.0, connections=1, patience=0.1))
    assert [LATE] * 3 == statuses(sent)


def test_the_load_ends_with_its_grace(generator: Generator, server: Answering) -> None:
    """What is under way then is told as unanswered, with the time it took so far."""
    load = replace(every(["ok", "silent", "ok"]), seconds=0.02, grace=0.1)
    sent = generator.run(HOST, server.port, load)
    assert [200, UNANSWERED, 200] == statuses(sent)
    assert sent.latency[1] >= 0.1


def test_nobody_listens(generator: Generator) -> None:
    """Connections that are refused are counted, in a closed loop up to where there is no hope."""
    port = free_port()
    assert [UNCONNECTED] * 5 == statuses(generator.run(HOST, port, every(["ok"] * 5)))
    closed = generator.run(HOST, port, Load([asking("ok")], np.zeros(1, np.int32), LONG, connections=4))
    assert {UNCONNECTED} == set(statuses(closed))
    assert 100 <= len(closed.status) < 110


def test_a_load_that_cannot_pass_ends_early(generator: Generator, server: Answering) -> None:
    """Once more than so many were late or failed, not counting the first ones."""
    paths = ["refused"] * 10 + ["ok"] * 10 + ["refused"] * 500
    sent = generator.run(HOST, server.port, every(paths, bound=LONG, allowed=5, first=10))
    failed = (sent.status != 200).sum()
    assert 16 <= failed < 100
    sent = generator.run(HOST, server.port, every(["ok"] * 500, bound=0.0, allowed=20))
    assert 21 <= (sent.status == 200).sum() < 400


def test_no_more_connections_than_files_may_be_open(server: Answering) -> None:
    """The bound on connections is kept."""
    with Generator() as own:
        sent = own.run(HOST, server.port, every(["ok"] * 200, gap=0.0, connections=7))
    assert [200] * 200 == statuses(sent)
    assert sent.opened <= 7


def test_a_generator_that_is_held_up_says_so(server: Answering) -> None:
    """Its lag tells by how much it was late itself, beside a latency that counts it."""
    with Generator() as own, ThreadPoolExecutor(1) as pool:
        running = pool.submit(own.run, HOST, server.port, every(["ok"] * 1000))
        assert server.seen.wait(LONG)
        os.kill(own.pid, signal.SIGSTOP)
        threading.Event().wait(0.2)
        os.kill(own.pid, signal.SIGCONT)
        sent = running.result()
    assert [200] * 1000 == statuses(sent)
    assert sent.lag.max() > 0.1
    assert (sent.latency >= sent.lag).all()


def test_a_generator_that_ends_is_an_error(server: Answering) -> None:
    """It does not hang whoever asked it."""
    with Generator() as own, ThreadPoolExecutor(1) as pool:
        running = pool.submit(own.run, HOST, server.port, every(["silent"] * 3))
        assert server.seen.wait(LONG)
        os.kill(own.pid, signal.SIGKILL)
        with pytest.raises(ForetellError, match="the load generator ended"):
            running.result()


GOOD = Load([b"GET / HTTP/1.1\r\n\r\n"], np.zeros(1, np.int32), 1.0, np.zeros(2))


@pytest.mark.parametrize(
    ("address", "port", "load", "wrong"),
    [
        ("localhost", 80, GOOD, "the address is none in numbers"),
        (HOST, 0, GOOD, "there is no such port"),
        (HOST, 65536, GOOD, "there is no such port"),
        (HOST, 80, replace(GOOD, requests=[]), "there is nothing to send"),
        (HOST, 80, replace(GOOD, requests=[b""]), "the requests do not lie within their bytes"),
        (HOST, 80, replace(GOOD, which=np.empty(0, np.int32)), "there is nothing to send"),
        (HOST, 80, replace(GOOD, which=np.array([1], np.int32)), "a request is asked for that is not there"),
        (HOST, 80, replace(GOOD, which=np.array([-1], np.int32)), "a request is asked for that is not there"),
        (HOST, 80, replace(GOOD, connections=0), "there is nothing to send"),
        (HOST, 80, replace(GOOD, due=np.array([1.0, 0.5])), "arrival times go back"),
        (HOST, 80, replace(GOOD, due=np.array([-1.0, 0.5])), "arrival times go back"),
    ],
)
def test_a_load_that_is_none(address: str, port: int, load: Load, wrong: str, generator: Generator) -> None:
    """Is refused in words, and the generator goes on."""
    with pytest.raises(ValueError, match=wrong):
        generator.run(address, port, load)


def test_an_empty_load_is_over_at_once(generator: Generator, server: Answering) -> None:
    """No arrivals, no requests."""
    assert [] == statuses(generator.run(HOST, server.port, replace(GOOD, due=np.empty(0))))
    assert 0 == server.connections


def test_ipv6(generator: Generator) -> None:
    """Either loopback address."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening, ThreadPoolExecutor(1) as pool:
        running = pool.submit(generator.run, "::1", listening.getsockname()[1], every(["ok"]))
        with listening.accept()[0] as accepted:
            accepted.recv(1000)
            accepted.sendall(REPLIES["ok"])
            assert [200] == statuses(running.result())
