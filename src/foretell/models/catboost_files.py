"""CatBoost's binary model files, looked into before the library applies them: it verifies their layout, and follows
their indices unseen. What stands behind the trees (the counters of categories, what estimates text) is not looked into.

Source of the format: catboost/libs/model/flatbuffers/model.fbs of https://github.com/catboost/catboost.
"""

import struct
from pathlib import Path
from typing import Any

import numpy as np

from foretell.errors import ModelUnreadable
from foretell.trees.catboost import REPACKED, STEP, trees_of
from foretell.trees.flatbuffer import Broken, Table, sure

_MOST = 1 << 20
_BUCKET = 254


def check(data: bytes, path: Path) -> None:
    """That every tree's splits and leaves are there. Raises ModelUnreadable."""
    try:
        _check_trees(trees_of(data))
    except Broken as wrong:
        raise ModelUnreadable(f"{path} is not a sound CatBoost model: {wrong}") from wrong
    except (struct.error, ValueError, IndexError, OverflowError) as error:
        raise ModelUnreadable(f"{path} is not a readable CatBoost model: {error}") from error


def has_more(data: bytes) -> bool:
    """Whether something stands behind the trees, which nobody has looked into."""
    return len(data) > 8 and struct.unpack_from("<I", data, 4)[0] < len(data) - 8


def _check_trees(model: Table) -> None:
    width = model.integer(0, 0)
    splits, sizes, starts = (model.array(number, "<i4").astype("int64") for number in (1, 2, 3))
    values = model.array(8, "<f8")
    sure(0 < width <= _MOST, "its approximation has no dimension")
    sound = len(sizes) == len(starts) and (sizes >= 0).all() and (starts == np.cumsum(sizes) - sizes).all()
    sure(sound and sizes.sum() == len(splits), "the trees' sizes do not fit their splits")
    bins = _bins(model)
    sure(((splits >= 0) & (splits < sum(bins))).all(), "a split is not there")
    repacked = model.array(17, REPACKED)
    buckets = sum(-(-count // _BUCKET) for count in bins)
    sure(len(repacked) in (0, len(splits)) and (repacked["feature"] < buckets).all(), "a split's column is not there")
    weights = len(model.array(9, "<f8"))
    steps = model.array(10, STEP)
    sure(len(model.array(16, "<f8")) in (0, 1, width), "its bias has another dimension")
    if len(steps):
        _check_free_trees(model, steps, sizes, starts, width)
    else:
        sure((sizes < 32).all() and (1 << sizes).sum() * width == len(values), "the leaves' number is wrong")
        sure(weights in (0, len(values) // width), "the leaves' weights' number is wrong")


def _bins(model: Table) -> list[int]:
    """How many splits each column has: by borders, categories, counters, and what is estimated from text."""
    _indices(model.tables(5), 1)
    _indices(model.tables(4), 0)
    kinds = ((5, 3, "<f4"), (6, 1, "<i4"), (7, 1, "<f4"), (13, 3, "<f4"))
    return [len(table.array(at, dtype)) for number, at, dtype in kinds for table in model.tables(number)]


def _indices(columns: list[Table], number: int) -> None:
    found = sorted(column.integer(number, -1) for column in columns)
    sure(found == list(range(len(columns))), "its columns are not numbered one by one")


def _check_free_trees(model: Table, steps: Any, sizes: Any, starts: Any, width: int) -> None:
    """Trees whose branches differ: a node steps forward to its children, and stays where it is a leaf."""
    step = np.column_stack([steps["left"], steps["right"]]).astype("int64")
    leaf = model.array(11, "<u4").astype("int64")
    sure(len(step) == len(leaf) == sizes.sum(), "the trees' steps do not fit their splits")
    at = np.arange(len(step))
    end = np.repeat(starts + sizes, sizes)
    sure((at[:, None] + step < end[:, None]).all(), "a node's child is not there")
    final = (step == 0).any(axis=1)
    sure(((leaf[final] + width) <= len(model.array(8, "<f8"))).all(), "a leaf's value is not there")
