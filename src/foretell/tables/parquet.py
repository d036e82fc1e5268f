"""Parquet files, row group by row group and no more of one than a batch at a time; only the columns that are needed."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from foretell.errors import ForetellError, InputUnreadable
from foretell.tables import pages
from foretell.tables.arrow_rows import too_large
from foretell.tables.files import Source

_MAX_PIPED = 256 << 20
_BATCH_BYTES = 64 << 20
_MAX_PAGES = 256 << 20
"""Bytes that the large pages of one row group may take, one of each column."""
_BUFFER = 1 << 20
_MAX_ITEMS, _MAX_BODY_ITEMS = 1_000_000, 20_000
"""Columns and row groups of a file and of a request's body."""


class ParquetTable:
    """A Parquet file. limit: bytes that its columns may take when unpacked; None for any.

    Raises InputUnreadable, InputTooLarge.
    """

    def __init__(self, source: Source, limit: int | None) -> None:
        self._source = source
        self._most = _MAX_PAGES if limit is None else min(limit, _MAX_PAGES)
        self._items = _MAX_ITEMS if limit is None else _MAX_BODY_ITEMS
        self._metadata: pq.FileMetaData | None = None
        self._file = source.seekable(_MAX_PIPED)
        try:
            opened = self._open([])
            self.schema: pa.Schema = opened.schema_arrow
            self._metadata = opened.metadata
            self._rows = opened.metadata.num_rows
            groups = [opened.metadata.row_group(at) for at in range(opened.metadata.num_row_groups)]
            self._groups = [group.num_rows for group in groups]
            size = sum(max(0, group.total_byte_size) for group in groups)
            self._widest = max((group.total_byte_size // max(group.num_rows, 1) for group in groups), default=0)
            self.schema.names  # noqa: B018  may not be text
        except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
            raise self._unreadable(error) from error
        if limit is not None and size > limit:
            raise too_large(source.name, limit)

    def batches(self, columns: list[int], rows: int, skip: int = 0) -> Iterator[tuple[int, pa.RecordBatch]]:
        names = [self.schema.names[at] for at in columns]
        chosen = names if len(set(names)) == len(names) < len(self.schema.names) else None
        step = max(1, min(rows, _BATCH_BYTES // max(self._widest, 1)))
        seen = sum(self._groups[:skip])
        try:
            opened = self._open(self._coded(columns))
            for group in range(skip, len(self._groups)):
                pages.check(self._file, opened.metadata.row_group(group), names, self._most, self._source.name)
                for batch in opened.iter_batches(batch_size=step, row_groups=[group], columns=chosen):
                    batch.validate(full=True)
                    seen += batch.num_rows
                    self._source.position = (self._source.size or 0) * seen // max(self._rows, 1)
                    yield group, batch.select(names if chosen else columns)
        except ForetellError:
            raise
        except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
            raise self._unreadable(error) from error
        if seen != self._rows:
            raise InputUnreadable(f"{self._source.name} is damaged: it holds {seen} rows, and says {self._rows}")

    def _open(self, coded: list[str]) -> pq.ParquetFile:
        """Without pre-buffering, which would hold a whole row group."""
        return pq.ParquetFile(
            self._file,
            metadata=self._metadata,
            pre_buffer=False,
            buffer_size=_BUFFER,
            read_dictionary=coded,
            thrift_container_size_limit=self._items,
        )

    def _coded(self, columns: list[int]) -> list[str]:
        """Columns of text or bytes, which stay coded: a long cell that a million rows share is then there once."""
        types = pa.types
        tests = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
        chosen = (self.schema.field(at) for at in columns)
        return [field.name for field in chosen if any(test(field.type) for test in tests)]

    def _unreadable(self, error: BaseException) -> InputUnreadable:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return InputUnreadable(f"{self._source.name} cannot be read as Parquet: {reason[:200]}")
