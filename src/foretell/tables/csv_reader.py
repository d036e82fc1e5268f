"""CSV → rows, typed by the signature. Arrow parses; a block that it might read otherwise than the cell grammar is read
again as text, cell by distinct cell, which is also how a bad cell gets its place."""

import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv

from foretell.batch import Batch
from foretell.cells import FALSE_TEXT, TRUE_TEXT, Column, show
from foretell.columns import from_arrow, from_texts, to_numpy
from foretell.errors import CellWrong, InputUnreadable
from foretell.imports import Lazily
from foretell.signature import Signature
from foretell.tables.apart import Apart, Spot, Unsound
from foretell.tables.csv_apart import apart
from foretell.tables.csv_header import ENCODING_HINT, CsvOptions, delimiter_of, names_of, positions
from foretell.tables.csv_records import Records
from foretell.tables.kept import Keep, Kept, Rows
from foretell.tables.text import UNCLOSED, Block, Position, Text, around, pieces

pc = Lazily("pyarrow.compute")

_ARROW_TYPES = {"float": pa.float64(), "bool": pa.bool_(), "int": pa.int64()}
_ROW = re.compile(r"^(?:In CSV column #\d+: |CSV parse error: )Row #(\d+): ")
"""How Arrow names a row, from 1, where it reads in one thread."""
_BLOCK = 4 << 20
"""Bytes of a block."""
_STEP = 1 << 20
"""Arrow goes through a piece once for its cells and once for each column, twice as fast where it stays in the cache."""


