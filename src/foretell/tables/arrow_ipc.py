"""Arrow IPC, file or stream, read forward message by message. Every message is looked at before Arrow unpacks it: what
it says of its size is bounded, and an input that is cut short is an error."""

import io
import struct
from collections import deque
from collections.abc import Iterator
from typing import IO

import numpy as np
import pyarrow as pa

from foretell.errors import ForetellError, InputUnreadable
from foretell.tables.arrow_rows import too_large
from foretell.tables.files import Source

_FILE = b"ARROW1"
_MARK = b"\xff\xff\xff\xff"
_MAX_METADATA = 256 << 20
_MAX_BATCH = 16 << 30
_MAX_PIPED = 256 << 20
_BLOCK_BYTES = 24
_DICTIONARY, _RECORDS = 2, 3


class ArrowTable:
    """An Arrow IPC file or stream. limit: bytes that all of it may take when unpacked; None bounds each batch alone.

    Raises InputUnreadable, InputTooLarge.
    """

    def __init__(self, source: Source, limit: int | None) -> None:
        self._name = source.name
        self._limited = limit is not None
        self._messages = _Messages(source, limit)
        try:
            self.schema: pa.Schema = pa.ipc.read_schema(pa.py_buffer(self._messages.first()))
            self.schema.names  # noqa: B018  may not be text
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _unreadable(self._name, error) from error

    def batches(self, columns: list[int], rows: int, skip: int = 0) -> Iterator[tuple[int, pa.RecordBatch]]:
        try:
            options = pa.ipc.IpcReadOptions(included_fields=columns)
            with pa.ipc.open_stream(pa.PythonFile(self._messages, "r"), options=options) as reader:
                for group, batch in enumerate(reader):
                    if group < skip:
                        continue
                    batch.validate()
                    self._messages.bound(sum(map(self._viewed, batch.columns)))
                    batch.validate(full=True)
                    yield group, batch
        except ForetellError:
            raise
        except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
            raise _unreadable(self._name, error) from error

    def _viewed(self, column: pa.Array) -> int:
        """The bytes that a column's views show: many may show the same ones, and each is looked at by itself."""
        if isinstance(column, pa.DictionaryArray):
            return self._viewed(column.dictionary)
        if _is_view(column.type):
            lengths = np.frombuffer(column.buffers()[1] or b"", "<i4")[::4][column.offset :][: len(column)]
            return int(lengths[lengths > 0].sum(dtype="int64"))
        if self._limited and _has_views(column.type):
            raise InputUnreadable(f"{self._name} holds a column of {column.type}, whose size cannot be told")
        return 0


def _is_view(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string_view(kind) or pa.types.is_binary_view(kind))


def _has_views(kind: pa.DataType) -> bool:
    inner = [kind.field(at).type for at in range(kind.num_fields)]
    inner += [found for name in ("value_type", "storage_type") if (found := getattr(kind, name, None)) is not None]
    return _is_view(kind) or any(map(_has_views, inner))


