"""Rows as JSON or Python values → Batch, by decoders made from the signature: bodies, JSONL, Python lists.

The fast road is a typed msgspec decoder. What it refuses takes the slow road, cell by cell through the cell grammar,
which either accepts it after all (5.0 for a long) or says which cell is wrong and why.
"""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from foretell.batch import Batch
from foretell.cells import Column, Refused, from_value, show
from foretell.columns import build, matrix
from foretell.errors import CellWrong, FormWrong, InputUnreadable
from foretell.json_types import RAW_RECORD, RAW_RECORDS, colons_of, has_colons, json_type, object_lines, record_type
from foretell.signature import Signature, check_names, listed, nearest
from foretell.strict_json import strict_json, within
from foretell.tensors import NULL_INSIDE, stacked

Raw = bytes | memoryview | msgspec.Raw
Records = list[dict[str, msgspec.Raw]]


class RowDecoder:
    """Decodes rows that a signature describes. Errors: CellWrong (row, column), FormWrong, InputUnreadable.

    most: how large a document may be, by `strict_json.within`, to be read cell by cell, which takes many times its
    memory. A larger one that the fast decoders refuse is InputTooLarge.
    """

    def __init__(self, signature: Signature, most: int | None = None) -> None:
        self.signature = signature
        self._most = most
        self._names = signature.names
        self.row: Any = tuple[*(json_type(column) for column in signature.inputs)]  # type: ignore[misc]
        self._lists = msgspec.json.Decoder(list[self.row])  # type: ignore[name-defined]
        self._record = record_type(signature)
        self._records = msgspec.json.Decoder(list[self._record]) if self._record else None  # type: ignore[name-defined]
        self._lines = msgspec.json.Decoder(self._record) if self._record else None
        self._dtype = signature.uniform
        alone = len(signature.inputs) == 1 and bool(signature.inputs[0].shape)
        cells = [msgspec.json.Decoder(list[json_type(column)]) for column in signature.inputs]  # type: ignore[misc]
        self._tensors = cells if not signature.tabular else []
        self._alone = cells[0] if alone else None
        self._simple = not any(column.cell.kind in ("datetime", "binary") for column in signature.inputs)
        narrow = any(column.cell.kind == "float" and column.type != "double" for column in signature.inputs)
        self._sure = self._simple and signature.tabular and not narrow

    def rows(self, raw: Raw) -> Batch:
        """A JSON array of rows, each an array in column order, an object by name, or a bare cell for one column."""
        data = bytes(raw)
        try:
            if _second_mark(data) == b"{":
                if self._records is not None:
                    return self._from_records(self._records.decode(data), data, lambda: RAW_RECORDS.decode(data))
            else:
                return self._from_tensors(data) or self._from_tuples(self._lists.decode(data))
        except (msgspec.DecodeError, RecursionError, _Odd):
            pass
        values = self.exact(data)
        if not isinstance(values, list):
            raise FormWrong(f"expected an array of rows, got {show(values)}")
        return self.values(values)

    def lines(self, block: bytes, raw: Records | None = None) -> Batch:
        """JSON Lines, one row a line. raw: the same, where they were decoded so before."""
        try:
            if self._lines is not None and (count := object_lines(block)):
                records = self._lines.decode_lines(block)
                if len(records) == count:
                    return self._from_records(records, block, lambda: raw or RAW_RECORD.decode_lines(block))
        except (msgspec.DecodeError, RecursionError, _Odd):
            pass
        rows = []
        for at, line in enumerate(line for line in block.split(b"\n") if line.strip()):
            try:
                rows.append(self.exact(line))
            except InputUnreadable as error:
                raise CellWrong(at, None, error.message) from error
        return self.values(rows)

    def columns(self, raw: Raw) -> Batch:
        """A JSON object of equally long arrays, one a column."""
        data = bytes(raw)
        try:
            if self._tensors and self.signature.named:
                return self._from_columns(data)
        except (msgspec.DecodeError, RecursionError, _Odd):
            pass
        values = self.exact(data)
        if not isinstance(values, dict):
            raise FormWrong(f"expected an object of columns, got {show(values)}")
        return self.named_columns(values)

    def named_columns(self, values: dict[str, Any]) -> Batch:
        """Columns by name, as lists; a single tensor may come under its own name."""
        if self.signature.tensor and list(values) == [self.signature.tensor]:
            return self.values(values[self.signature.tensor])
        if not self.signature.named:
            raise FormWrong("the model's columns have no names", f"Send rows: {self._form()}")
        lengths = {name: len(cells) if isinstance(cells, list) else -1 for name, cells in values.items()}
        lengths = {name: count for name, count in lengths.items() if name in self._names}
        if not lengths or len(set(lengths.values())) > 1 or -1 in lengths.values():
            if not all(name in self._names for name in values) and not set(self._names) <= set(values):
                self._check_names(values)
            told = f"are not equally long arrays: {lengths}" if lengths else "are none that the model takes"
            raise FormWrong(f"the columns {told}")
        self._check_names(values)
        count = next(iter(lengths.values()))
        rows = [
            [_unwrapped(values[name][at]) if name in values else None for name in self._names] for at in range(count)
        ]
        return self.values(rows)

    def ordered(self, raw: Raw, names: list[str]) -> Batch:
        """A JSON array of rows whose cells come in the order of names; other names are passed over."""
        if len(set(names)) < len(names):
            raise FormWrong("the columns' names are not distinct")
        if not self.signature.named or names == self._names:
            return self.rows(raw)
        self._check_names(dict.fromkeys(names))
        values = self.exact(bytes(raw))
        if not isinstance(values, list):
            raise FormWrong(f"expected an array of rows, got {show(values)}")
        at = {name: position for position, name in enumerate(names)}
        rows: list[Any] = []
        for index, row in enumerate(values):
            if not isinstance(row, list) or len(row) != len(names):
                raise CellWrong(index, None, f"the row has {_count(row)}, and there are {len(names)} names in columns")
            rows.append([row[at[name]] if name in at else None for name in self._names])
        return self.values(rows)

    def exact(self, data: bytes) -> Any:
        """A document by the letter. Raises InputUnreadable, InputTooLarge."""
        within(data, self._most)
        return strict_json(data)

    def tuples(self, rows: list[tuple[Any, ...]]) -> Batch | None:
        """Rows that were decoded as `row`, the type of one in JSON; None where only the other ways can tell."""
        if self._sure and rows:
            return Batch.later(rows, self._from_tuples)
        try:
            return self._from_tuples(rows)
        except _Odd:
            return None

    def values(self, rows: list[Any]) -> Batch:
        """Rows as Python values: lists or tuples, dicts, or bare cells for one column; slow, exact on errors."""
        inputs = self.signature.inputs
        cells: list[list[Any]] = [[] for _ in inputs]
        for index, row in enumerate(rows):
            for at, value in enumerate(self._ordered_row(index, row)):
                try:
                    cells[at].append(_cell(value, inputs[at]))
                except Refused as refused:
                    raise CellWrong(index, at, refused.reason, refused.hint) from refused
        return Batch(len(rows), [_column(values, inputs[at], at) for at, values in enumerate(cells)])

    def _from_tensors(self, data: bytes) -> Batch | None:
        """Rows that are a tensor each; None where they are not, or are wrapped in an array of one cell."""
        if self._alone is None:
            return None
        try:
            cells = self._alone.decode(data)
        except msgspec.ValidationError:
            return None
        return self._built([cells]) if cells else None

    def _from_columns(self, data: bytes) -> Batch:
        record = RAW_RECORD.decode(data)
        if b"\\u003" in data or record.keys() != set(self._names) or data.count(b":") != colons_of(record):
            raise _Odd
        cells = [decoder.decode(record[name]) for decoder, name in zip(self._tensors, self._names, strict=True)]
        if len({len(column) for column in cells}) > 1:
            raise _Odd
        return self._built(cells)

    def _from_tuples(self, rows: list[tuple[Any, ...]]) -> Batch:
        if not rows:
            raise _Odd
        if self._dtype is not None:
            if (together := matrix(rows, self._dtype)) is None:
                raise _Odd
            return Batch.of(together)
        if not self._simple or not rows:
            raise _Odd
        return self._built(list(zip(*rows, strict=True)))

    def _built(self, cells: list[Any]) -> Batch:
        """Columns of decoded cells. Raises _Odd where only the exact road can tell."""
        if not self._simple:
            raise _Odd
        try:
            columns = [_column(cells[at], column, at) for at, column in enumerate(self.signature.inputs)]
        except (ValueError, OverflowError, CellWrong):
            raise _Odd from None
        if any(c.dtype.kind == "f" and c.dtype != np.float64 and np.isinf(c).any() for c in columns):
            raise _Odd
        return Batch(len(cells[0]), columns)

    def _from_records(self, records: list[Any], data: bytes, raw: Callable[[], Records]) -> Batch:
        """Every key costs one colon: only with more than the decoded keys' can one have come twice."""
        colons = data.count(b":")
        more = colons != len(records) * len(self._names)
        if more:
            within(data, self._most)
        if b"\\u003" in data or (more and not has_colons(raw(), colons)):
            raise _Odd
        return self._from_tuples([msgspec.structs.astuple(record) for record in records])

    def _ordered_row(self, index: int, row: Any) -> list[Any] | tuple[Any, ...]:
        if isinstance(row, dict) and not (self.signature.inputs[0].shape and not self.signature.named):
            return self._by_name(index, row)
        width = len(self._names)
        if width == 1 and not _wrapped(row, self.signature.inputs[0]):
            return [row]
        if not isinstance(row, list | tuple) and hasattr(row, "tolist"):
            row = row.tolist()
        if not isinstance(row, list | tuple) or len(row) != width:
            takes = (
                f"the model takes {width}: {listed(self._names)}"
                if self.signature.named
                else f"the model takes {width}"
            )
            raise CellWrong(index, None, f"the row has {_count(row)}, {takes}")
        return row

    def _by_name(self, index: int, row: dict[str, Any]) -> list[Any]:
        if self.signature.tensor and list(row) == [self.signature.tensor]:
            return list(self._ordered_row(index, row[self.signature.tensor]))
        if not self.signature.named:
            raise CellWrong(index, None, "the model's columns have no names", f"Send rows: {self._form()}")
        for at, column in enumerate(self.signature.inputs):
            if column.required and column.name not in row:
                near = nearest(str(column.name), list(row))
                raise CellWrong(
                    index,
                    None,
                    f"the column {column.name!r} is missing",
                    near or f"There is: {listed(list(row))}",
                )
            if not column.required and column.name not in row:
                row = {**row, self._names[at]: None}
        return [row[name] for name in self._names]

    def _check_names(self, given: dict[str, Any]) -> None:
        check_names(self.signature, list(given))

    def _form(self) -> str:
        return self.signature.shown_example()


