"""A file that grows under a name of its own and then takes the place of another."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from foretell.errors import OutputError
from foretell.job.digests import Digests, Followed

_PIECE = 8 << 20


class Draft:
    """A file that grows under one name and then takes another's place. shown: as a person named it. digests: what
    hashes it meanwhile; followed: how far."""

    def __init__(self, target: Path, path: Path, shown: Path, digests: Digests | None = None) -> None:
        self._target = target
        self.path = path
        self._shown = shown
        self._file = -1
        self.at = 0
        self._digests = digests
        self.followed: Followed | None = None

    @property
    def is_open(self) -> bool:
        return self._file >= 0

    def open(self, at: int) -> None:
        """Opens it, to go on after so many bytes; what stands there later is dropped."""
        with self._errors():
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            os.ftruncate(self._file, at)
        self.at = at
        if self._digests is not None:
            self.followed = self._digests.follow(self.path, at)

    def size(self) -> int:
        try:
            return self.path.lstat().st_size
        except OSError:
            return 0

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        with self._errors():
            while view:
                count = os.pwrite(self._file, view, self.at)
                self.at += count
                view = view[count:]
        if self.followed is not None and data:
            self.followed.grow(data)

    def content(self) -> Iterator[bytes]:
        """What was written, in pieces."""
        for start in range(0, self.at, _PIECE):
            with self._errors():
                piece = os.pread(self._file, min(_PIECE, self.at - start), start)
            yield piece

    def sync(self, by: Callable[[int], None]) -> None:
        if self.is_open:
            with self._errors():
                by(self._file)

    def take_mode(self) -> None:
        """Takes the mode of what it will replace."""
        with self._errors(), contextlib.suppress(FileNotFoundError):
            os.fchmod(self._file, self._target.stat().st_mode & 0o777)

    def put_in_place(self, place: Path) -> None:
        """Once it is there already, it stays."""
        self.close()
        with self._errors(), contextlib.suppress(FileNotFoundError):
            self.path.replace(place)

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            self.path.unlink()

    def close(self) -> None:
        if self.is_open:
            with contextlib.suppress(OSError):
                os.close(self._file)
        self._file = -1

    @contextlib.contextmanager
    def _errors(self) -> Any:
        try:
            yield
        except OSError as error:
            raise OutputError(f"{self._shown} cannot be written: {error.strerror}") from error
