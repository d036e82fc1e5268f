"""CSV as people have it: delimiters, marks, encodings, a header or none; the same in a file and in a request."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import pytest

from conftest import Command, Server, serving
from foretell.cells import Column, TextRules
from foretell.signature import Signature
from foretell.tables.csv_header import CsvOptions, delimiter_of
from foretell.tables.text import Text

MODEL = files("foretell") / "demo" / "iris"
NAMES = ("sepal_length", "sepal_width", "petal_length", "petal_width")
ROWS = (("a", "5.1", "3.5", "1.4", "0.2"), ("b", "6.7", "3.0", "5.2", "2.3"), ("c", "5.9", "3.0", "4.2", "1.5"))
ANSWERS = ["0", "2", "1"]


def text(delimiter: str = ",", end: str = "\n", *, header: bool = True, ids: bool = True, decimal: str = ".") -> str:
    """The rows. ids: with a column that the model does not take."""
    lines = [("id", *NAMES), *ROWS] if header else ROWS
    cells = ([cell.replace(".", decimal) for cell in (line if ids else line[1:])] for line in lines)
    return "".join(delimiter.join(line) + end for line in cells)


@dataclass(frozen=True)
class Dialect:
    """A way to write the rows. more: what the command is told of it; kind: what a request is, where one can."""

    body: bytes
    more: tuple[str, ...] = ()
    kind: str | None = "text/csv"
    said: str = ""


def told(delimiter: str) -> str:
    return f"note: reading {delimiter!r} as the delimiter"


NONE = ("--no-header",)
ABSENT = "text/csv; header=absent"
GIVEN = ("--columns", ",".join(("id", *NAMES)))
DIALECTS = {
    "comma": Dialect(text().encode()),
    "semicolon": Dialect(text(";").encode(), said=told(";")),
    "tab": Dialect(text("\t").encode(), said=told("\t")),
    "pipe": Dialect(text("|").encode(), said=told("|")),
    "colon": Dialect(text(":").encode(), ("--delimiter", ":"), None),
    "said": Dialect(text(";").encode(), ("--delimiter", ";"), None),
    "decimal comma": Dialect(text(";", decimal=",").encode(), ("--decimal", ","), None, told(";")),
    "byte order mark": Dialect(b"\xef\xbb\xbf" + text().encode()),
    "mark and semicolon": Dialect(b"\xef\xbb\xbf" + text(";").encode(), said=told(";")),
    "windows": Dialect(text(";", "\r\n").encode(), said=told(";")),
    "old mac": Dialect(text(end="\r").encode()),
    "blank lines": Dialect(b"\n\r\n" + text("\t").replace("\n", "\n\n").encode(), said=told("\t")),
    "utf-16": Dialect(text(";").encode("utf-16"), ("--encoding", "utf-16"), None, told(";")),
    "latin-1": Dialect(
        text("|").replace("id|", "Gr\xf6\xdfe|").encode("latin-1"), ("--encoding", "latin-1"), None, told("|")
    ),
    "quoted commas": Dialect(text(";").replace("id;", '"id, of, a, row";').encode(), said=told(";")),
    "quoted newlines": Dialect(text(";").replace("a;", '"a;\n,a";').replace("id;", '"i\nd";').encode(), said=told(";")),
    "no end": Dialect(text("|").rstrip().encode(), said=told("|")),
    "no header": Dialect(text(header=False, ids=False).encode(), NONE, ABSENT),
    "no header, semicolon": Dialect(text(";", header=False, ids=False).encode(), NONE, ABSENT, told(";")),
    "no header, no rows": Dialect(b"", NONE, ABSENT),
    "columns": Dialect(text("\t", header=False).encode(), GIVEN, None, told("\t")),
    "said header": Dialect(text().encode(), (), 'text/csv; header="present"; charset=UTF-8'),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("-m", MODEL) as running:
        yield running


@pytest.mark.parametrize("name", DIALECTS)
def test_a_dialect_is_read_in_files_and_in_requests(name: str, command: Command, server: Server) -> None:
    """However the rows are written, their answers are the same, and a request's body means what a file does; a found
    delimiter is said where it is no comma."""
    dialect = DIALECTS[name]
    Path("in.csv").write_bytes(dialect.body)
    ran = command("models", "predict", "-m", MODEL, "-i", "in.csv", "-o", "out.csv", "--keep", "none", *dialect.more)
    assert 0 == ran.code, ran.err
    expected = ["prediction", *(ANSWERS if dialect.body else [])]
    assert expected == Path("out.csv").read_text().splitlines()
    assert ([dialect.said] if dialect.said else []) == ran.err.splitlines()[:-1]
    if dialect.kind is not None:
        reply = server.post(dialect.body, dialect.kind, Accept="text/csv")
        assert (200, expected) == (reply.status, reply.body.decode().splitlines())


NAMED = Signature(tuple(Column(name, "double") for name in ("x", "y")))
ONE = Signature((Column("x", "double"),))
POSITIONS = Signature.unnamed(3)
NO_HEADER, DECIMAL = CsvOptions(columns=()), CsvOptions(TextRules(decimal=","))
FOUND = {
    "by name": ("x;y,a,b,c\n", NAMED, CsvOptions(), ";"),
    "most names": ("x;a,x,y;b\n", NAMED, CsvOptions(), ","),
    "a name with marks": ("a;b;c,x,y\n", NAMED, CsvOptions(), ","),
    "one column": ("x\n", ONE, CsvOptions(), ","),
    "one column among others": ("a;x\n", ONE, CsvOptions(), ";"),
    "no name of them": ("a|b\n", NAMED, CsvOptions(), "|"),
    "no name, in doubt": ("a,b;c;d\n", NAMED, CsvOptions(), ","),
    "by number": ("a;b,;c\n", POSITIONS, CsvOptions(), ";"),
    "by number, in doubt": ("a;b,c\n", POSITIONS, CsvOptions(), ","),
    "quotes": ('"a,b,c";"d|e|f";g\n', POSITIONS, CsvOptions(), ";"),
    "open quote": ('"a;b;c\n', POSITIONS, CsvOptions(), ","),
    "by number, a column of text": ("some; words\n", Signature.unnamed(1, "string"), CsvOptions(), ","),
    "nothing": ("", NAMED, CsvOptions(), ","),
    "no header": ("1,5\t2\t3\n", POSITIONS, NO_HEADER, "\t"),
    "no header, one column": ("1;5\n", ONE, NO_HEADER, ","),
    "decimal comma": ("x\n", ONE, DECIMAL, ";"),
    "decimal comma, commas": ("x,y\n", NAMED, DECIMAL, ","),
    "said": ("x;y\n", NAMED, CsvOptions(delimiter=":"), ":"),
}


@pytest.mark.parametrize(("head", "signature", "options", "delimiter"), FOUND.values(), ids=FOUND)
def test_the_first_record_tells_the_delimiter(
    head: str, signature: Signature, options: CsvOptions, delimiter: str
) -> None:
    """The model's columns are the strongest evidence, by name or by number; quotes are heeded; in doubt the comma."""
    assert delimiter == delimiter_of(Text.of(head.encode(), "in.csv"), signature, options)


