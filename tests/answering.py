"""A tiny real server that answers as each request's path tells it to, good or bad, and knows what it did."""

import asyncio
import contextlib
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
REPLIES = {
    "ok": OK,
    "none": b"HTTP/1.1 204 No Content\r\n\r\n",
    "empty": b"HTTP/1.1 200 OK\r\ncontent-length:0\r\n\r\n",
    "refused": b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 4\r\n\r\nbusy",
    "continued": b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n"
    b"3;a=b\r\nabc\r\n0A\r\n0123456789\r\n0\r\nX: y\r\n\r\n",
    "closing": b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 2\r\n\r\nok",
    "old": b"HTTP/1.0 200 OK\nContent-Length: 2\n\nok",
    "old and kept": b"HTTP/1.0 200 OK\r\nConnection: x, keep-alive\r\nContent-Length: 2\r\n\r\nok",
    "until closed": b"HTTP/1.1 200 OK\r\n\r\nas long as it is",
    "cut in the head": b"HTTP/1.1 200 OK\r\nContent-",
    "cut in the body": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok",
    "cut in a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nA\r\nok",
    "nothing": b"",
    "no http": b"SSH-2.0-OpenSSH_9.2\r\n",
    "no status": b"HTTP/1.1 2x0 OK\r\n\r\n",
    "two sizes": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "negative": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "too large": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
    "no chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "long chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
    "upgrade": b"HTTP/1.1 101 Switching\r\n\r\n",
    "endless line": b"HTTP/1.1 200 OK\r\nX: " + b"y" * (1 << 17),
    "endless head": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * (1 << 15),
    "more than asked": OK + OK,
}
CLOSED = ("until closed", "cut in the head", "cut in the body", "cut in a chunk", "nothing")
"""After these the server ends the connection."""


class Answering:
    """It runs in a thread until it is closed. asked: requests by path; connections: that were made. seen: set by the
    first request. Paths besides REPLIES: "/bytes" a byte at a time, "/reset" an aborted connection, "/silent" nothing,
    "/stall" and "/invocations" an answer after pause seconds in which nobody else gets one, and "/held" one once so
    many such have come.
    """

    def __init__(self, pause: float = 0.0, held: int = 0) -> None:
        self.asked: Counter[str] = Counter()
        self.connections = 0
        self.seen = threading.Event()
        self._pause = pause
        self._held = held
        self._loop = asyncio.new_event_loop()
        self._release = asyncio.Event()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: *(\d+)", head)
                await reader.readexactly(int(length[1]) if length else 0)
                line = head.partition(b"\r\n")[0]
                path = line.split(b" ")[1].decode().strip("/").replace("-", " ")
                self.asked[path] += 1
                self.seen.set()
                await self._answer(path, writer)
                if path in CLOSED:
                    writer.close()
                    await writer.wait_closed()
                    break
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def _answer(self, path: str, writer: asyncio.StreamWriter) -> None:
        if path == "reset":
            writer.transport.abort()
        elif path == "bytes":
            for byte in REPLIES["chunked"]:
                writer.write(bytes([byte]))
                await asyncio.sleep(0)
        elif path == "silent":
            await asyncio.Event().wait()
        else:
            if path in ("stall", "invocations"):
                time.sleep(self._pause)
            if path == "held":
                if self.asked[path] == self._held:
                    self._release.set()
                await self._release.wait()
            writer.write(REPLIES.get(path, OK))
        await writer.drain()

    async def _stop(self) -> None:
        self._server.close()
        await asyncio.sleep(0)
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await asyncio.sleep(0)  # a connection that was just accepted begins its task now
        self._loop.stop()

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop)
        self._thread.join()
        self._loop.close()


@contextlib.contextmanager
def answering(pause: float = 0.0, held: int = 0) -> Iterator[Answering]:
    server = Answering(pause, held)
    try:
        yield server
    finally:
        server.close()


def asking(path: str, body: bytes = b"") -> bytes:
    """A request for it."""
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    return b"GET /%b HTTP/1.1\r\nHost: localhost\r\n%b\r\n%b" % (path.replace(" ", "-").encode(), length, body)
