"""Puts versions of models behind their routes in this process: each is loaded beside what serves, on a thread that may
take its time, and takes over between two requests. What it takes over from answers what it was asked, and goes."""

import asyncio
import gc
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from foretell import storage
from foretell.compiler.background import Background
from foretell.errors import ForetellError, ModelError
from foretell.machine import free_memory
from foretell.predictor import Found
from foretell.serve.absent import Absent
from foretell.serve.counts import Counts
from foretell.serve.door import Door, route
from foretell.serve.service import Service
from foretell.serve.wanted import Wanted, keep_trust, why
from foretell.signature import Signature

_LOADING = "the model is being loaded"
_GROWS = 3
"""So many bytes of memory a byte of a model's files may take, when it is loaded."""
_SPARE = 16 << 20


@dataclass(frozen=True)
class Manners:
    """How versions change. seconds: that one may take to load. other_signature: whether it may take or give something
    else than the one before. debug: errors carry their traceback."""

    seconds: float = 300.0
    other_signature: bool = False
    debug: bool = False


class Swapper:
    """wanted: the models, by name. say: told what a person must hear, by line."""

    def __init__(
        self, wanted: Mapping[str, Wanted], door: Door, counts: Counts, manners: Manners, say: Callable[[str], None]
    ) -> None:
        self._wanted = wanted
        self._door = door
        self._counts = counts
        self._manners = manners
        self._say = say
        self._engines: dict[str, Background] = {}
        self._leaving: list[Service] = []
        self._gone = threading.Event()
        self._gone.set()
        for name in wanted:
            self._stand_in(name, _LOADING)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """From here on models can be put in place, on this loop."""
        self._loop = loop

    def open(self, name: str, found: Found) -> None:
        """Loads a model and lets it answer from the next request on. Any thread but the loop's. Raises ForetellError;
        then what answered before still does."""
        keep_trust(found)
        before = self._door.stand(name)
        if isinstance(before, Service):
            self._gone.wait()
            check_room(found)
            service = self._in_time(name, found)
            if not self._manners.other_signature:
                check_signature(before.predictor.signature, service.predictor.signature)
            service.check_example()
        else:
            service = self._load(name, found)
        in_place = threading.Event()
        self._loop.call_soon_threadsafe(self._put, service, in_place)
        in_place.wait()
        if isinstance(before, Service):
            self._gone.clear()
            threading.Thread(target=self._let_go, args=(before,), name="leaving", daemon=True).start()

    def unserved(self, name: str, reason: str) -> None:
        """Says to those who ask why there is no model, unless there is one. Any thread."""
        self._loop.call_soon_threadsafe(self._stand_in, name, reason)

    def look(self) -> None:
        """Lets those go that have answered all they were asked; called now and then, on the loop."""
        for service in [each for each in self._leaving if not each.meter.in_flight]:
            self._leaving.remove(service)
            service.close()
            service.left.set()

    def close(self) -> None:
        for stand in (*self._leaving, *self._door.stands):
            stand.close()
        for engines in self._engines.values():
            engines.close()

    def _in_time(self, name: str, found: Found) -> Service:
        """Loaded on a thread that is left behind if it does not come back. Raises ForetellError."""
        done: queue.SimpleQueue[Service | Exception] = queue.SimpleQueue()

        def load() -> None:
            try:
                done.put(self._load(name, found))
            except Exception as error:
                done.put(error)

        threading.Thread(target=load, name="loader", daemon=True).start()
        try:
            loaded = done.get(timeout=self._manners.seconds)
        except queue.Empty:
            raise ModelError(f"it was not loaded within {self._manners.seconds:g} s") from None
        if isinstance(loaded, ForetellError):
            raise loaded
        if isinstance(loaded, Exception):
            raise ModelError(f"it cannot be loaded: {why(loaded)}") from loaded
        return loaded

    def _load(self, name: str, found: Found) -> Service:
        wanted = self._wanted[name]
        opened = wanted.load(found)
        for note in opened.notes:
            self._say(note)
        service = Service(opened, wanted.limits(self._door.limits), name=name, debug=self._manners.debug)
        service.warm_up()
        return service

    def _let_go(self, service: Service) -> None:
        """Waits until the version before has answered all it was asked, and gives back what it held."""
        service.left.wait(service.limits.timeout + self._door.limits.body_timeout)
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        self._gone.set()

    def _stand_in(self, name: str, reason: str) -> None:
        before = self._door.hot.get(route(name))
        if isinstance(before, Absent):
            before.unready = reason
        if before is not None:
            return
        absent = Absent(name, self._wanted[name].limits(self._door.limits), reason)
        self._counts.meter(absent.meter)
        self._door.put(name, absent)

    def _put(self, service: Service, in_place: threading.Event) -> None:
        name = service.meter.model
        before = self._door.stand(name)
        service.watched = self._door.watched
        service.draining = self._door.closing
        self._counts.meter(service.meter)
        service.start(self._loop)
        self._door.put(name, service)
        engines = self._wanted[name].engines(service.predictor, self._say)
        if name in self._engines:
            self._engines[name].close()
        self._engines[name] = engines
        engines.start()
        if isinstance(before, Service):
            self._leaving.append(before)
        in_place.set()


def check_signature(before: Signature, now: Signature) -> None:
    """That a version takes and gives what the one before did. Raises ModelError, which says the first difference."""
    one, other = before.to_dict(), now.to_dict()
    if one == other and (before.tensor, before.rows) == (now.tensor, now.rows):
        return
    names = [column["name"] for column in one["inputs"]], [column["name"] for column in other["inputs"]]
    what = "its outputs" if one["outputs"] != other["outputs"] else "its params"
    if one["inputs"] != other["inputs"]:
        pairs = zip(one["inputs"], other["inputs"], strict=False)
        changed = next((f"the column {a['name']!r}, {a['type']}" for a, b in pairs if a != b), "the number of columns")
        what = changed if len(names[0]) == len(names[1]) else f"{len(names[0])} columns ({len(names[1])} now)"
    raise ModelError(
        f"its signature differs from the one before in {what}", "--allow-signature-change lets it be served"
    )


def check_room(found: Found, copies: int = 1, beside: int = 0) -> None:
    """That a model can be loaded beside the one that serves, so many times, in processes that take beside bytes anyway.
    Raises ModelError, with the numbers."""
    files = sum(file.stat().st_size for _, file in storage.files_under(found.resolved.path))
    need, free = copies * (_GROWS * files + _SPARE) + beside, free_memory()
    if need > free:
        times = f" {copies} times" if copies > 1 else ""
        raise ModelError(
            f"its files have {files / 2**20:,.0f} MiB, for which loading it{times} may take {need / 2**20:,.0f} MiB of "
            f"memory, and {free / 2**20:,.0f} MiB are free",
            "Give the server more memory, or restart it with the new version",
        )
