"""Gathers requests into batches, by nature and not by timer: a batch is what arrived while the last one ran.

A cheap batch runs on the event loop itself; one that would hold it up, or that may hang, on the one engine thread.
"""

import asyncio
import itertools
from collections import defaultdict, deque
from collections.abc import Callable
from time import monotonic
from typing import Any

from foretell.batch import Batch, Call
from foretell.errors import ForetellError, Overloaded, PredictionError
from foretell.predictor import Predictor
from foretell.serve.meters import Meter, Turn
from foretell.serve.one_thread import OneThread
from foretell.serve.protocols import Portion, Shared
from foretell.serve.waiting import Failed, Outcome, Part, Waiting

_INLINE_SECONDS = 0.0005
_BITE, _BITE_SECONDS = 64, 0.0001
"""So many requests do not wait for more if a call is that quick: what is known of them would leave the cache."""
_SWEEP_SECONDS = 0.02
_LONG_SECONDS = 0.05
_LEAST_ROWS = 256
_HUNG_SECONDS = 1.0


QUEUE, HANGS = "queue_full", "model_hangs"
FULL = {
    QUEUE: Overloaded("too many requests wait already", "Try again, or more slowly", full=QUEUE),
    HANGS: Overloaded("the model has not come back from a call", "Try again later", full=HANGS),
}


Found = Shared | list[Outcome]
"""The answers to a batch; or an outcome a piece, where some failed."""


