"""Whole columns of cells as arrays: from text, from Arrow, from checked cells. The same values and the same refusals
as the cell grammar's."""

import functools
import struct
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from foretell.cells import Column, Refused, TextRules, from_text, from_value, out_of_range
from foretell.errors import CellWrong
from foretell.imports import Lazily

pc = Lazily("pyarrow.compute")


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


def matrix(rows: list[tuple[Any, ...]], dtype: str) -> np.ndarray | None:
    """Checked rows of numbers as one array, shape (rows, columns), nulls as NaN; None where one overflows the dtype."""
    if dtype == "float64" and len(rows) > 1:
        pack = _packer(len(rows[0]))
        try:
            return np.frombuffer(bytearray().join([pack(*row) for row in rows])).reshape(len(rows), -1)
        except struct.error:
            pass  # a null
    if dtype[0] != "f" or dtype == "float64":
        return np.array(rows, dtype)
    with np.errstate(over="ignore"):
        whole = np.array(rows, "float64").astype(dtype)
    return None if np.isinf(whole).any() else whole


@functools.cache
def _packer(columns: int) -> Callable[..., bytes]:
    """Packs a row of doubles: many become an array so in a third of the time that numpy takes to look into tuples."""
    return struct.Struct(f"{columns}d").pack


def from_texts(values: pa.Array, column: Column, at: int, rules: TextRules) -> np.ndarray:
    """A column of text, shape (rows,). at: the column's index, for errors. Raises CellWrong at the first bad row."""
    return _each_distinct(values, at, column, lambda text: from_text(text, column, rules))


def refusals(values: pa.Array, column: Column, rules: TextRules) -> dict[int, str]:
    """What is wrong with each bad cell of a column of text, by row."""
    if pa.types.is_null(values.type):
        values = values.cast(pa.string())
    distinct, codes = _coded(values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values)
    wrong = {}
    for code, value in enumerate(distinct):
        try:
            from_text(value, column, rules)
        except Refused as refused:
            wrong[code] = refused.reason
    rows = np.flatnonzero(np.isin(codes, list(wrong))) if wrong else ()
    return {int(row): wrong[int(codes[row])] for row in rows}


def from_arrow(values: pa.Array, column: Column, at: int) -> np.ndarray:
    """A column that Arrow has typed, shape (rows,). at: its index, for errors. Raises CellWrong, first row first."""
    values = _plain(values)
    kind, given, types = column.cell.kind, values.type, pa.types
    if kind == "float" and types.is_decimal(given):
        values = values.cast(pa.string()).cast(pa.float64())
        return _floats(values, column, at)
    if kind == "float" and (types.is_floating(given) or types.is_integer(given)):
        return _floats(values, column, at)
    if kind == "int" and types.is_integer(given) and not values.null_count and not column.nullable:
        return _integers(values, column, at)
    if kind == "bool" and types.is_boolean(given) and not values.null_count and not column.nullable:
        return to_numpy(values)
    if kind == "text" and (types.is_string(given) or types.is_large_string(given)):
        return build(values.to_pylist(), column)
    if kind == "datetime" and (types.is_date(given) or types.is_timestamp(given)):
        return _moments(values, column, at)
    if _is_list(given) and not values.null_count and pc.all(pc.equal(pc.list_value_length(values), 1)).as_py():
        return from_arrow(values.flatten(), column, at)
    if types.is_nested(given) or types.is_temporal(given) or types.is_interval(given):
        return _foreign(values, column, at)
    return _each_distinct(values, at, column, lambda value: from_value(value, column))


