"""Support vector machines: a row against each support vector, then sums in libsvm's order.

Source of the formulas: scikit-learn's svm/_base.py and its copy of libsvm, svm/src/libsvm/svm.cpp.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from foretell.batch import Call, Output
from foretell.kernels.coupling import coupled
from foretell.kernels.node import Making, NotCovered
from foretell.kernels.rows import Rows, Sparse, check_finite, numbers
from foretell.kernels.sums import aligned, stretches, weighed
from foretell.trees.libm import exp

_FEW = 4
_STRETCH = 256
_VECTORS = 32
_CELLS = 1 << 16
"""So many numbers at once stay in a processor's cache."""


@dataclass(frozen=True)
class Machine:
    """vectors: shape (vectors, columns). kernel: "linear", "poly" or "rbf". which, weights: shape (sums, terms), the
    places of the vectors that a sum has, in order, and their weights; places past the end are of nothing. plus: shape
    (sums,)."""

    vectors: np.ndarray
    kernel: str
    gamma: float
    degree: int
    offset: float
    which: np.ndarray
    weights: np.ndarray
    plus: np.ndarray

    def __post_init__(self) -> None:
        whole = len(self.plus) == 1 and self.which.shape[1] == len(self.vectors)
        object.__setattr__(self, "_whole", whole)
        # Sums of the library start with 0, so that none is -0; with this added, ours need not.
        object.__setattr__(self, "_plus", self.plus + 0.0)
        object.__setattr__(self, "_terms", (np.ascontiguousarray(self.which.T), np.ascontiguousarray(self.weights.T)))
        spare, first, more = stretches(self.which, self.weights, len(self.vectors))
        object.__setattr__(self, "_spaced", aligned(np.insert(self.vectors, spare, 0.0, axis=0)))
        object.__setattr__(self, "_stretches", (first, more))

    def decisions(self, rows: Rows) -> np.ndarray:
        """Shape (rows, sums). Raises RowRefused."""
        if isinstance(rows, Sparse):
            raise NotCovered("a support vector machine after columns that are kept sparse")
        matrix = np.ascontiguousarray(numbers(rows))
        check_finite(matrix)
        if len(matrix) <= _FEW:
            return self._of_few(matrix)
        # The last stretch is never of so few rows that numpy would add neighbours.
        stops = [*range(_STRETCH, len(matrix) - _FEW, _STRETCH), len(matrix)]
        return np.concatenate([self._of_many(matrix[a:b]) for a, b in zip([0, *stops], stops, strict=False)])

    def _of_few(self, matrix: np.ndarray) -> np.ndarray:
        near = np.zeros((len(matrix), len(self.vectors) + 1))
        left, right = matrix[:, np.newaxis, :], self.vectors
        if self.kernel == "rbf":
            left = right = left - right
        near[:, :-1] = self._shaped(np.vecdot(left, right))
        total: np.ndarray
        if len(self.plus) == 1:
            terms = near[:, np.newaxis, :-1] if self._whole else near.take(self.which, axis=1)  # type: ignore[attr-defined]
            total = np.add.accumulate(terms * self.weights, axis=2)[:, :, -1]
        else:
            which, weights = self._terms  # type: ignore[attr-defined]
            total = np.add.reduce(near.take(which, axis=1) * weights, 1)
        total += self._plus  # type: ignore[attr-defined]
        return total

    def _of_many(self, matrix: np.ndarray) -> np.ndarray:
        vectors: np.ndarray = self._spaced  # type: ignore[attr-defined]
        matrix = aligned(matrix)
        near = _apart(vectors, matrix) if self.kernel == "rbf" else np.vecdot(vectors[:, np.newaxis, :], matrix)
        for at in range(0, len(near), _VECTORS):
            near[at : at + _VECTORS] = self._shaped(near[at : at + _VECTORS])
        totals = np.zeros((len(self.plus), len(matrix)))
        first, more = self._stretches  # type: ignore[attr-defined]
        for sums, places, weights in first:
            weighed(weights, near[places], totals[sums])
        for sums, places, weights in more:
            near[places.start] = totals[sums]
            weighed(weights, near[places], totals[sums])
        decisions: np.ndarray = totals.T + self._plus  # type: ignore[attr-defined]
        return decisions

    def _shaped(self, near: np.ndarray) -> np.ndarray:
        """From dot products, or squared distances, which are overwritten, to the kernel."""
        if self.kernel == "rbf":
            near *= -self.gamma
            return exp(near)
        if self.kernel == "poly":
            near *= self.gamma
            if self.offset:  # to add 0 would change but the sign of a 0
                near += self.offset
            return _power(near, self.degree)
        return near


