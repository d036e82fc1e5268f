"""JSON Lines ⇄ rows: an object a line, or an array in column order."""

from collections.abc import Iterator
from itertools import islice

import msgspec
import pyarrow as pa

from foretell.batch import Answers, Batch, plain
from foretell.errors import CellWrong, InputUnreadable
from foretell.rows import Records, RowDecoder, place_in_json
from foretell.strict_json import strict_json
from foretell.tables.apart import Apart, Bad, Spot, Unsound
from foretell.tables.kept import Keep, Kept, Rows, clash_of
from foretell.tables.spelled import JSON
from foretell.tables.text import Block, Position, Text, around, pieces

_BLOCK = 4 << 20
_NEWLINE = b"\n"
_RECORD = msgspec.json.Decoder(dict[str, msgspec.Raw])


class JsonLinesReader:
    """Reads rows a line each. For a table, the columns to carry are those of the first line."""

    def __init__(self, text: Text, decoder: RowDecoder, keep: Keep) -> None:
        self._name = text.name
        self._text = text
        self._decoder = decoder
        self._keep = keep
        self._taken = set(decoder.signature.names)
        self.kept = self._choose(text)
        self.no_rows = Kept(self.kept, [pa.nulls(0, pa.string()) for _ in self.kept])

    @property
    def stored(self) -> bool:
        """Whether a block's text stands in the input as it is, at its place."""
        return self._text.stored

    def blocks(self, start: Position = (), *, tolerant: bool = False) -> Iterator[Block]:
        if start:
            self._text.go_to(*start)
        return self._text.blocks(_last, _BLOCK, tolerant=tolerant)

    def parse(self, block: Block) -> Rows:
        """The rows of a block. Raises InputError, with the line of the first bad row."""
        data = block.data
        raw = None if (bare := self._is_bare(data)) else _objects(data)
        try:
            batch = self._decoder.lines(data, raw)
        except CellWrong as error:
            raise self.place(block, error) from error
        if bare and batch.rows == data.count(_NEWLINE):
            return Rows(batch, Kept(self.kept, [], [{} for _ in range(batch.rows)]))
        return Rows(batch, self._carried(data, batch.rows, raw))

    def sound(self, block: Block) -> Rows:
        """The rows of a block in which all is well. Raises Unsound."""
        try:
            return self.parse(block)
        except (CellWrong, InputUnreadable) as error:
            raise Unsound(error.row if isinstance(error, CellWrong) else None) from error

    def around(self, block: Block, row: int) -> tuple[Block, Block, Block]:
        start, line = next(islice(_lines(block.data), row, None))
        return around(block, start, min(start + len(line) + 1, len(block.data)))

    def pieces(self, block: Block) -> list[Block]:
        """The block in some pieces of whole lines; just itself where it is small."""
        return pieces(block, _last)

    def apart(self, block: Block) -> Apart:
        """The rows of a block, each line by itself, the bad ones apart."""
        lines, good, bad = list(_lines(block.data)), [], []
        for row, (start, line) in enumerate(lines):
            try:
                rows = self.parse(Block(line, block.line))
                rows.kept.as_text()
                good.append(rows)
            except (CellWrong, InputUnreadable) as error:
                column = error.column if isinstance(error, CellWrong) else None
                reason = error.reason if isinstance(error, CellWrong) else error.message
                named = None if column is None else self.column(column)
                bad.append(Bad(row, named, reason, block.spot(start, line)))
                good.append(Rows(self.no_batch, Kept(self.kept, [], [self._readable(line)])))
        batch = Batch.concat([rows.batch for rows in good if rows.batch.rows] or [self.no_batch])
        kept = Kept.concat([rows.kept for rows in good])
        return Apart(len(lines), batch, kept, tuple(bad), lambda row: block.spot(*lines[row]))

    @property
    def no_batch(self) -> Batch:
        return self._decoder.values([])

    def spot(self, block: Block, row: int) -> Spot:
        """Where a row of the block stands."""
        return block.spot(*next(islice(_lines(block.data), row, None)))

    def column(self, index: int) -> str:
        return self._decoder.signature.names[index]

    def place(self, block: Block, error: CellWrong) -> CellWrong:
        """The error with file, line and JSON path."""
        start, line = next(islice(_lines(block.data), error.row, None))
        where = f"{self._name}, line {block.line + block.data.count(_NEWLINE, 0, start)}"
        if error.column is None:
            return error.at(where)
        record = line.lstrip()[:1] == b"{"
        path = place_in_json("$", error, self._decoder.signature, record).message
        return error.at(f"{where}, ${path.removeprefix(f'$[{error.row}]').rpartition(': ' + error.reason)[0]}")

    def _choose(self, text: Text) -> list[str]:
        """By the first line that can be read; a row that is an array carries nothing."""
        for _, line in _lines(text.peek()):
            if not line.lstrip().startswith(b"{"):
                return []
            try:
                return self._keep.choose(list(strict_json(line)), self._decoder.signature)
            except InputUnreadable:
                continue
        return []

    def _is_bare(self, data: bytes) -> bool:
        """Whether there is nothing to carry, if each line is a row: every key costs a colon."""
        signature = self._decoder.signature
        every = signature.named and all(column.required for column in signature.inputs)
        fits = every and data.count(b":") == data.count(_NEWLINE) * len(self._taken)
        return fits if self._keep.names is None else self._keep.names == ()

    def _carried(self, data: bytes, rows: int, raw: Records | None) -> Kept:
        """Raw values by name, row by row; a row that is an array carries none. raw: the rows, if all are objects."""
        if self._keep.names == ():
            return Kept([], [], [{} for _ in range(rows)])
        return Kept(self.kept, [], self._chosen(_each_record(data) if raw is None else raw))

    def _chosen(self, records: Records) -> Records:
        """Takes all else out of them."""
        if self._keep.names is not None:
            return [{name: cell for name, cell in row.items() if name in self._keep.names} for row in records]
        for name in self._taken:
            for row in records:
                row.pop(name, None)
        return records

    def _readable(self, line: bytes) -> dict[str, msgspec.Raw]:
        """What a bad line carries, as far as it is JSON."""
        try:
            return self._chosen([_RECORD.decode(line)])[0]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return {}


