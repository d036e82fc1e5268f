"""One served model: its predictor, its batcher, and whether it is ready. Warms up before it says so."""

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from time import monotonic

import numpy as np

from foretell.batch import Answers, Call, Output
from foretell.errors import DeadlineExceeded, ForetellError, Overloaded, PredictionError, UsageError
from foretell.predictor import Predictor
from foretell.serve import protocols
from foretell.serve.batcher import Batcher, Failed, Outcome, Waiting
from foretell.serve.exchange import Exchange, Reply, Trail
from foretell.serve.headers import Wish, Wishes, patience
from foretell.serve.limits import Limits
from foretell.serve.meters import Meter
from foretell.serve.one_thread import OneThread
from foretell.serve.openapi import Described
from foretell.serve.problems import refusal
from foretell.serve.protocols import Ask, BodyDecoder, Portion, Shared

_WARM_UPS = 3
_LARGE = 256 << 10
_MANY_ROWS = 10_000

Done = Callable[[Exchange, Reply], None]


class Service:
    """A model behind requests. name: under which it is served, else its own. version: its number, else how its digest
    begins; every answer that it gives says it. debug: errors carry their traceback. watched: whether somebody wants to
    know what became of each request. samples: what the model answered to its example, without and with probabilities,
    as far as it did."""

    def __init__(self, predictor: Predictor, limits: Limits, *, name: str = "", debug: bool = False) -> None:
        resolved = predictor.resolved
        self.predictor = predictor
        self.limits = limits
        self.version = str(resolved.version or resolved.digest.removeprefix("sha256:")[:12]).encode()
        self.meter = Meter(name or resolved.name, self.version.decode())
        self.draining = self.watched = False
        self._debug = debug
        self._wishes = Wishes()
        self._decoder = BodyDecoder(predictor, limits.body)
        self.samples: tuple[Answers, ...] = ()

    def warm_up(self) -> None:
        """Predicts the example row a few times, so that the first request does not pay for it. Whether the model can
        answer a made-up row is its own affair."""
        params = self.predictor.signature.call_params({})
        with contextlib.suppress(ForetellError):
            for _ in range(_WARM_UPS):
                answers = self.predictor.rehearse(Call(False, params))
            self.samples = (answers,)
            if self.predictor.engine.proba:
                self.samples += (self.predictor.rehearse(Call(True, params)),)

    def described(self, path: str, ready: str = "") -> Described:
        """What is to be known of the model. path: where its requests are sent. ready: of its health, "" for none."""
        predictor = self.predictor
        return Described(
            self.meter.model,
            self.version.decode(),
            predictor.signature,
            predictor.example_rows(),
            self.samples,
            predictor.engine.proba,
            path,
            ready,
        )

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """From here on requests are taken, on this loop."""
        limits = self.limits
        self._desk = OneThread("bodies", loop)
        self._batcher = Batcher(
            self.predictor,
            loop,
            max_rows=limits.batch_rows,
            delay=limits.queue_delay,
            most=limits.queue,
            timeout=limits.timeout,
            usual=self._decoder.calls[False],
            meter=self.meter,
            beside=self._may_do_anything,
        )

    def close(self) -> None:
        self._batcher.close()
        self._desk.close()

    @property
    def unready(self) -> str:
        """Why no new requests should be sent here; "" if they should."""
        if self.draining:
            return "the server is stopping"
        return "the model has not come back from a call" if self._batcher.hung else ""

    @property
    def queued(self) -> int:
        """Requests that wait for the model."""
        return self._batcher.queued

    @property
    def stuck(self) -> float:
        """For how many seconds the model has been lost in a call; only another process can help then."""
        return self._batcher.hung

    def invoke(self, exchange: Exchange, done: Done) -> None:
        """Answers one request by calling done, on the loop, at once or later."""
        try:
            if self._batcher.running and self._batcher.hung:
                raise Overloaded("the model has not come back from a call", "Try again later", full="model_hangs")
            if exchange.patience:
                exchange.seconds = patience(exchange, self.limits.timeout)
            exchange.deadline = monotonic() + exchange.seconds
            wish = self._wishes.of(exchange)
            body = exchange.take_body()
            if wish.codec or len(body) > _LARGE:
                self._desk.run(partial(self._read, body, wish), partial(self._submit, exchange, done))
                return
        except ForetellError as error:
            done(exchange, self.refused(error))
            return
        self._submit(exchange, done, self._read(body, wish))

    def refused(self, error: ForetellError) -> Reply:
        """The reply that says what is wrong."""
        return refusal(error, debug=self._debug)

    def _read(self, body: bytes, wish: Wish) -> Ask | ForetellError:
        try:
            return self._decoder.read(body, wish)
        except ForetellError as error:
            return error
        except Exception as error:
            failed = PredictionError(f"the body could not be read: {type(error).__name__}")
            failed.__cause__ = error
            return failed

    def _submit(self, exchange: Exchange, done: Done, ask: Ask | ForetellError) -> None:
        if exchange.abandoned:
            return
        if isinstance(ask, ForetellError):
            done(exchange, self.refused(ask))
            return
        try:
            batch = ask.batch if ask.batch.rows else self.predictor.example()
            answer = partial(self._reply, exchange, done, ask)
            waiting = Waiting(batch, ask.call, exchange.deadline, exchange.seconds, answer)
            self._batcher.submit(waiting)
            exchange.waiting = waiting
        except ForetellError as error:
            done(exchange, self.refused(error))

    def _reply(self, exchange: Exchange, done: Done, ask: Ask, outcome: Outcome) -> None:
        waiting, exchange.waiting = exchange.waiting, None
        rows = ask.batch.rows
        if (self.watched or isinstance(outcome, Failed)) and waiting is not None:
            portion = None if isinstance(outcome, Failed) else outcome
            exchange.trail = Trail(rows, waiting.since, waiting.turn, ask.batch, ask.call, portion)
        if rows == 0:
            outcome = _of_no_rows(outcome)
        if isinstance(outcome, Failed):
            error = outcome.error
            if outcome.row is not None and rows:
                error.message = ask.place(outcome.row, error.message)
            done(exchange, self.refused(error))
        elif rows > _MANY_ROWS:
            self._desk.run(partial(self._answered, outcome, ask), partial(_unless_gone, exchange, done))
        else:
            done(exchange, self._answered(outcome, ask))

    def _answered(self, portion: Portion, ask: Ask) -> Reply:
        try:
            body = protocols.encode(portion, ask.answer)
        except Exception as error:
            failed = PredictionError(f"the model's answer cannot be written as {ask.answer.name}: {str(error)[:200]}")
            failed.__cause__ = error
            return self.refused(failed)
        return Reply(200, protocols.content_type(ask.answer), body)

    def _may_do_anything(self) -> bool:
        """Whether predicting runs code that came with the model: however quick it was, the next call may hang."""
        found = self.predictor.found
        return found.compiled is None and found.settled.trusted


def _of_no_rows(example: Outcome) -> Outcome:
    """The answers to no rows, in the shape of those to the example row, if the model could answer that one."""
    if isinstance(example, Portion):
        return Portion(Shared(example.answers[:0]), 0, 0)
    nothing = Portion(Shared(Answers((Output("", np.empty(0)),))), 0, 0)
    return example if isinstance(example.error, UsageError | DeadlineExceeded) else nothing


def _unless_gone(exchange: Exchange, done: Done, reply: Reply) -> None:
    if not exchange.abandoned:
        done(exchange, reply)
