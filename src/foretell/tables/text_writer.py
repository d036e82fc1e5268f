"""Rows → text of any spelling, packed or not. Every part is packed by itself, as a member or frame of its own, so that
threads can do so and that an output can be taken up where it stopped."""

import json
from typing import Protocol

from foretell.batch import Answers
from foretell.errors import PredictionError
from foretell.signature import listed
from foretell.tables.compression import packed
from foretell.tables.kept import Kept
from foretell.tables.writer import Part


class Spelling(Protocol):
    """How rows are spelled. between: what stands between two parts with rows."""

    between: bytes

    def lines(self, kept: Kept, answers: Answers, spread: list[int | None] | None) -> tuple[list[str], bytes]:
        """(the columns' names, where each part has the same; the rows)."""
        ...

    def opening(self, names: list[str]) -> bytes: ...

    def closing(self) -> bytes: ...


class TextWriter:
    """Text in order. codec: how it is packed, if it is."""

    held = False

    def __init__(self, spelling: Spelling, codec: str | None = None) -> None:
        self.marks: list[bytes] = []
        self._spelling = spelling
        self._codec = codec
        self._names: list[str] | None = None
        self._opened = False
        self._any = False

    def part(self, kept: Kept, answers: Answers, spread: list[int | None] | None = None) -> Part:
        names, data = self._spelling.lines(kept, answers, spread)
        return Part(len(answers) if spread is None else len(spread), names, self._packed(data))

    def add(self, part: Part) -> bytes:
        if self._names is None:
            self._names = part.names
            self.marks.append(json.dumps(part.names).encode())
        elif part.names != self._names:
            raise PredictionError(
                f"the model first answered with {listed(self._names)}, and then with {listed(part.names)}"
            )
        before = b"" if self._opened else self._spelling.opening(part.names)
        self._opened = True
        if self._any and part.rows:
            before += self._spelling.between
        if part.rows and not self._any:
            self._any = True
            self.marks.append(b"rows")
        return self._packed(before) + part.data

    def resume(self, marks: list[bytes], at: int) -> None:
        self.marks = list(marks)
        self._names = json.loads(marks[0]) if marks else None
        self._opened = at > 0
        self._any = len(marks) > 1

    def end(self) -> bytes:
        return self._packed(self._spelling.closing()) if self._opened else b""

    def following(self) -> "TextWriter":
        other = TextWriter(self._spelling, self._codec)
        other.resume(self.marks[:1], 0)
        return other

    def rows(self, kept: Kept, answers: Answers) -> bytes:
        return self.add(self.part(kept, answers))

    def _packed(self, data: bytes) -> bytes:
        return packed(data, self._codec) if data and self._codec else data
