"""The one room where rows meet the model. Batch jobs, the server and Python calls all come through here."""

import shlex
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from foretell.batch import Answers, Batch, Call, Output
from foretell.cells import Column
from foretell.errors import (
    ForetellError,
    FormWrong,
    InputError,
    ModelError,
    ModelUnreadable,
    PredictionError,
    UsageError,
)
from foretell.metrics import Cost
from foretell.models import load as models
from foretell.models.engine import Engine
from foretell.models.mlmodel import StoredModel
from foretell.models.trust import Origin
from foretell.registry.choose import without_secrets
from foretell.registry.resolve import Resolved, resolve
from foretell.rows import RowDecoder
from foretell.signature import Signature, from_schema_file


@dataclass(frozen=True)
class Found:
    """A model that was found, verified and whose trust is settled; not loaded yet."""

    resolved: Resolved
    settled: models.Settled


def find(
    uri: str,
    *,
    registry: str | None = None,
    trust: bool = False,
    installs: bool = False,
    say: Callable[[str], None] | None = None,
) -> Found:
    """Resolves and verifies a model uri and settles trust. Raises ModelError, UsageError.

    installs: what the model requires will be installed, for which it needs trust too. say: told what takes long.
    """
    resolved = resolve(uri, registry, say)
    name, flags = (resolved.name, f" --registry {shlex.quote(without_secrets(registry))}" if registry else "")
    origin = Origin(uri, resolved.digest, resolved.registry, name if resolved.registry else None, flags)
    return Found(resolved, models.settle(resolved.path, origin, trust, installs=installs))


def load(found: Found, *, schema: str | None = None, cast: dict[str, str] | None = None) -> "Predictor":
    """Loads a found model behind its signature: the schema file's, the model's own record, or what the model knows.

    cast: other types for some columns. Raises ModelError, UsageError.
    """
    settled = found.settled
    if schema:
        settled = replace(settled, model=replace(settled.model, signature=from_schema_file(Path(schema))))
    loaded = models.load(settled)
    stored = settled.model
    signature = stored.signature or loaded.signature
    if signature is None:
        signature = _from_example(stored)
    if signature is None:
        raise ModelUnreadable(
            f"{found.resolved.label} has no signature, and does not tell its columns itself",
            'Describe them in a file: --schema FILE, holding [{"name": "age", "type": "double"}, …]',
        )
    signature = signature.cast(cast or {})
    return Predictor(found, loaded.engine, signature, _order(signature, loaded, found), loaded.notes)


def open(uri: str, *, registry: str | None = None, trust: bool = False, schema: str | None = None) -> "Predictor":
    """find, then load."""
    return load(find(uri, registry=registry, trust=trust), schema=schema)


class Predictor:
    """An engine behind its signature, errors and cost.

    rowwise: whether rows may be gathered and cut at will; not where the model insists on a number of rows.
    """

    def __init__(
        self,
        found: Found,
        engine: Engine,
        signature: Signature,
        order: list[int] | None,
        notes: tuple[str, ...],
    ) -> None:
        self.resolved = found.resolved
        self.flavour = found.settled.flavour
        self.engine = engine
        self.signature = signature
        self.decoder = RowDecoder(signature)
        self.notes = notes
        self.rowwise = signature.rows is None
        self.cost = Cost()
        self._order = order
        self._stored = found.settled.model

    def predict(self, batch: Batch, call: Call = Call()) -> Answers:
        """One answer a row, in order; the same bits for a row whatever stands around it.

        Raises InputError where the model refuses a row, PredictionError where it fails.
        """
        if batch.rows == 0:
            return self.empty(call)
        self._check(batch, call)
        started = time.perf_counter()
        answers = self._in_blocks(batch, call)
        self.cost.add(batch.rows, time.perf_counter() - started)
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
        stored = _example_rows(self._stored, self.decoder)
        return stored if stored is not None else self.signature.example()

    def _check(self, batch: Batch, call: Call) -> None:
        if call.proba and not self.engine.proba:
            raise UsageError(f"{self.resolved.label} gives no class probabilities", "Ask without --proba or proba=true")
        if self.signature.rows is not None and batch.rows != self.signature.rows:
            raise FormWrong(f"the model takes exactly {self.signature.rows} rows at a time, and got {batch.rows}")

    def _in_blocks(self, batch: Batch, call: Call) -> Answers:
        block = self.engine.block
        if self._order is not None:
            batch = Batch(batch.rows, [batch.columns[at] for at in self._order])
        if block is None or batch.rows == block:
            return self._ask(batch, call)
        pieces = [batch[start : start + block] for start in range(0, batch.rows, block)]
        answers = [self._ask(piece.padded(block), call)[: piece.rows] for piece in pieces]
        return Answers.concat(answers)

    def _ask(self, batch: Batch, call: Call) -> Answers:
        try:
            answers = self.engine.predict(batch, call)
        except ForetellError:
            raise
        except Exception as error:
            reason = str(error).strip().splitlines()
            raise PredictionError(
                f"the model raised {type(error).__name__}{': ' + reason[0][:300] if reason else ''}"
            ) from error
        if any(len(output.values) != batch.rows for output in answers.outputs):
            got = len(answers)
            raise PredictionError(f"the model gave {got} answers for {batch.rows} rows; foretell needs one a row")
        names = self.signature.outputs
        return Answers(tuple(_labelled(output, names) for output in answers.outputs)) if names else answers


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


def _from_example(stored: StoredModel) -> Signature | None:
    """A signature from the input example: every number a double, as nothing says that whole ones stay whole."""
    frame = (stored.example or {}).get("dataframe_split")
    if not isinstance(frame, dict) or not isinstance(frame.get("data"), list) or not frame["data"]:
        return None
    rows = frame["data"]
    kinds = [_kind([row[at] for row in rows]) for at in range(len(rows[0]))]
    names = frame.get("columns") or [None] * len(kinds)
    return Signature(tuple(Column(n if n is None else str(n), k) for n, k in zip(names, kinds, strict=True)))


def _kind(values: list[object]) -> str:
    present = [value for value in values if value is not None]
    if any(isinstance(value, str) for value in present):
        return "string"
    return "boolean" if present and all(isinstance(value, bool) for value in present) else "double"


def _example_rows(stored: StoredModel, decoder: RowDecoder) -> list[list[object]] | None:
    """The input example's first row, where it fits the signature."""
    body = stored.example or {}
    frame = body.get("dataframe_split")
    try:
        if isinstance(frame, dict):
            names = frame.get("columns") or decoder.signature.names
            row = dict(zip(map(str, names), frame["data"][0], strict=True))
            rows: list[list[object]] = [[row[name] for name in decoder.signature.names]]
        elif isinstance(body.get("inputs"), list):
            rows = [list(body["inputs"][0])]
        else:
            return None
        decoder.values(rows)
    except (InputError, KeyError, IndexError, TypeError, ValueError):
        return None
    return rows
