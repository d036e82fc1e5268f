"""Inputs: their bytes, unpacked, and text in blocks that end at record ends. Used for files, pipes and bodies."""

import codecs
import contextlib
import io
import os
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from foretell.errors import InputTooLarge, InputUnreadable, UsageError
from foretell.tables.compression import Read, inflated, sniffed, split

BLOCK = 8 << 20
_MAX_RECORD = 64 << 20
_MAGIC = 4
STDIN = "-"


@dataclass(frozen=True)
class Block:
    """Whole records. line: the number of the first one's line in the input, from 1."""

    data: bytes
    line: int


Cut = Callable[[bytes], int]
"""Where the last whole record ends in bytes that begin with a record; 0 without a whole one."""


class Source:
    """An input's bytes, read forward and unpacked on the way. position and size are bytes as they are stored; size is
    None where unknown. codec: how they are packed; None for what their first bytes tell, "" for not at all."""

    def __init__(self, raw: IO[bytes], name: str, size: int | None = None, codec: str | None = None) -> None:
        self.name = name
        self.size = size
        self.position = 0
        self._raw = raw
        self._codec = codec
        self._read: Read | None = None
        self._head = io.BytesIO()
        self._pushed = b""

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
        return data


class Text:
    """A text input as UTF-8, read forward."""

    def __init__(self, source: Source, encoding: str = "utf-8") -> None:
        self.name = source.name
        self._source = source
        self._line = 1
        self._rest = b""
        self._first = True
        self._ended = False
        self._decode = _decoder(encoding)
        self._mac = False

    @staticmethod
    def of(data: bytes, name: str) -> "Text":
        return Text(Source.of(data, name))

    def peek(self) -> bytes:
        """What comes next, at least a few bytes of it if there are any."""
        if not self._rest:
            self._fill()
        return self._rest

    def record(self, end: Cut) -> Block | None:
        """The next single record, by a function that finds where the first one ends; None at the end."""
        while not (cut := end(self._rest)):
            if self._ended and not self._rest:
                return None
            if self._ended:
                cut = len(self._rest)
                break
            self._fill()
            self._bound()
        return self._take(cut)

    def blocks(self, cut: Cut) -> Iterator[Block]:
        """The rest, in blocks of whole records; the last record may lack its newline."""
        while True:
            if not self._ended:
                self._fill()
            whole = cut(self._rest)
            if whole:
                yield self._take(whole)
            elif self._ended and not self._rest.strip():
                return
            elif self._ended:
                raise InputUnreadable(
                    f"{self.name}, line {self._line}: a quote is opened and never closed",
                    'Write a " inside quotes as ""',
                )
            else:
                self._bound()

    def all(self, limit: int) -> bytes:
        """The rest, whole. Raises InputTooLarge."""
        while not self._ended:
            self._fill()
            if len(self._rest) > limit:
                raise InputTooLarge(
                    f"{self.name} is over {limit >> 20} MiB, too much for one JSON document",
                    "Use JSON Lines, one row a line (.jsonl), which may be of any size",
                )
        return self._take(len(self._rest)).data

    def _take(self, count: int) -> Block:
        block = Block(self._rest[:count], self._line)
        self._rest = self._rest[count:]
        self._line += block.data.count(b"\n")
        return block

    def _fill(self) -> None:
        chunk = self._read()
        first, self._first = self._first, False
        self._ended = not chunk
        try:
            data = self._decode(chunk, self._ended)
        except UnicodeError as error:
            raise InputUnreadable(f"{self.name} cannot be read in that encoding: {error}") from error
        if first:
            data = self._opened(data)
        if self._mac:
            data = data.replace(b"\r", b"\n")
        if self._ended and (self._rest or data) and not (self._rest + data).endswith(b"\n"):
            data += b"\n"
        self._rest += data

    def _read(self) -> bytes:
        """A block's worth, or the rest. In pieces: a signal is answered between them, also where a pipe is silent."""
        pieces: list[bytes] = []
        missing = BLOCK
        while missing and (piece := self._source.read1(missing)):
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    def _opened(self, data: bytes) -> bytes:
        if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise InputUnreadable(f"{self.name} is in UTF-16", "Say so: --encoding utf-16")
        self._mac = b"\r" in data and b"\n" not in data
        return data.removeprefix(codecs.BOM_UTF8)

    def _bound(self) -> None:
        if len(self._rest) > _MAX_RECORD:
            raise InputUnreadable(
                f"{self.name}, line {self._line}: no record ends within {_MAX_RECORD >> 20} MiB; a quote may be open"
            )


def _decoder(encoding: str) -> Callable[[bytes, bool], bytes]:
    """From the input's encoding to UTF-8; UTF-8 itself passes as it is."""
    try:
        codec = codecs.lookup(encoding)
    except LookupError:
        raise UsageError(
            f"--encoding {encoding}: no such encoding", "For example: utf-8, cp1252, latin-1, utf-16"
        ) from None
    if not codec._is_text_encoding:
        raise UsageError(f"--encoding {encoding}: not an encoding of text", "For example: utf-8, cp1252, utf-16")
    if codec.name == "utf-8":
        return lambda data, final: data
    decoder = codec.incrementaldecoder()
    return lambda data, final: decoder.decode(data, final).encode()


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
