"""Where CSV's records and fields end. A newline in quotes ends none, and a quote counts where it opens a field: in
`5" pipe` it is a mark as any other."""

import re
from collections.abc import Iterator

import numpy as np

_QUOTE, _NEWLINE, _RETURN = ord('"'), ord("\n"), ord("\r")


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
        marks = np.frombuffer(data, np.uint8)
        quotes = np.flatnonzero(marks == _QUOTE)
        if not self._all_open(marks, quotes):
            return self._walk(data)
        while end and (before := int(np.searchsorted(quotes, end))) % 2:
            end = data.rfind(b"\n", 0, int(quotes[before - 1])) + 1
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
        marks = np.frombuffer(data, np.uint8)
        quotes = np.flatnonzero(marks == _QUOTE)
        if self._all_open(marks, quotes) and self._all_close(marks, quotes):
            return None
        return next((row for row, (_, record) in enumerate(self.each(data)) if self.runs_on(record)), None)

    def fields(self, record: bytes) -> int:
        return len(self._field.findall(record))

    def has_stray_return(self, record: bytes) -> bool:
        """Whether a carriage return outside of quotes ends no line."""
        inner = record.removesuffix(b"\n").removesuffix(b"\r")
        return b"\r" in inner and any(b"\r" in plain for plain in self._outside.findall(inner))

    def _all_open(self, marks: np.ndarray, quotes: np.ndarray) -> bool:
        """Whether each second quote opens a field, or is the second of a pair: then counting them tells in from out."""
        opening = quotes[::2]
        before = marks[opening - 1]
        fits = (before == self._mark) | (before == _NEWLINE) | (opening == 0)
        fits[1:] |= quotes[1::2][: len(opening) - 1] == opening[1:] - 1
        return bool(fits.all())

    def _all_close(self, marks: np.ndarray, quotes: np.ndarray) -> bool:
        """Whether each other quote ends a field, or is the first of a pair."""
        after = marks[np.minimum(quotes[1::2] + 1, len(marks) - 1)]
        fits = (after == self._mark) | (after == _NEWLINE) | (after == _RETURN) | (after == _QUOTE)
        return bool(fits.all())

    def _walk(self, data: bytes) -> int:
        whole = 0
        while record := self._record.match(data, whole):
            whole = record.end()
        return whole
