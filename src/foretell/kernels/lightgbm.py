"""LightGBM's boosters and estimators: what is made of the sums of their leaves, from the library's own text.

Source of the formulas: ConvertOutput in src/objective and Softmax in include/LightGBM/utils/common.h of
https://github.com/microsoft/LightGBM, and LGBMClassifier in its lightgbm/sklearn.py.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from foretell.batch import Call, Output
from foretell.kernels.node import Making, NotCovered
from foretell.kernels.planting import plant
from foretell.kernels.rows import Frame, Rows, numbers
from foretell.trees.forest import Forest
from foretell.trees.libm import exp
from foretell.trees.lightgbm import read

Link = Literal["none", "sigmoid", "softmax", "exp", "softplus", "square"]

_LINKS: dict[str, Link] = {
    **dict.fromkeys(
        ("custom", "fair", "huber", "lambdarank", "mape", "quantile", "rank_xendcg", "regression", "regression_l1"),
        "none",
    ),
    **dict.fromkeys(("binary", "cross_entropy", "multiclassova"), "sigmoid"),
    **dict.fromkeys(("gamma", "poisson", "tweedie"), "exp"),
    "cross_entropy_lambda": "softplus",
    "multiclass": "softmax",
}


@dataclass(frozen=True)
class LightgbmTrees:
    """rounds: what sums are divided by; 0 for nothing. slope: of the sigmoid. classes: a classifier's, else None.
    rounded: whether a matrix of whole numbers is rounded to float32, as the library does where it is given one."""

    forest: Forest
    rounds: int
    link: Link
    slope: float
    classes: np.ndarray | None
    rounded: bool

    @property
    def proba(self) -> bool:
        return self.classes is not None

    def answer(self, rows: Rows, call: Call) -> tuple[Output, ...]:
        found = self._sums(rows)
        if self.rounds:
            found /= self.rounds
        found = _linked(found, self.link, self.slope)
        if self.classes is None:
            return (Output("", found[:, 0] if found.shape[1] == 1 else found),)
        each = np.concatenate((1.0 - found, found), axis=1) if found.shape[1] == 1 else found
        predicted = Output("", self.classes.take(each.argmax(axis=1)))
        if not call.proba:
            return (predicted,)
        return predicted, Output("", each, tuple(map(str, self.classes)), proba=True)

    def scores(self, rows: Rows) -> np.ndarray:
        """What decision_function gives: the sums, shape (rows,) or (rows, outputs)."""
        found = self._sums(rows)
        return found[:, 0] if found.shape[1] == 1 else found

    def _sums(self, rows: Rows) -> np.ndarray:
        if isinstance(rows, Frame) and not rows.objects and rows.text:
            raise ValueError("pandas dtypes must be int, float or bool")
        if self.rounded and isinstance(rows, np.ndarray) and rows.dtype.kind in "biu":
            rows = rows.astype("float32")
        return self.forest.sums(numbers(rows))


def _linked(scores: np.ndarray, link: Link, slope: float) -> np.ndarray:
    """What the objective makes of scores, shape (rows, outputs)."""
    if link == "sigmoid":
        share: np.ndarray = 1.0 / (1.0 + exp(-slope * scores))
        return share
    if link == "softmax":
        return _softmax(scores)
    if link == "exp":
        return exp(scores)
    if link == "softplus":  # numpy's log1p has other last bits
        return np.array(list(map(math.log1p, exp(scores).ravel().tolist()))).reshape(scores.shape)
    if link == "square":
        signs = (scores > 0).astype("float64") - (scores < 0)
        squared: np.ndarray = signs * scores * scores
        return squared
    return scores


def _softmax(scores: np.ndarray) -> np.ndarray:
    shares = exp(scores - scores.max(axis=1, keepdims=True))
    total = shares[:, :1].copy()
    for at in range(1, shares.shape[1]):
        total += shares[:, at : at + 1]
    shares /= total
    return shares


def estimator(estimator: Any, making: Making) -> LightgbmTrees:
    """From a fitted LGBMClassifier, LGBMRegressor or LGBMRanker in scikit-learn's hands. Raises NotCovered."""
    return model(estimator, rounded=True)


def model(model: Any, *, rounded: bool = False) -> LightgbmTrees:
    """From a booster, or from an estimator around one. Raises NotCovered."""
    booster = getattr(model, "_Booster", model)
    if booster.pandas_categorical:
        raise NotCovered("LightGBM's columns of categories in pandas")
    if model is not booster and model.get_params().get("pred_early_stop"):
        raise NotCovered("LightGBM's pred_early_stop")
    plain = booster is model or not hasattr(model, "predict_proba") or callable(model._objective)
    return head(booster.model_to_string(), None if plain else np.asarray(model.classes_), rounded=rounded)


def head(text: str, classes: np.ndarray | None = None, *, rounded: bool = False) -> LightgbmTrees:
    """From a booster's text, of the rounds that it predicts with. Raises NotCovered."""
    found = read(text)
    if found.linear:
        raise NotCovered("LightGBM's linear trees")
    if found.objective not in _LINKS:
        raise NotCovered(f"LightGBM's objective {found.objective}")
    if classes is not None and len(classes) != max(found.outputs, 2):
        raise NotCovered(f"LightGBM's classifier of {len(classes)} classes and {found.outputs} outputs")
    link = "square" if "sqrt" in found.options else _LINKS[found.objective]
    slope = float(found.options.get("sigmoid", 1))
    outputs = [at % found.outputs for at in range(len(found.trees))]
    forest = plant(found.trees, found.columns, outputs=outputs, start=np.zeros(found.outputs))
    return LightgbmTrees(forest, found.rounds if found.average else 0, link, slope, classes, rounded)
