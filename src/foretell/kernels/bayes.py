"""Naive Bayes: the log-likelihood of a row in each class, and the probabilities that follow from it.

Source of the formulas: scikit-learn's naive_bayes.py, and _logsumexp in utils/_array_api.py.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from foretell.batch import Call, Output
from foretell.kernels.node import Making, NotCovered, classes_of
from foretell.kernels.product import Product, Shape
from foretell.kernels.rows import NUMERIC, Hot, Rows, Sparse, check_finite, numbers, refused

_CELLS = 1 << 15
"""So many numbers at once stay in a processor's cache."""
_FEW = 32


@dataclass(frozen=True)
class GaussianBayes:
    """mean, variance: shape (classes, columns). prior, constant: shape (classes,), the logarithm of a class's share
    and what of its density depends on no row. order: how rows lie in memory, by which the library sums them."""

    mean: np.ndarray
    variance: np.ndarray
    prior: np.ndarray
    constant: np.ndarray
    classes: np.ndarray
    order: Literal["C", "F"]

    proba = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "_labels", tuple(map(str, self.classes)))

    def answer(self, rows: Rows, call: Call) -> tuple[Output, ...]:
        # numpy sums by how numbers lie, which its differences take over from the rows.
        matrix = np.ascontiguousarray(checked(rows, "GaussianNB"))
        step = max(_CELLS // self.mean.size, 1)
        if len(matrix) <= step:
            joint = self._joint(matrix)
        else:
            joint = np.concatenate([self._joint(matrix[at : at + step]) for at in range(0, len(matrix), step)])
        return classified(joint, self.classes, self._labels, call, sequential=True)  # type: ignore[attr-defined]

    def _joint(self, matrix: np.ndarray) -> np.ndarray:
        away = matrix[:, np.newaxis, :] - self.mean
        away *= away
        away /= self.variance
        total = np.add.reduce(away, axis=2) if self.order == "C" else np.add.accumulate(away, axis=2)[:, :, -1]
        joint: np.ndarray = self.prior + (self.constant - 0.5 * total)
        return joint


@dataclass(frozen=True)
class ProductBayes:
    """weights: shape (classes, columns); plus: shape (classes,), added to the product. over: cells above it count as
    one, others as none; None where cells count as they are."""

    weights: np.ndarray
    plus: np.ndarray | None
    classes: np.ndarray
    block: int
    order: Literal["C", "F"]
    over: float | None = None

    proba = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "_product", Product(self.weights, Shape(self.block, self.order)))
        object.__setattr__(self, "_labels", tuple(map(str, self.classes)))

    def answer(self, rows: Rows, call: Call) -> tuple[Output, ...]:
        if isinstance(rows, Sparse):
            joint = self._product(self._sparse(rows))  # type: ignore[attr-defined]
        else:
            matrix = checked(rows, "naive Bayes")
            if self.over is not None:
                matrix = (matrix > self.over).astype(self.weights.dtype)
            joint = self._product(matrix)  # type: ignore[attr-defined]
        if self.plus is not None:
            joint = joint + self.plus
        return classified(joint, self.classes, self._labels, call)  # type: ignore[attr-defined]

    def _sparse(self, rows: Sparse) -> Sparse:
        if not np.isfinite(self.weights).all():
            raise NotCovered("naive Bayes without smoothing after columns that are kept sparse")
        for part in rows.parts:
            if isinstance(part, np.ndarray):
                check_finite(part)
        over = self.over
        if over is None:
            return rows
        if not 0 <= over < 1:
            raise NotCovered("such a threshold of naive Bayes after columns that are kept sparse")
        return Sparse(tuple(p if isinstance(p, Hot) else (p > over).astype("float64") for p in rows.parts))


@dataclass(frozen=True)
class CategoryBayes:
    """tables: one a column, shape (categories, classes), the logarithm of a category's share in each class. prior:
    shape (classes,)."""

    tables: tuple[np.ndarray, ...]
    prior: np.ndarray
    classes: np.ndarray

    proba = True

    def __post_init__(self) -> None:
        widths = np.array([len(table) for table in self.tables])
        object.__setattr__(self, "_widths", widths.astype("uint64"))
        object.__setattr__(self, "_starts", np.cumsum(widths) - widths)
        object.__setattr__(self, "_table", np.concatenate(self.tables))
        object.__setattr__(self, "_labels", tuple(map(str, self.classes)))

    def answer(self, rows: Rows, call: Call) -> tuple[Output, ...]:
        codes = checked(rows, "CategoricalNB").astype("int64")
        beyond = codes.view("uint64") >= self._widths  # type: ignore[attr-defined]
        if beyond.any():
            raise self._unknown(codes, beyond)
        codes += self._starts  # type: ignore[attr-defined]
        joint = self._summed(codes)
        return classified(joint + self.prior, self.classes, self._labels, call)  # type: ignore[attr-defined]

    def _unknown(self, codes: np.ndarray, beyond: np.ndarray) -> Exception:
        if codes.min() < 0:
            return refused("Negative values in data passed to CategoricalNB (input X).")
        row, column = np.argwhere(beyond)[0]
        size = len(self.tables[column])
        return IndexError(f"index {codes[row, column]} is out of bounds for axis 1 with size {size}")

    def _summed(self, codes: np.ndarray) -> np.ndarray:
        """Column after column, which for few rows numpy does by itself wherever classes are the faster axis."""
        table: np.ndarray = self._table  # type: ignore[attr-defined]
        if len(codes) < _FEW and len(self.prior) > 1:
            few: np.ndarray = np.add.reduce(table.take(codes, axis=0), axis=1)
            return few
        joint = np.zeros((len(codes), len(self.prior)))
        for column in codes.T:
            joint += table[column]
        return joint


