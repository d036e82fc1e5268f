"""Models made of models: votes, calibrated probabilities, one model a class, and one model an output.

Source of the formulas: scikit-learn's ensemble/_voting.py, calibration.py, multiclass.py and multioutput.py.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from foretell.batch import Call, Output
from foretell.kernels.kernel import Kernel
from foretell.kernels.linear import sigmoid
from foretell.kernels.node import Making, NotCovered
from foretell.kernels.rows import Rows, check_finite

KernelOf = Callable[[Any, Making], Kernel]
"""The kernel of a member."""

_PROBA, _LABELS = Call(proba=True), Call()


@dataclass(frozen=True)
class Member:
    """A model in another. by: what is asked of it: "scores", "proba" or "labels"."""

    kernel: Kernel
    by: Literal["scores", "proba", "labels"]

    def ask(self, rows: Rows) -> np.ndarray:
        """Scores or labels, shape (rows,) or (rows, …), or probabilities, shape (rows, classes)."""
        for step in self.kernel.steps:
            rows = step.transform(rows)
        if self.by == "scores":
            scores: np.ndarray = self.kernel.head.scores(rows)  # type: ignore[attr-defined]
            return scores
        return self.kernel.head.answer(rows, _PROBA if self.by == "proba" else _LABELS)[-1].values

    def positive(self, rows: Rows) -> np.ndarray:
        """Of a model of two classes: the second one's scores or probabilities. Shape (rows,)."""
        found = self.ask(rows)
        return found[:, 1] if self.by == "proba" else found.reshape(len(found))


@dataclass(frozen=True)
class VotingClasses:
    """VotingClassifier. weights: shape (members,). soft: whether probabilities are averaged, and labels not counted."""

    members: tuple[Member, ...]
    weights: np.ndarray | None
    classes: np.ndarray
    soft: bool

    def __post_init__(self) -> None:
        object.__setattr__(self, "_labels", tuple(map(str, self.classes)))

    @property
    def proba(self) -> bool:
        return self.soft

    def answer(self, rows: Rows, call: Call) -> tuple[Output, ...]:
        if not self.soft:
            return (Output("", self.classes.take(self._counted(rows).argmax(axis=1))),)
        average = _average([member.ask(rows) for member in self.members], self.weights)
        predicted = Output("", self.classes.take(average.argmax(axis=1)))
        likely = Output("", average, self._labels, proba=True)  # type: ignore[attr-defined]
        return (predicted, likely) if call.proba else (predicted,)

    def _counted(self, rows: Rows) -> np.ndarray:
        weights = np.ones(len(self.members)) if self.weights is None else self.weights
        counted = np.zeros((len(rows), len(self.classes)))
        places = np.arange(len(rows))
        for member, weight in zip(self.members, weights, strict=True):
            counted[places, member.ask(rows)] += weight
        return counted


@dataclass(frozen=True)
class VotingNumbers:
    """VotingRegressor. weights: shape (members,)."""

    members: tuple[Member, ...]
    weights: np.ndarray | None

    proba = False

    def answer(self, rows: Rows, call: Call) -> tuple[Output, ...]:
        return (Output("", _average([member.ask(rows) for member in self.members], self.weights)),)


@dataclass(frozen=True)
class Calibrated:
    """CalibratedClassifierCV: the mean of its parts."""

    parts: tuple["Calibration", ...]
    classes: np.ndarray

    proba = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "_labels", tuple(map(str, self.classes)))

    def answer(self, rows: Rows, call: Call) -> tuple[Output, ...]:
        mean = np.zeros((len(rows), len(self.classes)))
        for part in self.parts:
            mean += part.likely(rows, len(self.classes))
        mean /= len(self.parts)
        predicted = Output("", self.classes.take(mean.argmax(axis=1)))
        likely = Output("", mean, self._labels, proba=True)  # type: ignore[attr-defined]
        return (predicted, likely) if call.proba else (predicted,)


