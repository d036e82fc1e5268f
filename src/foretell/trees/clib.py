"""The C library's exponential and logarithm, which boosters call; numpy's own have other last bits."""

import math

import numpy as np

try:
    from foretell.trees import _walk
except ImportError:  # a package that was built where there was no compiler
    _walk = None  # type: ignore[assignment]


def exp(values: np.ndarray) -> np.ndarray:
    """e to each value, float32 by expf, float64 by exp. Without a compiled part there is no forest that asks for it."""
    found = np.array(values, order="C")
    _walk.exp(found.dtype.char, found)
    return found


def log(values: np.ndarray) -> np.ndarray:
    """Of few values, by logf; where foretell has no compiled part, at most a last bit away."""
    one = _walk.logf if _walk is not None else _rounded_log
    return np.array([one(value) for value in values.tolist()], "float32")


def _rounded_log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf if value == 0 else math.nan
