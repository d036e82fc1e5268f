"""What files say, read again when they change, while the server runs: keys, certificates."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from foretell.errors import ForetellError

Value = TypeVar("Value")
_Stamp = tuple[tuple[int, ...], ...]


class Watched(Generic[Value]):
    """value: what the files said last. what: how they are called when something of them is told. read: raises
    ForetellError where they cannot be used; at the start that ends the server, later what was read before stays."""

    def __init__(self, what: str, paths: tuple[Path, ...], read: Callable[[], Value]) -> None:
        self._what = what
        self._paths = paths
        self._read = read
        self._seen = self._coming = self._stamp()
        self.value = read()

    def look(self) -> None:
        """Called now and then. Files that have just changed are left until the next look: they may still be on their
        way, and of a certificate and its key one comes first."""
        stamp = self._stamp()
        if stamp == self._seen:
            return
        if stamp != self._coming:
            self._coming = stamp
            return
        self._seen = stamp
        try:
            self.value = self._read()
        except ForetellError as error:
            _say(f"{self._what} stay as they were, for what came cannot be used: {error.message}. {error.hint}")
        else:
            _say(f"{self._what} have changed and are in force")

    def _stamp(self) -> _Stamp:
        return tuple(map(_stamp, self._paths))


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _say(text: str) -> None:
    print(f"note: {text}".rstrip(), file=sys.stderr, flush=True)
