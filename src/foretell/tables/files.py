"""Input files in blocks that end at record ends, and outputs that appear whole or not at all. Used by jobs."""

import codecs
import contextlib
import fcntl
import io
import os
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from foretell.errors import InputTooLarge, InputUnreadable, OutputError, UsageError
from foretell.storage import sync_folder

BLOCK = 8 << 20
_MAX_RECORD = 64 << 20
STDIN = "-"


@dataclass(frozen=True)
class Block:
    """Whole records. line: the number of the first one's line in the input, from 1."""

    data: bytes
    line: int


Cut = Callable[[bytes], int]
"""Where the last whole record ends in bytes that begin with a record; 0 without a whole one."""


class Text:
    """A text input as UTF-8, read forward. position and size are bytes of the input; size None where unknown."""

    def __init__(self, raw: io.BufferedIOBase, name: str, encoding: str = "utf-8", size: int | None = None) -> None:
        self.name = name
        self.size = size
        self.position = 0
        self._raw = raw
        self._line = 1
        self._rest = b""
        self._ended = False
        self._decode = _decoder(encoding)
        self._mac = False

    @staticmethod
    def of(data: bytes, name: str) -> "Text":
        return Text(io.BytesIO(data), name, size=len(data))

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
        try:
            chunk = self._read()
        except OSError as error:
            raise InputUnreadable(f"{self.name} cannot be read: {error.strerror}") from error
        first = self.position == 0
        self.position += len(chunk)
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
        while missing and (piece := self._raw.read1(missing)):
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
def open_input(path: str, encoding: str = "utf-8") -> Iterator[Text]:
    """Opens a file, or stdin for "-". Raises InputUnreadable."""
    if path == STDIN:
        yield Text(cast(io.BufferedIOBase, sys.stdin.buffer), "stdin", encoding)
        return
    try:
        raw = Path(path).open("rb")  # noqa: SIM115
    except IsADirectoryError:
        raise InputUnreadable(f"{path} is a folder; give a file") from None
    except OSError as error:
        raise InputUnreadable(f"{path} cannot be read: {error.strerror}") from error
    with raw:
        status = os.fstat(raw.fileno())
        yield Text(raw, path, encoding, status.st_size if stat.S_ISREG(status.st_mode) else None)


class Output:
    """A file that appears under its name when it is committed, and not before; what was there stays until then.

    It grows as a draft beside its target, which only one writer at a time can hold.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._target = path.resolve()
        self._draft = self._target.with_name(f".{self._target.name}.draft")
        try:
            self._file = os.fdopen(os.open(self._draft, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+b")
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise OutputError(
                f"{path} is being written by another foretell", "Wait for it, or give another output"
            ) from None
        self._file.truncate(0)

    def write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error.strerror}") from error

    def commit(self) -> None:
        """Makes it durable and puts it in place of what was there."""
        try:
            self._file.flush()
            with contextlib.suppress(FileNotFoundError):
                os.fchmod(self._file.fileno(), self._target.stat().st_mode & 0o777)
            os.fsync(self._file.fileno())
            self._draft.replace(self._target)
            sync_folder(self._target.parent)
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error.strerror}") from error
        finally:
            self._close()

    def discard(self) -> None:
        """Leaves no trace; harmless after commit."""
        if not self._file.closed:
            with contextlib.suppress(FileNotFoundError):
                self._draft.unlink()
            self._close()

    def _close(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()


class Stdout:
    """Standard output, which nothing can be taken back from. A reader that left is no error."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def write(self, data: bytes) -> None:
        self._stream.write(data)

    def commit(self) -> None:
        self._stream.flush()

    def discard(self) -> None:
        """What was written stays."""
