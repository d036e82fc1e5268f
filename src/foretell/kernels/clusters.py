"""Which center is the nearest: k-means and nearest centroids.

Source of the formulas: scikit-learn's cluster/_k_means_lloyd.pyx, neighbors/_nearest_centroid.py, and for the distances
metrics/pairwise.py and metrics/_pairwise_distances_reduction. Both multiply 256 rows at a time.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from foretell.batch import Call, Output
from foretell.kernels.node import BLOCK, Making, NotCovered
from foretell.kernels.product import Product, Shape, as_in
from foretell.kernels.rows import Rows, Sparse, check_finite, numbers

_WIDEST = 256
"""Columns that BLAS sums in one go on any processor, before it adds to what it was given."""
_THREADED = 1 << 18
"""The number of multiplications above which OpenBLAS may use several threads."""
_CELLS = 1 << 15
"""So many numbers at once stay in a processor's cache."""
_FEW = 4
_LARGEST = np.finfo("float64").max


@dataclass(frozen=True)
class NearestMean:
    """KMeans. centers: shape (clusters, columns); norms: their squared lengths."""

    centers: np.ndarray
    norms: np.ndarray
    block: int
    order: Literal["C", "F"]

    proba = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "_product", Product(self.centers, Shape(self.block, self.order)))

    def answer(self, rows: Rows, call: Call) -> tuple[Output, ...]:
        matrix = _checked(rows, "k-means", keeps=("float32",))
        if matrix.dtype != self.centers.dtype:
            raise ValueError(f"the model's centers are {self.centers.dtype} numbers, and the rows {matrix.dtype}")
        away = self._product(matrix)  # type: ignore[attr-defined]
        away *= -2
        away += self.norms
        return (Output("", _nearest(away).astype("int32")),)


@dataclass(frozen=True)
class SplitMeans:
    """BisectingKMeans, whose clusters are the leaves of a tree of halves. centers: shape (halvings, 2, columns); norms:
    their squared lengths. below: shape (halvings, 2), the halving that is next, or -1 - label at a leaf."""

    centers: np.ndarray
    norms: np.ndarray
    below: np.ndarray
    block: int

    proba = False

    def __post_init__(self) -> None:
        shape = Shape(self.block)
        object.__setattr__(self, "_products", [Product(pair, shape) for pair in self.centers])
        object.__setattr__(self, "_below", self.below.tolist())
        if np.any((self.below >= 0) & (self.below <= np.arange(len(self.below))[:, np.newaxis])):
            raise ValueError("halvings that lead back")

    def answer(self, rows: Rows, call: Call) -> tuple[Output, ...]:
        matrix = _checked(rows, "k-means", keeps=("float32",))
        if matrix.dtype != self.centers.dtype:
            raise ValueError(f"the model's centers are {self.centers.dtype} numbers, and the rows {matrix.dtype}")
        if len(matrix) <= _FEW:
            return (Output("", np.array([self._label(matrix[at : at + 1]) for at in range(len(matrix))], "int32")),)
        return (Output("", self._labels(matrix)),)

    def _label(self, row: np.ndarray) -> int:
        """Of one row, shape (1, columns)."""
        at = 0
        while at >= 0:
            away = self._products[at](row)  # type: ignore[attr-defined]
            away *= -2
            away += self.norms[at]
            first, second = away.tolist()[0]
            at = self._below[at][second < first]  # type: ignore[attr-defined]
        return -1 - at

    def _labels(self, matrix: np.ndarray) -> np.ndarray:
        at = np.zeros(len(matrix), "int32")
        for halving in range(len(self.centers)):
            here = at == halving
            if here.any():
                away = self._products[halving](matrix[here])  # type: ignore[attr-defined]
                away *= -2
                away += self.norms[halving]
                at[here] = self.below[halving][_nearest(away)]
        return -1 - at


