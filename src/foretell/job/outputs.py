"""Where predictions go: a file that appears whole or not at all and that a later run can take up, or stdout."""

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import msgspec

from foretell.errors import OutputError, UsageError
from foretell.job import pins as pinned
from foretell.job import report_file
from foretell.job.digests import Digests, Followed
from foretell.job.drafts import Draft
from foretell.job.journal import Commit, End, Journal
from foretell.job.one_file import Body, OneFile, Sealed
from foretell.storage import sync_folder

_COMMIT_BYTES, _COMMIT_SECONDS = 64 << 20, 2.0
AUTO, REQUIRE, NEVER = "auto", "require", "never"
REPORTED = Path()
"""In place of a report's path: beside the output."""


@dataclass(frozen=True)
class Standing:
    """What was done before. end: all of it, and the output is in its place now."""

    commit: Commit
    marks: list[bytes]
    end: End | None = None


class Target(Protocol):
    """Where a job's bytes go."""

    def begin(
        self, pins: dict[str, Any], resume: str, say: Callable[[str], None], digests: Digests | None = None
    ) -> Standing | None:
        """Called first, once: where to go on, or None at the start. resume: "auto", "require" or "never". digests: what
        hashes the output's files, if that is wanted."""
        ...

    def write(self, data: bytes) -> None: ...

    def reject(self, data: bytes) -> None: ...

    @property
    def due(self) -> bool:
        """Whether what was written is worth a commit."""
        ...

    @property
    def full(self) -> bool:
        """Whether another part should begin."""
        ...

    def commit(self, commit: Commit) -> None:
        """Makes durable all that was written; its bytes are counted here."""
        ...

    def turn(self, commit: Commit) -> None:
        """Ends a part, and commits that."""
        ...

    def seal(self) -> list[Sealed]:
        """All was written. Returns the output's files."""
        ...

    def finish(self, end: End) -> None:
        """Puts the output in place; or beside it, where it is not like the one before."""
        ...

    def close(self) -> None:
        """Leaves what a later run can go on with, or else no trace; harmless after finish."""
        ...


