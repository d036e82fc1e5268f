"""The one room where rows meet the model. Batch jobs, the server and Python calls all come through here."""

import json
import shlex
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from foretell.batch import Answers, Batch, Call, Output
from foretell.errors import ForetellError, FormWrong, ModelError, ModelUnreadable, PredictionError, UsageError
from foretell.metrics import Cost
from foretell.models import examples, mlmodel, proven
from foretell.models import load as models
from foretell.models.engine import Engine
from foretell.models.proven import NATIVE
from foretell.models.trust import Origin
from foretell.registry.choose import without_secrets
from foretell.registry.resolve import Resolved, resolve
from foretell.rows import RowDecoder
from foretell.signature import Signature, from_schema_file

AUTO = "auto"
"""The engine that was proven equal and measured to be the quickest, else the model's own library."""


@dataclass(frozen=True)
class Found:
    """A model that was found and verified; not loaded yet.

    compiled: the folder to load in its place. automatic: whether its engine is the one that was proven equal, if one
    was, and not one that was asked for.
    """

    resolved: Resolved
    origin: Origin
    trust: bool = False
    installs: bool = False
    compiled: Path | None = None
    automatic: bool = True

    @cached_property
    def settled(self) -> models.Settled:
        """The model as it is stored, its trust settled: needed where its library is to load it. Raises ModelError."""
        return models.settle(self.resolved.path, self.origin, self.trust, installs=self.installs)

    @property
    def native(self) -> "Found":
        """The same model, to be loaded by its own library."""
        return self if self.compiled is None else replace(self, compiled=None)


def find(
    uri: str,
    *,
    registry: str | None = None,
    trust: bool = False,
    installs: bool = False,
    engine: str = AUTO,
    variant: str = "",
    say: Callable[[str], None] | None = None,
) -> Found:
    """Resolves and verifies a model uri. Settles trust, unless what was compiled for the model can predict in its
    place, of which nothing runs. Raises ModelError, UsageError.

    installs: what the model requires will be installed, for which it needs trust too. engine: "auto" for what was
    proven equal, "native", or an engine's name. variant: see `variant`. say: told what takes long.
    """
    resolved = resolve(uri, registry, say)
    compiled = None
    if engine != NATIVE and not installs:
        place = proven.entry(resolved.digest, variant)
        compiled = place.chosen() if engine == AUTO else place.compiled(engine)
    found = Found(resolved, origin_of(resolved, registry), trust, installs, compiled, engine == AUTO)
    if compiled is None:
        _ = found.settled
    return found


def origin_of(resolved: Resolved, registry: str | None) -> Origin:
    """Where a model came from, as trust is given to it. registry: as it was named."""
    flags = f" --registry {shlex.quote(without_secrets(registry))}" if registry else ""
    name = resolved.name if resolved.registry else None
    return Origin(resolved.uri, resolved.digest, resolved.registry, name, flags)


def variant(schema: str | None, cast: dict[str, str] | None) -> str:
    """What a model's columns are read as, besides what it says itself; "" for nothing. Raises UsageError."""
    if not schema and not cast:
        return ""
    signature = from_schema_file(Path(schema)).to_dict() if schema else None
    return json.dumps([signature, sorted((cast or {}).items())])


def load(found: Found, *, schema: str | None = None, cast: dict[str, str] | None = None) -> "Predictor":
    """Loads a found model behind its signature: the schema file's, the model's own record, or what the model knows.

    cast: other types for some columns. Raises ModelError, UsageError.
    """
    if found.compiled is not None:
        try:
            return _compiled(found, found.compiled)
        except ModelUnreadable as error:
            if (newer := proven.replaced(found.compiled, automatic=found.automatic)) is not None:
                return load(replace(found, compiled=newer), schema=schema, cast=cast)
            opened = load(found.native, schema=schema, cast=cast)
            opened.notes += (f"{error.message}; it is not used",)
            return opened
    settled = found.settled
    models.check_types(settled.flavour, found.resolved.label, schema, cast)
    if schema:
        settled = replace(settled, model=replace(settled.model, signature=from_schema_file(Path(schema))))
    loaded = models.load(settled)
    stored = settled.model
    signature = stored.signature or loaded.signature
    if signature is None:
        signature = examples.signature_of(stored)
    if signature is None:
        raise ModelUnreadable(
            f"{found.resolved.label} has no signature, and does not tell its columns itself",
            'Describe them in a file: --schema FILE, holding [{"name": "age", "type": "double"}, …]',
        )
    return Predictor(found, settled, loaded, signature.cast(cast or {}))


