"""Which version of each model is to be served: opens them one by one, and tries again what could not be opened."""

import threading
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Protocol

from foretell.errors import ForetellError, ModelError
from foretell.predictor import Found
from foretell.serve.wanted import Wanted, why

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 300.0


class Hands(Protocol):
    """What puts a model in its place."""

    def open(self, name: str, found: Found) -> None:
        """Raises ForetellError, where it cannot be loaded."""
        ...

    def unserved(self, name: str, reason: str) -> None:
        """Those who ask for it are told why it is not there."""
        ...


class Follower:
    """Works on a thread of its own.

    first: finds a model as it is found at the start. opened: called when all have been tried, and one at least serves.
    failed: called where none does, or the only one.
    """

    def __init__(
        self,
        wanted: Mapping[str, Wanted],
        first: Mapping[str, Callable[[], Found]],
        hands: Hands,
        opened: Callable[[], None],
        failed: Callable[[ForetellError], None],
        say: Callable[[str], None],
    ) -> None:
        self._wanted = wanted
        self._first = first
        self._hands = hands
        self._opened = opened
        self._failed = failed
        self._say = say
        self._stop = threading.Event()
        self._again: dict[str, float] = {}
        self._pauses: dict[str, float] = {}

    def start(self) -> None:
        threading.Thread(target=self._run, name="follower", daemon=True).start()

    def close(self) -> None:
        self._stop.set()

    def _run(self) -> None:
        errors = {name: error for name in self._wanted if (error := self._try(name, self._first[name])) is not None}
        if len(errors) == len(self._wanted):
            self._failed(next(iter(errors.values())))
            return
        for name, error in errors.items():
            self._say(f"{name} is not served, and tried again: {error.message}")
        self._opened()
        while self._again and not self._stop.wait(max(0.0, min(self._again.values()) - monotonic())):
            name = min(self._again, key=self._again.__getitem__)
            if self._try(name, self._wanted[name].find) is None:
                self._say(f"{name} is served now")

    def _try(self, name: str, find: Callable[[], Found]) -> ForetellError | None:
        """Opens a model; what fails is tried again, later and later."""
        try:
            self._hands.open(name, find())
        except Exception as error:
            reason = why(error)
            self._hands.unserved(name, reason)
            pause = self._pauses[name] = min(_LONGEST_PAUSE, 2 * self._pauses.get(name, _FIRST_PAUSE / 2))
            self._again[name] = monotonic() + pause
            if isinstance(error, ForetellError):
                return error
            failed = ModelError(f"{self._wanted[name].uri} cannot be loaded: {reason}")
            failed.__cause__ = error
            return failed
        self._again.pop(name, None)
        return None