class Output:
    """A file that appears under its name when it is complete, and not before; what was there stays until then.

    It grows as a draft beside its target; a journal tells how much of it counts. body: what grows, if not one file.
    report: where the job's report is written, besides; REPORTED for the usual place.
    """

    def __init__(self, path: Path, body: Body | None = None, report: Path | None = None) -> None:
        self.path = path
        self._report = report
        target = self._target = path.resolve()
        self._body = body or OneFile(path)
        rejects = rejects_of(target)
        self._rejects = Draft(rejects, target.with_name(f".{rejects.name}.draft"), rejects_of(path))
        self._journal = Journal(journal_of(target), path)
        self._since = time.monotonic()
        self._bytes = 0
        self._named = False
        self._lost = False

    def begin(
        self, pins: dict[str, Any], resume: str, say: Callable[[str], None], digests: Digests | None = None
    ) -> Standing | None:
        if digests is not None:
            self._body.hash_by(digests)
        last, ended = self._journal.last, self._journal.ended
        why = self._why_over(pins, last, ended)
        if resume == REQUIRE and (last is None or why):
            raise UsageError(
                f"{self.path}: there is nothing to go on with{': ' + why if why else ''}", "Leave out --resume require"
            )
        if last is None or why or resume == NEVER:
            if why and resume == AUTO:
                say(f"starting over: {why}")
            self._sweep_report(ended)
            self._journal.begin(pins)
            self._body.open(0, [])
            self._rejects.remove()
            return None
        standing = Standing(last, list(self._journal.marks), ended)
        if ended is not None:
            self._put_in_place(ended)
            return standing
        self._body.open(last.output, self._journal.whole)
        if last.rejects:
            self._rejects.open(last.rejects)
        return standing

    def write(self, data: bytes) -> None:
        self._body.write(data)
        self._bytes += len(data)

    def reject(self, data: bytes) -> None:
        if data and not self._rejects.is_open:
            self._rejects.open(0)
        self._rejects.write(data)

    @property
    def due(self) -> bool:
        return self._bytes >= _COMMIT_BYTES or (self._bytes > 0 and time.monotonic() - self._since >= _COMMIT_SECONDS)

    @property
    def full(self) -> bool:
        return self._body.full

    def turn(self, commit: Commit) -> None:
        self._body.turn()
        self.commit(commit)

    def commit(self, commit: Commit) -> None:
        self._sync(os.fdatasync)
        if not self._named:
            self._sync_folder()
            self._named = True
        self._journal.commit(self._counted(commit))
        self._body.committed()
        self._bytes, self._since = 0, time.monotonic()

    def seal(self) -> list[Sealed]:
        sealed = self._body.seal()
        self._sync(os.fsync)
        return [
            Sealed(f"{self.path}/{one.name}" if one.name else f"{self.path}", one.size, one.followed) for one in sealed
        ]

    def finish(self, end: End) -> None:
        to = "" if self._report is None else str(self._report if self._report == REPORTED else self._report.absolute())
        end = msgspec.structs.replace(end, last=self._counted(end.last), report_to=to)
        self._journal.end(end)
        self._put_in_place(end)

    def close(self) -> None:
        kept = self.kept
        self._body.close(keep=kept)
        self._rejects.close()
        if not kept:
            self._rejects.remove()
            self._journal.remove()
        self._journal.close()

    @property
    def kept(self) -> bool:
        """Whether a later run can go on: what comes through a pipe does not come again."""
        head = self._journal.head
        return self._journal.last is not None and head is not None and bool(head.pins.get("input"))

    def _why_over(self, pins: dict[str, Any], last: Commit | None, ended: End | None) -> str:
        """Why what was begun is of no use; empty where it is, or where nothing was."""
        if last is None or self._journal.head is None:
            return ""
        if why := pinned.difference(self._journal.head.pins, pins, last):
            return why
        if not ended and self._body.lost(last.output, self._journal.whole):
            return "its draft is gone, or cut short"
        return "its rejects are gone, or cut short" if not ended and self._rejects.size() < last.rejects else ""

    def _counted(self, commit: Commit) -> Commit:
        body = self._body
        return msgspec.structs.replace(commit, output=body.at, rejects=self._rejects.at, whole=body.ended)

    def _sync(self, by: Callable[[int], None]) -> None:
        """A draft that could not be made durable is not tried again: what the system lost is not known."""
        if self._lost:
            raise OutputError(f"{self.path} cannot be written: an earlier write was lost")
        self._lost = True
        self._body.sync(by)
        self._rejects.sync(by)
        self._lost = False

    def _put_in_place(self, end: End) -> None:
        place = held_of(self._target) if end.jumps else self._target
        if end.last.rejects:
            self._rejects.put_in_place(rejects_of(place))
        elif end.last.rejected == 0:
            with contextlib.suppress(OSError):
                rejects_of(place).unlink()
        if end.report is not None and (to := self._report_to(end)) is not None:
            report_file.write(to, end.report, self._shown(to))
        self._body.put_in_place(place)
        self._sync_folder()
        self._journal.remove()

    def _report_to(self, end: End) -> Path | None:
        place = held_of(self._target) if end.jumps else self._target
        to = Path(end.report_to) if end.report_to else self._report
        return report_of(place) if to == REPORTED else to

    def _sweep_report(self, ended: End | None) -> None:
        """A run that was killed while it wrote the report may have left what it wrote; this one may write none."""
        if ended is not None and ended.report_to and (to := self._report_to(ended)) is not None:
            report_file.sweep(to)

    def _shown(self, to: Path) -> Path:
        """As a person would name it."""
        if self._report is not None and self._report.absolute() == to:
            return self._report
        return self.path.with_name(to.name) if to.parent == self._target.parent else to

    def _sync_folder(self) -> None:
        try:
            sync_folder(self._target.parent)
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error.strerror}") from error


def rejects_of(path: Path) -> Path:
    """Where the rejected rows of an output go."""
    return path.with_name(f"{path.name}.rejects.jsonl")


def journal_of(path: Path) -> Path:
    """Where it is kept how far an output is."""
    return path.with_name(f".{path.name}.journal")


def held_of(path: Path) -> Path:
    """Where an output goes that is not like the one before."""
    return path.with_name(f"{path.name}.held")


def report_of(path: Path) -> Path:
    """Where the report of an output's job goes, by itself."""
    return path.with_name(f"{path.name}.report.json")


class Stdout:
    """Standard output, which nothing can be taken back from. A reader that left is no error."""

    due = full = False

    def __init__(self, stream: IO[bytes], report: Path | None = None) -> None:
        self._stream = stream
        self._report = report
        self._size = 0
        self._followed: Followed | None = None

    def begin(
        self, pins: dict[str, Any], resume: str, say: Callable[[str], None], digests: Digests | None = None
    ) -> Standing | None:
        if digests is not None:
            self._followed = digests.follow(None)
        if resume == REQUIRE:
            raise UsageError("what goes to stdout cannot be gone on with", "Give a file: -o")
        return None

    def write(self, data: bytes) -> None:
        self._stream.write(data)
        self._size += len(data)
        if self._followed is not None and data:
            self._followed.grow(data)

    def reject(self, data: bytes) -> None:
        """Rejected rows need a file."""

    def commit(self, commit: Commit) -> None:
        """Nothing can be gone on with."""

    def turn(self, commit: Commit) -> None:
        """There is just one part."""

    def seal(self) -> list[Sealed]:
        self._stream.flush()
        if self._followed is not None:
            self._followed.end()
        return [Sealed("stdout", self._size, self._followed)]

    def finish(self, end: End) -> None:
        if self._report is not None and end.report is not None:
            report_file.write(self._report, end.report, self._report)

    def close(self) -> None:
        """What was written stays."""
