"""How connections come in at a port: accepted, greeted by TLS where that is wanted, and handed to their protocol."""

import asyncio
import contextlib
import errno
import socket
import ssl
import sys
from collections.abc import Callable
from functools import partial
from time import monotonic

from foretell.serve.gate import Gate
from foretell.serve.keys import Keyring
from foretell.serve.sockets import accepted, shut
from foretell.serve.watched import Watched

_HANDSHAKE_SECONDS = 0.02
_BACKLOG = 2048
_AT_A_TIME = 64
_GOODBYE_SECONDS = 1.0
_PAUSE_SECONDS = 1.0
_COMPLAINTS_SECONDS = 10.0
_NO_MORE = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

Make = Callable[[Gate], asyncio.Protocol]


class Entrance:
    """listeners: of one port. gate: who may ask there. tls, keys: what is read again when its files change."""

    def __init__(
        self,
        listeners: list[socket.socket],
        gate: Gate,
        tls: Watched[ssl.SSLContext] | None = None,
        keys: Watched[Keyring] | None = None,
    ) -> None:
        self.listeners = listeners
        self.gate = gate
        self._tls = tls
        self._keys = keys
        self._servers: list[asyncio.Server] = []
        self._greeted: set[asyncio.Task[None]] = set()
        self._complained = 0.0

    @property
    def secure(self) -> bool:
        return self._tls is not None

    @property
    def greeting(self) -> int:
        """How many connections are not through with TLS yet."""
        return len(self._greeted)

    def look(self) -> None:
        """At the files; called now and then."""
        if self._tls is not None:
            self._tls.look()
        if self._keys is not None:
            self._keys.look()
        self.gate.look()

    async def open(self, make: Make, seconds: float, full: Callable[[], bool]) -> None:
        """From here on connections are taken. make: a connection's protocol. seconds: for TLS to be through. full:
        whether there are too many connections."""
        self._make = partial(make, self.gate)
        self._seconds = seconds
        self._full = full
        loop = asyncio.get_running_loop()
        for listener in self.listeners:
            if self._tls is None:
                # The loop closes the socket that it is given; ours keeps the kernel's queue until it is empty.
                self._servers.append(await loop.create_server(self._make, sock=listener.dup(), backlog=_BACKLOG))
            else:
                listener.setblocking(False)
                loop.add_reader(listener, self._accept, listener)

    async def close(self, *, last: bool, forsaken: bool) -> None:
        """Serves those who are connected already, though nobody has greeted them, and lets nobody else in. last: no
        other process still listens. forsaken: there is nobody to serve them."""
        for server in self._servers:
            server.close()
        loop = asyncio.get_running_loop()
        if self._tls is not None:
            for listener in self.listeners:
                loop.remove_reader(listener)
        if last:
            shut(self.listeners)
            await asyncio.sleep(_HANDSHAKE_SECONDS)
        for listener in self.listeners:
            for opened in [] if forsaken else accepted(listener):
                if self._tls is None:
                    await loop.connect_accepted_socket(self._make, opened)
                else:
                    self._greet(opened)
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_AT_A_TIME):
            try:
                opened, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in _NO_MORE:
                    self._pause(listener)
                return
            if self._full():
                opened.close()
            else:
                opened.setblocking(False)
                self._greet(opened)

    def _pause(self, listener: socket.socket) -> None:
        """No file can be opened: one that goes must come first."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)

        def again() -> None:
            if listener.fileno() >= 0:
                loop.add_reader(listener, self._accept, listener)

        loop.call_later(_PAUSE_SECONDS, again)

    def _greet(self, opened: socket.socket) -> None:
        if self._tls is None:
            return
        task = asyncio.get_running_loop().create_task(self._greeted_by(self._tls.value, opened))
        self._greeted.add(task)
        task.add_done_callback(self._greeted.discard)

    async def _greeted_by(self, context: ssl.SSLContext, opened: socket.socket) -> None:
        who = "somebody"
        with contextlib.suppress(OSError):
            who = opened.getpeername()[0]
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._make,
                opened,
                ssl=context,
                ssl_handshake_timeout=self._seconds,
                ssl_shutdown_timeout=_GOODBYE_SECONDS,
            )
        except ssl.SSLError as error:
            self._complain(who, (error.reason or "it broke off").replace("_", " ").lower())
        except OSError:
            pass

    def _complain(self, who: str, why: str) -> None:
        """Of a client that cannot do TLS, at times: it may try again and again."""
        if monotonic() - self._complained > _COMPLAINTS_SECONDS:
            self._complained = monotonic()
            print(f"note: {who} failed to begin TLS: {why}", file=sys.stderr, flush=True)
