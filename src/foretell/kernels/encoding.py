"""Encoders of categories: one-hot columns, or numbers that stand for a category.

Source: scikit-learn's preprocessing/_encoders.py and _target_encoder.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from foretell.kernels.categories import REFUSED, Categories, meanings, storable
from foretell.kernels.node import Making, NotCovered
from foretell.kernels.rows import Hot, Number, Rows, Sparse


@dataclass(frozen=True)
class OneHot:
    """known: the categories of each column. means: which of width columns each of them, and then an unknown one, stands
    for; -1 for none. sparse: whether the library keeps them sparse."""

    known: tuple[np.ndarray, ...]
    means: np.ndarray
    width: int
    sparse: bool
    dtype: Number

    def __post_init__(self) -> None:
        object.__setattr__(self, "_columns", Categories.each(self.known, self.means))

    def transform(self, rows: Rows) -> Rows:
        hot = Hot(meanings(rows, self._columns), self.width, self.dtype)  # type: ignore[attr-defined]
        return Sparse((hot,)) if self.sparse else hot.dense()


@dataclass(frozen=True)
class Numbered:
    """known: the categories of each column. means: at which place of values what becomes of each of them stands, and
    then what becomes of an unknown one. values: shape (places,) or (places, k)."""

    known: tuple[np.ndarray, ...]
    means: np.ndarray
    values: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "_columns", Categories.each(self.known, self.means))

    def transform(self, rows: Rows) -> Rows:
        found: np.ndarray = self.values[meanings(rows, self._columns)]  # type: ignore[attr-defined]
        return found.reshape(len(found), -1)


def one_hot(estimator: Any, making: Making) -> OneHot:
    """From a fitted OneHotEncoder. Raises NotCovered."""
    dtype = np.dtype(estimator.dtype).name
    if dtype not in get_args(Number):
        raise NotCovered(f"OneHotEncoder of {dtype}")
    means = []
    start = 0
    for at in range(len(estimator.categories_)):
        places = np.append(_grouped(estimator, at), REFUSED if estimator.handle_unknown == "error" else -1)
        if _infrequent(estimator, at) is not None and estimator.handle_unknown in ("infrequent_if_exist", "warn"):
            places[-1] = places[_infrequent(estimator, at)[0]]
        dropped = None if estimator._drop_idx_after_grouping is None else estimator._drop_idx_after_grouping[at]
        if dropped is not None:
            places = np.where(places == dropped, -1, places - (places > dropped))
        means.append(np.where(places >= 0, places + start, places))
        start += int(estimator._n_features_outs[at])
    return OneHot(_known(estimator), np.concatenate(means), start, bool(estimator.sparse_output), dtype)


def ordinal(estimator: Any, making: Making) -> Numbered:
    """From a fitted OrdinalEncoder. Raises NotCovered."""
    dtype = np.dtype(estimator.dtype)
    if dtype.name not in get_args(Number):
        raise NotCovered(f"OrdinalEncoder of {dtype}")
    strict = estimator.handle_unknown == "error"
    tables = []
    for at in range(len(estimator.categories_)):
        missing = estimator._missing_indices.get(at)
        codes = _grouped(estimator, at, missing)
        table = np.append(codes, 0).astype(dtype)
        if missing is not None:
            table[missing] = estimator.encoded_missing_value
        if not strict:
            table[-1] = estimator.unknown_value
        tables.append(table)
    return _numbered(estimator, tables, strict)


def target(estimator: Any, making: Making) -> Numbered:
    """From a fitted TargetEncoder. Raises NotCovered."""
    several = estimator.target_type_ == "multiclass"
    means = np.atleast_1d(estimator.target_mean_)
    each = len(estimator.classes_) if several else 1
    tables = []
    for at in range(len(estimator.categories_)):
        encodings = np.column_stack(estimator.encodings_[at * each : (at + 1) * each])
        tables.append(np.concatenate([encodings, means[None, :]]))
    return _numbered(estimator, tables if several else [table[:, 0] for table in tables], strict=False)


def _numbered(estimator: Any, tables: Sequence[np.ndarray], strict: bool) -> Numbered:
    """tables: per column what each category becomes, then what an unknown one does."""
    values = np.concatenate(tables)
    means = np.arange(len(values))
    if strict:
        means[np.cumsum([len(table) for table in tables]) - 1] = REFUSED
    return Numbered(_known(estimator), means, values)


def _known(estimator: Any) -> tuple[np.ndarray, ...]:
    return tuple(storable(categories) for categories in estimator.categories_)


def _infrequent(estimator: Any, at: int) -> Any:
    return estimator._infrequent_indices[at] if estimator._infrequent_enabled else None


def _grouped(estimator: Any, at: int, missing: int | None = None) -> np.ndarray:
    """A column's categories as the library numbers them after the rare ones became one. missing: one that is not
    counted among them."""
    codes = np.arange(len(estimator.categories_[at]))
    if _infrequent(estimator, at) is None:
        return codes
    mapping = estimator._default_to_infrequent_mappings[at]
    if missing is None:
        return np.asarray(mapping)
    codes[codes != missing] = mapping
    return codes
