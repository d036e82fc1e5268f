"""Linear models: a product, an intercept, and what the library makes of the scores.

Source of the formulas: scikit-learn's linear_model (_base, _logistic, _bayes, _glm) and discriminant_analysis.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from foretell.batch import Call, Output
from foretell.kernels.node import Making, NotCovered, classes_of
from foretell.kernels.product import Product, Shape, multiplied
from foretell.kernels.rows import Frame, Rows, Sparse, check_finite, numbers
from foretell.trees.libm import exp

_FEW = 24


@dataclass(frozen=True)
class LinearRegressor:
    """coef: shape (columns,) or (outputs, columns). link: of the scores, "identity" or "exp".

    spread: the weights' covariance; center: what is taken off the columns before; noise: the noise's variance; for
    models that tell their standard deviation.
    """

    coef: np.ndarray
    intercept: np.ndarray
    block: int
    order: Literal["C", "F"]
    link: str = "identity"
    spread: np.ndarray | None = None
    center: np.ndarray | None = None
    noise: float = 0.0

    proba = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "_product", Product(self.coef, Shape(self.block, self.order)))

    def answer(self, rows: Rows, call: Call) -> tuple[Output, ...]:
        matrix = checked(rows)
        scores = self._product(matrix) + self.intercept  # type: ignore[attr-defined]
        if self.link == "exp":
            scores = np.exp(scores)
        if scores.ndim == 2 and scores.shape[1] == 1:
            scores = scores[:, 0]
        if self.spread is None or isinstance(matrix, Sparse) or not dict(call.params).get("return_std"):
            return (Output("", scores),)
        if self.center is not None:
            matrix = matrix - self.center
        variance = (multiplied(matrix, self.spread, Shape(self.block, self.order)) * matrix).sum(axis=1)
        return Output("0", scores), Output("1", np.sqrt(variance + self.noise))


@dataclass(frozen=True)
class LinearClassifier:
    """coef: shape (1, columns) for two classes, else (classes, columns). link: how scores become probabilities,
    "sigmoid", "softmax" or "huber"; empty where the model has none."""

    coef: np.ndarray
    intercept: np.ndarray
    classes: np.ndarray
    block: int
    order: Literal["C", "F"]
    link: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_product", Product(self.coef, Shape(self.block, self.order)))
        object.__setattr__(self, "_labels", tuple(map(str, self.classes)))

    @property
    def proba(self) -> bool:
        return bool(self.link)

    def answer(self, rows: Rows, call: Call) -> tuple[Output, ...]:
        scores = self.scores(rows)
        predicted = Output("", self.classes.take(scores > 0 if scores.ndim == 1 else scores.argmax(axis=1)))
        if not call.proba:
            return (predicted,)
        return predicted, Output("", _LINKS[self.link](scores), self._labels, proba=True)  # type: ignore[attr-defined]

    def scores(self, rows: Rows) -> np.ndarray:
        """Shape (rows,) for two classes, else (rows, classes). Raises RowRefused."""
        scores: np.ndarray = self._product(checked(rows)) + self.intercept  # type: ignore[attr-defined]
        return scores[:, 0] if scores.ndim == 2 and scores.shape[1] == 1 else scores


def checked(rows: Rows) -> np.ndarray | Sparse:
    """Rows as a linear model takes them, all finite. Raises RowRefused."""
    if isinstance(rows, Sparse):
        for part in rows.parts:
            if isinstance(part, np.ndarray):
                check_finite(part)
        return rows
    if isinstance(rows, Frame) or rows.dtype.kind == "O":
        rows = numbers(rows, keeps=("float32", "float16"))
    check_finite(rows)
    return rows


def sigmoid(scores: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-score)) by the C library's exp, as scipy's expit; numpy's own exp has other last bits."""
    if scores.size < _FEW and scores.dtype != "float32":
        return np.array([_sigmoid(score) for score in scores.ravel().tolist()]).reshape(scores.shape)
    ones_and_more = exp(-scores)
    ones_and_more += 1
    each: np.ndarray = 1 / ones_and_more
    return each


