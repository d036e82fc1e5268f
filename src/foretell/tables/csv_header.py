"""How a CSV text is written, and what its columns are called: as was said, or as its first record tells."""

import csv
import re
from dataclasses import dataclass

from foretell.cells import TextRules
from foretell.errors import FormWrong, InputUnreadable
from foretell.signature import Signature, check_names, listed, miscounted
from foretell.tables.csv_records import Records
from foretell.tables.text import Text

DELIMITERS = ",;\t|"
ENCODING_HINT = "Say which encoding it has, for example --encoding cp1252"
_MOST = 1 << 20
_NUMERIC = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)


@dataclass(frozen=True)
class CsvOptions:
    """How text is written: the cells of CSV, its delimiter (one ASCII character; None for what the first record tells),
    any text's encoding. columns: of a text without a header; () for the model's own."""

    rules: TextRules = TextRules()
    delimiter: str | None = None
    encoding: str = "utf-8"
    columns: tuple[str, ...] | None = None


def delimiter_of(text: Text, signature: Signature, options: CsvOptions) -> str:
    """What separates the cells. Told by the first record: whatever gives most of the model's columns, by name or, where
    they count by position, by number; in doubt the comma, and the semicolon where that is the decimal mark."""
    if options.delimiter is not None:
        return options.delimiter
    preferred = DELIMITERS if options.rules.decimal != "," else DELIMITERS[1:] + DELIMITERS[0]
    start = text.peek()[:_MOST].lstrip(b"\r\n") + b"\n"
    best, most = preferred[0], (0, False)
    for delimiter in preferred:
        found = _evidence(_first(start, delimiter), signature, options)
        if found > most:
            best, most = delimiter, found
        if most[0] == len(signature.inputs):
            break
    return best


def names_of(text: Text, signature: Signature, options: CsvOptions, records: Records) -> list[str]:
    """What the columns are called. The header, where there is one, is taken from the text."""
    if options.columns is not None:
        return list(options.columns) or signature.names
    block = text.record(records.first)
    while block is not None and not block.data.strip():
        block = text.record(records.first)
    if block is None:
        raise InputUnreadable(f"{text.name} is empty", f"A header comes first: {listed(signature.names)}")
    place = f"{text.name}, line {block.line}"
    try:
        header = next(csv.reader([block.data.decode()], delimiter=records.delimiter))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputUnreadable(f"{place}: the header cannot be read: {error}", ENCODING_HINT) from error
    if b"\0" in block.data:
        raise InputUnreadable(f"{text.name} holds NUL bytes; it may be UTF-16", "Say so: --encoding utf-16-le")
    if not records.is_whole(block.data):
        raise InputUnreadable(f"{place}: a quote is opened in the header and never closed")
    if _is_data(header, signature):
        raise FormWrong(
            f"{place}: the first line holds numbers, not names",
            f"A header comes first: {listed(signature.names)}. Where there is none, say so: --no-header, "
            "in a request text/csv; header=absent",
        )
    return header


def positions(name: str, header: list[str], signature: Signature, options: CsvOptions) -> list[int | None]:
    """Where each input stands in a file of that name; None for one that may be absent, and is."""
    if not signature.tabular:
        raise FormWrong("the model takes tensors, which CSV cannot hold", "Send JSON, Parquet or Arrow")
    if not signature.named:
        if len(header) != len(signature.inputs):
            raise miscounted(signature, f"{name} has {len(header)}", _delimiter_hint(header, options))
        return list(range(len(header)))
    try:
        check_names(signature, header)
    except FormWrong as error:
        raise FormWrong(f"{name}: {error.message}", _delimiter_hint(header, options) or error.hint) from error
    for column in signature.names:
        if header.count(column) > 1:
            raise FormWrong(f"{name} has the column {column!r} twice", "Which one is meant? Rename the other")
    return [header.index(column) if column in header else None for column in signature.names]


def _first(start: bytes, delimiter: str) -> list[str]:
    """The cells of the first record; none where it cannot be read so."""
    end = Records(delimiter).first(start) or start.index(b"\n") + 1
    try:
        return next(csv.reader([start[:end].decode("utf-8", "replace")], delimiter=delimiter))
    except (csv.Error, StopIteration):
        return []


def _evidence(names: list[str], signature: Signature, options: CsvOptions) -> tuple[int, bool]:
    """How many of the model's columns the cells stand for; and whether they are several names, whatever they name."""
    if options.columns is None and signature.named:
        return len(set(names) & set(signature.names)), len(names) > 1
    count = len(options.columns or signature.inputs)
    return (len(signature.inputs) if len(names) == count > 1 else 0), False


def _is_data(header: list[str], signature: Signature) -> bool:
    """Whether a header looks like a row: none of its names is the model's, and all of them, or where names count any,
    are numbers."""
    numbers = [_NUMERIC.fullmatch(name) is not None for name in header]
    if signature.named:
        return any(numbers) and not set(signature.names) & set(header)
    return all(numbers) and not set(signature.names) <= set(header)


def _delimiter_hint(header: list[str], options: CsvOptions) -> str:
    for other in DELIMITERS:
        if len(header) == 1 and other in header[0] and options.delimiter not in (None, other):
            return f"The header looks separated by {other!r}: --delimiter {other!r}"
    return ""
