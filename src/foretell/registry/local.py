"""The embedded registry: one folder of models by name and version. A crash leaves no half of anything.

    .foretell/registry/NAME/model.json            stages, aliases, the last version number given out
    .foretell/registry/NAME/versions/3/version.json   origin, time, and the sha256 of every file
    .foretell/registry/NAME/versions/3/files/…        the model's files, never changed

A version is built in a draft folder and renamed into place; model.json is replaced as a whole, under a lock.
"""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from foretell import storage
from foretell.errors import ModelNotFound, ModelUnreadable, OutputError, UsageError
from foretell.registry.held import Held, suggest
from foretell.registry.uri import LONGEST_NAME, STAGES, RegistryUri, check_name

FOLDER = Path(".foretell") / "registry"


@dataclass(frozen=True)
class Version:
    """One immutable version. files: {"a/b": sha256 in hex}. created: ISO 8601, UTC."""

    number: int
    digest: str
    created: str
    source: str
    files: dict[str, str]
    folder: Path

    @property
    def path(self) -> Path:
        """The model: its folder, or the bare file that it is."""
        if len(self.files) == 1 and "MLmodel" not in self.files:
            return self.folder / "files" / next(iter(self.files))
        return self.folder / "files"


@dataclass
class Names:
    """What points to a model's versions. A stage is held by one version at a time, and so is an alias."""

    last_version: int = 0
    stages: dict[str, int] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)


