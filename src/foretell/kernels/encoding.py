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
    """columns: the categories, each of which stands for one of width columns, or for -1, none. sparse: whether the
    library keeps them sparse."""

    columns: tuple[Categories, ...]
    width: int
    sparse: bool
    dtype: Number

    def transform(self, rows: Rows) -> Rows:
        hot = Hot(meanings(rows, self.columns), self.width, self.dtype)
        return Sparse((hot,)) if self.sparse else hot.dense()


@dataclass(frozen=True)
class Numbered:
    """columns: the categories, each of which stands for a place among values, shape (places,) or (places, k)."""

    columns: tuple[Categories, ...]
    values: np.ndarray

    def transform(self, rows: Rows) -> Rows:
        found: np.ndarray = self.values[meanings(rows, self.columns)]
        return found.reshape(len(found), -1)


def one_hot(estimator: Any, making: Making) -> OneHot:
    """From a fitted OneHotEncoder. Raises NotCovered."""
    dtype = np.dtype(estimator.dtype).name
    if dtype not in get_args(Number):
        raise NotCovered(f"OneHotEncoder of {dtype}")
    columns = []
    start = 0
    for at, categories in enumerate(estimator.categories_):
        places = np.append(_grouped(estimator, at), REFUSED if estimator.handle_unknown == "error" else -1)
        if _infrequent(estimator, at) is not None and estimator.handle_unknown in ("infrequent_if_exist", "warn"):
            places[-1] = places[_infrequent(estimator, at)[0]]
        dropped = None if estimator._drop_idx_after_grouping is None else estimator._drop_idx_after_grouping[at]
        if dropped is not None:
            places = np.where(places == dropped, -1, places - (places > dropped))
        means = np.where(places >= 0, places + start, places)
        columns.append(Categories(storable(categories), means))
        start += int(estimator._n_features_outs[at])
    return OneHot(tuple(columns), start, bool(estimator.sparse_output), dtype)


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
    columns = []
    start = 0
    for categories, table in zip(estimator.categories_, tables, strict=True):
        means = np.arange(start, start + len(table))
        if strict:
            means[-1] = REFUSED
        columns.append(Categories(storable(categories), means))
        start += len(table)
    return Numbered(tuple(columns), np.concatenate(tables))


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
