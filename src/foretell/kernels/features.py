"""Columns made of several others: projections, lengths of one, and products of columns.

Source of the formulas: scikit-learn's decomposition/_base.py and _truncated_svd.py, preprocessing/_data.py and
_polynomial.py.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from foretell.kernels.node import Making, NotCovered
from foretell.kernels.product import Product, Shape
from foretell.kernels.rows import FINITE_KEPT, NUMERIC, Rows, Sparse, check_finite, numbers

_FEW = 8
_STRETCH = 256


@dataclass(frozen=True)
class Projection:
    """components: shape (components, columns). center, shape (1, components), is taken off, and what is left divided by
    scale, shape (components,); where there are such. keeps: dtypes of rows that stay as they are."""

    components: np.ndarray
    center: np.ndarray | None
    scale: np.ndarray | None
    keeps: tuple[str, ...]
    block: int
    order: Literal["C", "F"]

    def __post_init__(self) -> None:
        object.__setattr__(self, "_product", Product(self.components, Shape(self.block, self.order)))

    def transform(self, rows: Rows) -> Rows:
        if isinstance(rows, Sparse):
            for part in rows.parts:
                if isinstance(part, np.ndarray):
                    check_finite(part)
        else:
            rows = numbers(rows, keeps=self.keeps)
            check_finite(rows)
        projected: np.ndarray = self._product(rows)  # type: ignore[attr-defined]
        if self.center is not None:
            projected -= self.center
        if self.scale is not None:
            projected /= self.scale
        return projected


@dataclass(frozen=True)
class UnitRows:
    """Normalizer. norm: "l1", "l2" or "max". order: how rows lie in memory, by which the library sums them."""

    norm: str
    order: Literal["C", "F"]

    def transform(self, rows: Rows) -> Rows:
        if isinstance(rows, Sparse):
            raise NotCovered("Normalizer after columns that are kept sparse")
        matrix = np.ascontiguousarray(numbers(rows, keeps=FINITE_KEPT))
        check_finite(matrix)
        norms = self._norms(matrix)
        norms[norms < 10 * np.finfo(norms.dtype).eps] = 1.0
        unit: np.ndarray = matrix / norms[:, np.newaxis]
        return unit

    def _norms(self, matrix: np.ndarray) -> np.ndarray:
        norms: np.ndarray
        if self.norm == "max":
            norms = np.abs(matrix).max(axis=1)
        elif self.order == "C":
            norms = np.add.reduce(np.abs(matrix), axis=1) if self.norm == "l1" else _lengths(matrix)
        else:
            each = np.abs(matrix) if self.norm == "l1" else matrix * matrix
            norms = np.add.accumulate(each, axis=1)[:, -1]
            norms = norms if self.norm == "l1" else np.sqrt(norms)
        return norms


@dataclass(frozen=True)
class Powers:
    """PolynomialFeatures. bias: whether the first column made is of ones; then come the columns themselves. runs: one a
    degree, shape (runs, 3): from which column made before on, how many, and the column that they are multiplied by.
    kept: which of the columns made are given."""

    columns: int
    bias: bool
    runs: tuple[np.ndarray, ...]
    kept: np.ndarray | None

    def __post_init__(self) -> None:
        before = [_joined([np.arange(at, at + count) for at, count, _ in runs.tolist()]) for runs in self.runs]
        by = [np.repeat(runs[:, 2], runs[:, 1]) for runs in self.runs]
        object.__setattr__(self, "_terms", list(zip(before, by, strict=True)))
        object.__setattr__(self, "width", self.bias + self.columns + sum(map(len, before)))

    def transform(self, rows: Rows) -> Rows:
        if isinstance(rows, Sparse):
            raise NotCovered("PolynomialFeatures after columns that are kept sparse")
        matrix = numbers(rows, keeps=FINITE_KEPT)
        check_finite(matrix)
        made = np.empty((len(matrix), self.width), matrix.dtype)  # type: ignore[attr-defined]
        made[:, : self.bias] = 1
        made[:, self.bias : self.bias + self.columns] = matrix
        if len(matrix) <= _FEW:
            self._fill_few(made, matrix)
        else:
            for at in range(0, len(matrix), _STRETCH):
                self._fill_many(made[at : at + _STRETCH], matrix[at : at + _STRETCH])
        return made if self.kept is None else made.take(self.kept, axis=1)

    def _fill_few(self, made: np.ndarray, matrix: np.ndarray) -> None:
        at = self.bias + self.columns
        for before, by in self._terms:  # type: ignore[attr-defined]
            stop = at + len(before)
            np.multiply(made.take(before, axis=1), matrix.take(by, axis=1), out=made[:, at:stop])
            at = stop

    def _fill_many(self, made: np.ndarray, matrix: np.ndarray) -> None:
        at = self.bias + self.columns
        for runs in self.runs:
            for before, count, by in runs.tolist():
                stop = at + count
                np.multiply(made[:, before : before + count], matrix[:, by : by + 1], out=made[:, at:stop])
                at = stop


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.empty(0, "int64")


def _lengths(matrix: np.ndarray) -> np.ndarray:
    lengths: np.ndarray = np.sqrt(np.einsum("ij,ij->i", matrix, matrix))
    return lengths


def principal(estimator: Any, making: Making) -> Projection:
    """PCA: the projection of a row, less that of the mean."""
    components, scale = estimator.components_, None
    center = np.reshape(estimator.mean_, (1, -1)) @ components.T
    if estimator.whiten:
        scale = np.sqrt(estimator.explained_variance_)
        scale[scale < np.finfo(scale.dtype).eps] = np.finfo(scale.dtype).eps
    shape = making.shape_for(components.T)
    return Projection(components, center, scale, ("float32",), shape.block, shape.order)


def singular(estimator: Any, making: Making) -> Projection:
    """TruncatedSVD."""
    shape = making.shape_for(estimator.components_.T)
    return Projection(estimator.components_, None, None, NUMERIC, shape.block, shape.order)


def unit_rows(estimator: Any, making: Making) -> UnitRows:
    """Normalizer. Raises NotCovered."""
    if not estimator.copy:
        raise NotCovered("Normalizer with copy=False, which writes into the rows that it is given")
    return UnitRows(estimator.norm, "C" if making.plain else making.shape.order)


def powers(estimator: Any, making: Making) -> Powers:
    """PolynomialFeatures: each product from one of a degree less, as the library makes them."""
    columns, bias = int(estimator.n_features_in_), bool(estimator.include_bias)
    if estimator._max_degree == 0:
        raise NotCovered("PolynomialFeatures of degree 0")
    degrees = []
    index = [*range(bias, bias + columns), bias + columns]
    at = bias + columns
    for _ in range(2, estimator._max_degree + 1):
        fresh, runs = [], []
        for column in range(columns):
            start = index[column]
            fresh.append(at)
            if estimator.interaction_only:
                start += index[column + 1] - index[column]
            if index[-1] <= start:
                break
            runs.append((start, index[-1] - start, column))
            at += index[-1] - start
        fresh.append(at)
        index = fresh
        degrees.append(np.array(runs, "int64").reshape(-1, 3))
    kept = None
    if estimator._min_degree > 1:
        skipped = estimator._n_out_full - estimator.n_output_features_
        kept = np.array([*range(bias), *range(bias + skipped, at)], "int64")
    return Powers(columns, bias, tuple(degrees), kept)
