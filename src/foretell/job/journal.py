"""What is known to be done of an output, and by whom it is being written: a file beside it, of checksummed lines.

A line counts when it is whole; what stands behind the last whole line was being written in a crash, and is dropped. The
file's lock is the output's: it is made first and removed last.
"""

import contextlib
import fcntl
import os
import socket
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from foretell.errors import OutputError
from foretell.job.figures import Figures
from foretell.job.report import Report


class Head(msgspec.Struct, frozen=True, tag="job"):
    """What is being done; all that the output's bytes depend on."""

    pins: dict[str, Any]


class Runner(msgspec.Struct, frozen=True, tag="run"):
    """Who writes from here on."""

    pid: int
    host: str
    since: str


class Commit(msgspec.Struct, frozen=True, tag="done"):
    """What is durable. position: in the input. rows: that were read. output, rejects: bytes. marks: the writer's new
    ones. engine: what predicted, and whether that is the model's own library. whole: sizes of the parts that have ended
    since the commit before; output and marks are then of the part after them. figures: of all rows so far.
    read: bytes of the inputs, as they are stored."""

    position: list[int]
    rows: int
    rejected: int
    output: int
    rejects: int
    marks: list[bytes]
    engine: str
    native: bool
    whole: list[int] = []
    figures: Figures = Figures()
    read: int = 0


class End(msgspec.Struct, frozen=True, tag="end"):
    """All is durable, the output's end too, and is being put in place. jumps: why that is not the output's own place;
    see `guard`. report_to: where the report goes; empty for nowhere."""

    last: Commit
    report: Report | None = None
    jumps: list[str] = []
    report_to: str = ""


Record = Head | Runner | Commit | End
_DECODER: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


class Journal:
    """The journal of one output, held by this process alone. Raises OutputError where another one holds it.

    head: what was begun. last: the newest commit. marks: the writer's, of all commits. whole: the sizes of the parts
    that have ended. ended: what it came to, where it was complete.
    """

    def __init__(self, path: Path, output: Path) -> None:
        self._path = path
        self._output = output
        self._file = self._held()
        self.head: Head | None = None
        self.last: Commit | None = None
        self.marks: list[bytes] = []
        self.whole: list[int] = []
        self.ended: End | None = None
        self._read()
        self._truncate()
        self._append(_me())

    def begin(self, pins: dict[str, Any]) -> None:
        """Starts over."""
        self.head, self.last, self.marks, self.whole, self.ended = Head(pins), None, [], [], None
        self._end = 0
        self._truncate()
        self._append(self.head)
        self._append(_me())

    def commit(self, commit: Commit) -> None:
        """Durable when it returns; what it tells of has to be so before."""
        self._append(commit, sync=True)
        self._take(commit)

    def end(self, end: End) -> None:
        """All that is left is to put the output in place."""
        self._append(end, sync=True)
        self._take(end)

    def remove(self) -> None:
        """Releases the output; nothing is left of the journal."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        self.close()

    def close(self) -> None:
        """Releases the output; what is done stays known."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def _held(self) -> int:
        """The journal, open and locked; it is the one that still lies there."""
        while True:
            try:
                file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            except OSError as error:
                raise OutputError(f"{self._output} cannot be written: {error.strerror}") from error
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                who = _holder(_records(_content(file))[0])
                os.close(file)
                raise OutputError(
                    f"{self._output} is being written by {who}", "Wait for it, or give another output"
                ) from None
            with contextlib.suppress(FileNotFoundError):
                if self._path.stat().st_ino == os.fstat(file).st_ino:
                    return file
            os.close(file)

    def _read(self) -> None:
        try:
            records, self._end = _records(_content(self._file))
        except OSError as error:
            raise self._broken("read", error) from error
        for record in records:
            self._take(record)

    def _take(self, record: Record) -> None:
        if isinstance(record, Head):
            self.head = record
        elif isinstance(record, Commit):
            self.last = record
            self.marks = record.marks if record.whole else self.marks + record.marks
            self.whole = self.whole + record.whole
        elif isinstance(record, End):
            self.last, self.ended = record.last, record

    def _truncate(self) -> None:
        try:
            os.ftruncate(self._file, self._end)
        except OSError as error:
            raise self._broken("written", error) from error

    def _append(self, record: Record, *, sync: bool = False) -> None:
        body = msgspec.json.encode(record)
        line = b"%08x %b\n" % (zlib.crc32(body), body)
        try:
            if os.pwrite(self._file, line, self._end) != len(line):
                raise OSError(0, "not all was written")
            if sync:
                os.fdatasync(self._file)
        except OSError as error:
            raise self._broken("written", error) from error
        self._end += len(line)

    def _broken(self, what: str, error: OSError) -> OutputError:
        """The journal lies beside the output, which a person may have named by another path."""
        return OutputError(f"{self._output}: its journal {self._path.name} cannot be {what}: {error.strerror}")


def rows_done(path: Path) -> int | None:
    """How many rows a journal tells of that need not be read again; None where there is nothing to go on with."""
    try:
        records = _records(path.read_bytes())[0]
    except OSError:
        return None
    last = next((record for record in reversed(records) if isinstance(record, Commit | End)), None)
    return last.last.rows if isinstance(last, End) else None if last is None else last.rows


def _content(file: int) -> bytes:
    return os.pread(file, os.fstat(file).st_size, 0)


def _records(data: bytes) -> tuple[list[Record], int]:
    """The whole lines' records, and where the last of them ends."""
    records: list[Record] = []
    end = 0
    for line in data.splitlines(keepends=True):
        try:
            if not line.endswith(b"\n") or int(line[:8], 16) != zlib.crc32(line[9:-1]):
                break
            records.append(_DECODER.decode(line[9:-1]))
        except (ValueError, msgspec.DecodeError):
            break
        end += len(line)
    return records, end


def _me() -> Runner:
    return Runner(os.getpid(), socket.gethostname(), datetime.now(UTC).isoformat(timespec="seconds"))


def _holder(records: list[Record]) -> str:
    runners = [record for record in records if isinstance(record, Runner)]
    if not runners:
        return "another foretell"
    last = runners[-1]
    return f"process {last.pid} on {last.host}, since {last.since}"
