"""What a server process and its parent say to each other: a line of JSON a message, over a pair of sockets."""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import msgspec

from foretell.serve import figures
from foretell.serve.absent import Absent
from foretell.serve.door import Door
from foretell.serve.follower import Asked

Message = dict[str, Any]

LOADED, ACCEPTING, ASK, LEFT = "loaded", "accepting", "ask", "left"
"""What a worker says: its models have been tried; it takes requests; somebody wants something; it takes no more."""
GO, LEAVE, ANSWER, TOLD = "go", "leave", "answer", "told"
"""What the parent says: take requests; take no more, and end; what became of what was asked; how models stand."""


class Channel:
    """One end. Any thread may send."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._lock = threading.Lock()

    def send(self, **message: Any) -> None:
        """To nobody, where the other end is gone."""
        line = msgspec.json.encode(message) + b"\n"
        with self._lock, contextlib.suppress(OSError):
            self._end.sendall(line)

    def messages(self) -> Iterator[Message]:
        """As they come, until the other end is gone."""
        with contextlib.suppress(OSError), self._end, self._end.makefile("rb") as lines:
            for line in lines:
                yield msgspec.json.decode(line)


class Parent:
    """What a worker knows its parent by. leave: to end gently; set when there is a server."""

    def __init__(self, end: int, alive: int) -> None:
        self._channel = Channel(socket.socket(fileno=end))
        self._go = threading.Event()
        self._door: Door | None = None
        self._numbers = count()
        self._asked: dict[int, Asked] = {}
        self.leave: Callable[[], None] = lambda: None
        threading.Thread(target=_end_with, args=(alive,), daemon=True).start()
        threading.Thread(target=self._listen, daemon=True).start()

    def loaded(self, door: Door) -> None:
        """Tells what could be loaded, and waits until requests may be taken. Not on the loop."""
        self._door = door
        self.report(door)
        self._go.wait()

    def report(self, door: Door) -> None:
        """Tells what could be loaded."""
        failed, known = {}, {}
        for name in door.names:
            stand = door.stand(name)
            if isinstance(stand, Absent):
                failed[name] = stand.unready
            else:
                resolved, signature = stand.predictor.resolved, stand.predictor.signature
                known[name] = {"digest": resolved.digest, "signature": msgspec.to_builtins(signature)}
        self._channel.send(kind=LOADED, failed=failed, known=known)

    def accepting(self, said: str) -> None:
        self._channel.send(kind=ACCEPTING, said=said)

    def left(self) -> None:
        self._channel.send(kind=LEFT)

    def ask(self, asked: Asked) -> None:
        """Has done what somebody wants. Any thread."""
        number = next(self._numbers)
        self._asked[number] = asked
        self._channel.send(kind=ASK, number=number, verb=asked.verb, name=asked.name)

    def _listen(self) -> None:
        for message in self._channel.messages():
            kind = message["kind"]
            if kind == GO:
                self._go.set()
            elif kind == LEAVE:
                self.leave()
            elif kind == ANSWER:
                self._asked.pop(message["number"]).reply(message["good"], message["told"])
            elif kind == TOLD and self._door is not None:
                self._door.told = message["told"]
                self._door.counts.told = figures.listed(message["series"])


def _end_with(alive: int) -> None:
    os.read(alive, 1)
    os.kill(os.getpid(), signal.SIGTERM)
