"""CSV → rows, typed by the signature. Arrow parses; a block that it might read otherwise than the cell grammar is read
again as text, cell by distinct cell, which is also how a bad cell gets its place."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv

from foretell.batch import Batch
from foretell.cells import FALSE_TEXT, TRUE_TEXT, Column, TextRules, show
from foretell.columns import from_arrow, from_texts, to_numpy
from foretell.errors import CellWrong, FormWrong, InputUnreadable
from foretell.imports import Lazily
from foretell.signature import Signature, check_names, listed, miscounted
from foretell.tables.apart import Apart, Spot
from foretell.tables.csv_apart import apart
from foretell.tables.csv_records import Records
from foretell.tables.kept import Keep, Kept, Rows
from foretell.tables.text import UNCLOSED, Block, Position, Text, pieces

pc = Lazily("pyarrow.compute")

_ARROW_TYPES = {"float": pa.float64(), "bool": pa.bool_(), "int": pa.int64()}
_BLOCK, _MANY = 4 << 20, 20
"""Bytes of a block, and twice as many where there are more columns than that."""
_NUMERIC = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)


@dataclass(frozen=True)
class CsvOptions:
    """How text is written: the cells of CSV, its delimiter (one ASCII character), and any text's encoding."""

    rules: TextRules = TextRules()
    delimiter: str = ","
    encoding: str = "utf-8"


