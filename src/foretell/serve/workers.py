"""Several server processes on the same listeners: the parent binds, spawns and watches; the workers serve.

Workers are spawned, not forked: libraries with thread pools of their own hang in a forked child.
"""

import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from foretell import machine
from foretell.serve.board import Board
from foretell.serve.sockets import shut

_STABLE_SECONDS = 30.0
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_SPARE = 4
"""Slots on the board beside one a worker."""
_POOLS = ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR", "VECLIB")
"""Libraries whose threads are counted by a variable NAME_NUM_THREADS."""


@dataclass(frozen=True)
class _Event:
    """kind: ready, ended, start, stop, or shut; worker: its number; code: how it ended, or the signal that stops all;
    said: what it says when ready."""

    kind: str
    worker: int = 0
    code: int = 0
    said: str = ""


class Supervisor:
    """Keeps count workers running. command: what starts one, to which its listeners' and pipes' numbers are added.
    drain_delay: seconds for which they still accept after SIGTERM."""

    def __init__(self, command: list[str], sockets: list[socket.socket], count: int, drain_delay: float) -> None:
        self._command = command
        self._sockets = sockets
        self._count = count
        self._drain_delay = drain_delay
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._started: dict[int, float] = {}
        self._board = Board.made(count + _SPARE)
        self._slots: dict[int, int] = {}
        self._pause: dict[int, float] = {}
        self._alive_read, self._alive_write = os.pipe()

    def run(self, accepting: Callable[[str], None]) -> int:
        """Runs until SIGTERM or SIGINT and returns the exit code: 0, or that of a worker that could not start.

        accepting: called once all workers take requests, with what they say.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: self._events.put(_Event("stop", code=number)))
        for worker in range(self._count):
            self._start(worker)
        ready: set[int] = set()
        stopping = announced = False
        code = 0
        while self._processes or not stopping:
            event = self._next()
            if event.kind == "ready":
                ready.add(event.worker)
                if len(ready) == self._count and not announced and not stopping:
                    announced = True
                    accepting(event.said)
            elif event.kind == "stop":
                self._stop(event.code, again=stopping)
                stopping = True
            elif event.kind == "shut":
                shut(self._sockets)
            elif event.kind == "start" and not stopping:
                self._start(event.worker)
            elif event.kind == "ended":
                del self._processes[event.worker]
                self._board.leave(self._slots[event.worker])
                if not stopping and not announced:
                    code, stopping = event.code or 1, True
                    self._signal(signal.SIGTERM)
                elif not stopping:
                    self._replace(event)
        return code

    def _next(self) -> _Event:
        """The next event; woken now and then, because only this thread runs Python's signal handlers."""
        while True:
            with contextlib.suppress(queue.Empty):
                return self._events.get(timeout=0.2)

    def _start(self, worker: int) -> None:
        ready_read, ready_write = os.pipe()
        listeners = [opened.fileno() for opened in self._sockets]
        slot = self._slots[worker] = self._board.take()
        shown = self._board.file
        numbers = [*listeners, ready_write, self._alive_read, shown]
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments, no shell
            [*self._command, ",".join(map(str, listeners)), *map(str, (ready_write, self._alive_read, shown, slot))],
            pass_fds=numbers,
            env={**os.environ, **pools(machine.cores() // self._count)},
            start_new_session=True,
        )
        os.close(ready_write)
        self._processes[worker] = process
        self._started[worker] = time.monotonic()
        threading.Thread(target=self._watch, args=(worker, process, ready_read), daemon=True).start()

    def _watch(self, worker: int, process: subprocess.Popen[bytes], ready: int) -> None:
        with os.fdopen(ready, "rb") as pipe:
            if said := pipe.read():
                self._events.put(_Event("ready", worker, said=said.decode()))
        self._events.put(_Event("ended", worker, process.wait()))

    def _replace(self, event: _Event) -> None:
        """Another worker for one that died; one that keeps dying is hurried less and less."""
        how = f"signal {-event.code}" if event.code < 0 else f"exit code {event.code}"
        print(f"A worker ended with {how}; starting another", file=sys.stderr, flush=True)
        if time.monotonic() - self._started[event.worker] > _STABLE_SECONDS:
            self._pause[event.worker] = 0.0
        pause = self._pause.get(event.worker, 0.0)
        self._pause[event.worker] = min(_LONGEST_PAUSE, max(_FIRST_PAUSE, 2 * pause))
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

    def _signal(self, number: int) -> None:
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)


def pools(cores: int) -> dict[str, str]:
    """Environment for a process whose libraries should use so many threads; what the user has set stands."""
    names = [f"{pool}_NUM_THREADS" for pool in _POOLS]
    return {name: str(max(1, cores)) for name in names if name not in os.environ}


def inherited(listeners: str, ready: int, alive: int) -> tuple[list[socket.socket], Callable[[str], None]]:
    """In a worker: the listeners, and what to call, with a word for the parent, once it accepts."""
    threading.Thread(target=_end_with_parent, args=(alive,), daemon=True).start()

    def accepting(said: str) -> None:
        with os.fdopen(ready, "wb") as pipe:
            pipe.write(said.encode())

    return [socket.socket(fileno=int(number)) for number in listeners.split(",")], accepting


def _end_with_parent(alive: int) -> None:
    os.read(alive, 1)
    os.kill(os.getpid(), signal.SIGTERM)
