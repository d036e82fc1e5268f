"""One served model: its predictor, its batcher, and whether it is ready. Warms up before it says so."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from foretell.batch import Answers, Call
from foretell.errors import ForetellError, PredictionError, ServerError
from foretell.predictor import Predictor
from foretell.serve import protocols
from foretell.serve.batcher import Batcher, Waiting

_MAX_ROWS = 4096
_WARM_UPS = 3


@dataclass(frozen=True)
class Reply:
    """An answer to a request. note: for the access log, the error's code."""

    status: int
    content_type: str
    body: bytes
    note: str = ""


class Service:
    """A model behind requests. timeout: seconds. max_body: bytes. debug: errors carry their traceback."""

    def __init__(self, predictor: Predictor, *, timeout: float, max_body: int, debug: bool = False) -> None:
        self.predictor = predictor
        self.max_body = max_body
        self.ready = False
        self._timeout = timeout
        self._debug = debug
        self._batcher: Batcher | None = None

    def warm_up(self) -> None:
        """Predicts the example row a few times, so that the first request does not pay for it. Whether the model can
        answer a made-up row is its own affair."""
        try:
            for _ in range(_WARM_UPS):
                self.predictor.rehearse(self._default_call())
        except ForetellError:
            pass

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """From here on requests are taken, on this loop."""
        self._batcher = Batcher(self.predictor, loop, max_rows=_MAX_ROWS, timeout=self._timeout)
        self.ready = True

    def close(self) -> None:
        self.ready = False
        if self._batcher is not None:
            self._batcher.close()

    def invoke(
        self,
        body: bytes,
        content_type: str,
        accept: str,
        query: str,
        done: Callable[[Reply], None],
        encoding: str = "",
    ) -> Waiting | None:
        """Answers one request to /invocations by calling done, at once or later. Returns what can be given up."""
        try:
            ask = protocols.decode(self.predictor, body, content_type, accept, query, encoding, self.max_body)
            if ask.batch.rows == 0:
                done(self._answered(self.predictor.empty(ask.call), ask))
                return None
        except ForetellError as error:
            done(self.refused(error))
            return None
        return self._running.submit(ask.batch, ask.call, lambda outcome, row: done(self._reply(outcome, row, ask)))

    @property
    def _running(self) -> Batcher:
        if self._batcher is None:
            raise ServerError("the model is not ready")
        return self._batcher

    def refused(self, error: ForetellError) -> Reply:
        """The reply that says what is wrong."""
        body = protocols.error_body(error, debug=self._debug)
        return Reply(protocols.status(error), "application/json", body, error.code)

    def _reply(self, outcome: Answers | ForetellError, row: int | None, ask: protocols.Ask) -> Reply:
        if isinstance(outcome, Answers):
            return self._answered(outcome, ask)
        if row is not None:
            outcome.message = ask.place(row, outcome.message)
        return self.refused(outcome)

    def _answered(self, answers: Answers, ask: protocols.Ask) -> Reply:
        try:
            body = protocols.encode(answers, ask.answer)
        except Exception as error:
            failed = PredictionError(f"the model's answer cannot be written as {ask.answer.name}: {str(error)[:200]}")
            failed.__cause__ = error
            return self.refused(failed)
        return Reply(200, protocols.content_type(ask.answer), body)

    def _default_call(self) -> Call:
        return Call(False, self.predictor.signature.call_params({}))
