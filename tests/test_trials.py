"""Trials: loads on a server that is as slow as it is told to be, and inputs made as long as a trial needs them."""

import csv
import gzip
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import foretell as package
from answering import Answering, answering
from foretell import predictor
from foretell.compare.load import Generator
from foretell.compare.looped import of_rows
from foretell.compare.measured import Parity, Quantiles, Single
from foretell.compare.parity import parity
from foretell.compare.sample import Sample, _sample
from foretell.compare.search import Search, derived_slo
from foretell.compare.steps import Aim, Loading

DEMO = Path(package.__file__).parent / "demo"
LONG = 30.0


@dataclass(frozen=True)
class Watched:
    """What a trial wants of a server, of one without a model."""

    port: int
    cpu_s: float = 0.0
    target: str = "/invocations"

    def rest(self, body: bytes) -> None:
        """It never has anything left to do."""


@pytest.fixture(scope="module")
def generator() -> Iterator[Generator]:
    with Generator() as running:
        yield running


def loading(generator: Generator, server: Answering) -> Loading:
    watched: Any = Watched(server.port)
    return Loading(generator, watched, [b'{"data": [[1]]}', b'{"data": [[2]]}'], seed=1)


def test_a_slower_server_is_reported_slower(generator: Generator) -> None:
    """What one client sees, and the rate that is found: a server that takes 20 ms a request answers 50 a second, and
    no search finds it to do more."""
    found = {}
    for pause in (0.002, 0.02):
        with answering(pause) as server:
            load = loading(generator, server)
            single = load.single(0.5)
            search = Search(load, 0.2, load.most(0.5, pause), 4.0)
            search.run(time.perf_counter() + 4.0, lambda what: None)
        print(f"{pause * 1000:g} ms: {single.rps:.0f} and {search.capacity:.0f} requests a second")
        assert single.latency.p50 is not None and single.latency.p50 >= pause
        assert single.rps <= 1 / pause
        assert 0 < search.capacity <= 1.2 / pause
        assert all(step.within == (step.asked <= 1.2 / pause) for step in search.steps if step.within)
        found[pause] = search.capacity
    assert found[0.02] < found[0.002]


def test_a_bound_that_no_answer_keeps(generator: Generator) -> None:
    """No rate is found, and none is said to be."""
    with answering(0.02) as server:
        load = loading(generator, server)
        search = Search(load, 0.01, 50.0, 3.0)
        search.run(time.perf_counter() + 3.0, lambda what: None)
    assert 0 == search.capacity
    assert not search.at_least
    assert not any(step.within for step in search.steps)


def test_a_rate_at_which_ever_more_wait_is_not_kept(generator: Generator) -> None:
    """Though all are answered within a generous bound, for as long as it is tried."""
    kept = {}
    for rate in (30, 80):
        with answering(0.02) as server:
            step = loading(generator, server).step(rate, 0.1, 2.0, Aim(LONG, 0.9), to_its_end=True)
        assert step.failed == 0 and step.latency.p90 is not None and step.latency.p90 < 2
        kept[rate] = step.within
    assert kept == {30: True, 80: False}


def test_quantiles_of_few_requests_are_not_told(generator: Generator) -> None:
    """A hundred requests tell p95, and no p99; nor do they show that a bound on p99 is kept."""
    with answering() as server:
        step = loading(generator, server).step(200, 0.1, 0.5, Aim(LONG, 0.99), to_its_end=True)
    assert 44 < step.latency.requests < 459
    assert step.latency.p90 is not None and step.latency.p99 is None and step.latency.p99_low is None
    assert not step.within
    assert 0 == step.failed


def test_refusals_are_failures_not_quick_answers(generator: Generator) -> None:
    """Where nobody listens no latency is told."""
    with answering() as server:
        load = loading(generator, server)
    step = load.step(300, 0.0, 0.2, Aim(LONG, 0.9), to_its_end=True)
    assert step.failed > 0 and 0 == step.latency.requests and 0 == step.done
    assert not step.within


