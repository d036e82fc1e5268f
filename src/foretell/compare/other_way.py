"""Whether one way is used for the other's job, told from what was counted, with what it cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from foretell.compare import units

HANDFUL = 100
"""Rows of a job that are few: to start it takes far longer."""

JOBS = 5
"""So many jobs of a handful within RECENT are a habit."""

RECENT = units.HOUR


class Used(Protocol):
    """A job that was run: its rows, and seconds from its process's start to its end."""

    @property
    def rows(self) -> int: ...

    @property
    def seconds(self) -> float: ...


def by_handfuls(uses: Sequence[Used]) -> str | None:
    """What jobs within the last hour cost, if they are as many and as small as requests would be, the last one too.

    uses: of one model, the newest first.
    """
    few = [use for use in uses if 0 < use.rows <= HANDFUL]
    if len(few) < JOBS or uses[0] is not few[0]:
        return None
    rows, seconds = sum(use.rows for use in few), sum(use.seconds for use in few)
    return (
        f"{len(few)} jobs within an hour predicted {rows:,} rows in {units.seconds(seconds)}: "
        f"{units.seconds(seconds / rows)} a row, nearly all of it to start"
    )


@dataclass(frozen=True)
class Counted:
    """What a server counted so far. requests: that were answered. calls: of the model; alone: of those, of one row.
    waited: seconds from requests' heads to their answers. computed: in calls of the model. connections: open now."""

    at: float
    requests: int
    rows: int
    calls: int
    alone: int
    waited: float
    computed: float
    connections: int


class Streak:
    """Watches for one client that sends a file row by row: one connection at most at any time, one row a request,
    one after another."""

    def __init__(self, seconds: float = 20.0, least: float = 20.0) -> None:
        """seconds: that it has to last. least: requests a second, below which it may be people who ask."""
        self._seconds = seconds
        self._least = least
        self._first: Counted | None = None
        self._last: Counted | None = None

    def look(self, now: Counted) -> str | None:
        """What it cost so far, once it has lasted; told once."""
        first, last = self._first, self._last
        self._last = now
        if first is None or last is None or not self._goes_on(last, now):
            self._first = now
            return None
        if now.at - first.at < self._seconds:
            return None
        self._first = None
        rows, took = now.rows - first.rows, now.at - first.at
        compute = units.share(min(1.0, (now.computed - first.computed) / took))
        return (
            f"one client sent {rows:,} rows one by one in {units.seconds(took)}: {units.seconds(took / rows)} a row, "
            f"of which the model computed {compute}"
        )

    def _goes_on(self, last: Counted, now: Counted) -> bool:
        requests, took = now.requests - last.requests, now.at - last.at
        if max(now.connections, last.connections) > 1 or took <= 0 or requests < self._least * took:
            return False
        # A request that is under way was given to the model and not answered yet.
        counts = (now.rows - last.rows, now.calls - last.calls, now.alone - last.alone)
        one_by_one = all(abs(count - requests) <= 1 for count in counts)
        return one_by_one and now.waited - last.waited < took
