"""Arrow's record batches → rows, typed by the signature: what Parquet, Arrow IPC and Python's frames have in common."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import pyarrow as pa

from foretell.batch import Batch
from foretell.cells import Column
from foretell.columns import from_arrow
from foretell.errors import CellWrong, FormWrong, InputTooLarge
from foretell.signature import Signature, check_names, miscounted
from foretell.tables.apart import Apart, Bad, Spot, Unsound, joined
from foretell.tables.kept import Keep, Kept, Rows
from foretell.tables.spelled import JSON, as_values, settled
from foretell.tables.text import Position
from foretell.tensors import from_lists

_BLOCK_ROWS = 65_536
_BLOCK_BYTES = 64 << 20
_PIECES = 16


@dataclass(frozen=True)
class TableBlock:
    """Some rows of a table. row: the first one's number in the input, from 0. after: the position behind them."""

    batch: pa.RecordBatch
    row: int
    after: Position = ()

    @property
    def weight(self) -> int:
        return int(self.batch.nbytes)


class Table(Protocol):
    """A table that is read forward. schema: of all its columns."""

    schema: pa.Schema

    def batches(self, columns: list[int], rows: int, skip: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Checked batches of just these columns, in this order, each with the number of the group that it is of; of
        about so many rows where groups can be cut. skip: so many groups are passed over."""
        ...


class TableReader:
    """Reads a table's rows. limit: bytes that they may take altogether, None for any. Raises InputError, with the row,
    from 1, and the column of the first bad cell."""

    def __init__(self, table: Table, name: str, signature: Signature, keep: Keep, limit: int | None) -> None:
        self._table = table
        self._name = name
        self._signature = signature
        self._limit = limit
        self._header = table.schema.names
        try:
            self._at = positions(table.schema, signature)
        except FormWrong as error:
            raise FormWrong(f"{name}: {error.message}", error.hint) from error
        kept = keep.choose(self._header, signature)
        self._kept_at = [self._header.index(name) for name in kept]
        self._columns = sorted({at for at in (*self._at, *self._kept_at) if at is not None})
        empties = [pa.nulls(0, table.schema.types[at]) for at in self._kept_at]
        self.no_rows = Kept(
            kept, [self._carried(column, at) for column, at in zip(empties, self._kept_at, strict=True)]
        )

    def blocks(self, start: Position = (), *, tolerant: bool = False) -> Iterator[TableBlock]:
        """tolerant: for text only. A position is a group, and rows of it and of all groups that come before."""
        width = row_bytes(self._signature)
        step = max(1, min(_BLOCK_ROWS, _BLOCK_BYTES // width))
        group, done, row = start or (0, 0, 0)
        skip, within = done, 0
        for at, batch in self._table.batches(self._columns, step, group):
            if at != group:
                group, skip, within = at, 0, 0
            if self._limit is not None and (row + batch.num_rows) * width > self._limit:
                raise too_large(self._name, self._limit)
            for first in range(0, batch.num_rows, step):
                piece = batch.slice(first, step)
                within += piece.num_rows
                if within <= skip:
                    continue
                yield TableBlock(piece, row, (group, within, row + piece.num_rows))
                row += piece.num_rows

    def parse(self, block: TableBlock) -> Rows:
        """The rows of a block."""
        columns = dict(zip(self._columns, block.batch.columns, strict=True))
        given = [columns.get(at) if at is not None else None for at in self._at]
        try:
            batch = to_batch(given, block.batch.num_rows, self._signature)
        except CellWrong as error:
            raise self.place(block, error) from error
        return Rows(batch, self._kept(block))

    def place(self, block: TableBlock, error: CellWrong) -> CellWrong:
        """The error with file, row and column."""
        place = f"{self._name}, row {block.row + error.row + 1}"
        if error.column is None:
            return error.at(place)
        return error.at(f"{place}, column {self.column(error.column)!r}")

    def column(self, index: int) -> str:
        """What the table calls an input."""
        at = self._at[index]
        return self._header[at] if at is not None else self._signature.names[index]

    def sound(self, block: TableBlock) -> Rows:
        """The rows of a block in which all is well. Raises Unsound."""
        try:
            return self.parse(block)
        except CellWrong as error:
            raise Unsound(error.row) from error

    def around(self, block: TableBlock, row: int) -> tuple[TableBlock, TableBlock, TableBlock]:
        """What comes before a row, the row, and what comes after."""
        first, one, last = (block.batch.slice(*at) for at in ((0, row), (row, 1), (row + 1,)))
        at = block.row + row
        return TableBlock(first, block.row), TableBlock(one, at), TableBlock(last, at + 1)

    def pieces(self, block: TableBlock) -> list[TableBlock]:
        """The block in some pieces; just itself where it is one row."""
        step = max(1, -(-block.batch.num_rows // _PIECES))
        starts = range(0, block.batch.num_rows, step)
        return [TableBlock(block.batch.slice(start, step), block.row + start, block.after) for start in starts]

    def apart(self, block: TableBlock) -> Apart:
        """The rows of a block, each by itself, the bad ones apart."""
        parts = []
        for row in range(block.batch.num_rows):
            one = TableBlock(block.batch.slice(row, 1), block.row + row)
            try:
                rows = self.parse(one)
                parts.append(Apart(1, rows.batch, rows.kept, (), partial(self.spot, one)))
            except CellWrong as error:
                column = None if error.column is None else self.column(error.column)
                bad = Bad(0, column, error.reason, self.spot(one, 0))
                parts.append(Apart(1, self.no_batch, self._kept(one), (bad,), partial(self.spot, one)))
        return joined(parts)

    @property
    def no_batch(self) -> Batch:
        columns = [pa.nulls(0, self._table.schema.types[at]) for at in self._columns]
        return self.parse(TableBlock(pa.RecordBatch.from_arrays(columns, list(map(str, self._columns))), 0)).batch

    def spot(self, block: TableBlock, row: int) -> Spot:
        """Where a row of the block stands, and its cells as a JSON object."""
        cells = {
            self._header[at]: as_values(column.slice(row, 1))[0]
            for at, column in zip(self._columns, block.batch.columns, strict=True)
        }
        return Spot(block.row + row + 1, None, JSON.encode(cells).decode())

    def _kept(self, block: TableBlock) -> Kept:
        columns = dict(zip(self._columns, block.batch.columns, strict=True))
        return Kept(self.no_rows.names, [self._carried(columns[at], at) for at in self._kept_at])

    def _carried(self, column: pa.Array, at: int) -> pa.Array:
        return settled(column, f"{self._name}, column {self._header[at]!r}")


def positions(schema: pa.Schema, signature: Signature) -> list[int | None]:
    """Where each input stands among the columns; None for one that may be absent, and is. Raises FormWrong.

    One tensor may come under any name if nothing else is there, and a (rows, k) one as one column of lists too: then
    all of its k inputs stand there.
    """
    names = schema.names
    if (tensor := _only_tensor(schema, signature)) is not None:
        return [tensor] * len(signature.inputs)
    if not signature.named:
        if len(names) != len(signature.inputs):
            raise miscounted(signature, f"there are {len(names)}")
        return list(range(len(names)))
    check_names(signature, names)
    for name in signature.names:
        if names.count(name) > 1:
            raise FormWrong(f"the column {name!r} is there twice", "Which one is meant? Rename the other")
    return [names.index(name) if name in names else None for name in signature.names]


def to_batch(given: Sequence[pa.Array | None], rows: int, signature: Signature) -> Batch:
    """The inputs' columns as a batch; None stands for nulls. Raises CellWrong."""
    inputs = signature.inputs
    if len(inputs) > 1 and signature.tensor is not None and all(column is given[0] for column in given):
        whole = Column(signature.tensor or None, inputs[0].type, (len(inputs),))
        return Batch.of(from_lists(given[0], whole, 0))
    columns, wrong = [], []
    for at, (values, column) in enumerate(zip(given, inputs, strict=True)):
        try:
            columns.append(_column(pa.nulls(rows) if values is None else values, column, at))
        except CellWrong as error:
            wrong.append(error)
    if wrong:
        raise min(wrong, key=lambda error: error.row)
    return Batch(rows, columns)


def row_bytes(signature: Signature) -> int:
    """About what a row takes in memory."""
    cells = ((column.shape, np.dtype(column.cell.dtype).itemsize) for column in signature.inputs)
    return sum(math.prod(max(size, 1) for size in shape) * size for shape, size in cells)


def too_large(name: str, limit: int) -> InputTooLarge:
    return InputTooLarge(
        f"{name} holds more than {limit >> 20} MiB when it is unpacked",
        "Send fewer rows at a time, use foretell models predict, or raise --max-body-mb",
    )


def _column(values: pa.Array, column: Column, at: int) -> np.ndarray:
    return from_lists(values, column, at) if column.shape else from_arrow(values, column, at)


def _only_tensor(schema: pa.Schema, signature: Signature) -> int | None:
    """The column that holds a model's only tensor as a whole."""
    names, inputs = schema.names, signature.inputs
    if signature.tensor is None:
        return None
    if names.count(signature.tensor) == 1 and _is_list(schema.field(signature.tensor).type):
        return int(schema.get_field_index(signature.tensor))
    whole = len(names) == 1 and (len(inputs) == 1 or _is_list(schema.types[0]))
    return 0 if whole else None


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_nested(kind) or isinstance(kind, pa.BaseExtensionType)
