"""A flat buffer: tables of fields by number, followed without ever leaving the bytes that are there.

Source of the format: https://flatbuffers.dev/internals.
"""

import struct
from typing import Any

import numpy as np


class Broken(ValueError):
    """The bytes can be read, and do not hold together."""


def sure(holds: Any, what: str) -> None:
    """Raises Broken, saying what, unless it holds."""
    if not holds:
        raise Broken(what)


def root(data: bytes) -> "Table":
    """The table that a buffer begins with. Raises Broken, struct.error."""
    return Table(data, _offset(data, 0))


def _offset(data: bytes, at: int) -> int:
    sure(at >= 0, "an offset points outside")
    return at + int(struct.unpack_from("<I", data, at)[0])


class Table:
    """A table's fields by number. All raise Broken, struct.error."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at
        layout = at - int(struct.unpack_from("<i", data, at)[0])
        sure(0 <= layout < len(data), "a table's layout is outside")
        (length,) = struct.unpack_from("<H", data, layout)
        sure(length >= 4, "a table's layout is too short")
        self._fields = struct.unpack_from(f"<{(length - 4) // 2}H", data, layout + 4)

    def _field(self, number: int) -> int | None:
        here = self._fields[number] if number < len(self._fields) else 0
        return self._at + here if here else None

    def number(self, number: int, kind: str, default: float) -> Any:
        """A number of struct's kind."""
        at = self._field(number)
        return default if at is None else struct.unpack_from(f"<{kind}", self._data, at)[0]

    def integer(self, number: int, default: int) -> int:
        return int(self.number(number, "i", default))

    def table(self, number: int) -> "Table":
        at = self._field(number)
        sure(at is not None, "a part is missing")
        return Table(self._data, _offset(self._data, at or 0))

    def array(self, number: int, dtype: Any) -> Any:
        at = self._field(number)
        if at is None:
            return np.empty(0, dtype)
        start = _offset(self._data, at)
        (count,) = struct.unpack_from("<I", self._data, start)
        sure(count * np.dtype(dtype).itemsize <= len(self._data) - start - 4, "an array is cut off")
        return np.frombuffer(self._data, dtype, count, start + 4)

    def tables(self, number: int) -> "list[Table]":
        at = self._field(number)
        if at is None:
            return []
        start = _offset(self._data, at) + 4
        return [Table(self._data, _offset(self._data, start + 4 * i)) for i in range(len(self.array(number, "<u4")))]
