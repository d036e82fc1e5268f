"""Bad rows of every kind, few and many: each good row is predicted, each bad one is told of once, with its place."""

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest

import foretell as package
from conftest import Command

MODEL = Path(package.__file__).parent / "demo" / "iris"
NAMES = ("sepal_length", "sepal_width", "petal_length", "petal_width")
ROWS = 1000
HEADER = f"id,note,{','.join(NAMES)}\n".encode()


@pytest.fixture
def command(command: Command) -> Command:
    """`foretell models predict …` in this very process."""
    return partial(command, "models", "predict", "-m", MODEL)


@dataclass(frozen=True)
class Poison:
    """A kind of bad row. csv: its line, of an id and good cells. reason, column: what is told of it."""

    csv: Callable[[int, list[str]], bytes]
    reason: str
    column: str | None = None


def cell(text: bytes) -> Callable[[int, list[str]], bytes]:
    """A line whose second number is written so."""
    return lambda row, good: f"{row},n,{good[0]},".encode() + text + f",{good[2]},{good[3]}\n".encode()


POISON = {
    "wrong type": Poison(cell(b"tall"), "is not a number", "sepal_width"),
    "missing field": Poison(lambda row, good: f"{row},n,{','.join(good[:3])}\n".encode(), "5 values, and the header"),
    "extra field": Poison(lambda row, good: f"{row},n,{','.join(good)},9\n".encode(), "7 values, and the header has 6"),
    "no UTF-8": Poison(
        lambda row, good: f"{row},".encode() + b"\xff\xfe" + f",{','.join(good)}\n".encode(), "is no UTF-8"
    ),
    "NUL": Poison(cell(b"1.\x005"), "is not a number", "sepal_width"),
    "unclosed quote": Poison(lambda row, good: f'{row},"n,{",".join(good)}\n'.encode(), "never closed"),
    "huge field": Poison(cell(b"x" * 100_000), "is not a number", "sepal_width"),
    "overflow": Poison(cell(b"1e400"), "out of the range", "sepal_width"),
    "hex": Poison(cell(b"0x10"), "is not a number", "sepal_width"),
    "stray return": Poison(lambda row, good: f"{row},a\rb,{','.join(good)}\n".encode(), "a carriage return"),
    "refused by the model": Poison(cell(b"1e39"), "out of the range of the model's float32"),
    "quoted newline": Poison(
        lambda row, good: f'{row},"a\nb",{good[0]},x,{good[2]},1\n'.encode(), "is not", "sepal_width"
    ),
}
RATES = {"none": 0, "one row": ROWS, "0.1 %": 1000, "50 %": 2, "100 %": 1}
"""A bad row comes every so many; with ROWS, just one."""


def rows() -> list[list[str]]:
    numbers = np.random.default_rng(3).uniform(0.1, 7.9, (ROWS, 4))
    return [[f"{value:.1f}" for value in row] for row in numbers]


def is_bad(row: int, rate: str) -> bool:
    every = RATES[rate]
    return row == ROWS // 2 if rate == "one row" else bool(every) and row % every == every - 1


def good_line(row: int, cells: list[str]) -> bytes:
    note = '"a ""b"",\nc"' if row % 5 == 0 else "n"
    return f"{row},{note},{','.join(cells)}\n".encode()


def written(poison: Poison, rate: str, *, notes: bool) -> tuple[bytes, dict[int, tuple[int, int]]]:
    """A CSV file, and of every bad row its line and byte. notes: whether good rows have quotes and newlines too."""
    body, places = HEADER, {}
    for row, cells in enumerate(rows()):
        if is_bad(row, rate):
            places[row] = (body.count(b"\n") + 1, len(body))
            body += poison.csv(row, cells)
        else:
            body += good_line(row, cells) if notes else f"{row},n,{','.join(cells)}\n".encode()
    return body, places


