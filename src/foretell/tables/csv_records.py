"""Where CSV's records and fields end. A newline in quotes ends none, and a quote counts where it opens a field: in
`5" pipe` it is a mark as any other."""

import re
from collections.abc import Iterator
from itertools import islice

import numpy as np

_QUOTE, _NEWLINE, _RETURN = ord('"'), ord("\n"), ord("\r")
_STRETCH = 1 << 20
"""Bytes that are looked at at once, each of which may be a quote and is then eight of a position."""


class Records:
    """Records of a text with one delimiter. A line without a mark is none."""

    def __init__(self, delimiter: str) -> None:
        self.delimiter = delimiter
        self._mark = ord(delimiter)
        mark = re.escape(delimiter.encode())
        plain = b"[^" + mark + b"\n]*+"
        quoted = rb'"(?:[^"]++|"")*+"'
        field = b"(?:" + quoted + plain + rb'|(?!")' + plain + b")"
        # Possessive, so that matching is linear.
        self._field = re.compile(field + b"(?:" + mark + b"|\n)")
        self._record = re.compile(field + b"(?:" + mark + field + b")*+\n")
        self._outside = re.compile(quoted + b'|([^"]++)')
        strict = b"(?:" + quoted + b'\r?|[^"' + mark + b"\n]*+)"
        self._proper = re.compile(strict + b"(?:" + mark + strict + b")*+\n")

    def first(self, data: bytes) -> int:
        """Where the first record ends; 0 where it does not."""
        match = self._record.match(data)
        return match.end() if match else 0

    def last(self, data: bytes) -> int:
        """Where the last whole record ends; 0 without one."""
        end = data.rfind(b"\n") + 1
        if not end or b'"' not in data:
            return end
        count, opens, _ = self._quotes(data)
        if not opens:
            return self._walk(data)
        count -= data.count(b'"', end)
        while end and count % 2:
            start = data.rfind(b"\n", 0, data.rfind(b'"', 0, end)) + 1
            count -= data.count(b'"', start, end)
            end = start
        return end

    def each(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """(where it begins, the record) for each; a line whose quote is never closed is one too."""
        at = 0
        while at < len(data):
            match = self._record.match(data, at)
            end = match.end() if match else data.find(b"\n", at) + 1 or len(data)
            record = data[at:end]
            if record.strip(b"\r\n"):
                yield at, record
            at = end

    def numbered(self, data: bytes, row: int) -> tuple[int, bytes]:
        """(where it begins, the record) of a number, from 0."""
        ends = np.flatnonzero(np.frombuffer(data, np.uint8) == _NEWLINE)
        # An empty line is no record.
        plain = b'"' not in data and b"\r" not in data and row < len(ends)
        if not plain or ends[0] == 0 or (np.diff(ends[: row + 1]) == 1).any():
            return next(islice(self.each(data), row, None), (0, data))
        start = int(ends[row - 1]) + 1 if row else 0
        return start, data[start : int(ends[row]) + 1]

    def is_whole(self, record: bytes) -> bool:
        return self._record.fullmatch(record) is not None

    def runs_on(self, record: bytes) -> bool:
        """Whether a field in quotes takes in whole lines and then goes on behind its quote: so it looks where one is
        never closed, up to the quote of another row."""
        return b"\n" in record[:-1] and self._proper.fullmatch(record) is None

    def running_on(self, data: bytes) -> int | None:
        """The first of the records that does so."""
        if b'"' not in data:
            return None
        _, opens, closes = self._quotes(data)
        if opens and closes:
            return None
        return next((row for row, (_, record) in enumerate(self.each(data)) if self.runs_on(record)), None)

    def fields(self, record: bytes) -> int:
        return len(self._field.findall(record))

    def has_stray_return(self, record: bytes) -> bool:
        """Whether a carriage return outside of quotes ends no line."""
        inner = record.removesuffix(b"\n").removesuffix(b"\r")
        return b"\r" in inner and any(b"\r" in plain for plain in self._outside.findall(inner))

    def _quotes(self, data: bytes) -> tuple[int, bool, bool]:
        """How many there are; whether each second one opens a field, or is the second of a pair: then counting them
        tells in from out; and whether each other one ends a field, or is the first of a pair."""
        marks = np.frombuffer(data, np.uint8)
        count, opens, closes = 0, True, True
        for at in range(0, len(marks), _STRETCH):
            quotes = np.flatnonzero(marks[at : at + _STRETCH] == _QUOTE) + at
            opening, closing = quotes[count % 2 :: 2], quotes[1 - count % 2 :: 2]
            before, after = marks[opening - 1], marks[np.minimum(closing + 1, len(marks) - 1)]
            ends = (self._mark, _NEWLINE, _QUOTE)
            opens = opens and bool((_among(before, ends) | (opening == 0)).all())
            closes = closes and bool(_among(after, (*ends, _RETURN)).all())
            count += len(quotes)
        return count, opens, closes

    def _walk(self, data: bytes) -> int:
        whole = 0
        while record := self._record.match(data, whole):
            whole = record.end()
        return whole


def _among(marks: np.ndarray, those: tuple[int, ...]) -> np.ndarray:
    found: np.ndarray = np.logical_or.reduce([marks == one for one in those])
    return found
