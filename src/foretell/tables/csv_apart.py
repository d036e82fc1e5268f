"""Which rows of a few CSV records cannot be read, and why: each record by itself, then the cells of a whole column."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from foretell.columns import refusals
from foretell.tables.apart import Apart, Bad, Spot
from foretell.tables.text import UNCLOSED, Block

if TYPE_CHECKING:
    from foretell.tables.csv_reader import CsvReader

Unit = tuple[int, bytes]
"""Where a record begins in its block, and the record."""
Wrong = dict[int, tuple[str | None, str]]
"""By row: the column, or None for the whole row, and the reason."""


def apart(reader: "CsvReader", block: Block) -> Apart:
    """The rows of a block that holds some bad ones."""
    units = list(reader.records.each(block.data))
    wrong, sound = _wrong(reader, units)
    if any(reader.records.runs_on(units[row][1]) for row in wrong):
        units = [part for row, unit in enumerate(units) for part in _lines(reader, unit, bad=row in wrong)]
        wrong, sound = _wrong(reader, units)

    def spot(row: int) -> Spot:
        return block.spot(*units[row])

    good = b"".join(record for row, (_, record) in enumerate(units) if row not in wrong)
    batch = reader.parse(Block(good, block.line)).batch if good else reader.no_batch
    texts = reader.texts(b"".join(units[row][1] for row in sound)) if sound else None
    kept = reader.carried(texts) if texts is not None else reader.no_rows
    at = {row: index for index, row in enumerate(sound)}
    bad = tuple(Bad(row, column, reason, spot(row)) for row, (column, reason) in sorted(wrong.items()))
    return Apart(len(units), batch, kept.at([at.get(row) for row in range(len(units))]), bad, spot)


def _wrong(reader: "CsvReader", units: list[Unit]) -> tuple[Wrong, list[int]]:
    """What is wrong, and which records are at least whole."""
    wrong: Wrong = {}
    for row, (_, record) in enumerate(units):
        if reason := _unsound(reader, record):
            wrong[row] = (None, reason)
    sound = [row for row in range(len(units)) if row not in wrong]
    if sound:
        texts = reader.texts(b"".join(units[row][1] for row in sound))
        for at, column in reader.given():
            for index, reason in refusals(texts.column(str(at)), column, reader.rules).items():
                wrong.setdefault(sound[index], (reader.header[at], reason))
    return wrong, sound


def _unsound(reader: "CsvReader", record: bytes) -> str | None:
    if not reader.records.is_whole(record) or reader.records.runs_on(record):
        return UNCLOSED
    try:
        record.decode()
    except UnicodeDecodeError as error:
        return f"byte 0x{record[error.start]:02x} is no UTF-8"
    return reader.shape_of(record)


def _lines(reader: "CsvReader", unit: Unit, *, bad: bool) -> Iterator[Unit]:
    """The lines of a bad record that runs on, each by itself; else the record."""
    at, record = unit
    if not bad or not reader.records.runs_on(record):
        yield unit
        return
    for line in (part + b"\n" for part in record.removesuffix(b"\n").split(b"\n")):
        if line.strip(b"\r\n"):
            yield at, line
        at += len(line)
