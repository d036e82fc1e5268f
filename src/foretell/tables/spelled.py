"""Arrow columns of any type as text, for CSV, and as JSON's values. Used for carried columns and for answers."""

import base64
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from foretell.columns import moments, to_numpy, without_views
from foretell.errors import InputTooLarge, InputUnreadable
from foretell.imports import Lazily

pc = Lazily("pyarrow.compute")

_MAX_DECODED = 1 << 30
_EMPTY = pa.scalar("", pa.string())
_POINT_ZERO = pa.scalar(".0", pa.string())
JSON = msgspec.json.Encoder(decimal_format="number")


def settled(column: pa.Array, place: str) -> pa.Array:
    """A column as it is carried: codes as what they stand for, views as plain text. Raises InputUnreadable.

    So one type holds for every batch of an input, and every output has it.
    """
    types, kind = pa.types, column.type
    try:
        if types.is_run_end_encoded(kind):
            return pc.run_end_decode(column)
        if types.is_dictionary(kind):
            column = without_views(column)
            _bound(column, place)
            return settled(column.dictionary_decode(), place)
        return column.cast(_settled(kind))
    except (pa.ArrowException, TypeError) as error:
        raise InputUnreadable(
            f"{place}: a column of the type {kind} cannot be carried along", "Leave it out: --keep none"
        ) from error


def _bound(column: pa.DictionaryArray, place: str) -> None:
    """A few bytes can stand for a long cell in every row."""
    if pa.types.is_primitive(column.type.value_type):
        return
    size = pc.sum(pc.binary_length(column.dictionary).take(column.indices)).as_py() or 0
    if size > _MAX_DECODED:
        raise InputTooLarge(
            f"{place}: the cells of one block are over {_MAX_DECODED >> 20} MiB", "Leave it out: --keep"
        )


def _settled(kind: pa.DataType) -> pa.DataType:
    types = pa.types
    if types.is_string_view(kind) or types.is_binary_view(kind):
        return pa.large_string() if types.is_string_view(kind) else pa.large_binary()
    if types.is_struct(kind):
        return pa.struct([field.with_type(_settled(field.type)) for field in kind])
    if types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(_settled(kind.value_type)), kind.list_size)
    if types.is_list(kind) or types.is_large_list(kind):
        item = kind.value_field.with_type(_settled(kind.value_type))
        return pa.list_(item) if types.is_list(kind) else pa.large_list(item)
    tests = (types.is_union, types.is_interval, types.is_run_end_encoded, types.is_dictionary)
    if any(test(kind) for test in tests):
        raise TypeError
    return kind


def as_text(column: pa.Array) -> pa.Array:
    """A string array: text as it is, numbers in their shortest form, dates as ISO 8601, nested values as JSON."""
    kind = column.type
    if pa.types.is_string(kind):
        return column
    if pa.types.is_floating(kind):
        return _floats_as_text(to_numpy(column).astype("float64", copy=False))
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_large_string(kind):
        return column.cast(pa.string())
    return pa.array([_word(value) for value in as_values(column)], pa.string())


def text_of(values: np.ndarray) -> pa.Array:
    """Numbers, booleans and dates as text; floats as doubles in their shortest form; null where not finite or NaT."""
    if values.dtype.kind == "f":
        return _floats_as_text(values.astype("float64", copy=False))
    if values.dtype.kind == "M":
        return pa.array([None if np.isnat(v) else str(v) for v in values], pa.string())
    return pa.array(values).cast(pa.string())


def as_values(column: pa.Array) -> list[Any]:
    """Values that JSON has: what is not finite as null, decimals as numbers, dates as ISO 8601, bytes as base64,
    durations as whole numbers of their unit, lists as arrays, structs as objects, maps as arrays of key and value."""
    types, kind = pa.types, column.type
    if isinstance(column, pa.ExtensionArray):
        return as_values(column.storage)
    if types.is_date(kind) or types.is_timestamp(kind):
        return _dates(column)
    if types.is_struct(kind):
        return _objects(column)
    if types.is_nested(kind):
        return [as_values(cell.values) if cell.is_valid else None for cell in column]
    if types.is_floating(kind):
        wide = to_numpy(column).astype("float64", copy=False)
        column = pa.array(wide, mask=~np.isfinite(wide))
    elif types.is_time(kind) or types.is_duration(kind):
        column = column.cast(pa.string() if types.is_time(kind) else pa.int64())
    values: list[Any] = column.to_pylist()
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return [None if value is None else base64.b64encode(value).decode() for value in values]
    return values


def _objects(column: pa.StructArray) -> list[dict[str, Any] | None]:
    names = [field.name for field in column.type]
    rows = zip(*(as_values(part) for part in column.flatten()), strict=True) if names else ((),) * len(column)
    there = column.is_valid().to_pylist()
    return [dict(zip(names, row, strict=True)) if valid else None for row, valid in zip(rows, there, strict=True)]


def _dates(column: pa.Array) -> list[str | None]:
    texts = np.datetime_as_string(stamps := moments(column)).tolist()
    zone = "Z" if pa.types.is_timestamp(column.type) and column.type.tz else ""
    return [None if missing else text + zone for text, missing in zip(texts, np.isnat(stamps), strict=True)]


def _floats_as_text(wide: np.ndarray) -> pa.Array:
    text = pa.array(wide, mask=~np.isfinite(wide)).cast(pa.string())
    if not (wide == np.floor(wide)).any():
        return text
    whole = pc.match_substring_regex(text, "^-?[0-9]+$")
    return pc.if_else(whole, pc.binary_join_element_wise(text, _POINT_ZERO, _EMPTY), text)


def _word(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else JSON.encode(value).decode()
