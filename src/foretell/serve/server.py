"""Runs one server process: a loaded model, bound sockets, and uvicorn around them, from warming up to the end."""

import asyncio
import contextlib
import faulthandler
import gc
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from time import monotonic
from types import FrameType
from typing import Any

from uvicorn import Config, Server

from foretell.errors import ForetellError, ServerError
from foretell.predictor import Found
from foretell.serve.access_log import AccessLog
from foretell.serve.administration import Administration
from foretell.serve.channel import Parent
from foretell.serve.clocks import EVERY_SECONDS
from foretell.serve.counts import Counts
from foretell.serve.door import Door
from foretell.serve.entrance import Entrance
from foretell.serve.figures import merged
from foretell.serve.follower import RELOAD, Asked, Follower
from foretell.serve.gate import Gate
from foretell.serve.http import InvocationsProtocol
from foretell.serve.limits import Limits, connections_possible
from foretell.serve.routes import Routes
from foretell.serve.sockets import address, listen
from foretell.serve.standing import Standing
from foretell.serve.swapper import Manners, Swapper
from foretell.serve.wanted import Wanted
from foretell.serve.witness import Witness

_TICK_SECONDS = 0.05
_IDLE_SECONDS = 1.0
_GRACE_SECONDS = 5.0
_AFTER_PARENT_SECONDS = 0.1
_STUCK_SECONDS = 30.0
_YOUNG_OBJECTS = 20_000
_TURN_SECONDS = 0.001
"""So long a busy thread keeps the event loop waiting, where it runs Python."""


@dataclass(frozen=True)
class Manner:
    """How a process serves. loop: uvloop or asyncio. replaceable: whether another process comes when this one ends, so
    that it may when its model hangs. early: whether connections are taken while the models are still being loaded.
    poll: seconds between two looks into a registry. change: how versions change."""

    access_log: str
    access_log_format: str = "text"
    debug: bool = False
    loop: str = "uvloop"
    replaceable: bool = False
    early: bool = True
    poll: float = 15.0
    change: Manners = field(default_factory=Manners)