@pytest.fixture(scope="module")
def predictions() -> list[int]:
    """The answers to the good rows."""
    answers: list[int] = package.load(str(MODEL)).predict([[float(c) for c in row] for row in rows()]).tolist()
    return answers


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("kind", POISON)
def test_bad_rows_are_rejected_once(kind: str, rate: str, command: Command, predictions: list[int]) -> None:
    """Every good row is predicted in its place, every bad one is in the rejects once, with line, byte and reason."""
    poison = POISON[kind]
    if kind == "huge field" and rate in ("50 %", "100 %"):
        poison = Poison(cell(b"x" * 2_000), poison.reason, poison.column)
    body, places = written(poison, rate, notes=kind != "unclosed quote")
    Path("in.csv").write_bytes(body)
    ran = command("-i", "in.csv", "-o", "out.csv", "--on-error", "reject", "--max-rejects", "100%", "--threads", 2)
    assert 0 == ran.code, ran.err
    expected = [[row, answer] for row, answer in enumerate(predictions) if not is_bad(row, rate)]
    got = arrow_csv.read_csv("out.csv", parse_options=arrow_csv.ParseOptions(newlines_in_values=True))
    assert expected == [[row["id"], row["prediction"]] for row in got.select(["id", "prediction"]).to_pylist()]
    told = [json.loads(line) for line in rejects()]
    assert list(places.values()) == [(one["line"], one["byte"]) for one in told]
    assert [] == [one for one in told if poison.reason not in one["reason"] or poison.column != one["column"]]
    assert all("in.csv" == one["file"] and str(one["text"]) for one in told)
    assert (f"{len(expected):,} predicted + {len(told):,} rejected" in ran.err) is bool(told)


def rejects() -> list[str]:
    path = Path("out.csv.rejects.jsonl")
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", ["in.csv", "in.jsonl"])
def test_a_null_in_a_required_column(name: str, rate: str, command: Command) -> None:
    """A null where the model takes none is a bad row; the others are predicted as in a file without it."""
    values = [[row, int(float(cells[1])), *map(float, (cells[0], *cells[2:]))] for row, cells in enumerate(rows())]
    names = ("id", NAMES[1], NAMES[0], *NAMES[2:])
    given = [[row[0], None if is_bad(row[0], rate) else row[1], *row[2:]] for row in values]
    ran, expected = [], []
    for source, lines in ((name, given), (f"good-{name}", [row for row in given if row[1] is not None])):
        if name == "in.csv":
            text = [",".join("" if cell is None else str(cell) for cell in row) for row in (names, *lines)]
        else:
            text = [json.dumps(dict(zip(names, row, strict=True))) for row in lines]
        Path(source).write_text("".join(f"{line}\n" for line in text))
        more = ("--cast", "sepal_width=long", "--on-error", "reject", "--max-rejects", "100%")
        ran.append(command("-i", source, "-o", f"{source}.out.csv", *more))
        expected.append(Path(f"{source}.out.csv").read_text() if lines or name == "in.csv" else "")
    assert [0] * len(ran) == [one.code for one in ran], ran[0].err
    assert expected[0].splitlines()[1:] == expected[1].splitlines()[1:]
    told = Path(f"{name}.out.csv.rejects.jsonl")
    records = [json.loads(line) for line in told.read_text().splitlines()] if told.exists() else []
    first = 2 if name == "in.csv" else 1
    assert [row + first for row in range(ROWS) if is_bad(row, rate)] == [one["line"] for one in records]
    assert all(one["column"] == "sepal_width" and "null" in one["reason"] for one in records)


def as_jsonl(bad: Callable[[int], bool]) -> bytes:
    made = []
    for row, cells in enumerate(rows()):
        values: dict[str, Any] = {"id": row, **dict(zip(NAMES, map(float, cells), strict=True))}
        kinds = ({"sepal_width": "tall"}, {"sepal_width": None}, {"sepal_width": 1e39})
        line = json.dumps({**values, **kinds[row % 3]} if bad(row) and row % 5 else values)
        made.append('{"id": 1,' if bad(row) and not row % 5 else line)
    return ("\n".join(made) + "\n").encode()


def as_table(bad: Callable[[int], bool]) -> pa.Table:
    columns = np.array(rows(), "float64").T.copy()
    columns[1][[row for row in range(ROWS) if bad(row)]] = 1e39
    return pa.table({"id": range(ROWS), **dict(zip(NAMES, columns, strict=True))})


def write(name: str, bad: Callable[[int], bool]) -> None:
    if name == "in.jsonl":
        Path(name).write_bytes(as_jsonl(bad))
    elif name == "in.parquet":
        pq.write_table(as_table(bad), name, row_group_size=300)
    else:
        with pa.ipc.new_file(name, as_table(bad).schema) as writer:
            writer.write_table(as_table(bad), 300)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", ["in.jsonl", "in.parquet", "in.arrow"])
