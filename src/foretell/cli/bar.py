"""The progress bar of a batch prediction, on a terminal."""

from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from foretell.job.job import Progress as Told


def shown(progress: Iterator[Told]) -> Iterator[Told]:
    """Passes the job's progress on and draws it: share of the bytes read, rows, rows a second, time to go."""
    columns = (
        TextColumn("predicting"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]} rows  {task.fields[rate]} rows/s  eta"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, rows="0", rate="–")
        for told in progress:
            rate = f"{told.rows / told.seconds:,.0f}" if told.seconds else "–"
            bar.update(task, total=told.size, completed=told.read, rows=f"{told.rows:,}", rate=rate)
            yield told
