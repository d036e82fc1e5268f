"""A whole comparison of the demo's model, by the real commands; its end by Ctrl-C; and what it refuses."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

import foretell as package
from conftest import PATIENCE
from foretell import predictor
from foretell.cells import TextRules
from foretell.compare import search
from foretell.compare.asked import Asked, Reading, settled
from foretell.compare.child import family
from foretell.compare.measure import measure
from foretell.compare.measured import Measured
from foretell.compare.offline import Jobs
from foretell.compare.parity import parity
from foretell.compare.quantiles import LEAST
from foretell.compare.sample import _sample, take
from foretell.compare.served import served
from foretell.errors import ForetellError, InputError, ModelNotFound, UsageError
from foretell.tables.csv_header import CsvOptions
from scripted import scripted_model

DEMO = Path(package.__file__).parent / "demo"
MODEL, ROWS = str(DEMO / "iris"), str(DEMO / "batch_input.csv")

JOB = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from foretell.compare.asked import Asked
from foretell.compare.measure import measure
measure(Asked(sys.argv[1], sys.argv[2], engine="native"), lambda what, share: print(what, flush=True))
"""
WHOLE = """
import sys
from foretell.compare.asked import Asked
from foretell.compare.measure import measure
asked = Asked(sys.argv[1], sys.argv[2], engine="native", budget=10.0, workers=2)
measure(asked, lambda what, share: print(what, flush=True))
"""
SERVER = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from foretell.compare import measure
from foretell.compare.asked import Asked, settled
from foretell.compare.load import Generator
from foretell.compare.served import served
asked = Asked(sys.argv[1], sys.argv[2], engine="native")
with measure._tidy() as folder:
    model = settled(asked, asked.find(), str(folder / "state"))
    with served(model, 2, time.perf_counter() + 60) as server, Generator() as generator:
        print("under load", flush=True)
        while True:
            server.ask(b'{"data": [[1, 2, 3, 4]]}')