def test_a_generator_too_weak_is_detected() -> None:
    """Where it was itself what was late, the step says that it is limited; where it was not, not."""
    with answering() as server, Generator() as own, ThreadPoolExecutor(1) as pool:
        load = loading(own, server)
        running = pool.submit(load.step, 400, 0.0, 1.0, Aim(0.02, 0.9), to_its_end=True)
        assert server.seen.wait(LONG)
        os.kill(own.pid, signal.SIGSTOP)
        threading.Event().wait(0.4)
        os.kill(own.pid, signal.SIGCONT)
        step = running.result()
    print(f"the generator's lag: {step.lag:.3f} s at p99")
    assert step.lag > 0.1
    assert step.limited
    with answering(0.02) as server, Generator() as own:
        assert not loading(own, server).step(100, 0.0, 1.0, Aim(0.02, 0.9), to_its_end=True).limited


@pytest.mark.parametrize(
    ("alone", "bound"),
    [(0.0001, 0.01), (0.001, 0.01), (0.0011, 0.02), (0.002, 0.02), (0.004, 0.05), (0.03, 0.5), (0.07, 1.0), (2, 20)],
)
def test_a_bound_is_derived_from_what_a_row_takes_alone(alone: float, bound: float) -> None:
    """Ten times as long, at least 10 ms, in steps of 1, 2 and 5."""
    latency = Quantiles(100, alone, alone, None, None, None, None, None, None, alone, [])
    assert bound == pytest.approx(derived_slo(Single(latency, 1.0)))


@pytest.mark.parametrize(
    ("line", "status", "body", "expected"),
    [
        (b'{"prediction":0.1}', 200, b'{"predictions": [0.1]}', []),
        (b'{"prediction":null}', 200, b'{"predictions": [null]}', []),
        (b'{"prediction":"a"}', 200, b'{"predictions": ["a"]}', []),
        (b'{"prediction_0":1.5,"prediction_1":2.5}', 200, b'{"predictions": [[1.5, 2.5]]}', []),
        (b'{"prediction_a":1,"prediction_b":[1,2]}', 200, b'{"predictions": [{"a": 1, "b": [1, 2]}]}', []),
        (b'{"prediction":0.1}', 200, b'{"predictions": [0.10000000149011612]}', [("prediction", "0.1")]),
        (b'{"prediction":0.0}', 200, b'{"predictions": [-0.0]}', [("prediction", "0.0")]),
        (b'{"prediction":1.0}', 200, b'{"predictions": [1]}', [("prediction", "1.0")]),
        (b'{"prediction":"a"}', 200, b'{"predictions": ["b"]}', [("prediction", "'a'")]),
        (b'{"p_0":1.5,"p_1":2.5}', 200, b'{"predictions": [[1.5, 2.6]]}', [("p_1", "2.5")]),
        (b'{"prediction":[1,2]}', 200, b'{"predictions": [[1, 3]]}', [("prediction", "2")]),
        (b'{"prediction":[1,2]}', 200, b'{"predictions": [[1]]}', [("", '{"prediction":[1,2]}')]),
        (b'{"prediction":1}', 400, b'{"message": "no"}', [("", '{"prediction":1}')]),
        (b'{"prediction":1}', 200, b"nonsense", [("", '{"prediction":1}')]),
        (b'{"prediction":1}', 200, b'{"predictions": []}', [("", '{"prediction":1}')]),
    ],
)
def test_answers_are_compared_to_the_bit(
    line: bytes, status: int, body: bytes, expected: list[tuple[str, str]]
) -> None:
    """A server that rounds is found out, and where."""
    same = parity([b'{"prediction":5}', line], [(200, b'{"predictions": [5]}'), (status, body)])
    assert (2, 2 - bool(expected)) == (same.rows, same.equal)
    assert expected == [(one.column, one.batch) for one in same.mismatches]
    assert all(one.row == 2 for one in same.mismatches)


def test_parity_tells_the_largest_difference_and_the_first_rows() -> None:
    """Of as many rows as there are answers."""
    lines = [b'{"prediction":%d.0}' % row for row in range(20)]
    answers = [(200, b'{"predictions": [%.1f]}' % (row + (0.5 if row % 2 else 0.0))) for row in range(18)]
    same = parity(lines, answers)
    assert Parity(18, 9, 0.5, same.mismatches) == same
    assert [2, 4, 6, 8, 10] == [one.row for one in same.mismatches]


ROWS = [[5.1, 3.5, 1.4, 0.2], [4.9, 3.0, 1.4, 0.2], [6.2, 3.4, 5.4, 2.3]]
NAMES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]


def _csv(rows: list[list[float]]) -> str:
    return "\n".join([",".join([*NAMES, "note"]), *(",".join([*map(str, row), '"a\n""b"']) for row in rows)]) + "\n"