class _Messages:
    """A file for Arrow to read the stream from, which gives it whole, bounded messages."""

    closed = False

    def __init__(self, source: Source, limit: int | None) -> None:
        self._source = source
        self._limit = _MAX_BATCH if limit is None else limit
        self._whole = limit is not None
        self._held = 0
        self._ended = False
        self._places: deque[int] | None = None
        self._parts: list[bytes] = []
        start = source.peek()[:12]
        if start[:6] == _FILE and len(start) == 12 and start[8:] != _MARK:
            self._is_file = True
            self._from_footer(source.seekable(_MAX_PIPED))
            return
        head = self._exactly(4)
        self._is_file = head == _FILE[:4]
        if self._is_file and self._exactly(4)[:2] == _FILE[4:]:
            head = self._exactly(4)
        if head != _MARK:
            hint = "A Feather file of version 1 is to be written again" if head == b"FEA1" else ""
            raise InputUnreadable(f"{source.name} is no Arrow IPC file or stream: it begins otherwise", hint)
        self._next(head)

    def first(self) -> bytes:
        """The message that comes first, which holds the schema."""
        return b"".join(self._parts)

    def read(self, count: int) -> bytes:
        while sum(map(len, self._parts)) < count and not self._ended:
            self._more()
        if self._parts and len(self._parts[0]) == count:
            return self._parts.pop(0)
        data = b"".join(self._parts)
        self._parts = [data[count:]] if len(data) > count else []
        return data[:count]

    def close(self) -> None:
        """The source's owner closes it."""

    def _from_footer(self, file: IO[bytes]) -> None:
        """Polars begins a file with no message of the schema, and puts dictionaries behind the batches that need them:
        the footer holds the schema, and tells where each message stands."""
        name, size = self._source.name, file.seek(0, io.SEEK_END)
        file.seek(max(0, size - 10))
        tail = file.read(10)
        (count,) = struct.unpack("<i", tail[:4])
        if tail[4:] != _FILE or not 0 < count <= min(size - 10, _MAX_METADATA):
            raise _cut_short(name)
        file.seek(size - 10 - count)
        footer = file.read(count)
        try:
            self._places = _blocks(footer)
        except struct.error as error:
            raise InputUnreadable(f"{name} is damaged: its footer cannot be read") from error
        if any(not 0 < place < size for place in self._places):
            raise InputUnreadable(f"{name} is damaged: its footer names places outside of it")
        try:
            opened = pa.ipc.open_file(pa.py_buffer(_FILE + bytes(2) + footer + tail))
            self._parts = [opened.schema.serialize().to_pybytes()]
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _unreadable(name, error) from error
        self._file, self._source = file, Source(file, name, codec="")

    def _more(self) -> None:
        """Takes in the message that comes next."""
        if self._places is not None and not self._places:
            self._parts.append(_MARK + bytes(4))
            self._ended = True
            return
        if self._places is not None:
            self._file.seek(self._places.popleft())
        self._next(self._exactly(4))

    def _next(self, mark: bytes) -> None:
        """Takes in one message, or the end of the stream."""
        size = self._exactly(4)
        (count,) = struct.unpack("<i", size)
        if mark != _MARK or not 0 <= count <= _MAX_METADATA:
            raise InputUnreadable(f"{self._source.name} is damaged: an Arrow message begins with no length")
        self._parts += [mark, size]
        if count == 0:
            self._ended = True
            self._check_end()
            return
        metadata = self._exactly(count)
        try:
            kind, header, body_size = _message(metadata)
            self.bound(body_size)
            body = self._exactly(body_size)
            if kind in (_DICTIONARY, _RECORDS):
                size_ = _unpacked_size(metadata, header if kind == _RECORDS else _child(metadata, header, 1), body)
                self.bound(size_)
                self._held += size_ if self._whole or kind == _DICTIONARY else 0
        except struct.error as error:
            raise InputUnreadable(f"{self._source.name} is damaged: an Arrow message cannot be read") from error
        self._parts += [part for part in (metadata, body) if part]

    def bound(self, size: int) -> None:
        """That so many bytes more are not too many. Raises InputUnreadable, InputTooLarge."""
        if size < 0:
            raise InputUnreadable(f"{self._source.name} is damaged: an Arrow message has no length")
        if self._held + size > self._limit:
            raise too_large(self._source.name, self._limit)

    def _check_end(self) -> None:
        """After a stream comes nothing; after that of a file its footer, with its length and a mark."""
        tail = b""
        while piece := self._source.read1(_MAX_METADATA):
            tail += piece
            if len(tail) > _MAX_METADATA:
                break
        if not self._is_file and tail:
            raise InputUnreadable(f"{self._source.name} goes on after the end of its Arrow stream", "One stream a file")
        whole = tail[-6:] == _FILE and len(tail) >= 10 and struct.unpack("<i", tail[-10:-6])[0] == len(tail) - 10
        if self._is_file and not whole:
            raise _cut_short(self._source.name)

    def _exactly(self, count: int) -> bytes:
        pieces: list[bytes] = []
        while count and (piece := self._source.read1(count)):
            pieces.append(piece)
            count -= len(piece)
        if count:
            raise _cut_short(self._source.name)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _message(metadata: bytes) -> tuple[int, int, int]:
    """(kind, where its header stands, the body's size) of a message, by Arrow's Message.fbs. Raises struct.error."""
    (root,) = struct.unpack_from("<I", metadata)
    kind, body = _slot(metadata, root, 1), _slot(metadata, root, 3)
    return (
        metadata[kind] if kind else 0,
        _child(metadata, root, 2),
        struct.unpack_from("<q", metadata, body)[0] if body else 0,
    )


def batch_places(footer: bytes) -> list[int]:
    """Where a file's footer says where its batches stand: 24 bytes for each. Raises struct.error."""
    return _entries(footer, 3)


def _blocks(footer: bytes) -> deque[int]:
    """Where the messages of dictionaries stand, then those of batches, by Arrow's File.fbs. Raises struct.error."""
    entries = (*_entries(footer, 2), *batch_places(footer))
    return deque(int(struct.unpack_from("<q", footer, at)[0]) for at in entries)


def _entries(footer: bytes, field: int) -> list[int]:
    (root,) = struct.unpack_from("<I", footer)
    if not _slot(footer, root, field):
        return []
    vector = _child(footer, root, field)
    (count,) = struct.unpack_from("<I", footer, vector)
    return list(range(vector + 4, vector + 4 + min(count, len(footer)) * _BLOCK_BYTES, _BLOCK_BYTES))


def _unpacked_size(metadata: bytes, header: int, body: bytes) -> int:
    """What a batch's buffers take: packed ones begin with the size that they say to have. Raises struct.error."""
    if not _slot(metadata, header, 3):
        return len(body)
    vector = _child(metadata, header, 2)
    (count,) = struct.unpack_from("<I", metadata, vector)
    total = 0
    for at in range(vector + 4, vector + 4 + min(count, len(metadata)) * 16, 16):
        start, length = struct.unpack_from("<qq", metadata, at)
        (said,) = struct.unpack_from("<q", body, start) if 0 <= start <= len(body) - 8 and length >= 8 else (0,)
        total += length if said < 0 else said
    return max(total, len(body))


def _slot(data: bytes, table: int, field: int) -> int:
    """Where a flatbuffer table's field stands; 0 where it is not set. Raises struct.error."""
    (back,) = struct.unpack_from("<i", data, table)
    vtable = table - back
    if vtable < 0:
        raise struct.error
    (size,) = struct.unpack_from("<H", data, vtable)
    offset = 4 + 2 * field
    here = struct.unpack_from("<H", data, vtable + offset)[0] if offset < size else 0
    if table + here >= len(data):
        raise struct.error
    return table + here if here else 0


def _child(data: bytes, table: int, field: int) -> int:
    """Where the table or vector stands that a field points to. Raises struct.error."""
    at = _slot(data, table, field)
    if not at:
        raise struct.error
    return at + int(struct.unpack_from("<I", data, at)[0])


def _cut_short(name: str) -> InputUnreadable:
    return InputUnreadable(f"{name} is cut short: its Arrow stream does not end", "Copy it again")


def _unreadable(name: str, error: BaseException) -> InputUnreadable:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return InputUnreadable(f"{name} cannot be read as Arrow IPC: {reason[:200]}")
