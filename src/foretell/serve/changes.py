"""What workers report of the models that they loaded, and a change from some workers to others."""

import queue
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Report:
    """What a worker could load. failed: why a model could not, by name. known: digests and signatures of the others."""

    failed: dict[str, str]
    known: dict[str, dict[str, Any]]


@dataclass
class Change:
    """Workers that are to take over. judge: what is wrong with what they loaded. done: gets that, or "". before: those
    that still let somebody in."""

    command: list[str]
    judge: Callable[[Report], str]
    seconds: float
    done: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue)
    workers: set[int] = field(default_factory=set)
    loaded: set[int] = field(default_factory=set)
    before: set[int] = field(default_factory=set)
