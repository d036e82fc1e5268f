"""scikit-learn's forests, bagged trees and single trees: what is made of the sums of their leaves.

Source of the formulas: scikit-learn's tree/_classes.py, ensemble/_forest.py, _bagging.py and _iforest.py.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from foretell.batch import Call, Output
from foretell.kernels.node import Making, NotCovered, classes_of
from foretell.kernels.planting import plant
from foretell.kernels.rows import Rows, Sparse, check_finite, singles
from foretell.trees.forest import Forest
from foretell.trees.tree import Tree, of_sklearn


@dataclass(frozen=True)
class ForestRegressor:
    """The mean of trees. count: of trees; 0 for one tree by itself. nan: whether a missing value is taken. common:
    whether a frame is one matrix before its cells are rounded."""

    forest: Forest
    count: int
    nan: bool
    common: bool

    proba = False

    def answer(self, rows: Rows, call: Call) -> tuple[Output, ...]:
        found = _mean(self, rows)
        return (Output("", found[:, 0] if found.shape[1] == 1 else found),)


@dataclass(frozen=True)
class ForestClassifier:
    """The mean of trees' shares for each class. classes: of each output. count, nan, common: as for a regressor."""

    forest: Forest
    classes: tuple[np.ndarray, ...]
    count: int
    nan: bool
    common: bool

    proba = True

    def answer(self, rows: Rows, call: Call) -> tuple[Output, ...]:
        found = _mean(self, rows)
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


@dataclass(frozen=True)
class Isolation:
    """IsolationForest: 1, or -1 for a row that few splits keep apart. paths: what its depths in all trees are divided
    by. offset: the score below which it is apart."""

    forest: Forest
    paths: float
    offset: float

    proba = False

    def answer(self, rows: Rows, call: Call) -> tuple[Output, ...]:
        matrix = singles(rows)
        if isinstance(rows, Sparse):  # there a missing number is on the side of large ones
            matrix = np.where(np.isnan(matrix), np.float32(math.inf), matrix)
        depths = self.forest.sums(matrix)[:, 0]
        share = depths / self.paths if self.paths else np.ones_like(depths)
        scores = -(2**-share)
        return (Output("", np.where(scores - self.offset < 0, -1, 1)),)


def _mean(of: ForestRegressor | ForestClassifier, rows: Rows) -> np.ndarray:
    matrix = singles(rows, common=of.common)
    check_finite(matrix, nan=of.nan and not isinstance(rows, Sparse))
    found = of.forest.sums(matrix)
    if of.count:
        found /= of.count
    return found


def regressor(estimator: Any, making: Making) -> ForestRegressor:
    """From a fitted regressor of one tree or many. Raises NotCovered."""
    trees, count = _trees(estimator)
    return ForestRegressor(_planted(trees, estimator), count, _takes_nan(estimator), common=False)


def classifier(estimator: Any, making: Making) -> ForestClassifier:
    """From a fitted classifier of one tree or many. Raises NotCovered."""
    trees, count = _trees(estimator)
    classes = estimator.classes_ if isinstance(estimator.classes_, list) else [estimator.classes_]
    each = tuple(map(np.asarray, classes))
    return ForestClassifier(_planted(trees, estimator), each, count, _takes_nan(estimator), common=False)


def bagging_regressor(estimator: Any, making: Making) -> ForestRegressor:
    """From a fitted BaggingRegressor of trees. Raises NotCovered."""
    trees = _bagged(estimator, lambda member, tree: tree)
    return ForestRegressor(_planted(trees, estimator), len(trees), _takes_nan(estimator), common=True)


def bagging_classifier(estimator: Any, making: Making) -> ForestClassifier:
    """From a fitted BaggingClassifier of trees. Raises NotCovered."""
    classes = classes_of(estimator)

    def among_all(member: Any, tree: Tree) -> Tree:
        """With a share for each class, also for those that no row of its own was of."""
        leaves = np.zeros((len(tree.leaves), len(classes)))
        leaves[:, member.classes_] = tree.leaves
        return replace(tree, leaves=leaves)

    trees = _bagged(estimator, among_all)
    return ForestClassifier(_planted(trees, estimator), (classes,), len(trees), _takes_nan(estimator), common=True)


def isolation(estimator: Any, making: Making) -> Isolation:
    """From a fitted IsolationForest. Raises NotCovered."""
    lengths = (estimator._decision_path_lengths, estimator._average_path_length_per_tree)
    trees = []
    for member, columns, path, further in zip(
        estimator.estimators_, estimator.estimators_features_, *lengths, strict=True
    ):
        tree, leaf = of_sklearn(member.tree_), member.tree_.children_left < 0
        trees.append(replace(tree, feature=columns[tree.feature], leaves=(path + further - 1.0)[leaf]))
    paths = len(trees) * _average_path(int(estimator._max_samples))
    return Isolation(_planted(trees, estimator), paths, float(estimator.offset_))


def _average_path(rows: int) -> float:
    """How deep a row lies in a tree of so many, on average."""
    if rows <= 2:
        return float(rows == 2)
    return float(2.0 * (np.log(rows - 1.0) + np.euler_gamma) - 2.0 * (rows - 1.0) / rows)


def _trees(estimator: Any) -> tuple[list[Tree], int]:
    """The fitted trees, and how many they are averaged over."""
    many = getattr(estimator, "estimators_", None)
    return [of_sklearn(member.tree_) for member in many or [estimator]], len(many or ())


def _bagged(estimator: Any, change: Callable[[Any, Tree], Tree]) -> list[Tree]:
    """The trees of members, each of which sees columns of its own. Raises NotCovered."""
    seen = np.unique(np.concatenate(estimator.estimators_features_))
    if len(seen) < estimator.n_features_in_:
        raise NotCovered(f"{type(estimator).__name__} with columns that no member looks at, which may hold anything")
    trees = []
    for member, tree, columns in zip(
        estimator.estimators_, members(estimator), estimator.estimators_features_, strict=True
    ):
        trees.append(change(member, replace(tree, feature=columns[tree.feature])))
    return trees


_TREES = ("DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier", "ExtraTreeRegressor")


def members(estimator: Any) -> list[Tree]:
    """The trees of an ensemble whose members may be any estimators. Raises NotCovered for others than trees."""
    for kind in map(type, estimator.estimators_):
        if kind.__name__ not in _TREES or not kind.__module__.startswith("sklearn."):
            raise NotCovered(f"{type(estimator).__name__} of {kind.__name__}")
    return [of_sklearn(member.tree_) for member in estimator.estimators_]


def _takes_nan(estimator: Any) -> bool:
    first = getattr(estimator, "estimators_", [estimator])[0]
    return bool(first._support_missing_values(np.empty((0, 0))))


def _planted(trees: list[Tree], estimator: Any) -> Forest:
    """Raises NotCovered."""
    start = np.zeros(trees[0].leaves[0].size)
    return plant(trees, estimator.n_features_in_, start=start, number="float32")
