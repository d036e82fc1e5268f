"""What a job tells of itself: the same after a kill as without one, and true."""

import hashlib
import json
import os
import pty
import random
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import COMMAND, PATIENCE, Command, foretell
from foretell.job.counting import distribution, null_rows
from foretell.job.distribution import CLASSES, Distribution
from test_resume import CASES, MODEL, ROWS, Case, Runner, _inputs, runner  # noqa: F401

KILLS = int(os.environ.get("FORETELL_KILLS", "16"))
"""How many are fired; the torture has more."""
REPORTED = {
    "csv": Case("in.csv", "out.csv", 1),
    "csv by four": Case("in.csv", "out.csv", 4),
    "csv to parquet by four": CASES["csv to parquet by four"],
    "packed": CASES["packed"],
    "parts": Case("in.csv", "out.csv.zst/", 2, ("--on-error", "reject", "--part-mb", "1")),
}


def told(path: Path) -> dict[str, Any]:
    """A report without what differs from run to run."""
    report: dict[str, Any] = json.loads(path.read_text())
    for name in ("times", "throughput", "memory"):
        assert report.pop(name)
    report["counts"].pop("resumed")
    return report


def removed(target: str) -> None:
    """Takes an output away."""
    if Path(target).is_dir():
        shutil.rmtree(target)
    else:
        Path(target).unlink()


