"""A model's files through a tracking server's artifact proxy: what there is, checked name by name, and the bytes.

What a server says decides nothing here: not where we connect, not where we write, not how much.
"""

import http.client
import os
import re
import shutil
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import quote, urlsplit

import msgspec

from foretell.errors import ModelNotFound, ModelUnreadable, OutputError
from foretell.registry.connection import Stumble
from foretell.registry.rest import RestStore, decoded
from foretell.storage import UNCOUNTED, is_inner, make_private

ROUTE = "/api/2.0/mlflow-artifacts/artifacts"
MOST_FILES = 10_000
DEEPEST = 16

_PIECE = 1 << 20
_PROXY = "Start the server with --serve-artifacts and log the model to it, or copy the model here: -m FOLDER"

Files = dict[str, int | None]
"""{"a/b": bytes}, None where the server does not say."""
Progress = Callable[[int, int], None]
"""Told (bytes so far, bytes in all) at every piece."""


class _Entry(msgspec.Struct):
    path: str
    is_dir: bool = False
    file_size: int | None = None


class _Entries(msgspec.Struct):
    files: list[_Entry] = []


@dataclass(frozen=True)
class Listing:
    """What there is to fetch. root: the folder that the names lie in, below the server's proxy."""

    root: str
    files: Files


def listing(store: RestStore, location: str, largest: int) -> Listing:
    """The files below an artifact address, or the one file that it is. One call for each folder.

    largest: bytes that a model may have in all. Raises ModelNotFound where there is nothing, ModelUnreadable for an
    address elsewhere, a name that cannot be a file's, and for too much; and as RestStore does.
    """
    root = proxied(store, location)
    entries = _entries(store, root)
    if not entries or [entry.path for entry in entries] == [PurePosixPath(root).name]:
        single = _one_file(store, root)
        if single is not None:
            return single
    files = _below(store, root, entries)
    if not files:
        raise ModelNotFound(
            f"{store.address} has no files at {location}", "Was the model logged there, and not deleted?"
        )
    total = sum(size or 0 for size in files.values())
    if total > largest:
        raise _refused(store, f"lists {total / 2**30:,.1f} GiB, more than the {largest / 2**30:,.1f} GiB allowed")
    return Listing(root, files)


def fetch(store: RestStore, found: Listing, folder: Path, largest: int, progress: Progress | None = None) -> None:
    """Writes the files of a listing into a new folder, synced. A cut download goes on where it stood.

    Raises OutputError where they cannot be written, ModelUnreadable for a file that is not as listed, and as RestStore.
    """
    total = sum(size or 0 for size in found.files.values())
    free = shutil.disk_usage(folder.parent).free
    if total > free:
        raise OutputError(f"{folder.parent} has {free >> 20:,} MiB free, and the model needs {total >> 20:,} MiB")
    before = 0
    for name, size in found.files.items():
        told = None if progress is None else partial(_tell, progress, before, total)
        file = _File(store, f"{found.root}/{name}", folder / name, size, largest - before, told)
        before += file.fetch()


def proxied(store: RestStore, location: str) -> str:
    """The path of an artifact address below the server's proxy. Raises ModelUnreadable for any other place."""
    try:
        parts = urlsplit(location)
    except ValueError:
        raise _refused(store, "gives a malformed address for the model") from None
    scheme, path = parts.scheme.lower(), parts.path
    if scheme in ("http", "https"):
        ours = store.server.same_server(parts.netloc, scheme)
        before, _, path = path.partition(f"{ROUTE}/")
        if ours and before != store.server.path:
            raise _refused(store, "says that the model lies at an address that is no artifact's")
    elif scheme == "mlflow-artifacts":
        ours = parts.netloc == "" or store.server.same_server(parts.netloc, store.server.scheme)
    elif scheme in ("", "file"):
        raise _refused(store, f"says that the model lies in a folder of the server's own ({path[:200]})", _PROXY)
    else:
        raise _refused(
            store, f"says that the model lies in {scheme[:20]}: storage, which foretell does not read", _PROXY
        )
    if not ours:
        raise _refused(store, f"says that the model lies on another server ({scheme}:), which is not asked", _PROXY)
    names = [name for name in path.split("/") if name]
    if parts.query or parts.fragment or not names:
        raise _refused(store, "gives a malformed address for the model")
    return "/".join(_checked(store, name) for name in names)


