"""What the ledger keeps of a job, and of those that a model was used for."""

from dataclasses import dataclass

RUNNING, FINISHED, HELD, ACCEPTED, FAILED, STOPPED = "running", "finished", "held", "accepted", "failed", "stopped"
"""How a job stands, as it was last told. A job that says "running" may have been killed since: see `processes`."""

COUNTED = (FINISHED, ACCEPTED)
"""Whose outputs are in place."""


@dataclass(frozen=True)
class Begun:
    """A job that begins. name: the same for every job of its kind. folder, command: where it runs, and its arguments
    after "foretell". omitted: options that were left out of command, as they may hold a secret. model: the uri.
    label: the model for people. output: its path, from the root on; empty for stdout. since: seconds, as time.time."""

    name: str
    folder: str
    command: tuple[str, ...]
    omitted: tuple[str, ...]
    model: str
    label: str
    digest: str
    source: str
    output: str
    since: float


@dataclass(frozen=True)
class Entry:
    """A job in the ledger. until, seconds: when it ended, and how long it took from its process's start; 0 before.
    process: see `processes`. rows: that were read. error: why it failed, on one line. report: JSON, or empty."""

    id: int
    state: str
    begun: Begun
    process: str
    host: str
    until: float
    seconds: float
    rows: int
    rejected: int
    error: str
    report: bytes


@dataclass(frozen=True)
class Use:
    """A job that a model was used for, whose output is in place. at: when it began, seconds as time.time."""

    at: float
    rows: int
    seconds: float
