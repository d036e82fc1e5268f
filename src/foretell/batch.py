"""What goes through the predictor: Batch (rows in) and Answers (rows out)."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

Tuples = list[tuple[Any, ...]]

_MAX_FLAT = 64
"""So many values a row are a column each; more are one nested cell."""


class Batch(msgspec.Struct, eq=False):
    """Rows for a model: one array per input column, all of one length, in the signature's order.

    columns: arrays of shape (rows, *cell shape), nulls as NaN, NaT or None. matrix: all columns as one array of shape
    (rows, columns), where they are scalars of one numeric dtype. Whichever of the two was not given is made on demand.
    """

    rows: int
    _columns: list[np.ndarray] | None = None
    _matrix: np.ndarray | None = None
    _tuples: Tuples | None = None
    _build: "Callable[[Tuples], Batch] | None" = None

    @staticmethod
    def of(matrix: np.ndarray) -> "Batch":
        """The columns as one array."""
        return Batch(len(matrix), None, matrix)

    @staticmethod
    def later(tuples: Tuples, build: "Callable[[Tuples], Batch]") -> "Batch":
        """Rows of scalars as Python tuples, of which build makes arrays on demand: of many such batches that are joined
        in one go. It must not fail."""
        return Batch(len(tuples), None, None, tuples, build)

    def __len__(self) -> int:
        return self.rows

    def settled(self) -> "Batch":
        """The same, its arrays made."""
        if self._tuples is not None:
            self._settle(self._tuples)
        return self

    @property
    def columns(self) -> list[np.ndarray]:
        if self._tuples is not None:
            self._settle(self._tuples)
        if self._columns is None:
            self._columns = list(self.matrix.T)
        return self._columns

    @property
    def uniform(self) -> bool:
        """Whether the rows are there as one matrix already."""
        if self._tuples is not None:
            self._settle(self._tuples)
        return self._matrix is not None

    @property
    def matrix(self) -> np.ndarray:
        if self._tuples is not None:
            self._settle(self._tuples)
        if self._matrix is None:
            self._matrix = _stack(self.columns, self.rows)
        return self._matrix

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of a row's tensors; batches of one signature can be joined where these are equal."""
        if self._columns is None:
            return ()
        return tuple(column.shape[1:] for column in self._columns if column.ndim > 1)

    def __getitem__(self, rows: slice) -> "Batch":
        start, stop, _ = rows.indices(self.rows)
        if self._tuples is not None:
            return Batch.later(self._tuples[rows], self._build)  # type: ignore[arg-type]
        if self._matrix is not None:
            return Batch.of(self._matrix[rows])
        return Batch(stop - start, [column[rows] for column in self.columns])

    @staticmethod
    def concat(batches: Sequence["Batch"]) -> "Batch":
        """The rows of all batches, which have the same columns and shapes, in order."""
        if len(batches) == 1:
            return batches[0]
        tuples = [batch._tuples for batch in batches]
        if None not in tuples:
            return Batch.later(list(itertools.chain.from_iterable(tuples)), batches[0]._build)  # type: ignore[arg-type]
        rows = sum(batch.rows for batch in batches)
        if all(batch.uniform for batch in batches):
            return Batch.of(np.concatenate([batch.matrix for batch in batches]))
        return Batch(rows, [np.concatenate(parts) for parts in zip(*(b.columns for b in batches), strict=True)])

    def but(self, rows: Sequence[int]) -> "Batch":
        """The batch without these rows."""
        left = np.delete(np.arange(self.rows), rows)
        if self._matrix is not None:
            return Batch.of(self._matrix[left])
        return Batch(len(left), [column[left] for column in self.columns])

    def padded(self, rows: int) -> "Batch":
        """The batch with its last row repeated up to rows."""
        last = self[self.rows - 1 :]
        return Batch.concat([self, *[last] * (rows - self.rows)]) if rows > self.rows else self

    def _settle(self, tuples: Tuples) -> None:
        built = self._build(tuples)  # type: ignore[misc]
        self._columns, self._matrix, self._tuples = built._columns, built._matrix, None