def _compiled(found: Found, folder: Path) -> "Predictor":
    """What was compiled for a model, in its place."""
    settled = models.Settled(mlmodel.read(folder), models.COMPILED, trusted=False)
    loaded = models.load(settled)
    if loaded.signature is None or loaded.digest != found.resolved.digest:
        raise ModelUnreadable(f"{folder} was not compiled of {found.resolved.label}")
    return Predictor(found, settled, loaded, loaded.signature)


def open(uri: str, *, registry: str | None = None, trust: bool = False, schema: str | None = None) -> "Predictor":
    """find, then load."""
    return load(find(uri, registry=registry, trust=trust, variant=variant(schema, None)), schema=schema)


class Predictor:
    """An engine behind its signature, errors and cost.

    stored: the stored model that was loaded. seconds: that its library took for it. rowwise: whether rows may be
    gathered and cut at will; not where the model insists on a number of rows.
    """

    def __init__(self, found: Found, settled: models.Settled, loaded: models.Loaded, signature: Signature) -> None:
        self.found = found
        self.resolved = found.resolved
        self.flavour = settled.flavour
        self.signature = signature
        self.decoder = RowDecoder(signature)
        self.notes = loaded.notes
        self.names = loaded.names
        self.seconds = loaded.seconds
        self.rowwise = signature.rows is None
        self.cost = Cost()
        self._seat = _Seat(loaded.engine, _order(signature, loaded, found))
        self.stored = settled.model

    @property
    def engine(self) -> Engine:
        """What computes."""
        return self._seat.engine

    @property
    def own(self) -> bool:
        """Whether the model is a compiled one itself, with just the engine that it was compiled for."""
        return self.flavour == models.COMPILED and self.found.compiled is None

    @property
    def engine_order(self) -> list[int]:
        """Where the engine's columns stand in the signature."""
        order = self._seat.order
        return list(range(len(self.signature.inputs))) if order is None else order

    def take_over(self, other: "Predictor") -> None:
        """From the next batch on, the other's engine computes, which was proven equal to this one's. Any thread."""
        self.found, self.cost, self._seat = other.found, Cost(), other._seat

    def predict(self, batch: Batch, call: Call = Call()) -> Answers:
        """One answer a row, in order; the same bits for a row whatever stands around it.

        Raises InputError where the model refuses a row, PredictionError where it fails.
        """
        if batch.rows == 0:
            return self.empty(call)
        self._check(batch, call)
        started = time.perf_counter()
        cost = self.cost
        answers = self._in_blocks(self._seat, batch, call)
        cost.add(batch.rows, time.perf_counter() - started)
        return answers

    def predict_apart(self, batch: Batch, edges: list[int], call: Call = Call()) -> Iterator[Answers | ForetellError]:
        """Predicts pieces of a batch, each ending at an edge (the last at the batch's end), so that one that fails
        does not take others along: a failing stretch is halved until the bad pieces stand alone. Yields in order."""
        try:
            answers = self.predict(batch, call)
        except ForetellError as error:
            if len(edges) == 1:
                yield error
                return
            middle = len(edges) // 2
            cut = edges[middle - 1]
            yield from self.predict_apart(batch[:cut], edges[:middle], call)
            yield from self.predict_apart(batch[cut:], [edge - cut for edge in edges[middle:]], call)
            return
        for start, stop in zip([0, *edges], edges, strict=False):
            yield answers[start:stop]

    def first_bad(self, batch: Batch, call: Call, error: ForetellError) -> tuple[int, ForetellError] | None:
        """The first row that the model cannot answer, found by halving, and its own error; None where error, which the
        whole batch met, is not one row's fault."""
        if isinstance(error, UsageError | FormWrong) or not self.rowwise:
            return None
        edges = list(range(1, batch.rows + 1))
        outcomes = enumerate(self.predict_apart(batch, edges, call))
        return next(((row, got) for row, got in outcomes if isinstance(got, ForetellError)), None)

    def empty(self, call: Call) -> Answers:
        """Answers to no rows, in the shape of those to the example row, where the model can answer that one."""
        try:
            return self.rehearse(call)[:0]
        except UsageError:
            raise
        except ForetellError:
            return Answers((Output("", np.empty(0)),))

    def rehearse(self, call: Call) -> Answers:
        """Answers to the example row. What a library warns of there is about no row of anybody's."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.predict(self.example(), call)

    def example(self) -> Batch:
        """A row to warm up with: the model's input example, else one made from the signature."""
        batch = self.decoder.values(self.example_rows())
        return batch.padded(self.signature.rows) if self.signature.rows else batch

    def example_rows(self) -> list[list[object]]:
        """One row of JSON values, in column order."""
        stored = examples.row_of(self.stored, self.decoder)
        return stored if stored is not None else self.signature.example()

    def _check(self, batch: Batch, call: Call) -> None:
        if call.proba and not self.engine.proba:
            raise UsageError(f"{self.resolved.label} gives no class probabilities", "Ask without --proba or proba=true")
        if self.signature.rows is not None and batch.rows != self.signature.rows:
            raise FormWrong(f"the model takes exactly {self.signature.rows} rows at a time, and got {batch.rows}")

    def _in_blocks(self, seat: "_Seat", batch: Batch, call: Call) -> Answers:
        block = seat.engine.block
        if seat.order is not None:
            batch = Batch(batch.rows, [batch.columns[at] for at in seat.order])
        if block is None or batch.rows == block:
            return self._ask(seat.engine, batch, call)
        pieces = [batch[start : start + block] for start in range(0, batch.rows, block)]
        answers = [self._ask(seat.engine, piece.padded(block), call)[: piece.rows] for piece in pieces]
        return Answers.concat(answers)

    def _ask(self, engine: Engine, batch: Batch, call: Call) -> Answers:
        try:
            answers = engine.predict(batch, call)
        except ForetellError:
            raise
        except Exception as error:
            reason = str(error).strip().splitlines()
            raise PredictionError(
                f"the model raised {type(error).__name__}{': ' + reason[0][:300] if reason else ''}"
            ) from error
        for output in answers.outputs:
            if len(output.values) != batch.rows:
                got = len(answers)
                raise PredictionError(f"the model gave {got} answers for {batch.rows} rows; foretell needs one a row")
        names = self.signature.outputs
        return Answers(tuple(_labelled(output, names) for output in answers.outputs)) if names else answers


@dataclass(frozen=True)
class _Seat:
    """An engine, and where its columns stand in the signature; None where they stand in order."""

    engine: Engine
    order: list[int] | None


def _labelled(output: Output, names: tuple[str, ...]) -> Output:
    """A plain (rows, k) output whose k names the signature knows."""
    if output.proba or output.labels or output.name or output.values.ndim != 2 or len(names) != output.values.shape[1]:
        return output
    return Output("", output.values, names)


def _order(signature: Signature, loaded: models.Loaded, found: Found) -> list[int] | None:
    """Where the engine's columns stand in the signature; None where they stand in order."""
    known = loaded.signature
    if known is not None and len(known.inputs) > len(signature.inputs):
        takes, says = len(known.inputs), len(signature.inputs)
        raise ModelError(f"{found.resolved.label} takes {takes} columns, and its signature has {says}")
    if loaded.names is None or not signature.named:
        return None
    at = {name: position for position, name in enumerate(signature.names)}
    missing = [name for name in loaded.names if name not in at]
    if missing:
        raise ModelError(f"{found.resolved.label} takes a column {missing[0]!r}, which its signature does not have")
    order = [at[name] for name in loaded.names]
    return None if order == list(range(len(signature.inputs))) else order
