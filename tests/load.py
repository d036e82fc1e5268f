"""Clients that ask a server all the time, each on a connection that it keeps, and account for every request."""

import asyncio
import http.client
import io
import itertools
import json
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from conftest import PATIENCE


@dataclass
class Account:
    """What became of requests. answered, wrong: by content; refused: connections that were not let in; lost: requests
    without an answer; reset: connections that were cut off; given_up: requests that failed when they were tried again.
    statuses: of the answers."""

    answered: int = 0
    wrong: int = 0
    refused: int = 0
    lost: int = 0
    reset: int = 0
    given_up: int = 0
    statuses: Counter[int] = field(default_factory=Counter)


class Load:
    """count clients with unique rows for a model of doubles. body: a request's by its number; expected: its answer's.
    retry: whether a request that got no answer is sent once more. tls: to speak it. It ends when `ended` is set, or
    nobody listens."""

    def __init__(
        self,
        port: int,
        count: int,
        body: Callable[[int], bytes],
        expected: Callable[[int], bytes],
        *,
        retry: bool,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.account = Account()
        self.ended = asyncio.Event()
        self._port = port
        self._count = count
        self._body = body
        self._expected = expected
        self._retry = retry
        self._tls = tls
        self._numbers = itertools.count()
        self._enough = asyncio.Condition()

    async def run(self) -> None:
        await asyncio.gather(*(self._client() for _ in range(self._count)))

    async def until(self, answered: int) -> None:
        """Waits for so many answers in all."""
        async with self._enough:
            reached = self._enough.wait_for(lambda: self.account.answered >= answered)
            await asyncio.wait_for(reached, PATIENCE)

    async def _client(self) -> None:
        connection: Connection | None = None
        while not self.ended.is_set():
            number = next(self._numbers)
            for attempt in range(2 if self._retry else 1):
                try:
                    if connection is None:
                        connection = await Connection.open(self._port, self._tls)
                    status, answer, kept = await connection.ask(self._body(number))
                except ConnectionRefusedError:
                    self.account.refused += 1
                    return
                except (ConnectionError, EOFError) as error:
                    if isinstance(error, EOFError):
                        self.account.lost += 1
                    else:
                        self.account.reset += 1
                    self.account.given_up += attempt
                    connection = connection.close() if connection else None
                    continue
                connection = connection if kept else connection.close()
                await self._note(number, status, answer)
                break
        if connection is not None:
            connection.close()

    async def _note(self, number: int, status: int, answer: bytes) -> None:
        self.account.statuses[status] += 1
        if status == 200:
            self.account.answered += 1
            self.account.wrong += answer != self._expected(number)
        async with self._enough:
            self._enough.notify_all()


class Connection:
    """One connection; one request at a time. headers: of the last answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int, tls: ssl.SSLContext | None = None) -> "Connection":
        return cls(*await asyncio.open_connection("127.0.0.1", port, ssl=tls))

    async def ask(self, body: bytes, headers: bytes = b"") -> tuple[int, bytes, bool]:
        """The answer's status and body, and whether the connection is kept. Raises ConnectionError, EOFError."""
        self.post(body, headers)
        return await asyncio.wait_for(self._answer(), PATIENCE)

    def post(self, body: bytes, headers: bytes = b"") -> None:
        head = b"POST /invocations HTTP/1.1\r\nHost: localhost\r\n%bContent-Length: %d\r\n\r\n" % (headers, len(body))
        self._writer.write(head + body)

    async def _answer(self) -> tuple[int, bytes, bool]:
        head = await self._reader.readuntil(b"\r\n\r\n")
        line, _, rest = head.partition(b"\r\n")
        self.headers = http.client.parse_headers(io.BytesIO(rest))
        answer = await self._reader.readexactly(int(self.headers["content-length"]))
        return int(line.split()[1]), answer, self.headers.get("connection") != "close"

    def abort(self) -> None:
        """Leaves at once, whatever is on its way."""
        self._writer.transport.abort()

    def close(self) -> None:
        self._writer.close()


def doubled(number: int) -> bytes:
    """A request to the scripted model."""
    return b'{"data": [[0, %d]]}' % number


def double(number: int) -> bytes:
    """Its answer."""
    return b'{"predictions": %b}' % json.dumps([2.0 * number]).encode()
