"""JSON Lines ⇄ rows: an object a line, or an array in column order."""

from collections.abc import Iterator

import msgspec
import pyarrow as pa

from foretell.batch import Answers, plain
from foretell.errors import CellWrong, InputUnreadable
from foretell.rows import RowDecoder, place_in_json
from foretell.strict_json import strict_json
from foretell.tables.files import Block, Text
from foretell.tables.kept import Keep, Kept, Rows, clash_of
from foretell.tables.spelled import JSON

_RECORD = msgspec.json.Decoder(dict[str, msgspec.Raw])


class JsonLinesReader:
    """Reads rows a line each. For a table, the columns to carry are those of the first line."""

    def __init__(self, text: Text, decoder: RowDecoder, keep: Keep) -> None:
        self._name = text.name
        self._text = text
        self._decoder = decoder
        self._keep = keep
        self.kept = self._choose(text)
        self.no_rows = Kept(self.kept, [pa.nulls(0, pa.string()) for _ in self.kept])

    def blocks(self) -> Iterator[Block]:
        return self._text.blocks(self.cut)

    def cut(self, data: bytes) -> int:
        return data.rfind(b"\n") + 1

    def parse(self, block: Block) -> Rows:
        """The rows of a block. Raises InputError, with the line of the first bad row."""
        try:
            batch = self._decoder.lines(block.data)
        except CellWrong as error:
            raise self.place(block, error) from error
        return Rows(batch, self._carried(block, batch.rows))

    def place(self, block: Block, error: CellWrong) -> CellWrong:
        """The error with file, line and JSON path."""
        lines = [at for at, line in enumerate(block.data.split(b"\n")) if line.strip()]
        where = f"{self._name}, line {block.line + lines[error.row]}"
        if error.column is None:
            return error.at(where)
        record = block.data.split(b"\n")[lines[error.row]].lstrip()[:1] == b"{"
        path = place_in_json("$", error, self._decoder.signature, record).message
        return error.at(f"{where}, ${path.removeprefix(f'$[{error.row}]').rpartition(': ' + error.reason)[0]}")

    def _choose(self, text: Text) -> list[str]:
        first = next((line for line in text.peek().split(b"\n") if line.strip()), b"")
        if not first.lstrip().startswith(b"{"):
            return []
        try:
            given = list(strict_json(first))
        except InputUnreadable:
            return []
        return self._keep.choose(given, self._decoder.signature)

    def _carried(self, block: Block, rows: int) -> Kept:
        """Raw values by name, row by row; a row that is an array carries none."""
        if self._keep.names == ():
            return Kept([], [], [{} for _ in range(rows)])
        records = _raw_records(block.data)
        if self._keep.names is not None:
            chosen = set(self._keep.names)
            return Kept(self.kept, [], [{n: v for n, v in row.items() if n in chosen} for row in records])
        taken = set(self._decoder.signature.names)
        return Kept(self.kept, [], [{n: v for n, v in row.items() if n not in taken} for row in records])


def _raw_records(block: bytes) -> list[dict[str, msgspec.Raw]]:
    """The objects of lines that were decoded before; so only an array can be no object here."""
    try:
        return _RECORD.decode_lines(block)
    except msgspec.DecodeError:
        lines = (line.strip() for line in block.split(b"\n"))
        return [_RECORD.decode(line) if line[:1] == b"{" else {} for line in lines if line]


class JsonLinesWriter:
    """An object a row: what is carried, then predictions."""

    def __init__(self, prediction: str) -> None:
        self._prediction = prediction

    def rows(self, kept: Kept, answers: Answers) -> bytes:
        columns = answers.columns(self._prediction)
        names = [name for name, _ in columns]
        cells = zip(*(plain(values) for _, values in columns), strict=True)
        records = []
        for carried, row in zip(kept.as_records(len(answers)), cells, strict=True):
            if clash := carried.keys() & set(names):
                raise clash_of(min(clash))
            records.append({**carried, **dict(zip(names, row, strict=True))})
        return JSON.encode_lines(records)

    def end(self) -> bytes:
        return b""
