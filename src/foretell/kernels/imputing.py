"""Missing cells: filled with what was learnt of their column, or told in columns of their own.

Source: scikit-learn's impute/_base.py.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from foretell.kernels.node import Making, NotCovered
from foretell.kernels.rows import FINITE_KEPT, NUMERIC, Frame, Rows, Sparse, check_finite, numbers, refused

Missing = float | int | str | np.ndarray | None
"""What marks a missing cell; an array of no dimension holds a number of a numpy type."""


@dataclass(frozen=True)
class Imputer:
    """missing: what marks a missing cell. fill: a value for each column that is kept. kept: their places; None for
    all. told: places of columns whose missing cells are told in columns behind the others. floats: whether columns are
    made floats before. objects: whether the library saw objects when it was fitted. constant: the dtype that constants
    must fit."""

    missing: Missing
    fill: np.ndarray
    kept: np.ndarray | None
    told: np.ndarray | None
    floats: bool
    objects: bool
    constant: str = ""

    def transform(self, rows: Rows) -> Rows:
        if isinstance(rows, Sparse):
            raise NotCovered("an imputer after columns that are kept sparse")
        if self.objects or (not self.floats and isinstance(rows, Frame) and rows.text):
            return self._objects(_columns(rows))
        matrix = numbers(rows, keeps=FINITE_KEPT if self.floats else NUMERIC)
        mask = _mask(matrix, self.missing)
        _check_constant(self.constant, matrix.dtype)
        filled = matrix[:, self.kept] if self.kept is not None else matrix.copy() if matrix is rows else matrix
        if mask is not None and mask.any():
            np.copyto(filled, self.fill, where=mask if self.kept is None else mask[:, self.kept], casting="unsafe")
        if self.told is None:
            return filled
        return np.concatenate([filled, _told(mask, self.told, len(matrix))], axis=1)

    def _objects(self, columns: tuple[np.ndarray, ...]) -> Frame:
        _check_constant(self.constant, np.dtype(object))
        masks = _masks(columns, self.missing)
        kept = range(len(columns)) if self.kept is None else self.kept.tolist()
        filled = [_filled(columns[at], masks[at], value) for at, value in zip(kept, self._values, strict=True)]
        if self.told is not None:
            filled += [np.array(masks[at], bool) for at in self.told.tolist()]
        return Frame(tuple(filled), objects=True)

    @cached_property
    def _values(self) -> list[Any]:
        values: list[Any] = self.fill.tolist()
        return values


@dataclass(frozen=True)
class Indicator:
    """missing: what marks a missing cell. told: places of the columns whose missing cells are told. strict: whether
    others may have none."""

    missing: Missing
    told: np.ndarray
    strict: bool

    def transform(self, rows: Rows) -> Rows:
        if isinstance(rows, Sparse):
            raise NotCovered("an indicator after columns that are kept sparse")
        if isinstance(rows, Frame) and rows.text:
            columns = _columns(rows)
            mask: np.ndarray | None = np.array(_masks(columns, self.missing), bool).T
        else:
            columns = ()
            mask = _mask(numbers(rows, keeps=NUMERIC), self.missing)
        if self.strict and mask is not None:
            new = np.setdiff1d(np.flatnonzero(mask.any(axis=0)), self.told)
            if new.size:
                raise ValueError(
                    f"The features {new} have missing values in transform but have no missing values in fit."
                )
        return _told(mask, self.told, len(rows))


def _told(mask: np.ndarray | None, told: np.ndarray, rows: int) -> np.ndarray:
    return np.zeros((rows, len(told)), bool) if mask is None else mask[:, told]


def _mask(matrix: np.ndarray, missing: Missing) -> np.ndarray | None:
    """Which numbers are missing; None where none can be. Raises RowRefused, NotCovered where the library fails."""
    if matrix.dtype.kind == "b" or missing is None or isinstance(missing, str):
        raise NotCovered(f"missing cells marked by {missing!r} in {matrix.dtype}")
    if _is_nan(missing):
        check_finite(matrix, nan=True)
        return np.isnan(matrix) if matrix.dtype.kind == "f" else None
    check_finite(matrix)
    mask: np.ndarray = matrix == missing
    return mask


def _masks(columns: tuple[np.ndarray, ...], missing: Missing) -> list[list[bool]]:
    """Which cells of each column are missing, as Python compares them. Raises RowRefused."""
    nulls = [[cell is None or cell != cell for cell in column.tolist()] for column in columns]
    if _is_nan(missing):
        return nulls
    if any(True in null for null in nulls):
        raise refused("Input contains NaN")
    if missing is None:
        return nulls
    return [[bool(cell == missing) for cell in column.tolist()] for column in columns]


def _is_nan(missing: Missing) -> bool:
    return not isinstance(missing, str) and missing is not None and bool(missing != missing)


def _columns(rows: Rows) -> tuple[np.ndarray, ...]:
    return rows.columns if isinstance(rows, Frame) else tuple(rows.T)  # type: ignore[union-attr]


def _filled(column: np.ndarray, mask: list[bool], value: Any) -> np.ndarray:
    if True not in mask:
        return column
    filled = np.empty(len(column), object)
    filled[:] = [value if missing else cell for cell, missing in zip(column.tolist(), mask, strict=True)]
    return filled


def _check_constant(constant: str, dtype: np.dtype[Any]) -> None:
    if constant and not np.can_cast(np.dtype(constant), dtype, casting="same_kind"):
        raise NotCovered(f"a constant of {constant} among {dtype}")


def imputer(estimator: Any, making: Making) -> Imputer:
    """From a fitted SimpleImputer. Raises NotCovered."""
    statistics = np.asarray(estimator.statistics_)
    kept = np.array([value == value for value in statistics.tolist()], bool)
    if estimator.keep_empty_features:
        kept[:] = True
    fill = statistics[kept].astype(estimator._fill_dtype)
    for value in fill.tolist() if fill.dtype == object else ():
        if not isinstance(value, bool | int | float | str):
            raise NotCovered(f"SimpleImputer that fills in a {type(value).__name__}")
    if fill.dtype.kind not in "iufO":
        raise NotCovered(f"SimpleImputer of {fill.dtype}")
    if not len(fill):
        raise NotCovered("SimpleImputer that keeps no column")
    return Imputer(
        _missing(estimator),
        fill,
        None if kept.all() else np.flatnonzero(kept),
        np.asarray(estimator.indicator_.features_) if estimator.add_indicator else None,
        floats=estimator.strategy not in ("most_frequent", "constant"),
        objects=estimator._fit_dtype.kind == "O",
        constant=np.dtype(estimator._fill_dtype).name if estimator.strategy == "constant" else "",
    )


def indicator(estimator: Any, making: Making) -> Indicator:
    """From a fitted MissingIndicator. Raises NotCovered."""
    if estimator.sparse is True:
        raise NotCovered("MissingIndicator that is kept sparse")
    told = np.asarray(estimator.features_)
    if not len(told):
        raise NotCovered("MissingIndicator that tells of no column")
    return Indicator(_missing(estimator), told, bool(estimator.features == "missing-only" and estimator.error_on_new))


def _missing(estimator: Any) -> Missing:
    missing = estimator.missing_values
    if isinstance(missing, np.number | np.bool_):
        return np.asarray(missing)
    if missing is None or isinstance(missing, float | int | str):
        return int(missing) if isinstance(missing, bool) else missing
    raise NotCovered(f"{type(estimator).__name__} with missing cells marked by {missing!r}")
