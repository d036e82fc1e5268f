"""The answers that a connection owes, in the order of its requests, and how the connection ends when that is due."""

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from foretell.serve.clocks import Phase, Watch
from foretell.serve.door import Door
from foretell.serve.exchange import Exchange, Reply, next_id, request_id

_LINGER_SECONDS = 1.0
_LEAVING_SECONDS = 0.25
_MAX_PIPELINED = 64
_PIECE = 256 << 10
_LAST_PIECES = 16
_NOTHING = Phase.NOTHING


class Deferred:
    """A request for the ASGI app, which waits until it is at the head of the line."""

    reply: Reply | None = None

    def __init__(self, cycle: RequestResponseCycle, app: Any) -> None:
        self.cycle = cycle
        self.app = app
        self.running = False


class Line:
    """start: hands a request to the ASGI app. deaf: whether nothing that comes is looked at any more."""

    def __init__(
        self,
        transport: asyncio.Transport,
        flow: FlowControl,
        door: Door,
        state: ServerState,
        watch: Watch,
        client: tuple[str, int] | None,
        start: Callable[[RequestResponseCycle, Any], None],
    ) -> None:
        self.deaf = False
        self._transport = transport
        self._flow = flow
        self._door = door
        self._state = state
        self._watch = watch
        self._client = client
        self._start = start
        self._waiting: deque[Exchange | Deferred] = deque()
        self._said_all = False
        self._closing = False

    def __len__(self) -> int:
        return len(self._waiting)

    def owes(self, coming: Exchange | None) -> bool:
        """Whether the client waits for us: for an answer other than to what it is still sending, or to be read."""
        return self._flow.read_paused or bool(self._waiting and self._waiting[0] is not coming)

    def append(self, request: Exchange | Deferred) -> None:
        self._waiting.append(request)
        if isinstance(request, Exchange):
            request.service.meter.begun += 1
        if len(self._waiting) >= _MAX_PIPELINED:
            self._flow.pause_reading()

    def reply(self, exchange: Exchange, reply: Reply) -> None:
        """Sent when all before it have been."""
        waiting = self._waiting
        self._door.held -= exchange.size
        if len(waiting) == 1 and waiting[0] is exchange and not self._transport.is_closing():
            waiting.popleft()
            if self._send(exchange, reply):
                self._rest()
            if self._flow.read_paused:
                self.read_on()
            return
        exchange.reply = reply
        exchange.size = 0
        if waiting and waiting[0] is exchange:
            self.advance()

    def first_done(self) -> None:
        """The ASGI app has answered the request at the head of the line."""
        self._state.total_requests += 1
        if self._waiting:
            self._waiting.popleft()
        self.advance()

    def advance(self) -> None:
        """Sends what is ready at the head of the line, and starts what waited behind it."""
        if self._transport.is_closing():
            return
        self._send_ready()
        if self._flow.read_paused:
            self.read_on()

    def _send_ready(self) -> None:
        waiting = self._waiting
        while waiting:
            head = waiting[0]
            if head.reply is None:
                self._begin(head)
                return
            waiting.popleft()
            if not self._send(head, head.reply):  # type: ignore[arg-type]
                return
        self._rest()

    def _rest(self) -> None:
        """Nobody waits for an answer."""
        if self._watch.phase is _NOTHING:
            self._watch.since = self._door.now
        if self._said_all:
            self._transport.close()

    def read_on(self) -> None:
        """Lets more come in, if the client takes what goes out."""
        if self._flow.read_paused and not self._flow.write_paused and len(self._waiting) < _MAX_PIPELINED:
            self._flow.resume_reading()

    def client_said_all(self) -> None:
        """It still gets its answers, if they do not take long: a client that closed the connection altogether looks
        the same, and the model should not work for it."""
        self._said_all = True
        for request in self._waiting:
            if isinstance(request, Exchange) and request.waiting is not None:
                request.waiting.hurry(monotonic() + _LEAVING_SECONDS)

    def hogs(self, now: float) -> bool:
        """Whether its client has been slow to take an answer for some time; then the connection ends."""
        if slow := self._watch.dawdles(now, self._door.limits):
            self._transport.abort()
        return slow

    def lost(self) -> None:
        """The client has gone, and nobody waits for the answers."""
        for request in self._waiting:
            if isinstance(request, Deferred):
                request.cycle.disconnected = True
                request.cycle.message_event.set()
            else:
                request.abandon()
                request.service.meter.abandoned += 1
                self._door.held -= request.size
        self._waiting.clear()

    def close_gently(self) -> None:
        """Closes so that what was written arrives: what the client still sends is read and dropped for a moment, for
        a connection that is closed on unread bytes is reset."""
        if self._closing:
            return
        self.deaf = self._closing = True
        loop, transport = asyncio.get_running_loop(), self._transport
        if self._said_all:
            transport.close()
        elif transport.can_write_eof():
            self._flow.resume_reading()
            transport.write_eof()
            loop.call_later(_LINGER_SECONDS, transport.close)
        else:
            # TLS itself says that it ends, and then takes nothing more in. Held by another socket, the connection is
            # not reset for what still comes.
            with contextlib.suppress(OSError):
                held = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
                loop.call_later(_LINGER_SECONDS, _let_go, held)
            transport.close()

    def _begin(self, head: Exchange | Deferred) -> None:
        """Its turn has come, and there is no answer to it yet."""
        if isinstance(head, Exchange):
            if head.expects:
                head.expects = False
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        elif not head.running:
            head.running = True
            last = (self._door.closing or self._said_all) and len(self._waiting) == 1
            head.cycle.keep_alive = head.cycle.keep_alive and not last
            self._start(head.cycle, head.app)

    def _send(self, exchange: Exchange, reply: Reply) -> bool:
        """Head and body in one write. Returns whether the connection goes on."""
        door = self._door
        ends = not exchange.keep_alive or ((door.closing or self._said_all) and not self._waiting)
        service, state = exchange.service, self._state
        given = exchange.head.request_id
        given = request_id(given) if given else next_id()
        self._transport.write(door.heads.reply(service, reply, given, state.default_headers, ends))
        state.total_requests += 1
        seconds = monotonic() - exchange.started
        service.meter.answered(reply, seconds)
        if door.log.all or reply.status >= 400 or door.witnesses:
            exchange.request_id = given
            self._tell(exchange, reply, seconds)
        if ends:
            self.close_gently()
        return not ends

    def _tell(self, exchange: Exchange, reply: Reply, seconds: float) -> None:
        door = self._door
        if door.log.wants(reply.status, quiet=True):
            door.log.hot(self._client, exchange, reply, seconds)
        for witness in door.witnesses:
            witness.take(self._client, exchange, reply, seconds)


def _let_go(held: socket.socket) -> None:
    """Reads what has come, as far as it goes, and closes."""
    held.setblocking(False)
    with contextlib.suppress(OSError):
        for _ in range(_LAST_PIECES):
            if not held.recv(_PIECE):
                break
    held.close()
