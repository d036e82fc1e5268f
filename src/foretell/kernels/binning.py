"""Numbers as steps: above a threshold or not, and which bin they fall into.

Source: scikit-learn's preprocessing/_data.py and _discretization.py.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from foretell.kernels.node import Making, NotCovered
from foretell.kernels.rows import NUMERIC, Frame, Hot, Rows, Sparse, check_finite, numbers


@dataclass(frozen=True)
class Threshold:
    """One above it, else zero."""

    above: float

    def transform(self, rows: Rows) -> Rows:
        if isinstance(rows, Sparse):
            raise NotCovered("a threshold after columns that are kept sparse")
        matrix = numbers(rows, keeps=NUMERIC)
        check_finite(matrix)
        compared = matrix if matrix.dtype.kind == "f" else matrix.astype("float64")
        return (compared > self.above).astype(matrix.dtype)


@dataclass(frozen=True)
class Bins:
    """edges: per column, between its bins. encode: the bin's number, or a one in its column, kept sparse or not.
    dtype: that is asked for; "" for the one that comes."""

    edges: tuple[np.ndarray, ...]
    encode: Literal["ordinal", "onehot", "onehot-dense"]
    dtype: str

    def transform(self, rows: Rows) -> Rows:
        if isinstance(rows, Sparse):
            raise NotCovered("bins after columns that are kept sparse")
        matrix = numbers(rows, keeps=("float64", "float32"))
        if self.dtype:
            kinds = [column.dtype for column in rows.columns] if isinstance(rows, Frame) else [rows.dtype]
            if any(kind.kind != "f" for kind in kinds):
                raise NotCovered(f"bins of {self.dtype} from other than floats")
            matrix = matrix.astype(self.dtype, copy=False)
        check_finite(matrix)
        places = np.empty(matrix.shape, np.intp)
        for at, edges in enumerate(self.edges):
            places[:, at] = edges.searchsorted(matrix[:, at], side="right")
        if self.encode == "ordinal":
            return places.astype(matrix.dtype)
        hot = Hot(places + self._starts[:-1], int(self._starts[-1]), matrix.dtype.name)  # type: ignore[arg-type]
        return Sparse((hot,)) if self.encode == "onehot" else hot.dense()

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.cumsum([0, *(len(edges) + 1 for edges in self.edges)])


def binarizer(estimator: Any, making: Making) -> Threshold:
    """From a Binarizer. Raises NotCovered."""
    if isinstance(estimator.threshold, np.generic):
        raise NotCovered(f"Binarizer with a threshold of {estimator.threshold.dtype}")
    return Threshold(float(estimator.threshold))


def discretizer(estimator: Any, making: Making) -> Bins:
    """From a fitted KBinsDiscretizer. Raises NotCovered."""
    dtype = "" if estimator.dtype is None else np.dtype(estimator.dtype).name
    return Bins(tuple(edges[1:-1] for edges in estimator.bin_edges_), estimator.encode, dtype)
