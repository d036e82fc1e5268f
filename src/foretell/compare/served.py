"""A real server under measure: started, asked, watched and ended. What it holds, uses and says of itself."""

import contextlib
import http.client
import queue
import re
import threading
import time
from collections.abc import Iterator

from foretell.compare.asked import Model
from foretell.compare.child import Child, OutOfTime, cpu, resident
from foretell.errors import ForetellError

HOST = "127.0.0.1"
_TICK = 0.1
_PORT = re.compile(r" on port (\d+)$")
_SAMPLE = re.compile(r"^(foretell_\w+_seconds)_(sum|count)\{[^}]*\} ([-+.\deE]+)$", re.MULTILINE)
_PATIENCE = 30.0


class Served:
    """A server that is ready. ready_s: seconds from its start until then. target: of requests for predictions. idle:
    resident bytes that it held then."""

    def __init__(self, child: Child, port: int, ready_s: float, target: str) -> None:
        self.port = port
        self.target = target
        self.ready_s = ready_s
        self._child = child
        self.idle = self._peak = resident(child.process.pid)
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    @property
    def cpu_s(self) -> float:
        """Seconds of CPU that it used so far."""
        return cpu(self._child.process.pid)

    @property
    def peak(self) -> int:
        """Most resident bytes that its processes held, seen so far."""
        return self._peak

    def ask(self, body: bytes, path: str | None = None) -> tuple[int, bytes]:
        """One request on a connection of its own: the status, and the answer's body. Raises ForetellError."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=_PATIENCE)
        with contextlib.closing(connection), self._heard():
            connection.request(
                "POST" if body else "GET", path or self.target, body or None, {"Content-Type": "application/json"}
            )
            answer = connection.getresponse()
            return answer.status, answer.read()

    def rest(self, body: bytes) -> None:
        """Returns when it has done what an earlier load left it with: it answers whoever asks now."""
        self.ask(body)

    def answers(self, bodies: list[bytes], until: float) -> Iterator[tuple[int, bytes]]:
        """The same for many, one after another, until it is time."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=_PATIENCE)
        with contextlib.closing(connection), self._heard():
            for body in bodies:
                if time.perf_counter() > until:
                    return
                connection.request("POST", self.target, body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                yield answer.status, answer.read()

    def times(self) -> dict[str, tuple[float, float]]:
        """Its own clocks by name, (seconds, how often) so far: foretell_queue_seconds and the like."""
        text = self.ask(b"", "/metrics")[1].decode()
        found: dict[str, dict[str, float]] = {}
        for name, part, value in _SAMPLE.findall(text):
            found.setdefault(name, {"sum": 0.0, "count": 0.0})[part] += float(value)
        return {name: (parts["sum"], parts["count"]) for name, parts in found.items()}

    def close(self) -> None:
        self._ended.set()
        self._watcher.join()

    @contextlib.contextmanager
    def _heard(self) -> Iterator[None]:
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            code = self._child.process.poll()
            if code is not None:
                raise self._child.error(code) from error
            raise ForetellError(f"the server did not answer: {type(error).__name__} {error}".rstrip()) from error

    def _watch(self) -> None:
        while not self._ended.wait(_TICK):
            self._peak = max(self._peak, resident(self._child.process.pid))


@contextlib.contextmanager
def served(model: Model, workers: int, until: float) -> Iterator[Served]:
    """Starts a server on a free loopback port; ends it with all its processes. until: when it has to be ready. Raises
    its own error, or OutOfTime."""
    command = ["models", "serve", *model.flags, "-h", HOST, "-p", "0", "-w", str(workers), "--access-log", "none"]
    with Child(command, model.environment) as child:
        port = _port(child, until)
        server = Served(child, port, time.perf_counter() - child.started, model.reading.target)
        try:
            yield server
        finally:
            server.close()


def _port(child: Child, until: float) -> int:
    """Waits for the line that tells it."""
    lines: queue.Queue[str] = queue.Queue()
    stdout = child.process.stdout

    def read() -> None:
        with contextlib.suppress(ValueError, OSError):
            lines.put(stdout.readline().decode() if stdout is not None else "")

    threading.Thread(target=read, daemon=True).start()
    try:
        line = lines.get(timeout=max(0.0, until - time.perf_counter()))
    except queue.Empty:
        raise OutOfTime(f"{child.name} was not ready after {until - child.started:.1f} s") from None
    found = _PORT.search(line.strip())
    if found is None:
        raise child.error(child.process.wait())
    return int(found[1])
