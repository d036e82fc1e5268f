"""Arrow's record batches → rows, typed by the signature: what Parquet, Arrow IPC and Python's frames have in common."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa

from foretell.batch import Batch
from foretell.cells import Column
from foretell.columns import from_arrow
from foretell.errors import CellWrong, FormWrong, InputTooLarge
from foretell.signature import Signature, check_names, miscounted
from foretell.tables.kept import Keep, Kept, Rows
from foretell.tables.spelled import settled
from foretell.tensors import from_lists

_BLOCK_ROWS = 65_536
_BLOCK_BYTES = 64 << 20


@dataclass(frozen=True)
class TableBlock:
    """Some rows of a table. row: the first one's number in the input, from 0."""

    batch: pa.RecordBatch
    row: int


class Table(Protocol):
    """A table that is read forward. schema: of all its columns."""

    schema: pa.Schema

    def batches(self, columns: list[int], rows: int) -> Iterator[pa.RecordBatch]:
        """Checked batches of just these columns, in this order; of about so many rows where they can be cut."""
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

    def blocks(self) -> Iterator[TableBlock]:
        width = row_bytes(self._signature)
        step = max(1, min(_BLOCK_ROWS, _BLOCK_BYTES // width))
        row = 0
        for batch in self._table.batches(self._columns, step):
            if self._limit is not None and (row + batch.num_rows) * width > self._limit:
                raise too_large(self._name, self._limit)
            for start in range(0, batch.num_rows, step):
                yield TableBlock(batch.slice(start, step), row + start)
            row += batch.num_rows

    def parse(self, block: TableBlock) -> Rows:
        """The rows of a block."""
        columns = dict(zip(self._columns, block.batch.columns, strict=True))
        given = [columns.get(at) if at is not None else None for at in self._at]
        try:
            batch = to_batch(given, block.batch.num_rows, self._signature)
        except CellWrong as error:
            raise self.place(block, error) from error
        return Rows(batch, Kept(self.no_rows.names, [self._carried(columns[at], at) for at in self._kept_at]))

    def place(self, block: TableBlock, error: CellWrong) -> CellWrong:
        """The error with file, row and column."""
        place = f"{self._name}, row {block.row + error.row + 1}"
        if error.column is None:
            return error.at(place)
        at = self._at[error.column]
        name = self._header[at] if at is not None else self._signature.names[error.column]
        return error.at(f"{place}, column {name!r}")

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
        return Batch(rows, matrix=from_lists(given[0], whole, 0))
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