def run(
    wanted: Mapping[str, Wanted],
    first: Mapping[str, Callable[[], Found]],
    entrances: list[Entrance],
    limits: Limits,
    manner: Manner,
    accepting: Callable[[Door], None],
    counts: Counts | None = None,
    witnesses: tuple[Witness, ...] = (),
    parent: Parent | None = None,
    say: Callable[[str], None] = print,
    look: Callable[[Door], None] | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT, then finishes what is in flight.

    wanted: the models, the first of which stands for the server. first: finds them at the start. entrances: the first
    is where rows are sent. accepting: called once rows can be. witnesses: told of every request for predictions.
    parent: of a worker. say: told what a person must hear, by line. look: called at every tick, to see what is counted.

    Raises ServerError when a model hangs and another process can take its place; what kept all models from being
    loaded.
    """
    limits = replace(limits, connections=connections_possible(limits.connections))
    counts = counts or Counts()
    door = Door(tuple(wanted), AccessLog(manner.access_log, manner.access_log_format), limits, counts=counts)
    door.witnesses, door.look = witnesses, look
    swapper = Swapper(wanted, door, counts, replace(manner.change, debug=manner.debug), say)
    config = Config(
        Routes(
            door,
            address(entrances[0].listeners, secure=entrances[0].secure),
            Administration(door, parent.ask if parent else lambda asked: server.follower.ask(asked)),
            keys=entrances[0].gate.keyed,
            named=entrances[0].gate.named,
            admin=entrances[0].gate.administers,
        ),
        http=InvocationsProtocol,
        loop=manner.loop,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
    gc.set_threshold(_YOUNG_OBJECTS)
    sys.setswitchinterval(_TURN_SECONDS)
    server = ModelServer(config, door, manner, entrances, swapper, lambda: accepting(door))
    server.parent = parent
    server.follower = Follower(
        wanted, first, server, server.opened, server.fail, say, poll=manner.poll, again=parent is None
    )
    server.run()
    if server.failure is not None:
        raise server.failure
    if server.hung:
        raise ServerError("the model has not come back from a call; another process takes over")


class ModelServer(Server):
    """uvicorn's server: tells when it accepts, looks after its connections' time, and stops without losing any answer
    or resetting any connection. hung: whether it ended because its model hangs. failure: what kept it from serving."""

    follower: Follower
    parent: Parent | None = None

    def __init__(
        self,
        config: Config,
        door: Door,
        manner: Manner,
        entrances: list[Entrance],
        swapper: Swapper,
        accepting: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self.hung = False
        self.failure: ForetellError | None = None
        self._swapper = swapper
        self._open = False
        self._door = door
        self._manner = manner
        self._entrances = entrances
        self._accepting = accepting
        self._drain_delay = door.limits.drain_delay
        self._looked = self._armed = 0.0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._swapper.start(self._loop)
        self.started = True
        if self._manner.early:
            await self._let_in()
        self.follower.start()

    def open(self, name: str, found: Found) -> None:
        """Loads a model and lets it answer. Any thread. Raises ForetellError."""
        self._swapper.open(name, found)

    def unserved(self, name: str, reason: str) -> None:
        """Says to those who ask why there is no model. Any thread."""
        self._swapper.unserved(name, reason)

    def told(self, standings: list[Standing]) -> None:
        """How the models stand; a worker's parent knows more. Any thread."""
        if self.parent is not None:
            return
        self._door.told = {each.name: each.told() for each in standings}
        self._door.counts.told = merged(each.series() for each in standings)

    def opened(self) -> None:
        """The models have been loaded. Any thread."""
        gc.freeze()
        if self.parent is not None:
            self.parent.leave = self.leave
            self.parent.loaded(self._door)
        self._loop.call_soon_threadsafe(lambda: self._loop.create_task(self._accept()))

    def fail(self, error: ForetellError) -> None:
        """None can be loaded: ends it. Any thread."""
        if self.parent is not None:
            self._loop.call_soon_threadsafe(self.parent.report, self._door)
        self._loop.call_soon_threadsafe(self._end, error)

    async def on_tick(self, counter: int) -> bool:
        self._look()
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """From the first signal on it is not ready; a second one ends it at once."""
        if self.should_exit:
            self.force_exit = True
        self.should_exit = self._door.closing = True
        if sig == signal.SIGINT:
            self._drain_delay = 0.0
        for stand in self._door.stands:
            stand.draining = True

    def leave(self) -> None:
        """Others have taken over: lets nobody in, and ends when all is answered. Any thread."""

        def end() -> None:
            self._drain_delay = -_AFTER_PARENT_SECONDS
            self.should_exit = self._door.closing = True

        self._loop.call_soon_threadsafe(end)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._door.closing = True
        # The parent shuts the listeners when the delay is over, before any worker stops accepting.
        await self._until(lambda: False, self._drain_delay + _AFTER_PARENT_SECONDS * self._manner.replaceable)
        self.follower.close()
        for entrance in self._entrances if self._open else []:
            await entrance.close(last=not self._manner.replaceable, forsaken=self.hung)
        if self.parent is not None:
            self.parent.left()
        await self._until(self._all_left, self._door.limits.timeout + _GRACE_SECONDS)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        self._swapper.close()
        for witness in self._door.witnesses:
            witness.close()
        faulthandler.cancel_dump_traceback_later()

    async def _accept(self) -> None:
        try:
            if not self._open and not self.should_exit:
                await self._let_in()
            if not self.should_exit:
                self._accepting()
        except ForetellError as error:
            self._end(error)

    async def _let_in(self) -> None:
        self._open = True
        for entrance in self._entrances:
            listen(entrance.listeners)
        for entrance in self._entrances:
            await entrance.open(self._connection, self._door.limits.head_timeout, self._full)

    def _end(self, error: ForetellError) -> None:
        self.failure = error
        self.should_exit = self.force_exit = self._door.closing = True

    def _look(self) -> None:
        """At the clocks of the connections, and whether the model still answers."""
        now = monotonic()
        self._door.now = now
        if now - self._looked < EVERY_SECONDS:
            return
        self._looked = now
        for entrance in self._entrances:
            entrance.look()
        self._door.connections = len(self.server_state.connections)
        self._door.look_at(list(self.server_state.connections), now)
        for witness in self._door.witnesses:
            witness.look(self._door.counts)
        if self._door.look is not None:
            self._door.look(self._door)
        if self._open:
            self._door.counts.show(self._door)
        self._swapper.look()
        if self._manner.replaceable:
            if now - self._armed > _GRACE_SECONDS:
                # A loop that does not come here in time hangs itself: the process ends, whoever holds its lock.
                self._armed = now
                faulthandler.dump_traceback_later(self._door.limits.timeout + _STUCK_SECONDS, exit=True)
            if any(stand.stuck > _GRACE_SECONDS for stand in self._door.stands):
                self.hung = self.should_exit = True

    async def _until(self, reached: Callable[[], bool], seconds: float) -> None:
        """Goes on serving until then, for so many seconds at most."""
        end = monotonic() + seconds
        while not reached() and monotonic() < end and not (self.force_exit or self.hung):
            await asyncio.sleep(_TICK_SECONDS)
            self._look()

    def _all_left(self) -> bool:
        """Lets idle connections go; those that are owed an answer get it first."""
        now = monotonic()
        for connection in list(self.server_state.connections):
            connection.leave(now, _IDLE_SECONDS)  # type: ignore[union-attr]
        return not (self.server_state.connections or self.server_state.tasks or self._greeting())

    def _full(self) -> bool:
        return len(self.server_state.connections) + self._greeting() >= self._door.limits.connections

    def _greeting(self) -> int:
        return sum(entrance.greeting for entrance in self._entrances)

    def _connection(self, gate: Gate) -> asyncio.Protocol:
        made: Any = InvocationsProtocol(self.config, self.server_state, {}, gate=gate)
        return made  # type: ignore[no-any-return]

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As in the base class, but without raising the signals again at the end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        before[signal.SIGHUP] = signal.signal(
            signal.SIGHUP, lambda *_: (self.parent or self.follower).ask(Asked(RELOAD))
        )
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
