"""The cell grammar: the table of bad cells through every way in, and text against JSON against Arrow, fuzzed."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import foretell as library
from conftest import Server, foretell, serving
from foretell.batch import Batch
from foretell.cells import Column
from foretell.errors import InputError
from foretell.rows import RowDecoder
from foretell.signature import Signature
from foretell.tables import csv_reader, json_lines
from foretell.tables.csv_header import CsvOptions
from foretell.tables.csv_reader import CsvReader
from foretell.tables.json_lines import JsonLinesReader
from foretell.tables.kept import NONE
from foretell.tables.text import Text

COLUMNS = ("age", "city", "visits", "level", "score", "member")
GOOD = {"age": "41.5", "city": '"Oslo"', "visits": "3", "level": "2", "score": "0.5", "member": "true"}


@dataclass(frozen=True)
class Bad:
    """One cell that fits nowhere. text: in CSV, value: in JSON; None where there is none. says: in the message."""

    column: str
    text: str | None
    value: str | None
    says: str


BAD_CELLS = [
    Bad("age", "abc", None, '"abc" is not a number (double)'),
    Bad("age", None, '"3"', '"3" is not a number (double)'),
    Bad("age", "true", "true", "true"),
    Bad("age", "inf", None, '"inf" is not a number (double)'),
    Bad("age", "1e400", "1e400", "1e400 is out of the range of a double"),
    Bad("age", "0x10", None, '"0x10" is not a number (double)'),
    Bad("age", "1_000", None, '"1_000" is not a number (double)'),
    Bad("city", None, "5", "5 is not a string"),
    Bad("city", None, "true", "true is not a string"),
    Bad("visits", "1.5", "1.5", "1.5 is not a whole number (long)"),
    Bad("visits", "", "null", "--cast visits=double"),
    Bad("visits", "NA", None, "a long column takes no nulls"),
    Bad("visits", "0x10", None, '"0x10" is not a whole number (long)'),
    Bad("visits", None, '"3"', '"3" is not a whole number (long)'),
    Bad("visits", "true", "true", "true"),
    Bad("visits", "9223372036854775808", "9223372036854775808", "out of the range of a long"),
    Bad("visits", "9007199254740993.0", "9007199254740993.0", "too large to be exact"),
    Bad("level", "2147483648", "2147483648", "2147483648 is out of the range of an integer"),
    Bad("score", "1e39", "1e39", "out of the range of a float"),
    Bad("member", "yes", None, '"yes" is not a boolean'),
    Bad("member", None, "1", "1 is not a boolean"),
    Bad("member", "", "null", "a boolean column takes no nulls"),
]


@pytest.fixture(scope="module")
def people(models: Path) -> Path:
    return models / "pipeline"


@pytest.fixture(scope="module")
def server(people: Path) -> Iterator[Server]:
    with serving("-m", people, "--trust") as running:
        yield running


@pytest.fixture(scope="module")
def opened(people: Path) -> library.Model:
    return library.load(str(people), trust=True)


@pytest.mark.parametrize("bad", BAD_CELLS, ids=lambda bad: f"{bad.column}-{bad.text}-{bad.value}")
def test_a_bad_cell_is_refused_every_way(bad: Bad, server: Server, opened: library.Model) -> None:
    """One bad cell is refused with its place, whichever way it comes, and the good row before it changes nothing."""
    if bad.text is not None:
        reply = server.post(_csv_body(bad), "text/csv")
        assert (400, "INVALID_PARAMETER_VALUE") == (reply.status, reply.json()["error_code"])
        assert f"body, line 3, column '{bad.column}': " in reply.json()["message"]
        assert bad.says in reply.json()["message"]
    if bad.value is not None:
        at = COLUMNS.index(bad.column)
        bodies = {
            f"$.data[1][{at}] ({bad.column})": _document("data", _row(GOOD), _row(GOOD, bad)),
            f"$.dataframe_records[1].{bad.column}": _document("dataframe_records", _record(GOOD), _record(GOOD, bad)),
            f"body, line 2, $.{bad.column}": f"{_record(GOOD)}\n{_record(GOOD, bad)}",
        }
        for place, body in bodies.items():
            kind = "application/jsonl" if "line" in place else "application/json"
            reply = server.post(body, kind)
            assert (400, place) == (reply.status, reply.json()["message"].partition(": ")[0])
            assert bad.says in reply.json()["message"]
        sink = pa.BufferOutputStream()
        cells_ = json.loads(_record(GOOD, bad)).items()
        arrays = {name: pa.array([cell], pa.uint64() if cell == 2**63 else None) for name, cell in cells_}
        pq.write_table(pa.table(arrays), sink)
        reply = server.post(sink.getvalue().to_pybytes(), "application/vnd.apache.parquet")
        assert (400, f"body, row 1, column '{bad.column}'") == (
            reply.status,
            reply.json()["message"].partition(": ")[0],
        )
        rows = [json.loads(_row(GOOD)), json.loads(_row(GOOD, bad))]
        with pytest.raises(InputError, match=f"row 1, column '{bad.column}'"):
            opened.predict(rows)


@pytest.mark.parametrize("bad", [BAD_CELLS[0], BAD_CELLS[10]], ids=["text", "null"])
def test_a_bad_cell_stops_a_job_and_is_named(bad: Bad, people: Path) -> None:
    """A job names file, line and column, exits with 3, and leaves no output."""
    Path("in.csv").write_text(_csv_body(bad))
    ran = foretell("models", "predict", "-m", people, "--trust", "-i", "in.csv", "-o", "out.csv")
    assert 3 == ran.code
    assert f"in.csv, line 3, column '{bad.column}': " in ran.err
    assert not Path("out.csv").exists()


def test_cast_reads_blanks_in_a_long_column(people: Path) -> None:
    """The corrected command that the error names works, in both ways."""
    bad = Bad("visits", "", "null", "")
    Path("in.csv").write_text(_csv_body(bad))
    flags = ("-m", people, "--trust", "--cast", "visits=double")
    ran = foretell("models", "predict", *flags, "-i", "in.csv", "--keep", "none")
    assert (0, 3) == (ran.code, len(ran.out.splitlines()))
    with serving(*flags) as running:
        reply = running.post(_csv_body(bad), "text/csv", Accept="text/csv")
    assert ran.out == reply.body.decode()


def test_missing_column_is_named_with_its_nearest(server: Server) -> None:
    """A column that is missing is named, with the one that was probably meant."""
    body = "AGE,city,visits,level,score,member\n1,x,1,1,1,true\n"
    message = server.post(body, "text/csv").json()["message"]
    assert "body: the column 'age' is missing\nThere is 'AGE': names must match to the letter" == message


SIGNATURE = Signature(
    (
        Column("d", "double"),
        Column("f", "float"),
        Column("l", "long"),
        Column("i", "integer"),
        Column("b", "boolean"),
        Column("s", "string"),
        Column("t", "datetime"),
        Column("o", "long", required=False),
    )
)

numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(2**65), 2**65).map(str),
    st.sampled_from(["5.0", "1e2", "1E400", "-1e400", "1e39", "1.5", "-0.0", "5e-324", "9007199254740992.0", "1e-400"]),
)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=8)
dates = st.sampled_from(
    [
        "2026-11-22",
        "2026-11-22T12:00:00",
        "2026-11-22 12:00:00.5",
        "2026-11-22T12:00:00Z",
        "2020-01-01T00:00:00.123456789",
        "1500-01-01",
        "0001-01-01T00:00:00+05:00",
        "not a date",
    ]
)
cells = {
    "d": numbers | st.just("null"),
    "f": numbers | st.just("null"),
    "l": numbers | st.just("null"),
    "i": numbers | st.just("null"),
    "b": st.sampled_from(["true", "false", "null"]),
    "s": texts.map(lambda text: json.dumps(text, ensure_ascii=False)) | st.just("null"),
    "t": dates.map(json.dumps) | st.just("null"),
    "o": numbers | st.just("null"),
}
rows = st.lists(st.tuples(*cells.values()), min_size=1, max_size=4)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows)
def test_text_and_json_agree(given_rows: list[tuple[str, ...]]) -> None:
    """A cell written in CSV and the same cell in JSON mean the same, or are both refused, by fast and exact roads."""
    decoder = RowDecoder(SIGNATURE)
    array = "[" + ",".join("[" + ",".join(row) + "]" for row in given_rows) + "]"
    named = [zip(cells, row, strict=True) for row in given_rows]
    records = ["{" + ",".join(f'"{name}":{cell}' for name, cell in pairs) + "}" for pairs in named]
    body = "\n".join(["d,f,l,i,b,s,t,o", *(",".join(map(_as_csv, row)) for row in given_rows)])
    outcomes = {
        "json rows": _outcome(lambda: decoder.rows(array.encode())),
        "json records": _outcome(lambda: decoder.rows(("[" + ",".join(records) + "]").encode())),
        "json lines": _outcome(lambda: decoder.lines("\n".join(records).encode())),
        "csv": _outcome(lambda: _read_csv(body, exact=False)),
        "csv exact": _outcome(lambda: _read_csv(body, exact=True)),
    }
    first = outcomes["json rows"]
    assert dict.fromkeys(outcomes, first) == outcomes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("+5", 5.0, id="plus"),
        pytest.param(".5", 0.5, id="no leading digit"),
        pytest.param("5.", 5.0, id="no trailing digit"),
        pytest.param(" 5 ", 5.0, id="spaces"),
        pytest.param('"5"', 5.0, id="quotes are no type"),
        *(
            pytest.param(word, math.nan, id=f"null {word}")
            for word in ("", '""', "NA", "NaN", "nan", "NULL", "null", "None", "\\N")
        ),
        pytest.param('"NA"', math.nan, id="quoted null"),
    ],
)
def test_text_of_a_double(text: str, expected: float) -> None:
    """CSV's spellings of a number and of null."""
    signature = Signature((Column("x", "double"), Column("y", "double")))
    batch = _csv_batch(f"x,y\n{text},1\n", signature)
    np.testing.assert_array_equal([expected], batch.columns[0])


