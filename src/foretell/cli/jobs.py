"""`foretell jobs …`: the jobs that ran here, from the ledger."""

import os
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import click
import msgspec

from foretell.cli.main import Decorated, foretell, option
from foretell.cli.noting import when
from foretell.cli.registry import say
from foretell.errors import UsageError, printable
from foretell.job.accepting import accept as put_in_place
from foretell.job.accepting import accepted
from foretell.job.journal import rows_done
from foretell.job.outputs import held_of, journal_of
from foretell.job.report import Report, decoded
from foretell.ledger import processes
from foretell.ledger.entry import ACCEPTED, COUNTED, HELD, RUNNING, Entry
from foretell.ledger.ledger import Ledger
from foretell.tables.files import STDIN

KILLED, ELSEWHERE = "killed", "elsewhere"
"""Of a job that says that it runs: its process is gone; or is on another machine, so that nobody here can tell."""


def _ledger_options(function: Decorated) -> Decorated:
    return option("state")(function)


@click.group(name="jobs")
def command() -> None:
    """Jobs that ran here: finished, running and stopped ones, each with its report."""


@command.command(name="list")
@click.option("--last", default=20, show_default=True, type=click.IntRange(1), help="How many, the newest first.")
@click.option("--name", help="Only those of this name.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, an object a line.")
@_ledger_options
def list_jobs(last: int, name: str | None, as_json: bool, state: str | None) -> None:
    """List the jobs that ran here, the newest first."""
    ledger = _ledger(state)
    entries = [entry for entry in ledger.entries() if name in (None, entry.begun.name)][:last]
    done = _done(ledger)
    if as_json:
        for entry in entries:
            click.echo(msgspec.json.encode(_told(entry, done)))
        return
    if not entries:
        click.echo(f"No job is in {ledger.path}.", err=True)
        return
    rows = [("ID", "STATE", "BEGAN", "ROWS", "TOOK", "NAME")]
    for entry in entries:
        told = _state(entry) + (", resumable" if _resumable(entry, done) else "")
        rows_ = entry.rows if entry.until else done.get(entry.id)
        count = "–" if rows_ is None else f"{rows_:,}"
        took = entry.seconds if entry.until else time.time() - entry.begun.since
        shown = f"{took:,.1f} s" if entry.until or _state(entry) == RUNNING else "–"
        rows.append((str(entry.id), told, when(entry.begun.since), count, shown, printable(entry.begun.name)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if at in (0, 3, 4) else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        line = "  ".join(cells).rstrip()
        wide = shutil.get_terminal_size().columns if sys.stdout.isatty() else len(line)
        click.echo(line if len(line) <= wide else f"{line[: wide - 1]}…")


@command.command()
@click.argument("job")
@click.option("--json", "as_json", is_flag=True, help="As JSON, with the whole report.")
@_ledger_options
def show(job: str, as_json: bool, state: str | None) -> None:
    """Show a job, by its number or "last"."""
    ledger = _ledger(state)
    entry = _entry(ledger, job)
    done = _done(ledger)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(_told(entry, done)), indent=2))
        return
    for name, told in _lines(entry, done):
        click.echo(f"{name:<11} {printable(told)}")


@command.command()
@click.argument("job")
@_ledger_options
def resume(job: str, state: str | None) -> None:
    """Run a job's command again, in its folder: it goes on where the job was stopped."""
    entry = _entry(_ledger(state), job)
    begun_, now = entry.begun, _state(entry)
    told = f"job {entry.id}"
    if now == RUNNING:
        raise UsageError(f"{told} still runs, as process {processes.pid_of(entry.process)}")
    if begun_.omitted:
        raise UsageError(
            f"{told} was given {', '.join(begun_.omitted)}, which is not kept, as it may hold a secret",
            f"Run its command itself again, in {begun_.folder}",
        )
    if begun_.source == STDIN:
        raise UsageError(f"{told} read a pipe, which cannot be read again")
    if now in COUNTED:
        raise UsageError(f"{told} is {now}: there is nothing to go on with", "Run its command itself again")
    try:
        os.chdir(begun_.folder)
    except OSError as error:
        raise UsageError(f"{told}: its folder {begun_.folder} is gone ({error.strerror})") from error
    say(f"in {begun_.folder}: {shlex.join(['foretell', *begun_.command])}")
    sys.argv = ["foretell", *begun_.command]
    foretell.main(args=list(begun_.command), prog_name="foretell", standalone_mode=False)


