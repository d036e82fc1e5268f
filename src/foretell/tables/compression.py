"""gzip and zstd around text: inflated as it is read, deflated part by part. Used for files, pipes and bodies."""

import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePath
from typing import Any

import pyarrow as pa

from foretell.errors import InputUnreadable

SUFFIXES = {".gz": "gzip", ".zst": "zstd"}
BY_PART = "gzip"
"""What is packed part by part: gzip's members all readers put together; of zstd's frames some see only the first."""
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_CHUNK = 1 << 16
_GZIP = 16 + zlib.MAX_WBITS
_MOST_EMPTY = 10_000
"""So many members in a row may hold nothing: each costs its time, and millions of them fit a body."""

Read = Callable[[int], bytes]
"""At most so many bytes, at least one; none at the end."""


def split(path: str) -> tuple[str, str | None]:
    """A file's name without .gz or .zst, and the codec that this ending means."""
    codec = SUFFIXES.get(PurePath(path).suffix.lower())
    return (path[: path.rindex(".")], codec) if codec else (path, None)


def sniffed(head: bytes) -> str | None:
    """The codec of a stream that begins so; no text does."""
    return next((codec for magic, codec in _MAGIC.items() if head.startswith(magic)), None)


def inflated(read: Read, codec: str, name: str) -> Read:
    """Reads what read gives as codec packed it, in memory for one piece; several members or frames are one text.

    Raises InputUnreadable, for a stream that is cut short too.
    """
    if codec == "gzip":
        return _Gunzip(read, name).read
    stream = pa.CompressedInputStream(pa.PythonFile(_ForArrow(read), "r"), codec)

    def unpacked(most: int) -> bytes:
        try:
            data: bytes = stream.read(most)
        except (OSError, pa.ArrowException) as error:
            raise _cut_short(name, codec) if "Truncated" in str(error) else _torn(name, codec) from error
        return data

    return unpacked


def packed(data: bytes, codec: str) -> bytes:
    """A member or frame of its own; the same bytes give the same pack: no time and no name is in it."""
    if codec == "gzip":
        return zlib.compress(data, 6, wbits=_GZIP)
    frame: bytes = pa.compress(data, codec, asbytes=True)
    return frame


def pack_whole(data: Iterable[bytes], codec: str) -> Iterator[bytes]:
    """Packs pieces of text as one frame."""
    out = Collected()
    with pa.CompressedOutputStream(pa.PythonFile(out, "w"), codec) as packing:
        for piece in data:
            packing.write(piece)
            yield out.take()
    yield out.take()


class Collected:
    """A file for Arrow to write to, out of which the bytes are taken as they come."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._at = 0

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        self._at += len(data)
        return len(data)

    def tell(self) -> int:
        return self._at

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """What was written can still be taken."""

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


class _ForArrow:
    """Reading, as a file that Arrow takes."""

    closed = False

    def __init__(self, read: Read) -> None:
        self.read = read

    def close(self) -> None:
        """The reader's owner closes it."""


class _Gunzip:
    """Inflates member after member; zeros may pad the end, as tapes do."""

    def __init__(self, read: Read, name: str) -> None:
        self._read = read
        self._name = name
        self._member: Any = None
        self._packed = b""
        self._first = True
        self._empty = 0

    def read(self, most: int) -> bytes:
        while True:
            self._packed = self._packed or self._read(_CHUNK)
            ended = not self._packed
            if self._member is None and not self._begin():
                if ended:
                    return b""
                continue
            try:
                data: bytes = self._member.decompress(self._packed, most)
            except zlib.error as error:
                raise _torn(self._name, "gzip") from error
            self._packed = self._member.unconsumed_tail
            self._empty = 0 if data else self._empty
            if self._member.eof:
                self._packed, self._member = self._member.unused_data, None
                self._empty += 1
                if self._empty > _MOST_EMPTY:
                    raise InputUnreadable(
                        f"{self._name} is damaged: over {_MOST_EMPTY:,} parts of its gzip data are empty"
                    )
            elif ended and not data:
                raise _cut_short(self._name, "gzip")
            if data:
                return data

    def _begin(self) -> bool:
        """Whether another member begins here."""
        if not self._first:
            self._packed = self._packed.lstrip(b"\0")
        if self._packed:
            self._first = False
            self._member = zlib.decompressobj(_GZIP)
        return bool(self._packed)


def _cut_short(name: str, codec: str) -> InputUnreadable:
    return InputUnreadable(f"{name} is cut short: its {codec} data does not end", "Copy it again")


def _torn(name: str, codec: str) -> InputUnreadable:
    return InputUnreadable(f"{name} is damaged, or not only {codec}: it cannot be unpacked")
