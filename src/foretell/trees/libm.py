"""The exponential and the logarithm as the C library has them, which compiled code of scikit-learn, scipy and the
boosters calls; numpy's own have other last bits.

Where foretell was built without a compiler, numpy computes complex exponentials by the C library's cexp, whose real
part, where nothing is imaginary, is exp: 8 ns a number, as against 60 by way of Python. A trial on the spot says
whether that holds here.
"""

import ctypes
import functools
import math
from collections.abc import Callable

import numpy as np

try:
    from foretell.trees import _walk
except ImportError:  # a package that was built where there was no compiler
    _walk = None  # type: ignore[assignment]

_FEW = 24
_LARGEST = 700.0
"""Above it cexp goes another way than exp, and it loses a NaN's sign."""


def exp(values: np.ndarray) -> np.ndarray:
    """e to each value, float32 by expf, float64 by exp; infinity where it overflows."""
    if _walk is None:
        return without_walk(values)
    raised = np.array(values, order="C")
    _walk.exp(raised.dtype.char, raised)
    return raised


def log(values: np.ndarray) -> np.ndarray:
    """Of few float32 values, by logf."""
    one = _walk.logf if _walk is not None else _single("logf")
    return np.array([one(value) for value in values.tolist()], "float32")


def without_walk(values: np.ndarray) -> np.ndarray:
    """exp, where foretell was built without a compiler."""
    if values.dtype == "float32":
        return np.array(list(map(_single("expf"), values.ravel().tolist())), "float32").reshape(values.shape)
    if values.size >= _FEW and np.maximum.reduce(values, axis=None) <= _LARGEST and _same_by_complex():
        return _by_complex(values)
    return _one_by_one(values)


@functools.cache
def _single(name: str) -> Callable[[float], float]:
    """The C library's function of float32, by its name."""
    found = getattr(ctypes.CDLL(None), name)
    found.restype, found.argtypes = ctypes.c_float, [ctypes.c_float]
    function: Callable[[float], float] = found
    return function


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
