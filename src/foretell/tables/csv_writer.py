"""Rows → CSV: a line a row, quotes only where a cell needs them, in Arrow's vectorised text functions."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from foretell.batch import Answers
from foretell.errors import PredictionError
from foretell.signature import listed
from foretell.tables.kept import Kept


def _word(text: str) -> pa.Scalar:
    """Typed: from a bare str Arrow would infer a type, and import pandas to do so."""
    return pa.scalar(text, pa.string())


_EMPTY = _word("")
_QUOTE = _word('"')
_SPECIAL = '[",\r\n]'


class CsvWriter:
    """Carried columns, then predictions; a header first. Nulls as empty cells, empty strings as \"\"."""

    def __init__(self, prediction: str) -> None:
        self._prediction = prediction
        self._header: list[str] | None = None

    def rows(self, kept: Kept, answers: Answers) -> bytes:
        columns = answers.columns(self._prediction)
        names = [*kept.names, *(name for name, _ in columns)]
        header = b""
        if self._header is None:
            self._header = names
            header = self._lines([self._quoted(pa.array([name or None], pa.string())) for name in names])
        elif names != self._header:
            raise PredictionError(
                f"the model first answered with {listed(self._header)}, and then with {listed(names)}"
            )
        cells = [self._quoted(column) for column in kept.as_text()]
        return header + self._lines([*cells, *(self._text(values) for _, values in columns)])

    def end(self) -> bytes:
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


def text_of(values: np.ndarray) -> pa.Array:
    """Numbers, booleans and dates as text; floats as doubles in their shortest form; null where not finite or NaT."""
    if values.dtype.kind == "f":
        wide = values.astype("float64", copy=False)
        text = pa.array(wide, mask=~np.isfinite(wide)).cast(pa.string())
        return pc.if_else(
            pc.match_substring_regex(text, "^-?[0-9]+$"),
            pc.binary_join_element_wise(text, _word(".0"), _EMPTY),
            text,
        )
    if values.dtype.kind == "M":
        return pa.array([None if np.isnat(v) else str(v) for v in values], pa.string())
    return pa.array(values).cast(pa.string())
