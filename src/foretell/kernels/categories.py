"""Which of a column's known values a cell is: what the encoders of `encoding` stand on.

Source of the rules: scikit-learn's utils/_encode.py and preprocessing/_encoders.py. Numbers are compared as numpy
compares them, anything else as Python does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from foretell.kernels.node import NotCovered
from foretell.kernels.rows import Frame, Rows, Sparse, check_finite, refused

REFUSED = -2
"""Stands for what the library refuses."""

_FEW = 8
"""So many rows are looked up one by one more quickly than by numpy."""


@dataclass(frozen=True)
class Categories:
    """values: those that are known of a column, in the library's order. means: what each of them stands for, then what
    an unknown one does, which may be REFUSED."""

    values: np.ndarray
    means: np.ndarray

    @staticmethod
    def each(values: Sequence[np.ndarray], means: np.ndarray) -> "tuple[Categories, ...]":
        """Of several columns. means: of all of them, one after the other. Raises ValueError."""
        ends = np.cumsum([len(known) + 1 for known in values])
        if ends[-1] != len(means):
            raise ValueError("categories and what they stand for are not as many")
        return tuple(Categories(*pair) for pair in zip(values, np.split(means, ends[:-1]), strict=True))

    @cached_property
    def _ways(self) -> dict[str, "_Way"]:
        return {}

    def way(self, dtype: np.dtype[Any], objects: bool) -> "_Way":
        """How cells of a dtype are looked up. Raises NotCovered."""
        key = "O" if objects else dtype.char
        found = self._ways.get(key)
        if found is None:
            found = self._ways[key] = _way(self, np.dtype(key))
        return found


def meanings(rows: Rows, columns: Sequence[Categories]) -> np.ndarray:
    """What every cell stands for, shape (rows, columns), intp. Raises RowRefused."""
    if isinstance(rows, Sparse):
        raise NotCovered("an encoder after columns that are kept sparse")
    cells = rows.columns if isinstance(rows, Frame) else tuple(rows.T)
    objects = isinstance(rows, Frame) and rows.objects
    if len(rows) <= _FEW:
        listed = [
            list(map(known.way(cell.dtype, objects).table.__getitem__, cell.tolist()))
            for known, cell in zip(columns, cells, strict=True)
        ]
        for at, means in enumerate(listed):
            if REFUSED in means:
                raise _refused(cells[at][means.index(REFUSED)], at)
        return np.array(listed, np.intp).T
    found = np.empty((len(rows), len(columns)), np.intp)
    for at, (known, cell) in enumerate(zip(columns, cells, strict=True)):
        found[:, at] = known.way(cell.dtype, objects).meanings(cell)
    if (bad := found == REFUSED).any():
        row, at = np.argwhere(bad)[0]
        raise _refused(cells[at][row], int(at))
    return found


def _refused(cell: Any, at: int) -> Exception:
    if isinstance(cell, np.floating) and np.isinf(cell):
        return refused(f"Input contains infinity or a value too large for {cell.dtype!r}.")
    return refused(f"Found unknown categories [{np.nan if cell is None else cell!r}] in column {at} during transform")


class _Table(dict[Any, int]):
    """What a value stands for; also one that is missing, or unknown."""

    def __init__(self, means: dict[Any, int], missing: int, unknown: int) -> None:
        super().__init__(means)
        self._missing = missing
        self._unknown = unknown

    def __missing__(self, value: Any) -> int:
        return self._missing if value is None or value != value else self._unknown


class _Whole(_Table):
    """Of whole numbers, where the known ones are floats: numpy compares them as floats, and Python would exactly."""

    def __missing__(self, value: Any) -> int:
        return self._unknown if isinstance(value, float) else self[float(value)]


@dataclass(frozen=True)
class _Way:
    """table: by Python's value. keys: sorted, of the dtype in which numbers are compared, and what they and then
    unknown ones stand for; None where cells are looked up one by one."""

    table: _Table
    missing: int
    keys: np.ndarray | None
    means: np.ndarray

    def meanings(self, column: np.ndarray) -> np.ndarray:
        if self.keys is None:
            return np.fromiter(map(self.table.__getitem__, column.tolist()), np.intp, len(column))
        check_finite(column, nan=True)
        cells = column.astype(self.keys.dtype, copy=False)
        at = self.keys.searchsorted(cells)
        at[at == len(self.keys)] = 0
        unknown = self.means[-1]
        means: np.ndarray = np.where(self.keys[at] == cells, self.means[at], unknown)
        if self.missing != unknown:
            means[np.isnan(cells)] = self.missing
        return means


def _way(known: Categories, dtype: np.dtype[Any]) -> _Way:
    """Raises NotCovered where the library would fail, or set a value of one type in place of one of another."""
    values, means = known.values, known.means
    unknown = int(means[-1])
    if dtype.kind not in "biufO":
        raise NotCovered(f"an encoder of {dtype}")
    if dtype.kind != "O":
        if values.dtype.kind not in "biuf" and (dtype.kind != "b" or unknown != REFUSED):
            raise NotCovered(f"an encoder of {dtype} that knows other values")
        if unknown != REFUSED and values[0].astype(dtype) != values[0] and values[0] == values[0]:
            raise NotCovered(f"an encoder of {dtype} that knows {values.dtype}")
        if unknown != REFUSED and values[0] != values[0] and dtype.kind != "f":
            raise NotCovered(f"an encoder of {dtype} that knows no number")
    there = [value is not None and value == value for value in values.tolist()]
    nan = [at for at, value in enumerate(values.tolist()) if value is not None and value != value]
    missing = int(means[nan[0]]) if nan else unknown
    plain, stands = values[there], means[:-1][there]
    if dtype.kind in "bO":
        return _Way(_table(_Table, plain.tolist(), stands, missing, unknown), missing, None, means)
    common = np.result_type(np.float64 if dtype.kind == "f" else np.int64, plain.dtype)
    keys = plain.astype(common)
    kind = _Whole if dtype.kind in "iu" and common.kind == "f" else _Table
    table = _table(kind, keys.tolist(), stands, missing, unknown)
    if dtype.kind == "f":
        table[np.inf] = table[-np.inf] = REFUSED
    if not len(keys):
        keys, stands = np.array([np.nan]), np.array([unknown])
    return _Way(table, missing, keys, np.append(stands, unknown))


def _table(kind: type[_Table], values: list[Any], means: np.ndarray, missing: int, unknown: int) -> _Table:
    """The first of equal values counts."""
    pairs = zip(reversed(values), reversed(means.tolist()), strict=True)
    return kind(dict(pairs), missing, unknown)


def storable(categories: Any) -> np.ndarray:
    """A fitted encoder's known values, where a kernel can hold them. Raises NotCovered."""
    values = np.asarray(categories)
    if values.dtype.kind in "biuf":
        if np.any(values[1:] <= values[:-1]):
            raise NotCovered("an encoder whose numbers are not sorted")
        return values
    if values.dtype.kind == "U":
        values = values.astype(object)
    if values.dtype.kind != "O":
        raise NotCovered(f"an encoder that knows {values.dtype}")
    for value in values:
        if not (value is None or isinstance(value, bool | float | str | np.bool_ | np.number) or _small(value)):
            raise NotCovered(f"an encoder that knows a {type(value).__name__}")
        if isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError:
                raise NotCovered("an encoder that knows half of a surrogate pair") from None
    return values


def _small(value: Any) -> bool:
    return isinstance(value, int) and -(2**63) <= value < 2**63
