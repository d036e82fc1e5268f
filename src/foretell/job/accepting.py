"""An output that was held back is put in place after all."""

from pathlib import Path

from foretell.errors import OutputError, UsageError
from foretell.job import parts
from foretell.job.journal import Journal
from foretell.job.outputs import held_of, journal_of, rejects_of, report_of
from foretell.storage import sync_folder


def accept(output: Path) -> None:
    """What waits beside an output takes its place, with its rejected rows and its report. May be called again, after a
    crash. Raises UsageError, OutputError."""
    held = held_of(output)
    if not held.exists():
        raise UsageError(f"{held} is not there, so there is nothing to put in place", "It may have been moved")
    journal = Journal(journal_of(output), output)
    try:
        if held.is_dir():
            parts.accept(held, output, output)
        else:
            held.replace(output)
        for of in (rejects_of, report_of):
            if of(held).exists():
                of(held).replace(of(output))
            elif of is rejects_of:
                of(output).unlink(missing_ok=True)
        sync_folder(output.parent)
    except OSError as error:
        raise OutputError(f"{output} cannot be written: {error.strerror}") from error
    finally:
        if journal.head is None:
            journal.remove()
        journal.close()
