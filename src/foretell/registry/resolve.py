"""Turns a model uri into a verified local folder or file, for the predictor."""

from dataclasses import dataclass
from pathlib import Path

from foretell import storage
from foretell.errors import ModelNotFound, ModelUnreadable, UsageError
from foretell.registry.local import FOLDER, LocalRegistry, Version
from foretell.registry.uri import FileUri, RegistryUri, parse


@dataclass(frozen=True)
class Resolved:
    """A model found. path: its folder or bare file. version: None outside a registry. registry: where the name counts.

    digest: "sha256:…" over the files as they are now, in which `registered_model_meta` does not count.
    """

    uri: str
    name: str
    path: Path
    digest: str
    version: int | None = None
    registry: str | None = None

    @property
    def label(self) -> str:
        """For people: "my-model version 3", or the path."""
        return f"{self.name} version {self.version}" if self.version is not None else str(self.path)


def resolve(uri: str, registry: str | None = None) -> Resolved:
    """Finds and verifies a model. registry: the embedded registry's folder. Raises ModelNotFound, ModelUnreadable."""
    parsed = parse(uri)
    if isinstance(parsed, FileUri):
        return _file(uri, parsed.path)
    if parsed.bare:
        local = open_registry(registry)
        raise UsageError(f"{uri} names no version", local.suggestion(parsed.name))
    local = open_registry(registry)
    version = local.find(parsed)
    _verify(version)
    return Resolved(uri, parsed.name, version.path, version.digest, version.number, str(local.root.resolve()))


def open_registry(registry: str | None) -> LocalRegistry:
    """The embedded registry: the one given, or the nearest in the working directory and above it, or a new one here."""
    if registry:
        if "://" in registry:
            raise UsageError(f"--registry {registry}: not a folder", "Give the folder of an embedded registry")
        return LocalRegistry(Path(registry))
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / FOLDER).is_dir():
            return LocalRegistry(folder / FOLDER)
    return LocalRegistry(here / FOLDER)


def trust_name(uri: str, registry: str | None) -> tuple[str, str] | None:
    """(registry, name) where a uri names a model without a version: what trust for all its versions is given to."""
    parsed = parse(uri)
    if isinstance(parsed, RegistryUri) and parsed.bare:
        local = open_registry(registry)
        if not local.versions(parsed.name):
            raise ModelNotFound(f"no model {parsed.name!r} in the registry {local.root}", local.suggestion(parsed.name))
        return str(local.root.resolve()), parsed.name
    return None


def _file(uri: str, path: Path) -> Resolved:
    if not path.exists():
        raise ModelNotFound(
            f"{path}: no such file or folder",
            "Give a folder in MLflow's format, a model file (.onnx, .skops, .pkl), or models:/NAME/STAGE",
        )
    if path.is_dir() and not (path / "MLmodel").is_file():
        raise ModelNotFound(
            f"{path} is a folder without an MLmodel file, so it is no model in MLflow's format",
            "Give the model's own folder, or a model file (.onnx, .skops, .pkl)",
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