class Batcher:
    """Runs one model. max_rows: of a batch. delay: seconds for which a batch may wait for more rows. most: requests
    that wait. usual: what most of them ask for. each: told of the answers to a batch of which every request has one
    row. meter: counts what the model did. beside: whether the model runs on the engine thread even if it is quick, as
    its code may do anything."""

    def __init__(
        self,
        predictor: Predictor,
        loop: asyncio.AbstractEventLoop,
        *,
        max_rows: int,
        delay: float,
        most: int,
        timeout: float,
        usual: Call,
        each: Callable[[list[Part], Shared], None],
        meter: Meter,
        beside: Callable[[], bool],
    ) -> None:
        self._predictor = predictor
        self._loop = loop
        self._max_rows = max_rows
        self._delay = delay
        self._most = most
        self._timeout = timeout
        self._each = each
        self._meter = meter
        self._beside = beside
        self._lines: dict[tuple[Call, Any], deque[Waiting]] = defaultdict(deque)
        self._usual = usual
        self._usual_line = self._lines[usual, ()]
        self._alike = predictor.signature.tabular
        self._count = 0
        self._rows = 0
        self.running: list[Part] = []
        self._since = 0.0
        self._turn_at: asyncio.Handle | None = None
        self._sweeping = False
        self._thread = OneThread("engine", loop)

    @property
    def queued(self) -> int:
        """Requests that wait, and of which the model has not had all."""
        return self._count

    @property
    def hung(self) -> float:
        """For how many seconds the model has not come back from a call that everybody has given up; else 0."""
        late = monotonic() - self._since - self._timeout - _HUNG_SECONDS if self.running else 0.0
        return max(0.0, late)

    def full(self) -> str:
        """Why no request can be taken now: one of FULL, or "" if one can."""
        if self._count >= self._most:
            return QUEUE
        return HANGS if self.running and self.hung else ""

    def submit(self, waiting: Waiting) -> None:
        """Queues rows, for which there is room; they are answered later, or when their time is up."""
        batch = waiting.batch
        if self._alike and waiting.call is self._usual:
            self._usual_line.append(waiting)
        else:
            self._lines[waiting.call, batch.shapes].append(waiting)
        self._count += 1
        self._rows += batch.rows
        if not self.running:
            if self._turn_at is None:
                self._turn_at = self._soon()
            elif self._delay:
                if self._rows >= self._max_rows:
                    self._turn_at.cancel()
                    self._turn_at = self._loop.call_soon(self._turn)
            elif self._count == _BITE and self._predictor.cost.of(self._rows) < _BITE_SECONDS:
                self._turn_at.cancel()
                self._turn()

    def close(self) -> None:
        self._thread.close()

    def _soon(self) -> asyncio.Handle:
        if self._delay and self._rows < self._max_rows:
            return self._loop.call_later(self._delay, self._turn)
        return self._loop.call_soon(self._look_again)

    def _look_again(self) -> None:
        """Once more through the loop: what has arrived meanwhile comes along."""
        self._turn_at = self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Runs what has gathered."""
        self._turn_at = None
        pieces, rows = self._gather()
        if not pieces:
            self._again()
            return
        if self._predictor.cost.of(rows) < _INLINE_SECONDS and not self._beside():
            self._deliver(pieces, *self._call(pieces, rows))
            self._again()
            return
        self.running, self._since = pieces, monotonic()
        self._watch()
        self._thread.run(lambda: self._call(pieces, rows), self._finished)

    def _call(self, pieces: list[Part], rows: int) -> tuple[Found, Turn]:
        began = monotonic()
        found = _found(self._predictor, pieces)
        return found, Turn(began, monotonic(), rows, len(pieces))

    def _finished(self, called: tuple[Found, Turn]) -> None:
        pieces, self.running = self.running, []
        self._deliver(pieces, *called)
        self._again()

    def _deliver(self, pieces: list[Part], found: Found, turn: Turn) -> None:
        self._meter.ran(pieces, turn)
        if isinstance(found, Shared):
            if turn.rows == turn.requests:
                self._each(pieces, found)
                return
            found = _portions(pieces, found)
        for piece, outcome in zip(pieces, found, strict=True):
            piece.answer(outcome)

    def _again(self) -> None:
        if self._count and self._turn_at is None:
            self._turn_at = self._soon()

    def _gather(self) -> tuple[list[Part], int]:
        """The longest waiting rows that may share a batch, and how many they are. Lines take turns; those given up or
        too late drop out."""
        now = monotonic()
        if len(self._lines) == 1:
            return self._from(self._usual_line, now)
        for key in list(self._lines):
            line = self._lines.pop(key)
            pieces, rows = self._from(line, now)
            if line or line is self._usual_line:
                self._lines[key] = line
            if pieces:
                return pieces, rows
        return [], 0

    def _from(self, line: deque[Waiting], now: float) -> tuple[list[Part], int]:
        """Takes rows from a line. One with more than a batch holds gives a part of them, and goes behind the others."""
        rowwise = self._predictor.rowwise
        room = most = self._most_rows() if rowwise else max((waiting.batch.rows for waiting in line), default=0)
        pieces: list[Part] = []
        while line and room > 0 and (rowwise or not pieces):
            waiting = line.popleft()
            given = waiting.taken
            left = waiting.batch.rows - given
            if waiting.answered or waiting.deadline <= now:
                self._count -= 1
                self._rows -= left
                waiting.expire()
                continue
            if pieces and room < left <= most:
                line.appendleft(waiting)
                break
            if left > room:
                pieces.append(waiting.cut(room))
                line.append(waiting)
                left = room
            else:
                self._count -= 1
                if given:
                    pieces.append(waiting.cut(left))
                else:
                    waiting.taken = left
                    pieces.append(waiting)
            room -= left
        self._rows -= most - room
        return pieces, most - room

    def _most_rows(self) -> int:
        """How many rows a batch may have, so that it does not take long."""
        each = self._predictor.cost.each
        quick = int(_LONG_SECONDS / each) if each else 0
        return min(self._max_rows, max(_LEAST_ROWS, quick))

    def _watch(self) -> None:
        if not self._sweeping:
            self._sweeping = True
            self._loop.call_later(_SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        """Answers what has waited too long. A model call that runs cannot be stopped; its answer is dropped."""
        self._sweeping = False
        now = monotonic()
        waiting = [piece.waiting for piece in self.running]
        for each in itertools.chain(waiting, *self._lines.values()):
            if each.deadline <= now:
                each.expire()
        if self.running:
            self._watch()


def _found(predictor: Predictor, pieces: list[Part]) -> Found:
    """The answers to all of them. Where the model fails on them together, they are halved apart until the bad ones
    stand alone, and these learn which of their rows is bad."""
    call = pieces[0].waiting.call
    try:
        batch = Batch.concat([piece.batch for piece in pieces])
        return Shared(predictor.predict(batch, call))
    except ForetellError as error:
        if len(pieces) == 1:
            return [_located(predictor, pieces[0], error)]
        middle = len(pieces) // 2
        return _outcomes(predictor, pieces[:middle]) + _outcomes(predictor, pieces[middle:])
    except Exception as error:
        failed = PredictionError(f"the prediction failed: {type(error).__name__}")
        failed.__cause__ = error
        return [Failed(failed)] * len(pieces)


def _outcomes(predictor: Predictor, pieces: list[Part]) -> list[Outcome]:
    found = _found(predictor, pieces)
    return _portions(pieces, found) if isinstance(found, Shared) else found


def _portions(pieces: list[Part], shared: Shared) -> list[Outcome]:
    outcomes: list[Outcome] = []
    at = 0
    for piece in pieces:
        start, at = at, at + piece.batch.rows
        outcomes.append(Portion(shared, start, at))
    return outcomes


def _located(predictor: Predictor, piece: Part, error: ForetellError) -> Failed:
    if piece.batch.rows == 1:
        return Failed(error, piece.start if predictor.rowwise else None)
    bad = predictor.first_bad(piece.batch, piece.waiting.call, error)
    return Failed(error) if bad is None else Failed(bad[1], piece.start + bad[0])