def test_bad_rows_of_other_formats(name: str, rate: str, command: Command, predictions: list[int]) -> None:
    """JSON Lines and tables: the same, with lines or rows."""

    def bad(row: int) -> bool:
        # A null in a column of doubles is a missing value, and no bad row.
        return is_bad(row, rate) and not (name == "in.jsonl" and row % 5 and row % 3 == 1)

    write(name, bad)
    ran = command("-i", name, "-o", "out.csv", "--on-error", "reject", "--max-rejects", "100%")
    assert 0 == ran.code, ran.err
    lines = Path("out.csv").read_text().splitlines()[1:]
    assert [f"{row},{answer}" for row, answer in enumerate(predictions) if not bad(row)] == lines
    told = [json.loads(line) for line in rejects()]
    key = "line" if name == "in.jsonl" else "row"
    assert [row + 1 for row in range(ROWS) if bad(row)] == [one[key] for one in told]
    assert all(one["text"] and one["reason"] for one in told)


TARGETS: dict[str, Callable[[], list[Any]]] = {
    "out.csv": lambda: [line.split(",")[2] for line in Path("out.csv").read_text().splitlines()[1:]],
    "out.jsonl": lambda: [json.loads(line)["prediction"] for line in Path("out.jsonl").read_text().splitlines()],
    "out.json": lambda: json.loads(Path("out.json").read_text())["predictions"],
    "out.parquet": lambda: pq.read_table("out.parquet")["prediction"].to_pylist(),
    "out.arrow": lambda: pa.ipc.open_file("out.arrow").read_all()["prediction"].to_pylist(),
}


@pytest.mark.parametrize("target", TARGETS)
def test_rows_keep_their_places_with_nulls(target: str, command: Command, predictions: list[int]) -> None:
    """With --on-error null a bad row has an empty prediction in its place, and is told of in the rejects."""
    body, places = written(POISON["wrong type"], "50 %", notes=False)
    Path("in.csv").write_bytes(body)
    ran = command("-i", "in.csv", "-o", target, "--on-error", "null")
    assert 0 == ran.code, ran.err
    missing = "" if target == "out.csv" else None
    expected = [missing if is_bad(row, "50 %") else answer for row, answer in enumerate(predictions)]
    assert list(map(str, expected)) == list(map(str, TARGETS[target]()))
    assert len(places) == len(Path(f"{target}.rejects.jsonl").read_text().splitlines())
    if target == "out.parquet":
        assert list(range(ROWS)) == [int(text) for text in pq.read_table(target)["id"].to_pylist()]


LIMITS = [("10", 4), ("500", 0), ("499", 4), ("50%", 0), ("49.9%", 4), (None, 0)]


@pytest.mark.parametrize(("limit", "code"), LIMITS, ids=[str(limit) for limit, _ in LIMITS])
def test_more_bad_rows_than_allowed(limit: str | None, code: int, command: Command) -> None:
    """Within --max-rejects the job ends with 0, beyond with 4, and the older output stays; more can be allowed then."""
    Path("in.csv").write_bytes(written(POISON["wrong type"], "50 %", notes=False)[0])
    Path("out.csv").write_text("older")
    given = ("-i", "in.csv", "-o", "out.csv", "--on-error", "reject")
    ran = command(*given, *(["--max-rejects", limit] if limit else []))
    assert code == ran.code, ran.err
    assert ("older" == Path("out.csv").read_text()) is bool(code)
    if code:
        assert f"more than --max-rejects {limit} allows" in ran.err
        assert 0 == command(*given, "--max-rejects", "100%").code
        assert ROWS // 2 + 1 == Path("out.csv").read_text().count("\n")


def test_nothing_but_bad_rows_is_no_success(command: Command) -> None:
    """Where no row at all is good and nothing was said of limits, the job ends with 4."""
    Path("in.csv").write_bytes(written(POISON["wrong type"], "100 %", notes=False)[0])
    ran = command("-i", "in.csv", "-o", "out.csv", "--on-error", "reject")
    assert (4, False) == (ran.code, Path("out.csv").exists()), ran.err
    assert "1,000 of 1,000 rows are bad" in ran.err


