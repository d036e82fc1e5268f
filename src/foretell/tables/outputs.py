"""Where predictions go: files that appear whole or not at all, and stdout. Used by the command line for jobs."""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import IO, Protocol

from foretell.errors import OutputError
from foretell.storage import sync_folder
from foretell.tables.compression import Deflater


class Sink(Protocol):
    """Where predictions go: whole on commit, or not at all."""

    def write(self, data: bytes) -> None: ...

    def commit(self) -> None: ...

    def discard(self) -> None: ...


class Output:
    """A file that appears under its name when it is committed, and not before; what was there stays until then.

    It grows as a draft beside its target, which only one writer at a time can hold.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._target = path.resolve()
        self._draft = self._target.with_name(f".{self._target.name}.draft")
        try:
            self._file = os.fdopen(os.open(self._draft, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+b")
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise OutputError(
                f"{path} is being written by another foretell", "Wait for it, or give another output"
            ) from None
        self._file.truncate(0)

    def write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error.strerror}") from error

    def commit(self) -> None:
        """Makes it durable and puts it in place of what was there."""
        try:
            self._file.flush()
            with contextlib.suppress(FileNotFoundError):
                os.fchmod(self._file.fileno(), self._target.stat().st_mode & 0o777)
            os.fsync(self._file.fileno())
            self._draft.replace(self._target)
            sync_folder(self._target.parent)
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error.strerror}") from error
        finally:
            self._close()

    def discard(self) -> None:
        """Leaves no trace; harmless after commit."""
        if not self._file.closed:
            with contextlib.suppress(FileNotFoundError):
                self._draft.unlink()
            self._close()

    def _close(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()


class Stdout:
    """Standard output, which nothing can be taken back from. A reader that left is no error."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def write(self, data: bytes) -> None:
        self._stream.write(data)

    def commit(self) -> None:
        self._stream.flush()

    def discard(self) -> None:
        """What was written stays."""


class Packed:
    """A sink whose bytes are packed on their way."""

    def __init__(self, sink: Sink, codec: str) -> None:
        self._sink = sink
        self._deflater = Deflater(codec)

    def write(self, data: bytes) -> None:
        self._sink.write(self._deflater.pack(data))

    def commit(self) -> None:
        self._sink.write(self._deflater.end())
        self._sink.commit()

    def discard(self) -> None:
        self._sink.discard()
