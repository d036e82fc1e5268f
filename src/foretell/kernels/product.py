"""Products of rows and weights, to the bit as the training library's, and the same for a row whatever stands around it.

A matrix product rounds by its shape: BLAS takes another road for one row than for many. So rows are multiplied in
blocks of one shape, the last one filled up with zeros. Which shape and order give the library's bits is found by
trying (`compiler`), and depends on the processor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from foretell.kernels.rows import Hot, Sparse


@dataclass(frozen=True)
class Shape:
    """How rows go through BLAS. block: rows a call. order: "C" or "F", how a block of them lies in memory."""

    block: int = 8
    order: Literal["C", "F"] = "C"


_ORDERS: tuple[Literal["C", "F"], ...] = ("C", "F")
SHAPES = tuple(Shape(block, order) for block in (8, 32, 256, 1024) for order in _ORDERS)
"""What may give the library's bits, the quickest for one row first."""


_AT_ONCE = 1 << 12
"""So many terms of a sum of rows that are mostly zero are made at once."""


def as_in(rows: int, weights: np.ndarray, orders: Sequence[Literal["C", "F"]] = ("C",)) -> Shape:
    """The smallest shape that rounds as one block of so many rows in C order does, found by trying. weights: shape
    (columns, outputs) or (columns,)."""
    whole = Shape(rows)
    for shape in (Shape(block, order) for block in (8, 32, 64, 128) for order in orders):
        if shape.block < rows and _alike(shape, whole, weights):
            return shape
    return whole


def _alike(shape: Shape, other: Shape, weights: np.ndarray) -> bool:
    """Whether two shapes give the same bits, for rows of the weights' own dtype and for doubles."""
    trial = np.random.default_rng(0).normal(size=(other.block, len(weights)))
    return all(
        np.array_equal(multiplied(part, weights, shape), multiplied(rows, weights, other)[: len(part)], equal_nan=True)
        for rows in (trial.astype(weights.dtype), trial)
        for part in (rows, rows[:1])
    )


@dataclass(frozen=True)
class Product:
    """rows @ coef.T. coef: shape (outputs, columns), or (columns,) for one number a row, in the library's own memory
    order."""

    coef: np.ndarray
    shape: Shape

    def __call__(self, rows: np.ndarray | Sparse) -> np.ndarray:
        """Shape (rows, outputs) or (rows,). Sparse rows are summed in the order of their columns, as scipy does."""
        if isinstance(rows, np.ndarray):
            return multiplied(rows, self._transposed, self.shape)
        return self._summed(rows)

    def _summed(self, rows: Sparse) -> np.ndarray:
        kinds = [np.dtype(part.dtype) for part in rows.parts]
        total = np.zeros((len(rows), *self.coef.shape[:-1]), np.result_type(self.coef, *kinds))
        step = max(_AT_ONCE // max(total.size, 1), 1)
        start = 0
        for part in rows.parts:
            cells = part.codes if isinstance(part, Hot) else part
            width = part.width if isinstance(part, Hot) else part.shape[1]
            for at in range(0, cells.shape[1], step):
                chosen = cells[:, at : at + step]
                if isinstance(part, Hot):
                    terms = self._table(start, width)[chosen]
                else:
                    weights = self._weights[start + at : start + at + chosen.shape[1]]
                    terms = (chosen if weights.ndim == 1 else chosen[:, :, None]) * weights
                total = _added(total, terms)
            start += width
        return total

    @cached_property
    def _transposed(self) -> np.ndarray:
        return self.coef.T

    @cached_property
    def _weights(self) -> np.ndarray:
        return np.ascontiguousarray(self.coef.T)

    @cached_property
    def _tables(self) -> dict[int, np.ndarray]:
        return {}

    def _table(self, start: int, width: int) -> np.ndarray:
        """The weights of one-hot columns by code, and a zero for -1."""
        if start not in self._tables:
            weights = self._weights[start : start + width]
            self._tables[start] = np.concatenate([weights, np.zeros((1, *weights.shape[1:]), weights.dtype)])
        return self._tables[start]


def _added(total: np.ndarray, terms: np.ndarray) -> np.ndarray:
    """total, shape (rows, …), and terms, shape (rows, columns, …), one column after the other."""
    if terms.shape[1] == 1:
        total += terms[:, 0]
        return total
    sums: np.ndarray = np.add.accumulate(np.concatenate([total[:, None], terms], axis=1, dtype=total.dtype), axis=1)
    return sums[:, -1]


def multiplied(matrix: np.ndarray, weights: np.ndarray, shape: Shape) -> np.ndarray:
    """matrix @ weights in blocks of one shape: (rows, columns) by (columns, outputs) or (columns,)."""
    if matrix.dtype != weights.dtype:
        dtype = np.result_type(matrix, weights)
        matrix, weights = matrix.astype(dtype, copy=False), weights.astype(dtype, copy=False)
    rows = len(matrix)
    whole = rows - rows % shape.block
    if not whole:
        return _filled(matrix, weights, shape)
    head = _blocks(np.ascontiguousarray(matrix[:whole]), weights, shape)
    return head if whole == rows else np.concatenate([head, _filled(matrix[whole:], weights, shape)])


def _filled(matrix: np.ndarray, weights: np.ndarray, shape: Shape) -> np.ndarray:
    """The product of fewer rows than a block."""
    rows, columns = matrix.shape
    block = np.zeros((shape.block, columns), matrix.dtype, shape.order)
    block[:rows] = matrix
    # dot asks the same of BLAS as matmul and costs less; but a sum of one term may have another sign, where it is 0.
    product: np.ndarray = block.dot(weights) if columns > 1 and matrix.dtype.char in "df" else np.matmul(block, weights)
    return product[:rows]


def _blocks(matrix: np.ndarray, weights: np.ndarray, shape: Shape) -> np.ndarray:
    blocks = matrix.reshape(-1, shape.block, matrix.shape[1])
    if shape.order == "F":
        blocks = np.ascontiguousarray(blocks.transpose(0, 2, 1)).transpose(0, 2, 1)
    products: np.ndarray = np.matmul(blocks, weights)
    return products.reshape(len(matrix), *weights.shape[1:])
