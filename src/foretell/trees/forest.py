"""All trees of a model as one table, which `_walk` goes through: the sums of the leaves that rows come to. A library's
own arithmetic is in the table's numbers, their types and their order."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from foretell.errors import ModelUnreadable
from foretell.trees.tree import Tree

try:
    from foretell.trees import _walk
except ImportError:  # a package that was built where there was no compiler
    _walk = None  # type: ignore[assignment]

Number = Literal["float32", "float64"]

_FLAGS = {"missing_left": 31, "zero_missing": 30, "sets": 29, "others_left": 28, "toward_zero": 27}
"""Bits of a node's second word, above its column, as _walk.c has them."""
COLUMNS = 1 << 24
"""A forest looks at fewer columns."""
_REBUILD = "Install foretell again where there is a C compiler, or use --engine native"


def available() -> bool:
    """Whether this foretell was built with a compiler, so that it has _walk."""
    return _walk is not None


@dataclass(frozen=True)
class Forest:
    """nodes: shape (nodes, 3 or 4), int32: a threshold of the dtype that cells are rounded to, or the place of a set in
    bits; the column, and flags; the left child, after which the right one comes. A child comes after its parent; a leaf
    is its own. trees: shape (trees, 4), int32: the root; the output that its leaves count for, or the first of them;
    so many steps every walk takes, and whether one may take more. leaves: shape (nodes, 1), or (leaves, width), of the
    dtype of the sums; slots: then the leaf of each node. start: shape (outputs,), where the sums begin. bits: uint32,
    for each set the number of its words, and those. number: what a cell is rounded to before it is compared.

    Raises ValueError where a walk could leave the table, ModelUnreadable where foretell was built without a compiler.
    """

    nodes: np.ndarray
    trees: np.ndarray
    leaves: np.ndarray
    slots: np.ndarray
    start: np.ndarray
    bits: np.ndarray
    columns: int
    number: Number

    def __post_init__(self) -> None:
        if _walk is None:
            raise ModelUnreadable("foretell was installed without its compiled part, which trees need", _REBUILD)
        arrays = (self.nodes, self.trees, self.slots, self.bits)
        kinds = [array.dtype.name for array in arrays]
        shapes = (self.nodes.shape[1:], self.trees.shape[1:], self.leaves.ndim, self.start.ndim)
        wanted = ((3 if self.number == "float32" else 4,), (4,), 2, 1)
        if kinds != ["int32", "int32", "int32", "uint32"] or self.start.dtype != self.leaves.dtype or shapes != wanted:
            raise ValueError("the forest's arrays are of other shapes or types")
        sums = {"float32": "f", "float64": "d"}.get(self.leaves.dtype.name, "?")
        table = (
            ("f" if self.number == "float32" else "d") + sums,
            *(self.nodes, self.trees, self.leaves, self.slots, self.bits),
            *(self.leaves.shape[1], self.columns, len(self.start)),
        )
        anything = _walk.check(*table)
        object.__setattr__(self, "_table", (*table, anything))

    def sums(self, matrix: np.ndarray, begin: np.ndarray | None = None) -> np.ndarray:
        """What the trees' leaves add up to, in the order of the trees. matrix: shape (rows, columns). begin: where sums
        begin that do not all begin alike. Shape (rows, outputs)."""
        rows = np.ascontiguousarray(matrix, self.number)
        found = np.empty((len(rows), len(self.start)), self.leaves.dtype)
        found[:] = self.start if begin is None else begin
        _walk.add(*self._table, rows, found)  # type: ignore[attr-defined]
        return found


def planted(
    trees: Sequence[Tree],
    columns: int,
    *,
    outputs: Iterable[int] | None = None,
    start: Sequence[float] | np.ndarray = (0.0,),
    number: Number = "float64",
    sums: Number = "float64",
) -> Forest:
    """A forest of trees. outputs: the output that each tree counts for, where its leaves have one value; else the first
    one. start: where each output's sum begins. Raises ValueError, ModelUnreadable."""
    if not trees or columns >= COLUMNS or 2 * sum(len(tree.leaves) for tree in trees) >= 1 << 31:
        raise ValueError("the forest is too large, or has no trees")
    wide = np.asarray(trees[0].leaves)[0].size > 1
    table = np.zeros((len(trees), 4), "int32")
    table[:, 1] = list(outputs) if outputs is not None else 0
    bits, nodes, leaves, slots = _Bits(), [], [], []
    first = filled = 0
    for at, tree in enumerate(trees):
        laid = _laid(tree, first, number, bits)
        values = np.asarray(tree.leaves).reshape(len(tree.leaves), -1).astype(sums)
        leaves.append(values if wide else np.where(laid.leaf[:, None] >= 0, values[laid.leaf], 0).astype(sums))
        slots.append(np.maximum(laid.leaf, 0) + filled if wide else laid.leaf[:0])
        nodes.append(laid.nodes)
        table[at, [0, 2, 3]] = first, laid.steps, laid.more
        first += len(laid.nodes)
        filled += len(values)
    return Forest(
        np.concatenate(nodes),
        table,
        np.concatenate(leaves),
        np.concatenate(slots).astype("int32"),
        np.asarray(start, sums),
        bits.array(),
        columns,
        number,
    )


