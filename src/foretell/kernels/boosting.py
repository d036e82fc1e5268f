"""scikit-learn's gradient boosting, by exact splits and by histograms: scores that trees add to, and their links.

Source of the formulas: scikit-learn's ensemble/_gb.py, _hist_gradient_boosting/ and _loss/.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from foretell.batch import Call, Output
from foretell.kernels import adaboost, columns, encoding
from foretell.kernels.kernel import Kernel
from foretell.kernels.linear import of_two, sigmoid, softmax
from foretell.kernels.node import Making, NotCovered, Step
from foretell.kernels.planting import plant
from foretell.kernels.rows import Rows, check_finite, numbers, singles
from foretell.trees.forest import Forest
from foretell.trees.tree import of_histogram, of_sklearn

Link = Literal["logit", "half logit", "softmax", "softmax by columns"]


@dataclass(frozen=True)
class BoostedRegressor:
    """exp: whether scores are logarithms. encoded: how categories become numbers. init: whose answers the trees add to;
    None where those are alike for all rows, and in the forest."""

    forest: Forest
    exp: bool = False
    encoded: Step | None = None
    init: Kernel | None = None

    proba = False

    def answer(self, rows: Rows, call: Call) -> tuple[Output, ...]:
        cells = _cells(self, rows)
        begin = None if self.init is None else _answered(self.init, cells)
        scores = self.forest.sums(cells, begin)[:, 0]
        return (Output("", np.exp(scores) if self.exp else scores),)


@dataclass(frozen=True)
class BoostedClassifier:
    """link: how scores become probabilities. zero: whether a score of 0 is the second class's. encoded: as for a
    regressor."""

    forest: Forest
    classes: np.ndarray
    link: Link
    zero: bool
    encoded: Step | None = None

    proba = True

    def answer(self, rows: Rows, call: Call) -> tuple[Output, ...]:
        scores = self.scores(rows)
        predicted = Output("", self.classes[self._picked(scores)])
        if not call.proba:
            return (predicted,)
        return predicted, Output("", _LINKS[self.link](scores), tuple(map(str, self.classes)), proba=True)

    def _picked(self, scores: np.ndarray) -> np.ndarray:
        second: np.ndarray = scores >= 0 if self.zero else scores > 0
        return second.astype(int) if scores.ndim == 1 else np.argmax(scores, axis=1)

    def scores(self, rows: Rows) -> np.ndarray:
        """Shape (rows,) for two classes, else (rows, classes). Raises RowRefused."""
        found = self.forest.sums(_cells(self, rows))
        return found[:, 0] if found.shape[1] == 1 else found


_LINKS: dict[Link, Callable[[np.ndarray], np.ndarray]] = {
    "logit": lambda scores: of_two(sigmoid(scores)),
    "half logit": lambda scores: of_two(sigmoid(2 * scores)),
    "softmax": softmax,
    "softmax by columns": adaboost.softmax,
}


def _cells(of: BoostedRegressor | BoostedClassifier, rows: Rows) -> np.ndarray:
    """By histograms, every number is taken, and none."""
    if of.forest.number == "float64":
        return numbers(rows if of.encoded is None else of.encoded.transform(rows))
    cells = singles(rows)
    check_finite(cells)
    return cells


def _answered(kernel: Kernel, rows: Rows) -> np.ndarray:
    """Shape (rows, 1)."""
    for step in kernel.steps:
        rows = step.transform(rows)
    values = kernel.head.answer(rows, Call())[0].values
    return values.astype("float64").reshape(-1, 1)


def regressor(estimator: Any, making: Making, kernel_of: Callable[[Any, Making], Kernel]) -> BoostedRegressor:
    """From a fitted GradientBoostingRegressor. Raises NotCovered."""
    if _begins_alike(estimator):
        return BoostedRegressor(_planted(estimator))
    init = kernel_of(estimator.init_, replace(making, names=None))
    return BoostedRegressor(_planted(estimator), init=init)


def classifier(estimator: Any, making: Making) -> BoostedClassifier:
    """From a fitted GradientBoostingClassifier. Raises NotCovered."""
    if not _begins_alike(estimator):
        raise NotCovered(f"GradientBoostingClassifier that begins with {type(estimator.init_).__name__}")
    return BoostedClassifier(_planted(estimator), estimator.classes_, _link(estimator, "softmax"), zero=True)


def histogram_regressor(estimator: Any, making: Making) -> BoostedRegressor:
    """From a fitted HistGradientBoostingRegressor. Raises NotCovered."""
    exp = {"IdentityLink": False, "LogLink": True}[_kind(estimator, "IdentityLink LogLink")]
    return BoostedRegressor(_planted_histograms(estimator), exp, _encoded(estimator, making))


def histogram_classifier(estimator: Any, making: Making) -> BoostedClassifier:
    """From a fitted HistGradientBoostingClassifier. Raises NotCovered."""
    if len(estimator.classes_) < 2:
        raise NotCovered("HistGradientBoostingClassifier of one class")
    link, encoded = _link(estimator, "softmax by columns"), _encoded(estimator, making)
    return BoostedClassifier(_planted_histograms(estimator), estimator.classes_, link, zero=False, encoded=encoded)


def _link(estimator: Any, several: Link) -> Link:
    """several: for more than two classes."""
    links: dict[str, Link] = {"LogitLink": "logit", "HalfLogitLink": "half logit", "MultinomialLogit": several}
    return links[_kind(estimator, " ".join(links))]


def _kind(estimator: Any, known: str) -> str:
    """The name of its loss's link. Raises NotCovered where it is not known."""
    kind = type(estimator._loss.link).__name__
    if kind not in known.split():
        raise NotCovered(f"{type(estimator).__name__} with a {kind}")
    return kind


