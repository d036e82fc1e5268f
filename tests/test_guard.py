"""--guard: an output that is not like the last one waits beside it, whatever happens meanwhile."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import Command
from foretell.cli.named import job_name, undated
from foretell.job.counting import distribution
from foretell.job.figures import Figures
from foretell.job.guard import Guard, Limits, psi
from foretell.job.report import Counts, decoded
from foretell.ledger.ledger import Ledger
from test_resume import MODEL, Case, Runner, runner  # noqa: F401

KINDS = ([5.1, 3.5, 1.4, 0.2], [6.2, 2.8, 4.8, 1.8], [6.3, 3.3, 6.0, 2.5])
"""Rows of different classes."""


def rows(*counts: int, bad: int = 0) -> str:
    """So many rows of each kind, and bad ones."""
    lines = ["id,sepal_length,sepal_width,petal_length,petal_width"]
    lines += [",".join(map(str, [at, *KINDS[kind]])) for kind, count in enumerate(counts) for at in range(count)]
    return "\n".join([*lines, *["x,tall,1,1,1"] * bad]) + "\n"


@pytest.fixture
def predict(command: Command) -> Callable[..., Any]:
    """Predicts one night's rows to the usual output."""

    def ran(text: str, night: str, *more: object, output: str = "out.csv") -> Any:
        Path(f"in-{night}.csv").write_text(text)
        given = ("-m", MODEL, "-i", f"in-{night}.csv", "-o", output, "--guard", *more)
        return command("models", "predict", *given)

    return ran


JUMPS = {
    "rows": (rows(10, 10, 10), "rows: 300 before, 30 now (-90%; the limit is 50%)", "rows=95%"),
    "more rows": (rows(300, 300, 300), "rows: 300 before, 900 now (+200%", "rows=3"),
    "predictions": (rows(250, 25, 25), "0: 33.3% of the rows before, 83.3% now", "distribution=5"),
    "a class": (rows(300), "prediction: PSI ", "distribution=100"),
    "nulls": (
        re.sub(r"\n1\d*,", "\n,", rows(100, 100, 100)),
        "nulls of id: 0.0% of the rows before, 11.0% now",
        "nulls=0.2",
    ),
}


@pytest.mark.parametrize(("text", "says", "limit"), JUMPS.values(), ids=JUMPS)
def test_what_jumps_is_held(text: str, says: str, limit: str, predict: Callable[..., Any], command: Command) -> None:
    """Exit 5, the older output stays, what jumped is told with both numbers; a higher limit lets it pass, and so does
    whoever accepts it, after which the next one is compared with that."""
    first = predict(rows(100, 100, 100), "2026-11-28")
    assert (0, True) == (first.code, "nothing to compare with yet" in first.err), first.err
    assert 0 == predict(rows(100, 100, 100), "2026-11-29").code
    older = Path("out.csv").read_bytes()
    held = predict(text, "2026-11-30", "--report")
    assert (5, "", True) == (held.code, held.out, says in held.err), held.err
    assert "foretell jobs accept 3" in held.err
    assert older == Path("out.csv").read_bytes()
    new = Path("out.csv.held").read_bytes()
    assert text.count("\n") == new.count(b"\n")
    assert Path("out.csv.held.report.json").exists() and not Path("out.csv.report.json").exists()
    accepted = command("jobs", "accept", "last")
    assert 0 == accepted.code, accepted.err
    assert (new, False) == (Path("out.csv").read_bytes(), Path("out.csv.held").exists())
    assert Path("out.csv.report.json").exists()
    assert 0 == predict(text, "2026-12-01").code
    assert 5 == predict(rows(100, 100, 100), "2026-12-02").code
    assert 0 == predict(rows(100, 100, 100), "2026-12-02", "--guard-limit", limit, "--guard-limit", "rows=99").code
    refused = command("jobs", "accept", "5")
    assert (2, True) == (refused.code, "job 6 wrote" in refused.err), refused.err


def test_a_folder_of_parts_is_held(predict: Callable[..., Any], command: Command) -> None:
    """The whole folder waits beside the older one, with its rejected rows, and takes its place when it is accepted."""
    more = ("--on-error", "reject", "--output-format", "csv")
    assert (
        0
        == predict(
            rows(100, 100, 100),
            "1",
            *more,
            output="out/",
        ).code
    )
    older = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    held = predict(rows(9, 9, 9, bad=3), "1", *more, output="out/")
    assert (5, True) == (held.code, "waits in out.held; out is as it was" in held.err), held.err
    assert older == {path.name: path.read_bytes() for path in Path("out").iterdir()}
    assert (3, False) == (Path("out.held.rejects.jsonl").read_text().count("\n"), Path("out.rejects.jsonl").exists())
    new = {path.name: path.read_bytes() for path in Path("out.held").iterdir()}
    ran = command("jobs", "accept", "2")
    assert 0 == ran.code, ran.err
    assert new == {path.name: path.read_bytes() for path in Path("out").iterdir()}
    assert 3 == Path("out.rejects.jsonl").read_text().count("\n")
    assert ["in-1.csv", "out", "out.rejects.jsonl"] == sorted(path.name for path in Path.cwd().iterdir())


