"""Scalers: each column by itself, in the library's own order of operations.

Source: scikit-learn's preprocessing/_data.py.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from foretell.kernels.node import Making, NotCovered
from foretell.kernels.rows import FINITE_KEPT, Rows, Sparse, check_finite, numbers


@dataclass(frozen=True)
class Scaler:
    """Per column: times, plus, minus, over, then clipped; whichever there are."""

    times: np.ndarray | None = None
    plus: np.ndarray | None = None
    minus: np.ndarray | None = None
    over: np.ndarray | None = None
    low: float | None = None
    high: float | None = None

    def transform(self, rows: Rows) -> Rows:
        if isinstance(rows, Sparse):
            raise NotCovered("a scaler after one-hot columns that are kept sparse")
        matrix = numbers(rows, keeps=FINITE_KEPT).copy()
        check_finite(matrix, nan=True)
        if self.times is not None:
            matrix *= self.times
        if self.plus is not None:
            matrix += self.plus
        if self.minus is not None:
            matrix -= self.minus.astype(matrix.dtype, copy=False)
        if self.over is not None:
            matrix /= self.over.astype(matrix.dtype, copy=False)
        if self.low is not None:
            np.clip(matrix, self.low, self.high, out=matrix)
        return matrix


def standard(estimator: Any, making: Making) -> Scaler:
    """StandardScaler: (x - mean) / scale."""
    return Scaler(
        minus=estimator.mean_ if estimator.with_mean else None,
        over=estimator.scale_ if estimator.with_std else None,
    )


def min_max(estimator: Any, making: Making) -> Scaler:
    """MinMaxScaler: x · scale + min, clipped where it was asked to."""
    low, high = estimator.feature_range if estimator.clip else (None, None)
    return Scaler(times=estimator.scale_, plus=estimator.min_, low=low, high=high)


def max_abs(estimator: Any, making: Making) -> Scaler:
    """MaxAbsScaler: x / scale."""
    clipped = getattr(estimator, "clip", False)
    return Scaler(over=estimator.scale_, low=-1.0 if clipped else None, high=1.0 if clipped else None)


def robust(estimator: Any, making: Making) -> Scaler:
    """RobustScaler: (x - center) / scale."""
    return Scaler(
        minus=estimator.center_ if estimator.with_centering else None,
        over=estimator.scale_ if estimator.with_scaling else None,
    )
