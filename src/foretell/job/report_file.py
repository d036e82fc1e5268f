"""The file of a job's report, which appears whole or not at all."""

import os
from pathlib import Path

from foretell.errors import OutputError
from foretell.job.drafts import Draft
from foretell.job.report import Report


def write(path: Path, report: Report, shown: Path) -> None:
    """shown: as a person named it. Raises OutputError."""
    draft = _draft(path, shown)
    try:
        draft.open(0)
        draft.write(report.encoded())
        draft.take_mode()
        draft.sync(os.fsync)
        draft.put_in_place(path.resolve())
    except OutputError:
        draft.remove()
        raise


def sweep(path: Path) -> None:
    """Removes what a run left that was killed while it wrote there."""
    _draft(path, path).remove()


def _draft(path: Path, shown: Path) -> Draft:
    target = path.resolve()
    return Draft(target, target.with_name(f".{target.name}.draft"), shown)
