"""How heavy libraries are imported: when they are first used, and without others that they look for and that foretell
does not need of them."""

import contextlib
import importlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

_LOCK = threading.RLock()
_settings = {"alone": False}


def alone() -> None:
    """Said by the command line: nothing else in this process will want a library with all that it can find."""
    _settings["alone"] = True


@contextlib.contextmanager
def without(*names: str) -> Iterator[None]:
    """What is imported inside does not find these libraries, which take a second to import; they can be imported
    afterwards. Changes nothing where one is imported already, or where the process is not foretell's own."""
    with _LOCK:
        hidden = [name for name in names if _settings["alone"] and name not in sys.modules]
        try:
            for name in hidden:
                sys.modules[name] = None  # type: ignore[assignment]
            yield
        finally:
            for name in hidden:
                del sys.modules[name]


class Lazily:
    """A module that is imported when something of it is first asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        found = getattr(importlib.import_module(self._name), attribute)
        setattr(self, attribute, found)
        return found
