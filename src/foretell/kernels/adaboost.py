"""scikit-learn's AdaBoost of trees: each tree votes with its weight, for a class or for where the median is.

Source of the formulas: scikit-learn's ensemble/_weight_boosting.py.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from foretell.batch import Call, Output
from foretell.kernels.ensembles import members
from foretell.kernels.node import Making, NotCovered
from foretell.kernels.planting import plant
from foretell.kernels.rows import Rows, check_finite, singles
from foretell.trees.forest import Forest

_PIECE = 4096
"""So many rows at once, as every tree's answer is kept for each."""


@dataclass(frozen=True)
class AdaBoostClassifier:
    """forest: its sums are the votes for each class. total: of all weights."""

    forest: Forest
    classes: np.ndarray
    total: float

    proba = True

    def answer(self, rows: Rows, call: Call) -> tuple[Output, ...]:
        scores = self.scores(rows)
        picked = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
        predicted = Output("", self.classes.take(picked))
        if not call.proba:
            return (predicted,)
        return predicted, Output("", self._likely(scores), tuple(map(str, self.classes)), proba=True)

    def scores(self, rows: Rows) -> np.ndarray:
        """Shape (rows,) for two classes, else (rows, classes). Raises RowRefused."""
        votes = self.forest.sums(_cells(rows))
        votes /= self.total
        return votes[:, 1] - votes[:, 0] if len(self.classes) == 2 else votes

    def _likely(self, scores: np.ndarray) -> np.ndarray:
        if scores.ndim == 1:
            return softmax(np.stack([-scores, scores], axis=1) / 2)
        return softmax(scores / (len(self.classes) - 1))


@dataclass(frozen=True)
class AdaBoostRegressor:
    """forest: an output for each tree. weights: of the trees."""

    forest: Forest
    weights: np.ndarray

    proba = False

    def answer(self, rows: Rows, call: Call) -> tuple[Output, ...]:
        cells = _cells(rows)
        pieces = [self._medians(cells[at : at + _PIECE]) for at in range(0, len(cells), _PIECE)]
        return (Output("", pieces[0] if len(pieces) == 1 else np.concatenate(pieces)),)

    def _medians(self, cells: np.ndarray) -> np.ndarray:
        """The least answer at which half of all the weight is reached."""
        answers = self.forest.sums(cells)
        order = answers.argsort(axis=1)
        reached = np.add.accumulate(self.weights[order], axis=1)
        middle = (reached >= 0.5 * reached[:, -1][:, np.newaxis]).argmax(axis=1)
        places = np.arange(len(cells))
        medians: np.ndarray = answers[places, order[places, middle]]
        return medians


def softmax(scores: np.ndarray) -> np.ndarray:
    """exp(score) over its sum in each row, by way of the largest, where the library has a column after the other: it
    adds the columns in their order, however many there are."""
    raised: np.ndarray = scores - scores.max(axis=1)[:, np.newaxis]
    np.exp(raised, out=raised)
    raised /= np.add.accumulate(raised, axis=1)[:, -1:]
    return raised


def _cells(rows: Rows) -> np.ndarray:
    cells = singles(rows, common=True)
    check_finite(cells)
    return cells


def classifier(estimator: Any, making: Making) -> AdaBoostClassifier:
    """From a fitted AdaBoostClassifier. Raises NotCovered."""
    classes = estimator.classes_
    if len(classes) < 2 or getattr(estimator, "algorithm", "SAMME") == "SAMME.R":
        raise NotCovered("AdaBoostClassifier of one class, or by SAMME.R")
    trees = []
    for member, tree, weight in zip(
        estimator.estimators_, members(estimator), estimator.estimator_weights_, strict=False
    ):
        labels = member.classes_.take(tree.leaves.argmax(axis=1))
        other = -1 / (len(classes) - 1) * weight
        trees.append(replace(tree, leaves=np.where(labels[:, np.newaxis] == classes, weight, other)))
    start = np.zeros(len(classes))
    forest = plant(trees, estimator.n_features_in_, start=start, number="float32")
    return AdaBoostClassifier(forest, classes, float(estimator.estimator_weights_.sum()))


def regressor(estimator: Any, making: Making) -> AdaBoostRegressor:
    """From a fitted AdaBoostRegressor. Raises NotCovered."""
    trees = members(estimator)
    start, outputs = np.full(len(trees), -0.0), range(len(trees))
    forest = plant(trees, estimator.n_features_in_, outputs=outputs, start=start, number="float32")
    return AdaBoostRegressor(forest, np.asarray(estimator.estimator_weights_, "float64"))
