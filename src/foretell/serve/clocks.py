"""Which connections have kept the server waiting too long: for a head, for a body, for the next request, for a reader.

Looked up now and then for all connections at once; a timer for each would cost more than many a prediction.
"""

import enum
from dataclasses import dataclass

from foretell.serve.limits import Limits

EVERY_SECONDS = 0.2
_SHORT = 1 / 6
"""Of the time in which a client must take something."""


class Phase(enum.Enum):
    """What a connection is in the middle of receiving."""

    HEAD = enum.auto()
    BODY = enum.auto()
    NOTHING = enum.auto()


class Late(enum.Enum):
    """What came too late: a head of which nothing came, one that began, a body, the next request, a reader."""

    SILENT = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()
    IDLE = enum.auto()
    READER = enum.auto()


@dataclass(slots=True)
class Watch:
    """What the clocks know of one connection. since: when the phase began. begun: whether something of a request came.
    heard: when something of the body came last. got: bytes of it. unsent: bytes that the client had not taken when
    it was looked at how many it takes, which was at stalled."""

    since: float
    heard: float = 0.0
    phase: Phase = Phase.HEAD
    got: int = 0
    begun: bool = False
    unsent: int = 0
    stalled: float = 0.0

    def dawdles(self, now: float, limits: Limits) -> bool:
        """Whether the client is too slow to take its answer for a time in which there is no room."""
        return self.unsent > 0 and now - self.stalled > limits.write_timeout * _SHORT

    def late(self, now: float, limits: Limits, *, owed: bool, unsent: int) -> Late | None:
        """owed: whether the client waits for the server, so that it need not send."""
        if not unsent or unsent > self.unsent:
            self.unsent, self.stalled = unsent, now
        elif now - self.stalled > limits.write_timeout:
            if self.unsent - unsent < max(1.0, limits.body_rate * limits.write_timeout):
                return Late.READER
            self.unsent, self.stalled = unsent, now
        if owed:
            self.since, self.heard, self.got = now, now, 0
            return None
        waited = now - self.since
        if self.phase is Phase.BODY:
            slow = waited > limits.body_timeout and self.got < waited * limits.body_rate
            return Late.BODY if slow or now - self.heard > limits.body_timeout else None
        if self.phase is Phase.HEAD and waited > limits.head_timeout:
            return Late.HEAD if self.begun else Late.SILENT
        return Late.IDLE if self.phase is Phase.NOTHING and waited > limits.keep_alive else None
