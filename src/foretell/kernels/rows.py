"""What passes between the steps of a kernel: a matrix, a frame of columns, or parts side by side of which most cells
are zero. Every step of `kernels` takes and gives these."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from foretell.errors import RowRefused


@dataclass(frozen=True)
class Frame:
    """Columns of one length and of dtypes of their own, each of shape (rows,); missing text is None or NaN.

    objects: whether scikit-learn holds them as one matrix of Python's objects, and not as a frame.
    """

    columns: tuple[np.ndarray, ...]
    objects: bool = False

    def __len__(self) -> int:
        return len(self.columns[0])

    @property
    def text(self) -> bool:
        """Whether scikit-learn's matrix of them is one of objects."""
        return self.objects or any(column.dtype == object for column in self.columns)


Number = Literal[
    "float64", "float32", "float16", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"
]
"""The names of numbers' dtypes."""


@dataclass(frozen=True)
class Hot:
    """width columns of ones and zeros: codes, shape (rows, features), say in which of them a row has its ones, in
    order; -1 for in none."""

    codes: np.ndarray
    width: int
    dtype: Number = "float64"

    def __len__(self) -> int:
        return len(self.codes)

    def dense(self) -> np.ndarray:
        """Shape (rows, width)."""
        rows = len(self.codes)
        matrix = np.zeros((rows, self.width), self.dtype)
        if rows == 1:
            matrix[0, [code for code in self.codes[0].tolist() if code >= 0]] = 1
            return matrix
        places = self.codes + np.arange(0, rows * self.width, self.width)[:, None]
        matrix.reshape(-1)[places[self.codes >= 0]] = 1
        return matrix


@dataclass(frozen=True)
class Sparse:
    """What scikit-learn holds as a sparse matrix: parts side by side, matrices and Hot."""

    parts: tuple[np.ndarray | Hot, ...]

    def __len__(self) -> int:
        return len(self.parts[0])

    def dense(self) -> np.ndarray:
        """Shape (rows, all widths)."""
        matrices = [part.dense() if isinstance(part, Hot) else part for part in self.parts]
        return matrices[0] if len(matrices) == 1 else np.concatenate(matrices, axis=1)


Rows = np.ndarray | Frame | Sparse

_FEW = 256
_DOUBLE = np.dtype("float64")


def numbers(rows: Rows, *, keeps: Sequence[str] = ()) -> np.ndarray:
    """Rows as a matrix of numbers in C order, as scikit-learn's check_array makes it: float64, unless their common
    dtype is among those that the step keeps. Flags and nulls that came as objects are 1, 0 and NaN.

    Raises ValueError for text, with which the library fails too, unless it spells a number.
    """
    if isinstance(rows, np.ndarray) and rows.dtype == _DOUBLE:
        return rows
    if isinstance(rows, Sparse):
        rows = rows.dense()
    if isinstance(rows, Frame):
        common = np.dtype("float64") if rows.objects else _common(*[column.dtype for column in rows.columns])
        matrix = np.empty((len(rows), len(rows.columns)), common if name_of(common) in keeps else "float64")
        for at, column in enumerate(rows.columns):
            matrix[:, at] = column if column.dtype.kind in "fiub" else numbers_of(column)
        return matrix
    if name_of(rows.dtype) in keeps:
        return rows
    return rows.astype("float64", copy=False)


def singles(rows: Rows, *, common: bool = False) -> np.ndarray:
    """Rows as a matrix of float32 in C order, as scikit-learn's check_array makes it. A cell is rounded from its
    column's own type where flags are among a frame's columns, or else from the type that all columns have in common.

    common: whether the library makes the frame a matrix before it asks for float32, flags or not. Raises ValueError
    for text.
    """
    if isinstance(rows, Sparse):
        rows = rows.dense()
    if not isinstance(rows, Frame):
        return np.ascontiguousarray(rows, "float32")
    kinds = [column.dtype for column in rows.columns]
    own = not common and not rows.objects and any(kind.kind == "b" for kind in kinds)
    between = np.dtype("float64") if rows.objects else _common(*kinds)
    matrix = np.empty((len(rows), len(kinds)), "float32")
    for at, column in enumerate(rows.columns):
        cells = column if column.dtype.kind in "fiub" else numbers_of(column)
        matrix[:, at] = cells if own else cells.astype(between, copy=False)
    return matrix


def numbers_of(column: np.ndarray) -> np.ndarray:
    """A column of flags, numbers and nulls that came as objects, as float64. Raises ValueError for any other."""
    kinds = set(map(type, column.tolist())) if column.dtype == object else {np.datetime64}
    for kind in kinds:
        if kind is not type(None) and not issubclass(kind, bool | int | float | np.bool_ | np.number):
            raise ValueError(f"{kind.__name__} where the model expects numbers")
    return column.astype("float64")


@functools.cache
def name_of(dtype: np.dtype[Any]) -> str:
    """numpy makes a dtype's name anew each time, which takes longer than a step."""
    return dtype.name


@functools.cache
def _common(*kinds: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype that check_array knows a frame by; float64 for objects, which are made numbers at once."""
    if any(kind.kind not in "fiub" for kind in kinds):
        return np.dtype("float64")
    return np.result_type(*kinds)


FINITE_KEPT = ("float64", "float32", "float16")
"""The dtypes that scikit-learn's transformers of numbers leave as they are."""

NUMERIC = (*FINITE_KEPT, "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
"""The dtypes that scikit-learn's estimators of any number leave as they are."""


def check_finite(matrix: np.ndarray, *, nan: bool = False) -> None:
    """What scikit-learn's validation does: NaN (unless nan) and infinity are refused. Raises RowRefused."""
    if matrix.dtype.kind != "f" or math.isfinite(_sum(matrix)):
        return  # a sum is finite where every cell is, unless it is too large
    if not nan and np.isnan(matrix).any():
        raise refused("Input X contains NaN.")
    if np.isinf(matrix).any():
        raise refused(f"Input X contains infinity or a value too large for dtype('{matrix.dtype}').")


def _sum(matrix: np.ndarray) -> float:
    """Of all cells; of few ones their squares, by BLAS, which numpy calls the most quickly."""
    total: float
    if matrix.size <= _FEW:
        cells = matrix.ravel()
        total = cells.dot(cells)
    else:
        total = np.add.reduce(matrix, axis=None)
    return total


def refused(reason: str) -> RowRefused:
    """The error for a row that the library's own validation refuses."""
    return RowRefused(f"the model refused the row: {reason}")
