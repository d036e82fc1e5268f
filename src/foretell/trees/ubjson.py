"""XGBoost's model documents, JSON and UBJSON: bytes into plain values, which hold nothing that is said twice."""

import json
import re
import struct
from typing import Any

import numpy as np

_MAX_DEPTH = 32
_ARRAYS = {"d": ">f4", "D": ">f8", "i": "i1", "U": "u1", "I": ">i2", "l": ">i4", "L": ">i8"}
_SCALARS = {"d": ">f", "D": ">d", "i": ">b", "U": ">B", "I": ">h", "l": ">i", "L": ">q"}
_ESCAPED = re.compile(rb"\\u00[2-9a-fA-F]|\\u(?!00)|\\/")
"""A key in such a spelling is one key to Python and another to XGBoost."""


class Wrong(ValueError):
    """The document can be read, and does not hold together."""


def sure(holds: Any, what: str) -> None:
    """Raises Wrong."""
    if not holds:
        raise Wrong(what)


def document(data: bytes) -> Any:
    """What a model file holds. Raises ValueError, struct.error, RecursionError, IndexError for what is none."""
    return _Ubjson(data).document() if data[1:2] in b"LUilI}" else _from_json(data)


def _from_json(data: bytes) -> Any:
    sure(not _ESCAPED.search(data.replace(b"\\\\", b"")), "it spells letters as numbers, which XGBoost does not read")
    return json.loads(data, object_pairs_hook=_distinct)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    sure(len(found) == len(pairs), "a key comes twice")
    return found


class _Ubjson:
    """Universal Binary JSON, as much of it as XGBoost writes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def document(self) -> Any:
        value = self._value(self._mark(), 0)
        sure(self._at == len(self._data), "something follows the document")
        return value

    def _take(self, count: int) -> bytes:
        sure(0 <= count <= len(self._data) - self._at, "it is cut off")
        self._at += count
        return self._data[self._at - count : self._at]

    def _mark(self) -> str:
        return chr(self._take(1)[0])

    def _count(self) -> int:
        sure(self._mark() == "L", "a length is not a long")
        return int(struct.unpack(">q", self._take(8))[0])

    def _value(self, mark: str, depth: int) -> Any:
        sure(depth < _MAX_DEPTH, "it is nested too deeply")
        if mark == "{":
            return self._object(depth)
        if mark == "[":
            return self._array(depth)
        if mark == "S":
            return self._take(self._count()).decode()
        if mark in "ZTF":
            return {"Z": None, "T": True, "F": False}[mark]
        sure(mark in _SCALARS, f"an unknown mark {mark!r}")
        form = _SCALARS[mark]
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _object(self, depth: int) -> dict[str, Any]:
        pairs = []
        while self._data[self._at : self._at + 1] != b"}":
            key = self._take(self._count()).decode()
            pairs.append((key, self._value(self._mark(), depth + 1)))
        self._at += 1
        return _distinct(pairs)

    def _array(self, depth: int) -> Any:
        mark = self._mark()
        if mark == "$":
            kind = self._mark()
            sure(kind in _ARRAYS and self._mark() == "#", "an array of an unknown kind")
            dtype = np.dtype(_ARRAYS[kind])
            return np.frombuffer(self._take(self._count() * dtype.itemsize), dtype)
        if mark == "#":
            return [self._value(self._mark(), depth + 1) for _ in range(self._count())]
        values = []
        while mark != "]":
            values.append(self._value(mark, depth + 1))
            mark = self._mark()
        return values
