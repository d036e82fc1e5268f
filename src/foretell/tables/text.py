"""Text inputs in blocks of whole records. Where a block ends is decided by the text alone, so that reading can begin
again at the end of any of them."""

import codecs
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from foretell.errors import InputTooLarge, InputUnreadable, UsageError
from foretell.tables.apart import Spot
from foretell.tables.files import BLOCK, Source

_MAX_RECORD = 64 << 20
_PIECES, _SMALL = 16, 16 << 10
_STRETCH, _NEWLINE = 256 << 10, ord("\n")
UNCLOSED = "a quote is opened and never closed"

Position = tuple[int, ...]
"""Where reading stands, for the reader that gave it; () is the start."""


@dataclass(frozen=True)
class Block:
    """Whole records. line: the number of the first one's line in the input, from 1. at: how many bytes of text, as
    UTF-8, come before. after: the position behind it."""

    data: bytes
    line: int
    at: int = 0
    after: Position = ()

    @property
    def weight(self) -> int:
        return len(self.data)

    def piece(self, start: int, stop: int) -> "Block":
        """Some of its records."""
        line = self.line + self.data.count(b"\n", 0, start)
        return Block(self.data[start:stop], line, self.at + start, self.after)

    def spot(self, start: int, record: bytes) -> Spot:
        """Where one of its records stands."""
        line = self.line + self.data.count(b"\n", 0, start)
        return Spot(line, self.at + start, record.rstrip(b"\r\n").decode("utf-8", "backslashreplace"))


Cut = Callable[[bytes], int]
"""Where the last whole record ends in bytes that begin with a record; 0 without a whole one."""


