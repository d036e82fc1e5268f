"""What this process counted, and with it what all do: shown to the others at every tick, summed up for who asks."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from foretell import __version__
from foretell.registry.choose import without_secrets
from foretell.serve import figures
from foretell.serve.absent import Absent
from foretell.serve.board import Board
from foretell.serve.figures import Series
from foretell.serve.meters import NO_VERSION, Meter

if TYPE_CHECKING:
    from foretell.serve.door import Door, Stand

_MOST_VERSIONS = 50
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PROCESS_SECONDS = 1.0


class Counts:
    """board, slot: where the process shows them, if it is one of several; it goes on from what stands there."""

    def __init__(self, board: Board | None = None, slot: int = 0) -> None:
        self._board = board
        self._slot = slot
        self._meters: list[Meter] = []
        self._said: Series = {}
        self.told: Series = {}
        self._gone = _read(board, slot, living=False) if board is not None else {}
        self._process: Series = {}
        self._looked = 0.0
        self._started = time.time()
        self.count("foretell_worker_starts")

    def meter(self, meter: Meter) -> None:
        """Another version is served. The last ones are told apart, of those long gone only the sum."""
        self._meters.append(meter)
        over = len(self._meters) - _MOST_VERSIONS
        for old in [each for each in self._meters[: max(0, over)] if not each.in_flight]:
            self._meters.remove(old)
            self._gone = figures.merged([self._gone, figures.lasting(figures.of_meter(old))])
        if over > 0:
            self._forget()

    def count(self, name: str, *labels: str, by: float = 1) -> None:
        """Something happened that is rare: a look-up a time is no matter."""
        figures.add(self._said, name, labels, by)

    def show(self, door: "Door") -> None:
        """To the other processes, if there are some."""
        for meter in self._meters:
            meter.settle()
        if self._board is not None and not self._board.write(self._slot, figures.packed(self._own(door))):
            self._forget()
            self._board.write(self._slot, figures.packed(self._own(door)))

    def all(self, door: "Door") -> Series:
        """Of all processes. What is told here is shown first: it must not be less when another process is asked."""
        board = self._board
        if board is None:
            return self._own(door)
        self.show(door)
        return figures.merged(_read(board, slot, living=board.living(slot)) for slot in range(board.slots))

    def _own(self, door: "Door") -> Series:
        now = time.monotonic()
        if now - self._looked > _PROCESS_SECONDS:
            self._looked, self._process = now, _of_process(self._started)
        services = map(_of_service, door.stands)
        return figures.merged(
            [self._gone, self._said, self.told, self._process, _of_door(door), *services, *self._metered()]
        )

    def _metered(self) -> list[Series]:
        """Of where there is no model there is nothing to tell, unless somebody asked."""
        told = [meter for meter in self._meters if meter.begun or meter.version != NO_VERSION]
        return [figures.of_meter(meter) for meter in told]

    def _forget(self) -> None:
        """Of the versions that are gone, which one it was."""
        self._gone = figures.earlier(self._gone, {(meter.model, meter.version) for meter in self._meters})


def _read(board: Board, slot: int, *, living: bool) -> Series:
    shown = board.read(slot)
    series = figures.unpacked(shown) if shown else {}
    return series if living else figures.lasting(series)


def _of_door(door: "Door") -> Series:
    return {
        ("foretell_connections", ()): door.connections,
        ("foretell_request_bytes_held", ()): door.held,
        ("foretell_build", (__version__,)): 1,
        ("foretell_workers", ()): 1,
    }


def _of_service(service: "Stand") -> Series:
    meter = service.meter
    labels = (meter.model, meter.version)
    ready: Series = {
        ("foretell_requests_queued", labels): service.queued,
        ("foretell_model_ready", labels): int(not service.unready),
    }
    if isinstance(service, Absent):
        return ready
    predictor = service.predictor
    resolved = predictor.resolved
    return {
        **ready,
        ("foretell_model", (*labels, without_secrets(resolved.uri), resolved.digest, predictor.engine.name)): 1,
    }


def _of_process(started: float) -> Series:
    times = os.times()
    found: Series = {
        ("process_cpu_seconds", ()): times.user + times.system,
        ("process_start_time_seconds", ()): started,
    }
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        files = sum(1 for _ in Path("/proc/self/fd").iterdir())
    except OSError:
        return found
    return {**found, ("process_resident_memory_bytes", ()): pages * _PAGE, ("process_open_fds", ()): files}