def place_in_json(path: str, error: CellWrong, signature: Signature, named: bool) -> CellWrong:
    """The error with a JSON path to its cell: $.data[0][2], or $.dataframe_records[0].age."""
    place = f"{path}[{error.row}]"
    if error.column is not None:
        name = signature.names[error.column]
        step = f".{name}" if name.isidentifier() else f"[{json.dumps(name)}]"
        place += step if named else f"[{error.column}]"
        if not named and signature.named:
            place += f" ({name})"
    return error.at(place)


class _Odd(Exception):
    """The fast road cannot tell; the slow one will."""


def _second_mark(data: bytes) -> bytes:
    """The first byte of the array's first element."""
    head = data[:256].lstrip()
    return head[1:].lstrip()[:1] if head[:1] == b"[" else b""


def _cell(value: Any, column: Column) -> Any:
    if not column.shape:
        return from_value(_unwrapped(value), column)
    if hasattr(value, "tolist"):
        value = value.tolist()
    return _nested(value, column, column.shape)


def _wrapped(row: Any, column: Column) -> bool:
    """Whether a row of one cell is an array that holds this cell, and not the cell itself."""
    if not isinstance(row, list | tuple) or len(row) != 1:
        return False
    depth, inner = 0, row
    while depth <= len(column.shape) and isinstance(inner, list | tuple) and inner:
        depth, inner = depth + 1, inner[0]
    return depth > len(column.shape) or hasattr(row[0], "tolist")


def _nested(value: Any, column: Column, shape: tuple[int, ...]) -> Any:
    if value is None:
        raise Refused(NULL_INSIDE)
    if not shape:
        return from_value(value, column)
    if not isinstance(value, list | tuple) or (shape[0] >= 0 and len(value) != shape[0]):
        wanted = shape[0] if shape[0] >= 0 else "an array of"
        raise Refused(f"expected {wanted} values, got {_count(value)} (shape {list(column.shape)})")
    return [_nested(item, column, shape[1:]) for item in value]


def _column(cells: Any, column: Column, at: int) -> np.ndarray:
    return stacked(list(cells), column, at) if column.shape else build(cells, column)


def _unwrapped(value: Any) -> Any:
    """A scalar column may come as a tensor of shape (rows, 1)."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _count(row: Any) -> str:
    if not isinstance(row, list | tuple):
        return f"{show(row)} instead of an array"
    return f"{len(row)} value{'' if len(row) == 1 else 's'}"
