"""How a command reads its input, and what it asks of the model besides the rows: the options for that, and what they
mean."""

import csv
from typing import Any

import click

from foretell.cells import NULLS, TextRules
from foretell.cli.main import Decorated
from foretell.errors import InputUnreadable, UsageError
from foretell.strict_json import strict_json
from foretell.tables import formats
from foretell.tables.csv_header import CsvOptions
from foretell.tables.text import decoder

_PARAMS_HINT = """For example: --params '{"alpha": 0.5}'"""
OPTIONS = (
    click.option(
        "-t",
        "--content-type",
        type=click.Choice(list(formats.FORMATS)),
        help="The input's format, else by its ending.",
    ),
    click.option("--proba", is_flag=True, help="Class probabilities too, a column a class."),
    click.option("--params", default="{}", metavar="JSON", help="Parameters of the prediction, as a JSON object."),
    click.option(
        "--null-values",
        metavar="A,B",
        help="Words for null in columns that are not strings, besides an empty cell.",
    ),
    click.option("--encoding", default="utf-8", show_default=True, help="The input's encoding."),
    click.option(
        "--decimal", default=".", show_default=True, type=click.Choice([".", ","]), help="CSV's decimal mark."
    ),
    click.option("--delimiter", help="CSV's delimiter, one character.  [default: , ; tab or |, by the header]"),
    click.option(
        "--no-header", is_flag=True, help="CSV begins with a row; its columns are the model's, in their order."
    ),
    click.option("--columns", metavar="A,B", help="The columns of CSV that has no header, where they are others."),
)
NAMES = {
    "content_type": "-t",
    **{
        name: f"--{name.replace('_', '-')}"
        for name in ("proba", "params", "null_values", "encoding", "decimal", "delimiter", "no_header", "columns")
    },
}
"""The options by the names of their values."""


def reading_options(function: Decorated) -> Decorated:
    """What every command that reads a file of rows takes."""
    for one in reversed(OPTIONS):
        function = one(function)
    return function


def csv_options(given: dict[str, Any]) -> CsvOptions:
    """How the text is written. Raises UsageError."""
    decoder(given["encoding"])
    return CsvOptions(
        TextRules(_nulls(given["null_values"]), given["decimal"]),
        None if given["delimiter"] is None else _delimiter(given["delimiter"]),
        given["encoding"],
        _columns(given["no_header"], given["columns"]),
    )


def params(said: str) -> dict[str, Any]:
    """--params. Raises UsageError."""
    try:
        found = strict_json(said.encode("utf-8", "surrogateescape"))
    except InputUnreadable as error:
        raise UsageError(f"--params: {error.message}", _PARAMS_HINT) from error
    if not isinstance(found, dict):
        raise UsageError("--params: expected a JSON object", _PARAMS_HINT)
    return found


def _nulls(said: str | None) -> tuple[str, ...]:
    return NULLS if said is None else ("", *_words("--null-values", said))


def _delimiter(said: str) -> str:
    said = said.replace("\\t", "\t")
    if len(said) != 1 or not said.isascii() or said in '"\n\r':
        raise UsageError(f"--delimiter {said!r}: expected one ASCII character")
    return said


def _columns(no_header: bool, said: str | None) -> tuple[str, ...] | None:
    if said is None:
        return () if no_header else None
    return _words("--columns", said)


def _words(option: str, said: str) -> tuple[str, ...]:
    """Words with commas between them, in quotes as CSV has them where they hold some."""
    try:
        return tuple(next(csv.reader([said]), []))
    except csv.Error as error:
        raise UsageError(f"{option} {said!r}: {error}", f"For example: {option} 'A,B,\"C, D\"'") from error
