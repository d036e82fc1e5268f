"""The cell grammar: what one cell means, by its column's type. Every reader, in batch and in real time, asks here.

A cell arrives as text (CSV: quotes carry no type) or as a value (JSON, Python: quotes do). Whole columns that Arrow
has already typed take a vectorised road that gives the same values and refuses the same cells.
"""

import base64
import binascii
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from foretell.errors import CellWrong

NULLS = ("", "NA", "NaN", "nan", "NULL", "null", "None", "\\N")
"""Text that means null in every column that is not a string; in a string column only an unquoted empty cell does."""


@dataclass(frozen=True)
class CellType:
    """A column type: its numpy dtype, the kind of value, and the range of whole numbers."""

    dtype: str
    kind: str
    low: int = 0
    high: int = 0
    noun: str = ""


def _whole(dtype: str) -> CellType:
    info = np.iinfo(dtype)
    return CellType(dtype, "int", int(info.min), int(info.max), "whole number")


TYPES = {
    "boolean": CellType("bool", "bool", noun="boolean"),
    "integer": _whole("int32"),
    "long": _whole("int64"),
    "float": CellType("float32", "float", noun="number"),
    "double": CellType("float64", "float", noun="number"),
    "string": CellType("object", "text", noun="string"),
    "binary": CellType("object", "binary", noun="base64 string"),
    "datetime": CellType("datetime64[ns]", "datetime", noun="ISO 8601 date"),
    **{name: _whole(name) for name in ("int8", "int16", "uint8", "uint16", "uint32", "uint64")},
    "float16": CellType("float16", "float", noun="number"),
}
"""MLflow's column types, then the numpy dtypes that only tensors have."""

_EXACT = 2**53
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "1": True}
_BOOLEANS |= {"false": False, "False": False, "FALSE": False, "0": False}
TRUE_TEXT = [text for text, value in _BOOLEANS.items() if value]
FALSE_TEXT = [text for text, value in _BOOLEANS.items() if not value]


@dataclass(frozen=True)
class Column:
    """One input: its name (None: by position), its type (a key of TYPES), and the shape of one cell (() for a scalar).

    A column that is not required may be absent or null. A null is otherwise allowed only where the type can hold it.
    """

    name: str | None
    type: str
    shape: tuple[int, ...] = ()
    required: bool = True

    @property
    def cell(self) -> CellType:
        return TYPES[self.type]

    @property
    def nullable(self) -> bool:
        return not self.required or self.cell.kind not in ("int", "bool")

    def __str__(self) -> str:
        return f"{self.name or '(unnamed)'}: {self.type}{list(self.shape) if self.shape else ''}"


@dataclass(frozen=True)
class TextRules:
    """How text is read: the words for null, and the decimal mark."""

    nulls: tuple[str, ...] = NULLS
    decimal: str = "."


class Refused(ValueError):
    """A cell that does not fit: the reason, and a hint."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


def from_text(text: str | None, column: Column, rules: TextRules) -> Any:
    """One cell from text; None is an unquoted empty cell. Raises Refused."""
    kind = column.cell.kind
    if kind == "text":
        return text
    text = "" if text is None else text.strip(" \t")
    if text in rules.nulls:
        return _null(column)
    if kind == "bool":
        if text not in _BOOLEANS:
            raise _not_a(text, column)
        return _BOOLEANS[text]
    if kind in ("int", "float"):
        return _number_from_text(text, column, rules.decimal)
    return _PARSERS[kind](text, column)


def from_value(value: Any, column: Column) -> Any:
    """One cell from a JSON or Python value. Raises Refused."""
    kind = column.cell.kind
    if hasattr(value, "item") and not column.shape and getattr(value, "ndim", 1) == 0:
        value = value.item()
    if value is None or value is pa.NA or (kind != "text" and isinstance(value, float) and math.isnan(value)):
        return _null(column)
    if kind == "bool":
        return value if isinstance(value, bool) else _refuse(value, column)
    if kind == "text":
        return _unicode(value, column) if isinstance(value, str) else _refuse(value, column)
    if kind in ("int", "float"):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _not_a(value, column)
        return _checked(value, column)
    if kind == "binary" and isinstance(value, bytes):
        return value
    if kind == "datetime" and isinstance(value, datetime):
        return _naive(value)
    return _PARSERS[kind](value, column) if isinstance(value, str) else _refuse(value, column)


def build(values: Iterable[Any], column: Column) -> np.ndarray:
    """Checked cells as an array of the column's dtype, shape (rows, *column.shape); nulls as NaN, NaT or None."""
    cells = list(values)
    kind = column.cell.kind
    if kind in ("int", "bool") and any(cell is None for cell in cells):
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
    """A column that Arrow has typed, shape (rows,). at: its index, for errors. Raises CellWrong at the first bad row."""
    kind, given = column.cell.kind, values.type
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if pa.types.is_dictionary(given):
        return from_arrow(values.dictionary_decode(), column, at)
    if kind == "float" and (pa.types.is_floating(given) or pa.types.is_integer(given)):
        return _floats(values, column, at)
    if kind == "int" and pa.types.is_integer(given) and not values.null_count:
        return _integers(values, column, at)
    if kind == "bool" and pa.types.is_boolean(given) and not values.null_count:
        return to_numpy(values)
    if kind == "text" and (pa.types.is_string(given) or pa.types.is_large_string(given)):
        return build(values.to_pylist(), column)
    if kind == "datetime" and (pa.types.is_date(given) or pa.types.is_timestamp(given)):
        return _moments(values, column, at)
    return _each_distinct(values, at, column, lambda value: from_value(value, column))


