"""What an output consists of while it grows: a file beside its place, or whatever else has these methods."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from foretell.job.digests import Digests, Followed
from foretell.job.drafts import Draft
from foretell.tables.compression import pack_whole


@dataclass(frozen=True)
class Sealed:
    """A file of an output that is complete. name: in the output's folder; empty for the output itself."""

    name: str
    size: int
    followed: Followed | None


class Body(Protocol):
    """What grows. at: bytes of what grows now. ended: sizes of the parts that have ended since the last commit. full:
    whether another part should begin."""

    @property
    def at(self) -> int: ...

    @property
    def ended(self) -> list[int]: ...

    @property
    def full(self) -> bool: ...

    def lost(self, at: int, whole: list[int]) -> bool:
        """Whether something is missing of so many bytes, after parts of these sizes."""
        ...

    def hash_by(self, digests: Digests) -> None:
        """Called before open, if at all: it will be asked for its files' digests."""
        ...

    def open(self, at: int, whole: list[int]) -> None:
        """Begins there; what stands later is dropped."""
        ...

    def write(self, data: bytes) -> None: ...

    def turn(self) -> None:
        """Ends a part, durably."""
        ...

    def sync(self, by: Callable[[int], None]) -> None: ...

    def committed(self) -> None:
        """The journal knows of all that was synced."""
        ...

    def seal(self) -> list[Sealed]:
        """All was written. Returns the output's files."""
        ...

    def put_in_place(self, place: Path) -> None:
        """May be called again, after a crash; raises OutputError."""
        ...

    def close(self, *, keep: bool) -> None:
        """keep: what a later run can go on with."""
        ...


class OneFile:
    """One file, written whole. codec: what it is packed with in the end, as a whole."""

    full = False

    def __init__(self, path: Path, codec: str | None = None) -> None:
        target = path.resolve()
        self._codec = codec
        self._draft = Draft(target, target.with_name(f".{target.name}.draft"), path)
        self._packed = Draft(target, target.with_name(f".{target.name}.packed.draft"), path)
        self._path, self._target = path, target
        self.ended: list[int] = []

    def hash_by(self, digests: Digests) -> None:
        self._final = Draft(self._target, self._final.path, self._path, digests)

    @property
    def at(self) -> int:
        return self._draft.at

    def lost(self, at: int, whole: list[int]) -> bool:
        return self._draft.size() < at

    def open(self, at: int, whole: list[int]) -> None:
        self._draft.open(at)

    def write(self, data: bytes) -> None:
        self._draft.write(data)

    def turn(self) -> None:
        """There is just one part."""

    def sync(self, by: Callable[[int], None]) -> None:
        self._draft.sync(by)
        self._packed.sync(by)

    def committed(self) -> None:
        """Nothing waits for it."""

    def seal(self) -> list[Sealed]:
        if self._codec:
            self._packed.open(0)
            for piece in pack_whole(self._draft.content(), self._codec):
                self._packed.write(piece)
        self._final.take_mode()
        self.sync(os.fsync)
        if self._final.followed is not None:
            self._final.followed.end()
        return [Sealed("", self._final.at, self._final.followed)]

    def put_in_place(self, place: Path) -> None:
        self._final.put_in_place(place)
        if self._codec:
            self._draft.close()
            self._draft.remove()

    def close(self, *, keep: bool) -> None:
        self._draft.close()
        if not keep:
            self._draft.remove()
        self._packed.close()
        self._packed.remove()

    @property
    def _final(self) -> Draft:
        return self._packed if self._codec else self._draft

    @_final.setter
    def _final(self, draft: Draft) -> None:
        if self._codec:
            self._packed = draft
        else:
            self._draft = draft
