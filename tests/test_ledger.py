"""The ledger of jobs: what it keeps, who runs, and that nothing of it ever fails a job."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from conftest import Command
from foretell.errors import LedgerError
from foretell.ledger import processes
from foretell.ledger.entry import ACCEPTED, FAILED, FINISHED, HELD, RUNNING, Begun, Use
from foretell.ledger.ledger import Ledger
from test_resume import MODEL, Case, Runner
from test_resume import runner as runner


def begun(name: str = "nightly", digest: str = "sha256:1", since: float = 1.0) -> Begun:
    command = ("models", "predict", "-i", "a b.csv")
    return Begun(name, "/data", command, (), "models:/m", "m version 1", digest, "a b.csv", "/data/o", since)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "state", keep=5)


def test_a_job_from_its_begin_to_its_end(ledger: Ledger) -> None:
    """It runs, with the process that runs it, until it is told how it ended."""
    assert ([], None) == (ledger.entries(), ledger.entry(1))
    job = ledger.begin(begun())
    entry = ledger.entry(job)
    assert entry is not None
    assert (RUNNING, begun(), True) == (entry.state, entry.begun, processes.runs(entry.process, entry.host))
    assert os.getpid() == processes.pid_of(entry.process)
    ledger.end(job, FINISHED, rows=9, rejected=2, seconds=1.5, report=b'{"a": 1}')
    entry = ledger.entry(job)
    assert entry is not None
    assert (FINISHED, 9, 2, 1.5, b'{"a": 1}') == (entry.state, entry.rows, entry.rejected, entry.seconds, entry.report)
    assert 1 == ledger.forget([job, 77])
    assert [] == ledger.entries()


def test_a_process_that_ended_does_not_run() -> None:
    """Another process's name is that of a running one until it ends, also where its number is not yet free; numbers of
    another boot and other machines are told apart."""
    script = "from foretell.ledger import processes; print(processes.me(), flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        name = other.stdout.readline().decode().strip()
        here = processes.host()
        assert (True, other.pid) == (processes.runs(name, here), processes.pid_of(name))
        other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        assert processes.runs(name, here) is False
    boot, space, number, _ = name.split(" ")
    assert processes.runs(f"{boot} {space} {os.getpid()} 1", here) is False
    assert processes.runs(f"earlier {space} {number} 1", here) is False
    assert processes.runs(f"earlier {space} {number} 1", "elsewhere") is None
    assert processes.runs(f"{boot} 1 {number} 1", here) is None
    assert processes.runs("nonsense", here) is False


def test_the_last_job_of_a_name(ledger: Ledger) -> None:
    """It is the last one that ended well and has a report; one that was held counts when it is accepted."""
    jobs = [ledger.begin(begun()) for _ in range(4)]
    for job, state in zip(jobs, (FINISHED, FAILED, HELD, RUNNING), strict=True):
        ledger.end(job, state, rows=job, seconds=1, report=b"{}")
    last = ledger.last("nightly")
    assert (None, jobs[0]) == (ledger.last("daily"), last and last.id)
    ledger.mark(jobs[2], ACCEPTED)
    last = ledger.last("nightly")
    assert jobs[2] == (last and last.id)


def test_its_size_is_bounded(ledger: Ledger) -> None:
    """The oldest jobs are forgotten, but for the last finished one of a name; a huge report is not kept."""
    kept = ledger.begin(begun("nightly"))
    ledger.end(kept, FINISHED, rows=1, seconds=1, report=b"{}")
    for number in range(20):
        job = ledger.begin(begun(f"name {number}"))
        ledger.end(job, FAILED, rows=1, seconds=1, report=b"x" * 1_000_000)
    assert [job, job - 1, job - 2, job - 3, job - 4, kept] == [entry.id for entry in ledger.entries()]
    assert b"" == ledger.entries()[0].report
    assert 1_000_000 > ledger.path.stat().st_size


def test_what_a_model_was_used_for(ledger: Ledger) -> None:
    """Jobs of a model whose outputs are in place, the newest first: when, how many rows, how long."""
    for since, digest, state in (
        (10.0, "x", FINISHED),
        (20.0, "x", FINISHED),
        (30.0, "x", FAILED),
        (40.0, "y", FINISHED),
    ):
        ledger.end(ledger.begin(begun("n", digest, since)), state, rows=3, seconds=0.5)
    assert [Use(20.0, 3, 0.5), Use(10.0, 3, 0.5)] == ledger.recent("x")
    assert [Use(20.0, 3, 0.5)] == ledger.recent("x", since=15.0)


def test_many_at_once(ledger: Ledger) -> None:
    """Ten processes that begin and end jobs at once all come through."""
    script = (
        "import sys; from pathlib import Path; from foretell.ledger.entry import Begun\n"
        "from foretell.ledger.ledger import Ledger; ledger = Ledger(Path(sys.argv[1]))\n"
        "begun = Begun('n', '/', (), (), 'm', 'm', 'd', 'i', 'o', 1.0)\n"
        "for _ in range(2): ledger.end(ledger.begin(begun), 'finished', rows=1, seconds=1)"
    )
    command = [sys.executable, "-c", script, str(ledger.path.parent)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(10)]
    told = [process.communicate()[1] for process in running]
    assert ([0] * 10, [""] * 10) == ([process.returncode for process in running], told)
    assert [FINISHED] * 20 == [entry.state for entry in ledger.entries()]


def _broken(path: Path) -> None:
    path.write_bytes(b"nothing that SQLite knows" * 100)


def _newer(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("pragma user_version=9")


def _other(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("create table jobs (id integer)")
        database.execute("pragma user_version=1")


def _anybody(path: Path) -> None:
    path.touch()
    path.parent.chmod(0o777)


BAD: dict[str, tuple[Callable[[Path], Any], str | tuple[str, ...]]] = {
    "broken": (_broken, "not a database"),
    "newer": (_newer, "newer foretell"),
    "another's": (_other, ("no column", "no such column")),
    "a folder": (lambda path: path.mkdir(), ("Is a directory", "unable to open")),
    "anybody's": (_anybody, "can be written by others"),
}


@pytest.mark.parametrize(("spoil", "says"), BAD.values(), ids=BAD)
def test_a_bad_ledger_says_so(spoil: Callable[[Path], Any], says: str | tuple[str, ...], ledger: Ledger) -> None:
    """What is wrong is one line, from whatever is asked of it."""
    ledger.path.parent.mkdir()
    spoil(ledger.path)
    asks = (lambda: ledger.begin(begun()), lambda: ledger.end(1, FINISHED, rows=1, seconds=1), ledger.entries)
    for ask in asks:
        with pytest.raises(LedgerError, match=str(ledger.path.parent)) as caught:
            ask()
        assert "\n" not in caught.value.message
        assert any(one in caught.value.message for one in ([says] if isinstance(says, str) else says))


PREDICT = ("models", "predict", "-m", str(MODEL), "-i", "in.csv", "-o", "out.csv")
HEADER = "sepal_length,sepal_width,petal_length,petal_width\n"


@pytest.fixture
def rows() -> None:
    Path("in.csv").write_text(HEADER + "5.1,3.5,1.4,0.2\n" * 9)


@pytest.mark.usefixtures("rows")
def test_jobs_are_listed_shown_and_forgotten(command: Command) -> None:
    """Good and failed ones, with what they did; "last" is the last one."""
    empty = command("jobs", "list")
    assert (0, "", True) == (empty.code, empty.out, "No job" in empty.err)
    assert 0 == command(*PREDICT, "--job-name", "nightly").code
    Path("in.csv").write_text(HEADER + "5.1,tall,1.4,0.2\n")
    failed = command(*PREDICT, "--job-name", "nightly")
    assert 3 == failed.code
    head, second, first = command("jobs", "list").out.splitlines()
    assert ["ID", "STATE", "BEGAN", "ROWS", "TOOK", "NAME"] == head.split()
    assert (["2", "failed"], ["1", "finished"]) == (second.split()[:2], first.split()[:2])
    shown = command("jobs", "show", "last").out
    assert "in.csv, line 2, column 'sepal_width': \"tall\" is not a number" in shown
    assert "in.csv" in command("jobs", "show", "1").out
    told = json.loads(command("jobs", "show", "1", "--json").out)
    assert ("finished", 9, {"0": 9}) == (
        told["state"],
        told["report"]["counts"]["rows"],
        told["report"]["predictions"]["prediction"]["classes"],
    )
    lines = command("jobs", "list", "--json", "--name", "nightly").out.splitlines()
    assert [2, 1] == [json.loads(line)["id"] for line in lines]
    digest = told["digest"]
    assert [9] == [use.rows for use in Ledger().recent(digest)]
    for wrong in ("3", "x", "-1", "9" * 30):
        assert 2 == command("jobs", "show", "--", wrong).code
    assert "Forgot 1 job\n" == command("jobs", "forget", "2").out
    assert "Forgot 0 jobs\n" == command("jobs", "forget", "--older-than", "1").out
    assert "Forgot 1 job\n" == command("jobs", "forget", "--all").out
    assert 2 == command("jobs", "forget").code


@pytest.mark.usefixtures("rows")
def test_a_killed_job_is_gone_on_with_from_anywhere(
    runner: Runner,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that was killed says so and can be gone on with, from another folder; one that runs, or that was given what
    may be a secret, cannot."""
    Path("in.csv").write_text(HEADER + "5.1,3.5,1.4,0.2\n" * 3000)
    case = Case("in.csv", "out.csv", 1, ("--job-name", "a 'b' $c; d"))
    events = runner(case).events
    expected = Path("out.csv").read_bytes()
    Path("out.csv").unlink()
    assert -9 == runner(case, at=events.index("fsync draft")).code
    assert -9 == runner(Case("in.csv", "other.csv", 1), "--params", "{}", at=events.index("fsync draft")).code
    work = Path.cwd()
    (work / "elsewhere").mkdir()
    monkeypatch.chdir(work / "elsewhere")
    states = [json.loads(line) for line in command("jobs", "list", "--json").out.splitlines()]
    assert [("killed", True), ("killed", True), ("finished", False)] == [
        (state["state"], state["resumable"]) for state in states
    ]
    refused = command("jobs", "resume", "3")
    assert (2, True) == (refused.code, "--params, which is not kept" in refused.err), refused.err
    assert "params" not in json.dumps(states[0]["command"])
    assert 2 == command("jobs", "resume", "1").code
    ran = command("jobs", "resume", "2")
    assert (0, True) == (ran.code, "done already" in ran.err), ran.err
    assert expected == (work / "out.csv").read_bytes()
    newest = json.loads(command("jobs", "list", "--json", "--last", "1").out)
    assert (4, "finished", "a 'b' $c; d", str(work)) == tuple(
        newest[name] for name in ("id", "state", "name", "folder")
    )
    with closing(sqlite3.connect(Ledger().path)) as database, database:
        database.execute("update jobs set state='running', process=? where id=2", (processes.me(),))
    running = command("jobs", "resume", "2")
    assert (2, True) == (running.code, f"still runs, as process {os.getpid()}" in running.err), running.err


