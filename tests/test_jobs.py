"""Jobs over many files, by several processes, and with little memory."""

import gzip
import json
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import foretell as package
from conftest import COMMAND, Ran, foretell
from foretell import predictor
from foretell.errors import CellWrong, ForetellError, InputUnreadable
from foretell.job import crew
from foretell.job.inputs import Inputs
from foretell.job.job import run
from foretell.job.outputs import Output
from foretell.job.report import Report
from foretell.job.running import Running
from foretell.job.work import Job
from foretell.tables import csv_header, csv_reader
from foretell.tables.formats import CSV, PARQUET, Format

MODEL = Path(package.__file__).parent / "demo" / "iris"
NAMES = ("sepal_length", "sepal_width", "petal_length", "petal_width")
HEADER = f"id,{','.join(NAMES)}\n"


def lines(first: int, count: int) -> str:
    numbers = random.Random(first)
    cells = (",".join(f"{numbers.uniform(0.1, 7.9):.1f}" for _ in NAMES) for _ in range(count))
    return "".join(f"{first + at},{row}\n" for at, row in enumerate(cells))


def predict(*arguments: object) -> Ran:
    return foretell("models", "predict", "-m", MODEL, *arguments)


MANY = ["day", "day/*.csv*", "day/[a-c].csv*"]


@pytest.mark.parametrize("given", MANY)
def test_many_files_are_one_input(given: str) -> None:
    """A folder, or the files that a pattern fits: their rows in the order of their names, packed or not, each with its
    own header; hidden ones and those that begin with _ are none of them."""
    Path("day").mkdir()
    parts = [lines(0, 50), lines(50, 0), lines(50, 70)]
    Path("day/a.csv").write_text(HEADER + parts[0])
    Path("day/b.csv").write_text(HEADER + parts[1])
    Path("day/c.csv.gz").write_bytes(gzip.compress((HEADER + parts[2]).encode()))
    for name in ("_SUCCESS", ".c.csv.swp"):
        Path("day", name).write_text("no rows")
    ran = predict("-i", given, "-o", "out.csv")
    assert 0 == ran.code, ran.err
    Path("one.csv").write_text(HEADER + "".join(parts))
    assert 0 == predict("-i", "one.csv", "-o", "expected.csv").code
    assert Path("expected.csv").read_bytes() == Path("out.csv").read_bytes()


def test_a_bad_row_of_many_files_is_told_with_its_file() -> None:
    """Line and byte are those of the row's own file; a file that carries other columns is refused."""
    Path("day").mkdir()
    Path("day/a.csv").write_text(HEADER + lines(0, 5))
    Path("day/b.csv").write_text(HEADER + lines(5, 5) + "x,tall,1,1,1\n")
    ran = predict("-i", "day", "-o", "out.csv")
    assert (3, True) == (ran.code, "day/b.csv, line 7, column 'sepal_length'" in ran.err), ran.err
    assert 0 == predict("-i", "day", "-o", "out.csv", "--on-error", "reject").code
    told = json.loads(Path("out.csv.rejects.jsonl").read_text())
    assert ("day/b.csv", 7, "x,tall,1,1,1") == (told["file"], told["line"], told["text"])
    Path("day/b.csv").write_text(HEADER.replace("id,", "key,") + lines(5, 5))
    ran = predict("-i", "day", "-o", "out.csv")
    assert (3, True) == (ran.code, "day/b.csv carries key, and day/a.csv id" in ran.err), ran.err


def tasks(job: Job, model: Path, source: str, target: str, running: Running) -> tuple[set[str], Report]:
    """Runs a job here; by whom its blocks were worked on, and what it tells."""
    opened = predictor.open(str(model), trust=True)
    seen: set[str] = set()
    original = crew.Processes.submit

    def submit(self: crew.Processes, tagged: object) -> object:
        seen.add("processes")
        return original(self, tagged)  # type: ignore[arg-type]

    crew.Processes.submit = submit  # type: ignore[method-assign, assignment]
    output = Output(Path(target))
    try:
        with Inputs([source], crew.opener(job, opened)) as inputs:
            again = partial(predictor.load, opened.found)
            *_, last = run(job, opened, inputs, output, Running(running.threads, again=again, patience=0))
    finally:
        crew.Processes.submit = original  # type: ignore[method-assign]
        output.close()
    assert last.finished and last.report is not None
    return seen, last.report


