"""scikit-learn's forests and single trees: what is made of the sums of their leaves.

Source of the formulas: scikit-learn's tree/_classes.py and ensemble/_forest.py.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from foretell.batch import Call, Output
from foretell.kernels.node import Making, NotCovered
from foretell.kernels.rows import Frame, Rows, Sparse, check_finite, numbers_of
from foretell.trees import forest
from foretell.trees.forest import Forest, planted
from foretell.trees.tree import of_sklearn


@dataclass(frozen=True)
class ForestRegressor:
    """The mean of trees. count: of trees; 0 for one tree by itself. nan: whether a missing value is taken."""

    forest: Forest
    count: int
    nan: bool

    proba = False

    def answer(self, rows: Rows, call: Call) -> tuple[Output, ...]:
        found = _mean(self.forest, rows, self.count, nan=self.nan)
        return (Output("", found[:, 0] if found.shape[1] == 1 else found),)


@dataclass(frozen=True)
class ForestClassifier:
    """The mean of trees' shares for each class. classes: of each output. count, nan: as for a regressor."""

    forest: Forest
    classes: tuple[np.ndarray, ...]
    count: int
    nan: bool

    proba = True

    def answer(self, rows: Rows, call: Call) -> tuple[Output, ...]:
        found = _mean(self.forest, rows, self.count, nan=self.nan)
        each = found.reshape(len(found), len(self.classes), -1)
        shares = [each[:, at, : len(classes)] for at, classes in enumerate(self.classes)]
        labels = [classes.take(share.argmax(axis=1)) for classes, share in zip(self.classes, shares, strict=True)]
        if len(labels) == 1:
            predicted = Output("", labels[0])
        else:
            predicted = Output("", np.stack(labels, axis=1).astype(self.classes[0].dtype))
        if not call.proba:
            return (predicted,)
        names = [""] if len(shares) == 1 else [str(at) for at in range(len(shares))]
        return predicted, *(
            Output(name, share, tuple(map(str, classes)), proba=True)
            for name, share, classes in zip(names, shares, self.classes, strict=True)
        )


def _mean(forest: Forest, rows: Rows, count: int, *, nan: bool) -> np.ndarray:
    matrix = singles(rows)
    check_finite(matrix, nan=nan)
    found = forest.sums(matrix)
    if count:
        found /= count
    return found


def singles(rows: Rows) -> np.ndarray:
    """Rows as a matrix of float32 in C order, each cell rounded once, from its own type."""
    if isinstance(rows, Sparse):
        rows = rows.dense()
    if not isinstance(rows, Frame):
        return np.ascontiguousarray(rows, "float32")
    matrix = np.empty((len(rows), len(rows.columns)), "float32")
    for at, column in enumerate(rows.columns):
        matrix[:, at] = column if column.dtype.kind in "fiub" else numbers_of(column)
    return matrix


def regressor(estimator: Any, making: Making) -> ForestRegressor:
    """From a fitted regressor of one tree or many. Raises NotCovered."""
    trees, count = _trees(estimator)
    return ForestRegressor(_planted(trees, estimator.n_features_in_), count, _takes_nan(trees[0]))


def classifier(estimator: Any, making: Making) -> ForestClassifier:
    """From a fitted classifier of one tree or many. Raises NotCovered."""
    trees, count = _trees(estimator)
    classes = estimator.classes_ if isinstance(estimator.classes_, list) else [estimator.classes_]
    planted_ = _planted(trees, estimator.n_features_in_)
    return ForestClassifier(planted_, tuple(map(np.asarray, classes)), count, _takes_nan(trees[0]))


def _trees(estimator: Any) -> tuple[list[Any], int]:
    """The fitted trees, and how many they are averaged over."""
    members = getattr(estimator, "estimators_", None)
    return ([estimator], 0) if members is None else (list(members), len(members))


def _takes_nan(tree: Any) -> bool:
    return bool(tree._support_missing_values(np.empty((0, 0))))


def _planted(trees: list[Any], columns: int) -> Forest:
    """Raises NotCovered."""
    if not forest.available():
        raise NotCovered("trees, as foretell was installed without its compiled part")
    width = trees[0].tree_.value[0].size
    return planted([of_sklearn(tree.tree_) for tree in trees], columns, start=np.zeros(width), number="float32")