@dataclass
class _File:
    """One file on its way. size: as listed. budget: bytes that it may have where none is. done: bytes on disk."""

    store: RestStore
    remote: str
    target: Path
    size: int | None
    budget: int
    told: Callable[[int], None] | None
    done: int = 0
    validator: str = ""

    @property
    def most(self) -> int:
        return self.budget if self.size is None else self.size

    def fetch(self) -> int:
        """Its bytes. Whatever the answers, the file ends whole or an error is raised."""
        try:
            make_private(self.target.parent)
            descriptor = os.open(self.target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise OutputError(f"{self.target} cannot be written: {error.strerror}") from error
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            self.store.server.tried(lambda: self._try(file.fileno()))
            try:
                os.fsync(file.fileno())
                os.fchmod(file.fileno(), 0o444)
            except OSError as error:
                raise OutputError(f"{self.target} cannot be written: {error.strerror}") from error
        return self.done

    def _try(self, descriptor: int) -> None:
        began = self.done
        try:
            self._request(descriptor)
        except Stumble as stumble:
            stumble.alive = self.done != began
            raise

    def _request(self, descriptor: int) -> None:
        """One request for what is still missing; with nothing to tell that it is the same file, for all of it."""
        headers = {"Range": f"bytes={self.done}-", "If-Range": self.validator} if self.done and self.validator else {}
        server = self.store.server
        with server.exchange(f"{ROUTE}/{quote(self.remote)}", headers, server.allowance(self.most)) as response:
            if response.status == 200:
                self._start_over(descriptor)
                self.validator = _validator(response.headers.get("ETag"))
            elif response.status != 206:
                raise self._wrong(f"cannot be had (HTTP {response.status})")
            elif not headers or not response.headers.get("Content-Range", "").startswith(f"bytes {self.done}-"):
                raise self._wrong("comes in a piece that was not asked for")
            self._copy(response, descriptor)

    def _copy(self, response: http.client.HTTPResponse, descriptor: int) -> None:
        """The answer's body, to its end; one whose end cannot be told from a cut counts by the listed size alone."""
        framed = response.length is not None or response.chunked
        if self.done + (response.length or 0) > self.most:
            raise self._wrong(f"is larger than the {self.most:,} bytes that it may have")
        while piece := response.read(_PIECE):
            if self.done + len(piece) > self.most:
                raise self._wrong(f"is larger than the {self.most:,} bytes that it may have")
            self._write(descriptor, piece)
            self.done += len(piece)
            if self.told is not None:
                self.told(self.done)
        if response.length or (not framed and self.done != self.size):
            raise http.client.IncompleteRead(b"")
        if self.size is not None and self.done != self.size:
            raise self._wrong(f"has {self.done:,} bytes where the server lists {self.size:,}")

    def _start_over(self, descriptor: int) -> None:
        self.done = 0
        try:
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.ftruncate(descriptor, 0)
        except OSError as error:
            raise OutputError(f"{self.target} cannot be written: {error.strerror}") from error

    def _write(self, descriptor: int, piece: bytes) -> None:
        try:
            view = memoryview(piece)
            while view:
                view = view[os.write(descriptor, view) :]
        except OSError as error:
            raise OutputError(f"{self.target} cannot be written: {error.strerror}") from error

    def _wrong(self, what: str) -> ModelUnreadable:
        return ModelUnreadable(f"{self.store.address}: the model's file {PurePosixPath(self.remote).name!r} {what}")


def _entries(store: RestStore, path: str) -> list[_Entry]:
    reply = store.server.ask(ROUTE, {"path": path})
    if reply.code == "RESOURCE_DOES_NOT_EXIST":
        return []
    return decoded(_Entries, reply, store.address).files


def _one_file(store: RestStore, root: str) -> Listing | None:
    """The root as a file: some storages list nothing below a file, and some the file itself."""
    parent, _, name = root.rpartition("/")
    for entry in _entries(store, parent) if parent else []:
        if entry.path == name and not entry.is_dir:
            return Listing(parent, {name: _size(store, name, entry)})
    return None


def _below(store: RestStore, root: str, entries: list[_Entry]) -> Files:
    """Every file of a folder whose entries are at hand, and of the folders in it."""
    files: Files = {}
    seen: set[str] = set()
    folders = [("", entries)]
    while folders:
        folder, entries = folders.pop()
        for entry in entries:
            name = f"{folder}{_checked(store, entry.path)}"
            folded = unicodedata.normalize("NFC", name).casefold()
            if folded in seen:
                raise _refused(store, f"lists {name!r} twice, or in two spellings")
            seen.add(folded)
            if len(seen) > MOST_FILES or name.count("/") >= DEEPEST:
                raise _refused(store, f"lists more than {MOST_FILES:,} files, or folders deeper than {DEEPEST}")
            if entry.is_dir:
                folders.append((f"{name}/", _entries(store, f"{root}/{name}")))
            elif name != UNCOUNTED:
                files[name] = _size(store, name, entry)
    return files


def _size(store: RestStore, name: str, entry: _Entry) -> int | None:
    """MLflow leaves the size out where it is 0, and where it does not know it."""
    if entry.file_size is not None and entry.file_size < 0:
        raise _refused(store, f"lists {name!r} with {entry.file_size} bytes")
    return entry.file_size


def _checked(store: RestStore, name: str) -> str:
    """One part of a remote path, as it may become a file's name here. Raises ModelUnreadable."""
    if (
        not is_inner(name)
        or "/" in name
        or name == "."
        or len(name.encode("utf-8", "replace")) > 200
        or any(mark in name for mark in '"<>|?*')
        or name[0] == " "
        or name[-1] in ". "
    ):
        raise _refused(store, f"names {name[:100]!r}, which cannot be a file's name here")
    return name


def _validator(etag: str | None) -> str:
    """A strong ETag, for If-Range; else nothing: then a cut download starts over."""
    return etag if etag and re.fullmatch(r'"[\x21\x23-\x7e]{1,200}"', etag) else ""


def _refused(store: RestStore, what: str, hint: str = "Nothing of the model was fetched") -> ModelUnreadable:
    return ModelUnreadable(f"{store.address} {what}", hint)


def _tell(progress: Progress, before: int, total: int, done: int) -> None:
    progress(before + done, total)
