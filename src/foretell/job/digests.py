"""The sha256 of files while a job reads or writes them, in a thread of its own: hashlib and reads let others compute.

What is written is hashed from memory where the thread keeps up, else read again, mostly out of the system's cache; so
is the part of an output that an earlier run wrote, as a hash that was begun cannot be kept.
"""

import contextlib
import hashlib
import os
import threading
from collections import deque
from pathlib import Path

_HELD = 16 << 20
"""Bytes that wait in memory."""
_PIECE = 1 << 20


class Digests:
    """Hashes files, one after the other in the order in which they were given. Use close at the end."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[Followed] = deque()
        self._closed = False
        self._thread: threading.Thread | None = None

    def follow(self, path: Path | None, size: int = 0) -> "Followed":
        """A file that has so many bytes and grows; None for bytes that are just passed by."""
        followed = Followed(self._changed, path, size)
        with self._changed:
            self._waiting.append(followed)
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="foretell digests", daemon=True)
                self._thread.start()
        return followed

    def close(self) -> None:
        """Leaves what is not done."""
        with self._changed:
            self._closed = True
            for followed in self._waiting:
                followed.leave()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                followed = self._waiting[0]
            followed.work()
            with self._changed:
                if self._waiting:
                    self._waiting.popleft()


class Followed:
    """A file whose bytes come bit by bit."""

    def __init__(self, changed: threading.Condition, path: Path | None, size: int) -> None:
        self._changed = changed
        self._path = path
        self._size = size
        self._pieces: deque[tuple[int, memoryview]] = deque()
        self._held = 0
        self._ended = self._left = self._done = False
        self._digest: str | None = None

    def grow(self, data: bytes | memoryview = b"", size: int | None = None) -> None:
        """More bytes are there, after those before; or, with a size, as many in the file as it says."""
        with self._changed:
            if data:
                while self._path is None and self._held > _HELD and not self._left:
                    self._changed.wait()
                if self._held <= _HELD:
                    self._pieces.append((self._size, memoryview(data)))
                    self._held += len(data)
            self._size = max(self._size, self._size + len(data) if size is None else size)
            self._changed.notify_all()

    def end(self, size: int | None = None) -> None:
        """No more will come."""
        with self._changed:
            self._size = self._size if size is None else size
            self._ended = True
            self._changed.notify_all()

    def leave(self) -> None:
        """Its digest is of no use any more; called with the condition held."""
        self._left = True

    def digest(self) -> str | None:
        """In hex, when all is hashed; None where the file could not be read."""
        with self._changed:
            while not self._done and not self._left:
                self._changed.wait()
            return self._digest

    def work(self) -> None:
        """Called by the thread."""
        done = hashlib.sha256()
        at, file = 0, -1
        try:
            while (piece := self._next(at)) is not None:
                if isinstance(piece, int):
                    if file < 0:
                        file = os.open(self._path or "", os.O_RDONLY)
                    data: bytes | memoryview = os.pread(file, piece, at)
                    if not data:
                        raise OSError
                else:
                    data = piece
                done.update(data)
                at += len(data)
            self._digest = None if self._left else done.hexdigest()
        except (OSError, MemoryError):
            self._digest = None
        finally:
            if file >= 0:
                with contextlib.suppress(OSError):
                    os.close(file)
            with self._changed:
                self._done = True
                self._pieces.clear()
                self._changed.notify_all()

    def _next(self, at: int) -> memoryview | int | None:
        """What comes next: bytes, or how many to read; None at the end."""
        with self._changed:
            while at >= self._size and not self._ended and not self._left:
                self._changed.wait()
            if self._left or at >= self._size:
                return None
            if self._pieces and self._pieces[0][0] == at:
                data = self._pieces.popleft()[1]
                self._held -= len(data)
                self._changed.notify_all()
                return data
            until = self._pieces[0][0] if self._pieces else self._size
            return min(_PIECE, until - at)
