"""What the boosters' engines share: columns of numbers as one matrix, and columns that they cannot take."""

from pathlib import Path
from typing import Any

import numpy as np

from foretell.batch import Batch, Output
from foretell.cells import Column
from foretell.errors import ModelUnreadable
from foretell.models.mlmodel import StoredModel
from foretell.signature import Signature


def model_file(model: StoredModel, flavour: str) -> Path:
    """The file that holds the trees."""
    if model.path.is_file():
        return model.path
    return model.file(model.flavours[flavour].get("data") or model.flavours.get("python_function", {}).get("data"))


def known_columns(names: list[str], count: int) -> Signature:
    """count columns of doubles, by name where there are names."""
    if names:
        return Signature(tuple(Column(name, "double") for name in names))
    return Signature.unnamed(count)


def matrix(batch: Batch, dtype: str) -> np.ndarray:
    """All columns as numbers, shape (rows, columns), nulls as NaN. Each is rounded to dtype once, from its own type."""
    numbers = [number_column(column) for column in batch.columns] if _mixed(batch) else None
    with np.errstate(over="ignore"):
        if numbers is None:
            return np.ascontiguousarray(batch.matrix, dtype)
        return np.column_stack([column.astype(dtype) for column in numbers])


def number_column(column: np.ndarray) -> np.ndarray:
    """A column of numbers; one of flags and nulls as 1, 0 and NaN. Raises ModelUnreadable for text and dates."""
    if column.ndim == 1 and column.dtype.kind in "biuf":
        return column
    if column.ndim > 1 or column.dtype != object or any(isinstance(value, str | bytes) for value in column):
        raise ModelUnreadable(
            "the model takes numbers only, and its signature has columns of something else",
            "Describe its columns as they are in a file: --schema FILE",
        )
    return np.array([np.nan if value is None else value for value in column], "float64")


def _mixed(batch: Batch) -> bool:
    kinds = {column.dtype for column in batch.columns}
    return len(kinds) > 1 or batch.columns[0].ndim > 1 or next(iter(kinds)).kind not in "biuf"


def output(values: Any, labels: tuple[str, ...] = (), *, proba: bool = False) -> Output:
    """A library's answer: a single column as shape (rows,), labels where there are as many."""
    array = np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 1 and not proba:
        array = array[:, 0]
    fits = array.ndim == 2 and array.shape[1] == len(labels)
    return Output("", array, labels if fits else (), proba=proba)