@dataclass(frozen=True)
class Calibration:
    """A model, and what makes its scores probabilities. places: of its classes among all, one a curve. curves: shape
    (2,), slope and offset of a sigmoid; or shape (2, points), from and to of a polygon."""

    member: Member
    places: tuple[int, ...]
    curves: tuple[np.ndarray, ...]

    def likely(self, rows: Rows, classes: int) -> np.ndarray:
        """Shape (rows, classes)."""
        scores = self.member.positive(rows)[:, np.newaxis] if classes == 2 else self.member.ask(rows)
        likely = np.zeros((len(scores), classes))
        for place, each, curve in zip(self.places, scores.T, self.curves, strict=False):
            likely[:, place + (classes == 2)] = _curved(each, curve)
        if classes == 2:
            likely[:, 0] = 1.0 - likely[:, 1]
        else:
            total = np.add.reduce(likely, axis=1)[:, np.newaxis]
            likely = np.divide(likely, total, out=np.full_like(likely, 1 / classes), where=total != 0)
        likely[(1.0 < likely) & (likely <= 1.0 + 1e-5)] = 1.0
        return likely


@dataclass(frozen=True)
class OneAClass:
    """OneVsRestClassifier. over: of two classes, the score above which it is the second. chances: the members by their
    probabilities, where they have some."""

    members: tuple[Member, ...]
    chances: tuple[Member, ...] | None
    classes: np.ndarray
    over: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "_labels", tuple(map(str, self.classes)))

    @property
    def proba(self) -> bool:
        return self.chances is not None

    def answer(self, rows: Rows, call: Call) -> tuple[Output, ...]:
        scores = [member.positive(rows) for member in self.members]
        predicted = Output("", self.classes.take(self._picked(scores)))
        if not call.proba or self.chances is None:
            return (predicted,)
        if self.members[0].by != "proba":
            scores = [member.positive(rows) for member in self.chances]
        each = np.stack(scores, axis=1)
        if len(scores) == 1:
            each = np.concatenate((1 - each, each), axis=1)
        total = np.add.accumulate(each, axis=1)[:, -1:]
        np.divide(each, total, out=each, where=total != 0)
        return predicted, Output("", each, self._labels, proba=True)  # type: ignore[attr-defined]

    def _picked(self, scores: list[np.ndarray]) -> np.ndarray:
        """The last of equal ones is looked at first, and NaN is never the best."""
        if len(scores) == 1:
            return (scores[0] > self.over).astype(int)
        each = np.array(scores)
        if math.isfinite(np.add.reduce(each, axis=None)):
            first: np.ndarray = each.argmax(axis=0)
            return first
        best = np.full(len(scores[0]), -np.inf)
        picked = np.zeros(len(best), int)
        for at in reversed(range(len(scores))):
            np.maximum(best, scores[at], out=best)
            picked[best == scores[at]] = at
        return picked


@dataclass(frozen=True)
class OneAnOutput:
    """MultiOutputRegressor and MultiOutputClassifier. classes: one array an output, where there are probabilities."""

    members: tuple[Kernel, ...]
    classes: tuple[np.ndarray, ...] | None

    @property
    def proba(self) -> bool:
        return self.classes is not None

    def answer(self, rows: Rows, call: Call) -> tuple[Output, ...]:
        asked = Call(proba=call.proba and self.classes is not None)
        answers = [_answered(member, rows, asked) for member in self.members]
        values = np.asarray([answer[0].values for answer in answers]).T
        predicted = Output("", values[:, 0] if len(answers) == 1 else values)
        if not asked.proba:
            return (predicted,)
        named = [Output(str(at), answer[1].values, answer[1].labels, proba=True) for at, answer in enumerate(answers)]
        return predicted, *named


def _answered(kernel: Kernel, rows: Rows, call: Call) -> tuple[Output, ...]:
    for step in kernel.steps:
        rows = step.transform(rows)
    return kernel.head.answer(rows, call)