def _sigmoid(score: float) -> float:
    try:
        return 1.0 / (1.0 + math.exp(-score))
    except OverflowError:
        return 0.0


def softmax(scores: np.ndarray) -> np.ndarray:
    """exp(score) over its sum in each row, by way of the largest."""
    raised: np.ndarray = scores - scores.max(axis=1).reshape(-1, 1)
    np.exp(raised, out=raised)
    raised /= raised.sum(axis=1).reshape(-1, 1)
    return raised


def _by_sigmoid(scores: np.ndarray) -> np.ndarray:
    each = sigmoid(scores)
    return of_two(each) if each.ndim == 1 else _over_sum(each)


def _by_huber(scores: np.ndarray) -> np.ndarray:
    each = (np.clip(scores, -1, 1) + 1.0) / 2.0
    return of_two(each) if each.ndim == 1 else _over_sum(each)


def of_two(second: np.ndarray) -> np.ndarray:
    """Both classes' probabilities from the second one's."""
    both = np.empty((len(second), 2), second.dtype)
    both[:, 0] = 1 - second
    both[:, 1] = second
    return both


def _over_sum(each: np.ndarray) -> np.ndarray:
    """Each class's own probability over their sum; all alike where that is 0."""
    total = each.sum(axis=1)
    nothing = total == 0
    if nothing.any():
        each[nothing, :] = 1
        total[nothing] = each.shape[1]
    each /= total.reshape(len(each), -1)
    return each


_LINKS = {"sigmoid": _by_sigmoid, "softmax": softmax, "huber": _by_huber}


def regressor(estimator: Any, making: Making) -> LinearRegressor:
    """From a fitted regressor with coef_ and intercept_. Raises NotCovered."""
    name = type(estimator).__name__
    link = "identity"
    if name in ("PoissonRegressor", "GammaRegressor", "TweedieRegressor"):
        kind = type(estimator._base_loss.link).__name__
        link = {"LogLink": "exp", "IdentityLink": "identity"}.get(kind, "")
        if not link:
            raise NotCovered(f"{name} with a {kind}")
    spread = estimator.sigma_ if name == "BayesianRidge" and "return_std" in making.params else None
    coef = _dense(estimator.coef_, name)
    shape = making.shape_for(coef.T) if spread is None else making.shape
    return LinearRegressor(
        coef,
        np.asarray(estimator.intercept_),
        shape.block,
        shape.order,
        link,
        spread=spread,
        center=getattr(estimator, "X_offset_", None) if spread is not None else None,
        noise=float(1.0 / estimator.alpha_) if spread is not None else 0.0,
    )


def classifier(estimator: Any, making: Making) -> LinearClassifier:
    """From a fitted classifier with coef_ and intercept_. Raises NotCovered."""
    name = type(estimator).__name__
    classes = classes_of(estimator)
    if name.startswith("RidgeClassifier") and estimator._label_binarizer.y_type_.startswith("multilabel"):
        raise NotCovered(f"{name} with several labels a row")
    coef = _dense(estimator.coef_, name)
    shape = making.shape_for(coef.T)
    return LinearClassifier(
        coef,
        np.asarray(estimator.intercept_),
        classes,
        shape.block,
        shape.order,
        _link(estimator, name, len(classes)),
    )


def _link(estimator: Any, name: str, classes: int) -> str:
    if name in ("LogisticRegression", "LogisticRegressionCV"):
        way = getattr(estimator, "multi_class", "auto")
        alone = way == "ovr" or (
            way in ("auto", "deprecated", "warn") and getattr(estimator, "solver", "") == "liblinear"
        )
        return "sigmoid" if (classes <= 2 and way != "multinomial") or alone else "softmax"
    if name == "LinearDiscriminantAnalysis":
        return "sigmoid" if classes == 2 else "softmax"
    if name == "SGDClassifier":
        return {"log_loss": "sigmoid", "modified_huber": "huber"}.get(estimator.loss, "")
    return ""


def _dense(coef: Any, name: str) -> np.ndarray:
    if not isinstance(coef, np.ndarray):
        raise NotCovered(f"{name} with sparse weights")
    return coef
