"""The hot route, answered on the connection itself: uvicorn's HTTP protocol, which takes `POST /invocations` out of the
parser's hands and leaves every other route to the ASGI app. Answers leave in the order in which requests came."""

import asyncio
import http
import socket
from collections import deque
from typing import Any
from urllib.parse import unquote_to_bytes

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from foretell.errors import InputUnreadable
from foretell.serve.access_log import AccessLog
from foretell.serve.batcher import Waiting
from foretell.serve.protocols import too_large
from foretell.serve.service import Reply, Service

_HOT = b"/invocations"
_LINGER_SECONDS = 1.0
_MAX_PIPELINED = 64
_STATUS = {status: f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\n".encode() for status in http.HTTPStatus}


class Exchange:
    """One hot request, from its headers to its reply."""

    __slots__ = (
        "accept",
        "body",
        "content_type",
        "encoding",
        "expects",
        "keep_alive",
        "query",
        "reply",
        "size",
        "started",
        "waiting",
    )

    def __init__(self, query: bytes, started: float) -> None:
        self.query = query
        self.started = started
        self.content_type = b""
        self.accept = b""
        self.encoding = b""
        self.body: list[bytes] = []
        self.size = 0
        self.expects = False
        self.keep_alive = True
        self.reply: Reply | None = None
        self.waiting: Waiting | None = None


class Deferred:
    """A request for the ASGI app, which waits until it is at the head of the line."""

    __slots__ = ("app", "cycle", "running")

    def __init__(self, cycle: RequestResponseCycle, app: Any) -> None:
        self.cycle = cycle
        self.app = app
        self.running = False


class InvocationsProtocol(HttpToolsProtocol):
    """A connection. `config.app` is the ASGI app, and carries the service and the access log."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._service: Service = self.config.app.service  # type: ignore[union-attr]
        self._log: AccessLog = self.config.app.log  # type: ignore[union-attr]
        self._line: deque[Exchange | Deferred] = deque()
        self._hot: Exchange | None = None
        self._closing = False
        self._deaf = False
        self._offered = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        opened: socket.socket | None = transport.get_extra_info("socket")
        if opened is not None and opened.family in (socket.AF_INET, socket.AF_INET6):
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        for request in self._line:
            if isinstance(request, Deferred):
                request.cycle.disconnected = True
                request.cycle.message_event.set()
            elif request.waiting is not None:
                request.waiting.answered = True
        self._line.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._unset_keepalive_if_required()
        try:
            while data:
                data = self._feed(data)
        except httptools.HttpParserError:
            self.send_400_response("this is no HTTP/1.1 request that foretell can read")

    def eof_received(self) -> bool:  # type: ignore[override]
        """A client that has said all it wanted still gets its answers."""
        self._closing = True
        return bool(self._line) and self._hot is None

    def send_400_response(self, msg: str) -> None:
        """Refuses what cannot be read, after the answers to what could; nothing after it is looked at."""
        self._deaf = True
        exchange = self._hot
        if exchange is None or exchange.reply is not None:
            exchange = Exchange(b"", self.loop.time())
            self._line.append(exchange)
        exchange.keep_alive = False
        self._hot = None
        self._replied(exchange, self._service.refused(InputUnreadable(msg)))

    def _feed(self, data: bytes) -> bytes:
        """Parses; returns what is left to parse. An offer to upgrade is dropped, its request parsed again."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            if not self._offered:
                raise httptools.HttpParserError from offer
            self._offered = False
            kept = [pair for pair in self.headers if pair[0] not in (b"upgrade", b"connection", b"http2-settings")]
            lines = [b"%s: %s" % pair for pair in kept]
            method, version = self.parser.get_method(), self.parser.get_http_version().encode()
            self.parser = httptools.HttpRequestParser(self)
            return b"\r\n".join([b"%s %s HTTP/%s" % (method, self.url, version), *lines, b"", data[offer.args[0] :]])
        return b""

    def on_message_begin(self) -> None:
        self._hot = None
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            self._offered = self.parser.get_method() != b"CONNECT"
            return
        path, _, query = self.url.partition(b"?")
        if path != _HOT and (self.url[:1] != b"/" or b"%" in path):
            path = _plain_path(self.url)
        if path == _HOT and self.parser.get_method() == b"POST":
            self._begin(query)
            return
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        # With no cycle before it, the base class hands the request to _start_asgi_task, which keeps the order.
        self.cycle = None  # type: ignore[assignment]
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        exchange = self._hot
        if self._offered:
            return
        if exchange is None:
            super().on_body(body)
        elif exchange.reply is None:
            exchange.size += len(body)
            if exchange.size > self._service.max_body:
                self._too_large(exchange)
            else:
                exchange.body.append(body)

    def on_message_complete(self) -> None:
        exchange, self._hot = self._hot, None
        if self.parser.should_upgrade():
            return
        if exchange is None:
            super().on_message_complete()
        elif exchange.reply is None:
            exchange.keep_alive = self.parser.should_keep_alive() and self.parser.get_http_version() != "1.0"
            exchange.waiting = self._service.invoke(
                exchange.body[0] if len(exchange.body) == 1 else b"".join(exchange.body),
                exchange.content_type.decode("latin-1"),
                exchange.accept.decode("latin-1"),
                exchange.query.decode("latin-1"),
                lambda reply: self._replied(exchange, reply),
                exchange.encoding.decode("latin-1"),
            )
            exchange.body = []

    def on_response_complete(self) -> None:
        """The ASGI app has answered the request at the head of the line."""
        self.server_state.total_requests += 1
        if self._line:
            self._line.popleft()
        self._advance()

    def shutdown(self) -> None:
        """Finishes what was asked; then the connection closes."""
        self._closing = True
        if not self._line:
            self.transport.close()
        for request in self._line:
            if isinstance(request, Deferred):
                request.cycle.keep_alive = False

    def _begin(self, query: bytes) -> None:
        exchange = self._hot = Exchange(query, self.loop.time())
        self._line.append(exchange)
        if len(self._line) >= _MAX_PIPELINED:
            self.flow.pause_reading()
        for name, value in self.headers:
            if name == b"content-type":
                exchange.content_type = value
            elif name == b"accept":
                exchange.accept = value
            elif name == b"content-encoding":
                exchange.encoding = value
            elif name == b"content-length" and int(value) > self._service.max_body:
                self._too_large(exchange)
                return
        exchange.expects = self.expect_100_continue
        self._advance()

    def _too_large(self, exchange: Exchange) -> None:
        exchange.keep_alive = False
        exchange.body = []
        self._replied(exchange, self._service.refused(too_large(self._service.max_body)))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        cycle.keep_alive = cycle.keep_alive and not self._closing
        self._line.append(Deferred(cycle, app))
        self._advance()

    def _replied(self, exchange: Exchange, reply: Reply) -> None:
        exchange.reply = reply
        self._advance()

    def _advance(self) -> None:
        """Sends what is ready at the head of the line, and starts what waited behind it."""
        if self.transport is None or self.transport.is_closing():
            return
        while self._line:
            head = self._line[0]
            if isinstance(head, Deferred):
                if not head.running:
                    head.running = True
                    super()._start_asgi_task(head.cycle, head.app)
                return
            if head.reply is None:
                if head.expects:
                    head.expects = False
                    self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            self._line.popleft()
            if len(self._line) < _MAX_PIPELINED:
                self.flow.resume_reading()
            if not self._send(head, head.reply):
                return
        self._idle()

    def _send(self, exchange: Exchange, reply: Reply) -> bool:
        """Head and body in one write. Returns whether the connection goes on."""
        goes_on = exchange.keep_alive and not (self._closing and not self._line)
        head = [_STATUS[reply.status]]  # type: ignore[index]
        for name, value in self.server_state.default_headers:
            head += (name, b": ", value, b"\r\n")
        head.append(f"content-type: {reply.content_type}\r\ncontent-length: {len(reply.body)}\r\n".encode())
        head.append(b"\r\n" if goes_on else b"connection: close\r\n\r\n")
        self.transport.write(b"".join((*head, reply.body)))
        self.server_state.total_requests += 1
        self._log.hot(self.client, reply, self.loop.time() - exchange.started)
        if not goes_on:
            self._close_gently()
        return goes_on

    def _idle(self) -> None:
        self.flow.resume_reading()
        if self._closing:
            self._close_gently()
            return
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _close_gently(self) -> None:
        """Closes so that the answer arrives: what the client still sends is read and dropped for a moment."""
        self._deaf = True
        if self._hot is None or not self.transport.can_write_eof():
            self.transport.close()
            return
        self.flow.resume_reading()
        self.transport.write_eof()
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)


def _plain_path(url: bytes) -> bytes:
    """The path of a target that names its host too, or is percent-encoded."""
    try:
        return unquote_to_bytes(httptools.parse_url(url).path or b"")
    except httptools.HttpParserInvalidURLError:
        return b""