class LocalRegistry:
    """Models in one folder on this machine; the folder comes into being with the first model."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def models(self) -> list[str]:
        """The names of all models that have a version."""
        if not self.root.is_dir():
            return []
        names = [unquote(path.name) for path in self.root.iterdir() if path.is_dir()]
        return sorted(name for name in names if self.versions(name))

    def versions(self, name: str) -> list[int]:
        """A model's version numbers, rising; none of a name that cannot be here."""
        if len(name.encode()) > LONGEST_NAME:
            return []
        folder = self._folder(name) / "versions"
        if not folder.is_dir():
            return []
        return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())

    def names(self, name: str) -> Names:
        try:
            stored = json.loads((self._folder(name) / "model.json").read_bytes())
            return Names(int(stored["last_version"]), dict(stored["stages"]), dict(stored["aliases"]))
        except FileNotFoundError:
            return Names()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelUnreadable(f"{self._folder(name) / 'model.json'} cannot be read: {error}") from error

    def version(self, name: str, number: int) -> Version:
        folder = self._folder(name) / "versions" / str(number)
        try:
            stored = json.loads((folder / "version.json").read_bytes())
            return Version(number, stored["digest"], stored["created"], stored["source"], dict(stored["files"]), folder)
        except FileNotFoundError:
            raise ModelNotFound(
                f"no version {number} of model {name!r} in the registry {self.root}", self.suggestion(name)
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelUnreadable(f"{folder / 'version.json'} cannot be read: {error}") from error

    @property
    def address(self) -> str:
        """What it is called: its folder."""
        return str(self.root)

    def held(self, name: str) -> Held:
        """What there is of a model, and what points to it."""
        numbers = self.versions(name)
        if not numbers:
            return Held()
        names = self.names(name)
        return Held(numbers, {number: stage for stage, number in names.stages.items()}, names.aliases)

    def find(self, uri: RegistryUri) -> Version:
        """The version that a uri means. Raises ModelNotFound, saying what there is."""
        return self.version(uri.name, self.held(uri.name).number(uri, self.address, self.suggestion))

    def uri(self, name: str) -> str:
        """The uri that a person most likely means."""
        return self.held(name).uri(name)

    def suggestion(self, name: str) -> str:
        """What the registry holds, with the uri to type."""
        how = "Try: foretell demo, or add a model: foretell registry add NAME FOLDER"
        if not self.root.exists():
            return f"No registry lies here or above: name one by --registry or MLFLOW_TRACKING_URI, or start one. {how}"
        return suggest(name, self.models(), self.held, how)

    def add(self, name: str, source: Path, stage: str | None, alias: str | None) -> Version:
        """Copies a model in as the next version and points stage and alias at it. Raises ForetellError."""
        check_name(name)
        if not source.exists():
            raise ModelNotFound(f"{source}: no such file or folder")
        stage, alias = _stage(stage), _alias(alias)
        files = dict(storage.files_under(source))
        if not files:
            raise ModelUnreadable(f"{source} is an empty folder, not a model")
        with self._changing(name) as names:
            number = max([names.last_version, *self.versions(name)]) + 1
            self._write_version(name, number, source, files)
            names.last_version = number
            _point(names, number, stage, alias)
        return self.version(name, number)

    def point(self, name: str, number: int, *, stage: str | None = None, alias: str | None = None) -> None:
        """Lets a stage or an alias mean a version; stage "None" takes the version out of its stage."""
        self.version(name, number)
        with self._changing(name) as names:
            _point(names, number, _stage(stage), _alias(alias))

    def remove(self, name: str, number: int | None) -> None:
        """Removes one version, or the model. The version's number is not given out again while the model lives."""
        if number is None:
            if not self.versions(name):
                raise ModelNotFound(f"no model {name!r} in the registry {self.root}", self.suggestion(name))
            with self._lock():
                self._discard(self._folder(name))
            return
        folder = self.version(name, number).folder
        with self._changing(name) as names:
            names.last_version = max(names.last_version, number)
            names.stages = {stage: n for stage, n in names.stages.items() if n != number}
            names.aliases = {alias: n for alias, n in names.aliases.items() if n != number}
        self._discard(folder)

    def _write_version(self, name: str, number: int, source: Path, files: dict[str, Path]) -> None:
        versions = self._folder(name) / "versions"
        versions.mkdir(parents=True, exist_ok=True)
        draft = versions / f".draft-{secrets.token_hex(4)}"
        try:
            for relative, path in files.items():
                storage.copy_durable(path, draft / "files" / relative)
            sums = {relative: storage.sha256(draft / "files" / relative) for relative in files}
            version = {
                "digest": storage.digest_of(sums),
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "source": str(source.resolve()),
                "files": sums,
            }
            storage.write_atomic(draft / "version.json", _encoded(version))
            for folder in (path for path in draft.rglob("*") if path.is_dir()):
                storage.sync_folder(folder)
            draft.rename(versions / str(number))
            storage.sync_folder(versions)
        except OSError as error:
            raise OutputError(f"{versions}: the model cannot be stored: {error}") from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    @contextlib.contextmanager
    def _changing(self, name: str) -> Iterator[Names]:
        """The model's names, read, handed out and written back, with nobody else between."""
        folder = self._folder(name)
        with self._lock():
            folder.mkdir(parents=True, exist_ok=True)
            names = self.names(name)
            yield names
            try:
                storage.write_atomic(folder / "model.json", _encoded(asdict(names)))
            except OSError as error:
                raise OutputError(f"{folder / 'model.json'} cannot be written: {error}") from error

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise OutputError(f"{self.root} cannot be written: {error.strerror}") from error
        with os.fdopen(descriptor):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield

    def _discard(self, folder: Path) -> None:
        """Gone at once, by a rename; then the bytes."""
        grave = folder.with_name(f".removed-{secrets.token_hex(4)}")
        try:
            folder.rename(grave)
            storage.sync_folder(folder.parent)
            shutil.rmtree(grave)
        except OSError as error:
            raise OutputError(f"{folder} cannot be removed: {error}") from error

    def _folder(self, name: str) -> Path:
        """Quoted, so that no name can lead elsewhere; a leading dot is for the registry's own files."""
        quoted = quote(name, safe=" @+,=")
        return self.root / (f"%2E{quoted[1:]}" if quoted.startswith(".") else quoted)


def _stage(stage: str | None) -> str | None:
    """MLflow's four in their own spelling; any other word as it is."""
    if stage is None:
        return None
    known = next((name for name in STAGES if name.lower() == stage.lower()), stage)
    if known.isdigit() or known.lower() == "latest" or "/" in known or not known.strip():
        raise UsageError(f"{stage!r} cannot be a stage", f"Stages: {', '.join(STAGES)}, or a word of your own")
    return known


def _alias(alias: str | None) -> str | None:
    if alias is not None and (
        not alias or "/" in alias or "@" in alias or alias.isdigit() or alias.lower() == "latest"
    ):
        raise UsageError(f"{alias!r} cannot be an alias", "An alias is a word, without / and @")
    return alias


def _point(names: Names, number: int, stage: str | None, alias: str | None) -> None:
    if stage is not None:
        names.stages = {s: n for s, n in names.stages.items() if n != number and s.lower() != stage.lower()}
        if stage != "None":
            names.stages[stage] = number
    if alias is not None:
        names.aliases[alias] = number


def _encoded(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"
