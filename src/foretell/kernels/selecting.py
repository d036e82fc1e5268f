"""Which columns go on: what feature selection keeps.

Source: scikit-learn's feature_selection/_base.py.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from foretell.kernels.node import Making, NotCovered
from foretell.kernels.rows import NUMERIC, Frame, Hot, Rows, Sparse, check_finite, numbers


@dataclass(frozen=True)
class Selected:
    """columns: places of those that go on, in order. finite: whether cells must be."""

    columns: np.ndarray
    finite: bool

    def transform(self, rows: Rows) -> Rows:
        if isinstance(rows, Sparse):
            return self._sparse(rows)
        if isinstance(rows, Frame) and rows.text:
            raise NotCovered("a choice among columns of objects")
        matrix = numbers(rows, keeps=NUMERIC)
        if self.finite:
            check_finite(matrix)
        return matrix.take(self.columns, axis=1)

    def _sparse(self, rows: Sparse) -> Sparse:
        parts: list[np.ndarray | Hot] = []
        start = 0
        for part in rows.parts:
            width = part.width if isinstance(part, Hot) else part.shape[1]
            chosen = self.columns[(self.columns >= start) & (self.columns < start + width)] - start
            if isinstance(part, Hot):
                places = np.full(width + 1, -1)
                places[chosen] = np.arange(len(chosen))
                parts.append(Hot(places[part.codes], len(chosen), part.dtype))
            else:
                if self.finite:
                    check_finite(part)
                parts.append(part[:, chosen])
            start += width
        return Sparse(tuple(parts))


def selector(estimator: Any, making: Making) -> Selected:
    """From a fitted transformer that says by get_support what it keeps. Raises NotCovered."""
    columns = np.flatnonzero(estimator.get_support())
    if not len(columns):
        raise NotCovered(f"{type(estimator).__name__} that keeps no column")
    tags = estimator.__sklearn_tags__()
    return Selected(columns, finite=not tags.input_tags.allow_nan)
