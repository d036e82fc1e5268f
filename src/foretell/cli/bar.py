"""The progress bar of a batch prediction, on a terminal."""

from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from foretell.job.running import Tally


def shown(progress: Iterator[Tally]) -> Iterator[Tally]:
    """Passes the job's progress on and draws it: share of the bytes read, rows, rows and MB a second, bad rows, time to
    go."""
    columns = (
        TextColumn("predicting"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]} rows  {task.fields[rate]}  eta"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, rows="0", rate="–")
        for told in progress:
            bar.update(task, total=told.size, completed=told.read, rows=f"{told.rows:,}", rate=_rate(told))
            yield told


def _rate(told: Tally) -> str:
    if not told.seconds:
        return "–"
    rate = f"{(told.rows - told.resumed) / told.seconds:,.0f} rows/s  {told.read / told.seconds / 1e6:,.0f} MB/s"
    return f"{rate}  {told.rejected:,} rejected" if told.rejected else rate
