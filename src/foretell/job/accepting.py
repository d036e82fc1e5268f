"""An output that was held back is put in place after all."""

from datetime import datetime
from pathlib import Path

from foretell.errors import OutputError, UsageError
from foretell.job import parts
from foretell.job.journal import Journal
from foretell.job.outputs import held_of, journal_of, rejects_of, report_of
from foretell.job.report import Report
from foretell.storage import sync_folder

_COARSE = 0.1
"""Seconds by which a file system's clock may be behind."""


def accept(output: Path, report: Report | None, rejected: int) -> None:
    """What waits beside an output takes its place, after its rejected rows and its report did. May be called again,
    after a crash. report, rejected: of the job that wrote it. Raises UsageError, OutputError."""
    held = held_of(output)
    if not held.exists() and not accepted(output, report):
        raise UsageError(f"{held} is not there, so there is nothing to put in place", "It may have been moved")
    journal = Journal(journal_of(output), output)
    try:
        for of in (rejects_of, report_of):
            if of(held).exists():
                of(held).replace(of(output))
            elif of is rejects_of and not rejected:
                of(output).unlink(missing_ok=True)
        if held.is_file():
            held.replace(output)
        elif held.is_dir() or output.is_dir():
            parts.accept(held, output, output)
        sync_folder(output.parent)
    except OSError as error:
        raise OutputError(f"{output} cannot be written: {error.strerror}") from error
    finally:
        if journal.head is None:
            journal.remove()
        journal.close()


def accepted(output: Path, report: Report | None) -> bool:
    """Whether an output that was held back is in its place by now, though nobody may have noted that: it waits no more,
    and what is there has the sizes that its job told, and was written while that ran."""
    if report is None or not report.output:
        return False
    try:
        if parts.waits(held_of(output), output):
            return False
        folder = output.is_dir()
        files = [output / Path(told.path).name if folder else output for told in report.output]
        if [file.stat().st_size for file in files] != [told.bytes for told in report.output]:
            return False
        written = (output / parts.MANIFEST if folder else output).stat().st_mtime
    except OSError:
        return False
    began, ended = (datetime.fromisoformat(at).timestamp() for at in (report.times.began, report.times.ended))
    return began - _COARSE <= written <= ended + _COARSE
