"""The models fetched from tracking servers, by content; and what a model uri last meant, for when a server is down.

    ~/.cache/foretell/models/DIGEST/files/…    a model's files, under the sha256 of them all; checked at every use
    ~/.cache/foretell/fetched/….json           an artifact address's listing, and the digest that came of it
    ~/.cache/foretell/resolved/….json          a uri's last verified meaning
    ~/.cache/foretell/drafts/…                 a download on its way, locked by the process that makes it

MLflow's versions do not change, but nothing keeps their artifacts from being written over. So a version that was
fetched is asked for its listing again, one cheap call for each folder: where names and sizes are the same, it is used.
"""

import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from foretell import storage
from foretell.errors import ModelUnreadable, OutputError, RegistryDown, UsageError
from foretell.registry import download
from foretell.registry.rest import RestStore

LARGEST = 16 << 30
"""Bytes of a model, unless FORETELL_MAX_MODEL_GB says otherwise."""


@dataclass(frozen=True)
class Found:
    """A model in the cache, verified. number: None where it is no registered version. path: folder or bare file. when:
    the registry last said so, where it is down now."""

    name: str
    number: int | None
    digest: str
    path: Path
    when: datetime | None = None


class _Fetched(msgspec.Struct):
    address: str
    location: str
    files: dict[str, int | None]
    digest: str


class _Resolved(msgspec.Struct):
    address: str
    uri: str
    name: str
    number: int | None
    digest: str
    when: datetime


Record = TypeVar("Record", _Fetched, _Resolved)


def open_cache() -> "Cache":
    """The user's cache: FORETELL_CACHE, or foretell/ in XDG_CACHE_HOME or ~/.cache. Raises UsageError, OutputError."""
    most = os.environ.get("FORETELL_MAX_MODEL_GB", "")
    if most and not (most.isascii() and most.isdigit() and 0 < len(most) < 6):
        raise UsageError(f"FORETELL_MAX_MODEL_GB={most!r} is no whole number")
    return Cache(storage.cache_home(), int(most) << 30 if most else LARGEST)


