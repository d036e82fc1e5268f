"""Turns a model uri into a verified local folder or file, for the predictor."""

from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from foretell import storage
from foretell.errors import ForetellError, ModelNotFound, ModelUnreadable, UsageError
from foretell.registry import find, places
from foretell.registry.choose import choose, open_registry
from foretell.registry.local import LocalRegistry, Version
from foretell.registry.mlflow import LocalStore, Store
from foretell.registry.uri import FileUri, RegistryUri, Uri, needs_registry, parse

if TYPE_CHECKING:
    from foretell.registry.rest import RestStore

_LARGE = 32 << 20


@dataclass(frozen=True)
class Resolved:
    """A model found. path: its folder or bare file. version: None outside a registry. registry: where the name counts.

    digest: "sha256:…" over the files as they are now, in which `registered_model_meta` does not count. notes: what a
    person must hear, a line each: that the registry is down, and how old this is. when: the registry said so, where it
    is down now; seconds since the epoch.
    """

    uri: str
    name: str
    path: Path
    digest: str
    version: int | None = None
    registry: str | None = None
    notes: tuple[str, ...] = ()
    when: float | None = None

    @property
    def label(self) -> str:
        """For people: "my-model version 3"; without a number the path, or MLflow's address."""
        if self.version is not None:
            return f"{self.name} version {self.version}"
        return self.uri if needs_registry(self.uri) else str(self.path)

    @property
    def label_of_version(self) -> str:
        """Its number, else how its digest begins."""
        return str(self.version or self.digest.removeprefix("sha256:")[:12])

    @property
    def pinned(self) -> str:
        """The uri of this very version."""
        return self.uri if self.version is None else f"models:/{self.name}/{self.version}"


def resolve(uri: str, registry: str | None = None, say: Callable[[str], None] | None = None) -> Resolved:
    """Finds and verifies a model. registry: which one, else the one that is chosen; see `choose`. say: told what takes
    long, in a line.

    Raises ModelNotFound, RegistryDown, ModelUnreadable, UsageError.
    """
    parsed = parse(uri)
    if isinstance(parsed, FileUri):
        return _file(uri, parsed.path)
    opened = open_registry(choose(registry), say)
    if isinstance(opened, LocalRegistry):
        return _embedded(uri, parsed, opened)
    with closing(opened):
        if isinstance(parsed, RegistryUri) and parsed.bare:
            raise UsageError(f"{uri} names no version", suggestion(opened, parsed.name))
        if isinstance(opened, LocalStore):
            return _in_place(uri, parsed, opened)
        return _fetched(uri, parsed, opened, say)


def moves(uri: str) -> bool:
    """Whether a uri may mean another version later: that of a stage, an alias, or the latest. Never raises."""
    try:
        parsed = parse(uri)
    except ForetellError:
        return False
    return isinstance(parsed, RegistryUri) and parsed.version is None


def meaning(uri: str, registry: str | None = None) -> int:
    """The version that such a uri means now, by a look into the registry alone. Raises like resolve."""
    parsed = parse(uri)
    if not isinstance(parsed, RegistryUri):
        raise UsageError(f"{uri} names no version of a registry")
    opened = open_registry(choose(registry))
    if isinstance(opened, LocalRegistry):
        return opened.find(parsed).number
    with closing(opened):
        return find.find(opened, parsed).number


def trust_name(uri: str, registry: str | None, say: Callable[[str], None] | None = None) -> tuple[str, str] | None:
    """(registry, name) where a uri names a model without a version: what trust for all its versions is given to."""
    parsed = parse(uri)
    if not (isinstance(parsed, RegistryUri) and parsed.bare):
        return None
    opened = open_registry(choose(registry), say)
    with nullcontext() if isinstance(opened, LocalRegistry) else closing(opened):
        if not opened.versions(parsed.name):
            told = f"no model {parsed.name!r} in the registry {opened.address}"
            raise ModelNotFound(told, suggestion(opened, parsed.name))
        return _trusted_as(opened), parsed.name


def suggestion(registry: LocalRegistry | Store, name: str) -> str:
    """What a registry of any kind holds, with the uri to type."""
    return registry.suggestion(name) if isinstance(registry, LocalRegistry) else find.suggestion(registry, name)