@pytest.mark.parametrize("target", ["out.csv", "out/"])
def test_killed_while_it_is_held(target: str, runner: Runner) -> None:  # noqa: F811
    """Killed at each point once all is done: the older output stays at every one, and the next run, with or without
    --guard, decides the same and leaves nothing else."""
    Path("in.csv").write_text(rows(100, 100, 100))
    case = Case("in.csv", target, 1, ("--on-error", "reject", "--guard", "--report", "--job-name", "n"))
    assert 0 == runner(case).code
    place = Path(target)
    older = _content(place)
    Path("in.csv").write_text(rows(10, 10, 10, bad=1))
    whole = runner(case)
    assert 5 == whole.code, whole.err
    names = sorted(path.name for path in Path.cwd().iterdir() if path.name not in ("stdout", "stderr"))
    new = _content(place.with_name(f"{place.name}.held"))
    points = [at for at, name in enumerate(whole.events) if name == "write journal"][-1:]
    points += range(points[0] + 1, len(whole.events))
    for at in points:
        killed = runner(case, at=at)
        assert (-9, older) == (killed.code, _content(place))
        again = runner(Case("in.csv", target, 1, case.more[:2]) if at % 2 and at > points[0] + 1 else case)
        assert (5, older) == (again.code, _content(place)), (whole.events[at], again.err)
        assert "rows: 300 before, 30 now" in again.err
        assert new == _content(place.with_name(f"{place.name}.held"))
        left = sorted(path.name for path in Path.cwd().iterdir() if path.name not in ("stdout", "stderr"))
        assert names == left, whole.events[at]
    print(f"{target}: {len(points)} kills fired")
    assert 5 <= len(points)


def _content(place: Path) -> dict[str, bytes]:
    files = [place] if place.is_file() else sorted(place.iterdir())
    return {path.name: path.read_bytes() for path in files}


def test_accepting_may_be_killed(predict: Callable[..., Any], command: Command) -> None:
    """When accepting a folder was ended between its steps, accepting it again ends with the new output."""
    for text in (rows(100, 100, 100), rows(1, 1, 1)):
        predict(text, "1", "--output-format", "csv", output="out/")
    new = _content(Path("out.held"))
    Path("out.held/.ready").touch()
    Path("out").rename("older")
    Path("out.held").rename("out")
    Path("older").rename("out.held")
    ran = command("jobs", "accept", "2")
    assert (0, new) == (ran.code, _content(Path("out"))), ran.err
    assert not Path("out.held").exists()


@pytest.mark.parametrize("target", ["out.csv", "out/"])
def test_accepting_is_killed_anywhere(target: str, runner: Runner, command: Command) -> None:  # noqa: F811
    """Killed at each of its steps, accepting has happened as soon as the new output is in place: the list says so, the
    next job is compared with it, and accepting it again does the rest."""
    place, case = Path(target), Case("in.csv", target, 1, ("--on-error", "reject", "--guard", "--job-name", "n"))
    ledger, saved = Ledger(), Path("../saved")

    def held() -> None:
        """As it was when the second job ended."""
        for path in Path.cwd().iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(saved, ".", dirs_exist_ok=True)
        ledger.forget(entry.id for entry in ledger.entries() if entry.id > 2)
        ledger.mark(2, "held")

    for text, code in ((rows(30, 30, 30, bad=1), 0), (rows(0, 9, 0, bad=3), 5)):
        Path("in.csv").write_text(text)
        assert code == runner(case, "--report").code
    shutil.copytree(".", saved)
    older, (waiting,) = _content(place), Path.cwd().glob("*.held")
    new = {place.name: waiting.read_bytes()} if waiting.is_file() else _content(waiting)
    whole = runner.run(["jobs", "accept", "last"])
    assert (0, new) == (whole.code, _content(place)), whole.err
    names = sorted(path.name for path in Path.cwd().iterdir())
    states = []
    for at, event in [*enumerate(whole.events), (len(whole.events) - 1, "its end")]:
        held()
        killed = runner.run(["jobs", "accept", "last"], at=at, do="after" if event == "its end" else "before")
        assert -9 == killed.code, event
        there = {name: data for name, data in _content(place).items() if name != ".ready"}
        states += [
            json.loads(line)["state"] for line in command("jobs", "list", "--json", "--last", 1).out.splitlines()
        ]
        assert {str(older): "held", str(new): "accepted"}[str(there)] == states[-1], event
        by_job = states[-1] == "accepted" and at % 2
        again = runner(case, "--report") if by_job else runner.run(["jobs", "accept", "last"])
        assert 0 == again.code, (event, again.err)
        assert "accepted" == ledger.entries()[-2].state
        assert (new, names) == (_content(place), sorted(path.name for path in Path.cwd().iterdir())), event
        assert 3 == Path(f"{place.name}.rejects.jsonl").read_text().count("\n")
    print(f"{target}: {len(states)} kills fired, {states.count('accepted')} of them with the new output in place")
    assert len(states) >= 6 and {"held", "accepted"} == set(states)


