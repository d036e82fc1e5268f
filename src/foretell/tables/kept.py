"""The input's columns that the model does not take (ids, keys): carried to the output as they came."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from foretell.batch import Batch
from foretell.errors import FormWrong, InputUnreadable, UsageError
from foretell.signature import Signature, listed
from foretell.tables.spelled import as_text, as_values


@dataclass(frozen=True)
class Keep:
    """Which columns to carry: all that the model does not take, or just those named."""

    names: tuple[str, ...] | None = None

    def choose(self, given: list[str], signature: Signature) -> list[str]:
        """The columns to carry, of those given, in their order. Raises UsageError for one that is not there."""
        taken = set(signature.names) if signature.named else set(given)
        names = [name for name in given if name not in taken] if self.names is None else list(self.names)
        for name in names:
            if name not in given:
                raise UsageError(f"--keep {name}: the input has no such column", f"It has: {listed(given)}")
            if given.count(name) > 1:
                raise FormWrong(f"the input has the column {name!r} twice", "Rename one, or leave it out: --keep")
            if not encodable(name):
                raise InputUnreadable("a column's name holds half of a surrogate pair, which is no text")
        return names


ALL = Keep()
NONE = Keep(())


@dataclass(frozen=True)
class Kept:
    """Carried cells. columns: an Arrow array each, of text where the input is; records: or a JSON object a row."""

    names: list[str] = field(default_factory=list)
    columns: list[pa.Array] = field(default_factory=list)
    records: list[dict[str, msgspec.Raw]] | None = None

    def as_text(self) -> list[pa.Array]:
        """A string array each: JSON strings as their text, null as null, other JSON values as they were written."""
        if self.records is None:
            return [as_text(column) for column in self.columns]
        return [pa.array([_text(row.get(name)) for row in self.records], pa.string()) for name in self.names]

    def as_arrays(self) -> list[pa.Array]:
        """An array each, of the type that the input gave it; text where that gave none."""
        return self.columns if self.records is None else self.as_text()

    def as_records(self, rows: int) -> list[dict[str, Any]]:
        """An object a row, ready for JSON; text stays text."""
        if self.records is not None:
            return list(self.records)
        columns = [as_values(column) for column in self.columns]
        if not columns:
            return [{} for _ in range(rows)]
        return [dict(zip(self.names, cells, strict=True)) for cells in zip(*columns, strict=True)]

    def at(self, rows: Sequence[int | None] | np.ndarray) -> "Kept":
        """The cells of these rows; nulls for None."""
        taken = pa.array(rows, pa.int64())
        records = self.records
        if records is not None:
            records = [{} if row is None else records[row] for row in rows]
        return Kept(self.names, [column.take(taken) for column in self.columns], records)

    @staticmethod
    def concat(parts: Sequence["Kept"]) -> "Kept":
        """All of them, in order; they are of one input."""
        if len(parts) == 1:
            return parts[0]
        columns = [pa.concat_arrays(pieces) for pieces in zip(*(part.columns for part in parts), strict=True)]
        records = [part.records for part in parts if part.records is not None]
        return Kept(parts[0].names, columns, list(chain.from_iterable(records)) if records else None)


def clash_of(name: str) -> UsageError:
    """What to say where a carried column and a prediction have the same name."""
    return UsageError(
        f"the input has a column {name!r} of its own",
        "Name the predictions otherwise: --prediction-column NAME, or leave it out: --keep none",
    )


@dataclass(frozen=True)
class Rows:
    """What a reader makes of a block: rows for the model, and what is carried along."""

    batch: Batch
    kept: Kept

    def slices(self, rows: int) -> "list[Rows]":
        """The same rows in pieces of at most so many."""
        return [self.slice(start, min(start + rows, self.batch.rows)) for start in range(0, self.batch.rows, rows)]

    def slice(self, start: int, stop: int) -> "Rows":
        kept = Kept(
            self.kept.names,
            [column.slice(start, stop - start) for column in self.kept.columns],
            None if self.kept.records is None else self.kept.records[start:stop],
        )
        return Rows(self.batch[start:stop], kept)


def encodable(text: str) -> bool:
    """Whether the text is Unicode; JSON can spell half of a surrogate pair."""
    return text.isascii() or not any("\ud800" <= mark <= "\udfff" for mark in text)


def _text(value: msgspec.Raw | None) -> str | None:
    if value is None:
        return None
    raw = bytes(value)
    if raw[:1] == b'"':
        text = str(json.loads(raw))
        if not encodable(text):
            raise InputUnreadable("a cell holds half of a surrogate pair, which is no text", "Leave it out: --keep")
        return text
    return None if raw == b"null" else raw.decode()
