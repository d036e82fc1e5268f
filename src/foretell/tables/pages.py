"""How much memory the pages of a Parquet file will take, told before any is unpacked: a few bytes may hold a page of
gigabytes, and what the footer says of sizes nobody checks."""

from collections.abc import Iterator
from typing import IO

import pyarrow.parquet as pq

from foretell.errors import InputTooLarge
from foretell.tables import thrift

_USUAL = 2 << 20
"""Pages of up to so many bytes do not count: they are what writers make."""
_HEADERS = (1 << 10, 64 << 10, 16 << 20)
"""Bytes within which a page's header ends: most, those with long bounds, and what Arrow reads at most."""
_PLAIN, _PACKED = 2, 3
"""In a page's header, its size when unpacked, and as it is stored."""
_DATA, _DATA_2 = 5, 8
"""In a page's header, what a page of data tells of itself; its number of values comes first."""


def check(file: IO[bytes], group: pq.RowGroupMetaData, names: list[str], limit: int, name: str) -> None:
    """Refuses a row group of which the columns' largest pages, one of each in memory, take more bytes than limit.

    Raises InputTooLarge; ValueError where a page's header cannot be read.
    """
    held = 0
    for at in range(group.num_columns):
        chunk = group.column(at)
        path = chunk.path_in_schema
        if not any(path == one or path.startswith(f"{one}.") for one in names):
            continue
        largest = max(_sizes(file, chunk), default=0)
        held += largest if largest > _USUAL else 0
        if held > limit:
            raise InputTooLarge(
                f"{name}, column {path!r}: its largest page unpacks to {largest / (1 << 20):,.0f} MiB; those of "
                f"all columns may take {limit >> 20} MiB",
                "Write it with pages of about 1 MiB, which is usual",
            )


def _sizes(file: IO[bytes], chunk: pq.ColumnChunkMetaData) -> Iterator[int]:
    """Of each page, as far as Arrow would read."""
    begins = (chunk.dictionary_page_offset, chunk.data_page_offset)
    at = min(place for place in begins if place) if any(begins) else 0
    end, missing = at + chunk.total_compressed_size, chunk.num_values
    while missing > 0 and at < end:
        header, length = _header(file, at)
        try:
            plain, packed = header[_PLAIN].value, header[_PACKED].value
            values = header.get(_DATA) or header.get(_DATA_2)
            missing -= values.value[1].value if values is not None else 0
            at += length + max(0, packed)
        except (LookupError, TypeError) as error:
            raise ValueError("a page's header is damaged") from error
        yield plain


def _header(file: IO[bytes], at: int) -> tuple[thrift.Struct, int]:
    for most in _HEADERS:
        file.seek(at)
        try:
            return thrift.read_at(file.read(most))
        except IndexError:
            continue
        except (RecursionError, ValueError):
            break
    raise ValueError("a page's header is damaged")
