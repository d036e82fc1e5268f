"""What a model uri says: MLflow's grammar for `models:/…`, a local folder, or a bare model file."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from foretell.errors import ModelNotFound, UsageError

STAGES = ("None", "Staging", "Production", "Archived")


@dataclass(frozen=True)
class RegistryUri:
    """`models:/name…`; exactly one of version, stage and alias is set, or none for the bare name."""

    name: str
    version: int | None = None
    stage: str | None = None
    alias: str | None = None
    latest: bool = False

    @property
    def bare(self) -> bool:
        return self.version is None and self.stage is None and self.alias is None and not self.latest


@dataclass(frozen=True)
class LoggedModelUri:
    """`models:/m-…`: a model that MLflow logged, by its id, whether it is registered or not."""

    model_id: str


@dataclass(frozen=True)
class RunUri:
    """`runs:/run_id/path`: a folder among an MLflow run's artifacts."""

    run_id: str
    path: str


@dataclass(frozen=True)
class ArtifactUri:
    """`mlflow-artifacts:/path`, or with a host: a folder behind a tracking server's proxy. host: "" for the server at
    hand."""

    path: str
    host: str = ""


Uri = RegistryUri | LoggedModelUri | RunUri | ArtifactUri


@dataclass(frozen=True)
class FileUri:
    """A model outside a registry."""

    path: Path


def parse(uri: str) -> RegistryUri | FileUri:
    """Reads a model uri. Raises UsageError for one that is malformed, ModelNotFound for a scheme that has no reader."""
    scheme = re.match(r"([a-zA-Z][a-zA-Z0-9+.-]+):", uri)
    if scheme is None:
        return FileUri(Path(uri))
    kind = scheme.group(1).lower()
    if kind == "file":
        return FileUri(Path(unquote(urlsplit(uri).path)))
    if kind == "models":
        return _registry_uri(uri)
    raise ModelNotFound(
        f"{uri}: foretell does not read {kind}: addresses",
        "Copy the model to a local folder and give that, or register it: foretell registry add NAME FOLDER",
    )


def check_name(name: str) -> str:
    """A model's name as it may stand in a registry. Raises UsageError."""
    if (
        not name
        or name != name.strip()
        or "/" in name
        or ":" in name
        or not name.isprintable()
        or len(name.encode()) > 80
    ):
        raise UsageError(
            f"{name!r} cannot be a model's name", "A name has 1 to 80 printable characters, without / and :"
        )
    return name


def _registry_uri(uri: str) -> RegistryUri:
    rest = uri.split(":", 1)[1]
    if not rest.startswith("/") or rest.startswith("//"):
        raise UsageError(
            f"{uri} is not a proper models:/ uri",
            "Forms: models:/NAME/3, models:/NAME/Production, models:/NAME@alias",
        )
    rest = rest[1:]
    name, slash, selector = rest.partition("/")
    if not slash and "@" in name:
        name, _, alias = name.rpartition("@")
        if alias:
            return RegistryUri(check_name(name), alias=alias)
    if not slash:
        return RegistryUri(check_name(name))
    if not selector or "/" in selector:
        raise UsageError(
            f"{uri} is not a proper models:/ uri",
            "Forms: models:/NAME/3, models:/NAME/Production, models:/NAME@alias",
        )
    if selector.isascii() and selector.isdigit() and len(selector) < 10:
        return RegistryUri(check_name(name), version=int(selector))
    if selector.lower() == "latest":
        return RegistryUri(check_name(name), latest=True)
    return RegistryUri(check_name(name), stage=selector)