def test_a_job_that_stops_tells_of_more_than_the_first(command: Command) -> None:
    """Stopped at the first bad row, the job names it, some others, how many of each kind, and the command to go on."""
    Path("in.csv").write_bytes(written(POISON["wrong type"], "50 %", notes=False)[0])
    ran = command("-i", "in.csv", "-o", "out.csv")
    lines = ran.err.splitlines()
    assert (3, "error: in.csv, line 3, column 'sepal_width': \"tall\" is not a number (double)") == (ran.code, lines[0])
    assert "  line 5: column 'sepal_width': \"tall\" is not a number (double)" == lines[1]
    assert [20, "  and 480 more", "  500 bad rows in the block at hand:"] == [len(lines[1:21]), *lines[20:22]]
    assert "      500 × column 'sepal_width': is not a number (double)" == lines[22]
    assert "--on-error reject" in lines[-1] and "foretell models predict -m" in lines[-1]
    assert 0 == command("-i", "in.csv", "-o", "out.csv", "--on-error", "reject").code


def test_a_job_that_stops_tells_of_more_rows_that_the_model_refuses(command: Command) -> None:
    """So does one whose rows can be read, and are refused by the model; where it would take long to look for all of
    them, it says that there are more."""
    first = "error: in.csv, line 3: a value is out of the range of the model's float32"
    for every, last in ((2, "at least"), (200, "5 bad rows")):
        kinds = [[row, *cells] for row, cells in enumerate(rows())]
        for row in kinds[1::every]:
            row[2] = "1e39"
        lines = [f"id,{','.join(NAMES)}", *(",".join(map(str, row)) for row in kinds)]
        Path("in.csv").write_text("\n".join(lines))
        ran = command("-i", "in.csv", "-o", "out.csv")
        told = ran.err.splitlines()
        assert (3, True) == (ran.code, told[0].startswith(first)), ran.err
        assert told[1].startswith(f"  line {3 + every}: ")
        assert 1 == len([line for line in told if f"  {last}" in line and "in the block at hand:" in line]), ran.err
        assert any("× a value is out of the range" in line for line in told), ran.err


def test_packed_input_tells_the_place_in_its_text(command: Command) -> None:
    """In a packed input lines and bytes are those of its text."""
    body, places = written(POISON["wrong type"], "one row", notes=True)
    Path("in.csv.gz").write_bytes(gzip.compress(body))
    assert 0 == command("-i", "in.csv.gz", "-o", "out.csv", "--on-error", "reject").code
    told = [json.loads(line) for line in rejects()]
    assert list(places.values()) == [(one["line"], one["byte"]) for one in told]


def test_an_older_run_s_rejects_do_not_stay(command: Command) -> None:
    """After a run without bad rows there are no rejects beside its output."""
    for rate, there in (("one row", True), ("none", False)):
        Path("in.csv").write_bytes(written(POISON["wrong type"], rate, notes=False)[0])
        assert 0 == command("-i", "in.csv", "-o", "out.csv", "--on-error", "reject").code
        assert there == Path("out.csv.rejects.jsonl").exists()


REFUSED = {
    "stdout": ["-o", "-", "--on-error", "reject"],
    "limit": ["-o", "out.csv", "--on-error", "reject", "--max-rejects", "few"],
    "share": ["-o", "out.csv", "--on-error", "reject", "--max-rejects", "101%"],
}


@pytest.mark.parametrize("more", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_asked_of_bad_rows(more: list[str], command: Command) -> None:
    """Rejects need a file beside the output, and a limit is a number or a share."""
    Path("in.csv").write_bytes(written(POISON["wrong type"], "none", notes=False)[0])
    assert 2 == command("-i", "in.csv", *more).code


def quotes() -> Iterator[tuple[str, bytes]]:
    yield "plain", b"1,2\n" * 5
    yield "a mark inside", b'5" pipe,2\n' * 5
    yield "quoted newline", b'"a\nb",2\n3,4\n'
    yield "doubled", b'"a""b","c"\n"""",""\n'
    yield "goes on after", b'"a"x"y,2\n1,2\n'
    yield "open", b'1,2\n"a,b\n1,2\n'
    yield "return", b'1,"a"\r\n"b\r\n",2\r\n'


@pytest.mark.parametrize(("text"), [text for _, text in quotes()], ids=[name for name, _ in quotes()])
def test_records_end_where_a_state_machine_says(text: bytes) -> None:
    """Counting quotes finds the same last record as reading mark by mark does, wherever the text is cut."""
    from foretell.tables.csv_records import Records

    records = Records(",")
    for end in range(len(text) + 1):
        assert records._walk(text[:end]) == records.last(text[:end]), text[:end]
