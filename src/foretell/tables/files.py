"""Inputs: their bytes, as they are stored or unpacked. Used for files, pipes and bodies."""

import contextlib
import hashlib
import io
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from foretell.errors import InputTooLarge, InputUnreadable
from foretell.tables.compression import Read, inflated, sniffed, split

BLOCK = 8 << 20
_MAGIC = 4
STDIN = "-"


class Source:
    """An input's bytes, read forward and unpacked on the way. position and size are bytes as they are stored; size is
    None where unknown. codec: how they are packed; None for what their first bytes tell, "" for not at all. heard:
    hashes the bytes as they are read, if it was set before; None where reading does not only go forward."""

    def __init__(self, raw: IO[bytes], name: str, size: int | None = None, codec: str | None = None) -> None:
        self.name = name
        self.size = size
        self.position = 0
        self._raw = raw
        self._codec = codec
        self._read: Read | None = None
        self._head = io.BytesIO()
        self._pushed = b""
        self.heard: hashlib._Hash | None = None

    @staticmethod
    def of(data: bytes, name: str, codec: str = "") -> "Source":
        return Source(io.BytesIO(data), name, len(data), codec)

    def read1(self, most: int) -> bytes:
        """At most so many bytes, at least one; none at the end."""
        if data := self._head.read(most):
            return data
        if self._read is None:
            self._read = self._opened()
        return self._read(most)

    def peek(self) -> bytes:
        """What it begins with, a block's worth if there is as much; before anything is read."""
        pieces, missing = [], BLOCK
        while missing and (piece := self.read1(missing)):
            pieces.append(piece)
            missing -= len(piece)
        self._head = io.BytesIO(b"".join(pieces))
        return self._head.getvalue()

    def seekable(self, limit: int) -> IO[bytes]:
        """All of it, from its start, as a file to seek in; a pipe is read into memory. Raises InputTooLarge."""
        if self._raw.seekable() and not self._codec:
            self._raw.seek(0)
            self.heard = None
            return self._raw
        copy = io.BytesIO()
        while data := self.read1(BLOCK):
            copy.write(data)
            if copy.tell() > limit:
                raise InputTooLarge(
                    f"{self.name} is over {limit >> 20} MiB, too much for a table that comes through a pipe "
                    "and is read from its end",
                    "Give the file itself with -i, or send an Arrow stream, which may be of any size",
                )
        copy.seek(0)
        return copy

    @property
    def stamp(self) -> tuple[int, int] | None:
        """The file's size and time of its last change, in nanoseconds; None for what is no file."""
        try:
            status = os.fstat(self._raw.fileno())
        except OSError:
            return None
        return (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None

    @property
    def direct(self) -> bool:
        """Whether reading can go to any place at once: what is packed, or comes through a pipe, is read forward."""
        if self._read is None:
            self._read = self._opened()
        return not self._codec and self._raw.seekable()

    def seek(self, position: int) -> None:
        """Goes to a place in a direct input."""
        self._head, self._pushed = io.BytesIO(), b""
        self._raw.seek(position)
        self.heard = None
        self.position = position

    def _opened(self) -> Read:
        if self._codec is None:
            head = self._stored(_MAGIC)
            while head and len(head) < _MAGIC and (more := self._stored(_MAGIC - len(head))):
                head += more
            self._codec, self._pushed = sniffed(head) or "", head
            promised = split(self.name)[1]
            if promised and self._codec != promised:
                raise InputUnreadable(f"{self.name} is not packed with {promised}, as its name says")
        return inflated(self._stored, self._codec, self.name) if self._codec else self._stored

    def _stored(self, most: int) -> bytes:
        if self._pushed:
            pushed, self._pushed = self._pushed[:most], self._pushed[most:]
            return pushed
        try:
            data: bytes = self._raw.read1(most)  # type: ignore[attr-defined]
        except OSError as error:
            raise InputUnreadable(f"{self.name} cannot be read: {error.strerror}") from error
        self.position += len(data)
        if self.heard is not None:
            self.heard.update(data)
        return data


@contextlib.contextmanager
def open_input(path: str) -> Iterator[Source]:
    """Opens a file, or stdin for "-". Raises InputUnreadable."""
    if path == STDIN:
        yield Source(sys.stdin.buffer, "stdin")
        return
    try:
        raw = Path(path).open("rb")  # noqa: SIM115
    except IsADirectoryError:
        raise InputUnreadable(f"{path} is a folder; give a file") from None
    except OSError as error:
        raise InputUnreadable(f"{path} cannot be read: {error.strerror}") from error
    with raw:
        status = os.fstat(raw.fileno())
        yield Source(raw, path, status.st_size if stat.S_ISREG(status.st_mode) else None)
