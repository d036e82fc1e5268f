"""Which version of each model is to be served: opens them one by one, asks their registries, and changes what serves,
when a registry says so or somebody asks. All of it on one thread, in order."""

import queue
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol

from foretell.errors import ForetellError, ModelError, RegistryDown
from foretell.predictor import Found
from foretell.registry.resolve import meaning, moves
from foretell.serve.standing import FAILED, ROLLED_BACK, SWAPPED, Standing, Version
from foretell.serve.wanted import Wanted, why

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 300.0
_JITTER = 0.2
RELOAD, ROLLBACK = "reload", "rollback"


class Hands(Protocol):
    """What puts a version in its place."""

    def open(self, name: str, found: Found) -> None:
        """Returns when it answers. Raises ForetellError where it cannot; then what answered before still does."""
        ...

    def unserved(self, name: str, reason: str) -> None:
        """Those who ask for it are told why it is not there, if it is not."""
        ...

    def told(self, standings: list[Standing]) -> None:
        """How all models stand now."""
        ...


@dataclass(frozen=True)
class Asked:
    """What somebody wants done. name: of a model; "" for all. reply: called with (whether all went well, what became of
    each)."""

    verb: str
    name: str = ""
    reply: Callable[[bool, dict[str, Any]], None] = lambda good, told: None