@pytest.mark.usefixtures("rows")
def test_secrets_are_not_kept(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options whose values may hold a secret are named and left out, in every way to write them."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    server = "http://me:hunter2@127.0.0.1:9"
    for more in (("--registry", server), (f"--registry={server}",)):
        ran = command("models", "predict", "-m", "models:/m/1", "-i", "in.csv", "-o", "out.csv", *more)
        assert 3 == ran.code, ran.err
    assert 0 != command(*PREDICT, "--params", '{"key": "hunter2"}').code
    entries = Ledger().entries()
    assert [("--params",), ("--registry",), ("--registry",)] == [entry.begun.omitted for entry in entries]
    assert b"hunter2" not in Ledger().path.read_bytes()


@pytest.mark.usefixtures("rows")
def test_a_bad_ledger_fails_no_job(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken, locked, or where nothing can be written: the job runs, and a line says that it is not noted."""
    monkeypatch.setattr("foretell.ledger.ledger._PATIENCE", 0.01)
    path = Ledger().path

    def noted() -> None:
        ran = command(*PREDICT, "--guard")
        assert 0 == ran.code, ran.err
        lines = [line for line in ran.err.splitlines() if line.startswith("note: ")]
        assert (1, True) == (len(lines), lines[0].startswith("note: this job is not in the ledger: ")), ran.err

    path.parent.mkdir(parents=True)
    _broken(path)
    noted()
    ran = command("jobs", "list")
    assert (1, True) == (ran.code, "not a database" in ran.err)
    path.unlink()
    Ledger().begin(begun())
    with closing(sqlite3.connect(path)) as database:
        database.execute("begin exclusive")
        noted()
    monkeypatch.setenv("FORETELL_STATE", "/dev/null/state")
    noted()
    monkeypatch.setenv("FORETELL_STATE", str(Path.cwd() / "mine"))
    assert 0 == command(*PREDICT).code
    assert Path("mine/jobs.sqlite").exists()
