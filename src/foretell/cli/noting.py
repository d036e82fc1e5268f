"""What a batch prediction tells of itself: its report, and its line in the ledger of jobs, which never fails it."""

import contextlib
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from foretell.cli.main import Decorated, option
from foretell.cli.named import HERE, command_line, job_name
from foretell.cli.registry import say
from foretell.errors import ForetellError, LedgerError, OutputError, OutputHeld, UsageError
from foretell.job.accepting import accept as put_in_place
from foretell.job.accepting import accepted
from foretell.job.guard import Guard, Limits
from foretell.job.outputs import REPORTED, held_of, rejects_of, report_of
from foretell.job.report import decoded
from foretell.job.running import Tally
from foretell.ledger import processes
from foretell.ledger.entry import ACCEPTED, COUNTED, FAILED, FINISHED, HELD, STOPPED, Begun
from foretell.ledger.ledger import LARGEST, Ledger
from foretell.predictor import Found
from foretell.registry.choose import without_secrets
from foretell.tables.files import STDIN

_LONG = 1.0
"""Seconds after which it is worth telling where they went."""
Answer = TypeVar("Answer")


def noting_options(function: Decorated) -> Decorated:
    """Options of what a job tells, and what it is compared with."""
    for one in (
        option("keep_jobs", type=click.IntRange(1)),
        option("state"),
        click.option(
            "--guard-limit",
            multiple=True,
            metavar="WHAT=LIMIT",
            help="How much --guard lets pass: rows=50%, nulls=10%, distribution=0.25 (PSI). Repeatable.",
        ),
        click.option(
            "--guard",
            is_flag=True,
            help="Keep the older output, exit 5, where rows, nulls or predictions jump against the job's last time.",
        ),
        click.option("--job-name", help="The job's name, as what it is compared with itself.  [default: by its paths]"),
        click.option("--no-hashes", is_flag=True, help="Leave sha256 of inputs and outputs out of the report."),
        click.option(
            "--report",
            is_flag=False,
            flag_value=HERE,
            metavar="[FILE]",
            help="Write what the job did to OUT.report.json, or to a file.",
        ),
    ):
        function = one(function)
    return function


def report_path(given: dict[str, Any], inputs: list[str]) -> Path | None:
    """Where the report goes, if anywhere. Raises UsageError, OutputError."""
    said, target = given["report"], given["output_path"]
    if said is None:
        return None
    if said == HERE:
        if target == STDIN:
            raise UsageError("--report: there is no name beside stdout", "Give it one: --report FILE")
        return REPORTED
    path = Path(said)
    if not path.parent.is_dir():
        raise OutputError(f"{said}: there is no folder {path.parent}", f"mkdir -p {path.parent}")
    if path.is_dir():
        raise UsageError(f"--report {said} is a folder", "Give a file")
    if target != STDIN and path.resolve() in (Path(target).resolve(), rejects_of(Path(target).resolve())):
        raise UsageError(f"--report {said} is the output too", "Give it another name")
    if any(path.exists() and Path(one).exists() and path.samefile(one) for one in inputs):
        raise UsageError(f"--report {said} is the input too", "Give it another name")
    return path


@contextlib.contextmanager
def noted(given: dict[str, Any]) -> "Iterator[Note]":
    """A job's line in the ledger, however it ends."""
    began = time.time() - processes.since_start()
    folder = given["state"]
    note = Note(given, job_name(given), began, Ledger(Path(folder) if folder else None, given["keep_jobs"]))
    try:
        yield note
    except OutputHeld as error:
        note.end(HELD, error.message)
        raise
    except ForetellError as error:
        if note.job or not isinstance(error, UsageError):
            note.end(FAILED, error.message)
        raise
    except (KeyboardInterrupt, SystemExit):
        if note.job:
            note.end(STOPPED)
        raise
    except BaseException as error:
        note.end(FAILED, f"{type(error).__name__}: {error}")
        raise
    note.end(FINISHED)