_ARROW_FLOATS = {"double": "float64", "float": "float32", "halffloat": "float16"}


def to_numpy(values: pa.Array) -> np.ndarray:
    """A primitive array as numpy, floats' nulls as NaN. (Arrow's own conversion imports pandas where it is installed.)"""
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
        refused = wrong[int(codes[row])]
        raise CellWrong(row, at, refused.reason, refused.hint)
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
        raise CellWrong(row, at, _out_of_range(float(wide[row]), column).reason)
    return array


def _integers(values: pa.Array, column: Column, at: int) -> np.ndarray:
    array = to_numpy(values)
    cell = column.cell
    out = (array < cell.low) | (array > cell.high)
    if out.any():
        row = int(out.argmax())
        raise CellWrong(row, at, _out_of_range(int(array[row]), column).reason)
    return array.astype(cell.dtype, copy=False)


def _moments(values: pa.Array, column: Column, at: int) -> np.ndarray:
    """Arrow keeps a zoned timestamp in UTC, so dropping the zone leaves UTC."""
    try:
        return values.cast(pa.timestamp("ns")).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid as error:
        raise CellWrong(0, at, f"a date outside the years 1678 to 2261 ({column.type})") from error


def _number_from_text(text: str, column: Column, decimal: str) -> int | float:
    if decimal != ".":
        text = text.replace(".", "?").replace(decimal, ".")
    if column.cell.kind == "int" and _INTEGER.fullmatch(text):
        if len(text.lstrip("+-0")) > 20:
            raise _out_of_range(text, column)
        return _checked(int(text), column)
    if not _NUMBER.fullmatch(text):
        raise _not_a(text.replace(".", decimal).replace("?", "."), column)
    return _checked(float(text), column)


def _checked(value: int | float, column: Column) -> int | float:
    """The number, in the column's range; a whole float for an int column becomes an int while doubles are exact."""
    cell = column.cell
    if cell.kind == "int":
        if isinstance(value, float):
            if not value.is_integer():
                reason = "is not finite" if math.isinf(value) else "is not a whole number"
                raise Refused(f"{show(value)} {reason} ({column.type})", _cast_hint(column, "fractions"))
            if abs(value) > _EXACT:
                raise Refused(f"{show(value)} is too large to be exact; write it without a point ({column.type})")
            value = int(value)
        if not cell.low <= value <= cell.high:
            raise _out_of_range(value, column)
        return value
    try:
        number = float(value)
    except OverflowError:
        raise _out_of_range(value, column) from None
    with np.errstate(over="ignore"):
        if math.isinf(number) or (column.type != "double" and np.isinf(np.dtype(cell.dtype).type(number))):
            raise _out_of_range(value, column)
    return number


def _unicode(text: str, column: Column) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Refused(f"half of a surrogate pair is no text ({column.type})") from None
    return text


def _null(column: Column) -> None:
    if not column.nullable:
        raise Refused(f"empty, but a {column.type} column takes no nulls", _cast_hint(column, "blanks"))


def _cast_hint(column: Column, what: str) -> str:
    if column.name is None or column.cell.kind != "int":
        return ""
    name = f'"{column.name}=double"' if " " in column.name else f"{column.name}=double"
    return f"If {what} are expected there, read it as a double: --cast {name}"


def _datetime_from_text(text: str, column: Column) -> np.datetime64:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _not_a(text, column) from None
    return _naive(moment)


def _naive(moment: datetime) -> np.datetime64:
    """MLflow's datetimes carry no zone: one that does is taken to UTC. Range: what nanoseconds in 64 bits can hold."""
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    if not 1678 <= moment.year <= 2261:
        raise Refused(f"{moment.isoformat()} is outside the years 1678 to 2261 (datetime)")
    return np.datetime64(moment, "ns")


def _binary_from_text(text: str, column: Column) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _not_a(text, column) from None


_PARSERS: dict[str, Callable[[str, Column], Any]] = {
    "datetime": _datetime_from_text,
    "binary": _binary_from_text,
}


def show(value: Any) -> str:
    """A value for a message: as JSON writes it, cut to 40 characters."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    text = text.encode("unicode_escape").decode("ascii") if not text.isprintable() else text
    return text if len(text) <= 40 else f"{text[:36]} …"


def _not_a(value: Any, column: Column) -> Refused:
    noun = column.cell.noun
    kind = "" if noun == column.type else f" ({column.type})"
    return Refused(f"{show(value)} is not a{'n' if noun[0] == 'I' else ''} {noun}{kind}")


def _refuse(value: Any, column: Column) -> Any:
    raise _not_a(value, column)


def _out_of_range(value: Any, column: Column) -> Refused:
    return Refused(f"{show(value)} is out of the range of a {column.type}")
