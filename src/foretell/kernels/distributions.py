"""Columns bent to another distribution: PowerTransformer and QuantileTransformer.

Source of the formulas: scikit-learn's preprocessing/_data.py, scipy's stats/_morestats.py (Yeo-Johnson), and for the
normal distribution's quantiles ndtri of Cephes, which scipy.special has.
"""

import bisect
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from foretell.kernels.node import Making, NotCovered
from foretell.kernels.rows import FINITE_KEPT, Rows, Sparse, check_finite, numbers
from foretell.kernels.scaling import Scaler, standard

_FEW = 8
_MANY = 64
_BOUND = 1e-7


@dataclass(frozen=True)
class YeoJohnson:
    """powers: shape (columns,). scaler: what then makes columns of mean 0 and variance 1."""

    powers: np.ndarray
    scaler: Scaler | None

    def transform(self, rows: Rows) -> Rows:
        matrix = _checked(rows, "PowerTransformer")
        up = matrix >= 0
        logs = np.log1p(np.where(up, matrix, -matrix))
        powers = np.where(up, self.powers, 2 - self.powers)
        eps = np.finfo(np.result_type(matrix, self.powers)).eps
        plain = np.where(up, np.abs(powers) < eps, np.abs(self.powers - 2) <= eps)
        bent = np.expm1(powers * logs) / powers
        bent = np.where(plain, logs, bent)
        bent = np.where(up, bent, -bent).astype(matrix.dtype, copy=False)
        return bent if self.scaler is None else self.scaler.transform(bent)


@dataclass(frozen=True)
class Quantiles:
    """quantiles: shape (quantiles, columns), of the columns as they were; references: shape (quantiles,), what they
    become. normal: whether the columns then become normal, and not uniform."""

    quantiles: np.ndarray
    references: np.ndarray
    normal: bool

    def __post_init__(self) -> None:
        upward = (np.ascontiguousarray(self.quantiles.T), self.references)
        downward = (-upward[0][:, ::-1], -self.references[::-1])
        object.__setattr__(self, "_upward", upward)
        object.__setattr__(self, "_downward", downward)
        lists = [(up.tolist(), down.tolist()) for up, down in zip(upward[0], downward[0], strict=True)]
        object.__setattr__(self, "_lists", (lists, upward[1].tolist(), downward[1].tolist()))
        edge = float(_BOUND - np.spacing(1))
        object.__setattr__(self, "_clip", (_normal_quantile(edge), _normal_quantile(1 - edge)))

    def transform(self, rows: Rows) -> Rows:
        matrix = _checked(rows, "QuantileTransformer")
        low, high = self.quantiles[0], self.quantiles[-1]
        lowest = matrix - _BOUND < low if self.normal else matrix == low
        highest = matrix + _BOUND > high if self.normal else matrix == high
        placed = (self._of_few if len(matrix) <= _FEW else self._of_many)(matrix).astype(matrix.dtype, copy=False)
        placed[highest] = 1
        placed[lowest] = 0
        if not self.normal:
            return placed
        bent = (_normal_quantiles(placed.ravel()) if placed.size > _MANY else _one_by_one(placed)).reshape(placed.shape)
        return np.clip(bent, *self._clip).astype(matrix.dtype, copy=False)  # type: ignore[attr-defined]

    def _of_few(self, matrix: np.ndarray) -> np.ndarray:
        """The same as _of_many, in Python's numbers, which for a row cost less than arrays."""
        lists, upward, downward = self._lists  # type: ignore[attr-defined]
        placed = [
            [
                value if value != value else 0.5 * (_between(value, up, upward) - _between(-value, down, downward))
                for value, (up, down) in zip(row, lists, strict=True)
            ]
            for row in matrix.tolist()
        ]
        return np.array(placed)

    def _of_many(self, matrix: np.ndarray) -> np.ndarray:
        """The mean of both directions, in which equal quantiles are found by their other ends."""
        (ups, upward), (downs, downward) = self._upward, self._downward  # type: ignore[attr-defined]
        placed = np.empty(matrix.shape)
        for at, column in enumerate(matrix.T):
            placed[:, at] = 0.5 * (np.interp(column, ups[at], upward) - np.interp(-column, downs[at], downward))
        placed[np.isnan(matrix)] = np.nan
        return placed


def _between(value: float, places: list[float], results: list[float]) -> float:
    """numpy's interp of one number."""
    at = bisect.bisect_right(places, value) - 1
    if at < 0:
        return results[0]
    if at >= len(places) - 1 or places[at] == value:
        return results[at]
    slope = (results[at + 1] - results[at]) / (places[at + 1] - places[at])
    return slope * (value - places[at]) + results[at]


