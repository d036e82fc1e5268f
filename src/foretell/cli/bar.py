"""The progress bar of a batch prediction, on a terminal."""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn
from rich.text import Text

from foretell.job.running import Tally

_PATIENCE = 0.7
"""Seconds after which there is something to show; what is done before would only flicker."""
_WINDOW = 20.0
"""Seconds that the rate is taken from."""


def drawn(progress: Iterator[Tally]) -> Iterator[Tally]:
    """Passes the job's progress on and draws it: the share of the bytes read, rows, rows and MB a second, time to go,
    and bad rows. Nothing is drawn of a job that is done in no time."""
    columns = (BarColumn(20), TaskProgressColumn("{task.percentage:>3.0f}%"), _Told())
    rates = Rates()
    began = time.monotonic()
    bar = Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=5)
    task = bar.add_task("", total=None)
    try:
        for told in progress:
            rates.add(time.monotonic(), told)
            if not told.finished and time.monotonic() - began > _PATIENCE:
                bar.update(task, total=told.size, completed=told.read, told=rates.line())
                bar.start()
            yield told
    finally:
        bar.stop()


@dataclass
class Rates:
    """How fast the job is of late. Rows of an earlier run count as done, but not for the rate."""

    seen: deque[tuple[float, Tally]] = field(default_factory=deque)

    def add(self, at: float, told: Tally) -> None:
        self.seen.append((at, told))
        while len(self.seen) > 2 and self.seen[1][0] < at - _WINDOW:
            self.seen.popleft()

    def line(self) -> str:
        (since, first), (now, last) = self.seen[0], self.seen[-1]
        rows, read, seconds = last.rows - first.rows, last.read - first.read, now - since
        if len(self.seen) < 2 or seconds <= 0:
            rows, read, seconds = last.rows - last.resumed, last.read - last.skipped, last.seconds or 1e-9
        told = [f"{last.rows:,} rows", f"{rows / seconds:,.0f} rows/s", f"{read / seconds / 1e6:,.1f} MB/s"]
        if last.size is not None and read > 0:
            told.append(f"{_clock(max(0, last.size - last.read) * seconds / read)} to go")
        if last.rejected:
            told.append(f"{last.rejected:,} rejected")
        return "  ".join(told)


class _Told(ProgressColumn):
    """What is told in words; as much of it as the terminal is wide."""

    def render(self, task: Task) -> Text:
        return Text(task.fields.get("told", ""), no_wrap=True, overflow="ellipsis")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
