"""Gathers requests into batches, by nature and not by timer: a batch is what arrived while the last one ran.

A cheap batch runs on the event loop itself; one that would hold it up runs on the one engine thread.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate

from foretell.batch import Answers, Batch, Call
from foretell.errors import DeadlineExceeded, ForetellError, PredictionError
from foretell.predictor import Predictor

_INLINE_SECONDS = 0.0005
_SWEEP_SECONDS = 0.05

Outcome = Answers | ForetellError


class Waiting:
    """One request's rows on their way. done: called once, on the loop, with answers or an error, and its row."""

    __slots__ = ("answered", "batch", "call", "deadline", "done")

    def __init__(self, batch: Batch, call: Call, deadline: float, done: Callable[[Outcome, int | None], None]) -> None:
        self.batch = batch
        self.call = call
        self.deadline = deadline
        self.done = done
        self.answered = False

    def answer(self, outcome: Outcome, row: int | None = None) -> None:
        if not self.answered:
            self.answered = True
            self.done(outcome, row)


class Batcher:
    """Runs one model. max_rows: of a batch; a larger request runs alone. timeout: seconds that a request may take."""

    def __init__(self, predictor: Predictor, loop: asyncio.AbstractEventLoop, *, max_rows: int, timeout: float) -> None:
        self._predictor = predictor
        self._loop = loop
        self._max_rows = max_rows
        self._timeout = timeout
        self._queue: deque[Waiting] = deque()
        self._running: list[Waiting] = []
        self._scheduled = False
        self._sweeping = False
        self._thread = ThreadPoolExecutor(1, "engine")

    def submit(self, batch: Batch, call: Call, done: Callable[[Outcome, int | None], None]) -> Waiting:
        """Queues rows; done is called when they are answered, or when their time is up."""
        waiting = Waiting(batch, call, self._loop.time() + self._timeout, done)
        self._queue.append(waiting)
        if not self._scheduled and not self._running:
            self._scheduled = True
            self._loop.call_soon(self._turn)
        return waiting

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _turn(self) -> None:
        """Runs what has gathered."""
        self._scheduled = False
        gathered = self._gather()
        if not gathered:
            return
        rows = sum(waiting.batch.rows for waiting in gathered)
        if self._predictor.cost.of(rows) < _INLINE_SECONDS:
            _deliver(gathered, _outcomes(self._predictor, gathered))
            self._again()
            return
        self._running = gathered
        self._watch()
        future = self._thread.submit(_outcomes, self._predictor, gathered)
        future.add_done_callback(lambda done: self._loop.call_soon_threadsafe(self._finished, done))

    def _finished(self, future: "Future[list[tuple[Outcome, int | None]]]") -> None:
        gathered, self._running = self._running, []
        _deliver(gathered, future.result())
        self._again()

    def _again(self) -> None:
        if self._queue and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _gather(self) -> list[Waiting]:
        """The longest waiting requests that may share a batch; those already given up drop out."""
        gathered: list[Waiting] = []
        rows = 0
        while self._queue:
            head = self._queue[0]
            if head.answered:
                self._queue.popleft()
                continue
            if gathered and not (self._predictor.rowwise and _alike(head, gathered[0])):
                break
            if gathered and rows + head.batch.rows > self._max_rows:
                break
            gathered.append(self._queue.popleft())
            rows += head.batch.rows
        return gathered

    def _watch(self) -> None:
        if not self._sweeping:
            self._sweeping = True
            self._loop.call_later(_SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        """Answers what has waited too long. A model call that runs cannot be stopped; its answer is dropped."""
        self._sweeping = False
        now = self._loop.time()
        for waiting in (*self._running, *self._queue):
            if waiting.deadline <= now:
                waiting.answer(DeadlineExceeded(f"no answer within {self._timeout:g} s"))
        if self._running or self._queue:
            self._watch()


def _alike(one: Waiting, other: Waiting) -> bool:
    """Whether two requests may share a batch."""
    return one.call == other.call and one.batch.shapes == other.batch.shapes


def _outcomes(predictor: Predictor, gathered: list[Waiting]) -> list[tuple[Outcome, int | None]]:
    """An outcome a request: a bad one fails alone, and learns which of its rows is bad."""
    edges = list(accumulate(waiting.batch.rows for waiting in gathered))
    call = gathered[0].call
    try:
        batch = Batch.concat([waiting.batch for waiting in gathered])
        found = list(predictor.predict_apart(batch, edges, call))
        return [_located(predictor, waiting, outcome) for waiting, outcome in zip(gathered, found, strict=True)]
    except Exception as error:
        failed = PredictionError(f"the prediction failed: {type(error).__name__}")
        failed.__cause__ = error
        return [(failed, None)] * len(gathered)


def _located(predictor: Predictor, waiting: Waiting, outcome: Outcome) -> tuple[Outcome, int | None]:
    if isinstance(outcome, Answers):
        return outcome, None
    if waiting.batch.rows == 1:
        return outcome, 0 if predictor.rowwise else None
    bad = predictor.first_bad(waiting.batch, waiting.call, outcome)
    return (outcome, None) if bad is None else (bad[1], bad[0])


def _deliver(gathered: list[Waiting], outcomes: list[tuple[Outcome, int | None]]) -> None:
    for waiting, (outcome, row) in zip(gathered, outcomes, strict=True):
        waiting.answer(outcome, row)