def _average(each: list[np.ndarray], weights: np.ndarray | None) -> np.ndarray:
    """Of members' arrays, added one by one: in float32 where all are of that, and without weights."""
    total = np.zeros(each[0].shape, np.result_type(*each, "float32") if weights is None else "float64")
    for at, values in enumerate(each):
        total += values if weights is None else values * weights[at]
    total /= len(each) if weights is None else np.add.reduce(weights, dtype="float64")
    return total


def _curved(scores: np.ndarray, curve: np.ndarray) -> np.ndarray:
    if curve.ndim == 1:
        return sigmoid(-(curve[0] * scores + curve[1]))
    check_finite(scores)
    curved: np.ndarray = np.interp(np.clip(scores, curve[0, 0], curve[0, -1]), curve[0], curve[1])
    return curved


def voting(estimator: Any, making: Making, kernel_of: KernelOf) -> VotingClasses | VotingNumbers:
    """VotingClassifier and VotingRegressor. Raises NotCovered."""
    name, given = type(estimator).__name__, estimator._weights_not_none
    weights = None if given is None else np.asarray(given)
    if weights is not None and not (weights >= 0).all():
        raise NotCovered(f"{name} with negative weights")
    soft = getattr(estimator, "voting", "") == "soft"
    members = tuple(Member(kernel_of(e, making), "proba" if soft else "labels") for e in estimator.estimators_)
    if name == "VotingRegressor":
        return VotingNumbers(members, weights)
    return VotingClasses(members, weights, estimator.classes_, soft)


def calibrated(estimator: Any, making: Making, kernel_of: KernelOf) -> Calibrated:
    """CalibratedClassifierCV. Raises NotCovered."""
    parts = []
    for part in estimator.calibrated_classifiers_:
        if part.method not in ("sigmoid", "isotonic"):
            raise NotCovered(f"CalibratedClassifierCV by {part.method}, which looks at all rows at once")
        member = _scoring(part.estimator, making, kernel_of)
        places = tuple(np.searchsorted(np.unique(part.classes), part.estimator.classes_).tolist())
        parts.append(Calibration(member, places, tuple(map(_curve, part.calibrators))))
    return Calibrated(tuple(parts), estimator.classes_)


def _curve(calibrator: Any) -> np.ndarray:
    if hasattr(calibrator, "a_"):
        return np.array([calibrator.a_, calibrator.b_], "float64")
    start, stop = calibrator.X_thresholds_, calibrator.y_thresholds_
    if start.dtype != "float64" or len(start) < 2 or calibrator.out_of_bounds != "clip":
        raise NotCovered("CalibratedClassifierCV with such an isotonic regression")
    return np.stack([start, stop])


def one_a_class(estimator: Any, making: Making, kernel_of: KernelOf) -> OneAClass:
    """OneVsRestClassifier. Raises NotCovered."""
    if estimator.multilabel_:
        raise NotCovered("OneVsRestClassifier with several labels a row")
    first = estimator.estimators_[0]
    members = tuple(_scoring(each, making, kernel_of) for each in estimator.estimators_)
    chances = None
    if hasattr(estimator, "predict_proba"):
        chances = tuple(Member(member.kernel, "proba") for member in members)
    over = 0.0 if hasattr(first, "decision_function") else 0.5
    return OneAClass(members, chances, estimator.classes_, over)


def _scoring(estimator: Any, making: Making, kernel_of: KernelOf) -> Member:
    """A classifier by its scores, or its probabilities where it has no scores; a regressor by its numbers."""
    kernel = kernel_of(estimator, making)
    if not hasattr(estimator, "classes_"):
        return Member(kernel, "labels")
    if not hasattr(estimator, "decision_function"):
        return Member(kernel, "proba")
    if not hasattr(kernel.head, "scores"):
        raise NotCovered(f"the scores of {type(estimator).__name__}")
    return Member(kernel, "scores")


def one_an_output(estimator: Any, making: Making, kernel_of: KernelOf) -> OneAnOutput:
    """MultiOutputRegressor and MultiOutputClassifier."""
    members = tuple(kernel_of(each, making) for each in estimator.estimators_)
    likely = hasattr(estimator, "predict_proba")
    return OneAnOutput(members, tuple(estimator.classes_) if likely else None)
