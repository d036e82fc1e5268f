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
_MAX_COLUMNS = 1000
_SPECIAL = '[",\r\n]'


class CsvSpelling:
    """Carried columns, then predictions; a header first. Nulls as empty cells, empty strings as \"\"."""

    between = b""

    def __init__(self, prediction: str) -> None:
        self._prediction = prediction

    def lines(self, kept: Kept, answers: Answers, spread: list[int | None] | None) -> tuple[list[str], bytes]:
        columns = list(itertools.chain.from_iterable(map(_flat, *zip(*answers.columns(self._prediction), strict=True))))
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
        needed = pc.or_(pc.match_substring_regex(column, _SPECIAL), pc.equal(column, _EMPTY))
        if not pc.any(needed).as_py():
            return column
        wrapped = pc.binary_join_element_wise(_QUOTE, pc.replace_substring(column, '"', '""'), _QUOTE, _EMPTY)
        return pc.if_else(needed, wrapped, column)

    def _lines(self, cells: Sequence[pa.Array]) -> bytes:
        if not cells or not len(cells[0]):
            return b""
        lines = pc.binary_join_element_wise(*cells, _word(","), null_handling="replace", null_replacement="")
        if len(cells) == 1:
            lines = pc.if_else(pc.equal(lines, _EMPTY), _word('""'), lines)
        whole = pa.ListArray.from_arrays(pa.array([0, len(lines)], pa.int32()), lines)
        joined: bytes = pc.binary_join(whole, _word("\n"))[0].as_buffer().to_pybytes()
        return joined + b"\n"


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
