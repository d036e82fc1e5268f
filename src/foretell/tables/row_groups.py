"""Parquet files that grow group by group: each row group is encoded as a file of its own, whose pages are taken over as
they are; its entry in the footer is told where they now stand. So a file can be taken up after any group.

Source of the numbers: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

import pyarrow as pa

from foretell.tables import thrift
from foretell.tables.compression import Collected
from foretell.tables.thrift import I16, I64, Field, Struct

_MAGIC = b"PAR1"
_ROWS, _GROUPS = 3, 4
_CHUNKS, _GROUP_ROWS, _GROUP_OFFSET, _ORDINAL = 1, 3, 5, 7
_CHUNK_OFFSETS, _COLUMN = (2, 4, 6), 3
"""Of a chunk, its index of pages' places and its index of values."""
_COLUMN_OFFSETS = (9, 10, 11, 14)
"""Of the data, index and dictionary pages, and of the Bloom filter."""


class RowGroups:
    """A Parquet file."""

    def opening(self, schema: pa.Schema) -> bytes:
        _written(schema.empty_table())
        return _MAGIC

    def group(self, table: pa.Table, at: int) -> tuple[bytes, bytes]:
        pages, footer = _split(_written(table))
        (group,) = thrift.read(footer)[_GROUPS].value
        _move(group, at - len(_MAGIC))
        return pages, thrift.write(group)

    def closing(self, schema: pa.Schema, marks: list[bytes], at: int) -> bytes:
        footer = thrift.read(_split(_written(schema.empty_table()))[1])
        groups = [thrift.read(mark) for mark in marks]
        for number, group in enumerate(groups):
            group[_ORDINAL] = Field(I16, number)
        footer[_GROUPS] = Field(thrift.LIST, groups, thrift.STRUCT)
        footer[_ROWS] = Field(I64, sum(group[_GROUP_ROWS].value for group in groups))
        data = thrift.write(footer)
        return data + len(data).to_bytes(4, "little") + _MAGIC


def _written(table: pa.Table) -> bytes:
    import pyarrow.parquet as pq

    out = Collected()
    with pq.ParquetWriter(out, table.schema, compression="snappy") as writer:
        if table.num_rows:
            writer.write_table(table, table.num_rows)
    return out.take()


def _split(file: bytes) -> tuple[bytes, bytes]:
    """(the pages, the footer) of a file."""
    count = int.from_bytes(file[-8:-4], "little")
    return file[len(_MAGIC) : -8 - count], file[-8 - count : -8]


def _move(group: Struct, by: int) -> None:
    """Adds to every place in the file that a row group names; 0 stands for none."""
    _add(group, (_GROUP_OFFSET,), by)
    for chunk in group[_CHUNKS].value:
        _add(chunk, _CHUNK_OFFSETS, by)
        _add(chunk[_COLUMN].value, _COLUMN_OFFSETS, by)


def _add(struct: Struct, fields: tuple[int, ...], by: int) -> None:
    for number in fields:
        if number in struct and struct[number].value:
            struct[number].value += by