def _last(data: bytes) -> int:
    return data.rfind(_NEWLINE) + 1


def _lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(where it begins, the line) for each that is not blank."""
    at = 0
    for line in data.split(_NEWLINE):
        if line.strip():
            yield at, line
        at += len(line) + 1


def _objects(block: bytes) -> Records | None:
    """The lines as objects; None where they are not all that."""
    try:
        return _RECORD.decode_lines(block)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _each_record(block: bytes) -> Records:
    """The objects of lines that were decoded before; so only an array can be no object here."""
    lines = (line.strip() for line in block.split(b"\n"))
    return [_RECORD.decode(line) if line[:1] == b"{" else {} for line in lines if line]


class JsonLinesSpelling:
    """An object a row: what is carried, then predictions."""

    between = b""

    def __init__(self, prediction: str) -> None:
        self._prediction = prediction

    def lines(self, kept: Kept, answers: Answers, spread: list[int | None] | None) -> tuple[list[str], bytes]:
        columns = answers.columns(self._prediction)
        names = [name for name, _ in columns]
        rows = list(zip(*(plain(values) for _, values in columns), strict=True))
        if spread is not None:
            none = (None,) * len(names)
            rows = [none if row is None else rows[row] for row in spread]
        carried = kept.as_records(len(rows))
        for name in names:
            if any(name in record for record in carried):
                raise clash_of(name)
        if len(names) == 1:
            records = [{**record, names[0]: row[0]} for record, row in zip(carried, rows, strict=True)]
        else:
            records = [
                {**record, **dict(zip(names, row, strict=True))} for record, row in zip(carried, rows, strict=True)
            ]
        return [], JSON.encode_lines(records)

    def opening(self, names: list[str]) -> bytes:
        return b""

    def closing(self) -> bytes:
        return b""