@command.command()
@click.argument("job")
@_ledger_options
def accept(job: str, state: str | None) -> None:
    """Put the output in place that --guard held back; the next job is compared with it."""
    ledger = _ledger(state)
    entry = _entry(ledger, job)
    if entry.state != HELD:
        raise UsageError(f"job {entry.id} is {_state(entry)}; only an output that was held back can be accepted")
    output = Path(entry.begun.output)
    newer = next((one for one in ledger.entries(output=entry.begun.output) if one.state in (HELD, *COUNTED)), entry)
    if newer.id != entry.id:
        raise UsageError(f"job {newer.id} wrote {output} later", f"foretell jobs show {newer.id}")
    put_in_place(output, decoded(entry.report), entry.rejected)
    ledger.mark(entry.id, ACCEPTED)
    click.echo(f"Accepted: {output} is now the output of job {entry.id}")


@command.command()
@click.argument("jobs", nargs=-1)
@click.option("--all", "all_", is_flag=True, help="All jobs.")
@click.option("--older-than", type=click.IntRange(0), metavar="DAYS", help="Jobs that began so many days ago.")
@_ledger_options
def forget(jobs: tuple[str, ...], all_: bool, older_than: int | None, state: str | None) -> None:
    """Remove jobs from the ledger; outputs and reports stay. Running ones are kept."""
    ledger = _ledger(state)
    if not jobs and not all_ and older_than is None:
        raise UsageError("which jobs are to be forgotten?", "foretell jobs forget 12, --older-than 90, or --all")
    chosen = {_entry(ledger, job).id for job in jobs}
    before = time.time() - 86400 * older_than if older_than is not None else 0.0
    chosen |= {entry.id for entry in ledger.entries() if all_ or entry.begun.since < before}
    running = {entry.id for entry in ledger.entries() if _state(entry) == RUNNING}
    count = ledger.forget(sorted(chosen - running))
    click.echo(f"Forgot {count:,} job{'s' * (count != 1)}")


def _ledger(state: str | None) -> Ledger:
    return Ledger(Path(state) if state else None)


def _entry(ledger: Ledger, job: str) -> Entry:
    if job == "last":
        found = next(iter(ledger.entries(1)), None)
    else:
        found = ledger.entry(int(job)) if job.isascii() and job.isdigit() and len(job) < 19 else None
    if found is None:
        raise UsageError(f"no job {job!r} in {ledger.path}", "See: foretell jobs list")
    return found


def _state(entry: Entry) -> str:
    """How it stands, as far as that can be told from here."""
    if entry.state == HELD and accepted(Path(entry.begun.output), decoded(entry.report)):
        return ACCEPTED
    if entry.state != RUNNING:
        return entry.state
    return {True: RUNNING, False: KILLED, None: ELSEWHERE}[processes.runs(entry.process, entry.host)]


def _done(ledger: Ledger) -> dict[int, int]:
    """Rows that are safe of the jobs that are not complete: of the last one of each output."""
    newest: dict[str, Entry] = {}
    for entry in ledger.entries():
        if entry.begun.output:
            newest.setdefault(entry.begun.output, entry)
    unfinished = {output: entry.id for output, entry in newest.items() if entry.state not in (HELD, *COUNTED)}
    rows = {job: rows_done(journal_of(Path(output))) for output, job in unfinished.items()}
    return {job: count for job, count in rows.items() if count is not None}


