"""The cell grammar: what one cell means, by its column's type. Every reader, in batch and in real time, asks here.

A cell arrives as text (CSV: quotes carry no type) or as a value (JSON, Python: quotes do).
"""

import base64
import binascii
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

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
_FRACTION = re.compile(r"(.*:\d\d)\.(\d{7,9})(|Z|[+-]\d\d:?\d\d)", re.ASCII)
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
    if isinstance(value, np.datetime64) and kind == "datetime":
        return _null(column) if np.isnat(value) else value.astype("datetime64[ns]")
    if hasattr(value, "item") and not column.shape and getattr(value, "ndim", 1) == 0:
        value = value.item()
    if isinstance(value, Decimal):
        value = _from_decimal(value, column)
    if value is None or value is pa.NA or (isinstance(value, float) and math.isnan(value)):
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


def _number_from_text(text: str, column: Column, decimal: str) -> int | float:
    if decimal != ".":
        text = text.replace(".", "?").replace(decimal, ".")
    if column.cell.kind == "int" and _INTEGER.fullmatch(text):
        digits = text.lstrip("+-0") or "0"
        if len(digits) > 20:
            raise out_of_range(text, column)
        return _checked(-int(digits) if text[0] == "-" else int(digits), column)
    if not _NUMBER.fullmatch(text):
        raise _not_a(text.replace(".", decimal).replace("?", "."), column)
    number = float(text)
    if math.isinf(number):
        raise out_of_range(text, column)
    return _checked(number, column)


def _from_decimal(value: Decimal, column: Column) -> int | float:
    """The number that it is: a whole one exactly, as far as any column goes."""
    if not value.is_finite():
        return math.nan if value.is_nan() else math.inf
    whole = column.cell.kind == "int" and value.adjusted() < 30 and value == value.to_integral_value()
    return int(value) if whole else float(value)


def _checked(value: int | float, column: Column) -> int | float:
    """The number, in the column's range; a whole float for an int column becomes an int while doubles are exact."""
    cell = column.cell
    if cell.kind == "int":
        if isinstance(value, float):
            if not value.is_integer():
                reason = "is not finite" if math.isinf(value) else "is not a whole number"
                raise Refused(f"{show(value)} {reason} ({column.type})", _cast_hint(column, "fractions"))
            if abs(value) >= _EXACT:
                raise Refused(f"{show(value)} is too large to be exact; write it without a point ({column.type})")
            value = int(value)
        if not cell.low <= value <= cell.high:
            raise out_of_range(value, column)
        return value
    try:
        number = float(value)
    except OverflowError:
        raise out_of_range(value, column) from None
    with np.errstate(over="ignore"):
        if math.isinf(number) or (column.type != "double" and np.isinf(np.dtype(cell.dtype).type(number))):
            raise out_of_range(value, column)
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
        raise Refused(f"empty, but {_article(column)} column takes no nulls", _cast_hint(column, "blanks"))


def _cast_hint(column: Column, what: str) -> str:
    if column.name is None or column.cell.kind != "int":
        return ""
    name = f'"{column.name}=double"' if " " in column.name else f"{column.name}=double"
    return f"If {what} are expected there, read it as a double: --cast {name}"


def _datetime_from_text(text: str, column: Column) -> np.datetime64:
    found = _FRACTION.fullmatch(text)
    nanoseconds = int(found[2].ljust(9, "0")) if found else 0
    try:
        moment = datetime.fromisoformat(found[1] + found[3] if found else text)
    except ValueError:
        raise _not_a(text, column) from None
    return _naive(moment) + np.timedelta64(nanoseconds, "ns")


def _naive(moment: datetime) -> np.datetime64:
    """MLflow's datetimes carry no zone: one that does is taken to UTC. Range: what nanoseconds in 64 bits can hold."""
    if moment.tzinfo is not None:
        try:
            moment = moment.astimezone(UTC).replace(tzinfo=None)
        except OverflowError:
            raise Refused(f"{moment.isoformat()} is outside the years 1678 to 2261 (datetime)") from None
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
    try:
        text = f'"{value}"' if isinstance(value, str) else str(value)
    except ValueError:
        return "a number of thousands of digits"
    text = text.encode("unicode_escape").decode("ascii") if not text.isprintable() else text
    return text if len(text) <= 40 else f"{text[:36]} …"


def _not_a(value: Any, column: Column) -> Refused:
    noun = column.cell.noun
    kind = "" if noun == column.type else f" ({column.type})"
    return Refused(f"{show(value)} is not a{'n' if noun[0] == 'I' else ''} {noun}{kind}")


def _article(column: Column) -> str:
    return f"a{'n' if column.type[0] in 'aeiou' else ''} {column.type}"


def _refuse(value: Any, column: Column) -> Any:
    raise _not_a(value, column)


def out_of_range(value: Any, column: Column) -> Refused:
    shown = show(value).strip('"')
    return Refused(f"{shown} is out of the range of {_article(column)}")