class Cache:
    """A cache in one folder, which only its owner may write to. Raises UsageError, OutputError."""

    def __init__(self, root: Path, largest: int = LARGEST) -> None:
        self.root = root
        self.largest = largest
        try:
            storage.make_private(root)
            storage.only_ours(root)
            for name in ("models", "fetched", "resolved", "drafts"):
                (root / name).mkdir(mode=0o700, exist_ok=True)
                storage.only_ours(root / name)
        except OSError as error:
            raise OutputError(f"{root} cannot be written: {error.strerror}", "Set FORETELL_CACHE") from error

    def resolved(
        self,
        address: str,
        uri: str,
        ask: Callable[[], Found],
        warn: Callable[[str], None],
        *,
        now: datetime | None = None,
    ) -> Found:
        """What ask finds, remembered under the uri; where the registry is down, what was remembered last, if its files
        are still what they were. Then warn is told, in one line. Raises what ask raises.
        """
        try:
            found = ask()
        except RegistryDown as down:
            known = self._record(_Resolved, "resolved", address, uri)
            path = self.verified(known.digest) if known is not None else None
            if known is None or path is None:
                raise
            label = known.name if known.number is None else f"{known.name} version {known.number}"
            age = _age(((now or datetime.now(UTC)) - known.when).total_seconds())
            warn(f"{down.message}; using {label} as it was resolved {age} ago")
            return Found(known.name, known.number, known.digest, path, known.when)
        when = now or datetime.now(UTC)
        self._keep("resolved", _Resolved(address, uri, found.name, found.number, found.digest, when), address, uri)
        return found

    def fetch(self, store: RestStore, location: str, progress: download.Progress | None = None) -> tuple[str, Path]:
        """(digest, folder or bare file) of an artifact address: from the cache where the server still lists the same
        names and sizes, else downloaded. Safe beside other processes that fetch the same. Raises as download does.
        """
        listing = download.listing(store, location, self.largest)
        known = self._record(_Fetched, "fetched", store.address, location)
        if known is not None and known.files == listing.files and (path := self.verified(known.digest)) is not None:
            return known.digest, path
        with self._draft() as draft:
            download.fetch(store, listing, draft / "files", self.largest, progress)
            digest = _digest(draft / "files")
            path = self._place(draft, digest)
        self._keep("fetched", _Fetched(store.address, location, listing.files, digest), store.address, location)
        return digest, path

    def verified(self, digest: str) -> Path | None:
        """A model's folder or bare file, if its files are here and are those of the digest."""
        folder = self._folder(digest) / "files"
        try:
            if not folder.is_dir() or _digest(folder) != digest or (folder / storage.UNCOUNTED).exists():
                return None
            return _model_in(folder)
        except (ModelUnreadable, OSError):
            return None

    def _place(self, draft: Path, digest: str) -> Path:
        """Lets a draft be the model of that digest, unless a sound one is there. A broken one makes way."""
        target = self._folder(digest)
        try:
            for folder in [path for path in draft.rglob("*") if path.is_dir()]:
                storage.sync_folder(folder)
            storage.sync_folder(draft)
            with self._locked():
                if (sound := self.verified(digest)) is not None:
                    return sound
                if target.exists():
                    target.rename(self.root / "drafts" / secrets.token_hex(8))
                draft.rename(target)
            storage.sync_folder(target.parent)
            return _model_in(target / "files")
        except OSError as error:
            raise OutputError(f"{target} cannot be written: {error.strerror}") from error

    @contextlib.contextmanager
    def _draft(self) -> Iterator[Path]:
        """A new folder that is locked as long as it is in use; drafts that nobody holds are cleared away first."""
        drafts = self.root / "drafts"
        try:
            with self._locked():
                for left in drafts.iterdir():
                    with contextlib.suppress(BlockingIOError), _held(left):
                        shutil.rmtree(left)
                draft = drafts / secrets.token_hex(8)
                draft.mkdir(mode=0o700)
                held = contextlib.ExitStack()
                held.enter_context(_held(draft))
        except OSError as error:
            raise OutputError(f"{drafts} cannot be written: {error.strerror}") from error
        with held:
            try:
                yield draft
            finally:
                shutil.rmtree(draft, ignore_errors=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield

    def _folder(self, digest: str) -> Path:
        return self.root / "models" / digest.removeprefix("sha256:")

    def _record(self, kind: type[Record], room: str, *key: str) -> Record | None:
        """A record that was kept; one that cannot be read, or is of another key or digest, is none."""
        try:
            record = msgspec.json.decode(self._file(room, key).read_bytes(), type=kind)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        second = record.location if isinstance(record, _Fetched) else record.uri
        sound = len(record.digest) == 71 and set(record.digest[7:]) <= set("0123456789abcdef")
        return record if sound and (record.address, second) == key else None

    def _keep(self, room: str, record: _Fetched | _Resolved, *key: str) -> None:
        path = self._file(room, key)
        try:
            storage.write_atomic(path, msgspec.json.encode(record), mode=0o600)
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror}") from error

    def _file(self, room: str, key: tuple[str, ...]) -> Path:
        return self.root / room / f"{hashlib.sha256(chr(0).join(key).encode()).hexdigest()}.json"


def _digest(folder: Path) -> str:
    return storage.digest_of({name: storage.sha256(path) for name, path in storage.files_under(folder)})


def _model_in(folder: Path) -> Path:
    """The folder, or the bare file that is all of it."""
    names = [name for name, _ in storage.files_under(folder)]
    return folder / names[0] if len(names) == 1 and names != ["MLmodel"] else folder


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Holds a folder's lock, which ends with the process. Raises BlockingIOError where another process holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _age(seconds: float) -> str:
    for size, word in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {word}"
    return f"{max(0, seconds):.0f} s"
