"""What all connections of a serving process share: the models behind the routes, the limits, the log, the clock."""

import time
from dataclasses import dataclass, field

from foretell.serve.access_log import AccessLog
from foretell.serve.exchange import Heads
from foretell.serve.limits import Limits
from foretell.serve.service import Service


@dataclass
class Door:
    """hot: the models by their routes for predictions. now: the time of the last tick, exact enough for timeouts.
    held: bytes of request bodies at hand. closing: whether connections end with their next answer."""

    hot: dict[bytes, Service]
    log: AccessLog
    limits: Limits
    heads: Heads = field(default_factory=Heads)
    now: float = field(default_factory=time.monotonic)
    held: int = 0
    closing: bool = False

    @property
    def main(self) -> Service:
        """The model that stands for the server."""
        return self.hot[b"/invocations"]