class CsvReader:
    """Reads a CSV text whose header comes first. Raises InputError, with the line and column of the first bad cell."""

    def __init__(self, text: Text, signature: Signature, keep: Keep, options: CsvOptions) -> None:
        self._name = text.name
        self._text = text
        self._signature = signature
        self._options = options
        self.rules = options.rules
        self.records = Records(options.delimiter)
        self.header = self._read_header(text)
        self._at = self._positions()
        self.kept = keep.choose(self.header, signature)
        self.no_rows = Kept(self.kept, [pa.nulls(0, pa.string()) for _ in self.kept])
        self._kept_at = [self.header.index(name) for name in self.kept]
        self._integers = any(column.cell.kind == "int" for column in signature.inputs)

    @property
    def stored(self) -> bool:
        """Whether a block's text stands in the input as it is, at its place."""
        return self._text.stored

    def blocks(self, start: Position = (), *, tolerant: bool = False) -> Iterator[Block]:
        if start:
            self._text.go_to(*start)
        size = _BLOCK if len(self.header) <= _MANY else 2 * _BLOCK
        return self._text.blocks(self.records.last, size, tolerant=tolerant)

    def parse(self, block: Block) -> Rows:
        """The rows of a block."""
        self._check_returns(block)
        if (row := self.records.running_on(block.data)) is not None:
            raise self.place(block, CellWrong(row, None, UNCLOSED, 'Write a " inside quotes as ""'))
        try:
            if (rows := self._fast(block.data)) is not None:
                return rows
        except (pa.ArrowInvalid, CellWrong):
            pass
        try:
            return self._exact(block)
        except CellWrong as error:
            raise self.place(block, error) from error

    def _fast(self, data: bytes) -> Rows | None:
        """Typed by Arrow; None where its reading may differ from the grammar's.

        Numbers and words know null by other rules, so a block that has both is read twice, unless only carried words
        are at stake and no cell is an empty string in quotes.
        """
        if self._integers and (b"0x" in data or b"0X" in data):
            return None
        numbers = {str(at): _ARROW_TYPES[c.cell.kind] for at, c in self.given() if c.cell.kind in _ARROW_TYPES}
        inputs = {str(at) for at, _ in self.given()}
        words = {name: pa.string() for name in (*inputs, *map(str, self._kept_at)) if name not in numbers}
        both = {str(at) for at in self._kept_at} & set(numbers)
        read_once = not both and not inputs & set(words) and b'""' not in data
        if read_once:
            table = self._read(data, numbers | words, [*self.rules.nulls], quoted=True)
            texts = table
        else:
            table = self._read(data, numbers, [*self.rules.nulls], quoted=True) if numbers else None
            words |= dict.fromkeys(both, pa.string())
            texts = self._read(data, words or {"0": pa.string()}, [""], quoted=False)
        rows = texts.num_rows
        columns = []
        for index, column in enumerate(self._signature.inputs):
            name = str(self._at[index])
            if table is not None and name in numbers:
                if column.cell.kind == "float" and _has_stray_nan(table.column(name)):
                    return None
                columns.append(from_arrow(table.column(name), column, index))
            else:
                columns.append(self._words(texts, index))
        kept = [_whole(texts.column(str(at)), empty_is_null=read_once) for at in self._kept_at]
        return Rows(Batch(rows, columns), Kept(self.kept, kept))

    def _exact(self, block: Block) -> Rows:
        """Every cell as text, by the cell grammar."""
        try:
            texts = self.texts(block.data)
        except pa.ArrowInvalid as error:
            raise self._diagnosis(block, error) from error
        columns, wrong = [], []
        for index in range(len(self._signature.inputs)):
            try:
                columns.append(self._words(texts, index))
            except CellWrong as error:
                wrong.append(error)
        if wrong:
            raise min(wrong, key=lambda error: error.row)
        return Rows(Batch(texts.num_rows, columns), self.carried(texts))

    def texts(self, data: bytes) -> pa.Table:
        """Every cell that is needed, as text; columns are named by their position. Raises ArrowInvalid."""
        wanted = {str(at): pa.string() for at in (*(at for at, _ in self.given()), *self._kept_at)}
        return self._read(data, wanted or {"0": pa.string()}, [""], quoted=False)

    def carried(self, texts: pa.Table) -> Kept:
        return Kept(self.kept, [_whole(texts.column(str(at)), empty_is_null=False) for at in self._kept_at])

    def _words(self, texts: pa.Table, index: int) -> np.ndarray:
        """An input from its text; all null where the file does not have it."""
        at = self._at[index]
        given = pa.nulls(texts.num_rows, pa.string()) if at is None else texts.column(str(at))
        return from_texts(given, self._signature.inputs[index], index, self.rules)

    def pieces(self, block: Block) -> list[Block]:
        """The block in some pieces of whole records; just itself where it is small."""
        return pieces(block, self.records.last)

    def apart(self, block: Block) -> Apart:
        """The rows of a block, the bad ones apart."""
        return apart(self, block)

    @property
    def no_batch(self) -> Batch:
        inputs = enumerate(self._signature.inputs)
        return Batch(0, [from_texts(pa.array([], pa.string()), column, at, self.rules) for at, column in inputs])

    def spot(self, block: Block, row: int) -> Spot:
        """Where a row of the block stands."""
        return block.spot(*next(islice(self.records.each(block.data), row, None)))

    def column(self, index: int) -> str:
        """What the file calls an input."""
        at = self._at[index]
        return self.header[at] if at is not None else self._signature.names[index]

    def shape_of(self, record: bytes) -> str | None:
        """What is wrong with a record as a whole."""
        if (fields := self.records.fields(record)) != len(self.header):
            return self._miscounted(fields)
        return _RETURN if self.records.has_stray_return(record) else None

    def place(self, block: Block, error: CellWrong) -> CellWrong:
        """The error with file, line and column."""
        line = self.spot(block, error.row).line
        if error.column is None:
            return error.at(f"{self._name}, line {line}")
        return error.at(f"{self._name}, line {line}, column {self.column(error.column)!r}")

    def _read(self, data: bytes, types: dict[str, pa.DataType], nulls: list[str], *, quoted: bool) -> pa.Table:
        return arrow_csv.read_csv(
            pa.BufferReader(data),
            read_options=arrow_csv.ReadOptions(
                column_names=[str(at) for at in range(len(self.header))], block_size=max(len(data), 1) + 1
            ),
            parse_options=arrow_csv.ParseOptions(delimiter=self._options.delimiter, newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(
                column_types=types,
                include_columns=list(types),
                null_values=nulls,
                strings_can_be_null=not quoted,
                quoted_strings_can_be_null=quoted,
                true_values=TRUE_TEXT,
                false_values=FALSE_TEXT,
                decimal_point=self.rules.decimal,
            ),
        )

    def given(self) -> list[tuple[int, Column]]:
        """(position in the file, column) for every input that the file has."""
        pairs = zip(self._at, self._signature.inputs, strict=True)
        return [(at, column) for at, column in pairs if at is not None]

    def _read_header(self, text: Text) -> list[str]:
        block = text.record(self.records.first)
        while block is not None and not block.data.strip():
            block = text.record(self.records.first)
        if block is None:
            raise InputUnreadable(f"{self._name} is empty", f"A header comes first: {listed(self._signature.names)}")
        try:
            header = next(csv.reader([block.data.decode()], delimiter=self._options.delimiter))
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputUnreadable(
                f"{self._name}, line {block.line}: the header cannot be read: {error}", _ENCODING_HINT
            ) from error
        if "\0" in block.data.decode():
            raise InputUnreadable(f"{self._name} holds NUL bytes; it may be UTF-16", "Say so: --encoding utf-16-le")
        if not self.records.is_whole(block.data):
            raise InputUnreadable(f"{self._name}, line {block.line}: a quote is opened in the header and never closed")
        if all(_NUMERIC.fullmatch(name) for name in header) and not set(self._signature.names) <= set(header):
            raise FormWrong(
                f"{self._name}, line {block.line}: the first line holds numbers, not names",
                f"A header comes first: {listed(self._signature.names)}",
            )
        return header

    def _positions(self) -> list[int | None]:
        """Where each input stands in the file; None for one that may be absent, and is."""
        signature, header = self._signature, self.header
        if not signature.tabular:
            raise FormWrong("the model takes tensors, which CSV cannot hold", "Send JSON, Parquet or Arrow")
        if not signature.named:
            if len(header) != len(signature.inputs):
                raise miscounted(signature, f"{self._name} has {len(header)}", self._delimiter_hint())
            return list(range(len(header)))
        try:
            check_names(signature, header)
        except FormWrong as error:
            raise FormWrong(f"{self._name}: {error.message}", self._delimiter_hint() or error.hint) from error
        for name in signature.names:
            if header.count(name) > 1:
                raise FormWrong(f"{self._name} has the column {name!r} twice", "Which one is meant? Rename the other")
        return [header.index(name) if name in header else None for name in signature.names]

    def _delimiter_hint(self) -> str:
        for other in ";\t|,":
            if len(self.header) == 1 and other in self.header[0] and other != self._options.delimiter:
                return f"The header looks separated by {other!r}: --delimiter {other!r}"
        return ""

    def _diagnosis(self, block: Block, error: Exception) -> InputUnreadable | CellWrong:
        try:
            block.data.decode()
        except UnicodeDecodeError as bad:
            line = block.line + block.data.count(b"\n", 0, bad.start)
            return InputUnreadable(
                f"{self._name}, line {line}: byte 0x{block.data[bad.start]:02x} is no UTF-8", _ENCODING_HINT
            )
        for row, (_, record) in enumerate(self.records.each(block.data)):
            if (fields := self.records.fields(record)) != len(self.header):
                return CellWrong(row, None, self._miscounted(fields))
        return InputUnreadable(f"{self._name}, from line {block.line}: {show(str(error))}")

    def _miscounted(self, fields: int) -> str:
        return f"{fields} value{'s' * (fields != 1)}, and the header has {len(self.header)}"

    def _check_returns(self, block: Block) -> None:
        """Refuses a carriage return outside of quotes that ends no line: Arrow would end a row there."""
        data = block.data
        if data.count(b"\r") == data.count(b"\r\n"):
            return
        for row, (_, record) in enumerate(self.records.each(data)):
            if self.records.has_stray_return(record):
                raise self.place(block, CellWrong(row, None, _RETURN))


_EMPTY = pa.scalar("", pa.string())
_RETURN = "a carriage return stands alone, outside of quotes"
_ENCODING_HINT = "Say which encoding it has, for example --encoding cp1252"


def _has_stray_nan(values: pa.ChunkedArray) -> bool:
    """A NaN that is no null was spelled in one of Arrow's ways, not in one of the grammar's."""
    return any(np.isnan(to_numpy(chunk.drop_null())).any() for chunk in values.chunks)


def _whole(values: pa.ChunkedArray, *, empty_is_null: bool) -> pa.Array:
    """One array, null where the cell was empty and not quoted."""
    array = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], pa.string())
    return pc.if_else(pc.equal(array, _EMPTY), pa.scalar(None, pa.string()), array) if empty_is_null else array