class CsvReader:
    """Reads a CSV text. options: as they were found, with the delimiter. Raises InputError, with the line and column of
    the first bad cell."""

    def __init__(self, text: Text, signature: Signature, keep: Keep, options: CsvOptions) -> None:
        self._name = text.name
        self._text = text
        self._signature = signature
        self.records = Records(delimiter_of(text, signature, options))
        self.options = replace(options, delimiter=self.records.delimiter)
        self.rules = options.rules
        self.header = names_of(text, signature, options, self.records)
        self._at = positions(self._name, self.header, signature, options)
        self.kept = keep.choose(self.header, signature)
        self.no_rows = Kept(self.kept, [pa.nulls(0, pa.string()) for _ in self.kept])
        self._kept_at = [self.header.index(name) for name in self.kept]
        self._integers = any(column.cell.kind == "int" for column in signature.inputs)
        self._doubles = signature.uniform == "float64" and None not in self._at and len(signature.inputs) > 1

    @property
    def stored(self) -> bool:
        """Whether a block's text stands in the input as it is, at its place."""
        return self._text.stored

    def blocks(self, start: Position = (), *, tolerant: bool = False) -> Iterator[Block]:
        if start:
            self._text.go_to(*start)
        return self._text.blocks(self.records.last, _BLOCK, tolerant=tolerant)

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

    def sound(self, block: Block) -> Rows:
        """The rows of a block in which all is well. Raises Unsound."""
        data = block.data
        if b"\r" in data and data.count(b"\r") != data.count(b"\r\n"):
            raise Unsound(None)
        if (row := self.records.running_on(data)) is not None:
            raise Unsound(row)
        try:
            rows = self._fast(data)
        except pa.ArrowInvalid as error:
            found = _ROW.search(str(error))
            raise Unsound(int(found[1]) - 1 if found else None) from None
        except CellWrong as error:
            raise Unsound(error.row) from None
        if rows is None:
            raise Unsound(None)
        return rows

    def around(self, block: Block, row: int) -> tuple[Block, Block, Block]:
        start, record = self.records.numbered(block.data, row)
        return around(block, start, start + len(record))

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
        plain = b'"' not in data
        read_once = not both and not inputs & set(words) and (plain or b'""' not in data)
        step = _STEP if plain and 0 <= data.find(b"\n") < _STEP >> 4 else 0
        if read_once:
            table = self._read(data, numbers | words, [*self.rules.nulls], quoted=True, step=step)
            texts = table
        else:
            table = self._read(data, numbers, [*self.rules.nulls], quoted=True, step=step) if numbers else None
            words |= dict.fromkeys(both, pa.string())
            texts = self._read(data, words or {"0": pa.string()}, [""], quoted=False, step=step)
        rows = texts.num_rows
        matrix = self._matrix(table) if table is not None and self._doubles else None
        columns = []
        for index, column in enumerate(self._signature.inputs if matrix is None else ()):
            name = str(self._at[index])
            if table is not None and name in numbers:
                if column.cell.kind == "float" and _has_stray_nan(table.column(name)):
                    return None
                columns.append(from_arrow(table.column(name), column, index))
            else:
                columns.append(self._words(texts, index))
        kept = [_whole(texts.column(str(at)), empty_is_null=read_once) for at in self._kept_at]
        return Rows(Batch(rows, columns) if matrix is None else Batch.of(matrix), Kept(self.kept, kept))

    def _matrix(self, table: pa.Table) -> np.ndarray | None:
        """All inputs side by side, shape (rows, columns), where each cell is a finite number. None otherwise."""
        matrix, end = np.empty((table.num_rows, len(self._at))), 0
        for batch in table.to_batches():
            start, end = end, end + batch.num_rows
            for index, at in enumerate(self._at):
                if (cells := batch.column(str(at))).null_count:
                    return None
                matrix[start:end, index] = to_numpy(cells)
        return matrix if np.isfinite(matrix).all() else None

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
        return block.spot(*self.records.numbered(block.data, row))

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

    def _read(
        self, data: bytes, types: dict[str, pa.DataType], nulls: list[str], *, quoted: bool, step: int = 0
    ) -> pa.Table:
        """By Arrow, in one thread. step: so many bytes at a time, each of which ends at a newline; 0 for all."""
        return arrow_csv.read_csv(
            pa.BufferReader(data),
            read_options=arrow_csv.ReadOptions(
                column_names=[str(at) for at in range(len(self.header))],
                block_size=step or max(len(data), 1) + 1,
                use_threads=False,
            ),
            parse_options=arrow_csv.ParseOptions(delimiter=self.records.delimiter, newlines_in_values=not step),
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

    def _diagnosis(self, block: Block, error: Exception) -> InputUnreadable | CellWrong:
        try:
            block.data.decode()
        except UnicodeDecodeError as bad:
            line = block.line + block.data.count(b"\n", 0, bad.start)
            return InputUnreadable(
                f"{self._name}, line {line}: byte 0x{block.data[bad.start]:02x} is no UTF-8", ENCODING_HINT
            )
        for row, (_, record) in enumerate(self.records.each(block.data)):
            if (fields := self.records.fields(record)) != len(self.header):
                return CellWrong(row, None, self._miscounted(fields), _NAME_THEM * (self.options.columns == ()))
        return InputUnreadable(f"{self._name}, from line {block.line}: {show(str(error))}")

    def _miscounted(self, fields: int) -> str:
        has = "the header has" if self.options.columns is None else "the columns are"
        return f"{fields} value{'s' * (fields != 1)}, and {has} {len(self.header)}"

    def _check_returns(self, block: Block) -> None:
        """Refuses a carriage return outside of quotes that ends no line: Arrow would end a row there."""
        data = block.data
        if b"\r" not in data or data.count(b"\r") == data.count(b"\r\n"):
            return
        for row, (_, record) in enumerate(self.records.each(data)):
            if self.records.has_stray_return(record):
                raise self.place(block, CellWrong(row, None, _RETURN))


_EMPTY = pa.scalar("", pa.string())
_NAME_THEM = "If the file has others too, name all of them: --columns A,B"
_RETURN = "a carriage return stands alone, outside of quotes"


def _has_stray_nan(values: pa.ChunkedArray) -> bool:
    """A NaN that is no null was spelled in one of Arrow's ways, not in one of the grammar's."""
    return any(np.isnan(to_numpy(chunk.drop_null())).any() for chunk in values.chunks)


def _whole(values: pa.ChunkedArray, *, empty_is_null: bool) -> pa.Array:
    """One array, null where the cell was empty and not quoted."""
    array = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], pa.string())
    return pc.if_else(pc.equal(array, _EMPTY), pa.scalar(None, pa.string()), array) if empty_is_null else array