class _Bits:
    """Sets of categories, one after the other."""

    def __init__(self) -> None:
        self._words: list[np.ndarray] = []
        self._length = 0

    def add(self, members: Sequence[int], most: int) -> int:
        """The place of a set."""
        chosen = np.zeros((most // 32 + 1) * 32, "uint8")
        chosen[np.asarray(members, "int64")] = 1
        words = np.packbits(chosen, bitorder="little").view("<u4").astype("uint32")
        place = self._length
        self._words += [np.array([len(words)], "uint32"), words]
        self._length += len(words) + 1
        return place

    def array(self) -> np.ndarray:
        return np.concatenate(self._words) if self._words else np.empty(0, "uint32")


@dataclass(frozen=True)
class _Laid:
    """A tree's part of a table. leaf: by node, its leaf; -1 for a split. steps, more: as in Forest.trees."""

    nodes: np.ndarray
    leaf: np.ndarray
    steps: int
    more: bool


_CHECKS = 3.0
"""So many steps at most are taken in vain, on average, rather than asked for at each step."""


def _laid(tree: Tree, first: int, number: Number, bits: _Bits) -> _Laid:
    """A tree's nodes behind so many of the trees before it."""
    item, left, depth = _order(tree)
    split = item >= 0
    chosen = item[split]
    nodes = np.zeros((len(item), 3 if number == "float32" else 4), "int32")
    threshold = np.full(len(item), np.inf, number)
    threshold[split] = _at_most(tree.threshold[chosen]) if number == "float32" else tree.threshold[chosen]
    nodes[:, :-2] = threshold.view("int32").reshape(len(item), -1)
    what = np.full(len(item), 1 << _FLAGS["missing_left"], "uint32")
    what[split] = tree.feature[chosen].astype("uint32")
    what[split] |= tree.missing_left[chosen].astype("uint32") << _FLAGS["missing_left"]
    if tree.zero_missing is not None:
        what[split] |= tree.zero_missing[chosen].astype("uint32") << _FLAGS["zero_missing"]
    place = dict(zip(chosen.tolist(), np.flatnonzero(split).tolist(), strict=True)) if tree.sets else {}
    for at, found in ((place[split_], found) for split_, found in (tree.sets or {}).items() if split_ in place):
        nodes[at, 0] = bits.add(found.members, found.most)
        what[at] |= 1 << _FLAGS["sets"] | found.others_left << _FLAGS["others_left"]
        what[at] |= found.toward_zero << _FLAGS["toward_zero"]
    nodes[:, -2] = what.view("int32")
    nodes[:, -1] = left + first
    mean, most = float(depth[~split].mean()), int(depth.max())
    even = most <= mean + _CHECKS
    return _Laid(nodes, np.where(split, -1, ~item), most if even else int(mean), not even)


def _order(tree: Tree) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By node: its split, or ~ its leaf; its left child, or itself; and its depth. Siblings are side by side, and what
    is below the left one comes before what is below the right one: a walk's last steps are close together."""
    levels = _levels(tree)
    sizes = [np.zeros(len(levels[-1]), "int64")]
    for level in reversed(levels[:-1]):
        under = np.zeros(len(level), "int64")
        under[level >= 0] = sizes[-1].reshape(-1, 2).sum(axis=1) + 2
        sizes.append(under)
    places, item, left, depth = np.zeros(1, "int64"), *(np.empty(sizes[-1][0] + 1, "int64") for _ in range(3))
    below = np.ones(1, "int64")
    for at, level in enumerate(levels):
        inner = level >= 0
        item[places], depth[places] = level, at
        left[places] = np.where(inner, below, places)
        if at + 1 < len(levels):
            pairs = below[inner]
            places = np.stack([pairs, pairs + 1], axis=1).reshape(-1)
            after = sizes[-at - 2][::2]
            below = np.stack([pairs + 2, pairs + 2 + after], axis=1).reshape(-1)
    return item, left, depth


def _levels(tree: Tree) -> list[np.ndarray]:
    """Splits and ~ leaves by depth. Raises ValueError for what is no tree."""
    splits, count = len(tree.feature), 0
    level = np.array([0 if splits else ~0])
    levels = []
    while len(level):
        count += len(level)
        if count > 2 * splits + 1 or level.max() >= splits or level.min() < ~splits:
            raise ValueError("a tree's nodes do not make a tree")
        levels.append(level)
        inner = level[level >= 0]
        level = np.stack([tree.left[inner], tree.right[inner]], axis=1).reshape(-1)
    return levels


def _at_most(threshold: np.ndarray) -> np.ndarray:
    """The largest float32 that is at most each threshold: a float32 is on the same side of both."""
    with np.errstate(over="ignore"):
        near = threshold.astype("float32")
        lower: Any = np.where(near.astype("float64") > threshold, np.nextafter(near, np.float32(-np.inf)), near)
    return np.ascontiguousarray(lower)