def _plain(values: pa.Array) -> pa.Array:
    """One array without an extension's, a view's or a code's clothes. Coded text stays coded: a cell may be long."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks)
    if isinstance(values, pa.ExtensionArray):
        return _plain(values.storage)
    types, given = pa.types, values.type
    if types.is_run_end_encoded(given):
        return _plain(pc.run_end_decode(values))
    if types.is_dictionary(given):
        values = without_views(values)
        return values if _is_words(values.type.value_type) else _plain(values.dictionary_decode())
    if types.is_string_view(given) or types.is_binary_view(given):
        return values.cast(pa.large_string() if types.is_string_view(given) else pa.large_binary())
    if types.is_float16(given):
        return values.cast(pa.float32())
    if types.is_decimal(given) and given.bit_width < 128:
        return values.cast(pa.decimal128(38, given.scale))
    return values


def without_views(coded: pa.DictionaryArray) -> pa.DictionaryArray:
    """Codes whose words are views, as polars writes them, with plain words, for which Arrow has its functions."""
    kind = coded.type.value_type
    if not (pa.types.is_string_view(kind) or pa.types.is_binary_view(kind)):
        return coded
    plain = pa.large_string() if pa.types.is_string_view(kind) else pa.large_binary()
    return pa.DictionaryArray.from_arrays(coded.indices, coded.dictionary.cast(plain))


def _is_words(kind: pa.DataType) -> bool:
    types = pa.types
    tests = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    return any(test(kind) for test in tests)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _foreign(values: pa.Array, column: Column, at: int) -> np.ndarray:
    """A column of a type that no cell of this one can have: only nulls pass."""
    there = to_numpy(values.is_valid())
    if there.any():
        reason = f"a {values.type} is not a {column.cell.noun} ({column.type})"
        raise CellWrong(int(there.argmax()), at, reason)
    return _each_distinct(pa.nulls(len(values)), at, column, lambda value: from_value(value, column))


_ARROW_FLOATS = {"double": "float64", "float": "float32", "halffloat": "float16"}


def to_numpy(values: pa.Array) -> np.ndarray:
    """A primitive array as numpy, floats' nulls as NaN. (Arrow's own way imports pandas where it is installed.)"""
    if pa.types.is_boolean(values.type):
        return to_numpy(values.cast(pa.uint8())).view(bool)
    name = str(values.type)
    dtype = np.dtype(_ARROW_FLOATS.get(name, name))
    if not len(values):
        return np.empty(0, dtype)
    if dtype.kind == "f" and values.null_count:
        values = values.fill_null(pa.scalar(float("nan"), values.type))
    return np.frombuffer(values.buffers()[1], dtype, len(values), values.offset * dtype.itemsize)


def _each_distinct(values: Any, at: int, column: Column, read: Callable[[Any], Any]) -> np.ndarray:
    """Reads every distinct cell once; columns of dates, flags and codes have few."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if pa.types.is_null(values.type):
        return build(_each([None] * len(values), at, read), column)
    distinct, codes = _coded(values)
    cells: list[Any] = []
    wrong: dict[int, Refused] = {}
    for code, value in enumerate(distinct):
        try:
            cells.append(read(value))
        except Refused as refused:
            cells.append(None)
            wrong[code] = refused
    if wrong and (found := np.isin(codes, list(wrong))).any():
        row = int(found.argmax())
        first = wrong[int(codes[row])]
        raise CellWrong(row, at, first.reason, first.hint)
    if wrong:
        good = next((code for code in range(len(cells)) if code not in wrong), 0)
        cells = [cells[good] if code in wrong else cell for code, cell in enumerate(cells)]
    array = build(cells if len(codes) else [], column)
    return array[codes] if len(codes) else array


def _coded(values: pa.Array) -> tuple[list[Any], np.ndarray]:
    """The distinct cells, some perhaps of no row, and every row's index among them."""
    if not pa.types.is_dictionary(values.type):
        coded = pc.dictionary_encode(values, null_encoding="encode")
        return coded.dictionary.to_pylist(), to_numpy(coded.indices)
    words = values.dictionary
    codes = to_numpy(values.indices.cast(pa.int64()).fill_null(pa.scalar(len(words), pa.int64())))
    if len(words) > len(values):
        used, codes = np.unique(codes, return_inverse=True)
        return words.take(pa.array(used, pa.int64(), mask=used == len(words))).to_pylist(), codes
    return [*words.to_pylist(), None], codes


def _each(values: Iterable[Any], at: int, read: Callable[[Any], Any]) -> Iterable[Any]:
    for row, value in enumerate(values):
        try:
            yield read(value)
        except Refused as refused:
            raise CellWrong(row, at, refused.reason, refused.hint) from refused


def _floats(values: pa.Array, column: Column, at: int) -> np.ndarray:
    wide = to_numpy(values if str(values.type) == column.type else values.cast(pa.float64(), safe=False))
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


def moments(values: pa.Array) -> np.ndarray:
    """Dates or timestamps in their own unit, nulls as NaT. Arrow keeps a zoned one in UTC, and so does this."""
    ints = values.cast(pa.int32()).cast(pa.int64()) if pa.types.is_date32(values.type) else values.cast(pa.int64())
    unit = "D" if pa.types.is_date32(values.type) else "ms" if pa.types.is_date64(values.type) else values.type.unit
    stamps: np.ndarray = to_numpy(ints.fill_null(pa.scalar(_NAT, pa.int64()))).view(f"datetime64[{unit}]")
    return stamps


_NAT = np.iinfo("int64").min
_FIRST, _LAST = np.datetime64("1678-01-01"), np.datetime64("2262-01-01")


def _moments(values: pa.Array, column: Column, at: int) -> np.ndarray:
    """Range: as in the cell grammar, looked at in the unit that is given, where nothing overflows."""
    given = moments(values)
    ticks, missing = given.view("int64"), np.isnat(given)
    first, last = (edge.astype(given.dtype).view("int64") for edge in (_FIRST, _LAST))
    out = ~missing & ((ticks < first) | (ticks >= last))
    if out.any():
        row = int(out.argmax())
        raise CellWrong(row, at, f"{given[row]} is outside the years 1678 to 2261 (datetime)")
    return given.astype("datetime64[ns]")
