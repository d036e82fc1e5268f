"""Several server processes on the same listeners: the parent binds, spawns and watches; the workers serve.

Workers are spawned, not forked: libraries with thread pools of their own hang in a forked child.
"""

import contextlib
import itertools
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from foretell import machine
from foretell.serve.board import Board
from foretell.serve.changes import Change, Report
from foretell.serve.channel import ACCEPTING, ANSWER, ASK, GO, LEAVE, LEFT, LOADED, TOLD, Channel, Message
from foretell.serve.follower import RELOAD, Asked
from foretell.serve.sockets import shut

SETTINGS = "FORETELL_WORKER"
"""The variable that holds a worker's settings."""

_STABLE_SECONDS = 30.0
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_SPARE = 4
"""Slots on the board beside one a worker."""
_POOLS = ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR", "VECLIB")
"""Libraries whose threads are counted by a variable NAME_NUM_THREADS."""


@dataclass(frozen=True)
class _Event:
    """kind: said, ended, start, stop, shut, change, or late. worker: its number; of a generation, the generation's.
    code: how it ended, or the signal that stops all. message: what it says. change: what is to be changed."""

    kind: str
    worker: int = 0
    code: int = 0
    message: Message = field(default_factory=dict)
    change: "Change | None" = None


class Supervisor:
    """Keeps count workers running. command: what starts one, to which its listeners' and files' numbers are added; its
    last part are settings, which it finds in its environment.
    drain_delay: seconds for which they still accept after SIGTERM. ask: has done what a worker was asked to do."""

    def __init__(self, command: list[str], sockets: list[socket.socket], count: int, drain_delay: float) -> None:
        self.ask: Callable[[Asked], None] = lambda _: None
        self._command = command
        self._sockets = sockets
        self.count = count
        self._drain_delay = drain_delay
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._channels: dict[int, Channel] = {}
        self._started: dict[int, float] = {}
        self._board = Board.made(2 * count + _SPARE)
        self._slots: dict[int, int] = {}
        self._pauses: dict[int, float] = {}
        self._numbers = itertools.count()
        self._current: set[int] = set()
        self._ready: set[int] = set()
        self._announced = self._stopping = False
        self._change: Change | None = None
        self._parting: Change | None = None
        self._report: Report | None = None
        self._reported = threading.Event()
        self._told: Message = {}
        self._alive_read, self._alive_write = os.pipe()

    def run(self, accepting: Callable[[str], None]) -> int:
        """Runs until SIGTERM or SIGINT and returns the exit code: 0, or that of a worker that could not start. SIGHUP
        asks for a reload.

        accepting: called once all workers take requests, with what they say.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: self._events.put(_Event("stop", code=number)))
        signal.signal(signal.SIGHUP, lambda *_: self.ask(Asked(RELOAD)))
        for _ in range(self.count):
            self._current.add(self._start(self._command))
        code = 0
        while self._processes or not self._stopping:
            event = self._next()
            if event.kind == "said":
                self._hear(event.worker, event.message, accepting)
            elif event.kind == "stop":
                self._stop(event.code, again=self._stopping)
                self._stopping = True
            elif event.kind == "shut":
                shut(self._sockets)
            elif event.kind == "start" and not self._stopping:
                self._current.add(worker := self._start(self._command))
                self._pauses[worker] = self._pauses.pop(event.worker, 0.0)
            elif event.kind == "change" and event.change is not None:
                self._begin(event.change)
            elif event.kind == "late" and self._change is not None and event.worker in self._change.workers:
                self._give_up(f"it was not loaded within {self._change.seconds:g} s")
            elif event.kind == "ended":
                code = self._end(event) or code
        return code

    def first(self) -> Report:
        """What the first of the workers could load; waits for it. Any thread."""
        self._reported.wait()
        return self.report()

    def report(self) -> Report:
        """What those that serve could load."""
        return self._report or Report({}, {})

    def pids(self) -> list[int]:
        """Of the workers."""
        return [process.pid for process in list(self._processes.values())]

    def change(self, command: list[str], judge: Callable[[Report], str], seconds: float) -> str:
        """Lets workers of another command take over, if all of them load and judge finds nothing wrong; returns what
        was, else "". They may take so many seconds. Any thread but that of run."""
        change = Change(command, judge, seconds)
        self._events.put(_Event("change", change=change))
        return change.done.get()

    def tell(self, told: dict[str, Any], series: list[Any]) -> None:
        """Lets all workers know how the models stand, and those that come. Any thread."""
        self._told = {"kind": TOLD, "told": told, "series": series}
        for channel in list(self._channels.values()):
            channel.send(**self._told)

    def _next(self) -> _Event:
        """The next event; woken now and then, because only this thread runs Python's signal handlers."""
        while True:
            with contextlib.suppress(queue.Empty):
                return self._events.get(timeout=0.2)

    def _start(self, command: list[str]) -> int:
        worker = next(self._numbers)
        ours, theirs = socket.socketpair()
        listeners = [opened.fileno() for opened in self._sockets]
        slot = self._slots[worker] = self._board.take()
        numbers = [theirs.fileno(), self._alive_read, self._board.file]
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments, no shell
            [*command[:-1], ",".join(map(str, listeners)), *map(str, (*numbers, slot))],
            pass_fds=[*listeners, *numbers],
            # Arguments can be read by every user of the machine, and a registry's address may hold a password.
            env={**os.environ, **pools(machine.cores() // self.count), SETTINGS: command[-1]},
            start_new_session=True,
        )
        theirs.close()
        self._processes[worker] = process
        self._channels[worker] = Channel(ours)
        self._started[worker] = time.monotonic()
        threading.Thread(target=self._watch, args=(worker, process), daemon=True).start()
        return worker

    def _watch(self, worker: int, process: subprocess.Popen[bytes]) -> None:
        for message in self._channels[worker].messages():
            self._events.put(_Event("said", worker, message=message))
        self._events.put(_Event("ended", worker, process.wait()))

    def _hear(self, worker: int, message: Message, accepting: Callable[[str], None]) -> None:
        channel = self._channels.get(worker)
        if channel is None:
            return
        if message["kind"] == LOADED:
            self._hear_loaded(worker, channel, Report(message["failed"], message["known"]))
        elif message["kind"] == ACCEPTING:
            self._ready.add(worker)
            if self._ready >= self._current and not (self._announced or self._stopping):
                self._announced = True
                accepting(message["said"])
            self._part()
        elif message["kind"] == LEFT:
            self._gone(worker)
        elif message["kind"] == ASK:

            def reply(good: bool, told: dict[str, Any]) -> None:
                channel.send(kind=ANSWER, number=message["number"], good=good, told=told)

            self.ask(Asked(message["verb"], message["name"], reply))

    def _hear_loaded(self, worker: int, channel: Channel, report: Report) -> None:
        if self._told:
            channel.send(**self._told)
        if worker in self._current:
            if self._report is None:
                self._report = report
                self._reported.set()
            channel.send(kind=GO)
        elif (change := self._change) is not None and worker in change.workers:
            change.loaded.add(worker)
            if wrong := change.judge(report):
                self._give_up(wrong)
            elif len(change.loaded) == self.count:
                self._report = report
                self._take_over(change)

    def _begin(self, change: Change) -> None:
        if self._stopping or not self._announced or self._parting is not None:
            change.done.put("the server is starting or stopping")
            return
        self._change = change
        change.workers = {self._start(change.command) for _ in range(self.count)}
        self._later(change.seconds, _Event("late", min(change.workers)))

    def _take_over(self, change: Change) -> None:
        """Others serve from here on; those before finish what they have begun."""
        self._change, self._parting = None, change
        change.before = self._current & set(self._channels)
        self._command, self._current = change.command, change.workers
        for worker in self._current:
            self._channels[worker].send(kind=GO)

    def _part(self) -> None:
        """When all of those that serve from here on let requests in, those before need not."""
        if self._parting is not None and self._ready >= self._current:
            for worker in self._parting.before:
                self._channels[worker].send(kind=LEAVE)
            self._gone()

    def _gone(self, worker: int = -1) -> None:
        """It lets nobody in any more. When that is true of all before, the change is done."""
        if self._parting is not None:
            self._parting.before.discard(worker)
            if not self._parting.before:
                self._parting.done.put("")
                self._parting = None

    def _give_up(self, wrong: str) -> None:
        """Those who were to take over end, whatever they are in."""
        change, self._change = self._change, None
        if change is not None:
            for worker in change.workers & set(self._processes):
                with contextlib.suppress(ProcessLookupError):
                    self._processes[worker].kill()
            change.done.put(wrong)

    def _end(self, event: _Event) -> int:
        """A worker has ended. Returns the exit code, where that ends all."""
        worker = event.worker
        del self._processes[worker], self._channels[worker]
        self._board.leave(self._slots.pop(worker))
        if self._change is not None and worker in self._change.workers:
            self._give_up(f"the process that loaded it ended with {_how(event.code)}")
        self._gone(worker)
        if worker not in self._current:
            return 0
        self._current.discard(worker)
        if not self._stopping and not self._announced:
            self._stopping = True
            self._signal(signal.SIGTERM)
            return event.code or 1
        if not self._stopping:
            self._replace(event)
        return 0

    def _replace(self, event: _Event) -> None:
        """Another worker for one that died; one that keeps dying is hurried less and less."""
        print(f"A worker ended with {_how(event.code)}; starting another", file=sys.stderr, flush=True)
        lived = time.monotonic() - self._started.pop(event.worker)
        pause = 0.0 if lived > _STABLE_SECONDS else self._pauses.get(event.worker, 0.0)
        self._pauses[event.worker] = min(_LONGEST_PAUSE, max(_FIRST_PAUSE, 2 * pause))
        self._later(pause, _Event("start", event.worker))

    def _later(self, seconds: float, event: _Event) -> None:
        timer = threading.Timer(seconds, self._events.put, [event])
        timer.daemon = True
        timer.start()

    def _stop(self, number: int, *, again: bool) -> None:
        """Tells the workers to finish; told again, ends them."""
        delay = 0.0 if number == signal.SIGINT else self._drain_delay
        self._later(delay, _Event("shut"))
        self._signal(signal.SIGKILL if again else number)
        self._give_up("the server is stopping")
        if self._parting is not None:
            self._parting.done.put("")

    def _signal(self, number: int) -> None:
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def pools(cores: int) -> dict[str, str]:
    """Environment for a process whose libraries should use so many threads; what the user has set stands."""
    names = [f"{pool}_NUM_THREADS" for pool in _POOLS]
    return {name: str(max(1, cores)) for name in names if name not in os.environ}
