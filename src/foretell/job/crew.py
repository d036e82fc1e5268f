"""Who works on blocks: threads, or processes for models whose own code keeps other threads waiting."""

import contextlib
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from foretell.batch import Answers, Call
from foretell.errors import ForetellError, PredictionError
from foretell.job.inputs import Opener, Tagged
from foretell.job.report import peak
from foretell.job.work import Done, Job, Work
from foretell.predictor import Predictor
from foretell.tables import formats
from foretell.tables.files import Source, open_input
from foretell.tables.formats import Reader
from foretell.tables.text import Block

_AHEAD = 48 << 20
"""Bytes of input in hand; they take some times as much when they are parsed."""


class Crew(Protocol):
    """size: how many work at once."""

    size: int

    def submit(self, tagged: Tagged) -> "Future[Done]": ...

    def close(self) -> None: ...


def ordered(blocks: Iterable[Tagged], crew: Crew) -> Iterator[tuple[Tagged, Done]]:
    """Every block with what was made of it, in the blocks' order. Memory holds a few of them at a time."""
    waiting: deque[tuple[Tagged, Future[Done]]] = deque()
    weight = 0
    for tagged in blocks:
        while waiting and (len(waiting) > crew.size + 1 or weight + tagged.block.weight > _AHEAD):
            oldest, future = waiting.popleft()
            weight -= oldest.block.weight
            yield oldest, future.result()
        waiting.append((tagged, crew.submit(tagged)))
        weight += tagged.block.weight
    while waiting:
        oldest, future = waiting.popleft()
        yield oldest, future.result()


class Threads:
    """Threads of this process."""

    def __init__(self, work: Work, size: int) -> None:
        self.size = size
        self._work = work
        self._pool = ThreadPoolExecutor(size, "foretell")

    def submit(self, tagged: Tagged) -> "Future[Done]":
        return self._pool.submit(self._work.on, tagged.reader, tagged.block, tagged.name)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class Brief:
    """What a process is told when it starts: all of it can be sent."""

    job: Job
    again: Callable[[], Predictor]
    paths: tuple[str, ...]
    call: Call
    none: Answers


class Processes:
    """Processes that read their ranges themselves. Spawned: a model that has predicted may hang when it is forked."""

    def __init__(self, brief: Brief, size: int) -> None:
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        self.size = size
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(size, context, _begin, (brief,))

    def submit(self, tagged: Tagged) -> "Future[Done]":
        block = tagged.block
        if isinstance(block, Block) and getattr(tagged.reader, "stored", False):
            block = _Range(len(block.data), block.line, block.at, block.after)
        return self._pool.submit(_on, tagged.file, block)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class _Range:
    """Where a block's text stands in its file."""

    size: int
    line: int
    at: int
    after: tuple[int, ...]


_STATE: dict[str, Any] = {}


def _begin(brief: Brief) -> None:
    """The process ends when its parent does, and leaves it to that one to be interrupted."""
    import multiprocessing

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()
    try:
        predictor = brief.again()
    except ForetellError as error:
        _STATE["failed"] = error
        return
    job = brief.job
    writer = formats.writer(job.output_format, job.prediction, job.codec)
    _STATE["brief"], _STATE["predictor"] = brief, predictor
    _STATE["work"] = Work(job, predictor, writer, brief.call, brief.none)


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _on(file: int, block: Any) -> Done:
    if failed := _STATE.get("failed"):
        raise failed
    brief: Brief = _STATE["brief"]
    path = brief.paths[file]
    if _STATE.get("file") != file:
        with contextlib.suppress(KeyError):
            _STATE.pop("open").close()
        opened = contextlib.ExitStack()
        source = opened.enter_context(open_input(path))
        _STATE.update(open=opened, file=file, reader=opener(brief.job, _STATE["predictor"])(source, None))
    reader: Reader[Any] = _STATE["reader"]
    if isinstance(block, _Range):
        block = Block(_content(path, block), block.line, block.at, block.after)
    done: Done = _STATE["work"].on(reader, block, path)
    return replace(done, process=(os.getpid(), peak()))


def _content(path: str, part: _Range) -> bytes:
    with Path(path).open("rb") as file:
        data = os.pread(file.fileno(), part.size, part.at)
    return data if len(data) == part.size else data + b"\n"


def opener(job: Job, predictor: Predictor) -> Opener:
    """How a job opens an input."""

    def opened(source: Source, first: Reader[Any] | None) -> Reader[Any]:
        return formats.reader(job.input_format, source, predictor.decoder, job.keep, found_in(first, job).options)

    return opened


def found_in(first: Reader[Any] | None, job: Job) -> Job:
    """The job, with what its first input has told of how all of them are written."""
    return replace(job, options=getattr(first, "options", job.options))


def cores() -> int:
    """How many cores this process may use: those of its affinity, or fewer by its cgroup's quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        count = min(count, max(1, int(quota) // int(period)))
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (Path(f"/sys/fs/cgroup/cpu/cpu.cfs_{part}_us").read_text() for part in ("quota", "period"))
        count = min(count, max(1, int(quota) // int(period))) if int(quota) > 0 else count
    return count


def lost(error: BrokenExecutor) -> PredictionError:
    return PredictionError("a process that the model ran in has ended by itself", "It may have run out of memory")
