"""Thrift's compact protocol, as far as a Parquet file needs it: bytes ⇄ fields, of any struct.

Source: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md. What was not written here
may raise IndexError, ValueError or RecursionError.
"""

from dataclasses import dataclass
from typing import Any

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, _MAP, STRUCT = range(1, 13)


@dataclass
class Field:
    """A field of a struct. value: a dict of fields by their id for a struct, a list of values for a list."""

    kind: int
    value: Any
    of: int = 0


Struct = dict[int, Field]


def read(data: bytes) -> Struct:
    """The struct that the bytes hold."""
    return _Reading(data).struct()


def read_at(data: bytes) -> tuple[Struct, int]:
    """The struct that the bytes begin with, and where it ends. Raises IndexError where they end before that."""
    reading = _Reading(data)
    return reading.struct(), reading.at


def write(struct: Struct) -> bytes:
    out = bytearray()
    _write_struct(out, struct)
    return bytes(out)


class _Reading:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def struct(self) -> Struct:
        fields: Struct = {}
        last = 0
        while head := self._byte():
            last = last + (head >> 4) if head >> 4 else self._number()
            kind = head & 15
            of, value = self._list() if kind in (LIST, SET) else (0, self._value(kind))
            fields[last] = Field(kind, value, of)
        return fields

    def _value(self, kind: int) -> Any:
        if kind in (TRUE, FALSE):
            return None
        if kind == BYTE:
            return self._byte()
        if kind in (I16, I32, I64):
            return self._number()
        if kind == DOUBLE:
            return self._bytes(8)
        if kind == BINARY:
            return self._bytes(self._varint())
        if kind == STRUCT:
            return self.struct()
        raise ValueError(f"a field of the kind {kind}")

    def _list(self) -> tuple[int, list[Any]]:
        head = self._byte()
        count = head >> 4 if head >> 4 < 15 else self._varint()
        kind = head & 15
        return kind, [self._byte() if kind in (TRUE, FALSE) else self._value(kind) for _ in range(count)]

    def _number(self) -> int:
        coded = self._varint()
        return (coded >> 1) ^ -(coded & 1)

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    def _byte(self) -> int:
        self.at += 1
        return self._data[self.at - 1]

    def _bytes(self, count: int) -> bytes:
        if self.at + count > len(self._data):
            raise IndexError("the bytes end before")
        self.at += count
        return self._data[self.at - count : self.at]


def _write_struct(out: bytearray, struct: Struct) -> None:
    last = 0
    for number, field in sorted(struct.items()):
        step = number - last
        if 0 < step < 16:
            out.append(step << 4 | field.kind)
        else:
            out.append(field.kind)
            _write_number(out, number)
        last = number
        if field.kind in (LIST, SET):
            _write_list(out, field)
        else:
            _write_value(out, field.kind, field.value)
    out.append(0)


def _write_list(out: bytearray, field: Field) -> None:
    count = len(field.value)
    out.append(min(count, 15) << 4 | field.of)
    if count >= 15:
        _write_varint(out, count)
    for value in field.value:
        if field.of in (TRUE, FALSE):
            out.append(value)
        else:
            _write_value(out, field.of, value)


def _write_value(out: bytearray, kind: int, value: Any) -> None:
    if kind == BYTE:
        out.append(value)
    elif kind in (I16, I32, I64):
        _write_number(out, value)
    elif kind == DOUBLE:
        out += value
    elif kind == BINARY:
        _write_varint(out, len(value))
        out += value
    elif kind == STRUCT:
        _write_struct(out, value)


def _write_number(out: bytearray, value: int) -> None:
    _write_varint(out, value << 1 if value >= 0 else ~(value << 1))


def _write_varint(out: bytearray, value: int) -> None:
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
