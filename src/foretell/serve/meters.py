"""What a served model did, counted as it happens: plain numbers of this process, for a request takes microseconds.

Only the event loop's thread counts here. What the counts are called, and what they mean, stands in `figures`.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from foretell.serve.exchange import Reply

if TYPE_CHECKING:
    from foretell.serve.waiting import Part

SECONDS = (*(float(f"{digit}e{power}") for power in range(-5, 2) for digit in (1, 2.5, 5)), 100.0)
"""Upper edges of the buckets of durations."""

ROWS = tuple(float(2**power) for power in range(17))
"""Upper edges of the buckets of batches' rows."""


NO_VERSION = "none"
"""In the place of a version, where no model could be loaded yet."""


class Histogram:
    """How often a value lay between two edges. note: takes a value, for `settle` to find its bucket: of many at once
    that costs a fifth."""

    __slots__ = ("_counts", "_edges", "_noted", "_total", "note")

    def __init__(self, edges: tuple[float, ...]) -> None:
        self._edges = np.array(edges)
        self._counts = np.zeros(len(edges) + 1, int)
        self._total = 0.0
        self._noted: list[float] = []
        self.note = self._noted.append

    def settle(self) -> None:
        """Takes no more memory for what was noted."""
        if self._noted:
            noted = np.array(self._noted)
            self._noted.clear()
            self._counts += np.bincount(np.searchsorted(self._edges, noted), minlength=len(self._counts))
            self._total += float(noted.sum())

    @property
    def counts(self) -> list[int]:
        """By bucket, the last for what is over every edge."""
        self.settle()
        counts: list[int] = self._counts.tolist()
        return counts

    @property
    def total(self) -> float:
        """The sum of all values."""
        self.settle()
        return self._total


class Turn:
    """One call of the model: when it began and ended, by the monotonic clock, and the rows and requests in it."""

    __slots__ = ("began", "ended", "requests", "rows")

    def __init__(self, began: float, ended: float, rows: int, requests: int) -> None:
        self.began = began
        self.ended = ended
        self.rows = rows
        self.requests = requests


class Meter:
    """Of one version of a model. begun: requests whose head had come. abandoned: whose client went before the answer.
    others: answers that are not 200, by status and reason. rows: that the model was given."""

    __slots__ = (
        "abandoned",
        "batch",
        "begun",
        "compute",
        "good",
        "model",
        "others",
        "queue",
        "rows",
        "version",
        "whole",
    )

    def __init__(self, model: str, version: str) -> None:
        self.model = model
        self.version = version
        self.begun = self.abandoned = self.good = self.rows = 0
        self.others: dict[tuple[int, str], int] = defaultdict(int)
        self.batch = Histogram(ROWS)
        self.queue, self.compute, self.whole = (Histogram(SECONDS) for _ in range(3))

    @property
    def in_flight(self) -> int:
        """Requests that have begun and are owed an answer."""
        return self.begun - self.abandoned - self.good - sum(self.others.values())

    def answered(self, reply: Reply, seconds: float) -> None:
        """A request has its answer, so long after its head had come."""
        if reply.status == 200:
            self.good += 1
        else:
            self.others[reply.status, reply.note] += 1
        self.whole.note(seconds)

    def ran(self, pieces: "Iterable[Part]", turn: Turn) -> None:
        """The model was called. What waited for it learns so; a request that is cut has waited for its first call."""
        began, note = turn.began, self.queue.note
        for piece in pieces:
            before = piece.turn
            if before is None:
                piece.turn = turn
                note(began - piece.since)
            else:
                piece.turn = Turn(before.began, turn.ended, turn.rows, turn.requests)
        self.rows += turn.rows
        self.batch.note(turn.rows)
        self.compute.note(turn.ended - began)

    def settle(self) -> None:
        """Called now and then, so that what is noted does not become much."""
        for histogram in (self.batch, self.queue, self.compute, self.whole):
            histogram.settle()