def _resumable(entry: Entry, done: dict[int, int]) -> bool:
    return entry.id in done and _state(entry) not in (RUNNING, ELSEWHERE) and entry.begun.source != STDIN


def _told(entry: Entry, done: dict[int, int]) -> dict[str, Any]:
    told = {"id": entry.id, "state": _state(entry), "resumable": _resumable(entry, done), "host": entry.host}
    told |= {"pid": processes.pid_of(entry.process), "ended": entry.until or None, "seconds": entry.seconds}
    told |= {
        "rows": entry.rows if entry.until else done.get(entry.id, 0),
        "rejected": entry.rejected,
        "error": entry.error,
    }
    report = msgspec.Raw(entry.report) if decoded(entry.report) is not None else None
    return {**told, **msgspec.to_builtins(entry.begun), "report": report}


def _lines(entry: Entry, done: dict[int, int]) -> list[tuple[str, str]]:
    begun_ = entry.begun
    goes_on = f"; foretell jobs resume {entry.id} goes on after {done.get(entry.id, 0):,} rows"
    state = _state(entry) + (goes_on if _resumable(entry, done) else "")
    command = shlex.join(["foretell", *begun_.command]) + (
        f" (without {', '.join(begun_.omitted)})" * bool(begun_.omitted)
    )
    lines = [("job", f"{entry.id}, {begun_.name}"), ("state", state)]
    if entry.error:
        lines.append(("error", entry.error))
    if _state(entry) == HELD:
        lines.append(("held", f"{held_of(Path(begun_.output))}; foretell jobs accept {entry.id} puts it in place"))
    where = f"by process {processes.pid_of(entry.process)} on {entry.host}, in {begun_.folder}"
    lines += [("began", f"{when(begun_.since)} {where}"), ("command", command)]
    lines.append(("model", f"{begun_.label or begun_.model}, {begun_.digest or 'not found'}"))
    if not entry.until and entry.id in done:
        lines.append(("rows", f"{done[entry.id]:,} so far"))
    if entry.until:
        rows = f"{entry.rows:,}, {entry.rejected:,} of them rejected" if entry.rejected else f"{entry.rows:,}"
        lines += [("ended", f"{when(entry.until)}, after {entry.seconds:,.2f} s"), ("rows", rows)]
    return lines + (_of_report(report) if (report := decoded(entry.report)) is not None else [])


def _of_report(report: Report) -> list[tuple[str, str]]:
    times, rate = report.times, report.throughput
    stages = f"reading {times.reading:.2f} s, predicting {times.predicting:.2f} s, writing {times.writing:.2f} s"
    lines = [("engine", report.engine), ("rate", f"{rate.rows_per_s:,.0f} rows/s, {rate.mb_per_s:,.1f} MB/s")]
    lines += [
        ("times", f"start {times.start:.2f} s, {stages}"),
        ("memory", f"{report.memory.peak / (1 << 20):,.0f} MiB"),
    ]
    for kind, files in (("input", report.input), ("output", report.output)):
        more = f" and {len(files) - 1:,} more" if len(files) > 1 else ""
        lines += [
            (kind, f"{file.path}, {file.bytes or 0:,} bytes, sha256 {file.sha256 or '–'}{more}") for file in files[:1]
        ]
    if nulls := [f"{name} {rows:,}" for name, rows in report.nulls.items() if rows]:
        lines.append(("nulls", ", ".join(nulls[:20])))
    for name, told in report.predictions.items():
        shares = [f"{label} {rows:,}" for label, rows in list(told.get("classes", {}).items())[:20]]
        numbers = [f"{share} {value:.4g}" for share, value in told.get("quantiles", {}).items()]
        lines.append((name[:11], ", ".join(shares or [f"min {told.get('min')}", *numbers, f"max {told.get('max')}"])))
    return lines
