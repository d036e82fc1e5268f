"""What a batch job does about its engine: holds it against the library on the first real rows, and compiles one when
the rows ahead make it pay."""

import time
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from foretell import predictor as predictors
from foretell.batch import Batch, Call
from foretell.compiler import verify
from foretell.compiler.candidates import coverable
from foretell.compiler.compile import Say, compile_model
from foretell.errors import ForetellError, ModelUntrusted, OutputError, printable
from foretell.models import proven
from foretell.predictor import Predictor

_CHECKED = 4096
_READING = 1e-7
"""Seconds that a cell takes, about, to be read."""
_SHARE = 0.02
"""Of the time that a job takes, so much may go into loading the library to check the engine."""
_PROOF_ROWS, _PROOF_CALLS, _PROOF_SECONDS = 24_000, 500, 2.5
"""What a compilation asks the library for, about (models that refuse rows: up to 1,000 calls), and what it takes
besides."""
_WORTH, _SAVED = 1.2, 0.7


class Watch:
    """Watches one job, which goes on whatever fails here. schema, cast: as the model was loaded with. say: told what
    changes, a line each."""

    def __init__(
        self, predictor: Predictor, *, schema: str | None = None, cast: dict[str, str] | None = None, say: Say
    ) -> None:
        self._predictor = predictor
        self._schema, self._cast = schema, cast
        self._say = say
        self._place = proven.entry(predictor.resolved.digest, predictors.variant(schema, cast))
        self._rows = 0
        self._first: tuple[Batch, Call] | None = None
        self._open = False
        try:
            untried = predictor.found.automatic and predictor.found.compiled is None and self._place.record() is None
            self._open = untried and coverable(predictor, at_once=True)
        except Exception as error:
            say(f"it stays with {predictor.engine.name}: {_told(error)}")

    def before(self, batch: Batch, call: Call, ahead: int | None) -> None:
        """Told of the first rows, before they are predicted. ahead: rows that come after them, about, if known."""
        self._first = (batch[:_CHECKED], call)
        found, engine = self._predictor.found, self._predictor.engine.name
        if found.compiled is None or not found.automatic:
            return
        native: Predictor | None = None
        try:
            if not self._is_due(found.compiled, batch.rows + (ahead or 0)):
                return
            native = predictors.load(found.native, schema=self._schema, cast=self._cast)
            if not self._proves(native, self._predictor):
                self._predictor.take_over(native)
        except ModelUntrusted:
            return
        except Exception as error:
            self._say(f"the {engine} was not held against its library on these rows: {_told(error)}")
            if native is not None:
                self._predictor.take_over(native)

    def after(self, rows: int, ahead: int | None) -> None:
        """Told after each block how many rows it had, and how many come after it, about, if known."""
        self._rows += rows
        native = self._predictor
        try:
            if not self._open or not self._pays(self._rows if ahead is None else ahead):
                return
            self._open = False
            self._say("many rows are ahead: making a faster engine, and proving that it answers the same …")
            record = compile_model(native.found, schema=self._schema, cast=self._cast, loaded=native, say=self._say)
            folder = self._place.chosen()
            if folder is None:
                self._say(f"it stays with {native.engine.name}: {record.why}")
                return
            faster = predictors.load(replace(native.found, compiled=folder))
            if self._proves(native, faster):
                native.take_over(faster)
                self._say(f"from here on the {native.engine.name} predicts: {record.why}")
        except Exception as error:
            self._open = False
            self._say(f"it stays with {native.engine.name}: {_told(error)}")

    def _is_due(self, folder: Path, rows: int) -> bool:
        """Whether the library is worth loading: the first time that the engine meets real data, and wherever that is a
        small share of the job."""
        record = self._place.record()
        chosen = record.of_engine(record.chosen) if record else None
        if self._place.seen(folder) == 0 or record is None or chosen is None or not chosen.seconds:
            return True
        each = min(seconds / size for size, seconds in chosen.seconds.items())
        each += _READING * len(self._predictor.signature.inputs)
        return rows * each * _SHARE >= record.start

    def _pays(self, ahead: int) -> bool:
        """Whether what the rows ahead would save is more than what a compilation takes, by what calls cost so far."""
        each = self._predictor.cost.each
        saved, price = ahead * each * _SAVED / _WORTH, _PROOF_SECONDS + _PROOF_ROWS * each
        return saved > price and saved > price + _PROOF_CALLS * self._one_row

    @cached_property
    def _one_row(self) -> float:
        """Seconds that the library takes for a row alone."""
        batch, call = self._first or (self._predictor.example(), Call())
        started = time.perf_counter()
        verify.outcomes(self._predictor, batch[:1], call)
        return time.perf_counter() - started

    def _proves(self, native: Predictor, engine: Predictor) -> bool:
        """Whether an engine answers the first rows as the library does; if not, nobody uses it any more."""
        batch, call = self._first or (native.example(), Call())
        why, label, folder = difference(native, engine, batch, call), engine.engine.name, engine.found.compiled
        try:
            if why is None:
                self._place.saw(batch.rows, folder)
                return True
            self._place.demote(f"on real data the {label} does not answer as {native.engine.name} does: {why}", folder)
        except OutputError as error:
            self._say(error.message)
        if why is not None:
            self._say(
                f"the {label} does not answer these rows as {native.engine.name} does ({why}); {native.engine.name} "
                "predicts, here and in every server and job from now on"
            )
        return why is None


def _told(error: Exception) -> str:
    """What failed, on one line."""
    if isinstance(error, ForetellError):
        return error.message
    return printable(" ".join(f"{type(error).__name__}: {error}".split()))


def difference(native: Predictor, engine: Predictor, batch: Batch, call: Call) -> str | None:
    """The first difference between an engine and the library on real rows; None where there is none."""
    codes = verify.outcomes(native, batch, call)
    if (codes == verify.FAILED).all():
        return None
    others = verify.outcomes(engine, batch, call)
    if (wrong := np.flatnonzero(codes != others)).size:
        does = "answers" if others[wrong[0]] == verify.ANSWERED else "refuses"
        return f"it {does} row {int(wrong[0]) + 1} of them, and the library does not"
    answered = verify.picked(batch, codes == verify.ANSWERED)
    if not answered.rows:
        return None
    try:
        found = verify.compared(engine.predict(answered, call), native.predict(answered, call))
    except ForetellError as error:
        return error.message
    return None if found is None else found.why
