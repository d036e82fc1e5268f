"""The exponential as the C library has it, which compiled code of scikit-learn and scipy calls; numpy's own has other
last bits.

Where foretell was built without a compiler, numpy computes complex exponentials by the C library's cexp, whose real
part, where nothing is imaginary, is exp: 8 ns a number, as against 60 by way of Python. A trial on the spot says
whether that holds here.
"""

import functools
import math

import numpy as np

try:
    from foretell.trees import _walk
except ImportError:  # a package that was built where there was no compiler
    _walk = None  # type: ignore[assignment]

_FEW = 24
_LARGEST = 700.0
"""Above it cexp goes another way than exp, and it loses a NaN's sign."""


def exp(values: np.ndarray) -> np.ndarray:
    """exp of float64 numbers, to the bit as math.exp; infinity where it overflows."""
    if _walk is not None:
        raised = np.array(values, "float64", order="C")
        _walk.exp("d", raised)
        return raised
    return without_walk(values)


def without_walk(values: np.ndarray) -> np.ndarray:
    """exp, where foretell was built without a compiler."""
    if values.size >= _FEW and np.maximum.reduce(values, axis=None) <= _LARGEST and _same_by_complex():
        return _by_complex(values)
    return _one_by_one(values)


def _by_complex(values: np.ndarray) -> np.ndarray:
    raised = values.astype("complex128")
    np.exp(raised, out=raised)
    return raised.real


def _one_by_one(values: np.ndarray) -> np.ndarray:
    return np.array([_exp(value) for value in values.ravel().tolist()]).reshape(values.shape)


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


@functools.cache
def _same_by_complex() -> bool:
    trial = np.concatenate([np.linspace(-750.0, _LARGEST, 2000), np.linspace(-3.0, 3.0, 2000)])
    return np.array_equal(_by_complex(trial), _one_by_one(trial))