def test_a_report_is_the_same_after_kills(runner: Runner) -> None:  # noqa: F811
    """Killed at random, also in recovery, a job of any kind tells the same in the end, but for its times; digests are
    those of the files as they lie there."""
    numbers = random.Random(11)
    fired = resumed = 0
    wholes = {}
    for name, case in REPORTED.items():
        ran = runner(case, "--report", "r.json")
        assert 0 == ran.code, ran.err
        wholes[name] = (told(Path("r.json")), ran.events)
        removed(case.target)
    while fired < KILLS:
        name = list(REPORTED)[fired % len(REPORTED)]
        case, (expected, events) = REPORTED[name], wholes[name]
        ran = runner(case, "--report", "r.json", at=numbers.randrange(len(events) // 2, len(events)))
        while ran.code == -9:
            fired += 1
            at = numbers.randrange(len(events)) if numbers.random() < 0.3 else -1
            ran = runner(case, "--report", "r.json", at=at, do="torn")
        assert 0 == ran.code, ran.err
        assert expected == told(Path("r.json")), name
        resumed += "done already" in ran.err or "complete already" in ran.err
        for file in (*expected["input"], *expected["output"]):
            data = Path(file["path"]).read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (file["bytes"], file["sha256"])
        assert [] == [path.name for path in Path.cwd().iterdir() if path.name.startswith(".")]
        removed(case.target)
    print(f"{fired} kills fired, {resumed} reports of jobs that were gone on with")
    assert KILLS <= fired and KILLS // 3 <= resumed
    counts = {"rows": ROWS, "predicted": ROWS - ROWS // 50, "rejected": ROWS // 50}
    assert counts == expected["counts"]
    assert counts["predicted"] == sum(expected["predictions"]["prediction"]["classes"].values())


def test_where_a_report_goes(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the output, be it a file or a folder, or where it was said; beside stdout there is no place. Hashes can be
    left out."""
    predict = ("models", "predict", "-m", MODEL, "-i", "in.csv", "--on-error", "reject")
    for output, report in (("a.csv", "a.csv.report.json"), ("b/", "b.report.json")):
        ran = command(*predict, "-o", output, "--report", "--job-name", "mine")
        assert (0, True) == (ran.code, f"report: {report}\n" in ran.err), ran.err
        content = json.loads(Path(report).read_text())
        assert "mine" == content["name"]
        nulls = {"sepal_length": 0, "sepal_width": 0, "petal_length": 0, "petal_width": 0, "id": 0, "note": 0}
        assert nulls == content["nulls"]
    assert [f"{path}" for path in Path("b").glob("part*")] == [file["path"] for file in content["output"]]
    ran = command(*predict, "-o", "a.csv", "--no-hashes", "--report", "r.json")
    assert [None, None] == [json.loads(Path("r.json").read_text())[name][0]["sha256"] for name in ("input", "output")]
    monkeypatch.chdir("b")
    for wrong, says in ((["--report"], "beside stdout"), (["--report", "no/r.json"], "no folder no")):
        ran = command("models", "predict", "-m", MODEL, "-i", "../in.csv", *wrong)
        assert (True, True) == (ran.code in (1, 2), says in ran.err), ran.err
    ran = command("models", "predict", "-m", MODEL, "-i", "../in.csv", "-o", "x.csv", "--report", "../in.csv")
    assert (2, True) == (ran.code, "is the input too" in ran.err), ran.err


@pytest.mark.parametrize("report", ["", "else/r.json"], ids=["beside", "elsewhere"])
def test_a_report_that_was_begun_is_swept(report: str, runner: Runner) -> None:  # noqa: F811
    """Killed while it writes the report, and begun anew without one, a job leaves nothing of it, and all that is the
    user's own."""
    Path("else").mkdir()
    case = Case("in.csv", "out.csv", 1, ("--on-error", "reject"))
    asked = ["--report", *[report] * bool(report)]
    draft = Path("else/.r.json.draft" if report else ".out.csv.report.json.draft")
    for own in (".out.csv.draft.json", ".r.json.draft", "else/.out.csv.report.json.draft"):
        Path(own).write_text("the user's")
    assert 0 == runner(case).code
    expected = contents()
    events = runner(case, *asked).events
    fired = 0
    for at in range(len(events) - 3)[::-1]:
        if fired == 2:
            break
        (draft.parent / "r.json" if report else Path("out.csv.report.json")).unlink(missing_ok=True)
        if -9 == runner(case, *asked, at=at, do="torn").code and draft.exists():
            fired += 1
            assert 0 == runner(case, "--resume", "never").code
            assert expected == contents(), events[at]
    print(f"{fired} kills fired while the report was written")
    assert 2 == fired


def contents() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file() and path.name[:3] != "std"}


def test_the_report_of_a_pipe() -> None:
    """What comes through a pipe, and goes to stdout, has its digests too."""
    data = b"sepal_length,sepal_width,petal_length,petal_width\n" + b"5.1,3.5,1.4,0.2\n" * 5
    ran = foretell("models", "predict", "-m", MODEL, "--report", "r.json", stdin=data)
    assert 0 == ran.code, ran.err
    content = json.loads(Path("r.json").read_text())
    for kind, there in (("input", data), ("output", ran.raw)):
        (file,) = content[kind]
        assert (len(there), hashlib.sha256(there).hexdigest()) == (file["bytes"], file["sha256"])
    assert {"0": 5} == content["predictions"]["prediction"]["classes"]


NUMBERS = {
    "uniform": lambda n: n.uniform(0, 1, 50_000),
    "of both signs": lambda n: n.normal(0, 100, 50_000),
    "of all sizes": lambda n: np.exp(n.normal(0, 60, 50_000)) * n.choice([-1, 1], 50_000),
    "float32": lambda n: n.gamma(2, 3, 50_000).astype("float32"),
    "whole": lambda n: n.integers(-(10**12), 10**12, 50_000),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_quantiles_of_numbers(name: str) -> None:
    """Each is within the share that is said of a value at its place; and it does not matter how the rows come in
    blocks, nor in which order these are put together."""
    values = NUMBERS[name](np.random.default_rng(5))
    whole = distribution(values)
    found = whole.told()
    ordered = np.sort(values.astype(float))
    assert (ordered[0], ordered[-1]) == (found["min"], found["max"])
    assert found["quantiles_within"] <= (1.0 if name == "of all sizes" else 0.02)
    for share, value in found["quantiles"].items():
        expected = ordered[max(0, int(float(share) * len(ordered)) - 1)]
        assert abs(value - expected) <= found["quantiles_within"] * abs(expected) * 1.0001, share
    blocks = [distribution(block) for block in np.array_split(values, [100, 7000, 7001, 30_000])]
    for order in (blocks, blocks[::-1], random.Random(1).sample(blocks, len(blocks))):
        together = sum(order, Distribution())
        assert (whole.buckets, whole.shift, whole.rows) == (together.buckets, together.shift, together.rows)
    assert len(values) == sum(found["bins"]["rows"])


KINDS: dict[str, tuple[Any, dict[str, int], int]] = {
    "whole": (np.array([3, 1, 3, -7]), {"3": 2, "1": 1, "-7": 1}, 0),
    "small whole": (np.array([-128, 127, 127], "int8"), {"-128": 1, "127": 2}, 0),
    "huge whole": (np.array([2**64 - 1, 2**64 - 1], "uint64"), {str(2**64 - 1): 2}, 0),
    "with NaN": (np.array([0.5, np.nan, 0.5, np.inf]), {"0.5": 2}, 1),
    "only NaN": (np.array([np.nan, np.nan]), {}, 2),
    "true": (np.array([True, False, True]), {"true": 2, "false": 1}, 0),
    "words": (np.array(["yes", "no", "yes", "ÿ"]), {"yes": 2, "no": 1, "ÿ": 1}, 0),
    "objects": (np.array(["yes", None, "no", "yes", float("nan")], object), {"yes": 2, "no": 1}, 2),
    "half a pair": (np.array(["\ud800"], object), {"?": 1}, 0),
    "none": (np.array([], "float64"), {}, 0),
}


@pytest.mark.parametrize(("values", "classes", "nulls"), KINDS.values(), ids=KINDS)
def test_classes(values: np.ndarray, classes: dict[str, int], nulls: int) -> None:
    """Values of every kind are counted each, nulls apart."""
    found = distribution(values)
    assert (classes, nulls) == (found.classes, found.nulls)
    json.dumps(found.told(), allow_nan=False)


def test_too_many_classes() -> None:
    """Words beyond the bound are counted together, whole numbers then as numbers, and as many in all."""
    words = [distribution(np.array([f"w{n}" for n in range(start, start + 200)], object)) for start in (0, 100, 300)]
    found = sum(words, Distribution(numeric=False))
    assert found.classes is not None
    assert (CLASSES, 600) == (len(found.classes), found.rows)
    few, many = distribution(np.arange(200)), distribution(np.arange(100, 100_100))
    assert (None, 100_200) == ((few + many).classes, (few + many).rows)
    assert (many + few).buckets == (few + many).buckets


def test_nulls_of_columns() -> None:
    """NaN, NaT and None are nulls, in columns of every kind."""
    columns = (
        np.array([1.0, np.nan]),
        np.array(["2026-01-01", "NaT"], "M8[ns]"),
        np.array(["a", None, "b", None, "c"], object)[::2],
        np.array(["a", None], object),
        np.array([1, 2]),
        np.array([], object),
    )
    assert [1, 1, 0, 1, 0, 0] == [null_rows(column) for column in columns]


def seen(arguments: list[object], *, feed: bytes | None = None) -> str:
    """What a person sees on a terminal. feed: rows that keep coming through stdin until something is drawn."""
    terminal, inner = pty.openpty()
    command = [*COMMAND, "models", "predict", "-m", str(MODEL), "-o", "out.csv", *map(str, arguments)]
    stdin = subprocess.DEVNULL if feed is None else subprocess.PIPE
    process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.DEVNULL, stderr=inner)
    os.close(inner)
    text, until = b"", time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if feed is not None and process.stdin is not None and not process.stdin.closed:
            process.stdin.write(feed)
            if b"rows/s" in text:
                process.stdin.close()
        if select.select([terminal], [], [], 0 if feed is not None and not process.stdin.closed else PATIENCE)[0]:  # type: ignore[union-attr]
            try:
                text += os.read(terminal, 65536)
            except OSError:
                break
    os.close(terminal)
    assert 0 == process.wait(PATIENCE)
    return text.decode()


def test_the_bar_on_a_terminal() -> None:
    """A long job draws a bar, also without knowing how long it is; a short one, and one that nobody watches, none."""
    Path("small.csv").write_text("sepal_length,sepal_width,petal_length,petal_width\n5.1,3.5,1.4,0.2\n")
    short = seen(["-i", "small.csv"])
    assert ("\x1b" not in short, True) == (True, "1 row in " in short), short
    lines = b"sepal_length,sepal_width,petal_length,petal_width\n" + b"5.1,3.5,1.4,0.2\n" * 200_000
    long = seen(["--no-header", "-t", "csv", "--on-error", "reject"], feed=lines)
    assert ("\x1b[" in long, True, True) == (True, "rows/s" in long, " rejected" in long), long
    assert "to go" not in long
    print(sys.stdin is not None, long[:300])
