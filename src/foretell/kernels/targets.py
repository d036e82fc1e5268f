"""Answers that are the same for every row, and answers that are turned back from what a model was trained on.

Source: scikit-learn's dummy.py and compose/_target.py.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from foretell.batch import Call, Output
from foretell.kernels.kernel import Kernel
from foretell.kernels.meta import KernelOf
from foretell.kernels.node import Making, NotCovered, Step
from foretell.kernels.rows import NUMERIC, Rows, check_finite, numbers
from foretell.kernels.scaling import Scaler

_FUNCTIONS: dict[str, Any] = {
    function.__name__: function
    for function in (np.exp, np.exp2, np.expm1, np.log, np.log1p, np.log2, np.sqrt, np.square, np.negative)
}


@dataclass(frozen=True)
class Constant:
    """DummyClassifier and DummyRegressor. value: shape (1,) or (1, outputs). likely: shape (classes,), where there are
    probabilities."""

    value: np.ndarray
    likely: np.ndarray | None
    classes: np.ndarray | None

    @property
    def proba(self) -> bool:
        return self.likely is not None

    def answer(self, rows: Rows, call: Call) -> tuple[Output, ...]:
        predicted = Output("", self.value.repeat(len(rows), axis=0))
        if not call.proba or self.likely is None or self.classes is None:
            return (predicted,)
        likely = self.likely[np.newaxis].repeat(len(rows), axis=0)
        return predicted, Output("", likely, tuple(map(str, self.classes)), proba=True)


@dataclass(frozen=True)
class Back:
    """A numpy function of every number, by its name; "" for what is given as it is."""

    function: str

    def transform(self, rows: Rows) -> Rows:
        matrix = numbers(rows, keeps=NUMERIC)
        check_finite(matrix)
        turned: np.ndarray = _FUNCTIONS[self.function](matrix) if self.function else matrix
        return turned


@dataclass(frozen=True)
class TurnedBack:
    """TransformedTargetRegressor. flat: whether it was trained on one number a row."""

    kernel: Kernel
    back: Step
    flat: bool

    proba = False

    def answer(self, rows: Rows, call: Call) -> tuple[Output, ...]:
        for step in self.kernel.steps:
            rows = step.transform(rows)
        values = self.kernel.head.answer(rows, call)[0].values
        turned = self.back.transform(values.reshape(len(values), -1))
        if not isinstance(turned, np.ndarray):
            raise TypeError("a target that is no number")
        return (Output("", turned[:, 0] if turned.shape[1] == 1 else turned),)


def same_class(estimator: Any, making: Making) -> Constant:
    """DummyClassifier. Raises NotCovered."""
    strategy = estimator._strategy
    if estimator.n_outputs_ != 1 or estimator.sparse_output_ or strategy not in ("most_frequent", "prior", "constant"):
        raise NotCovered(f"DummyClassifier by {strategy}")
    classes, prior = estimator.classes_, estimator.class_prior_
    most = classes == estimator.constant if strategy == "constant" else np.arange(len(classes)) == prior.argmax()
    value = np.ravel(np.tile(estimator.constant if strategy == "constant" else [classes[prior.argmax()]], (1, 1)))
    likely = np.ones(len(classes)) * prior if strategy == "prior" else most.astype("float64")
    return Constant(value, likely, classes)


def same_number(estimator: Any, making: Making) -> Constant:
    """DummyRegressor."""
    constant = np.asarray(estimator.constant_)
    return Constant(constant.ravel() if estimator.n_outputs_ == 1 else constant, None, None)


def turned_back(estimator: Any, making: Making, kernel_of: KernelOf) -> TurnedBack:
    """TransformedTargetRegressor. Raises NotCovered."""
    kernel = kernel_of(estimator.regressor_, making)
    return TurnedBack(kernel, _back(estimator.transformer_), estimator._training_dim == 1)


def _back(transformer: Any) -> Step:
    """What a transformer's inverse_transform does. Raises NotCovered."""
    name = type(transformer).__name__
    if name == "FunctionTransformer" and not transformer.inv_kw_args and transformer.validate:
        function = transformer.inverse_func
        if function is None:
            return Back("")
        known = getattr(function, "__name__", "")
        if _FUNCTIONS.get(known) is function:
            return Back(known)
    if name == "StandardScaler":
        return Scaler(times=transformer.scale_, plus=transformer.mean_ if transformer.with_mean else None)
    if name == "MinMaxScaler":
        return Scaler(minus=transformer.min_, over=transformer.scale_)
    if name == "MaxAbsScaler":
        return Scaler(times=transformer.scale_)
    if name == "RobustScaler":
        return Scaler(
            times=transformer.scale_ if transformer.with_scaling else None,
            plus=transformer.center_ if transformer.with_centering else None,
        )
    raise NotCovered(f"a target turned back by {name}")
