"""The one thread that calls a model whose calls take long, or may: the event loop goes on meanwhile."""

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any


class OneThread:
    """Runs work in order, one at a time, on a thread that does not keep the process alive."""

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self._name = name
        self._loop = loop
        self._work: queue.SimpleQueue[tuple[Callable[[], Any], Callable[[Any], None]] | None] = queue.SimpleQueue()
        self._started = False

    def run(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Runs work there, which does not raise, and then, with what it returned, on the loop."""
        if not self._started:
            self._started = True
            threading.Thread(target=self._serve, name=self._name, daemon=True).start()
        self._work.put((work, then))

    def close(self) -> None:
        """Nothing that has not begun is begun any more."""
        self._work.put(None)

    def _serve(self) -> None:
        while (given := self._work.get()) is not None:
            work, then = given
            found = work()
            if self._loop.is_closed():
                return
            self._loop.call_soon_threadsafe(then, found)
            del work, then, found, given
