"""What all connections of a serving process share: the models behind the routes, the limits, the log, the clock."""

import time
from dataclasses import dataclass, field

from foretell.serve.access_log import AccessLog
from foretell.serve.counts import Counts
from foretell.serve.exchange import Heads
from foretell.serve.limits import Limits
from foretell.serve.service import Service
from foretell.serve.witness import Witness


@dataclass
class Door:
    """hot: the models by their routes for predictions. now: the time of the last tick, exact enough for timeouts.
    held: bytes of request bodies at hand, and of answers that their clients have not taken: unsent, as of the last
    tick. connections: open ones, as of the last tick. counts: what /metrics tells. closing: whether connections end
    with their next answer. witnesses: who else is told of every request."""

    hot: dict[bytes, Service]
    log: AccessLog
    limits: Limits
    heads: Heads = field(default_factory=Heads)
    now: float = field(default_factory=time.monotonic)
    held: int = 0
    unsent: int = 0
    connections: int = 0
    counts: Counts = field(default_factory=Counts)
    closing: bool = False
    witnesses: tuple[Witness, ...] = ()

    @property
    def watched(self) -> bool:
        """Whether somebody wants to know what became of each request."""
        return self.log.all or bool(self.witnesses)

    @property
    def services(self) -> list[Service]:
        """The models that are served."""
        return list(self.hot.values())

    @property
    def main(self) -> Service:
        """The model that stands for the server."""
        return self.hot[b"/invocations"]
