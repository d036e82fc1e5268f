"""Rows → CSV: a line a row, quotes only where a cell needs them, in Arrow's vectorised text functions."""

import itertools
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from foretell.batch import Answers
from foretell.errors import FormatUnknown
from foretell.imports import Lazily
from foretell.tables.kept import Kept
from foretell.tables.spelled import text_of

pc = Lazily("pyarrow.compute")


def _word(text: str) -> pa.Scalar:
    """Typed: from a bare str Arrow would infer a type, and import pandas to do so."""
    return pa.scalar(text, pa.string())


_EMPTY = _word("")
_QUOTE = _word('"')
_COMMA, _NEWLINE = _word(","), _word("\n")
_MAX_COLUMNS = 1000
_SPECIAL = '[",\r\n]'
_MARKS = (b'"', b",", b"\r", b"\n")
_FEW = 1000
"""Labels that are worth a table."""


class CsvSpelling:
    """Carried columns, then predictions; a header first. Nulls as empty cells, empty strings as \"\"."""

    between = b""

    def __init__(self, prediction: str) -> None:
        self._prediction = prediction

    def lines(self, kept: Kept, answers: Answers, spread: list[int | None] | None) -> tuple[list[str], bytes]:
        columns = list(itertools.chain.from_iterable(map(_flat, *zip(*answers.columns(self._prediction), strict=True))))
        if len(columns) == 1 and not kept.names and spread is None and (data := _labels(columns[0][1])) is not None:
            return [columns[0][0]], data
        texts = [self._text(values) for _, values in columns]
        if spread is not None:
            texts = [text.take(pa.array(spread, pa.int64())) for text in texts]
        cells = [self._quoted(column) for column in kept.as_text()]
        return [*kept.names, *(name for name, _ in columns)], self._lines([*cells, *texts])

    def opening(self, names: list[str]) -> bytes:
        return self._lines([self._quoted(pa.array([name or None], pa.string())) for name in names])

    def closing(self) -> bytes:
        return b""

    def _text(self, values: np.ndarray) -> pa.Array:
        if values.dtype.kind in "OUS":
            return self._quoted(pa.array([None if v is None else str(v) for v in values.tolist()], pa.string()))
        return text_of(values)

    def _quoted(self, column: pa.Array) -> pa.Array:
        """Quotes around a cell with a delimiter, quote or newline in it, and around one that is empty but not null."""
        if _is_plain(column):
            return column
        needed = pc.or_(pc.match_substring_regex(column, _SPECIAL), pc.equal(column, _EMPTY))
        if not pc.any(needed).as_py():
            return column
        wrapped = pc.binary_join_element_wise(_QUOTE, pc.replace_substring(column, '"', '""'), _QUOTE, _EMPTY)
        return pc.if_else(needed, wrapped, column)

    def _lines(self, cells: Sequence[pa.Array]) -> bytes:
        """The rows side by side in the memory of one array are their text."""
        if not cells or not len(cells[0]):
            return b""
        if len(cells) == 1 and cells[0].null_count:
            cells = [cells[0].fill_null(_word('""'))]
        parts = [part for cell in cells for part in (cell, _COMMA)]
        lines = pc.binary_join_element_wise(*parts[:-1], _NEWLINE, _EMPTY, null_handling="replace", null_replacement="")
        return _content(lines)


def _labels(values: np.ndarray) -> bytes | None:
    """Small whole numbers of one length, a line each, by a table; None for others."""
    if values.dtype.kind not in "iu" or not len(values):
        return None
    first, last = int(values.min()), int(values.max())
    words = [f"{word}\n".encode() for word in range(first, last + 1)] if last - first < _FEW else []
    if len({len(word) for word in words}) != 1:
        return None
    return np.array(words).take((values - first).astype(np.intp)).tobytes()


def _is_plain(column: pa.Array) -> bool:
    """Whether no cell is empty, or null, or has a mark in it that needs quotes; by all cells' text at once."""
    if not len(column):
        return True
    text, ends = _content(column), _ends(column)
    return bool((ends[1:] > ends[:-1]).all()) and not any(mark in text for mark in _MARKS)


def _content(column: pa.Array) -> bytes:
    """The text of all cells, one behind the other."""
    ends, data = _ends(column), column.buffers()[2]
    return b"" if data is None else data[int(ends[0]) : int(ends[-1])].to_pybytes()


def _ends(column: pa.Array) -> np.ndarray:
    return np.frombuffer(column.buffers()[1], np.int32, len(column) + 1, column.offset * 4)


def _flat(name: str, values: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """A column a value, in C order, where a row's values are a tensor. Raises FormatUnknown for too many."""
    if values.ndim == 1:
        return [(name, values)]
    flat = values.reshape(len(values), int(np.prod(values.shape[1:])))
    if flat.shape[1] > _MAX_COLUMNS:
        raise FormatUnknown(
            f"the model answers with {flat.shape[1]} values a row, and CSV takes {_MAX_COLUMNS}",
            "Use Parquet, Arrow or JSON, which hold them as one nested value",
        )
    return [(f"{name}_{at}", flat[:, at]) for at in range(flat.shape[1])]
