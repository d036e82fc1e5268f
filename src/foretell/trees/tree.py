"""One decision tree, whatever library trained it: readers of models make it, `forest` and `conversion` take it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Tree:
    """An array each over its splits, of which the first is the root, and the values of its leaves.

    feature: the column that a split looks at. left, right: where a row goes on whose cell is at most the threshold, and
    elsewhere: a split's number, or ~ a leaf's. missing_left: whether a missing value goes left. leaves: shape
    (leaves,), or (leaves, k). zero_missing: whether a split takes numbers near 0 for missing; None where none does.
    sets: by split, the whole numbers that go left instead of those at most the threshold.
    """

    feature: np.ndarray
    threshold: np.ndarray
    missing_left: np.ndarray
    left: np.ndarray
    right: np.ndarray
    leaves: np.ndarray
    zero_missing: np.ndarray | None = None
    sets: "dict[int, Categories] | None" = None

    @property
    def numeric(self) -> bool:
        """Whether its splits are on thresholds alone."""
        return not self.sets and self.zero_missing is None


@dataclass(frozen=True)
class Categories:
    """What goes left at a split by category. members: whole numbers, each below 2 ** 32. others_left: whether those
    go left that are negative, or above most. most: the largest that is looked up. toward_zero: whether a negative
    number above -1 is category 0, and not negative."""

    members: Sequence[int]
    most: int
    others_left: bool = False
    toward_zero: bool = False


def constant(value: float) -> Tree:
    """A tree that answers every row alike."""
    none = np.empty(0, "int64")
    return Tree(none, np.empty(0), none, none, none, np.array([value]))


def from_nodes(left: Any, right: Any, feature: Any, threshold: Any, missing_left: Any, values: Any) -> Tree:
    """A tree from arrays over all of its nodes, leaves among them, whose left child is -1."""
    left, right = np.asarray(left, "int64"), np.asarray(right, "int64")
    leaf = left < 0
    numbers = np.where(leaf, ~(np.cumsum(leaf) - 1), np.cumsum(~leaf) - 1)
    split = ~leaf
    columns, thresholds, missing = (np.asarray(array)[split] for array in (feature, threshold, missing_left))
    return Tree(columns, thresholds, missing, numbers[left[split]], numbers[right[split]], np.asarray(values)[leaf])


def of_sklearn(tree: Any) -> Tree:
    """scikit-learn's own tree_: leaves of shape (leaves, outputs * classes), a share for each class."""
    arrays = (tree.children_left, tree.children_right, tree.feature, tree.threshold, tree.missing_go_to_left)
    return from_nodes(*arrays, tree.value.reshape(len(tree.value), -1))


def of_histogram(predictor: Any) -> Tree:
    """A tree of HistGradientBoosting…, whose nodes are records."""
    nodes = predictor.nodes
    leaf = nodes["is_leaf"].astype(bool)
    left = np.where(leaf, -1, nodes["left"].astype("int64"))
    more = (nodes["feature_idx"], nodes["num_threshold"], nodes["missing_go_to_left"], nodes["value"])
    tree = from_nodes(left, nodes["right"], *more)
    splits = nodes[~leaf]
    bits = {
        int(at): predictor.raw_left_cat_bitsets[splits[at]["bitset_idx"]]
        for at in np.flatnonzero(splits["is_categorical"])
    }
    sets = {at: Categories(_members(words), 255, bool(tree.missing_left[at])) for at, words in bits.items()}
    return replace(tree, sets=sets) if sets else tree


def _members(words: np.ndarray) -> list[int]:
    """The numbers of the bits that are set."""
    chosen = np.unpackbits(words.astype("<u4").view("uint8"), bitorder="little")
    return np.flatnonzero(chosen).tolist()


def below(tree: Tree) -> Tree:
    """The same for a library that sends left what is less than the threshold, in float32: the largest number that is
    less takes the threshold's place."""
    threshold = np.nextafter(tree.threshold.astype("float32"), np.float32(-np.inf))
    return replace(tree, threshold=threshold)
