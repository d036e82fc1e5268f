"""Which formats there are: their suffixes, content types, readers and writers. One table for files and for bodies."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from foretell.errors import CellWrong, FormatUnknown, InputError
from foretell.rows import RowDecoder
from foretell.tables import compression, json_document
from foretell.tables.apart import Apart, Spot
from foretell.tables.arrow_files import ArrowFile, ArrowStream
from foretell.tables.arrow_ipc import ArrowTable
from foretell.tables.arrow_rows import TableReader
from foretell.tables.csv_header import CsvOptions
from foretell.tables.csv_reader import CsvReader
from foretell.tables.csv_writer import CsvSpelling
from foretell.tables.document_reader import DocumentReader
from foretell.tables.files import Source
from foretell.tables.json_lines import JsonLinesReader, JsonLinesSpelling
from foretell.tables.kept import Keep, Kept, Rows
from foretell.tables.row_groups import RowGroups
from foretell.tables.table_writer import Container, TableWriter
from foretell.tables.text import Position, Text
from foretell.tables.text_writer import TextWriter
from foretell.tables.writer import Writer


@dataclass(frozen=True)
class Format:
    """A format. streamed: whether it can be read and written piece by piece, at any size. text: whether it is text,
    which may be packed as a whole; the others are packed inside."""

    name: str
    suffixes: tuple[str, ...]
    content_types: tuple[str, ...]
    streamed: bool = True
    text: bool = True

    def __reduce__(self) -> tuple[Any, ...]:
        """Each is there once, in another process too."""
        return by_suffix, (f"rows{self.suffixes[0]}", "")


CSV = Format("csv", (".csv",), ("text/csv", "application/csv"))
JSONL = Format(
    "jsonl",
    (".jsonl", ".ndjson"),
    ("application/jsonl", "application/jsonlines", "application/x-ndjson", "application/x-jsonlines"),
)
JSON = Format("json", (".json",), ("application/json",), streamed=False)
PARQUET = Format(
    "parquet", (".parquet", ".pq"), ("application/vnd.apache.parquet", "application/x-parquet"), text=False
)
ARROW = Format("arrow", (".arrow", ".feather", ".ipc"), ("application/vnd.apache.arrow.file",), text=False)
ARROW_STREAM = Format("arrow", (".arrows",), ("application/vnd.apache.arrow.stream",), text=False)
FORMATS = {fmt.name: fmt for fmt in (CSV, JSONL, JSON, PARQUET, ARROW)}
SPELLINGS = (*FORMATS.values(), ARROW_STREAM)
"""With the other way to write Arrow; both are read alike."""

Piece = TypeVar("Piece")


class Reader(Protocol[Piece]):
    """Reads an input in pieces: blocks of bytes, or record batches. no_rows: the carried columns without a row."""

    no_rows: Kept

    def blocks(self, start: Position = (), *, tolerant: bool = False) -> Iterator[Piece]:
        """Unread blocks. start: the position behind a block; from there on come the same blocks as at first, no row
        twice, none lost. tolerant: what is known to be bad before it is read comes as a block, and is no error."""
        ...

    def parse(self, block: Piece) -> Rows:
        """The rows of a block; any thread. Raises InputError, with the place of the first bad row."""
        ...

    def sound(self, block: Piece) -> Rows:
        """The rows of a block in which all is well, by the fast road alone. Raises Unsound."""
        ...

    def place(self, block: Piece, error: CellWrong) -> CellWrong: ...

    def pieces(self, block: Piece) -> list[Piece]:
        """The block in a few smaller ones; just itself where it is to be taken apart."""
        ...

    def around(self, block: Piece, row: int) -> tuple[Piece, Piece, Piece]:
        """What comes before a row, the row, and what comes after."""
        ...

    def apart(self, block: Piece) -> Apart:
        """The rows of a small block, the bad ones apart."""
        ...

    def spot(self, block: Piece, row: int) -> Spot: ...

    def column(self, index: int) -> str:
        """What the input calls a column of the model's."""
        ...


def by_suffix(path: str, what: str) -> Format:
    """The format that a file's name tells, which may end in .gz or .zst. Raises FormatUnknown."""
    inner, codec = compression.split(path)
    suffix = Path(inner).suffix.lower()
    for fmt in SPELLINGS:
        if suffix in fmt.suffixes:
            if codec and not fmt.text:
                raise FormatUnknown(f"{path}: {fmt.name} is compressed inside, not as a whole", f"Name it {inner}")
            return fmt
    known = ", ".join(suffix for fmt in SPELLINGS for suffix in fmt.suffixes)
    raise FormatUnknown(
        f"{path}: the {what}'s format cannot be told from its name", f"Known endings: {known}; .csv.gz and the like"
    )


def by_content_type(kind: str) -> Format | None:
    """The format of a media type, without parameters and in lower case; None for one that is not ours."""
    return next((fmt for fmt in SPELLINGS if kind in fmt.content_types), None)


def content_types() -> list[str]:
    """One for each format, the first of its own."""
    return [fmt.content_types[0] for fmt in SPELLINGS]


def sniffed(head: bytes) -> Format:
    """The format of a stream without a name: by its first bytes, where they tell; else CSV."""
    if head[:4] == b"PAR1":
        return PARQUET
    if head[:6] == b"ARROW1" or head[:4] == b"\xff\xff\xff\xff":
        return ARROW
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start[:1] not in (b"{", b"["):
        return CSV
    first, newline, rest = start.partition(b"\n")
    whole = newline and first.rstrip()[-1:] in (b"}", b"]") and rest.lstrip()[:1] in (b"{", b"[")
    return JSONL if whole else JSON


def reader(
    fmt: Format,
    source: Source,
    decoder: RowDecoder,
    keep: Keep,
    options: CsvOptions,
    limit: int | None = None,
) -> Reader[Any]:
    """A reader of a whole input. limit: bytes that a table may take when unpacked."""
    if fmt is CSV:
        return CsvReader(Text(source, options.encoding), decoder.signature, keep, options)
    if fmt is JSONL:
        return JsonLinesReader(Text(source, options.encoding), decoder, keep)
    if fmt is JSON:
        return _document(Text(source, options.encoding), decoder, keep)
    if fmt is PARQUET:
        from foretell.tables.parquet import ParquetTable

        return TableReader(ParquetTable(source, limit), source.name, decoder.signature, keep, limit)
    return TableReader(ArrowTable(source, limit), source.name, decoder.signature, keep, limit)


def _document(text: Text, decoder: RowDecoder, keep: Keep) -> DocumentReader:
    head = text.peek()
    try:
        return DocumentReader(text, decoder, keep)
    except InputError as error:
        if not error.message.startswith(text.name):
            error.message = f"{text.name}: {error.message}"
        if head.strip() and sniffed(head) is not JSON:
            error.hint = f"It looks like {sniffed(head).name}: -t {sniffed(head).name}"
        raise


def writer(fmt: Format, prediction: str = "prediction", codec: str | None = None) -> Writer:
    """A writer. prediction: the name of the predictions' column. codec: how text is packed."""
    if fmt is CSV:
        return TextWriter(CsvSpelling(prediction), codec)
    if fmt is JSONL:
        return TextWriter(JsonLinesSpelling(prediction), codec)
    if fmt is JSON:
        return TextWriter(json_document.DocumentSpelling(), codec)
    containers: dict[Format, Container] = {PARQUET: RowGroups(), ARROW: ArrowFile(), ARROW_STREAM: ArrowStream()}
    return TableWriter(prediction, containers[fmt])
