"""Which formats there are: their suffixes, content types, readers and writers. One table for files and for bodies."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from foretell.batch import Answers
from foretell.errors import CellWrong, FormatUnknown
from foretell.rows import RowDecoder
from foretell.tables import json_document
from foretell.tables.csv_reader import CsvOptions, CsvReader
from foretell.tables.csv_writer import CsvWriter
from foretell.tables.files import Block, Text
from foretell.tables.json_lines import JsonLinesReader, JsonLinesWriter
from foretell.tables.kept import Keep, Kept, Rows


@dataclass(frozen=True)
class Format:
    """A format. streamed: whether it can be read and written piece by piece, at any size."""

    name: str
    suffixes: tuple[str, ...]
    content_types: tuple[str, ...]
    streamed: bool


CSV = Format("csv", (".csv",), ("text/csv", "application/csv"), True)
JSONL = Format(
    "jsonl",
    (".jsonl", ".ndjson"),
    ("application/jsonl", "application/jsonlines", "application/x-ndjson", "application/x-jsonlines"),
    True,
)
JSON = Format("json", (".json",), ("application/json",), False)
FORMATS = {fmt.name: fmt for fmt in (CSV, JSONL, JSON)}


class Reader(Protocol):
    """Reads blocks of one input. kept: the columns that are carried along."""

    kept: list[str]

    def cut(self, data: bytes) -> int: ...

    def parse(self, block: Block) -> Rows: ...

    def place(self, block: Block, error: CellWrong) -> CellWrong: ...


class Writer(Protocol):
    """Makes the bytes of one output: rows in order, no rows at least once, then end."""

    def rows(self, kept: Kept, answers: Answers) -> bytes: ...

    def end(self) -> bytes: ...


def by_suffix(path: str, what: str) -> Format:
    """The format that a file's name tells. Raises FormatUnknown."""
    suffix = Path(path).suffix.lower()
    for fmt in FORMATS.values():
        if suffix in fmt.suffixes:
            return fmt
    known = ", ".join(suffix for fmt in FORMATS.values() for suffix in fmt.suffixes)
    raise FormatUnknown(f"{path}: the {what}'s format cannot be told from its name", f"Known endings: {known}")


def by_content_type(kind: str) -> Format | None:
    """The format of a media type, without parameters and in lower case; None for one that is not ours."""
    return next((fmt for fmt in FORMATS.values() if kind in fmt.content_types), None)


def sniffed(head: bytes) -> Format:
    """The format of a stream without a name: JSON or JSON Lines where it begins like them, else CSV."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start[:1] not in (b"{", b"["):
        return CSV
    first, newline, rest = start.partition(b"\n")
    whole = newline and first.rstrip()[-1:] in (b"}", b"]") and rest.lstrip()[:1] in (b"{", b"[")
    return JSONL if whole else JSON


def reader(fmt: Format, text: Text, decoder: RowDecoder, keep: Keep, options: CsvOptions) -> Reader:
    """A reader for a streamed format."""
    if fmt is CSV:
        return CsvReader(text, decoder.signature, keep, options)
    if fmt is JSONL:
        return JsonLinesReader(text, decoder, keep)
    raise FormatUnknown(f"{fmt.name} is read whole")


def writer(fmt: Format, prediction: str = "prediction") -> Writer:
    """A writer. prediction: the name of the predictions' column."""
    if fmt is CSV:
        return CsvWriter(prediction)
    if fmt is JSONL:
        return JsonLinesWriter(prediction)
    return json_document.DocumentWriter()
