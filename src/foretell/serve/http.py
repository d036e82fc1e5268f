"""The hot route, answered on the connection itself: uvicorn's HTTP protocol, which takes requests for predictions out
of the parser's hands and leaves every other route to the ASGI app."""

import asyncio
import socket
from time import monotonic
from typing import Any, NoReturn

import httptools
import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from foretell.errors import ForetellError, InputUnreadable, Overloaded
from foretell.serve.clocks import Late, Phase, Watch
from foretell.serve.door import Door
from foretell.serve.exchange import Exchange, Reply
from foretell.serve.gate import Gate
from foretell.serve.head import END, Familiar, Head, declared, plain_path, without_upgrade
from foretell.serve.kinds import Kind, kind_of
from foretell.serve.line import Deferred, Line
from foretell.serve.problems import head_too_large, problem, refusal, too_large

_MAX_TARGET = 16 << 10
_FRAMING = 16
"""So many times its body a request in chunks may be on the wire."""
_NOTHING = Phase.NOTHING
_CONTINUE = b"100-continue"


class InvocationsProtocol(HttpToolsProtocol):
    """A connection. `config.app` is the ASGI app, and carries the door. gate: of the port that it came to."""

    # Beside what the base class has, these would be more than Python looks up quickly.
    __slots__ = ("_chunk", "_done", "_door", "_fed", "_gate", "_heard", "_hot", "_known", "_line", "_offer", "_watch")

    def __init__(self, *arguments: Any, gate: Gate, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.url = b""
        self._gate = gate
        self._certified = False
        self._door: Door = self.config.app.door  # type: ignore[union-attr]
        self._watch = Watch(self._door.now)
        self._hot: Exchange | None = None
        self._fed = 0
        self._chunk = 0
        self._refusal: Reply | None = None
        self._offer = False
        self._known = Familiar()
        self._heard: Head | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        start = super()._start_asgi_task
        self._line = Line(transport, self.flow, self._door, self.server_state, self._watch, self.client, start)
        self._done = self._line.reply
        self.hogs = self._line.hogs
        self._certified = bool(transport.get_extra_info("peercert"))
        self._known = self._gate.familiar(certified=self._certified)
        opened: socket.socket | None = transport.get_extra_info("socket")
        if opened is not None and opened.family in (socket.AF_INET, socket.AF_INET6):
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self.connections) > self._door.limits.connections:
            full = Overloaded("there are too many connections", "Try again, or use fewer", full="connections")
            self._refuse(refusal(full))

    def connection_lost(self, exc: Exception | None) -> None:
        self._line.lost()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._line.deaf:
            return
        start = body = b""
        if not self._watch.begun:
            start, _, body = data.partition(END)
            head = self._known.get(start)
            if head is not None and len(body) == head.size:
                # A head that came before, with its whole body: no need of the parser, which is between two messages.
                door = self._door
                service = door.hot.get(head.path)
                if service is not None and door.held + head.size <= door.limits.in_flight:
                    self._watch.phase = _NOTHING
                    now = monotonic()
                    exchange = Exchange(service, head, now, self._done, head.size)
                    door.held += head.size
                    self._line.append(exchange)
                    service.invoke(exchange, body, now)
                    return
            self._heard = None
        self._chunk = len(data)
        self._fed += self._chunk
        try:
            self._feed(data)
        except httptools.HttpParserError:
            said = "this is no HTTP/1.1 request that foretell can read"
            self._refuse(self._refusal or refusal(InputUnreadable(said)))
            return
        if self._watch.phase is not Phase.NOTHING:
            self._bound()
        elif self._heard is not None and len(body) == self._heard.size:
            self._known.learn(start, self._heard)

    def eof_received(self) -> bool:  # type: ignore[override]
        self._line.client_said_all()
        return bool(self._line) and self._hot is None and self.transport.can_write_eof()

    def pause_writing(self) -> None:
        """A client that does not read its answers is not read either."""
        super().pause_writing()
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._line.read_on()

    def send_400_response(self, msg: str) -> None:
        self._refuse(refusal(InputUnreadable(msg)))

    def check(self, now: float) -> int:
        """Ends what has taken too long; called now and then. Returns how many bytes the client has not taken."""
        if self.parser is None:
            return 0
        owed = self._line.deaf or self._line.owes(self._hot)
        unsent = self.transport.get_write_buffer_size()
        late = self._watch.late(now, self._door.limits, owed=owed, unsent=unsent)
        if late is Late.READER:
            self.transport.abort()
        elif late in (Late.HEAD, Late.BODY):
            what = "head" if late is Late.HEAD else "body"
            self._refuse(problem(408, "REQUEST_TIMEOUT", f"the request's {what} did not arrive in time"))
        elif late is not None:
            self.transport.close()
        return unsent

    def leave(self, now: float, idle: float) -> None:
        """The server is stopping: closes the connection if it has been idle for so many seconds."""
        if not self._line and not self._watch.begun and now - self._watch.since >= idle:
            self._line.close_gently()

    def _feed(self, data: bytes) -> None:
        """Parses. An offer to upgrade is dropped, its request parsed again."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            if not self._offer:
                raise httptools.HttpParserError from offer
            self._offer = False
            parser, self.parser = self.parser, httptools.HttpRequestParser(self)
            head = without_upgrade(parser.get_method(), self.url, parser.get_http_version(), self.headers)
            self._feed(head + data[offer.args[0] :])

    def on_message_begin(self) -> None:
        self._hot = None
        self.url = b""
        self.headers = []
        self._fed = self._chunk
        watch = self._watch
        watch.phase = Phase.HEAD
        watch.begun = True
        watch.since = self._door.now

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > _MAX_TARGET:
            self._stop(problem(414, "URI_TOO_LONG", f"the target is over {_MAX_TARGET >> 10} KiB"))

    def on_headers_complete(self) -> None:
        watch = self._watch
        watch.phase = Phase.BODY
        watch.since = watch.heard = self._door.now
        watch.got = 0
        if self._fed > self._door.limits.head:
            self._check_head()
        parser = self.parser
        if parser.should_upgrade():
            self._offer = parser.get_method() != b"CONNECT"
            return
        path, _, query = self.url.partition(b"?")
        service = self._door.hot.get(path)
        kind = Kind.PREDICT
        if service is None:
            path = plain_path(self.url)
            service = self._door.hot.get(path)
            kind = kind_of(path)
        method = parser.get_method()
        admitted = self._gate.admit(kind, method, self.headers, certified=self._certified)
        if isinstance(admitted, Reply):
            self._stop(admitted if method != b"HEAD" else msgspec.structs.replace(admitted, body=b""))
        if service is not None and method == b"POST":
            head = Head(path, query).read(self.headers, parser.get_http_version())
            self._begin(Exchange(service, head, monotonic(), self._done))
        else:
            self._defer()

    def on_body(self, body: bytes) -> None:
        watch = self._watch
        watch.heard = self._door.now
        watch.got += len(body)
        exchange = self._hot
        if self._offer:
            return
        if exchange is None:
            self._check_size(watch.got)
            super().on_body(body)
        elif exchange.reply is None:
            door, size = self._door, len(body)
            exchange.size += size
            door.held += size
            exchange.add(body)
            if exchange.size > door.limits.body:
                self._drop(exchange, too_large(door.limits.body))
            elif door.held > door.limits.in_flight:
                full = Overloaded("too many bytes of requests are at hand", "Try again later", full="bytes")
                self._drop(exchange, full)

    def on_message_complete(self) -> None:
        exchange, self._hot = self._hot, None
        watch = self._watch
        watch.phase = Phase.NOTHING
        watch.begun = False
        watch.since = self._door.now
        if exchange is None:
            if not self.parser.should_upgrade():
                super().on_message_complete()
        elif exchange.reply is None:
            if not self.parser.should_keep_alive():
                exchange.keep_alive = False
                self._known = Familiar()
            elif not self._offer:
                self._heard = exchange.head
            exchange.service.invoke(exchange, exchange.take_body(), monotonic())

    def on_response_complete(self) -> None:
        self._line.first_done()

    def shutdown(self) -> None:
        """The base class would close what waits for its answer; see `leave`."""

    def _begin(self, exchange: Exchange) -> None:
        self._hot = exchange
        self._line.append(exchange)
        head = exchange.head
        if head.size > self._door.limits.body:
            self._drop(exchange, too_large(self._door.limits.body))
            return
        if not head.keep_alive:
            exchange.keep_alive = False
        if head.hosts != 1:
            self._check_host(head.hosts)
        if head.expect.lower() == _CONTINUE:
            exchange.expects = True
            self._line.advance()

    def _defer(self) -> None:
        """Leaves a request to the base class, and by it to the ASGI app."""
        self._check_host(sum(name == b"host" for name, _ in self.headers))
        self._check_size(declared(self.headers))
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        self.headers.extend(headers)
        self.expect_100_continue = any(name == b"expect" and value.lower() == _CONTINUE for name, value in headers)
        # With no cycle before it, the base class hands the request to _start_asgi_task, which keeps the order.
        self.cycle = None  # type: ignore[assignment]
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._line.append(Deferred(cycle, app))
        self._line.advance()

    def _check_host(self, hosts: int) -> None:
        if hosts > 1 or (not hosts and self.parser.get_http_version() != "1.0"):
            self._stop(refusal(InputUnreadable("the request must name one Host")))

    def _check_size(self, size: int) -> None:
        if size > self._door.limits.body:
            self._stop(refusal(too_large(self._door.limits.body)))

    def _check_head(self) -> None:
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > self._door.limits.head:
            self._stop(head_too_large(self._door.limits.head))

    def _bound(self) -> None:
        """What the parser keeps to itself is bounded too: a head that does not end, chunks of nothing, trailers."""
        framing = _FRAMING * self._watch.got if self._watch.phase is Phase.BODY else 0
        if self._fed > self._door.limits.head + self._chunk + framing:
            self._refuse(head_too_large(self._door.limits.head))

    def _drop(self, exchange: Exchange, error: ForetellError) -> None:
        """Refuses a request whose body is not wanted."""
        exchange.keep_alive = False
        exchange.parts = None
        exchange.reply = refusal(error)
        self._line.reply(exchange, exchange.reply)

    def _stop(self, reply: Reply) -> NoReturn:
        """Out of a parser's callback: refuses what it reads, and with it all that follows."""
        self._refusal = reply
        raise httptools.HttpParserError

    def _refuse(self, reply: Reply) -> None:
        """Refuses what cannot be read, after the answers to what could; nothing after it is looked at."""
        exchange = self._hot
        if exchange is None or exchange.reply is not None:
            head = Head(self.url.partition(b"?")[0])
            head.method = self.parser.get_method().decode("latin-1") if self.url else "-"
            exchange = Exchange(self._door.main, head, monotonic(), self._done)
            self._line.append(exchange)
        exchange.keep_alive = False
        self._hot = None
        self._line.deaf = True
        self._line.reply(exchange, reply)
