"""What a job does about its engine: it compiles one where that pays, and goes on whatever fails on the way."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import foretell, rows_of
from engines import Ready, place_of, predicted, summary, write_rows
from foretell import predictor
from foretell.batch import Call
from foretell.compiler import verify
from foretell.compiler.candidates import MAKERS, Maker
from foretell.compiler.watch import Watch
from foretell.predictor import Predictor

pytestmark = pytest.mark.usefixtures("automatic")


def test_a_job_compiles_where_the_rows_ahead_pay(models: Path) -> None:
    """With many rows ahead an engine is made on the way and takes over, with the same answers; with few it is not."""
    opened = predictor.open(str(models / "pipeline"), trust=True)
    batch = opened.decoder.values(rows_of(models, "pipeline")[1])
    call, said = Call(True), list[str]()
    expected = opened.predict(batch, call)
    watch = Watch(opened, say=said.append)
    watch.before(batch, call, 10**7)
    watch.after(batch.rows, 10_000)
    assert ([], "scikit-learn") == (said, opened.engine.name)
    watch.after(batch.rows, 10**7)
    assert "from here on the compiled kernel predicts" in said[-1]
    assert "compiled kernel" == opened.engine.name
    assert None is verify.compared(opened.predict(batch, call), expected)
    assert place_of(models / "pipeline").seen() == batch.rows


def test_a_short_job_makes_nothing(models: Path) -> None:
    """Few rows are predicted by the library, and nothing is said or left in the cache."""
    write_rows(models, "pipeline")
    assert 1 == len(predicted(models / "pipeline", "--trust")[1].splitlines())
    assert not Path(os.environ["FORETELL_CACHE"]).exists()


def test_a_long_job_ends_on_another_engine(models: Path) -> None:
    """From the command: with many rows ahead the engine changes on the way, and the bytes are the library's."""
    write_rows(models, "pipeline")
    few, _ = predicted(models / "pipeline", "--trust", "--engine", "native")
    header, rows = Path("in.csv").read_bytes().split(b"\n", 1)
    times = -(-_LONG // len(rows))
    with Path("long.csv").open("wb") as file:
        file.write(header + b"\n")
        file.writelines([rows] * times)
    ran = foretell("models", "predict", "-m", models / "pipeline", "--trust", "-i", "long.csv", "-o", "out.csv")
    said = ran.err.splitlines()
    assert (0, "compiled kernel") == (ran.code, summary(ran.err).rpartition(", ")[2]), said
    assert any("from here on the compiled kernel predicts" in line for line in said)
    header, rows = few.split(b"\n", 1)
    assert header + b"\n" + rows * times == Path("out.csv").read_bytes()


_LONG = 160 << 20
"""Bytes."""


class Broken:
    """Stands for a function, and fails as nobody foresaw."""

    def __init__(self) -> None:
        self.fired = 0

    def __call__(self, *arguments: Any, **how: Any) -> Any:
        self.fired += 1
        raise LookupError("two\nlines")


def watched(opened: Predictor, models: Path, said: list[str]) -> None:
    """A job of many rows."""
    batch = opened.decoder.values(rows_of(models, "params")[1])
    watch = Watch(opened, say=said.append)
    watch.before(batch, Call(params=(("return_std", False),)), 10**7)
    opened.predict(batch)
    watch.after(batch.rows, 10**7)


BREAKS: dict[str, tuple[Callable[[pytest.MonkeyPatch, Broken], None], str]] = {
    "looking": (
        lambda patch, broken: patch.setattr("foretell.models.proven.Entry.record", broken),
        "it stays with scikit-learn: LookupError: two lines",
    ),
    "reckoning": (
        lambda patch, broken: patch.setattr("foretell.metrics.Cost.each", property(broken)),
        "it stays with scikit-learn: LookupError: two lines",
    ),
    "making": (
        lambda patch, broken: patch.setitem(MAKERS, "kernel", Maker("compiled kernel", ("sklearn",), broken)),
        "it stays with scikit-learn: the compiled kernel cannot be made: LookupError: two lines",
    ),
    "loading what was made": (
        lambda patch, broken: patch.setattr("foretell.predictor._compiled", broken),
        "it stays with scikit-learn: LookupError: two lines",
    ),
}


@pytest.mark.parametrize("what", BREAKS)
def test_a_failure_on_the_way_to_an_engine(what: str, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fails, the job goes on with the library, and one line says why."""
    opened, broken, said = predictor.open(str(models / "params")), Broken(), list[str]()
    monkeypatch.setitem(MAKERS, "onnx", replace(MAKERS["onnx"], flavours=("xgboost",)))
    BREAKS[what][0](monkeypatch, broken)
    watched(opened, models, said)
    assert broken.fired > 0
    assert [BREAKS[what][1]] == [line for line in said if line.startswith("it stays")]
    assert "scikit-learn" == opened.engine.name


@pytest.mark.parametrize(
    ("what", "engine"),
    [
        pytest.param("foretell.compiler.verify.compared", "scikit-learn", id="comparing"),
        pytest.param("foretell.models.load.load", "compiled kernel", id="loading the library"),
    ],
)
def test_a_failure_of_the_check(
    what: str, engine: str, models: Path, ready: Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that cannot be held against the library is given up, where there is a library; one line says why."""
    place, broken, said = ready(models / "params", seen=False), Broken(), list[str]()
    opened = predictor.open(str(models / "params"))
    monkeypatch.setattr(what, broken)
    watched(opened, models, said)
    assert broken.fired > 0
    assert ["the compiled kernel was not held against its library on these rows: LookupError: two lines"] == said
    assert (engine, 0, None) == (opened.engine.name, place.seen(), place.demoted())
