"""One server under one load at a time: a single client, as much as it takes, or Poisson arrivals at a rate."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foretell.compare.load import LATE, UNANSWERED, Generator, Load, Sent
from foretell.compare.measured import Quantiles, Single, Step
from foretell.compare.quantiles import allowed, quantile, quantiles, stable
from foretell.compare.served import HOST, Served

_LIMITED = 0.2
_SETTLE, _PATIENCE, _GRACE = 0.1, 10.0, 0.5
_WINDOWS = 3
_BEHIND = 0.05
_FEW, _ROOM = 16, 4
_CONNECTIONS = 256
"""As many as a balancer may hold to one server. What finds all of them busy waits on this side, and that counts."""


@dataclass(frozen=True)
class Aim:
    """bound: seconds that a share of the requests is to be answered within. at: that share, of those that told_by
    knows."""

    bound: float
    at: float


class Loading:
    """Puts one load after another on a server. bodies: of the requests; which of them is sent is drawn by the seed, and
    so is when."""

    def __init__(self, generator: Generator, server: Served, bodies: Sequence[bytes], seed: int) -> None:
        self._generator = generator
        self._server = server
        self._bodies = bodies
        self._requests = [_request(server.port, server.target, body) for body in bodies]
        self._random = np.random.default_rng(seed)
        self.connections = _CONNECTIONS

    def bear(self, rate: float, bound: float) -> None:
        """From now on no more requests are under way than some times those that are at such a rate, were each answered
        just in time: a slow model would have to work off the others first."""
        self.connections = min(_CONNECTIONS, max(_FEW, int(_ROOM * rate * bound)))

    def single(self, seconds: float) -> Single:
        """One client, which asks when it was answered."""
        sent = self._closed(1, seconds)
        taken = float(sent.due[-1] + sent.latency[-1]) if len(sent.due) else seconds
        return Single(self._quantiles(sent.latency, sent.status), float((sent.status == 200).sum()) / taken)

    def most(self, seconds: float, alone: float) -> float:
        """Requests a second with so many clients that there is always something to do. alone: seconds that one row
        takes; no more clients than could be answered so, and then as many as were answered together."""
        span, found = seconds / 2, 1 / max(alone, 1e-6)
        for _ in range(2):
            sent = self._closed(min(_CONNECTIONS, max(_FEW, int(span * found))), span)
            done = sent.due + sent.latency
            counted = (sent.status == 200) & (done >= span / 4) & (done <= span)
            found = max(found, float(counted.sum()) / (span * 3 / 4))
        return found

    def step(self, rate: float, warm: float, seconds: float, aim: Aim, *, to_its_end: bool) -> Step:
        """Poisson arrivals at a rate, after warm seconds of the same. to_its_end: also when the aim is missed."""
        due = self._arrivals(rate, warm + seconds)
        first = int(np.searchsorted(due, warm))
        count = len(due) - first
        late = allowed(count, aim.at) if count else -1
        load = Load(
            self._requests,
            self._which(max(len(due), 1)),
            warm + seconds,
            due,
            connections=self.connections,
            settle=_SETTLE,
            patience=max(_PATIENCE, 2 * aim.bound),
            grace=max(_GRACE, 1.5 * aim.bound),
            bound=aim.bound,
            allowed=None if to_its_end else max(late, 0),
            first=first,
        )
        self._server.rest(self._bodies[0])
        cpu = self._server.cpu_s
        sent = self._generator.run(HOST, self._server.port, load)
        used = (self._server.cpu_s - cpu) / sent.seconds
        return self._told(sent, first, count, late, warm, seconds, aim, used)

    def _told(
        self, sent: Sent, first: int, count: int, late: int, warm: float, seconds: float, aim: Aim, used: float
    ) -> Step:
        whole = len(sent.due) - first == count
        due, latency, status = sent.due[first:], sent.latency[first:], sent.status[first:]
        took = seconds if whole else max(float(due[-1]) - warm if len(due) else 0.0, 1e-3)
        good = status == 200
        done = (sent.due + sent.latency)[sent.status == 200]
        failed = ~good if whole else ~good & (status != UNANSWERED)
        over = int(((latency - sent.lag[first:] > aim.bound) | ~good).sum())
        lag = quantile(sent.lag[first:], 0.99) if len(due) else 0.0
        edges = np.linspace(warm, warm + took, _WINDOWS + 1)
        arrived, answered = (np.histogram(times, edges)[0] for times in (due, done))
        return Step(
            asked=len(due) / took,
            done=float(((done > warm) & (done <= warm + took)).sum()) / took,
            seconds=took,
            latency=self._quantiles(latency, status),
            failed=int(failed.sum()),
            lag=lag,
            limited=len(due) > 0 and lag > _LIMITED * quantile(latency, 0.99),
            stable=stable((answered / np.maximum(arrived, 1)).tolist()) if arrived.all() else False,
            within=whole and 0 <= over <= late and _keeps_up(int(arrived[1:].sum()), int(answered[1:].sum())),
            cpu_s=used,
        )

    def _closed(self, connections: int, seconds: float) -> Sent:
        which = self._which(4 * len(self._requests))
        load = Load(self._requests, which, seconds, connections=connections, settle=_SETTLE, grace=max(_GRACE, seconds))
        return self._generator.run(HOST, self._server.port, load)

    def _arrivals(self, rate: float, seconds: float) -> np.ndarray:
        count = int(rate * seconds + 6 * np.sqrt(rate * seconds) + 10)
        due = np.cumsum(self._random.exponential(1 / rate, count))
        return due[due < seconds]

    def _which(self, count: int) -> np.ndarray:
        return self._random.integers(0, len(self._requests), count, dtype=np.int32)

    def _quantiles(self, latency: np.ndarray, status: np.ndarray) -> Quantiles:
        """Of those that were answered, or waited in vain."""
        heard = (status == 200) | (status == LATE) | (status == UNANSWERED)
        return quantiles(latency[heard], self._random)


def _keeps_up(arrived: int, answered: int) -> bool:
    """Whether no more are left over than chance brings: where ever more wait, none keeps a bound in the end."""
    return arrived - answered <= max(_BEHIND * arrived, math.sqrt(arrived))


def _request(port: int, target: str, body: bytes) -> bytes:
    head = f"POST {target} HTTP/1.1\r\nHost: {HOST}:{port}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