@dataclass
class Note:
    """One job's. job: its id, 0 while it has none. tally: how far it is."""

    given: dict[str, Any]
    name: str
    began: float
    ledger: Ledger
    job: int = 0
    tally: Tally = field(default_factory=Tally)
    _broken: bool = False

    def begin(self, found: Found | None) -> None:
        """The job runs from here on."""
        given, target = self.given, self.given["output_path"]
        command, omitted = command_line(given)
        begun = Begun(
            self.name,
            str(Path.cwd()),
            command,
            omitted,
            without_secrets(given["model_uri"]),
            found.resolved.label if found is not None else "",
            found.resolved.digest if found is not None else "",
            given["input_path"],
            "" if target == STDIN else str(Path(target).resolve()),
            self.began,
        )
        self.job = self._tried(lambda: self.ledger.begin(begun)) or 0

    def guard(self) -> Guard | None:
        """What the job is to be compared with, if it is. Raises UsageError."""
        if not (self.given["guard"] or self.given["guard_limit"]):
            return None
        limits = _limits(self.given["guard_limit"])
        if self.given["output_path"] == STDIN:
            raise UsageError("--guard keeps an older output where it is, and stdout has none", "Give a file: -o")
        self._settle()
        last = self._tried(lambda: self.ledger.last(self.name))
        report = None if last is None else decoded(last.report)
        if self._broken:
            return None
        if last is None or report is None:
            say(f"--guard has nothing to compare with yet: no earlier job is named {self.name!r}")
            return None
        return Guard(report, f"job {last.id} of {when(last.begun.since)}", limits)

    def _settle(self) -> None:
        """Notes that an earlier output was accepted, where that was killed before it was noted."""
        output = Path(self.given["output_path"]).resolve()
        entries = self._tried(lambda: self.ledger.entries(output=f"{output}")) or []
        last = next((entry for entry in entries if entry.state in (HELD, *COUNTED)), None)
        if last is not None and last.state == HELD and accepted(output, decoded(last.report)):
            put_in_place(output, decoded(last.report), last.rejected)
            self._tried(lambda: self.ledger.mark(last.id, ACCEPTED))

    def end(self, state: str, error: str = "") -> None:
        """How the job ended. One that never began, as its model was not found, is noted all the same."""
        if not self.job:
            self.begin(None)
        tally, seconds = self.tally, time.time() - self.began
        report = b"" if tally.report is None else msgspec.json.encode(tally.report)
        if len(report) > LARGEST and tally.report is not None:
            report = msgspec.json.encode(msgspec.structs.replace(tally.report, input=[], output=[]))
        told = {"rows": tally.rows, "rejected": tally.rejected}
        if self.job:
            self._tried(lambda: self.ledger.end(self.job, state, **told, seconds=seconds, error=error, report=report))

    def held(self, jumps: tuple[str, ...]) -> OutputHeld:
        """What to say where the output is not like the one before."""
        path = Path(self.given["output_path"])
        there = f"; {path} is as it was" if path.exists() else ""
        error = OutputHeld(f"the new output is not like that of the job before, and waits in {held_of(path)}{there}")
        error.details = jumps
        state = f" --state {shlex.quote(self.given['state'])}" if self.given["state"] else ""
        accept = f"foretell jobs accept {self.job}{state}" if self.job else f"mv {held_of(path)} {path}"
        error.hint = f"To put it in place, and compare later ones with it: {accept}"
        return error

    def _tried(self, ask: Callable[[], Answer]) -> Answer | None:
        """A ledger that cannot be used is said once, and then left alone."""
        if self._broken:
            return None
        try:
            return ask()
        except LedgerError as error:
            say(f"this job is not in the ledger: {error.message}")
            self._broken = True
            return None


def _limits(said: tuple[str, ...]) -> Limits:
    limits = Limits()
    for one in said:
        what, equals, value = one.partition("=")
        try:
            number = float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
            if not equals or not 0 <= number < float("inf"):
                raise ValueError
            limits = replace(limits, **{what: number})
        except (ValueError, TypeError):
            raise UsageError(
                f"--guard-limit {one}: expected rows=, nulls= or distribution=, and a number",
                "For example: --guard-limit rows=80% --guard-limit distribution=0.5",
            ) from None
    return limits


def when(seconds: float) -> str:
    """A time for people, of this place's clocks."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")


def summary(done: Tally, label: str, given: dict[str, Any]) -> str:
    """A job in some lines, the last of which tells of bad rows, if there were some."""
    path = Path(given["output_path"])
    did = done.rows - done.resumed
    seconds = done.seconds or 1e-9
    rate = f"{did / seconds:,.0f} rows/s, {(done.read - done.skipped) / seconds / 1e6:,.1f} MB/s"
    lines = [f"{_rows(done.rows)} in {done.seconds:.2f} s ({rate}) with {label}, {done.engine}"]
    if done.resumed:
        lines.append(f"{_rows(done.resumed)} of them by an earlier run, which do not count for the rate")
    if did and done.seconds > _LONG:
        stages = f"reading {done.reading:.2f} s, predicting {done.predicting:.2f} s, writing {done.writing:.2f} s"
        lines.append(f"{stages} in all threads, after {done.start:.2f} s to start")
    if given["report"] is not None:
        lines.append(f"report: {report_of(path) if given['report'] == HERE else given['report']}")
    if done.rejected:
        lines.append(f"rejected rows: {rejects_of(path)}")
        lines.append(f"{done.predicted:,} predicted + {done.rejected:,} rejected")
    return "\n".join(lines)


def _rows(rows: int) -> str:
    return f"{rows:,} row{'' if rows == 1 else 's'}"