@dataclass(frozen=True)
class NearestCentroid:
    """centroids: shape (classes, columns); norms: their squared lengths. likely: how classes are scored where their
    shares count; even: whether predictions need no scores, as all shares are alike. metric: "euclidean" or "manhattan".
    """

    centroids: np.ndarray
    norms: np.ndarray
    classes: np.ndarray
    metric: str
    even: bool
    block: int
    order: Literal["C", "F"]
    likely: "CentroidScores"

    def __post_init__(self) -> None:
        object.__setattr__(self, "_product", Product(self.centroids, Shape(self.block, self.order)))
        object.__setattr__(self, "_labels", tuple(map(str, self.classes)))

    @property
    def proba(self) -> bool:
        return self.metric == "euclidean"

    def answer(self, rows: Rows, call: Call) -> tuple[Output, ...]:
        matrix = _checked(rows, "NearestCentroid")
        scores = None if self.even and not call.proba else self.likely.of(matrix, self.metric)
        picked = self._nearest(matrix) if self.even or scores is None else scores.argmax(axis=1)
        predicted = Output("", self.classes.take(picked))
        if scores is None or not call.proba:
            return (predicted,)
        likely = scores - scores.max(axis=1)[:, np.newaxis]
        likely = likely - np.log(np.add.reduce(np.exp(likely), axis=1)[:, np.newaxis])
        return predicted, Output("", np.exp(likely), self._labels, proba=True)  # type: ignore[attr-defined]

    def scores(self, rows: Rows) -> np.ndarray:
        """Shape (rows,) for two classes, else (rows, classes). Raises RowRefused."""
        scores = self.likely.of(_checked(rows, "NearestCentroid"), self.metric)
        return scores[:, 1] - scores[:, 0] if len(self.classes) == 2 else scores

    def _nearest(self, matrix: np.ndarray) -> np.ndarray:
        if self.metric == "manhattan":
            return _nearest(_manhattan(matrix, self.centroids), below=_LARGEST)
        away = self._product(matrix)  # type: ignore[attr-defined]
        away *= -2
        away += np.vecdot(matrix, matrix)[:, np.newaxis]
        away += self.norms
        return _nearest(np.where(away > 0, away, 0.0), below=_LARGEST)


@dataclass(frozen=True)
class CentroidScores:
    """centroids: shape (classes, columns), over spread; norms: their squared lengths; spread: what columns are over;
    plus: shape (classes,), added to a score for a class's share."""

    centroids: np.ndarray
    norms: np.ndarray
    spread: np.ndarray
    plus: np.ndarray
    block: int
    order: Literal["C", "F"]

    def __post_init__(self) -> None:
        shape = Shape(self.block, self.order)
        object.__setattr__(self, "_products", [Product(each[np.newaxis], shape) for each in self.centroids])

    def of(self, matrix: np.ndarray, metric: str) -> np.ndarray:
        """Shape (rows, classes), the larger the likelier."""
        matrix = np.ascontiguousarray(matrix) / self.spread
        check_finite(matrix)
        if metric == "manhattan":
            away = _manhattan(matrix, self.centroids)
        else:
            away = np.hstack([product(matrix) for product in self._products])  # type: ignore[attr-defined]
            away *= -2
            if self.order == "C":
                away += _norms(matrix)[:, np.newaxis]
            else:
                away += np.add.accumulate(matrix * matrix, axis=1)[:, -1:]
            away += self.norms
            np.maximum(away, 0, out=away)
            np.sqrt(away, out=away)
        away *= away
        scores: np.ndarray = -away + self.plus
        return scores


def _checked(rows: Rows, name: str, keeps: tuple[str, ...] = ()) -> np.ndarray:
    if isinstance(rows, Sparse):
        raise NotCovered(f"{name} after columns that are kept sparse")
    matrix = numbers(rows, keeps=keeps)
    check_finite(matrix)
    return matrix


def _nearest(away: np.ndarray, below: float = np.inf) -> np.ndarray:
    """The place of each row's first smallest distance that is below a bound, else 0: what a search that starts at the
    first place finds, and which no NaN moves."""
    picked: np.ndarray = away.argmin(axis=1)
    if not math.isfinite(np.add.reduce(away, axis=None)):
        firm = np.where(away < below, away, np.inf)
        picked = np.where(np.isnan(away[:, 0]), 0, firm.argmin(axis=1))
    return picked


