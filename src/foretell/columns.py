"""Whole columns of cells as arrays: from text, from Arrow, from checked cells. The same values and the same refusals
as the cell grammar's."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from foretell.cells import Column, Refused, TextRules, from_text, from_value, out_of_range
from foretell.errors import CellWrong


def build(values: Iterable[Any], column: Column) -> np.ndarray:
    """Checked cells as an array of the column's dtype, shape (rows, *column.shape); nulls as NaN, NaT or None.

    A nullable int column is float64 and a nullable bool column object, whether or not a null is among the cells.
    """
    cells = list(values)
    kind = column.cell.kind
    if kind in ("int", "bool") and column.nullable:
        return np.array(cells, "float64" if kind == "int" else "object")
    if kind in ("text", "binary"):
        array = np.empty(len(cells), object)
        array[:] = cells
        return array
    if kind == "float" and column.type != "double":
        with np.errstate(over="ignore"):
            return np.array(cells, "float64").astype(column.cell.dtype)
    return np.array(cells, column.cell.dtype)


def from_texts(values: pa.Array, column: Column, at: int, rules: TextRules) -> np.ndarray:
    """A column of text, shape (rows,). at: the column's index, for errors. Raises CellWrong at the first bad row."""
    return _each_distinct(values, at, column, lambda text: from_text(text, column, rules))


def from_arrow(values: pa.Array, column: Column, at: int) -> np.ndarray:
    """A column that Arrow has typed, shape (rows,). at: its index, for errors. Raises CellWrong, first row first."""
    kind, given = column.cell.kind, values.type
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if pa.types.is_dictionary(given):
        return from_arrow(values.dictionary_decode(), column, at)
    if kind == "float" and (pa.types.is_floating(given) or pa.types.is_integer(given)):
        return _floats(values, column, at)
    if kind == "int" and pa.types.is_integer(given) and not values.null_count and not column.nullable:
        return _integers(values, column, at)
    if kind == "bool" and pa.types.is_boolean(given) and not values.null_count and not column.nullable:
        return to_numpy(values)
    if kind == "text" and (pa.types.is_string(given) or pa.types.is_large_string(given)):
        return build(values.to_pylist(), column)
    if kind == "datetime" and (pa.types.is_date(given) or pa.types.is_timestamp(given)):
        return _moments(values, column, at)
    return _each_distinct(values, at, column, lambda value: from_value(value, column))


_ARROW_FLOATS = {"double": "float64", "float": "float32", "halffloat": "float16"}


def to_numpy(values: pa.Array) -> np.ndarray:
    """A primitive array as numpy, floats' nulls as NaN. (Arrow's own way imports pandas where it is installed.)"""
    if pa.types.is_boolean(values.type):
        return to_numpy(values.cast(pa.uint8())).view(bool)
    name = str(values.type)
    dtype = np.dtype(_ARROW_FLOATS.get(name, name))
    if dtype.kind == "f" and values.null_count:
        values = values.fill_null(pa.scalar(float("nan"), values.type))
    return np.frombuffer(values.buffers()[1], dtype, len(values), values.offset * dtype.itemsize)


def _each_distinct(values: Any, at: int, column: Column, read: Callable[[Any], Any]) -> np.ndarray:
    """Reads every distinct cell once; columns of dates, flags and codes have few."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if pa.types.is_nested(values.type) or pa.types.is_null(values.type):
        return build(_each(values.to_pylist(), at, read), column)
    coded = pc.dictionary_encode(values, null_encoding="encode")
    cells, wrong = [], {}
    for code, value in enumerate(coded.dictionary.to_pylist()):
        try:
            cells.append(read(value))
        except Refused as refused:
            cells.append(None)
            wrong[code] = refused
    codes = to_numpy(coded.indices)
    if wrong:
        row = int(np.isin(codes, list(wrong)).argmax())
        first = wrong[int(codes[row])]
        raise CellWrong(row, at, first.reason, first.hint)
    return build(cells, column)[codes] if cells else build([], column)


def _each(values: Iterable[Any], at: int, read: Callable[[Any], Any]) -> Iterable[Any]:
    for row, value in enumerate(values):
        try:
            yield read(value)
        except Refused as refused:
            raise CellWrong(row, at, refused.reason, refused.hint) from refused


def _floats(values: pa.Array, column: Column, at: int) -> np.ndarray:
    wide = to_numpy(values.cast(pa.float64(), safe=False))
    with np.errstate(over="ignore"):
        array = wide.astype(column.cell.dtype, copy=False)
    infinite = np.isinf(array)
    if infinite.any():
        row = int(infinite.argmax())
        raise CellWrong(row, at, out_of_range(float(wide[row]), column).reason)
    return array


def _integers(values: pa.Array, column: Column, at: int) -> np.ndarray:
    array = to_numpy(values)
    cell = column.cell
    out = (array < cell.low) | (array > cell.high)
    if out.any():
        row = int(out.argmax())
        raise CellWrong(row, at, out_of_range(int(array[row]), column).reason)
    return array.astype(cell.dtype, copy=False)


_FIRST, _LAST = np.datetime64("1678-01-01", "ns"), np.datetime64("2262-01-01", "ns")


def _moments(values: pa.Array, column: Column, at: int) -> np.ndarray:
    """Arrow keeps a zoned timestamp in UTC, so dropping the zone leaves UTC. Range: as in the cell grammar."""
    try:
        moments: np.ndarray = values.cast(pa.timestamp("ns")).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        return build(_each(values.to_pylist(), at, lambda value: from_value(value, column)), column)
    out = (moments < _FIRST) | (moments >= _LAST)
    if out.any():
        row = int(out.argmax())
        raise CellWrong(row, at, f"{moments[row]} is outside the years 1678 to 2261 (datetime)")
    return moments