class Follower:
    """first: finds a model as it is found at the start. opened: called when all have been tried, and one at least
    serves. failed: called where none does. poll: seconds between two looks into a registry; 0 for none.
    again: whether anything is done after the start; not where a parent sees to it."""

    def __init__(
        self,
        wanted: Mapping[str, Wanted],
        first: Mapping[str, Callable[[], Found]],
        hands: Hands,
        opened: Callable[[], None],
        failed: Callable[[ForetellError], None],
        say: Callable[[str], None],
        *,
        poll: float,
        again: bool = True,
    ) -> None:
        self._wanted = wanted
        self._first = first
        self._hands = hands
        self._opened = opened
        self._failed = failed
        self._say = say
        self._poll = poll
        self._once = not again
        self._standings = {name: Standing(name, one.uri) for name, one in wanted.items()}
        self._asked: queue.SimpleQueue[Asked | None] = queue.SimpleQueue()
        self._due: dict[str, float] = {}
        self._pauses: dict[str, float] = {}
        self._complaints: dict[str, str] = {}

    def start(self) -> None:
        threading.Thread(target=self._run, name="follower", daemon=True).start()

    def ask(self, asked: Asked) -> None:
        """Does it when it is its turn. Any thread."""
        self._asked.put(asked)

    def close(self) -> None:
        self._asked.put(None)

    def _run(self) -> None:
        errors = [error for name in self._wanted if (error := self._begin(name, self._first[name])) is not None]
        self._tell()
        if len(errors) == len(self._wanted):
            self._failed(errors[0])
            return
        self._opened()
        while not self._once:
            wait = min(self._due.values()) - monotonic() if self._due else None
            try:
                asked = self._asked.get(timeout=None if wait is None else max(0.0, wait))
            except queue.Empty:
                asked = Asked("")
            if asked is None:
                return
            if asked.verb:
                self._do(asked)
            for name in [name for name, due in self._due.items() if due <= monotonic()]:
                self._turn(name)
            self._tell()

    def _begin(self, name: str, find: Callable[[], Found]) -> ForetellError | None:
        """Opens a model for the first time; what fails is tried again, later and later."""
        standing = self._standings[name]
        try:
            found = find()
            self._hands.open(name, found)
        except Exception as error:
            standing.problem = why(error)
            self._hands.unserved(name, standing.problem)
            if not self._pauses.get(name) and len(self._wanted) > 1 and not self._once:
                self._say(f"{name} is not served, and tried again: {standing.problem}")
            pause = self._pauses[name] = min(_LONGEST_PAUSE, 2 * self._pauses.get(name, _FIRST_PAUSE / 2))
            self._due[name] = monotonic() + pause
            if isinstance(error, ForetellError):
                return error
            failed = ModelError(f"{standing.uri} cannot be loaded: {standing.problem}")
            failed.__cause__ = error
            return failed
        standing.serving, standing.problem = Version.of(found), ""
        self._due.pop(name, None)
        if moves(standing.uri) and self._poll:
            standing.confirmed = found.resolved.when or time.time()
            self._wait(name)
        return None

    def _turn(self, name: str) -> None:
        """It is time to look after a model."""
        standing = self._standings[name]
        if standing.serving is None:
            if self._begin(name, self._wanted[name].find) is None:
                self._say(f"{name} is served now")
            return
        self._wait(name)
        try:
            number = meaning(standing.uri, self._wanted[name].registry)
        except Exception as error:
            self._complain(name, f"cannot look for newer versions: {why(error)}")
            return
        self._complaints.pop(name, None)
        standing.confirmed = time.time()
        if str(number) == standing.serving.label:
            standing.newer, standing.problem = 0, ""
            return
        if number != standing.newer:
            then = "" if self._follows(name, number) else "; --follow or POST /admin/reload serves it"
            standing.newer = number
            self._tell()
            self._say(f"{standing.uri} is version {number} now, and version {standing.serving.label} serves{then}")
        if self._follows(name, number):
            self._change(name, standing.serving, self._wanted[name].find, SWAPPED)

    def _follows(self, name: str, number: int) -> bool:
        return self._wanted[name].follow and str(number) not in self._standings[name].refused

    def _do(self, asked: Asked) -> None:
        names = [asked.name] if asked.name else list(self._wanted)
        became = {name: self._reload(name) if asked.verb == RELOAD else self._roll_back(name) for name in names}
        self._tell()
        told = {name: {"outcome": outcome, **self._standings[name].told()} for name, outcome in became.items()}
        asked.reply(FAILED not in became.values(), told)

    def _reload(self, name: str) -> str:
        """Serves what the uri means now, also where that was refused before."""
        if (serving := self._standings[name].serving) is not None:
            return self._change(name, serving, self._wanted[name].find, SWAPPED)
        if self._begin(name, self._wanted[name].find) is not None:
            return FAILED
        self._say(f"{name} is served now")
        return SWAPPED

    def _roll_back(self, name: str) -> str:
        """Serves what served before. What it goes back from is not followed again."""
        standing = self._standings[name]
        before, now = standing.before, standing.serving
        if before is None or now is None:
            standing.problem = "no other version has been served, so there is none to go back to"
            return FAILED
        outcome = self._change(name, now, lambda: self._wanted[name].find(before), ROLLED_BACK)
        if outcome == ROLLED_BACK:
            standing.refused.add(now.label)
            standing.newer = int(now.label) if now.label.isdigit() and standing.confirmed else 0
        return outcome

    def _change(self, name: str, serving: Version, find: Callable[[], Found], outcome: str) -> str:
        """Lets another version serve. Where it cannot, the one that does goes on, and the other is left alone. Returns
        what became of it."""
        standing = self._standings[name]
        label = str(standing.newer or "the version")
        try:
            found = find()
            version = Version.of(found)
            label = version.label
            if version == serving:
                standing.newer, standing.problem = 0, ""
                return "unchanged"
            self._hands.open(name, found)
        except Exception as error:
            hint = f". {error.hint}" if isinstance(error, ForetellError) and error.hint else ""
            standing.problem = f"{label}: {why(error)}{hint}"
            standing.outcomes[FAILED] += 1
            if not isinstance(error, RegistryDown):
                standing.refused.add(label)
            self._tell()
            self._say(f"{name} stays with version {serving.label}; {standing.problem}")
            return FAILED
        standing.before, standing.serving, standing.newer, standing.problem = serving, version, 0, ""
        standing.refused.discard(version.label)
        standing.outcomes[outcome] += 1
        self._tell()
        self._say(f"{name} is served by version {version.label} now, and was by {serving.label}")
        return outcome

    def _wait(self, name: str) -> None:
        """Until the next look; not all servers look at once."""
        self._due[name] = monotonic() + self._poll * random.uniform(1 - _JITTER, 1 + _JITTER)

    def _complain(self, name: str, text: str) -> None:
        if self._complaints.get(name) != text:
            self._complaints[name] = text
            self._say(f"{name}: {text}")

    def _tell(self) -> None:
        self._hands.told(list(self._standings.values()))
