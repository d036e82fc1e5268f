"""CatBoost's models of numbers: what is made of the sums of their leaves, from the library's own binary form.

Source of the formulas: PrepareEval in catboost/libs/eval_result/eval_helpers.cpp, and eval_processing.h in
catboost/libs/model, of https://github.com/catboost/catboost.
"""

import functools
import math
import platform
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from foretell.batch import Call, Output
from foretell.kernels.node import NotCovered
from foretell.kernels.planting import plant
from foretell.kernels.rows import Rows, numbers
from foretell.trees.catboost import Boosted, read
from foretell.trees.forest import Forest
from foretell.trees.libm import exp

Link = Literal["none", "exp", "deviation", "two", "several", "one against all", "labels"]
"""What is made of the scores: of a regressor's the first three, of a classifier's the others."""

_PREDICTIONS: dict[str, Link] = {"RawFormulaVal": "none", "Exponent": "exp", "RMSEWithUncertainty": "deviation"}
_LOSSES: dict[str, Link] = {
    "MultiClass": "several",
    "MultiClassOneVsAll": "one against all",
    "MultiCrossEntropy": "labels",
    "MultiLogloss": "labels",
}


@dataclass(frozen=True)
class CatboostTrees:
    """scale, bias: of the sums. classes: a classifier's, else None. over: the score above which a class is chosen that
    is judged by itself."""

    forest: Forest
    scale: float
    bias: np.ndarray
    link: Link
    classes: np.ndarray | None
    over: float

    @property
    def proba(self) -> bool:
        return self.classes is not None

    def answer(self, rows: Rows, call: Call) -> tuple[Output, ...]:
        scores = self.scores(rows)
        if self.classes is None:
            return (_flat(_linked(scores, self.link)),)
        predicted = self._labels(scores, self.classes)
        if not call.proba:
            return (predicted,)
        each = _probabilities(scores, self.link)
        labels = tuple(map(str, self.classes)) if each.shape[1] == len(self.classes) else ()
        return predicted, Output("", each, labels, proba=True)

    def scores(self, rows: Rows) -> np.ndarray:
        """What RawFormulaVal gives, shape (rows, outputs)."""
        scores: np.ndarray = self.forest.sums(numbers(rows)) * self.scale + self.bias
        return scores

    def _labels(self, scores: np.ndarray, classes: np.ndarray) -> Output:
        if self.link == "labels":
            return _flat((scores > self.over).astype("int64"))
        if self.link == "two":
            return Output("", classes.take(scores[:, 0] > self.over))
        return Output("", classes.take(scores.argmax(axis=1)))


def _flat(values: np.ndarray) -> Output:
    return Output("", values[:, 0] if values.shape[1] == 1 else values)


def _linked(scores: np.ndarray, link: Link) -> np.ndarray:
    if link == "exp":
        return quick_exp(scores)
    if link == "deviation":
        return np.concatenate((scores[:, :1], quick_exp(2 * scores[:, 1:])), axis=1)
    return scores


def _probabilities(scores: np.ndarray, link: Link) -> np.ndarray:
    if link == "several":
        shares = quick_exp(scores - scores.max(axis=1, keepdims=True))
        total = shares[:, :1].copy()
        for at in range(1, shares.shape[1]):
            total += shares[:, at : at + 1]
        shares /= total
        return shares
    likely: np.ndarray = 1.0 / (1.0 + exp(-scores))
    return np.concatenate((1.0 - likely, likely), axis=1) if link == "two" else likely


_PARTS = 1 << 11
_UP = 3 * 2.0**51
"""What is added to a number so that its whole part stands in its lowest bits."""
_LARGEST = 700.0


def quick_exp(values: np.ndarray) -> np.ndarray:
    """e to each number between -700 and 700, to the bit as the library's on x86: a table of 2 ** (k / 2048), and a
    polynomial for the rest. From the truth it is 3e-15 for small numbers, 1e-13 for the largest.

    Source of the coefficients: expd in contrib/libs/fmath/fmath.hpp.
    """
    near = values * (_PARTS / math.log(2.0)) + _UP
    bits = near.view("uint64")
    rest = (near - _UP) * (1 / (_PARTS / math.log(2.0))) - values
    raised = (bits + np.uint64(_PARTS * 1023)) >> np.uint64(11) << np.uint64(52)
    raised |= _mantissas().take((bits & np.uint64(_PARTS - 1)).view("int64"))
    found: np.ndarray = (3.0000000027955394 - rest) * (rest * rest) * 0.16666666685227835064 - rest + 1.0
    found *= raised.view("float64")
    return found


@functools.cache
def _mantissas() -> np.ndarray:
    powers = np.array([math.pow(2.0, at * (1.0 / _PARTS)) for at in range(_PARTS)])
    return powers.view("uint64") & np.uint64((1 << 52) - 1)


def model(model: Any) -> CatboostTrees:
    """From CatBoost's model, CatBoostClassifier, CatBoostRegressor or CatBoostRanker. Raises NotCovered."""
    if model.get_cat_feature_indices() or model.get_text_feature_indices() or model.get_embedding_feature_indices():
        raise NotCovered("CatBoost's columns of categories, text or embeddings")
    classes, over = None, 0.0
    if hasattr(model, "predict_proba") and len(model.classes_):
        classes, over = np.asarray(model.classes_), _over(model.get_probability_threshold())
        link = _LOSSES.get(model._object._get_loss_function_name(), "two")
    else:
        link = _PREDICTIONS[getattr(model, "_get_default_prediction_type", lambda: "RawFormulaVal")()]
    return head(model._serialize_model(), len(model.feature_names_), link, classes, over)


def _over(threshold: float) -> float:
    """The score of a probability."""
    return -math.log(1 / threshold - 1)


def head(data: bytes, columns: int, link: Link, classes: np.ndarray | None, over: float = 0.0) -> CatboostTrees:
    """From a model in its own binary form, without categories. Raises NotCovered."""
    found = read(data)
    if classes is not None and link != "labels":
        fits = found.outputs == 1 if link == "two" else found.outputs > 1
        if not fits or len(classes) != max(found.outputs, 2):
            raise NotCovered(f"CatBoost's classifier of {len(classes)} classes and {found.outputs} outputs")
    if link in ("exp", "deviation", "several"):
        _check_quick(found)
    start = np.zeros(found.outputs)
    forest = plant(found.trees, columns, start=start, number="float32")
    return CatboostTrees(forest, found.scale, found.bias, link, classes, over)


def _check_quick(found: Boosted) -> None:
    """Raises NotCovered where scores may be larger than the library's exponential is known for, or it is another."""
    if platform.machine() not in ("x86_64", "AMD64"):
        raise NotCovered("CatBoost's exponential on another processor than x86")
    largest = sum(float(np.abs(tree.leaves).max()) for tree in found.trees) * abs(found.scale)
    if 2 * (largest + float(np.abs(found.bias).max())) > _LARGEST:
        raise NotCovered("CatBoost's exponential of scores that large")
