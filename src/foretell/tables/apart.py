"""Rows that cannot be read, apart from those that can: what a job needs to go on without them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from foretell.batch import Batch
from foretell.tables.kept import Kept


@dataclass(frozen=True)
class Spot:
    """Where a row stands, and how it is written there. line: its first line's number, in a table the row's own, from 1.
    at: how many bytes of text come before it; None in a table."""

    line: int
    at: int | None
    text: str


NOWHERE = Spot(0, None, "")
"""Of a row that is counted, and not shown."""


@dataclass(frozen=True)
class Bad:
    """A row that cannot be predicted. row: its index in its block. column: the name, or None for the whole row."""

    row: int
    column: str | None
    reason: str
    spot: Spot


class Unsound(Exception):
    """A block cannot be read as a whole, or not by the fast road. row: the first that cannot, where it is known."""

    def __init__(self, row: int | None) -> None:
        self.row = row


@dataclass(frozen=True)
class Apart:
    """A block's rows. batch: the good ones. kept: what is carried of all of them, null where that cannot be read.
    spot: where a row stands, by its index among all."""

    count: int
    batch: Batch
    kept: Kept
    bad: tuple[Bad, ...]
    spot: Callable[[int], Spot]

    @property
    def good(self) -> np.ndarray:
        """The good rows' indices."""
        return np.delete(np.arange(self.count), [one.row for one in self.bad])


def joined(parts: Sequence[Apart]) -> Apart:
    """The parts of one block, in order, as one."""
    if len(parts) == 1:
        return parts[0]
    bad, ends, before = [], [], 0
    for part in parts:
        bad += [Bad(before + one.row, one.column, one.reason, one.spot) for one in part.bad]
        before += part.count
        ends.append(before)

    def spot(row: int) -> Spot:
        at = next(at for at, end in enumerate(ends) if row < end)
        return parts[at].spot(row - ends[at] + parts[at].count)

    batches = [part.batch for part in parts if part.batch.rows] or [parts[0].batch]
    return Apart(before, Batch.concat(batches), Kept.concat([part.kept for part in parts]), tuple(bad), spot)