def checked(rows: Rows, name: str) -> np.ndarray:
    """Rows as a matrix of finite numbers, of the dtype in which they came. Raises RowRefused."""
    if isinstance(rows, Sparse):
        raise NotCovered(f"{name} after columns that are kept sparse")
    if not isinstance(rows, np.ndarray) or rows.dtype.kind == "O":
        rows = numbers(rows, keeps=NUMERIC)
    check_finite(rows)
    return rows


def classified(
    joint: np.ndarray, classes: np.ndarray, labels: tuple[str, ...], call: Call, *, sequential: bool = False
) -> tuple[Output, ...]:
    """The likeliest class of each row, and its probabilities if asked for. joint: shape (rows, classes)."""
    predicted = Output("", classes.take(joint.argmax(axis=1)))
    if not call.proba:
        return (predicted,)
    return predicted, Output("", np.exp(joint - _log_sum_exp(joint, sequential)), labels, proba=True)


def _log_sum_exp(joint: np.ndarray, sequential: bool) -> np.ndarray:
    """Shape (rows, 1), by way of the largest, which is counted apart. sequential: classes are added one by one, as the
    library does where they are the slower axis in memory; else as numpy adds neighbours."""
    largest = np.maximum.reduce(joint, axis=1, keepdims=True)
    others = joint != largest
    shift, count = largest, None
    if np.count_nonzero(others) != others.size - len(others) or not np.isfinite(largest).all():
        shift = np.where(np.isfinite(largest), largest, 0)
        count = np.add.reduce(joint == largest, axis=1, keepdims=True, dtype=joint.dtype)
        joint = np.where(others, joint, -np.inf)
    raised = np.exp(joint - shift)
    raised *= others
    total = np.add.accumulate(raised, axis=1)[:, -1:] if sequential else np.add.reduce(raised, axis=1, keepdims=True)
    log_sum: np.ndarray = np.log1p(total) if count is None else np.log1p(total / count) + np.log(count)
    return log_sum + largest


def gaussian(estimator: Any, making: Making) -> GaussianBayes:
    """GaussianNB."""
    variance = estimator.var_
    constant = [-0.5 * np.sum(np.log(2.0 * np.pi * variance[at, :])) for at in range(len(variance))]
    prior = [np.log(share) for share in estimator.class_prior_]
    classes = classes_of(estimator)
    order = "C" if making.plain else making.shape.order
    return GaussianBayes(estimator.theta_, variance, np.array(prior), np.array(constant), classes, order)


def multinomial(estimator: Any, making: Making) -> ProductBayes:
    """MultinomialNB."""
    return _product(estimator, making, estimator.feature_log_prob_, estimator.class_log_prior_)


def complement(estimator: Any, making: Making) -> ProductBayes:
    """ComplementNB, which knows of classes' shares only where there is one class."""
    alone = len(estimator.classes_) == 1
    return _product(estimator, making, estimator.feature_log_prob_, estimator.class_log_prior_ if alone else None)


def bernoulli(estimator: Any, making: Making) -> ProductBayes:
    """BernoulliNB: what cells that are there add, over what they would add if they were not."""
    with np.errstate(all="ignore"):
        absent = np.log(1 - np.exp(estimator.feature_log_prob_))
        weights = estimator.feature_log_prob_ - absent
        plus = estimator.class_log_prior_ + absent.sum(axis=1)
    return _product(estimator, making, weights, plus, estimator.binarize)


def categorical(estimator: Any, making: Making) -> CategoryBayes:
    """CategoricalNB."""
    tables = tuple(np.ascontiguousarray(each.T) for each in estimator.feature_log_prob_)
    return CategoryBayes(tables, estimator.class_log_prior_, classes_of(estimator))


def _product(
    estimator: Any, making: Making, weights: np.ndarray, plus: np.ndarray | None, over: float | None = None
) -> ProductBayes:
    shape = making.shape_for(weights.T)
    threshold = None if over is None else float(over)
    return ProductBayes(weights, plus, classes_of(estimator), shape.block, shape.order, threshold)