def test_an_output_that_was_thrown_away_is_not_accepted(predict: Callable[..., Any], command: Command) -> None:
    """Whoever removes what waits keeps the older output, of the same size or not, and the job says that it was held."""
    for text in (rows(30, 30, 30), rows(0, 90, 0)):
        predict(text, "1")
    Path("out.csv.held").unlink()
    ran = command("jobs", "accept", "last")
    assert (2, True) == (ran.code, "out.csv.held is not there" in ran.err), ran.err
    assert "held" == json.loads(command("jobs", "list", "--json", "--last", "1").out)["state"]


def test_wrong_uses(predict: Callable[..., Any], command: Command) -> None:
    """Limits that are none, stdout, and jobs that were not held are refused with what to do."""
    for limit in ("rows", "rows=x", "columns=1", "rows=-1", "rows=inf"):
        ran = predict(rows(1), "1", "--guard-limit", limit)
        assert (2, True) == (ran.code, "--guard-limit rows=80%" in ran.err), ran.err
    assert 2 == command("models", "predict", "-m", MODEL, "-i", "in-1.csv", "--guard").code
    assert 0 == predict(rows(1), "1").code
    assert 2 == command("jobs", "accept", "last").code
    assert 2 == command("jobs", "accept", "99").code


def test_chance_is_no_jump(predict: Callable[..., Any]) -> None:
    """Samples of one population pass at any size, among small ones too; a moved population does not."""
    assert 0 == predict(rows(5, 5, 5), "1").code
    last = Ledger().last(json.loads(json.dumps(Ledger().entries()[0].begun.name)))
    assert last is not None
    earlier = decoded(last.report)
    assert earlier is not None
    numbers = np.random.default_rng(4)
    for size in (20, 300, 20_000):
        trips = 0
        for _ in range(60):
            was, now = (distribution(numbers.normal(0, 1, size)) for _ in range(2))
            counts = Counts(size, size, 0, 0)
            report = type(earlier)(
                **{name: getattr(earlier, name) for name in earlier.__struct_fields__}
                | {"counts": counts, "predictions": {"y": was.told()}, "nulls": {}}
            )
            guard = Guard(report, "job 1", Limits())
            trips += bool(guard.jumps(counts, Figures(size, {}, {"y": now})))
            moved = distribution(numbers.normal(1.5, 1, size))
            assert guard.jumps(counts, Figures(size, {}, {"y": moved})) or size == 20
        assert trips <= 1, size


def test_the_index_of_two_histograms() -> None:
    """By the formula, on shares that are far from zero."""
    score, _ = psi([5000, 5000], [7000, 3000])
    assert abs(score - (0.2 * np.log(7 / 5) + -0.2 * np.log(3 / 5))) < 1e-3
    assert (0.0, 0.0) == psi([10], [20])


UNDATED = {
    "/in/2026-11-30.csv": "/in/{date}.csv",
    "/in/20261130/x.csv": "/in/{date}/x.csv",
    "/in/2026/11/30/x.csv": "/in/{date}/x.csv",
    "/in/2026/11/x.csv": "/in/{date}/x.csv",
    "/in/x-2026_11_30T02.csv": "/in/x-{date}.csv",
    "/in/x_20261130_020000.csv": "/in/x_{date}.csv",
    "/in/2026-11-30T02:00:00Z.csv": "/in/{date}.csv",
    "/in/2026-W48.csv": "/in/{date}.csv",
    "/in/year=2026/month=11/day=30/p.parquet": "/in/year={date}/month={date}/day={date}/p.parquet",
    "/in/dt=2026-11-30/p.parquet": "/in/dt={date}/p.parquet",
    "/in/x.1796051543.csv": "/in/x.{date}.csv",
    "/in/v2/part-00012.csv": "/in/v2/part-00012.csv",
    "/in/model-1234567.csv": "/in/model-1234567.csv",
    "/in/20269930.csv": "/in/20269930.csv",
}


def test_dates_do_not_count_in_names() -> None:
    """Tonight's job has the name of last night's; numbers that are no dates stay."""
    assert UNDATED == {path: undated(path) for path in UNDATED}


NAMED = {
    "models:/churn/Production": "churn",
    "models:/churn/12": "churn",
    "models:/churn@champion": "churn",
    "runs:/0a1b/model": "model",
    "mlflow-artifacts:/1/x/artifacts": "mlflow-artifacts:/1/x/artifacts",
    "/models/2026-11-30/m.ubj": "/models/{date}/m.ubj",
}


def test_a_new_version_is_the_same_job() -> None:
    """A registered model counts by its name alone, whatever version, stage or alias was named."""
    given = {"job_name": None, "input_path": "/in/../in/a.csv", "output_path": "-"}
    for uri, name in NAMED.items():
        assert f"{name}: /in/a.csv > stdout" == job_name({**given, "model_uri": uri})
