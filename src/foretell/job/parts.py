"""An output that is a folder of files: part-00000.csv and so on, which are there all at once, or not yet.

They are made in a hidden folder beside, which changes places with the older one in the end.
"""

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from foretell.errors import OutputError
from foretell.job.digests import Digests
from foretell.job.drafts import Draft
from foretell.job.one_file import Sealed
from foretell.storage import swap, sync_folder
from foretell.tables.compression import pack_whole

MANIFEST = "_SUCCESS"
"""Says that a folder is complete, which Hadoop and Spark look for, and which parts foretell wrote there."""
_READY = ".ready"
"""Stands in a folder that is complete but not yet in its place."""
_OURS = re.compile(r"part-\d{5,}\..+|\.part-\d{5,}\..+\.draft|_SUCCESS|\.ready")


class Parts:
    """A folder of files. suffix: of each, with its point. size: bytes, before it is packed, after which a part ends.
    codec: what each is packed with in its end, as a whole."""

    def __init__(self, path: Path, suffix: str, size: int, codec: str | None = None) -> None:
        self._shown = path
        self._target = path.resolve()
        self._folder = self._target.with_name(f".{self._target.name}.parts")
        self._suffix, self._size, self._codec = suffix, size, codec
        self._count = 0
        self.ended: list[int] = []
        self._digests: Digests | None = None
        self._sealed: list[Sealed] = []
        self._draft = self._growing()
        self._new = False

    def hash_by(self, digests: Digests) -> None:
        self._digests = digests

    @property
    def at(self) -> int:
        return self._draft.at

    @property
    def full(self) -> bool:
        return self._draft.at >= self._size

    def lost(self, at: int, whole: list[int]) -> bool:
        there = [self._whole(number).size() for number in range(len(whole))]
        self._count = len(whole)
        return there != whole or self._growing().size() < at

    def open(self, at: int, whole: list[int]) -> None:
        self._count = len(whole)
        self._draft = self._growing()
        self._sealed = [self._again(number, size) for number, size in enumerate(whole)]
        kept = {self._name(number) for number in range(self._count)}
        if at:
            kept.add(self._draft.path.name)
        with self._errors():
            self._folder.mkdir(exist_ok=True)
            _remove(self._folder, kept)
        if at:
            self._draft.open(at)

    def write(self, data: bytes) -> None:
        if data and not self._draft.is_open:
            self._draft.open(0)
            self._new = True
        self._draft.write(data)

    def turn(self) -> None:
        final = self._draft
        if self._codec:
            final = self._whole(self._count)
            final.open(0)
            for piece in pack_whole(self._draft.content(), self._codec):
                final.write(piece)
        final.sync(os.fsync)
        if final.followed is not None:
            final.followed.end()
        self._sealed.append(Sealed(final.path.name, final.at, final.followed))
        self.ended.append(final.at)
        final.close()
        self._draft.close()
        self._count += 1
        self._draft = self._growing()
        self._new = True

    def sync(self, by: Callable[[int], None]) -> None:
        self._draft.sync(by)
        if self._new:
            self._sync_folder(self._folder)
            self._new = False

    def committed(self) -> None:
        """What a packed part was packed from is kept until the part counts."""
        if self._codec and self.ended:
            for number in range(self._count - len(self.ended), self._count):
                self._growing(number).remove()
        self.ended = []

    def seal(self) -> list[Sealed]:
        if self._draft.at:
            self.turn()
        parts = [self._name(number) for number in range(self._count)]
        for name, data in ((MANIFEST, _manifest(parts)), (_READY, b"")):
            file = self._file(name)
            file.open(0)
            file.write(data)
            file.sync(os.fsync)
            file.close()
        with self._errors(), contextlib.suppress(FileNotFoundError):
            self._folder.chmod(self._target.stat().st_mode & 0o777)
        self._sync_folder(self._folder)
        return self._sealed

    def put_in_place(self, place: Path) -> None:
        if (self._folder / _READY).exists():
            with self._errors():
                _remove(self._folder, {*_listed(self._folder), MANIFEST, _READY})
        take_place(self._folder, place, self._shown)

    def close(self, *, keep: bool) -> None:
        self._draft.close()
        if not keep and self._folder.is_dir():
            with contextlib.suppress(OSError):
                _remove(self._folder, set())
                self._folder.rmdir()

    def _name(self, number: int) -> str:
        return f"part-{number:05}{self._suffix}"

    def _whole(self, number: int) -> Draft:
        return self._file(self._name(number), self._digests)

    def _again(self, number: int, size: int) -> Sealed:
        """A part that an earlier run has ended."""
        name = self._name(number)
        followed = None if self._digests is None else self._digests.follow(self._folder / name, size)
        if followed is not None:
            followed.end()
        return Sealed(name, size, followed)

    def _growing(self, number: int | None = None) -> Draft:
        """A part before it is packed; where that is not to be, the part itself."""
        name = self._name(self._count if number is None else number)
        return self._file(f".{name}.draft") if self._codec else self._file(name, self._digests)

    def _file(self, name: str, digests: Digests | None = None) -> Draft:
        return Draft(self._folder / name, self._folder / name, self._shown, digests)

    def _sync_folder(self, folder: Path) -> None:
        with self._errors():
            sync_folder(folder)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"{self._shown} cannot be written: {error.strerror}") from error


