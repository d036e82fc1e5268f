"""Puts versions of models behind their routes in this process: each is loaded beside what serves, on a thread that may
take its time, and takes over between two requests. What it takes over from answers what it was asked, and goes."""

import asyncio
from collections.abc import Callable, Mapping

from foretell.compiler.background import Background
from foretell.predictor import Found
from foretell.serve.absent import Absent
from foretell.serve.counts import Counts
from foretell.serve.door import Door, route
from foretell.serve.service import Service
from foretell.serve.wanted import Wanted, keep_trust

_LOADING = "the model is being loaded"


class Swapper:
    """wanted: the models, by name. debug: errors carry their traceback. say: told what a person must hear, by line."""

    def __init__(
        self, wanted: Mapping[str, Wanted], door: Door, counts: Counts, *, debug: bool, say: Callable[[str], None]
    ) -> None:
        self._wanted = wanted
        self._door = door
        self._counts = counts
        self._debug = debug
        self._say = say
        self._engines: dict[str, Background] = {}
        self._leaving: list[Service] = []
        for name in wanted:
            self._stand_in(name, _LOADING)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """From here on models can be put in place, on this loop."""
        self._loop = loop

    def load(self, name: str, found: Found) -> Service:
        """A found model, loaded and warmed up; not in its place yet. Any thread. Raises ForetellError."""
        wanted = self._wanted[name]
        keep_trust(found)
        opened = wanted.load(found)
        for note in opened.notes:
            self._say(note)
        service = Service(opened, wanted.limits(self._door.limits), name=name, debug=self._debug)
        service.warm_up()
        return service

    def put(self, service: Service) -> None:
        """Lets a loaded model answer from the next request on. Any thread."""
        self._loop.call_soon_threadsafe(self._put, service)

    def fail(self, name: str, reason: str) -> None:
        """Says to those who ask why there is no model, unless there is one. Any thread."""
        self._loop.call_soon_threadsafe(self._stand_in, name, reason)

    def look(self) -> None:
        """Lets those go that have answered all they were asked; called now and then, on the loop."""
        for service in [each for each in self._leaving if not each.meter.in_flight]:
            self._leaving.remove(service)
            service.close()

    def close(self) -> None:
        for service in (*self._leaving, *self._door.stands):
            service.close()
        for engines in self._engines.values():
            engines.close()

    def _stand_in(self, name: str, reason: str) -> None:
        before = self._door.hot.get(route(name))
        if isinstance(before, Absent):
            before.unready = reason
        if before is not None:
            return
        absent = Absent(name, self._wanted[name].limits(self._door.limits), reason)
        self._counts.meter(absent.meter)
        self._door.put(name, absent)

    def _put(self, service: Service) -> None:
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