"""


def in_time(asked: Asked, said: list[tuple[str, float]]) -> Measured:
    """Within the time, or, on a machine that is busy with other tests, within more."""
    try:
        return measure(asked, lambda *what: said.append(what))
    except UsageError as error:
        assert "too short to compare" in error.message
        said.clear()
        return measure(replace(asked, budget=4 * asked.budget), lambda *what: said.append(what))


def test_a_comparison(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every trial measured something, within the time; the rows come out the same; nothing is left behind."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    said: list[tuple[str, float]] = []
    before = family(os.getpid())
    found = in_time(Asked(MODEL, ROWS, budget=15.0, seed=7, command="again"), said)
    print(f"{found.took_s:.1f} s: {found.offline.rows_per_s:,.0f} rows/s, {found.server.capacity:,.0f} requests/s")
    batch, server = found.offline, found.server
    assert batch.rows > batch.loops > 0
    assert batch.rows_per_s == max(batch.windows)
    assert 1 <= len(batch.windows) <= 3
    assert min(batch.windows) <= batch.rows / batch.seconds <= max(batch.windows)
    assert min(batch.cpu_s_start, batch.start_s, batch.first_row_s, batch.peak, server.idle, server.ready_s) > 0
    assert {"reading", "predicting", "writing"} == batch.stages.keys() and min(batch.stages.values()) > 0
    assert server.peak >= server.idle > 10 << 20
    assert server.search and not server.slo_given
    assert search.derived_slo(found.single) == server.slo_p99
    shares = [step.asked for step in server.curve]
    # Arrivals are random, and the later shares lie close together.
    assert len(shares) >= 4 and sorted(shares[:4]) == shares[:4]
    assert {"http", "queue", "compute"} == server.stages.keys()
    for latency in (found.single.latency, *(step.latency for step in (*server.search, *server.curve))):
        told = (latency.p50, latency.p90, latency.p95, latency.p99, latency.p999)
        assert [latency.requests >= least for least in LEAST.values()] == [value is not None for value in told]
        assert sum(latency.counts) == latency.requests
    assert (150, 150, 0.0, []) == (found.parity.rows, found.parity.equal, found.parity.largest, found.parity.mismatches)
    assert (150, ROWS, 7, "again", "onnx") == (
        found.input_rows,
        found.input,
        found.seed,
        found.command,
        found.model.flavour,
    )
    assert found.machine.cores >= 1 and found.machine.versions["numpy"]
    assert found == msgspec.json.decode(msgspec.json.encode(found), type=Measured)
    assert sorted(share for _, share in said) == [share for _, share in said]
    assert before == family(os.getpid())
    assert [] == list(tmp_path.glob("foretell-compare-*"))


def test_rows_are_read_and_asked_as_they_are_said_to_be() -> None:
    """A file without a header, in another encoding, with decimal commas, under a name that tells nothing: read so by
    both ways, however long it is made, and the probabilities are the same to the bit."""
    lines = Path(ROWS).read_text().splitlines()[1:]
    text = "".join(line.replace(",", ";").replace(".", ",") + ";Münster\n" for line in lines)
    Path("rows").write_bytes(text.encode("utf-16"))
    names = ("plant", "sepal_length", "sepal_width", "petal_length", "petal_width", "town, in Germany")
    options = CsvOptions(TextRules(decimal=","), encoding="utf-16", columns=names)
    found = in_time(Asked(MODEL, "rows", engine="native", budget=6.0, reading=Reading("csv", options, proba=True)), [])
    print(f"{found.parity.rows} rows compared")
    assert 0 < found.parity.rows == found.parity.equal
    assert 150 == pytest.approx(found.input_rows, rel=0.05)
    assert found.offline.rows > 0 and found.single.rps > 0
    assert "--content-type=csv --encoding=utf-16 --decimal=, " in found.asked
    assert found.asked.endswith("--proba")


def test_params_reach_both_ways(tmp_path: Path) -> None:
    """A job and a server are asked with the same params, which are what the answers follow; a JSON document's own come
    first."""
    uri = str(scripted_model(tmp_path / "model"))
    Path("rows.jsonl").write_text("".join(f'{{"kind": 0, "value": {at}.5}}\n' for at in range(20)))
    asked = Asked(uri, "rows.jsonl", trust=True, engine="native", reading=Reading(params='{"scale": 3}'))
    model = settled(asked, asked.find(), str(tmp_path / "state"))
    Path("own.json").write_text('{"data": [[0, 1]], "params": {"scale": 4}}')
    own = _sample("own.json", predictor.load(asked.find()), asked.reading)
    assert [b'{"data":[[0.0,1.0]],"params":{"scale": 4}}'] == own.requests
    until = time.perf_counter() + PATIENCE
    sample = take(model, asked.input, tmp_path, until)
    Jobs(model, sample, asked.input, tmp_path, until).answers(20, tmp_path / "answers.jsonl")
    answers = (tmp_path / "answers.jsonl").read_bytes().splitlines()
    assert [{"prediction": (at + 0.5) * 6} for at in range(20)] == [msgspec.json.decode(line) for line in answers]
    with served(model, 1, until) as server:
        same = parity(answers, server.answers(sample.requests, until))
    assert (20, 20) == (same.rows, same.equal)


def alive(pid: int) -> bool:
    """Whether it still runs; one that ended may wait for whoever inherited it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("script", "until", "number"),
    [(JOB, "batch: the whole input", signal.SIGTERM), (SERVER, "under load", signal.SIGINT)],
    ids=["SIGTERM in a job", "Ctrl-C while a server is asked"],
)
def test_it_ends_when_it_is_told_to(script: str, until: str, number: signal.Signals, tmp_path: Path) -> None:
    """Wherever it is, no process and no file is left."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", script, MODEL, ROWS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as run:
        assert run.stdout is not None and run.stderr is not None
        assert any(until in line for line in run.stdout), run.stderr.read()
        deadline = time.monotonic() + PATIENCE
        while len(members := family(run.pid)) < 2:
            assert time.monotonic() < deadline
        run.send_signal(number)
        assert run.wait(PATIENCE) != 0
    assert [] == [pid for pid in members if alive(pid)]
    assert [] == list(tmp_path.glob("foretell-compare-*"))


def test_nothing_of_it_runs_on_when_it_is_killed(tmp_path: Path) -> None:
    """Killed by SIGKILL while its server is under load, it leaves no process: neither the server, nor its workers, nor
    the load generator. Its temporary folder stays."""
    command = [sys.executable, "-c", WHOLE, MODEL, ROWS]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as run:
        assert run.stdout is not None
        assert any("real time: one client" in line for line in run.stdout)
        members = family(run.pid)
        run.kill()
    assert 5 == len(members), members
    deadline = time.monotonic() + PATIENCE
    while left := [pid for pid in members if alive(pid)]:
        assert time.monotonic() < deadline, left


@pytest.mark.parametrize(
    ("asked", "kind", "told"),
    [
        (Asked("models:/nobody/1", ROWS), ModelNotFound, "nobody"),
        (Asked(MODEL, "no.csv", engine="native"), InputError, "no.csv"),
        (Asked(MODEL, "-", engine="native"), UsageError, "many times"),
        (Asked(MODEL, "bad.csv", engine="native"), InputError, "bad.csv, line 3, column 'petal_width'"),
        (Asked(MODEL, "late.csv", engine="native"), InputError, "late.csv, column 'petal_width': \"x\""),
        (Asked(MODEL, "empty.csv", engine="native"), InputError, "empty.csv has no rows"),
        (Asked(MODEL, ROWS, engine="native", budget=0.2), UsageError, "0.2 s are too short"),
    ],
    ids=["model", "input", "stdin", "cell", "late", "rows", "time"],
)
def test_what_cannot_be_compared(asked: Asked, kind: type[ForetellError], told: str) -> None:
    """The commands' own errors, as they tell them, with what to do."""
    header = "sepal_length,sepal_width,petal_length,petal_width\n"
    Path("bad.csv").write_text(f"{header}1,2,3,4\n1,2,3,x\n")
    Path("late.csv").write_text(header + 900_000 * "1,2,3,4\n" + "1,2,3,x\n1,y,3,4\n")
    Path("empty.csv").write_text(header)
    before = family(os.getpid())
    with pytest.raises(kind) as raised:
        measure(asked)
    print(raised.value)
    assert told in raised.value.message
    assert "/foretell-compare-" not in str(raised.value)
    assert before == family(os.getpid())


def test_a_row_that_the_server_refuses_is_told(tmp_path: Path) -> None:
    """Before any load: what the server answers, as it answers it."""
    from foretell.compare import measure as module
    from foretell.compare.sample import Sample

    class Refusing:
        def ask(self, body: bytes) -> tuple[int, bytes]:
            return 400, b'{"message": "no such column"}'

    sample = Sample([b"{}"], "", "", [], 1, 1.0, 0, ",", 1.0)
    refusing: Any = Refusing()
    with pytest.raises(ForetellError, match=r"HTTP 400.*no such column"):
        module._check(refusing, sample)
