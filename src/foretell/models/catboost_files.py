"""CatBoost's binary model files, looked into before the library applies them: it verifies their layout, and follows
their indices unseen. What stands behind the trees (the counters of categories, what estimates text) is not looked into.

Source of the format: catboost/libs/model/flatbuffers/model.fbs of https://github.com/catboost/catboost.
"""

import struct
from pathlib import Path
from typing import Any

import numpy as np

from foretell.errors import ModelUnreadable

_MOST = 1 << 20
_BUCKET = 254


def check(data: bytes, path: Path) -> None:
    """That every tree's splits and leaves are there. Raises ModelUnreadable."""
    try:
        _sure(data[:4] == b"CBM1", "it does not begin with CBM1")
        (size,) = struct.unpack_from("<I", data, 4)
        _sure(size <= len(data) - 8, "it is cut off")
        core = data[8 : 8 + size]
        root = _Table(core, _offset(core, 0))
        _check_trees(root.table(1))
    except _Wrong as wrong:
        raise ModelUnreadable(f"{path} is not a sound CatBoost model: {wrong}") from wrong
    except (struct.error, ValueError, IndexError, OverflowError) as error:
        raise ModelUnreadable(f"{path} is not a readable CatBoost model: {error}") from error


def has_more(data: bytes) -> bool:
    """Whether something stands behind the trees, which nobody has looked into."""
    return len(data) > 8 and struct.unpack_from("<I", data, 4)[0] < len(data) - 8


class _Wrong(ValueError):
    """The file can be read, and does not hold together."""


def _sure(holds: Any, what: str) -> None:
    if not holds:
        raise _Wrong(what)


def _offset(data: bytes, at: int) -> int:
    _sure(at >= 0, "an offset points outside")
    return at + int(struct.unpack_from("<I", data, at)[0])


class _Table:
    """A table of a flat buffer: its fields by number."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at
        layout = at - int(struct.unpack_from("<i", data, at)[0])
        _sure(0 <= layout < len(data), "a table's layout is outside")
        (length,) = struct.unpack_from("<H", data, layout)
        _sure(length >= 4, "a table's layout is too short")
        self._fields = struct.unpack_from(f"<{(length - 4) // 2}H", data, layout + 4)

    def _field(self, number: int) -> int | None:
        here = self._fields[number] if number < len(self._fields) else 0
        return self._at + here if here else None

    def integer(self, number: int, default: int) -> int:
        at = self._field(number)
        return default if at is None else int(struct.unpack_from("<i", self._data, at)[0])

    def table(self, number: int) -> "_Table":
        at = self._field(number)
        _sure(at is not None, "a part is missing")
        return _Table(self._data, _offset(self._data, at or 0))

    def array(self, number: int, dtype: Any) -> Any:
        at = self._field(number)
        if at is None:
            return np.empty(0, dtype)
        start = _offset(self._data, at)
        (count,) = struct.unpack_from("<I", self._data, start)
        _sure(count * np.dtype(dtype).itemsize <= len(self._data) - start - 4, "an array is cut off")
        return np.frombuffer(self._data, dtype, count, start + 4)

    def tables(self, number: int) -> "list[_Table]":
        at = self._field(number)
        if at is None:
            return []
        start = _offset(self._data, at) + 4
        return [_Table(self._data, _offset(self._data, start + 4 * i)) for i in range(len(self.array(number, "<u4")))]


_REPACKED = np.dtype([("feature", "<u2"), ("mask", "u1"), ("split", "u1")])
_STEP = np.dtype([("left", "<u2"), ("right", "<u2")])


def _check_trees(model: _Table) -> None:
    width = model.integer(0, 0)
    splits, sizes, starts = (model.array(number, "<i4").astype("int64") for number in (1, 2, 3))
    values = model.array(8, "<f8")
    _sure(0 < width <= _MOST, "its approximation has no dimension")
    sound = len(sizes) == len(starts) and (sizes >= 0).all() and (starts == np.cumsum(sizes) - sizes).all()
    _sure(sound and sizes.sum() == len(splits), "the trees' sizes do not fit their splits")
    bins = _bins(model)
    _sure(((splits >= 0) & (splits < sum(bins))).all(), "a split is not there")
    repacked = model.array(17, _REPACKED)
    buckets = sum(-(-count // _BUCKET) for count in bins)
    _sure(len(repacked) in (0, len(splits)) and (repacked["feature"] < buckets).all(), "a split's column is not there")
    weights = len(model.array(9, "<f8"))
    steps = model.array(10, _STEP)
    _sure(len(model.array(16, "<f8")) in (0, 1, width), "its bias has another dimension")
    if len(steps):
        _check_free_trees(model, steps, sizes, starts, width)
    else:
        _sure((sizes < 32).all() and (1 << sizes).sum() * width == len(values), "the leaves' number is wrong")
        _sure(weights in (0, len(values) // width), "the leaves' weights' number is wrong")


def _bins(model: _Table) -> list[int]:
    """How many splits each column has: by borders, categories, counters, and what is estimated from text."""
    _indices(model.tables(5), 1)
    _indices(model.tables(4), 0)
    kinds = ((5, 3, "<f4"), (6, 1, "<i4"), (7, 1, "<f4"), (13, 3, "<f4"))
    return [len(table.array(at, dtype)) for number, at, dtype in kinds for table in model.tables(number)]


def _indices(columns: list[_Table], number: int) -> None:
    found = sorted(column.integer(number, -1) for column in columns)
    _sure(found == list(range(len(columns))), "its columns are not numbered one by one")


def _check_free_trees(model: _Table, steps: Any, sizes: Any, starts: Any, width: int) -> None:
    """Trees whose branches differ: a node steps forward to its children, and stays where it is a leaf."""
    step = np.column_stack([steps["left"], steps["right"]]).astype("int64")
    leaf = model.array(11, "<u4").astype("int64")
    _sure(len(step) == len(leaf) == sizes.sum(), "the trees' steps do not fit their splits")
    at = np.arange(len(step))
    end = np.repeat(starts + sizes, sizes)
    _sure((at[:, None] + step < end[:, None]).all(), "a node's child is not there")
    final = (step == 0).any(axis=1)
    _sure(((leaf[final] + width) <= len(model.array(8, "<f8"))).all(), "a leaf's value is not there")
