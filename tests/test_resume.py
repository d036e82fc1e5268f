"""A job that is killed anywhere, or that its system fails, goes on when the same command is run again, and its output
is the same to the byte as that of a run that nothing happened to.

What is fired is printed, and has to reach what there is to fire at.
"""

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import foretell as package
from conftest import PATIENCE

MODEL = Path(package.__file__).parent / "demo" / "iris"
NAMES = ("sepal_length", "sepal_width", "petal_length", "petal_width")
ROWS = 900
BLOCK = 8000
BEGUN = 3
"""Lines of a journal before the first commit."""
KILLS = int(os.environ.get("FORETELL_KILLS", "60"))
"""How many are fired at random; the torture has more, and every case at every point."""


@dataclass
class Ran:
    """How a run ended, and the events of it, in order."""

    code: int
    events: list[str]
    out: str
    err: str


@dataclass
class Runner:
    """The runner's process. fired: how often at each event, by its name and number of the kind."""

    process: "subprocess.Popen[str]"
    fired: Counter[tuple[str, str, int]] = field(default_factory=Counter)

    def __call__(
        self, case: "Case", *more: object, at: int = -1, do: str = "before", block: int = 0, file_size: int = 0
    ) -> Ran:
        """Runs `foretell models predict` here. at: the event, from 0, at which something is done."""
        arguments = ["models", "predict", "-m", str(MODEL), *case.arguments, *map(str, more)]
        return self.run(arguments, at=at, do=do, block=block or case.block, file_size=file_size)

    def run(
        self, arguments: list[str], *, at: int = -1, do: str = "before", block: int = BLOCK, file_size: int = 0
    ) -> Ran:
        """Runs `foretell` here."""
        request = {
            "arguments": arguments,
            "folder": str(Path.cwd()),
            "environment": {"HOME": os.environ["HOME"], "FORETELL_ENGINE": "native"},
            "out": str(Path.cwd() / "stdout"),
            "err": str(Path.cwd() / "stderr"),
            "at": at,
            "do": do,
            "block": block,
            "file_size": file_size,
        }
        assert self.process.stdin is not None and self.process.stdout is not None
        print(json.dumps(request), file=self.process.stdin, flush=True)
        reply = json.loads(self.process.stdout.readline())
        ran = Ran(reply["code"], reply["events"], Path("stdout").read_text(), Path("stderr").read_text())
        assert "Traceback" not in ran.err, ran.err
        if ran.code == -9:
            last = ran.events[-1]
            self.fired[(do, last, ran.events.count(last))] += 1
        return ran


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    command = [sys.executable, "-W", "ignore", str(Path(__file__).parent / "job_runner.py")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FORETELL_", "MLFLOW_"))}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        yield Runner(process)


def cells(row: int) -> list[float]:
    numbers = random.Random(row)
    return [round(numbers.uniform(0.1, 7.9), 1) for _ in NAMES]


def csv_text() -> str:
    """Rows with newlines and quotes in a carried column, every 50th bad."""
    lines = [f"id,note,{','.join(NAMES)}"]
    for row in range(ROWS):
        note = f'"two ""lines"" of\n{row}"' if row % 7 == 3 else '5" pipe' if row % 11 == 5 else f"n{row}"
        values = ["tall" if row % 50 == 49 else str(cell) for cell in cells(row)]
        lines.append(f"{row},{note},{','.join(values)}")
    return "\n".join(lines) + "\n"


def jsonl_text() -> str:
    rows = ({"id": row, "note": f'a "{row}"', **dict(zip(NAMES, cells(row), strict=True))} for row in range(ROWS))
    return "".join(json.dumps(row if row["id"] % 50 != 49 else {**row, "sepal_width": "tall"}) + "\n" for row in rows)


def table() -> pa.Table:
    columns = dict(zip(NAMES, zip(*map(cells, range(ROWS)), strict=True), strict=True))
    wide = [1e39 if row % 50 == 49 else cell for row, cell in enumerate(columns["sepal_width"])]
    return pa.table({"id": range(ROWS), **columns, "sepal_width": wide})


@dataclass(frozen=True)
class Case:
    """A job. more: options beyond the usual."""

    source: str
    target: str
    threads: int
    more: tuple[str, ...] = ("--on-error", "reject")
    block: int = BLOCK

    @property
    def arguments(self) -> list[str]:
        return ["-i", self.source, "-o", self.target, "--threads", str(self.threads), *self.more]

    @property
    def outputs(self) -> list[str]:
        return [self.target, f"{self.target}.rejects.jsonl"]


CASES = {
    "csv": Case("in.csv", "out.csv", 1),
    "csv by four": Case("in.csv", "out.csv", 4),
    "jsonl": Case("in.jsonl", "out.jsonl", 1, block=3 * BLOCK),
    "jsonl by four": Case("in.jsonl", "out.jsonl", 4, block=3 * BLOCK),
    "parquet": Case("in.parquet", "out.parquet", 1),
    "parquet by four": Case("in.parquet", "out.parquet", 4),
    "csv to parquet by four": Case("in.csv", "out.parquet", 4, ("--on-error", "null")),
    "packed": Case("in.csv.gz", "out.csv.zst", 2),
    "jsonl to packed": Case("in.jsonl", "out.csv.gz", 2),
    "csv to json": Case("in.csv", "out.json", 1),
    "csv to arrow": Case("in.csv", "out.arrow", 2),
}


@pytest.fixture(autouse=True)
def _inputs() -> None:
    Path("in.csv").write_text(csv_text())
    Path("in.jsonl").write_text(jsonl_text())
    pq.write_table(table(), "in.parquet", row_group_size=200)
    subprocess.run(["gzip", "-k", "in.csv"], check=True)


def whole(runner: Runner, case: Case) -> tuple[list[bytes], list[str]]:
    """What an uninterrupted run leaves, and its events; afterwards nothing is there."""
    ran = runner(case)
    assert 0 == ran.code, ran.err
    assert (ROWS, f"{ROWS - ROWS // 50:,} predicted + {ROWS // 50} rejected") == (ROWS, ran.err.splitlines()[-1])
    left = [Path(name).read_bytes() for name in case.outputs]
    assert [] == drafts()
    for name in case.outputs:
        Path(name).unlink()
    return left, ran.events


def drafts() -> list[str]:
    return sorted(path.name for path in Path.cwd().iterdir() if path.name.startswith(".out"))


def assert_same(case: Case, expected: list[bytes]) -> None:
    assert expected == [Path(name).read_bytes() for name in case.outputs]
    assert [] == drafts()
    for name in case.outputs:
        Path(name).unlink()


EVERYWHERE = CASES if "FORETELL_KILLS" in os.environ else ("csv", "jsonl by four", "csv to parquet by four")


@pytest.mark.parametrize("case", map(CASES.get, EVERYWHERE), ids=EVERYWHERE)
def test_killed_at_every_point(case: Case, runner: Runner) -> None:
    """At each write, sync, rename and removal the process is killed once, before it; the next run ends with the same
    bytes, and reads nothing again that was committed."""
    expected, events = whole(runner, case)
    points = set()
    for at, name in enumerate(events):
        ran = runner(case, at=at)
        assert (-9, events[: at + 1]) == (ran.code, ran.events)
        points.add((name, events[: at + 1].count(name)))
        committed = events[:at].count("write journal") > BEGUN
        again = runner(case)
        assert 0 == again.code, again.err
        assert bool(committed) == ("done already" in again.err or "complete already" in again.err), (at, again.err)
        assert_same(case, expected)
    print(f"{case}: {len(points)} distinct points fired, of {len(events)}")
    assert len(events) == len(points) >= 20


def test_killed_at_random_and_in_recovery(runner: Runner) -> None:
    """Killed again and again, in the middle of writes and in recovery too, each job ends with the same bytes."""
    numbers = random.Random(6)
    wholes = {name: whole(runner, case) for name, case in CASES.items()}
    fired = recovering = 0
    while fired < KILLS:
        name = numbers.choice(list(CASES))
        case, (expected, events) = CASES[name], wholes[name]
        ran = runner(case, at=numbers.randrange(len(events)), do=numbers.choice(("torn", "after")))
        while ran.code == -9:
            fired += 1
            at = numbers.randrange(len(events)) if numbers.random() < 0.6 else -1
            recovering += at >= 0
            ran = runner(case, at=at, do=numbers.choice(("before", "torn", "after")))
        assert 0 == ran.code, ran.err
        assert_same(case, expected)
    print(f"{fired} kills fired, {recovering} runs after a kill were aimed at; {len(runner.fired)} distinct points")
    assert KILLS <= fired and fired // 10 <= recovering


OTHERS: dict[str, tuple[Callable[[], None], list[str], str]] = {
    "input": (lambda: Path("in.csv").write_text(csv_text().replace("0,n0", "0,m0")), [], "in.csv has changed"),
    "option": (lambda: None, ["--proba"], "--proba is another one"),
    "rejects": (lambda: None, ["--on-error", "null"], "--on-error is another one"),
    "draft": (lambda: Path(".out.csv.draft").unlink(), [], "its draft is gone"),
    "journal": (lambda: _spoil(Path(".out.csv.journal")), [], ""),
}


def _spoil(path: Path) -> None:
    """Turns a byte of the first line over."""
    data = bytearray(path.read_bytes())
    data[20] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize(("change", "more", "says"), OTHERS.values(), ids=OTHERS)
def test_what_has_changed_starts_over(change: Callable[[], Any], more: list[str], says: str, runner: Runner) -> None:
    """Another input or option, or a lost draft: the job starts over and says why; --resume require refuses."""
    case = Case("in.csv", "out.csv", 1)
    _, events = whole(runner, case)
    assert -9 == runner(case, at=events.index("fsync draft")).code
    change()
    refused = runner(case, *more, "--resume", "require")
    assert (2, True) == (refused.code, "nothing to go on with" in refused.err), refused.err
    over = runner(case, *more)
    assert 0 == over.code, over.err
    assert (f"starting over: {says}" in over.err) is bool(says)
    assert "done already" not in over.err
    Path("fresh").mkdir()
    fresh = runner(replace(case, target="fresh/out.csv"), *more)
    assert 0 == fresh.code, fresh.err
    assert Path("fresh/out.csv").read_bytes() == Path("out.csv").read_bytes()


def test_resume_never_and_require(runner: Runner) -> None:
    """--resume never starts over; --resume require goes on, and is refused where nothing was begun."""
    case = Case("in.csv", "out.csv", 1)
    expected, events = whole(runner, case)
    assert 2 == runner(case, "--resume", "require").code
    for resume, told in (("never", False), ("require", True)):
        assert -9 == runner(case, at=events.index("fsync draft")).code
        ran = runner(case, "--resume", resume)
        assert (0, told) == (ran.code, "done already" in ran.err), ran.err
        assert_same(case, expected)


SAID = {"said": ((), ("--delimiter", ";")), "no more said": (("--delimiter", ";"), ())}


@pytest.mark.parametrize(("before", "after"), SAID.values(), ids=SAID)
def test_a_delimiter_that_was_found_is_one_that_was_said(
    before: tuple[str, ...], after: tuple[str, ...], runner: Runner
) -> None:
    """A job goes on whether its delimiter was found in the header or said, before and after."""
    Path("in.csv").write_text(csv_text().replace(",", ";"))
    case = Case("in.csv", "out.csv", 1)
    expected, events = whole(runner, case)
    assert -9 == runner(case, *before, at=events.index("fsync draft")).code
    again = runner(case, *after)
    assert (0, True) == (again.code, "done already" in again.err), again.err
    assert_same(case, expected)


FAILURES = {
    "no space for the output": ("write draft", "ENOSPC"),
    "no space for the journal": ("write journal", "ENOSPC"),
    "a sync that fails": ("fdatasync draft", "EIO"),
    "a journal that is not synced": ("fdatasync journal", "EIO"),
    "a rename that fails": ("replace draft", "EIO"),
}


@pytest.mark.parametrize(("event", "error"), FAILURES.values(), ids=FAILURES)
def test_a_system_that_fails(event: str, error: str, runner: Runner) -> None:
    """A full disk or a broken one ends the job with a clear line, leaves the older output, and no sync is tried again;
    when the system works again, the same command goes on."""
    case = Case("in.csv", "out.csv", 2)
    expected, events = whole(runner, case)
    Path("out.csv").write_text("older")
    places = [at for at, name in enumerate(events) if name == event]
    at = places[len(places) // 2]
    ran = runner(case, at=at, do=error)
    assert (1, "") == (ran.code, ran.out), ran.err
    assert ran.err.startswith("error: ") and os.strerror(getattr(__import__("errno"), error)) in ran.err
    assert [] == [name for name in ran.events[at + 1 :] if name.startswith(("fdatasync", "fsync"))]
    assert "older" == Path("out.csv").read_text()
    again = runner(case)
    assert (0, True) == (again.code, "already" in again.err), again.err
    assert_same(case, expected)


def test_a_file_that_may_not_grow(runner: Runner) -> None:
    """RLIMIT_FSIZE ends the job with a clear line; with a higher limit the same command goes on."""
    case = Case("in.csv", "out.csv", 2)
    expected, _ = whole(runner, case)
    ran = runner(case, file_size=len(expected[0]) // 2)
    assert (1, True) == (ran.code, "cannot be written: File too large" in ran.err), ran.err
    assert "the same command goes on from there" in ran.err
    again = runner(case)
    assert (0, True) == (again.code, "done already" in again.err), again.err
    assert_same(case, expected)


@contextlib.contextmanager
def tmpfs(folder: Path, size: int) -> Iterator[None]:
    """A disk of so many bytes; only root may make one."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_full(runner: Runner) -> None:
    """On a disk that is full the job ends with a clear line; with room again, the same command goes on."""
    case = Case("in.csv", "disk/out.csv", 2)
    with tmpfs(Path("disk"), 64 << 10):
        expected, _ = whole(runner, case)
        Path("disk/ballast").write_bytes(bytes((64 << 10) - len(expected[0]) // 2 // 4096 * 4096 - 8192))
        ran = runner(case)
        assert (1, True) == (ran.code, "No space left on device" in ran.err), ran.err
        assert "the same command goes on from there" in ran.err
        Path("disk/ballast").unlink()
        again = runner(case)
        assert (0, True) == (again.code, "done already" in again.err), again.err
        assert_same(case, expected)


@pytest.mark.parametrize(("sent", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_lets_the_block_be_finished(sent: str, code: int, runner: Runner) -> None:
    """The first signal ends the job after the block at hand, and what is done is kept."""
    case = Case("in.csv", "out.csv", 2)
    expected, events = whole(runner, case)
    at = [at for at, name in enumerate(events) if name == "write draft"][2]
    ran = runner(case, at=at, do=sent)
    assert (code, "") == (ran.code, ran.out), ran.err
    assert "the same command goes on from there" in ran.err
    assert not Path("out.csv").exists()
    again = runner(case)
    assert (0, True) == (again.code, "done already" in again.err), again.err
    assert_same(case, expected)


def test_a_journal_that_cannot_be_written_is_named_as_the_output_was(runner: Runner) -> None:
    """A journal's errors name the output as the user named it, also where it leads elsewhere."""
    Path("there").mkdir()
    Path("link").symlink_to("there")
    case = Case("in.csv", "link/out.csv", 1)
    _, events = whole(runner, case)
    for name in ("ftruncate journal", "write journal", "fdatasync journal"):
        ran = runner(case, at=events.index(name), do="EIO")
        says = "link/out.csv: its journal .out.csv.journal cannot be written: Input/output error"
        assert (1, True, False) == (ran.code, says in ran.err, str(Path.cwd()) in ran.err), ran.err


@pytest.mark.parametrize(("sent", "code"), [("SIGINT SIGINT", 130), ("SIGINT SIGTERM", 143)])
def test_a_second_signal_ends_at_once(sent: str, code: int, runner: Runner) -> None:
    """Whoever does not wait for the block at hand stops the job there and then, and loses no more than that block."""
    case = Case("in.csv", "out.csv", 2)
    expected, events = whole(runner, case)
    at = [at for at, name in enumerate(events) if name == "write draft"][2]
    ran = runner(case, at=at, do=sent)
    assert (code, "", "") == (ran.code, ran.out, ran.err)
    assert events[: at + 1] == ran.events
    again = runner(case)
    assert (0, True) == (again.code, "done already" in again.err), again.err
    assert_same(case, expected)


def test_two_runners_on_one_output(runner: Runner) -> None:
    """While one writes, another is refused and told which process writes."""
    case = Case("in.csv", "out.csv", 1)
    expected, _ = whole(runner, case)
    command = [sys.executable, "-m", "foretell", "models", "predict", "-m", str(MODEL), "-t", "csv", "-o", "out.csv"]
    journal, until = Path(".out.csv.journal"), time.monotonic() + PATIENCE
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as first:
        while time.monotonic() < until and not (journal.exists() and b'"run"' in journal.read_bytes()):
            with contextlib.suppress(subprocess.TimeoutExpired):
                raise AssertionError(f"it ended by itself, with {first.wait(timeout=0.01)}")
        second = runner(case)
        first.kill()
    assert (1, True) == (second.code, f"is being written by process {first.pid} on " in second.err), second.err
    assert 0 == runner(case).code
    assert_same(case, expected)


SYSCALLS = ("ftruncate", "pwrite64", "fsync", "fdatasync", "rename", "unlink")


def traced(case: Case, *inject: str) -> tuple[int, list[str], str]:
    """Runs the real command under strace: its exit code, the system calls on its files in order, and its stderr."""
    names = ("", ".out.csv.draft", ".out.csv.journal", ".out.csv.rejects.jsonl.draft", "out.csv")
    paths = [part for name in names for part in ("-P", str(Path.cwd() / name))]
    command = ["strace", "-f", "-qq", "-o", "log", "-e", f"trace={','.join(SYSCALLS)}", *inject, *paths]
    command += [sys.executable, "-m", "foretell", "models", "predict", "-m", str(MODEL), *case.arguments]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    calls = [line.split(None, 1)[1].partition("(")[0] for line in Path("log").read_text().splitlines() if "(" in line]
    return ran.returncode, calls, ran.stderr


@pytest.fixture
def strace() -> None:
    if shutil.which("strace") is None or traced(Case("in.csv", "out.csv", 1))[0]:
        pytest.skip("no strace, or it may not trace here")
    for name in Case("in.csv", "out.csv", 1).outputs:
        Path(name).unlink()


@pytest.mark.usefixtures("strace")
def test_the_real_command_killed_at_every_system_call(runner: Runner) -> None:
    """The command as it is, killed at each call by which it changes a file, and run again: the same bytes."""
    case = Case("in.csv", "out.csv", 1)
    expected, _ = whole(runner, case)
    code, calls, _ = traced(case)
    assert 0 == code
    assert_same(case, expected)
    fired = Counter()
    for call, count in Counter(calls).items():
        for number in range(1, count + 1):
            code, seen, _ = traced(case, "-e", f"inject={call}:signal=KILL:when={number}")
            fired[(call, seen.count(call))] += code == -9
            assert 0 == runner(case, block=4 << 20).code
            assert_same(case, expected)
    print(f"{len(+fired)} distinct points fired, of {len(calls)}: {Counter(call for call, _ in fired)}")
    assert {(call, number) for call, count in Counter(calls).items() for number in range(1, count + 1)} == set(+fired)


FAILING = {
    "a sync": ("fsync:error=EIO:when=1", "Input/output error"),
    "a write": ("pwrite64:error=ENOSPC:when=1", "No space left on device"),
    "a rename": ("rename:error=EIO:when=1", "Input/output error"),
}


@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize(("fault", "reason"), FAILING.values(), ids=FAILING)
def test_the_real_command_on_a_disk_that_fails(fault: str, reason: str, runner: Runner) -> None:
    """The system's own error at a call: a clear line, the older output stays, the next run ends well."""
    case = Case("in.csv", "out.csv", 1)
    expected, _ = whole(runner, case)
    Path("out.csv").write_text("older")
    code, _, err = traced(case, "-e", f"inject={fault}")
    assert "INJECTED" in Path("log").read_text()
    assert (1, "older") == (code, Path("out.csv").read_text()), err
    first = err.splitlines()[0]
    assert ("out.csv" in first, True) == (True, first.endswith(f"cannot be written: {reason}")), err
    assert 0 == runner(case, block=4 << 20).code
    assert_same(case, expected)
