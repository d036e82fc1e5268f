"""What passes between the steps of a kernel: a matrix, a frame of columns, or parts side by side of which most cells
are zero. Every step of `kernels` takes and gives these."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foretell.errors import RowRefused


@dataclass(frozen=True)
class Frame:
    """Columns of one length and of dtypes of their own, each of shape (rows,); missing text is None or NaN."""

    columns: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.columns[0])


@dataclass(frozen=True)
class Hot:
    """width columns of which a row has a one in at most one: codes, shape (rows,), say in which; -1 for in none."""

    codes: np.ndarray
    width: int

    def __len__(self) -> int:
        return len(self.codes)

    def dense(self) -> np.ndarray:
        """Shape (rows, width), float64."""
        matrix = np.zeros((len(self.codes), self.width + 1))
        matrix[np.arange(len(self.codes)), self.codes] = 1.0
        return matrix[:, :-1]


@dataclass(frozen=True)
class Sparse:
    """What scikit-learn holds as a sparse matrix: parts side by side, matrices and Hot."""

    parts: tuple[np.ndarray | Hot, ...]

    def __len__(self) -> int:
        return len(self.parts[0])

    def dense(self) -> np.ndarray:
        """Shape (rows, all widths)."""
        return np.hstack([part.dense() if isinstance(part, Hot) else part for part in self.parts])


Rows = np.ndarray | Frame | Sparse


def numbers(rows: Rows, *, keeps: Sequence[str] = ()) -> np.ndarray:
    """Rows as a matrix of numbers in C order, as scikit-learn's check_array makes it: float64, unless their common
    dtype is among those that the step keeps. Flags and nulls that came as objects are 1, 0 and NaN."""
    if isinstance(rows, Sparse):
        rows = rows.dense()
    if isinstance(rows, Frame):
        common = _common(rows.columns)
        dtype = common if common in keeps else np.dtype("float64")
        matrix = np.empty((len(rows), len(rows.columns)), dtype)
        for at, column in enumerate(rows.columns):
            matrix[:, at] = column if column.dtype != object else numbers_of(column)
        return matrix
    if rows.dtype.name in keeps:
        return rows
    return rows.astype("float64") if rows.dtype != "float64" else rows


def numbers_of(column: np.ndarray) -> np.ndarray:
    """A column of flags, numbers and nulls that came as objects, as float64."""
    return np.array([np.nan if value is None else value for value in column], "float64")


def _common(columns: Sequence[np.ndarray]) -> np.dtype:
    """pandas' common dtype: flags beside numbers make objects, which become float64."""
    kinds = {column.dtype for column in columns}
    if len(kinds) == 1:
        return kinds.pop()
    mixed = any(kind.kind not in "iuf" for kind in kinds)
    return np.dtype("float64") if mixed else np.result_type(*kinds)


FINITE_KEPT = ("float64", "float32", "float16")
"""The dtypes that scikit-learn's transformers of numbers leave as they are."""

NUMERIC = (*FINITE_KEPT, "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
"""The dtypes that scikit-learn's estimators of any number leave as they are."""


def check_finite(matrix: np.ndarray, *, nan: bool = False) -> None:
    """What scikit-learn's validation does: NaN (unless nan) and infinity are refused. Raises RowRefused."""
    if matrix.dtype.kind != "f" or np.logical_and.reduce(np.isfinite(matrix), axis=None):
        return
    if not nan and np.isnan(matrix).any():
        raise refused("Input X contains NaN.")
    if np.isinf(matrix).any():
        raise refused(f"Input X contains infinity or a value too large for dtype('{matrix.dtype}').")


def refused(reason: str) -> RowRefused:
    """The error for a row that the library's own validation refuses."""
    return RowRefused(f"the model refused the row: {reason}")
