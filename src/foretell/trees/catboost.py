"""CatBoost's models of numbers, in the library's own binary form: their trees, and what is added to the sums.

Source: catboost/libs/model/flatbuffers/model.fbs, and cpu/evaluator_impl.cpp and cpu/quantization.h beside it, of
https://github.com/catboost/catboost.
"""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from foretell.trees.flatbuffer import Table, root, sure
from foretell.trees.tree import Tree

REPACKED = np.dtype([("feature", "<u2"), ("mask", "u1"), ("split", "u1")])
STEP = np.dtype([("left", "<u2"), ("right", "<u2")])
"""A node's children, as so many nodes after it; 0 where it is a leaf."""

_AS_GREATER = 2
"""Of ENanValueTreatment: a missing value is above every border."""


@dataclass(frozen=True)
class Boosted:
    """Sums of the trees' leaves, of cells rounded to float32, times scale, plus bias, shape (outputs,)."""

    trees: list[Tree]
    scale: float
    bias: np.ndarray

    @property
    def outputs(self) -> int:
        return len(self.bias)


def trees_of(data: bytes) -> Table:
    """The part of a model file that describes its trees. Raises Broken, struct.error."""
    sure(data[:4] == b"CBM1", "it does not begin with CBM1")
    (size,) = struct.unpack_from("<I", data, 4)
    sure(size <= len(data) - 8, "it is cut off")
    return root(data[8 : 8 + size]).table(1)


def read(data: bytes) -> Boosted:
    """A model whose splits look at numbers alone. Raises ValueError, IndexError, struct.error for any other."""
    model = trees_of(data)
    outputs = model.integer(0, 0)
    bias = model.array(16, "<f8")
    splits = _splits(model)
    trees = _free(model, splits, outputs) if len(model.array(10, STEP)) else _symmetric(model, splits, outputs)
    return Boosted(
        trees,
        float(model.number(14, "d", 1.0)),
        np.array(bias, "float64") if len(bias) else np.full(outputs, float(model.number(15, "d", 0.0))),
    )


@dataclass(frozen=True)
class _Splits:
    """What every split asks of which column; an array each."""

    feature: np.ndarray
    border: np.ndarray
    missing_left: np.ndarray

    def tree(self, at: np.ndarray, left: np.ndarray, right: np.ndarray, leaves: np.ndarray) -> Tree:
        leaves = leaves[:, 0] if leaves.shape[1] == 1 else leaves
        return Tree(self.feature[at], self.border[at], self.missing_left[at], left, right, leaves)


def _splits(model: Table) -> _Splits:
    """In the order of the trees' splits, by the numbers that they have among all borders."""
    columns = model.tables(5)
    counts = [len(column.array(3, "<f4")) for column in columns]
    features = [column.integer(2, -1) for column in columns]
    greater = [column.number(0, "?", 0) and column.number(5, "b", 0) == _AS_GREATER for column in columns]
    borders = np.concatenate([column.array(3, "<f4") for column in columns]).astype("float64")
    at = model.array(1, "<i4")
    return _Splits(np.repeat(features, counts)[at], borders[at], ~np.repeat(greater, counts).astype(bool)[at])


def _symmetric(model: Table, splits: _Splits, outputs: int) -> list[Tree]:
    """Trees that ask the same of all rows at each depth; a leaf's number has a bit for each answer."""
    trees = []
    first = used = 0
    values: Any = model.array(8, "<f8")
    for depth in model.array(2, "<i4").tolist():
        leaves = values[used : used + (outputs << depth)].reshape(-1, outputs)
        trees.append(splits.tree(first + _depths(depth), *_sides(depth), leaves))
        first, used = first + depth, used + leaves.size
    return trees


def _depths(depth: int) -> np.ndarray:
    """By node, from the root and level by level, how far down it is."""
    return np.repeat(np.arange(depth), 1 << np.arange(depth))


def _sides(depth: int) -> tuple[np.ndarray, np.ndarray]:
    """By node, its left and its right child. A node's place in its level is the number of the answers so far."""
    level = _depths(depth)
    place = np.arange((1 << depth) - 1) - ((1 << level) - 1)
    last = level == depth - 1
    below = (2 << level) - 1
    right = place + (1 << level)
    return np.where(last, ~place, below + place), np.where(last, ~right, below + right)


def _free(model: Table, splits: _Splits, outputs: int) -> list[Tree]:
    """Trees of any shape. A row ends at a node that has no child on its side, and gets that node's leaf."""
    steps = model.array(10, STEP)
    step = np.stack([steps["left"], steps["right"]]).astype("int64")
    leaf = model.array(11, "<u4").astype("int64")
    values: Any = model.array(8, "<f8")
    trees = []
    for first, size in zip(model.array(3, "<i4").tolist(), model.array(2, "<i4").tolist(), strict=True):
        here = step[:, first : first + size]
        split, ends = np.asarray(here.any(axis=0)), np.asarray(~here.all(axis=0))
        target = np.arange(size) + here
        stops = (here == 0) | ~split[target]
        left, right = np.where(stops, ~(np.cumsum(ends) - 1)[target], (np.cumsum(split) - 1)[target])[:, split]
        leaves = values[leaf[first : first + size][ends][:, np.newaxis] + np.arange(outputs)]
        trees.append(splits.tree(first + np.flatnonzero(split), left, right, leaves))
    return trees