def _embedded(uri: str, parsed: Uri, local: LocalRegistry) -> Resolved:
    if not isinstance(parsed, RegistryUri):
        raise ModelNotFound(
            f"{uri} is an address of MLflow's, and {local.address} is a registry of foretell's own",
            "Name MLflow's: --registry sqlite:///mlflow.db, or MLFLOW_TRACKING_URI=http://…",
        )
    if parsed.bare:
        raise UsageError(f"{uri} names no version", local.suggestion(parsed.name))
    version = local.find(parsed)
    _verify(version)
    return Resolved(uri, parsed.name, version.path, version.digest, version.number, _trusted_as(local))


def _in_place(uri: str, parsed: Uri, store: LocalStore) -> Resolved:
    """From MLflow's registry on this machine, whose files are used where they lie."""
    located = find.locate(store, parsed)
    path = places.folder(located.address, store.places, store.address)
    digest = storage.digest_of({name: storage.sha256(file) for name, file in storage.files_under(path)})
    return Resolved(uri, located.name, path, digest, located.version, _vouching(store, located.version))


def _fetched(uri: str, parsed: Uri, store: "RestStore", say: Callable[[str], None] | None) -> Resolved:
    """From a tracking server, through the cache; while the server is down, what the uri last meant."""
    from foretell.registry.cache import Found, open_cache

    cache, notes = open_cache(), list[str]()

    def ask() -> Found:
        located = find.locate(store, parsed)
        digest, path = cache.fetch(store, located.address, _Fetching(store.address, say) if say else None)
        return Found(located.name, located.version, digest, path)

    found = cache.resolved(store.address, uri, ask, notes.append)
    registry = _vouching(store, found.number)
    when = found.when.timestamp() if found.when else None
    return Resolved(uri, found.name, found.path, found.digest, found.number, registry, tuple(notes), when)


class _Fetching:
    """Says how far a large download is: at its start, and then at every tenth."""

    def __init__(self, address: str, say: Callable[[str], None]) -> None:
        self._address = address
        self._say = say
        self._next = 0

    def __call__(self, done: int, total: int) -> None:
        if total >= _LARGE and done * 10 >= self._next * total:
            self._say(f"fetching {total >> 20:,} MiB from {self._address} … {done * 100 // total} %")
            self._next = done * 10 // total + 1


def _vouching(store: Store, version: int | None) -> str | None:
    """The registry, where it gave the model a number; what has none is trusted by its digest alone."""
    return store.address if version is not None else None


def _trusted_as(registry: LocalRegistry | Store) -> str:
    """What trust for a name is given to: the registry, however it was spelled."""
    return str(registry.root.resolve()) if isinstance(registry, LocalRegistry) else registry.address


def _file(uri: str, path: Path) -> Resolved:
    if not path.exists():
        raise ModelNotFound(
            f"{path}: no such file or folder",
            "Give a folder in MLflow's format, a model file (.onnx, .ubj, .skops, .pkl, …), or models:/NAME/STAGE",
        )
    if path.is_dir() and not (path / "MLmodel").is_file():
        raise ModelNotFound(
            f"{path} is a folder without an MLmodel file, so it is no model in MLflow's format",
            "Give the model's own folder, or a model file (.onnx, .ubj, .txt, .cbm, .skops, .pkl, …)",
        )
    files = {name: storage.sha256(file) for name, file in storage.files_under(path)}
    return Resolved(uri, path.resolve().stem if path.is_file() else path.resolve().name, path, storage.digest_of(files))


def _verify(version: Version) -> None:
    """That every file is there and is the one that was registered."""
    folder = version.folder / "files"
    found = dict(storage.files_under(folder)) if folder.is_dir() else {}
    for name, expected in version.files.items():
        if name not in found:
            raise ModelUnreadable(f"{folder / name} is missing from the registry", "Register the model again")
        if storage.sha256(found[name]) != expected:
            raise ModelUnreadable(f"{folder / name} is not the file that was registered", "Register the model again")
    if storage.digest_of(version.files) != version.digest:
        raise ModelUnreadable(f"{version.folder / 'version.json'} was changed by hand", "Register the model again")
    for name in found:
        if name not in version.files:
            raise ModelUnreadable(f"{folder / name} was not there when the version was registered", "Remove it")
