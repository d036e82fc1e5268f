"""A request's rows on their way to the model: how long they may take, who is told what became of them, their pieces."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from foretell.batch import Answers, Batch, Call
from foretell.errors import DeadlineExceeded, ForetellError
from foretell.serve.meters import Turn
from foretell.serve.protocols import Portion, Shared


class Failed:
    """Why a request got no answers. row: which of its rows is bad, where one is."""

    __slots__ = ("error", "row")

    def __init__(self, error: ForetellError, row: int | None = None) -> None:
        self.error = error
        self.row = row


Outcome = Portion | Failed


class Waiting(msgspec.Struct, eq=False):
    """One request's rows on their way. deadline: by the monotonic clock. patience: seconds that it was given in all.
    since: when it began to wait. done: called once, on the loop, with answers or why there are none. owner: whose they
    are. taken: how many of its rows the model got. turn: the call that answers it; of one that is cut, from the first
    to the last. parts: answers to its first rows. Whole, it is its own piece."""

    batch: Batch
    call: Call
    deadline: float
    patience: float
    since: float
    done: Callable[["Waiting", Outcome], None]
    owner: Any
    start: int = 0
    taken: int = 0
    turn: Turn | None = None
    answered: bool = False
    parts: Sequence[Answers] = ()

    @property
    def waiting(self) -> "Waiting":
        return self

    def cut(self, rows: int) -> "Piece":
        """Its next rows, of which there are so many."""
        start, self.taken = self.taken, self.taken + rows
        return Piece(self, self.batch[start : self.taken], start)

    def answer(self, outcome: Outcome) -> None:
        if not self.answered:
            self.answered = True
            self.done(self, outcome)

    def hurry(self, deadline: float) -> None:
        """Brings the deadline forward, unless the model has it already."""
        if not self.taken:
            self.deadline = min(self.deadline, deadline)

    def expire(self) -> None:
        self.answer(Failed(DeadlineExceeded(f"no answer within {self.patience:g} s")))


class Piece:
    """Some of a request's rows, that share a batch with others. start: the first one's number in the request."""

    __slots__ = ("batch", "start", "waiting")

    def __init__(self, waiting: Waiting, batch: Batch, start: int) -> None:
        self.waiting = waiting
        self.batch = batch
        self.start = start

    @property
    def since(self) -> float:
        return self.waiting.since

    @property
    def turn(self) -> Turn | None:
        return self.waiting.turn

    @turn.setter
    def turn(self, turn: Turn) -> None:
        self.waiting.turn = turn

    def answer(self, outcome: Outcome) -> None:
        """With the last of its pieces a request is answered."""
        waiting = self.waiting
        if isinstance(outcome, Failed):
            waiting.answer(outcome)
            return
        waiting.parts = [*waiting.parts, outcome.answers]
        if waiting.taken == waiting.batch.rows:
            waiting.answer(Portion(Shared(Answers.concat(waiting.parts)), 0, waiting.taken))


Part = Waiting | Piece
