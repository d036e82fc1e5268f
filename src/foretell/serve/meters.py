"""What a served model did, counted as it happens: plain numbers of this process, for a request takes microseconds.

Only the event loop's thread counts here. What the counts are called, and what they mean, stands in `figures`.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from foretell.serve.exchange import Reply

if TYPE_CHECKING:
    from foretell.serve.waiting import Part

SECONDS = (*(float(f"{digit}e{power}") for power in range(-5, 2) for digit in (1, 2.5, 5)), 100.0)
"""Upper edges of the buckets of durations."""

ROWS = tuple(2**power for power in range(17))
"""Upper edges of the buckets of batches' rows."""


NO_VERSION = "none"
"""In the place of a version, where no model could be loaded yet."""


class Histogram:
    """Counts by bucket, the last for what is over every edge, and the sum of all that was counted."""

    __slots__ = ("counts", "total")

    def __init__(self, edges: tuple[float, ...]) -> None:
        self.counts = [0] * (len(edges) + 1)
        self.total = 0.0


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
        whole = self.whole
        whole.counts[bisect_left(SECONDS, seconds)] += 1
        whole.total += seconds

    def ran(self, pieces: "Iterable[Part]", turn: Turn) -> None:
        """The model was called. What waited for it learns so; a request that is cut has waited for its first call."""
        began, queue = turn.began, self.queue
        counts, total = queue.counts, 0.0
        for piece in pieces:
            before = piece.turn
            if before is None:
                piece.turn = turn
                waited = began - piece.since
                counts[bisect_left(SECONDS, waited)] += 1
                total += waited
            else:
                piece.turn = Turn(before.began, turn.ended, turn.rows, turn.requests)
        queue.total += total
        rows, took = turn.rows, turn.ended - began
        self.rows += rows
        batch, compute = self.batch, self.compute
        batch.counts[min((rows - 1).bit_length(), len(ROWS))] += 1
        batch.total += rows
        compute.counts[bisect_left(SECONDS, took)] += 1
        compute.total += took