def _table(rows: list[list[float]]) -> pa.Table:
    return pa.table({name: [row[at] for row in rows] for at, name in enumerate(NAMES)})


def _feather(rows: list[list[float]], path: Path) -> None:
    with pa.ipc.new_file(str(path), _table(rows).schema) as writer:
        writer.write_table(_table(rows))


WRITERS: dict[str, Callable[[list[list[float]], Path], Any]] = {
    ".csv": lambda rows, path: path.write_text(_csv(rows)),
    ".csv.gz": lambda rows, path: path.write_bytes(gzip.compress(_csv(rows).encode())),
    ".jsonl": lambda rows, path: path.write_text(
        "\n".join(json.dumps(dict(zip(NAMES, row, strict=True))) for row in rows)
    ),
    ".json": lambda rows, path: path.write_text(json.dumps({"data": rows})),
    ".parquet": lambda rows, path: pq.write_table(_table(rows), path),
    ".arrow": _feather,
}


def _read(path: Path) -> list[list[float]]:
    """All rows of a file, or of those in a folder, by other readers than foretell's."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    rows: list[list[float]] = []
    for file in files:
        if file.suffix in (".csv", ".gz"):
            with gzip.open(file, "rt", newline="") if file.suffix == ".gz" else file.open(newline="") as text:
                records = list(csv.reader(text))
            assert [*NAMES, "note"] == records[0]
            assert {'a\n"b'} == {record[4] for record in records[1:]}
            rows += [list(map(float, record[:4])) for record in records[1:]]
        elif file.suffix == ".jsonl":
            rows += [list(json.loads(line).values()) for line in file.read_text().splitlines()]
        elif file.suffix == ".json":
            rows += json.loads(file.read_text())["data"]
        else:
            table = pq.read_table(file) if file.suffix == ".parquet" else pa.ipc.open_file(str(file)).read_all()
            rows += [list(row.values()) for row in table.to_pylist()]
    return rows


@pytest.fixture(scope="module")
def opened() -> predictor.Predictor:
    return predictor.load(predictor.find(str(DEMO / "iris")))


@pytest.mark.parametrize("suffix", WRITERS)
def test_an_input_is_made_as_long_as_it_is_needed(suffix: str, opened: predictor.Predictor, tmp_path: Path) -> None:
    """The user's rows in their order, over and over or the first of them, in the user's format, with header."""
    source, given = ROWS * 100, tmp_path / f"rows{suffix}"
    WRITERS[suffix](source, given)
    sample = _sample(str(given), opened)
    assert [json.dumps({"data": [row]}, separators=(",", ":")).encode() for row in source] == sample.requests
    assert 295 <= sample.rows <= 305
    assert Path(of_rows(sample, str(given), 300, tmp_path / "none").path) == given
    for rows in (1, 30, 3000):
        looped = of_rows(sample, str(given), rows, tmp_path / str(rows))
        made = _read(Path(looped.path))
        if suffix == ".json" and rows == 30:
            assert made == source
            continue
        assert rows == pytest.approx(looped.rows, rel=0.05) == pytest.approx(len(made), rel=0.1)
        assert made == (source * 11)[: len(made)]


def test_many_files_are_an_input_too(opened: predictor.Predictor, tmp_path: Path) -> None:
    """All of them over and over, or some."""
    folder = tmp_path / "in"
    folder.mkdir()
    for at in range(10):
        WRITERS[".csv"](ROWS * 10, folder / f"{at}.csv")
    sample = _sample(str(folder), opened)
    assert 280 <= sample.rows <= 320
    assert 10 == len(sample.paths)
    for rows in (60, 3000):
        made = _read(Path(of_rows(sample, str(folder), rows, tmp_path / str(rows)).path))
        assert rows == pytest.approx(len(made), rel=0.1)
        assert made == (ROWS * 2000)[: len(made)]


def test_a_sample_is_of_the_first_rows(opened: predictor.Predictor, tmp_path: Path) -> None:
    """Of a long input, a few thousand at most."""
    WRITERS[".csv"](ROWS * 20_000, tmp_path / "long.csv")
    sample: Sample = _sample(str(tmp_path / "long.csv"), opened)
    assert 1000 <= len(sample.requests) <= 4096
    assert sample.rows == pytest.approx(60_000, rel=0.02)
    looped = of_rows(sample, "", 5000, tmp_path / "cut")
    assert 5000 == pytest.approx(len(_read(Path(looped.path))), rel=0.02)
