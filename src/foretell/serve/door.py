"""What all connections of a serving process share: the models behind the routes, the limits, the log, the clock."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from foretell.serve.absent import Absent
from foretell.serve.access_log import AccessLog
from foretell.serve.counts import Counts
from foretell.serve.exchange import Heads
from foretell.serve.limits import Limits
from foretell.serve.service import Service
from foretell.serve.witness import Witness

INVOCATIONS = b"/invocations"

Stand = Service | Absent
"""What is behind a model's routes."""


@dataclass
class Door:
    """names: of the models, the first of which stands for the server. hot: by their routes for predictions. now: the
    time of the last tick, exact enough for timeouts. held: bytes of request bodies at hand, and of answers that their
    clients have not taken: unsent, as of the last tick. connections: open ones, as of the last tick. counts: what
    /metrics tells. closing: whether connections end with their next answer. witnesses: who else is told of every
    request. told: how each model's versions stand. look: called at every tick."""

    names: tuple[str, ...]
    log: AccessLog
    limits: Limits
    hot: dict[bytes, Stand] = field(default_factory=dict)
    heads: Heads = field(default_factory=Heads)
    now: float = field(default_factory=time.monotonic)
    held: int = 0
    unsent: int = 0
    connections: int = 0
    counts: Counts = field(default_factory=Counts)
    closing: bool = False
    witnesses: tuple[Witness, ...] = ()
    told: dict[str, dict[str, Any]] = field(default_factory=dict)
    look: "Callable[[Door], None] | None" = None

    @property
    def watched(self) -> bool:
        """Whether somebody wants to know what became of each request."""
        return self.log.all or bool(self.witnesses)

    def look_at(self, connections: list[Any], now: float) -> None:
        """Whose clients are late; and where answers that nobody takes fill half of the bytes that may be held, the
        largest of a slow reader goes."""
        unsent = [connection.check(now) for connection in connections]
        total = sum(unsent)
        self.held += total - self.unsent
        self.unsent = total
        if total > self.limits.in_flight // 2:
            ordered = sorted(zip(unsent, connections, strict=True), key=lambda pair: -pair[0])
            any(connection.hogs(now) for _, connection in ordered)

    def put(self, name: str, stand: Stand) -> None:
        """From the next request on, this answers for the model of that name."""
        self.hot[route(name)] = stand
        if name == self.names[0]:
            self.hot[INVOCATIONS] = stand

    def stand(self, name: str) -> Stand:
        return self.hot[route(name)]

    @property
    def stands(self) -> list[Stand]:
        """Of every model, in their order."""
        return [self.stand(name) for name in self.names]

    @property
    def main(self) -> Stand:
        """Of the model that stands for the server."""
        return self.hot[INVOCATIONS]


def route(name: str) -> bytes:
    """Where its rows are sent."""
    return f"/models/{name}/invocations".encode()