def take_place(folder: Path, place: Path, shown: Path) -> None:
    """A folder that says that it is ready takes another's place, which is removed. May be called again, after a crash.
    Raises OutputError."""
    older = place.with_name(f".{place.name}.older")
    try:
        if (folder / _READY).exists():
            _exchange(folder, place, older, shown)
        left = [one for one in (folder, older) if one.is_dir()]
        for one in left:
            _remove(one, set())
        with contextlib.suppress(FileNotFoundError):
            (place / _READY).unlink()
        for one in left:
            one.rmdir()
    except OSError as error:
        raise OutputError(f"{shown} cannot be written: {error.strerror}") from error


def accept(folder: Path, place: Path, shown: Path) -> None:
    """A complete folder takes another's place. May be called again, after a crash. Raises OutputError."""
    if waits(folder, place):
        try:
            (folder / _READY).touch()
            sync_folder(folder)
        except OSError as error:
            raise OutputError(f"{shown} cannot be written: {error.strerror}") from error
    take_place(folder, place, shown)


def waits(held: Path, place: Path) -> bool:
    """Whether something is to take a place. A folder that has taken it says that it is ready until the other, which
    stands where it stood, is emptied."""
    return held.is_file() or (held.is_dir() and not (place / _READY).exists() and any(held.iterdir()))


def _exchange(folder: Path, place: Path, older: Path, shown: Path) -> None:
    if place.is_dir() and (other := foreign(place)):
        raise OutputError(
            f"{shown} holds {other} by now, which foretell did not write",
            "Put it elsewhere; what is done is kept, and the same command puts it in place",
        )
    if place.is_dir() and any(place.iterdir()) and not swap(folder, place):
        place.replace(older)
    if (folder / _READY).exists():
        folder.replace(place)


def foreign(folder: Path) -> str:
    """Something in a folder that is not of an output of parts that is complete; empty where there is nothing such."""
    listed = _listed(folder)
    known = {*listed, MANIFEST, _READY} if listed else set()
    return next((path.name for path in sorted(folder.iterdir()) if path.name not in known), "")


def _manifest(parts: list[str]) -> bytes:
    return json.dumps({"by": "foretell", "parts": parts}, indent=1).encode() + b"\n"


def _listed(folder: Path) -> list[str]:
    """The parts that a folder's manifest names; none where it is not foretell's."""
    try:
        told = json.loads((folder / MANIFEST).read_bytes())
        parts = told["parts"] if told["by"] == "foretell" else []
    except (OSError, ValueError, LookupError, TypeError):
        return []
    return [name for name in parts if isinstance(name, str)] if isinstance(parts, list) else []


def _remove(folder: Path, but: set[str]) -> None:
    """Removes what foretell writes into such a folder."""
    for path in sorted(folder.iterdir()):
        if _OURS.fullmatch(path.name) and path.name not in but:
            path.unlink()