def _begins_alike(estimator: Any) -> bool:
    """Whether trees add to the same scores for all rows."""
    init = estimator.init_
    kind = type(init)
    dummy = kind.__name__.startswith("Dummy") and kind.__module__.startswith("sklearn.")
    return (isinstance(init, str) and init == "zero") or (dummy and init.strategy not in ("stratified", "uniform"))


def _planted(estimator: Any) -> Forest:
    """Raises NotCovered."""
    width = estimator.estimators_.shape[1]
    columns = estimator.n_features_in_
    start = np.zeros(width)
    if _begins_alike(estimator):
        start = estimator._raw_predict_init(np.zeros((1, columns), "float32"))[0]
    members = [of_sklearn(member.tree_) for member in estimator.estimators_.ravel()]
    trees = [replace(tree, leaves=estimator.learning_rate * tree.leaves) for tree in members]
    outputs = [at % width for at in range(len(trees))]
    return plant(trees, columns, outputs=outputs, start=start, number="float32")


def _planted_histograms(estimator: Any) -> Forest:
    """Raises NotCovered."""
    start = 0.0 + estimator._baseline_prediction.reshape(-1)
    if start.dtype != "float64":
        raise NotCovered(f"{type(estimator).__name__} with sums of {start.dtype}")
    trees = [of_histogram(predictor) for stage in estimator._predictors for predictor in stage]
    return plant(trees, estimator.n_features_in_, outputs=[at % len(start) for at in range(len(trees))], start=start)


def _encoded(estimator: Any, making: Making) -> Step | None:
    """What it does to rows before the trees see them. Raises NotCovered."""
    if estimator._preprocessor is None:
        return None
    return columns.transformer(estimator._preprocessor, making, _encoder)


def _encoder(part: Any, making: Making) -> Step | None:
    """Of the parts of its own ColumnTransformer: one checks numbers, which is done here by whoever takes them."""
    return encoding.ordinal(part, making) if type(part).__name__ == "OrdinalEncoder" else None