class Text:
    """A text input as UTF-8, read forward."""

    def __init__(self, source: Source, encoding: str = "utf-8") -> None:
        self.name = source.name
        self._source = source
        self._line = 1
        self._at = 0
        self._rest = b""
        self._first = True
        self._ended = False
        self._decode = decoder(encoding)
        self._mac = False

    @staticmethod
    def of(data: bytes, name: str) -> "Text":
        return Text(Source.of(data, name))

    @property
    def stored(self) -> bool:
        """Whether its bytes are the input's own, each in its place."""
        return self._decode is _as_it_is and not self._mac and self._source.direct

    @property
    def at(self) -> int:
        """How many bytes of text, as UTF-8, come before what comes next; a mark of the encoding is some of them."""
        return self._at

    def peek(self) -> bytes:
        """What comes next, at least a few bytes of it if there are any."""
        if not self._rest:
            self._fill(BLOCK)
        return self._rest

    def record(self, end: Cut) -> Block | None:
        """The next single record, by a function that finds where the first one ends; None at the end."""
        while not (cut := end(self._rest)):
            if self._ended and not self._rest:
                return None
            if self._ended:
                cut = len(self._rest)
                break
            self._fill(BLOCK)
            self._bound(self._rest)
        return self._take(cut)

    def blocks(self, cut: Cut, size: int = BLOCK, *, tolerant: bool = False) -> Iterator[Block]:
        """The rest, in blocks of whole records, each up to the last that ends before a multiple of size; the last
        record may lack its newline. tolerant: a line whose quote is never closed is a block of its own, and no error.
        """
        until = 0
        while True:
            until = max(until, (self._at // size + 1) * size)
            while not self._ended and (missing := until - self._at - len(self._rest)) > 0:
                self._fill(missing)
            last = self._at + len(self._rest) <= until and self._ended
            within = self._rest if last else self._rest[: until - self._at]
            if whole := cut(within):
                yield self._take(whole)
            elif last and not within.strip():
                return
            elif last and not tolerant:
                raise InputUnreadable(f"{self.name}, line {self._line}: {UNCLOSED}", 'Write a " inside quotes as ""')
            elif last or (tolerant and len(within) > _MAX_RECORD and b"\n" in within):
                yield self._take(self._rest.index(b"\n") + 1)
                until = 0
            else:
                self._bound(within)
                until += size

    def go_to(self, at: int, line: int) -> None:
        """Continues at a place that a block's position told. What is packed is unpacked up to there."""
        self.peek()
        if self.stored:
            self._source.seek(at)
            self._rest, self._at, self._ended = b"", at, False
        while self._at + len(self._rest) < at and not self._ended:
            self._at, self._rest = self._at + len(self._rest), b""
            self._fill(BLOCK)
        self._rest, self._at, self._line = self._rest[at - self._at :], at, line

    def all(self, limit: int) -> bytes:
        """The rest, whole. Raises InputTooLarge."""
        while not self._ended:
            self._fill(BLOCK)
            if len(self._rest) > limit:
                raise InputTooLarge(
                    f"{self.name} is over {limit >> 20} MiB, too much for one JSON document",
                    "Use JSON Lines, one row a line (.jsonl), which may be of any size",
                )
        return self._take(len(self._rest)).data

    def _take(self, count: int) -> Block:
        data = self._rest[:count] if count < len(self._rest) else self._rest
        line, at = self._line, self._at
        self._rest = self._rest[count:]
        self._line += _newlines(data)
        self._at += count
        return Block(data, line, at, (self._at, self._line))

    def _fill(self, most: int) -> None:
        chunk = self._read(most)
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
        self._rest = self._rest + data if self._rest else data

    def _read(self, most: int) -> bytes:
        """So many bytes, or the rest. In pieces: a signal is answered between them, also where a pipe is silent."""
        pieces: list[bytes] = []
        while most and (piece := self._source.read1(most)):
            pieces.append(piece)
            most -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _opened(self, data: bytes) -> bytes:
        if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise InputUnreadable(f"{self.name} is in UTF-16", "Say so: --encoding utf-16")
        self._mac = b"\r" in data and b"\n" not in data
        plain = data.removeprefix(codecs.BOM_UTF8)
        self._at = len(data) - len(plain)
        return plain

    def _bound(self, record: bytes) -> None:
        if len(record) > _MAX_RECORD:
            raise InputUnreadable(
                f"{self.name}, line {self._line}: no record ends within {_MAX_RECORD >> 20} MiB; a quote may be open"
            )


def pieces(block: Block, cut: Cut) -> list[Block]:
    """A block in some pieces of whole records; just itself where it is small."""
    parts: list[Block] = []
    step, at, until, line = max(len(block.data) // _PIECES, _SMALL), 0, 0, block.line
    while at < len(block.data):
        until = max(until, at) + step
        end = len(block.data) if until >= len(block.data) else at + cut(block.data[at:until])
        if end > at:
            data = block.data[at:end]
            parts.append(Block(data, line, block.at + at, block.after))
            line += _newlines(data)
            at = until = end
    return parts


def around(block: Block, start: int, stop: int) -> tuple[Block, Block, Block]:
    """What comes before some of a block's bytes, these, and what comes after."""
    return block.piece(0, start), block.piece(start, stop), block.piece(stop, len(block.data))


def _newlines(data: bytes) -> int:
    """bytes.count looks at one byte after the other, and numpy at many."""
    marks = np.frombuffer(data, np.uint8)
    return sum(int(np.count_nonzero(marks[at : at + _STRETCH] == _NEWLINE)) for at in range(0, len(marks), _STRETCH))


def _as_it_is(data: bytes, final: bool) -> bytes:
    return data


def decoder(encoding: str) -> Callable[[bytes, bool], bytes]:
    """From the input's encoding to UTF-8; UTF-8 itself passes as it is. Raises UsageError."""
    try:
        codec = codecs.lookup(encoding)
    except LookupError:
        raise UsageError(
            f"--encoding {encoding}: no such encoding", "For example: utf-8, cp1252, latin-1, utf-16"
        ) from None
    if not codec._is_text_encoding:
        raise UsageError(f"--encoding {encoding}: not an encoding of text", "For example: utf-8, cp1252, utf-16")
    if codec.name == "utf-8":
        return _as_it_is
    made = codec.incrementaldecoder()
    return lambda data, final: made.decode(data, final).encode()
