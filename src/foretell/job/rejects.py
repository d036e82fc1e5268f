"""Rows that cannot be predicted: found among the others, told of, counted, and written down."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from foretell.batch import Answers, Batch, Call
from foretell.errors import CellWrong, ForetellError, FormWrong, InputUnreadable, PredictionError, UsageError
from foretell.predictor import Predictor
from foretell.tables.apart import Apart, Bad, Spot, Unsound, joined
from foretell.tables.formats import Reader
from foretell.tables.kept import Rows

STOP, REJECT, NULL = "stop", "reject", "null"
_BUDGET = 20_000
"""Calls of a model that may be spent on the bad rows of one block."""
EXAMPLES = 20
_NEAR, _NEARBY = 3, 256 << 10
"""So many bad rows are cut out of so many bytes one by one; where more are, all rows are looked at."""
_LOOK = 500
"""Calls that may be spent where the job ends anyway, to tell of more than the first bad row."""
_VALUE = re.compile(r'^("(?:[^"\\]|\\.)*"?…?|\S+) (?=is |takes )')
_ENCODER = msgspec.json.Encoder()


def parted(reader: Reader[Any], block: Any) -> Apart:
    """A block's rows, the bad ones apart: what can be read as a whole is, the rest in ever smaller pieces."""
    try:
        return whole(reader, block, reader.sound(block))
    except Unsound as unsound:
        row = unsound.row
    # A row that is just spelled as the fast road does not know is none of the bad ones, and seldom alone.
    if row is None or not reader.apart(reader.around(block, row)[1]).bad:
        try:
            return whole(reader, block, reader.parse(block))
        except (CellWrong, InputUnreadable):
            pass
    return _parted(reader, block, row, _NEAR)


def _parted(reader: Reader[Any], block: Any, row: int | None, near: int) -> Apart:
    """Of a block that is not sound. near: how often a bad row may be cut out by itself, where few are."""
    if row is not None and near and block.weight <= _NEARBY:
        before, one, after = reader.around(block, row)
        parts = [_parts(reader, piece, near - 1) if piece.weight else [] for piece in (before, after)]
        return joined([*parts[0], reader.apart(one), *parts[1]])
    pieces = reader.pieces(block)
    if len(pieces) == 1:
        return reader.apart(block)
    return joined([part for piece in pieces for part in _parts(reader, piece, near)])


def _parts(reader: Reader[Any], piece: Any, near: int) -> list[Apart]:
    try:
        return [whole(reader, piece, reader.sound(piece))]
    except Unsound as unsound:
        return [_parted(reader, piece, unsound.row, near)]


def whole(reader: Reader[Any], block: Any, rows: Rows) -> Apart:
    """A block without bad rows."""
    return Apart(rows.batch.rows, rows.batch, rows.kept, (), lambda row: reader.spot(block, row))


def answered(predictor: Predictor, batch: Batch, call: Call) -> tuple[list[Answers], dict[int, ForetellError]]:
    """The model's answers, in order, and by its index each row that it fails on, found by halving. Raises what is no
    row's fault, and PredictionError where it fails on too many to look for."""
    answers: list[Answers] = []
    failed: dict[int, ForetellError] = {}
    calls = 0
    waiting = [(0, batch.rows)] if batch.rows else []
    first: ForetellError | None = None
    while waiting:
        start, stop = waiting.pop()
        calls += 1
        try:
            answers.append(predictor.predict(batch[start:stop], call))
        except (UsageError, FormWrong):
            raise
        except ForetellError as error:
            first = first or error
            if not predictor.rowwise:
                raise
            if calls > _BUDGET:
                raise PredictionError(
                    f"the model fails on too many rows to look for all of them; the first: {error.message}"
                ) from error
            if stop - start == 1:
                failed[start] = error
            else:
                middle = (start + stop) // 2
                waiting += [(middle, stop), (start, middle)]
    if first is not None and not failed:
        raise first
    return answers, failed


def failing(predictor: Predictor, batch: Batch, call: Call) -> tuple[dict[int, ForetellError], bool]:
    """The first rows that the model fails on, by their index, in order; and whether those are all."""
    failed: dict[int, ForetellError] = {}
    waiting = [(0, batch.rows)]
    for _ in range(_LOOK):
        if not waiting:
            break
        start, stop = waiting.pop()
        try:
            predictor.predict(batch[start:stop], call)
        except ForetellError as error:
            if stop - start == 1:
                failed[start] = error
            else:
                middle = (start + stop) // 2
                waiting += [(middle, stop), (start, middle)]
    return failed, not waiting


@dataclass(frozen=True)
class Place:
    """How a rejected row's place is called. file: the input's name. table: whether it has rows in place of lines."""

    file: str
    table: bool


def lines(bad: Iterable[Bad], place: Place) -> bytes:
    """Rejected rows as JSON Lines."""
    return b"".join(_ENCODER.encode(_record(one, place)) + b"\n" for one in bad)


def _record(bad: Bad, place: Place) -> dict[str, Any]:
    spot = bad.spot
    where = {"row": spot.line} if place.table else {"line": spot.line, "byte": spot.at}
    text: Any = msgspec.Raw(spot.text.encode()) if place.table and spot.text else spot.text
    return {"file": place.file, **where, "column": bad.column, "reason": bad.reason, "text": text}


def examples(bad: Sequence[Bad], place: Place, *, all_known: bool = True) -> tuple[str, ...]:
    """Some of several bad rows, and how many there are of each kind, a line each; none for a single one. all_known:
    whether these are all of the block."""
    if len(bad) < 2:
        return ()
    counts = Counter((one.column, _kind(one.reason)) for one in bad)
    told = [f"{count:>7,} × {_told(column, reason)}" for (column, reason), count in counts.most_common(EXAMPLES)]
    shown = [f"{_where(one.spot, place)}: {_told(one.column, one.reason)}" for one in bad[1:EXAMPLES]]
    more = f"and {len(bad) - EXAMPLES:,} more" if len(bad) > EXAMPLES else ""
    count = f"{'' if all_known else 'at least '}{len(bad):,} bad rows in the block at hand:"
    return (*shown, *([more] if more else []), count, *told)


def _where(spot: Spot, place: Place) -> str:
    return f"{'row' if place.table else 'line'} {spot.line:,}".replace(",", "")


def _told(column: str | None, reason: str) -> str:
    return f"column {column!r}: {reason}" if column is not None else reason


def _kind(reason: str) -> str:
    """A reason without the value that it tells."""
    return _VALUE.sub("", reason)
