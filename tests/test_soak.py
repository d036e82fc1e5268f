"""Every request its own answer, whatever happens around it: unique rows through batching, among clients that give up,
deadlines that pass and rows that fail. And a server that is asked for more than it can do.

FORETELL_SOAK multiplies the counts.
"""

import asyncio
import json
import os
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from conftest import PATIENCE, serving
from foretell.compare.load import Generator, Load, Sent
from load import Connection
from scripted import PLAIN, RAISES, scripted_model

SOAK = int(os.environ.get("FORETELL_SOAK", "1"))
REQUESTS = 20_000 * SOAK
CLIENTS = 48
LONG = PATIENCE


class Soak:
    """Clients with requests of unique rows, one in ten of which is troubled. fired: what was done, by kind; wrong:
    requests that did not get what they would have got alone."""

    def __init__(self, port: int) -> None:
        self.fired: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._port = port
        self._left = iter(range(REQUESTS))
        self._random = random.Random(11)

    async def run(self) -> None:
        await asyncio.gather(*(self._client() for _ in range(CLIENTS)))

    async def _client(self) -> None:
        connection = await Connection.open(self._port)
        for number in self._left:
            kind = self._random.choices(("plain", "bad", "late", "cancelled"), (90, 4, 3, 3))[0]
            self.fired[kind] += 1
            rows = [[PLAIN, number + at / 8] for at in range(number % 5 + 1)]
            scale = (1.0, 0.5)[number % 7 == 0]
            if kind == "bad":
                rows[-1][0] = RAISES
            headers = b"X-Request-Id: %d\r\n" % number + b"X-Request-Timeout-Ms: 1\r\n" * (kind == "late")
            body = json.dumps({"data": rows, **({"params": {"scale": scale}} if scale != 1 else {})}).encode()
            if kind == "cancelled":
                connection.post(body, headers)
                connection.abort()
                connection = await Connection.open(self._port)
                continue
            status, answer, _ = await connection.ask(body, headers)
            self._check(number, kind, rows, scale, status, answer, connection.headers)
        connection.close()

    def _check(
        self, number: int, kind: str, rows: list[list[float]], scale: float, status: int, answer: bytes, headers: object
    ) -> None:
        said = json.loads(answer)
        right = {
            "plain": status == 200 and said == {"predictions": [value * 2 * scale for _, value in rows]},
            "bad": status == 500 and f"$.data[{len(rows) - 1}]" in str(said.get("message")),
            "late": status == 504 or said == {"predictions": [value * 2 * scale for _, value in rows]},
        }
        self.fired["too late"] += status == 504
        if not right[kind] or headers["x-request-id"] != str(number):  # type: ignore[index]
            self.wrong.append(f"{number} ({kind}): {status} {answer[:200]!r}")


def test_everyone_gets_their_own_answer_whatever_happens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No answer, to the bit, is another's, or other than the same rows get alone."""
    scripted = scripted_model(tmp_path / "scripted", pause=0.001)
    with serving("--trust", "-m", scripted, "--access-log", "none", "--max-batch-size", "64") as server:
        soak = Soak(server.port)
        asyncio.run(asyncio.wait_for(soak.run(), PATIENCE * max(2, SOAK)))
    sizes = [int(size) for size in (scripted.parent / "sizes").read_text().split()]
    with capsys.disabled():
        print(f"\nsoak: {dict(soak.fired)}, {len(sizes)} batches of up to {max(sizes)} rows", end="")
    assert [] == soak.wrong[:10]
    assert REQUESTS == sum(soak.fired[kind] for kind in ("plain", "bad", "late", "cancelled"))
    assert all(soak.fired[kind] > REQUESTS / 100 for kind in ("plain", "bad", "late", "cancelled"))
    assert soak.fired["too late"] > 0
    assert max(sizes) > 20, "nothing was gathered"


# More than it can do


TIMES = (0.5, 1, 2, 5, 10)
SECONDS = 1.5


def test_overload_is_refused_and_costs_the_others_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Asked for ten times what it can do, a server answers about as much as it can, and refuses the rest with 503."""
    scripted = scripted_model(tmp_path / "scripted", pause=0.02)
    limits = ("--max-batch-size", "4", "--max-queue", "16", "--access-log", "none")
    capacity = 4 / 0.021
    found: dict[float, Sent] = {}
    with serving("--trust", "-m", scripted, *limits) as server, Generator() as generator:
        for times in TIMES:
            found[times] = generator.run("127.0.0.1", server.port, at_random(times * capacity))
    with capsys.disabled():
        for times, sent in found.items():
            print(f"\n{times} x capacity: {told(sent)}", end="")
    statuses = {times: Counter(sent.status.tolist()) for times, sent in found.items()}
    assert {200, 503, 504} >= set().union(*statuses.values())
    assert statuses[10][503] > statuses[10][200] > 0
    assert statuses[10][503] > statuses[0.5][503]


def at_random(rate: float) -> Load:
    """Requests that come when they come, whether or not others were answered: so many a second, on the average."""
    due = np.cumsum(np.random.default_rng(5).exponential(1 / rate, int(rate * SECONDS)))
    return Load([request(b'{"data": [[0, 1]]}')], np.zeros(1, np.int32), LONG, due, patience=LONG, grace=LONG)


def request(body: bytes) -> bytes:
    return b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def told(sent: Sent) -> str:
    slowest = {status: sent.service[sent.status == status].max() * 1000 for status in set(sent.status.tolist())}
    good = (sent.status == 200).sum() / sent.seconds
    return f"{good:.0f} good a second, slowest {', '.join(f'{s}: {ms:.0f} ms' for s, ms in sorted(slowest.items()))}"
