"""The folder of a log of predictions: files appear in it whole, the oldest go when it is full, and what a server that
crashed left unfinished is cleared away. Several servers may write to one."""

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import time
from itertools import count
from pathlib import Path

from foretell import storage
from foretell.errors import UsageError

_OURS = re.compile(r"\d{8}T\d{6}-.*-[0-9a-f]{8}-\d+\.parquet")
_DRAFT = ".draft"
_PRIVATE = 0o600


class LogFolder:
    """most: bytes that it may hold."""

    def __init__(self, path: Path, most: int) -> None:
        self._path = path
        self._most = most
        self._token = secrets.token_hex(4)
        self._numbers = count(1)

    def open(self) -> list[str]:
        """Makes it, for the owner alone, where it is missing. Returns what is to be said. Raises UsageError."""
        try:
            storage.make_private(self._path)
            descriptor, probe = self._draft(self._path / f"probe-{self._token}")
            os.close(descriptor)
            probe.unlink()
        except OSError as error:
            raise UsageError(f"--log-predictions {self._path}: {error.strerror}") from error
        gone = self._clear()
        what = f"{gone} unfinished file{'s' * (gone != 1)} of a server that ended early"
        return [f"{self._path}: {what}, whose rows are lost, cleared away"] if gone else []

    def write(self, model: str, version: str, data: bytes) -> Path:
        """A file, whole or not at all. Raises OSError."""
        folder = self._path / _fit(model)
        storage.make_private(folder)
        if folder.is_symlink():
            raise OSError(0, f"{folder} is a link")
        self._make_room(len(data))
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        path = folder / f"{stamp}-{_fit(version)}-{self._token}-{next(self._numbers)}.parquet"
        descriptor, draft = self._draft(path)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(descriptor)
                draft.rename(path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                draft.unlink()
            raise
        storage.sync_folder(folder)
        return path

    def _draft(self, path: Path) -> tuple[int, Path]:
        """A new file to write, locked for as long as it is open, so that nobody takes it for left behind."""
        draft = path.with_name(f".{path.name}{_DRAFT}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _PRIVATE)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return descriptor, draft

    def _clear(self) -> int:
        """Removes drafts that no process holds. Returns how many."""
        gone = 0
        for draft in (*self._path.glob(f".*{_DRAFT}"), *self._path.glob(f"*/.*{_DRAFT}")):
            with contextlib.suppress(OSError):
                descriptor = os.open(draft, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    draft.unlink()
                    gone += 1
                finally:
                    os.close(descriptor)
        return gone

    def _make_room(self, more: int) -> None:
        """Removes the oldest files until so many bytes fit."""
        found = []
        for path in self._path.glob("*/*.parquet"):
            with contextlib.suppress(OSError):
                if _OURS.fullmatch(path.name) and not path.is_symlink():
                    found.append((path.name, path.stat().st_size, path))
        held = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if held + more <= self._most:
                return
            with contextlib.suppress(OSError):
                path.unlink()
            held -= size


def _fit(name: str) -> str:
    """A name as a file may have it, and still another for another name."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:80]
    if plain == name and plain and not plain.startswith("."):
        return plain
    return f"{plain.lstrip('.') or 'unnamed'}~{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
