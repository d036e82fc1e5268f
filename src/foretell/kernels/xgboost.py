"""XGBoost's boosters and estimators: what objectives make of the sums of leaves.

Source of the formulas: XGBoost's common/math.h, objective/ and python-package/xgboost/sklearn.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from foretell.batch import Call, Output
from foretell.kernels.kernel import Kernel
from foretell.kernels.node import Making, NotCovered
from foretell.kernels.planting import plant
from foretell.kernels.rows import Frame, Rows, Sparse, refused, singles
from foretell.trees import libm, xgboost
from foretell.trees.forest import Forest
from foretell.trees.tree import below

Link = Literal["same", "sigmoid", "exp", "exp of double", "sign", "softmax", "largest"]

_LINKS: dict[str, Link] = {
    **dict.fromkeys(xgboost.PLAIN, "same"),
    **dict.fromkeys(xgboost.LOGISTIC, "sigmoid"),
    **dict.fromkeys(xgboost.EXPONENTIAL, "exp"),
    xgboost.LIFETIME: "exp of double",
    "binary:hinge": "sign",
    "multi:softmax": "largest",
    "multi:softprob": "softmax",
}
"""By objective."""

_STEEPEST = np.float32(88.7)
"""XGBoost takes e to no larger number for a probability."""


@dataclass(frozen=True)
class BoostedScores:
    """link: what the sums become. classes: how many, 0 where it is no classifier. labels: of probabilities. missing: a
    number that is taken for a missing one, as NaN is. finite: infinite numbers are refused. apart: each column is
    rounded from its own dtype, and those of flags and nulls are taken, as foretell does it for a booster."""

    forest: Forest
    link: Link
    classes: int
    labels: tuple[str, ...]
    missing: float
    finite: bool
    apart: bool

    @property
    def proba(self) -> bool:
        return self.classes > 0

    def answer(self, rows: Rows, call: Call) -> tuple[Output, ...]:
        margins = self.forest.sums(self._cells(rows))
        scores = _LINKED[self.link](margins)
        if scores.ndim > 1 and scores.shape[1] == 1:
            scores = scores[:, 0]
        if not self.classes:
            return (Output("", scores),)
        predicted = Output("", self._decided(scores))
        if not call.proba:
            return (predicted,)
        return predicted, Output("", self._probabilities(margins, scores), self.labels, proba=True)

    def _cells(self, rows: Rows) -> np.ndarray:
        """A sparse matrix holds no zeros, and what it does not hold is missing."""
        if isinstance(rows, Frame) and not (self.apart or rows.objects) and rows.text:
            raise ValueError("a column of objects where XGBoost expects numbers")
        cells = singles(rows)
        if isinstance(rows, Sparse):
            cells = np.where(cells == 0, np.float32(np.nan), cells)
        if self.missing == self.missing:
            cells = np.where(cells == np.float32(self.missing), np.float32(np.nan), cells)
        if self.finite and np.isinf(cells).any():
            raise refused("it holds a value too large for a 32-bit float")
        return cells

    def _decided(self, scores: np.ndarray) -> np.ndarray:
        """Classes, as XGBClassifier.predict decides."""
        if scores.ndim > 1:
            return scores.argmax(axis=1) if self.classes != 2 else (scores > 0.5).astype("float64")
        return scores.astype("int32") if self.link == "largest" else (scores > 0.5).astype("int64")

    def _probabilities(self, margins: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """As XGBClassifier.predict_proba gives them."""
        if self.link == "largest":
            raised = np.exp(margins - margins.max(axis=1, keepdims=True))  # as scipy does
            shares: np.ndarray = raised / raised.sum(axis=1, keepdims=True)
            return shares
        return scores if scores.ndim > 1 else np.stack((1 - scores, scores), axis=1)


def _sigmoid(margins: np.ndarray) -> np.ndarray:
    one = np.float32(1)
    shares: np.ndarray = one / (libm.exp(np.minimum(-margins, _STEEPEST)) + one)
    return shares


def _softmax(margins: np.ndarray) -> np.ndarray:
    raised = libm.exp(margins - margins.max(axis=1, keepdims=True))
    total = np.add.accumulate(raised, axis=1, dtype="float64")[:, -1:]
    raised /= total.astype("float32")
    return raised


_LINKED: dict[Link, Callable[[np.ndarray], np.ndarray]] = {
    "same": lambda margins: margins,
    "sigmoid": _sigmoid,
    "exp": libm.exp,
    "exp of double": lambda margins: libm.exp(margins.astype("float64")).astype("float32"),
    "sign": lambda margins: (margins > 0).astype("float32"),
    "softmax": _softmax,
    "largest": lambda margins: margins.argmax(axis=1).astype("float32"),
}


def booster(data: bytes, *, classes: int, rounds: int, in_place: bool) -> Kernel:
    """The kernel of a booster by itself. data: what its save_raw gives. classes: how many, 0 where it is no classifier.
    rounds: how many of its rounds count, 0 for all. in_place: whether it is asked as the estimators ask.

    Raises NotCovered.
    """
    planted_, link = _planted(data, rounds, in_place=in_place)
    labels = tuple(map(str, range(classes))) if classes == max(len(planted_.start), 2) else ()
    return Kernel((), BoostedScores(planted_, link, classes, labels, np.nan, not in_place, True))


def estimator(estimator: Any, making: Making) -> BoostedScores:
    """From a fitted estimator. Raises NotCovered."""
    booster = estimator.get_booster()
    best = booster.attr("best_iteration")
    planted_, link = _planted(bytes(booster.save_raw("ubj")), 0 if best is None else int(best) + 1, in_place=True)
    classes = getattr(estimator, "n_classes_", 0)
    if classes and (estimator.objective == "multi:softmax") != (link == "largest"):
        raise NotCovered(f"{type(estimator).__name__} with an objective of its own")
    labels = tuple(map(str, estimator.classes_)) if classes else ()
    return BoostedScores(planted_, link, classes, labels, float(estimator.missing), False, False)


def _planted(data: bytes, rounds: int, *, in_place: bool) -> tuple[Forest, Link]:
    """Raises NotCovered."""
    try:
        found = xgboost.read(data, rounds, in_place=in_place)
    except xgboost.NotTrees as error:
        raise NotCovered(str(error)) from error
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise NotCovered(f"an XGBoost model that cannot be read: {error}") from error
    if found.objective not in _LINKS:
        raise NotCovered(f"XGBoost's objective {found.objective}")
    more = {"outputs": found.outputs, "start": found.starts, "number": "float32", "sums": "float32"}
    return plant(list(map(below, found.trees)), found.columns, **more), _LINKS[found.objective]