@dataclass(frozen=True)
class MachineRegressor:
    """SVR and the like; sided: whether the answer is the side, 1 or -1, as of OneClassSVM."""

    machine: Machine
    sided: bool

    proba = False

    def answer(self, rows: Rows, call: Call) -> tuple[Output, ...]:
        scores = self.machine.decisions(rows)[:, 0]
        return (Output("", np.where(scores > 0, 1, -1) if self.sided else scores),)


@dataclass(frozen=True)
class MachineClassifier:
    """One sum for each pair of classes. single: whether scores are one a class, and not one a pair. ties: whether they
    break ties of the votes. slopes, offsets: of the
    sigmoids that make the sums probabilities; None where the model has none."""

    machine: Machine
    classes: np.ndarray
    single: bool
    ties: bool
    slopes: np.ndarray | None
    offsets: np.ndarray | None

    def __post_init__(self) -> None:
        count = len(self.classes)
        first, second = np.triu_indices(count, 1)
        turns = np.eye(count)[first] - np.eye(count)[second]
        object.__setattr__(self, "_turns", turns)
        object.__setattr__(self, "_least", np.bincount(second, minlength=count).astype("float64"))
        signs = [(np.flatnonzero(column), column[column != 0]) for column in turns.T]
        object.__setattr__(self, "_signs", (np.array([at for at, _ in signs]), np.array([sign for _, sign in signs])))
        object.__setattr__(self, "_labels", tuple(map(str, self.classes)))

    @property
    def proba(self) -> bool:
        return self.slopes is not None

    def answer(self, rows: Rows, call: Call) -> tuple[Output, ...]:
        sums = self.machine.decisions(rows)
        predicted = Output("", self.classes.take(self._picked(sums)))
        if not call.proba or self.slopes is None or self.offsets is None:
            return (predicted,)
        each = coupled(_likely(sums * self.slopes + self.offsets), len(self.classes))
        return predicted, Output("", each, self._labels, proba=True)  # type: ignore[attr-defined]

    def _picked(self, sums: np.ndarray) -> np.ndarray:
        if len(self.classes) == 2:
            return np.where(sums[:, 0] > 0, 0, 1)
        if not self.ties:
            return _most((sums > 0).astype(float).dot(self._turns) + self._least)  # type: ignore[attr-defined]
        return _most(self._each_class(sums))

    def scores(self, rows: Rows) -> np.ndarray:
        """Shape (rows,) for two classes, else (rows, classes) or (rows, pairs). Raises RowRefused."""
        sums = self.machine.decisions(rows)
        if len(self.classes) == 2:
            return -sums[:, 0]
        return self._each_class(sums) if self.single else sums

    def _each_class(self, sums: np.ndarray) -> np.ndarray:
        """Votes, and how sure they are, which never is worth a vote."""
        at, signs = self._signs  # type: ignore[attr-defined]
        sure = np.add.accumulate(sums[:, at] * signs, axis=2)[:, :, -1] + 0.0
        votes: np.ndarray = ~(sums < 0) @ self._turns + self._least  # type: ignore[attr-defined]
        votes += sure / (3 * (np.abs(sure) + 1))
        return votes


def _most(votes: np.ndarray) -> np.ndarray:
    picked: np.ndarray = votes.argmax(axis=1)
    return picked


