"""A JSON document as an input of a job: read whole, within a limit, and then predicted in pieces."""

from collections.abc import Iterator
from dataclasses import dataclass

from foretell.errors import CellWrong, UsageError
from foretell.rows import RowDecoder
from foretell.tables import json_document
from foretell.tables.apart import Apart, Spot
from foretell.tables.kept import Keep, Rows
from foretell.tables.text import Position, Text

_MAX_DOCUMENT = 256 << 20
_SLICE = 65_536


@dataclass(frozen=True)
class Piece:
    """Some rows of a document. row: the first one's index. weight: about what they take in memory."""

    rows: Rows
    row: int
    weight: int
    after: Position


class DocumentReader:
    """Reads a document. Raises InputError. params: the parameters that it asks for."""

    def __init__(self, text: Text, decoder: RowDecoder, keep: Keep) -> None:
        self.body = text.all(_MAX_DOCUMENT)
        document = json_document.read(self.body, decoder, keep)
        self.params = document.params
        self.no_rows = document.rows.kept.at([])
        self._rows = document.rows
        self._names = decoder.signature.names
        self._path = f"{text.name}: $.{document.form}"

    def blocks(self, start: Position = (), *, tolerant: bool = False) -> Iterator[Piece]:
        (first,) = start or (0,)
        count = max(1, -(-self._rows.batch.rows // _SLICE))
        for at in range(first, count):
            piece = self._rows.slice(at * _SLICE, min((at + 1) * _SLICE, self._rows.batch.rows))
            yield Piece(piece, at * _SLICE, len(self.body) // count, (at + 1,))

    def parse(self, block: Piece) -> Rows:
        return block.rows

    def place(self, block: Piece, error: CellWrong) -> CellWrong:
        placed = CellWrong(error.row, error.column, error.reason, error.hint)
        placed.message = f"{self._path}[{block.row + error.row}]: {error.reason}"
        return placed

    def sound(self, block: Piece) -> Rows:
        return block.rows

    def around(self, block: Piece, row: int) -> tuple[Piece, Piece, Piece]:
        return block, block, block

    def pieces(self, block: Piece) -> list[Piece]:
        return [block]

    def apart(self, block: Piece) -> Apart:
        raise UsageError("rows of a JSON document do not stand alone", "Use JSON Lines, one row a line (.jsonl)")

    def spot(self, block: Piece, row: int) -> Spot:
        return Spot(block.row + row + 1, None, "")

    def column(self, index: int) -> str:
        return self._names[index]
