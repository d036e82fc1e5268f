"""An output that is a folder of parts: whole or not there, in the input's order, and gone on with after a kill."""

import json
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from conftest import Command
from test_resume import MODEL, Case, Runner, csv_text, runner  # noqa: F401

NEWLINES = pa.csv.ParseOptions(newlines_in_values=True)
MORE = ("--on-error", "reject", "--part-mb", "2")
FORMATS = {"csv": Case("in.csv", "out/", 2, MORE), "packed": Case("in.csv", "out.csv.zst/", 1, MORE)}
STEPS = {"out/": 2, "out.csv.zst/": 5}
"""Which of the points are fired at; the torture fires at all of them."""


@pytest.fixture(autouse=True)
def _input() -> None:
    Path("in.csv").write_text(csv_text())


def left(case: Case) -> dict[str, bytes]:
    """Every file of the output, and its rejects."""
    target = Path(case.target)
    files = [*target.iterdir(), target.with_name(f"{target.name}.rejects.jsonl")]
    return {path.name: path.read_bytes() for path in files}


@pytest.mark.parametrize("case", FORMATS.values(), ids=FORMATS)
def test_a_folder_is_the_older_or_the_new_one_at_every_point(case: Case, runner: Runner) -> None:  # noqa: F811
    """Killed before each write, sync, rename and removal: what is at the output's name is the older output or the new
    one, never a mixture; the next run goes on, ends with the same bytes, and leaves nothing else."""
    target = Path(case.target)
    ran = runner(case, "--keep", "none")
    assert 0 == ran.code, ran.err
    shutil.copytree(target, "older")
    older = {path.name: path.read_bytes() for path in target.iterdir()}
    ran = runner(case)
    assert 0 == ran.code, ran.err
    expected, events = left(case), ran.events
    new = {name: data for name, data in expected.items() if "rejects" not in name}
    assert 3 <= len(new) and older != new
    before = sorted(path.name for path in Path.cwd().iterdir())
    points = range(0, len(events), 1 if "FORETELL_KILLS" in os.environ else STEPS[case.target])
    for at in points:
        shutil.rmtree(target)
        shutil.copytree("older", target)
        killed = runner(case, at=at)
        assert -9 == killed.code
        there = {path.name: path.read_bytes() for path in target.iterdir() if path.name != ".ready"}
        assert there in (older, new), (at, events[at])
        again = runner(case)
        assert 0 == again.code, again.err
        assert (events[:at].count("write journal") > 3) is ("done already" in again.err or "complete" in again.err)
        assert expected == left(case), (at, events[at])
        assert before == sorted(path.name for path in Path.cwd().iterdir())
    print(f"{case.target}: {len(points)} of {len(events)} points fired")


def test_parts_hold_the_rows_of_one_file(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put together, the parts are the file that would have been written; of tables there are as many rows."""
    monkeypatch.setattr("foretell.tables.csv_reader._BLOCK", 4000)
    monkeypatch.setattr("foretell.tables.table_writer._GROUP_ROWS", 100)
    monkeypatch.setattr("foretell.cli.destination._MB", 1000)
    given = ("models", "predict", "-m", MODEL, "--on-error", "reject", "-i")
    for more in (
        ("-o", "one.csv"),
        ("-o", "out/", "--part-mb", 3),
        ("-o", "tables/", "--output-format", "parquet", "--part-mb", 4),
    ):
        ran = command(*given, "in.csv", *more)
        assert 0 == ran.code, ran.err
    parts = sorted(Path("out").glob("part-*.csv"))
    assert 3 <= len(parts)
    assert [path.name for path in parts] == json.loads(Path("out/_SUCCESS").read_text())["parts"]
    header, *rows = Path("one.csv").read_text().splitlines(keepends=True)
    texts = [path.read_text() for path in parts]
    assert all(text.startswith(header) for text in texts)
    assert "".join(rows) == "".join(text.removeprefix(header) for text in texts)
    tables = sorted(Path("tables").glob("part-*.parquet"))
    assert 2 <= len(tables)
    assert pa.csv.read_csv("one.csv", parse_options=NEWLINES).num_rows == pq.read_table("tables").num_rows