def _apart(vectors: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Squared distances, shape (vectors, rows)."""
    step = max(_CELLS // matrix.size, 1)
    away = aligned(np.empty((step, *matrix.shape)))
    near = np.empty((len(vectors), len(matrix)))
    for at in range(0, len(vectors), step):
        some = vectors[at : at + step, np.newaxis]
        each = away[: len(some)]
        each[...] = some
        each -= matrix
        np.vecdot(each, each, out=near[at : at + step])
    return near


def _likely(sums: np.ndarray) -> np.ndarray:
    """libsvm's sigmoid, kept off 0 and 1."""
    raised = exp(-np.abs(sums))
    likely = np.where(sums >= 0, raised / (1.0 + raised), 1.0 / (1.0 + raised))
    likely = np.where(likely > 1e-7, likely, 1e-7)
    return np.where(likely < 1 - 1e-7, likely, 1 - 1e-7)


def _power(base: np.ndarray, times: int) -> np.ndarray:
    """By squares, in libsvm's order."""
    power = np.ones_like(base) if times % 2 == 0 else base
    while times > 1:
        base = base * base
        times //= 2
        if times % 2:
            power = power * base
    return power


def regressor(estimator: Any, making: Making) -> MachineRegressor:
    """SVR, NuSVR and OneClassSVM. Raises NotCovered."""
    count = len(estimator.support_vectors_)
    machine = _machine(estimator, np.arange(count)[np.newaxis], np.asarray(estimator._dual_coef_))
    return MachineRegressor(machine, type(estimator).__name__ == "OneClassSVM")


def classifier(estimator: Any, making: Making) -> MachineClassifier:
    """SVC and NuSVC. Raises NotCovered."""
    if estimator.break_ties and estimator.decision_function_shape == "ovo":
        raise NotCovered(f"{type(estimator).__name__} with break_ties and one-vs-one sums, which cannot predict")
    counts = [int(count) for count in estimator._n_support]
    starts = np.cumsum([0, *counts])
    pairs = [(a, b) for a in range(len(counts)) for b in range(a + 1, len(counts))]
    longest = max(counts[a] + counts[b] for a, b in pairs)
    which = np.full((len(pairs), longest), starts[-1])
    weights = np.zeros((len(pairs), longest))
    for at, (a, b) in enumerate(pairs):
        first, second = np.arange(starts[a], starts[a + 1]), np.arange(starts[b], starts[b + 1])
        stop = len(first) + len(second)
        which[at, :stop] = np.concatenate([first, second])
        weights[at, : len(first)] = _dual(estimator)[b - 1, first]
        weights[at, len(first) : stop] = _dual(estimator)[a, second]
    machine = _machine(estimator, which, weights)
    ties = bool(estimator.break_ties) and len(counts) > 2
    slopes, offsets = (estimator._probA, estimator._probB) if hasattr(estimator, "predict_proba") else (None, None)
    single = estimator.decision_function_shape == "ovr"
    return MachineClassifier(machine, estimator.classes_, single, ties, slopes, offsets)


def _machine(estimator: Any, which: np.ndarray, weights: np.ndarray) -> Machine:
    name, kernel = type(estimator).__name__, estimator.kernel
    if estimator._sparse:
        raise NotCovered(f"{name} on sparse columns")
    if kernel not in ("linear", "poly", "rbf"):
        raise NotCovered(f"{name} with the kernel {kernel if isinstance(kernel, str) else 'of a function'}")
    if not len(estimator.support_vectors_):
        raise NotCovered(f"{name} without support vectors")
    vectors = np.ascontiguousarray(estimator.support_vectors_)
    gamma, offset = float(estimator._gamma), float(estimator.coef0)
    return Machine(vectors, kernel, gamma, int(estimator.degree), offset, which, weights, estimator._intercept_)


def _dual(estimator: Any) -> np.ndarray:
    if estimator._sparse:
        raise NotCovered(f"{type(estimator).__name__} on sparse columns")
    dual: np.ndarray = estimator._dual_coef_
    return dual