def _stack(columns: list[np.ndarray], rows: int) -> np.ndarray:
    """The columns side by side in C order: what reaches a model must not depend on where the rows came from."""
    matrix = np.empty((rows, len(columns)), np.result_type(*columns))
    for at, column in enumerate(columns):
        matrix[:, at] = column
    return matrix


@dataclass(frozen=True)
class Call:
    """What is asked of a model besides the rows; calls that are equal may share a batch.

    proba: class probabilities too. params: the signature's params as sorted (name, value) pairs.
    """

    proba: bool = False
    params: tuple[tuple[str, Any], ...] = ()


class Output(msgspec.Struct, frozen=True):
    """One output of a model: values of shape (rows,) or (rows, k, …).

    name: "" for a model's only output. labels: the names of the k values, where they have some. nested: whether a
    row's values are one cell, as a tensor's are, and not a column each.
    """

    name: str
    values: np.ndarray
    labels: tuple[str, ...] = ()
    proba: bool = False

    @property
    def nested(self) -> bool:
        return self.values.ndim > 2 or (self.values.ndim == 2 and not self.labels and self.values.shape[1] > _MAX_FLAT)

    def columns(self, prediction: str) -> list[tuple[str, np.ndarray]]:
        stem = "probability" if self.proba else prediction
        if self.name:
            stem = f"{stem}_{self.name}"
        if self.values.ndim == 1 or self.nested:
            return [(stem, self.values)]
        labels = self.labels or tuple(str(at) for at in range(self.values.shape[1]))
        return [(f"{stem}_{label}", self.values[:, at]) for at, label in enumerate(labels)]


class Answers(msgspec.Struct, frozen=True):
    """What a model answered, row for row. A Struct, as Output is: to make both takes a tenth of the time that frozen
    dataclasses take, which counts where a row takes a few µs."""

    outputs: tuple[Output, ...]

    def __len__(self) -> int:
        return len(self.outputs[0].values)

    def __getitem__(self, rows: slice) -> "Answers":
        return Answers(tuple(Output(o.name, o.values[rows], o.labels, o.proba) for o in self.outputs))

    @staticmethod
    def concat(parts: Sequence["Answers"]) -> "Answers":
        if len(parts) == 1:
            return parts[0]
        joined = []
        for outputs in zip(*(part.outputs for part in parts), strict=True):
            values = np.concatenate([output.values for output in outputs])
            joined.append(Output(outputs[0].name, values, outputs[0].labels, outputs[0].proba))
        return Answers(tuple(joined))

    def columns(self, prediction: str = "prediction") -> list[tuple[str, np.ndarray]]:
        """Named columns for a table: prediction, prediction_<name>, probability_<class>; each of shape (rows,), or
        (rows, …) where a row's values are a tensor."""
        return list(itertools.chain.from_iterable(output.columns(prediction) for output in self.outputs))

    def to_list(self) -> list[Any]:
        """The rows as MLflow's `predictions`: plain values for one output, else records under the outputs' own names.

        Nulls and what is not finite as None, which JSON has.
        """
        if len(self.outputs) == 1 and not self.outputs[0].proba:
            return plain(self.outputs[0].values)
        named = [
            (output.name, output.values)
            if output.name and not output.proba and (output.values.ndim == 1 or output.nested)
            else pair
            for output in self.outputs
            for pair in output.columns("prediction")
        ]
        names = [name for name, _ in named]
        rows = zip(*(plain(values) for _, values in named), strict=True)
        return [dict(zip(names, row, strict=True)) for row in rows]


def plain(values: np.ndarray) -> list[Any]:
    """An array as Python values that JSON has: floats as doubles, what is not finite and NaT as None, dates as text."""
    if values.dtype.kind == "f":
        finite = np.isfinite(values)
        if not finite.all():
            values = _nulled(values.astype("float64"), finite)
    elif values.dtype.kind == "M":
        values = _nulled(np.datetime_as_string(values), ~np.isnat(values))
    elif values.dtype.kind == "O":
        return [_plain_object(value) for value in values.tolist()]
    plain_values: list[Any] = values.tolist()
    return plain_values


def _nulled(values: np.ndarray, there: np.ndarray) -> np.ndarray:
    """None where a value is not there."""
    nulled = values.astype(object)
    nulled[~there] = None
    return nulled


def _plain_object(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return plain(value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
