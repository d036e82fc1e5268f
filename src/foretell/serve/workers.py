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

_STABLE_SECONDS = 5.0
_RETRY_SECONDS = 1.0


@dataclass(frozen=True)
class _Event:
    """kind: ready, ended, start, or stop; worker: its number; code: how it ended; said: what it says when ready."""

    kind: str
    worker: int = 0
    code: int = 0
    said: str = ""


class Supervisor:
    """Keeps count workers running. command: what starts one, to which its listeners' and pipes' numbers are added."""

    def __init__(self, command: list[str], sockets: list[socket.socket], count: int) -> None:
        self._command = command
        self._sockets = sockets
        self._count = count
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._started: dict[int, float] = {}
        self._alive_read, self._alive_write = os.pipe()

    def run(self, accepting: Callable[[str], None]) -> int:
        """Runs until SIGTERM or SIGINT and returns the exit code: 0, or that of a worker that could not start.

        accepting: called once all workers take requests, with what they say.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._events.put(_Event("stop")))
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
                self._signal(signal.SIGKILL if stopping else signal.SIGTERM)
                stopping = True
            elif event.kind == "start" and not stopping:
                self._start(event.worker)
            elif event.kind == "ended":
                del self._processes[event.worker]
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
                return self._events.get(timeout=0.5)

    def _start(self, worker: int) -> None:
        ready_read, ready_write = os.pipe()
        listeners = [opened.fileno() for opened in self._sockets]
        numbers = [*listeners, ready_write, self._alive_read]
        cores = max(1, (os.cpu_count() or 1) // self._count)
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments, no shell
            [*self._command, ",".join(map(str, listeners)), str(ready_write), str(self._alive_read)],
            pass_fds=numbers,
            env={**os.environ, "OMP_NUM_THREADS": str(cores), "OPENBLAS_NUM_THREADS": str(cores)},
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
        """Another worker for one that died; one that keeps dying is not hurried."""
        how = f"signal {-event.code}" if event.code < 0 else f"exit code {event.code}"
        print(f"A worker ended with {how}; starting another", file=sys.stderr, flush=True)
        if time.monotonic() - self._started[event.worker] > _STABLE_SECONDS:
            self._start(event.worker)
        else:
            again = threading.Timer(_RETRY_SECONDS, self._events.put, [_Event("start", event.worker)])
            again.daemon = True
            again.start()

    def _signal(self, number: int) -> None:
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)


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
