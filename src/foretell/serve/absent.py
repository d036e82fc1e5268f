"""What stands behind a model's routes while there is no model: every request is told why."""

import asyncio

from foretell.errors import Overloaded
from foretell.serve.exchange import Exchange
from foretell.serve.limits import Limits
from foretell.serve.meters import NO_VERSION, Meter
from foretell.serve.problems import refusal


class Absent:
    """In the place of a service. unready: why there is no model, such as that it is being loaded."""

    version = NO_VERSION.encode()
    queued = 0
    stuck = 0.0

    def __init__(self, name: str, limits: Limits, unready: str) -> None:
        self.limits = limits
        self.meter = Meter(name, NO_VERSION)
        self.unready = unready
        self.draining = self.watched = False

    def start(self, _loop: asyncio.AbstractEventLoop) -> None:
        """Nothing runs here."""

    def close(self) -> None:
        """Nothing runs here."""

    def invoke(self, exchange: Exchange, _body: bytes, _now: float) -> None:
        """Refuses."""
        exchange.done(exchange, refusal(Overloaded(self.unready, "Try again later", full="no_model")))
