"""One served model: its predictor, its batcher, and whether it is ready. Warms up before it says so."""

import asyncio
import contextlib
import threading
from functools import partial
from time import monotonic

import numpy as np

from foretell.batch import Answers, Call, Output
from foretell.errors import DeadlineExceeded, ForetellError, PredictionError, UsageError
from foretell.models import examples
from foretell.predictor import Predictor
from foretell.serve import protocols
from foretell.serve.batcher import FULL, Batcher
from foretell.serve.exchange import Exchange, Reply, Trail
from foretell.serve.headers import Wish, Wishes, patience
from foretell.serve.limits import Limits
from foretell.serve.meters import Meter
from foretell.serve.one_thread import OneThread
from foretell.serve.openapi import Described
from foretell.serve.problems import refusal
from foretell.serve.protocols import JSON_TYPE, Ask, BodyDecoder, Portion, Shared
from foretell.serve.waiting import Failed, Outcome, Part, Waiting
from foretell.tables.formats import JSON, Format

_WARM_UPS = 3
_LARGE = 256 << 10
_MANY_ROWS = 10_000
_HOLD_SECONDS = 0.02


class Service:
    """A model behind requests. name: under which it is served, else its own. version: its number, else how its digest
    begins; every answer that it gives says it. debug: errors carry their traceback. watched: whether somebody wants to
    know what became of each request. samples: what the model answered to its example, without and with probabilities,
    as far as it did. left: set when it serves no more."""

    def __init__(self, predictor: Predictor, limits: Limits, *, name: str = "", debug: bool = False) -> None:
        resolved = predictor.resolved
        self.predictor = predictor
        self.limits = limits
        self.version = resolved.label_of_version.encode()
        self.meter = Meter(name or resolved.name, self.version.decode())
        self.draining = self.watched = False
        self.left = threading.Event()
        self._debug = debug
        self._wishes = Wishes()
        self._decoder = BodyDecoder(predictor, limits.body)
        self._full = {why: refusal(error) for why, error in FULL.items()}
        self.samples: tuple[Answers, ...] = ()
        self._turned_away: list[tuple[Exchange, Reply]] = []

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

    def check_example(self) -> None:
        """That the model answers the input example that came with it, if one did. Raises ForetellError."""
        if not self.samples and examples.row_of(self.predictor.stored, self.predictor.decoder) is not None:
            self.predictor.rehearse(Call(False, self.predictor.signature.call_params({})))

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
        self._loop = loop
        self._done = self._reply
        self._batcher = Batcher(
            self.predictor,
            loop,
            max_rows=limits.batch_rows,
            delay=limits.queue_delay,
            most=limits.queue,
            timeout=limits.timeout,
            usual=self._decoder.calls[False],
            each=self._answer_each,
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

    def invoke(self, exchange: Exchange, body: bytes, now: float) -> None:
        """Answers one request, which came whole at that time, by calling its done, on the loop, at once or later.
        Whether there is room is looked at first: to refuse must cost less than to answer."""
        if full := self._batcher.full():
            self._turn_away(exchange, self._full[full])
            return
        head = exchange.head
        try:
            seconds = patience(head, self.limits.timeout) if head.patience else self.limits.timeout
            wish = head.wish
            if wish is None:
                wish = head.wish = self._wishes.of(head, body)
            if wish.codec or len(body) > _LARGE:
                self._desk.run(partial(self._read, body, wish), partial(self._submit, exchange, now + seconds, seconds))
            else:
                self._wait(exchange, self._decoder.read(body, wish), now + seconds, seconds, now)
        except ForetellError as error:
            exchange.done(exchange, self.refused(error))
        except Exception as error:
            exchange.done(exchange, self.refused(_unread(error)))

    def refused(self, error: ForetellError) -> Reply:
        """The reply that says what is wrong."""
        return refusal(error, debug=self._debug)

    def _read(self, body: bytes, wish: Wish) -> Ask | ForetellError:
        """Not on the loop."""
        try:
            ask = self._decoder.read(body, wish)
            ask[0].settled()
        except ForetellError as error:
            return error
        except Exception as error:
            return _unread(error)
        return ask

    def _submit(self, exchange: Exchange, deadline: float, seconds: float, ask: Ask | ForetellError) -> None:
        """What was read elsewhere."""
        if exchange.abandoned:
            return
        try:
            if isinstance(ask, ForetellError):
                raise ask
            if full := self._batcher.full():
                self._turn_away(exchange, self._full[full])
            else:
                self._wait(exchange, ask, deadline, seconds, monotonic())
        except ForetellError as error:
            exchange.done(exchange, self.refused(error))

    def _turn_away(self, exchange: Exchange, reply: Reply) -> None:
        """Refuses, a moment later and together with others: clients that ask again at once would else take the time
        in which others are answered."""
        if not self._turned_away:
            self._loop.call_later(_HOLD_SECONDS, self._let_go)
        self._turned_away.append((exchange, reply))

    def _let_go(self) -> None:
        refused, self._turned_away = self._turned_away, []
        for exchange, reply in refused:
            _unless_gone(exchange, reply)

    def _wait(self, exchange: Exchange, ask: Ask, deadline: float, seconds: float, now: float) -> None:
        batch, call, place = ask
        exchange.batch = batch
        exchange.place = place
        if not batch.rows:
            batch = self.predictor.example()
        exchange.waiting = waiting = Waiting(batch, call, deadline, seconds, now, self._done, exchange)
        self._batcher.submit(waiting)

    def _reply(self, waiting: Waiting, outcome: Outcome) -> None:
        exchange: Exchange = waiting.owner
        exchange.waiting = None
        rows = exchange.batch.rows
        wish: Wish = exchange.head.wish  # type: ignore[assignment]
        if isinstance(outcome, Portion) and 0 < rows <= _MANY_ROWS and not self.watched:
            exchange.done(exchange, self._answered(outcome, wish.answer))
            return
        if self.watched or isinstance(outcome, Failed):
            portion = None if isinstance(outcome, Failed) else outcome
            exchange.trail = Trail(rows, waiting.since, waiting.turn, exchange.batch, waiting.call, portion)
        if rows == 0:
            outcome = _of_no_rows(outcome)
        if isinstance(outcome, Failed):
            error = outcome.error
            if outcome.row is not None and rows:
                error.message = exchange.place(outcome.row, error.message)
            exchange.done(exchange, self.refused(error))
        elif rows > _MANY_ROWS:
            self._desk.run(partial(self._answered, outcome, wish.answer), partial(_unless_gone, exchange))
        else:
            exchange.done(exchange, self._answered(outcome, wish.answer))

    def _answer_each(self, pieces: list[Part], shared: Shared) -> None:
        """A row each, as most requests have: what is alike in their answers is made once."""
        bodies = None if self.watched else shared.bodies()
        for at, piece in enumerate(pieces):
            if bodies is None or piece.__class__ is not Waiting:
                piece.answer(Portion(shared, at, at + 1))
                continue
            exchange: Exchange = piece.owner
            if exchange.batch is not piece.batch or exchange.head.wish.answer is not JSON:  # type: ignore[union-attr]
                piece.answer(Portion(shared, at, at + 1))
            elif not piece.answered:
                piece.answered = True
                exchange.waiting = None
                exchange.done(exchange, Reply(200, JSON_TYPE, bodies[at]))

    def _answered(self, portion: Portion, answer: Format) -> Reply:
        try:
            content_type, body = protocols.encode(portion, answer)
        except Exception as error:
            failed = PredictionError(f"the model's answer cannot be written as {answer.name}: {str(error)[:200]}")
            failed.__cause__ = error
            return self.refused(failed)
        return Reply(200, content_type, body)

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


def _unless_gone(exchange: Exchange, reply: Reply) -> None:
    if not exchange.abandoned:
        exchange.done(exchange, reply)


def _unread(error: Exception) -> PredictionError:
    failed = PredictionError(f"the body could not be read: {type(error).__name__}")
    failed.__cause__ = error
    return failed