@pytest.mark.parametrize("fmt", [CSV, PARQUET], ids=["csv", "parquet"])
def test_a_python_model_in_several_processes(fmt: Format, flavours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is Python code is worked on by processes, in the same order and with the same bytes as by one."""
    stored = json.loads((flavours / "mlflow3" / "python_params.json").read_text())
    rows = [row for _ in range(60) for row in stored["rows"]]
    monkeypatch.setattr(csv_reader, "_BLOCK", 20_000)
    text = ",".join(stored["columns"]) + "\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)
    Path("in.csv").write_text(text)
    columns = dict(zip(stored["columns"], zip(*rows, strict=True), strict=True))
    pq.write_table(pa.table(columns), "in.parquet", row_group_size=len(rows) // 5)
    job = Job(fmt, CSV, options=csv_header.CsvOptions())
    model, source = flavours / "mlflow3" / "python_params", f"in.{fmt.name}"
    (by, alone), (by_two, shared) = (tasks(job, model, source, f"{n}.csv", Running(threads=n)) for n in (1, 2))
    assert (set(), {"processes"}) == (by, by_two)
    Path("1.csv").rename("one.csv")
    Path("2.csv").rename("two.csv")
    assert (alone.nulls, alone.predictions) == (shared.nulls, shared.predictions)
    assert alone.memory.workers == [] and 1 <= len(shared.memory.workers) <= 2
    assert shared.memory.peak == shared.memory.main + sum(shared.memory.workers) > 50_000_000
    assert Path("one.csv").read_bytes() == Path("two.csv").read_bytes()
    assert len(rows) + 1 == Path("two.csv").read_text().count("\n")
    if fmt is CSV:
        Path("in.csv").write_text(text.rpartition(str(rows[-1][0]))[0] + "tall\n")
        with pytest.raises(package.errors.InputError, match=rf"in.csv, line {len(rows) + 1}"):
            tasks(job, model, source, "bad.csv", Running(threads=2))


def peak_of(source: str, target: str, code: int = 0) -> int:
    """The most memory, in MiB, that the command takes for a job, with two threads. code: that it ends with."""
    script = "import resource, subprocess, sys; ran = subprocess.run(sys.argv[1:], capture_output=True); "
    script += f"assert ran.returncode == {code}, ran.stderr; "
    script += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)"
    command = [sys.executable, "-c", script, *COMMAND, "models", "predict", "-m", str(MODEL)]
    ran = subprocess.run(
        [*command, "-i", source, "-o", target, "--threads", "2"], capture_output=True, text=True, check=True
    )
    return int(ran.stdout)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_memory_does_not_grow_with_the_input(suffix: str) -> None:
    """A long input takes less than 512 MiB more than a job of few rows does, and three times as long a one no more."""
    part = lines(0, 20_000)
    peaks = []
    for times in (1, 60, 180):
        text = HEADER + part * times
        if suffix == ".parquet":
            table = pa.csv.read_csv(pa.BufferReader(text.encode()))
            pq.write_table(table, f"in{suffix}", row_group_size=table.num_rows)
        else:
            Path("in.csv").write_text(text)
        peaks.append(peak_of(f"in{suffix}", f"out{suffix}"))
    print(f"{suffix}: {peaks} MiB")
    assert max(peaks) < peaks[0] + 512
    assert peaks[2] < peaks[1] + 128


def long_cell() -> bytes:
    """A record of 48 MiB, most of them quotes."""
    return f'{HEADER.strip()},note\n1,1,1,1,1,"'.encode() + b'""' * (24 << 20) + b'"\n' + b"1,1,1,1,1,n\n" * 9


def flood() -> bytes:
    """What unpacks to 256 MiB without the end of a line."""
    return gzip.compress(HEADER.encode()) + gzip.compress(bytes(8 << 20), 1) * 32


def great_pages() -> bytes:
    """A Parquet file of 20 KB whose columns are a page of 160 MiB each."""
    rows = 20 << 20
    table, out = pa.table({name: pa.array(np.zeros(rows)) for name in NAMES}), pa.BufferOutputStream()
    whole = {"data_page_size": 1 << 30, "write_batch_size": rows, "max_rows_per_page": rows, "row_group_size": rows}
    pq.write_table(table, out, use_dictionary=False, write_statistics=False, compression="zstd", **whole)
    return bytes(out.getvalue())


HOSTILE = {
    "a long cell": ("in.csv", long_cell, 0),
    "a flood": ("in.csv.gz", flood, 3),
    "great pages": ("in.parquet", great_pages, 3),
}


@pytest.mark.parametrize(("name", "made", "code"), HOSTILE.values(), ids=HOSTILE)
def test_memory_does_not_grow_with_one_record(name: str, made: Callable[[], bytes], code: int) -> None:
    """One very long cell is read, and what never ends or unpacks to too much is refused, within 512 MiB beside
    the process itself."""
    Path("few.csv").write_text(HEADER + lines(0, 10))
    Path(name).write_bytes(made())
    peaks = peak_of("few.csv", "few-out.csv"), peak_of(name, "out.csv", code)
    print(f"{name}: {peaks} MiB")
    assert peaks[1] < peaks[0] + 512


def test_threads_do_not_change_a_byte() -> None:
    """Whatever the number of threads, each output is the same to the byte."""
    Path("in.csv").write_text(HEADER + lines(0, 300_000))
    for target in ("out.csv.gz", "out.parquet"):
        made = set()
        for threads in (1, 2, 7):
            assert 0 == predict("-i", "in.csv", "-o", target, "--threads", threads).code
            made.add(Path(target).read_bytes())
        assert 1 == len(made)


def test_an_input_that_changes_while_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that grows under the job ends it with a clear line, and the older output stays."""
    Path("in.csv").write_text(HEADER + lines(0, 1000))
    Path("out.csv").write_text("older")
    monkeypatch.setattr(csv_reader, "_BLOCK", 5_000)
    opened = predictor.open(str(MODEL))
    job, output = Job(CSV, CSV), Output(Path("out.csv"))
    with Inputs(["in.csv"], crew.opener(job, opened)) as inputs:
        running = run(job, opened, inputs, output, Running(1))
        next(running)
        with Path("in.csv").open("a") as more:
            more.write(lines(1000, 1))
        with pytest.raises(package.errors.InputError, match=r"in.csv has changed while it was read"):
            list(running)
    output.close()
    assert "older" == Path("out.csv").read_text()


def test_cores_are_those_that_may_be_used() -> None:
    """As many threads as the process may run on."""
    assert 1 <= crew.cores() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize("error", [CellWrong(3, 1, "reason", "hint").at("place"), InputUnreadable("message", "hint")])
def test_errors_come_from_other_processes_as_they_are(error: ForetellError) -> None:
    """Class, message, hint and place of an error are sent along."""
    sent = pickle.loads(pickle.dumps(error))
    assert (type(error), str(error), error.__dict__) == (type(sent), str(sent), sent.__dict__)