def test_strings_stay_as_they_are() -> None:
    """In a string column only an unquoted empty cell is null; nothing else is read into a cell."""
    signature = Signature((Column("s", "string"), Column("n", "double")))
    batch = _csv_batch('s,n\n00501,1\n,1\n"",1\nNA,1\n"a ""b"", c",1\n5" pipe,1\n"two\nlines",1\n', signature)
    assert ["00501", None, "", "NA", 'a "b", c', '5" pipe', "two\nlines"] == batch.columns[0].tolist()


@pytest.mark.parametrize("size", [7, 64, 1000])
def test_blocks_change_nothing(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the input is cut into blocks, the rows are the same, and so is the line of a bad one."""
    lines = [f'{at},"cell ""{at}"", with\na newline",{at}.5' for at in range(50)]
    body = "l,s,d\n" + "\n".join(lines) + "\n"
    signature = Signature((Column("l", "long"), Column("s", "string"), Column("d", "double")))
    whole = _csv_batch(body, signature)
    monkeypatch.setattr(csv_reader, "_BLOCK", size)
    cut = _csv_batch(body, signature)
    assert [column.tolist() for column in whole.columns] == [column.tolist() for column in cut.columns]
    with pytest.raises(InputError, match=r"line 86, column 'd'"):
        _csv_batch(body.replace("42.5", "x"), signature)


def test_json_lines_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line of a bad row in JSON Lines does not depend on blocks or blank lines."""
    monkeypatch.setattr(json_lines, "_BLOCK", 10)
    decoder = RowDecoder(Signature((Column("a", "long"),)))
    text = Text.of(b'{"a":1}\n\n{"a":2}\n{"a":"x"}\n', "in.jsonl")
    reader = JsonLinesReader(text, decoder, NONE)
    with pytest.raises(InputError, match=r"in.jsonl, line 4, \$.a: "):
        [reader.parse(block) for block in reader.blocks()]


def test_frames_agree_with_json(opened: library.Model) -> None:
    """pandas' own types go by the same grammar: whole doubles for a long, and no text for a number."""
    good = json.loads(_row(GOOD))
    frame = pd.DataFrame([good], columns=COLUMNS)
    expected = opened.predict([good]).tolist()
    assert expected == opened.predict(frame.astype({"visits": "float64"})).tolist()
    assert expected == opened.predict(frame.astype({"age": "float32"})).tolist()
    with pytest.raises(InputError, match="column 'age'"):
        opened.predict(frame.astype({"age": "str"}))
    with pytest.raises(InputError, match="column 'member'"):
        opened.predict(frame.astype({"member": "int64"}))


def _csv_batch(body: str, signature: Signature) -> Batch:
    text = Text.of(body.encode(), "in.csv")
    reader = CsvReader(text, signature, NONE, CsvOptions())
    return Batch.concat([reader.parse(block).batch for block in reader.blocks()])


def _read_csv(body: str, *, exact: bool) -> Batch:
    text = Text.of(body.encode(), "in.csv")
    reader = CsvReader(text, SIGNATURE, NONE, CsvOptions())
    blocks = list(reader.blocks())
    return Batch.concat([(reader._exact(block) if exact else reader.parse(block)).batch for block in blocks])


def _outcome(read: Callable[[], Batch]) -> Any:
    """What a road makes of the rows: the bits of every column, or that it refuses them."""
    try:
        batch = read()
    except InputError:
        return "refused"
    return [(str(column.dtype), _bits(column)) for column in batch.columns]


def _bits(column: np.ndarray) -> Any:
    """Bits, but that JSON has one zero where a whole number is written: -0 as an integer is 0."""
    if column.dtype == object:
        return column.tolist()
    return (column + 0.0).tobytes() if column.dtype.kind == "f" else column.tobytes()


def _as_csv(cell: str) -> str:
    """A JSON cell as CSV writes it."""
    if cell == "null":
        return ""
    if cell.startswith('"'):
        return '"' + json.loads(cell).replace('"', '""') + '"'
    return cell


def _csv_body(bad: Bad) -> str:
    good = [cell.strip('"') for cell in GOOD.values()]
    wrong = [bad.text if name == bad.column else cell for name, cell in zip(COLUMNS, good, strict=True)]
    return "\n".join([",".join(COLUMNS), ",".join(good), ",".join(map(str, wrong))]) + "\n"


def _row(cells_: dict[str, str], bad: Bad | None = None) -> str:
    return "[" + ",".join(str(bad.value) if bad and name == bad.column else cells_[name] for name in COLUMNS) + "]"


def _record(cells_: dict[str, str], bad: Bad | None = None) -> str:
    pairs = ((name, str(bad.value) if bad and name == bad.column else cells_[name]) for name in COLUMNS)
    return "{" + ", ".join(f'"{name}": {cell}' for name, cell in pairs) + "}"


def _document(form: str, *rows_: str) -> str:
    return "{" + f'"{form}": [{", ".join(rows_)}]' + "}"
