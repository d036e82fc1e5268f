"""What it takes to write an output: pieces that any thread makes, put together in order, and taken up again."""

from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from foretell.batch import Answers
from foretell.tables.kept import Kept


@dataclass(frozen=True)
class Part:
    """Some rows of an output. names: its columns. data: their text; batch: or the rows as Arrow has them."""

    rows: int
    names: list[str]
    data: bytes = b""
    batch: pa.RecordBatch | None = None


class Writer(Protocol):
    """Makes the bytes of one output.

    marks: what must be kept, besides the bytes, to go on from them; it only grows. held: whether rows were added whose
    bytes have not come out yet; where not, the output can be taken up from its bytes and marks.
    """

    marks: list[bytes]

    @property
    def held(self) -> bool: ...

    def part(self, kept: Kept, answers: Answers, spread: list[int | None] | None = None) -> Part:
        """A part, made in any thread. spread: for each row which answer is its own, or None; else all in order."""
        ...

    def add(self, part: Part) -> bytes:
        """The bytes that come out when the next part is there."""
        ...

    def resume(self, marks: list[bytes], at: int) -> None:
        """Goes on where a writer stopped that had these marks and whose output has so many bytes."""
        ...

    def end(self) -> bytes:
        """The last bytes. Some part was added before, be it without rows; without one, and of a writer that follows on
        another, there are none."""
        ...

    def following(self) -> "Writer":
        """A writer of another output with the same columns; marks tell of these already."""
        ...

    def rows(self, kept: Kept, answers: Answers) -> bytes:
        """A part, made and added."""
        ...
