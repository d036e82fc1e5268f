"""The listeners: both loopback addresses by default, and what to say when the port is taken."""

import contextlib
import ctypes
import errno
import socket
import struct

from foretell.errors import ServerError

_LOOPBACK = ("127.0.0.1", "::1")
_SO_ATTACH_FILTER = 26
_PROGRAM = ((0x30, 0, 0, 13), (0x45, 0, 1, 2), (6, 0, 0, 0), (6, 0, 0, 0xFFFFFFFF))
"""A packet filter, which sees TCP's headers: no SYN is taken in, but the end of a handshake that has begun is."""
_DROP = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in _PROGRAM))


def bind(host: str | None, port: int, option: str = "-p") -> list[socket.socket]:
    """Sockets that are bound and do not listen yet. host: None for both loopback addresses; port 0 for a free one;
    option: what sets it.

    Raises ServerError, with a port that is free.
    """
    bound: list[socket.socket] = []
    try:
        for address in (host,) if host else _LOOPBACK:
            made = _bound(address, bound[0].getsockname()[1] if bound else port)
            if made is not None:
                bound.append(made)
    except OSError as error:
        for made in bound:
            made.close()
        raise _explained(error, host, port, option) from error
    return bound


def _bound(host: str, port: int) -> socket.socket | None:
    """None for an IPv6 loopback that this machine does not have."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
    except OSError as error:
        made.close()
        if host == "::1" and error.errno != errno.EADDRINUSE:
            return None
        raise
    return made


def _explained(error: OSError, host: str | None, port: int, option: str = "-p") -> ServerError:
    where = f"{host or 'localhost'}:{port}"
    if error.errno == errno.EADDRINUSE:
        return ServerError(f"port {port} is in use", f"A free one: {option} {_free(host, port)}")
    if error.errno == errno.EACCES:
        return ServerError(
            f"port {port} is not for ordinary users", f"Take one from 1024: {option} {_free(host, 8080)}"
        )
    if isinstance(error, socket.gaierror):
        return ServerError(f"{host} is no address of a host", "For this machine only: leave -h out")
    return ServerError(f"cannot listen on {where}: {error.strerror}")


def _free(host: str | None, port: int) -> int:
    """The next port that can be bound now; any free one where the next hundred are taken."""
    for candidate in (*range(port + 1, min(port + 101, 65536)), 0):
        try:
            made = _bound(host or _LOOPBACK[0], candidate)
        except OSError:
            continue
        if made is not None:
            with made:
                return int(made.getsockname()[1])
    return port


def inherited(listeners: str) -> list[socket.socket]:
    """In a worker: the listeners, by their numbers."""
    return [socket.socket(fileno=int(number)) for number in listeners.split(",")]


def address(sockets: list[socket.socket], *, secure: bool = False) -> str:
    """How a client on this machine calls it: http://localhost:1234, or https."""
    scheme = "https" if secure else "http"
    host, port = sockets[0].getsockname()[:2]
    if host in ("0.0.0.0", "::", *_LOOPBACK):  # noqa: S104 - compared, not bound
        host = "localhost"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def listen(sockets: list[socket.socket]) -> None:
    """From here on connections are taken. Raises ServerError where another process was quicker."""
    for bound in sockets:
        try:
            bound.listen(2048)
        except OSError as error:
            raise _explained(error, None, bound.getsockname()[1]) from error


def shut(listeners: list[socket.socket]) -> None:
    """From here on the kernel lets nobody begin a connection: whoever tries is told, when the listeners are closed,
    that nobody listens. A connection that was complete by then would be cut off instead; one half begun still comes."""
    program = struct.pack("HP", len(_PROGRAM), ctypes.addressof(_DROP))
    for listener in listeners:
        with contextlib.suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def accepted(listener: socket.socket) -> list[socket.socket]:
    """The connections that have begun, and wait at a listener."""
    listener.setblocking(False)
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            opened, _ = listener.accept()
            opened.setblocking(False)
            found.append(opened)
    return found
