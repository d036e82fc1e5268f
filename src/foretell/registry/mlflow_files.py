"""MLflow's file store (`mlruns`), read directly and never written to.

    models/NAME/meta.yaml  models/NAME/version-3/meta.yaml  models/NAME/aliases/ALIAS    the registry
    EXPERIMENT/RUN/meta.yaml  EXPERIMENT/models/m-ID/meta.yaml                           runs, and models they logged

Folders are listed and compared with what is asked for: no name becomes a path. Links are not followed.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from foretell.errors import ModelNotFound, ModelUnreadable
from foretell.registry.mlflow import ModelVersion
from foretell.safe_yaml import read_yaml

_MAX_LOCATION = 4096
_MAX_SMALL = 32
_READY = (2, "READY")
_PROMPT = "mlflow.prompt.is_prompt"


def is_file_store(folder: Path) -> bool:
    """Whether a folder holds experiments, by MLflow's own rule for ./mlruns, or models as MLflow registers them."""
    experiments = (entry for entry in _folders(folder) if entry.name.isdigit())
    if any(os.path.lexists(entry / "meta.yaml") for entry in experiments):
        return True
    return any((entry / "meta.yaml").is_file() for entry in _folders(folder / "models"))


class FileStore:
    """The registry in one folder; see `mlflow.LocalStore`. address: "file:///absolute/mlruns"."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self.places: tuple[Path, ...] = (self._root.parent, self._root)
        self.address = self._root.as_uri()

    def models(self) -> list[str]:
        folders = [entry for entry in _folders(self._root / "models") if _plain(entry / "meta.yaml")]
        return sorted(entry.name for entry in folders if not _is_prompt(entry))

    def versions(self, name: str) -> list[ModelVersion]:
        folder = next((entry for entry in _folders(self._root / "models") if entry.name == name), None)
        if folder is None:
            return []
        aliases = _aliases(folder)
        numbered = [(int(entry.name[8:]), entry) for entry in _folders(folder) if _VERSION.fullmatch(entry.name)]
        found = [self._version(name, number, entry, aliases) for number, entry in sorted(numbered)]
        return [version for version in found if version.stage != "Deleted_Internal"]

    def location(self, name: str, number: int) -> str:
        found = next((version for version in self.versions(name) if version.number == number), None)
        if found is None:
            raise ModelNotFound(f"no version {number} of model {name!r} in the registry {self.address}")
        return found.location

    def logged_model(self, model_id: str) -> str:
        for experiment in self._experiments():
            for folder in _folders(experiment / "models"):
                if folder.name == model_id:
                    return self._logged(_meta(folder), folder)
        raise ModelNotFound(f"no logged model {model_id} in the registry {self.address}")

    def run(self, run_id: str) -> str:
        for experiment in self._experiments():
            for folder in _folders(experiment):
                if folder.name == run_id and _plain(folder / "meta.yaml"):
                    return _text(_meta(folder), "artifact_uri", folder)
        raise ModelNotFound(f"no run {run_id} in the registry {self.address}")

    def run_model(self, run_id: str, path: str) -> str:
        name, _, inside = path.partition("/")
        logged = self._logged_by(run_id, name)
        parts = (self.run(run_id), path) if logged is None else (logged, inside)
        return "/".join(part.rstrip("/") for part in parts if part)

    def close(self) -> None:
        """Nothing stays open between two questions."""

    def _logged_by(self, run_id: str, name: str) -> str | None:
        """The address of the newest model that a run logged under a name."""
        found = []
        for experiment in self._experiments():
            if any(folder.name == run_id for folder in _folders(experiment)):
                models = [(_meta(folder), folder) for folder in _folders(experiment / "models")]
                found += [m for m in models if m[0].get("source_run_id") == run_id and m[0].get("name") == name]
        found = [model for model in found if model[0].get("lifecycle_stage") != "deleted"]
        if not found:
            return None
        return self._logged(*max(found, key=lambda model: str(model[0].get("creation_timestamp"))))

    def _experiments(self) -> Iterator[Path]:
        return (entry for entry in _folders(self._root) if entry.name != "models" and not entry.name.startswith("."))

    def _version(self, name: str, number: int, folder: Path, aliases: dict[str, int]) -> ModelVersion:
        meta = _meta(folder)
        if str(meta.get("version")) != str(number):
            raise ModelUnreadable(f"{folder / 'meta.yaml'} says that it is another version's")
        return ModelVersion(
            name,
            number,
            _text(meta, "current_stage", folder, "None"),
            _text(meta, "storage_location" if meta.get("storage_location") else "source", folder),
            _text(meta, "status", folder, "READY"),
            tuple(alias for alias, held in aliases.items() if held == number),
        )

    def _logged(self, meta: dict[str, Any], folder: Path) -> str:
        if meta.get("lifecycle_stage") == "deleted":
            raise ModelNotFound(f"the logged model {folder.name} in the registry {self.address} was deleted")
        if meta.get("status") not in _READY:
            raise ModelNotFound(f"the logged model {folder.name} in the registry {self.address} is not ready")
        return _text(meta, "artifact_location", folder)


_VERSION = re.compile(r"version-[1-9][0-9]{0,8}")


def _folders(parent: Path) -> list[Path]:
    """The folders in a folder, without links; none where it is missing."""
    return [Path(entry.path) for entry in _entries(parent) if entry.is_dir(follow_symlinks=False)]


def _entries(parent: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(parent) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ModelUnreadable(f"{parent} cannot be read: {error.strerror}") from error


def _meta(folder: Path) -> dict[str, Any]:
    path = folder / "meta.yaml"
    if not _plain(path):
        raise ModelUnreadable(f"{path} is missing, or is no plain file")
    return read_yaml(path)


def _plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _text(meta: dict[str, Any], key: str, folder: Path, default: str | None = None) -> str:
    value = meta.get(key) or default
    if not isinstance(value, str) or len(value) > _MAX_LOCATION or "\0" in value:
        raise ModelUnreadable(f"{folder / 'meta.yaml'} holds a {key} that is none: {value!r:.60}")
    return value


def _aliases(folder: Path) -> dict[str, int]:
    """{alias: version}; each is a small file with a number in it."""
    aliases = {}
    if not (folder / "aliases").is_symlink():
        for entry in _entries(folder / "aliases"):
            number = _small(Path(entry.path))
            if not number.isdigit():
                raise ModelUnreadable(f"{entry.path} is no alias: it holds no version")
            aliases[entry.name] = int(number)
    return aliases


def _is_prompt(folder: Path) -> bool:
    """Whether MLflow keeps a prompt under the name, and no model."""
    return _small(folder / "tags" / _PROMPT).lower() == b"true"


def _small(path: Path) -> bytes:
    """What stands in a file of a few bytes; nothing where there is none, or where it is another kind of file."""
    try:
        return path.read_bytes().strip() if _plain(path) and path.stat().st_size <= _MAX_SMALL else b""
    except OSError as error:
        raise ModelUnreadable(f"{path} cannot be read: {error.strerror}") from error
