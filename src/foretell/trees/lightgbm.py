"""LightGBM's models, in the library's own text: their trees, and what is made of the sums of their leaves.

Source: Tree::Tree in src/io/tree.cpp, Tree::Decision in include/LightGBM/tree.h and GBDT::SaveModelToString of
https://github.com/microsoft/LightGBM.
"""

from dataclasses import dataclass

import numpy as np

from foretell.trees.tree import Categories, Tree, constant

ZERO = float(np.float32(1e-35))
"""Numbers between its negative and itself are 0 to LightGBM: none of them is told apart."""

_CATEGORICAL, _DEFAULT_LEFT = 1, 2
_MISSING_NONE, _MISSING_ZERO = 0, 1
"""Bits of a split's decision_type, and what its upper two say: which values are missing, if not NaN."""


@dataclass(frozen=True)
class Boosted:
    """trees: a round after the other, in each round one an output. objective, options: which function it was trained
    with, "custom" for one of its user's. average: whether sums are divided by the number of rounds. linear: whether
    leaves are linear functions, of which trees have the constants alone."""

    trees: list[Tree]
    outputs: int
    columns: int
    objective: str
    options: dict[str, str]
    average: bool
    linear: bool

    @property
    def rounds(self) -> int:
        return len(self.trees) // self.outputs


def read(text: str) -> Boosted:
    """A model from the text that the library writes. Raises ValueError, KeyError, IndexError for any other."""
    head, *blocks = text.partition("\nend of trees\n")[0].split("\n\nTree=")
    lines = _pairs(head)
    objective, *options = lines.get("objective", "custom").split()
    trees = [_pairs(block) for block in blocks]
    return Boosted(
        [_tree(tree) for tree in trees],
        int(lines["num_tree_per_iteration"]),
        int(lines["max_feature_idx"]) + 1,
        objective,
        _pairs("\n".join(options), ":"),
        "average_output" in lines,
        any(tree.get("is_linear", "0") != "0" for tree in trees),
    )


def _pairs(text: str, sign: str = "=") -> dict[str, str]:
    return dict(line.partition(sign)[::2] for line in text.splitlines())


def _tree(tree: dict[str, str]) -> Tree:
    leaves = _floats(tree["leaf_value"])
    if len(leaves) == 1:
        return constant(float(leaves[0]))
    kinds, threshold = _integers(tree["decision_type"]), _floats(tree["threshold"])
    categorical = (kinds & _CATEGORICAL) > 0
    missing = kinds >> 2 & 3
    # A missing value is 0 to a split that saw none, and in no set of categories.
    missing_left = np.where(missing == _MISSING_NONE, threshold >= 0, (kinds & _DEFAULT_LEFT) > 0) & ~categorical
    zero_missing = (missing == _MISSING_ZERO) & ~categorical
    return Tree(
        _integers(tree["split_feature"]),
        _beside_zero(threshold),
        missing_left,
        _integers(tree["left_child"]),
        _integers(tree["right_child"]),
        leaves,
        zero_missing if zero_missing.any() else None,
        _sets(tree, np.flatnonzero(categorical), threshold) if categorical.any() else None,
    )


def _beside_zero(threshold: np.ndarray) -> np.ndarray:
    """Thresholds with which numbers near 0 go where 0 goes."""
    with_zero = np.where(threshold >= 0, ZERO, np.nextafter(-ZERO, -np.inf))
    return np.where(np.abs(threshold) <= ZERO, with_zero, threshold)


def _sets(tree: dict[str, str], splits: np.ndarray, threshold: np.ndarray) -> dict[int, Categories]:
    """By split, its set of bits, whose number stands in the threshold's place."""
    bounds = _integers(tree["cat_boundaries"])
    words = np.array(list(map(int, tree["cat_threshold"].split())), "<u4")
    found = {}
    for split in splits.tolist():
        at = int(threshold[split])
        bits = np.unpackbits(words[bounds[at] : bounds[at + 1]].view("uint8"), bitorder="little")
        found[split] = Categories(np.flatnonzero(bits).tolist(), len(bits) - 1, toward_zero=True)
    return found


def _integers(text: str) -> np.ndarray:
    return np.array(list(map(int, text.split())), "int64")


def _floats(text: str) -> np.ndarray:
    return np.array(list(map(float, text.split())), "float64")