_CENTER = (
    (
        -59.9633501014107895267,
        98.0010754185999661536,
        -56.6762857469070293439,
        13.9312609387279679503,
        -1.23916583867381258016,
    ),
    (
        1.0,
        1.95448858338141759834,
        4.67627912898881538453,
        86.3602421390890590575,
        -225.462687854119370527,
        200.260212380060660359,
        -82.0372256168333339912,
        15.9056225126211695515,
        -1.18331621121330003142,
    ),
)
_TAIL = (
    (
        4.05544892305962419923,
        31.5251094599893866154,
        57.1628192246421288162,
        44.0805073893200834700,
        14.6849561928858024014,
        2.18663306850790267539,
        -1.40256079171354495875e-1,
        -3.50424626827848203418e-2,
        -8.57456785154685413611e-4,
    ),
    (
        1.0,
        15.7799883256466749731,
        45.3907635128879210584,
        41.3172038254672030440,
        15.0425385692907503408,
        2.50464946208309415979,
        -1.42182922854787788574e-1,
        -3.80806407691578277194e-2,
        -9.33259480895457427372e-4,
    ),
)
_FAR = (
    (
        3.23774891776946035970,
        6.91522889068984211695,
        3.93881025292474443415,
        1.33303460815807542389,
        2.01485389549179081538e-1,
        1.23716634817820021358e-2,
        3.01581553508235416007e-4,
        2.65806974686737550832e-6,
        6.23974539184983293730e-9,
    ),
    (
        1.0,
        6.02427039364742014255,
        3.67983563856160859403,
        1.37702099489081330271,
        2.16236993594496635890e-1,
        1.34204006088543189037e-2,
        3.28014464682127739104e-4,
        2.89247864745380683936e-6,
        6.79019408009981274425e-9,
    ),
)
"""Coefficients of Cephes' ndtri, the highest power first: of a fraction's upper and lower part."""
_MIDDLE = 0.13533528323661269189
"""exp(-2)."""
_ROOT = 2.50662827463100050242
"""The square root of 2 pi."""


def _normal_quantile(share: float) -> float:
    """Cephes' ndtri, in its order of operations."""
    if share != share:
        return share
    if share in (0.0, 1.0):
        return -math.inf if share == 0.0 else math.inf
    upper = share > 1.0 - _MIDDLE
    y = 1.0 - share if upper else share
    if y > _MIDDLE:
        y -= 0.5
        square = y * y
        center: float = (y + y * _fraction(square, _CENTER)) * _ROOT
        return center
    x = math.sqrt(-2.0 * math.log(y))
    z = 1.0 / x
    found: float = (x - math.log(x) / x) - _fraction(z, _TAIL if x < 8.0 else _FAR)
    return found if upper else -found


def _one_by_one(shares: np.ndarray) -> np.ndarray:
    return np.array([_normal_quantile(share) for share in shares.ravel().tolist()])


def _normal_quantiles(shares: np.ndarray) -> np.ndarray:
    """The same of many, of shape (shares,); numpy's own logarithm has other last bits."""
    shares = shares.astype("float64", copy=False)
    upper = shares > 1.0 - _MIDDLE
    y = np.where(upper, 1.0 - shares, shares)
    found = np.empty(shares.shape)
    middle = ~(y <= _MIDDLE)
    off = y[middle] - 0.5
    found[middle] = (off + off * _fraction(off * off, _CENTER)) * _ROOT
    rest = y[~middle]
    edge = rest <= 0
    rest[edge] = _MIDDLE
    x = np.sqrt(-2.0 * _logs(rest))
    z = 1.0 / x
    tail = (x - _logs(x) / x) - np.where(x < 8.0, _fraction(z, _TAIL), _fraction(z, _FAR))
    tail[edge] = np.inf
    found[~middle] = np.where(upper[~middle], tail, -tail)
    return found


def _logs(values: np.ndarray) -> np.ndarray:
    return np.fromiter(map(math.log, values.tolist()), "float64", len(values))


def _fraction(x: Any, parts: tuple[tuple[float, ...], tuple[float, ...]]) -> Any:
    return x * _polynomial(x, parts[0]) / _polynomial(x, parts[1])


def _polynomial(x: Any, coefficients: tuple[float, ...]) -> Any:
    total: Any = coefficients[0]
    for coefficient in coefficients[1:]:
        total = total * x + coefficient
    return total


def _checked(rows: Rows, name: str) -> np.ndarray:
    if isinstance(rows, Sparse):
        raise NotCovered(f"{name} after columns that are kept sparse")
    matrix = numbers(rows, keeps=FINITE_KEPT)
    check_finite(matrix, nan=True)
    return matrix


def power(estimator: Any, making: Making) -> YeoJohnson:
    """PowerTransformer. Raises NotCovered."""
    if estimator.method != "yeo-johnson":
        raise NotCovered("PowerTransformer by Box-Cox, whose logarithms are the C library's")
    _check_copies(estimator)
    return YeoJohnson(estimator.lambdas_, standard(estimator._scaler, making) if estimator.standardize else None)


def quantile(estimator: Any, making: Making) -> Quantiles:
    """QuantileTransformer. Raises NotCovered."""
    _check_copies(estimator)
    return Quantiles(estimator.quantiles_, estimator.references_, estimator.output_distribution == "normal")


def _check_copies(estimator: Any) -> None:
    if not estimator.copy:
        raise NotCovered(f"{type(estimator).__name__} with copy=False, which writes into the rows that it is given")