REFUSED: dict[str, tuple[Callable[[], bytes], list[str], int, list[str]]] = {
    "no header said": (
        lambda: text(header=False, ids=False).encode(),
        [],
        3,
        ["line 1: the first line holds numbers, not names", "--no-header", "text/csv; header=absent"],
    ),
    "numbers and a label": (lambda: text(header=False).encode(), [], 3, ["holds numbers", "--no-header"]),
    "a column too many": (lambda: text(header=False).encode(), ["--no-header"], 3, ["line 1: 5 values", "--columns"]),
    "a header said away": (lambda: text(ids=False).encode(), ["--no-header"], 3, ["line 1", "'sepal_length'"]),
    "columns without the model's": (
        lambda: text(header=False).encode(),
        ["--columns", "id,a,b,c,d"],
        3,
        ["'sepal_length' is missing", "id, a, b, c, d"],
    ),
    "another delimiter said": (
        lambda: text(";").encode(),
        ["--delimiter", ","],
        3,
        ["looks separated by ';'", "--delimiter ';'"],
    ),
    "UTF-16 unsaid": (lambda: text().encode("utf-16"), [], 3, ["UTF-16", "--encoding utf-16"]),
    "latin-1 unsaid": (lambda: text().replace("id,", "Gr\xf6,").encode("latin-1"), [], 3, ["--encoding cp1252"]),
}


@pytest.mark.parametrize(("body", "more", "code", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_as_it_was_said(
    body: Callable[[], bytes], more: list[str], code: int, said: list[str], command: Command
) -> None:
    """A text that is written otherwise than it was said to be is refused, with what to say."""
    Path("in.csv").write_bytes(body())
    ran = command("models", "predict", "-m", MODEL, "-i", "in.csv", "-o", "out.csv", *more)
    assert (code, False) == (ran.code, Path("out.csv").exists())
    assert [] == [part for part in said if part not in ran.err], ran.err


def test_all_files_of_a_job_are_written_alike(command: Command) -> None:
    """The first file's delimiter is that of all; one that is written otherwise is refused by its name."""
    Path("day").mkdir()
    for name, delimiter in (("a", ";"), ("b", ";"), ("c", ",")):
        Path(f"day/{name}.csv").write_text(text(delimiter))
    given = ("models", "predict", "-m", MODEL, "-o", "out.csv", "-i")
    assert 0 == command(*given, "day/[ab].csv").code
    assert [f"{row[0]},{answer}" for row, answer in zip(ROWS, ANSWERS, strict=True)] * 2 == Path(
        "out.csv"
    ).read_text().splitlines()[1:]
    ran = command(*given, "day")
    assert (3, True) == (ran.code, "day/c.csv: the column 'sepal_length' is missing" in ran.err), ran.err


def test_a_request_whose_header_is_neither(server: Server) -> None:
    """header= knows two words."""
    reply = server.post(text(), "text/csv; header=maybe")
    assert (400, True) == (reply.status, b"present or absent" in reply.body), reply.body
