"""Work that requests leave behind: a thread of its own does it, some at a time, and what there is no room for is
dropped. Nothing here ever keeps the event loop waiting."""

import sys
import threading
from collections import Counter, deque
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from foretell.serve.counts import Counts

Item = TypeVar("Item")

_QUIET_SECONDS = 60.0
DROPPED, FAILED = "dropped", "failed"


class Backlog(Generic[Item]):
    """what: it is called. metric: that counts what became of items, by outcome. work: does some, and returns how many
    of what the metric counts came to what; also called with none, every so many seconds. last: called at the end. most:
    what may wait, in all items' weights. enough: so many items are not left waiting. labels: the metric's, before the
    outcome."""

    def __init__(
        self,
        what: str,
        metric: str,
        work: Callable[[list[Item]], dict[str, int]],
        *,
        most: int,
        enough: int,
        every: float,
        last: Callable[[], dict[str, int]] = dict,
        labels: tuple[str, ...] = (),
    ) -> None:
        self._what = what
        self._metric = metric
        self._work = work
        self._most = most
        self._enough = enough
        self._every = every
        self._last = last
        self._labels = labels
        self._items: deque[tuple[Item, int, int]] = deque()
        self._came = self._went = self._dropped = 0
        self._became: Counter[str] = Counter()
        self._told: Counter[str] = Counter()
        self._complained = -_QUIET_SECONDS
        self._closing = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=what, daemon=True)
        self._thread.start()

    def put(self, item: Item, weight: int = 1, count: int = 1) -> None:
        """On the loop. count: of what the metric counts."""
        if self._came - self._went + weight > self._most:
            self._dropped += count
            return
        self._came += weight
        self._items.append((item, weight, count))
        if len(self._items) == self._enough:
            self._wake.set()

    def look(self, counts: "Counts") -> None:
        """Counts what came of it since. On the loop."""
        for outcome, total in (*dict(self._became).items(), (DROPPED, self._dropped)):
            if more := total - self._told[outcome]:
                self._told[outcome] = total
                counts.count(self._metric, *self._labels, outcome, by=more)

    def complain(self, text: str) -> None:
        """Of what will not be better the next time: seldom."""
        if monotonic() - self._complained > _QUIET_SECONDS:
            self._complained = monotonic()
            print(f"note: {text}", file=sys.stderr, flush=True)

    def close(self, seconds: float) -> bool:
        """Nothing comes any more: what waits is done, if that does not take longer. Returns whether it was."""
        self._closing = True
        self._wake.set()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _serve(self) -> None:
        while True:
            self._wake.wait(self._every)
            self._wake.clear()
            closing = self._closing
            while self._items:
                self._do([self._items.popleft() for _ in range(min(self._enough, len(self._items)))])
            self._do([])
            if closing:
                self._became.update(self._last())
                return

    def _do(self, taken: list[tuple[Item, int, int]]) -> None:
        try:
            became = self._work([item for item, _, _ in taken])
        except Exception as error:
            self.complain(f"{self._what} failed: {type(error).__name__}: {str(error)[:200]}")
            became = {FAILED: sum(count for _, _, count in taken)}
        self._became.update(became)
        self._went += sum(weight for _, weight, _ in taken)