def _manhattan(matrix: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Shape (rows, centroids), summed column after column."""
    if matrix.size * len(centroids) < _CELLS:
        apart = np.abs(matrix[:, np.newaxis, :] - centroids)
        return np.add.accumulate(apart, axis=2, out=apart)[:, :, -1]
    total = np.zeros((len(matrix), len(centroids)))
    for column, places in zip(matrix.T, centroids.T, strict=True):
        total += np.abs(np.subtract.outer(column, places))
    return total


def means(estimator: Any, making: Making) -> NearestMean:
    """KMeans and MiniBatchKMeans. Raises NotCovered."""
    centers = _narrow(estimator.cluster_centers_, type(estimator).__name__)
    shape = _shape(centers, type(estimator).__name__)
    return NearestMean(centers, _norms(centers), shape.block, shape.order)


def split_means(estimator: Any, making: Making) -> SplitMeans:
    """BisectingKMeans. Raises NotCovered where a row's distances depend on how many rows stand beside it."""
    pairs: list[np.ndarray] = []
    below: list[list[int]] = []
    waiting = [(estimator._bisecting_tree, -1, 0)]
    while waiting:
        node, parent, side = waiting.pop(0)
        if parent >= 0:
            below[parent][side] = -1 - int(node.label) if node.left is None else len(pairs)
        if node.left is None:
            continue
        waiting += [(node.left, len(pairs), 0), (node.right, len(pairs), 1)]
        pair = np.vstack((node.left.center, node.right.center))
        if hasattr(estimator, "_X_mean"):
            pair += estimator._X_mean
        pairs.append(_narrow(pair, "BisectingKMeans"))
        below.append([0, 0])
    if not pairs:
        raise NotCovered("BisectingKMeans of one cluster")
    if not all(_any_number_alike(pair.T) for pair in pairs):
        raise NotCovered("BisectingKMeans on so many columns that a row's distances depend on the rows beside it")
    return SplitMeans(np.array(pairs), np.array([_norms(pair) for pair in pairs]), np.array(below, "int32"), 8)


def centroids(estimator: Any, making: Making) -> NearestCentroid:
    """NearestCentroid. Raises NotCovered."""
    places, classes = estimator.centroids_, estimator.classes_
    if len(places) > BLOCK:
        raise NotCovered(f"NearestCentroid of more than {BLOCK} classes")
    spread = np.where(estimator.within_class_std_dev_ != 0, estimator.within_class_std_dev_, 1.0)
    plus = np.array([2.0 * np.log(share) for share in estimator.class_prior_])
    over = places / spread
    even = bool(np.isclose(estimator.class_prior_, 1 / len(classes)).all())
    if even and not making.plain:
        raise NotCovered("NearestCentroid on rows of which it is not known how they lie in memory")
    shape = making.shape_for(over[:1].T)
    scores = CentroidScores(over, _norms(over), spread, plus, shape.block, shape.order)
    own = _shape(places, "NearestCentroid")
    norms = np.vecdot(places, places)
    return NearestCentroid(places, norms, classes, estimator.metric, even, own.block, own.order, scores)


def _shape(centers: np.ndarray, name: str) -> Shape:
    """How to multiply rows so that they round as the library's block, which it multiplies in one thread."""
    shape = as_in(BLOCK, centers.T, ("C", "F"))
    if shape.block == BLOCK and BLOCK * centers.size > _THREADED:
        raise NotCovered(f"{name} with products that may round by the number of threads")
    return shape


def _any_number_alike(weights: np.ndarray) -> bool:
    """Whether products round alike for any number of rows: the library multiplies as many as there are in a half."""
    return all(as_in(rows, weights).block < rows for rows in range(9, 48)) and as_in(BLOCK, weights).block < BLOCK


def _norms(centers: np.ndarray) -> np.ndarray:
    norms: np.ndarray = np.einsum("ij,ij->i", centers, centers)
    return norms


def _narrow(centers: np.ndarray, name: str) -> np.ndarray:
    if centers.shape[1] > _WIDEST:
        raise NotCovered(f"{name} on more than {_WIDEST} columns")
    return centers
