"""What a model uri says: MLflow's grammar for `models:/…`, `runs:/…` and `mlflow-artifacts:/…`, a local folder, or a
bare model file."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from foretell.errors import ModelNotFound, UsageError

STAGES = ("None", "Staging", "Production", "Archived")
LONGEST_NAME = 80
"""Of the embedded registry, in bytes; quoted, it is still a folder's name."""


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


def parse(uri: str) -> Uri | FileUri:
    """Reads a model uri. Raises UsageError for one that is malformed, ModelNotFound for a scheme that has no reader."""
    scheme = re.match(r"([a-zA-Z][a-zA-Z0-9+.-]+):", uri)
    if scheme is None:
        return FileUri(Path(uri))
    kind = scheme.group(1).lower()
    if kind == "file":
        return FileUri(Path(unquote(urlsplit(uri).path)))
    if kind in _READERS:
        return _READERS[kind](uri)
    raise ModelNotFound(
        f"{uri}: foretell does not read {kind}: addresses",
        "Copy the model to a local folder and give that, or register it: foretell registry add NAME FOLDER",
    )


def needs_registry(uri: str) -> bool:
    """Whether a model uri means something in a registry only. Never raises."""
    return uri.partition(":")[0].lower() in _READERS and ":" in uri


def check_name(name: str) -> str:
    """A model's name as the embedded registry takes it; MLflow's are less strict. Raises UsageError."""
    if (
        not name
        or name != name.strip()
        or "/" in name
        or ":" in name
        or not name.isprintable()
        or len(name.encode()) > LONGEST_NAME
    ):
        raise UsageError(
            f"{name!r} cannot be a model's name", "A name has 1 to 80 printable characters, without / and :"
        )
    return name


def _registry_uri(uri: str) -> RegistryUri | LoggedModelUri:
    """MLflow's grammar, by the letter: nothing is percent-decoded; a name holds anything printable but / and :"""
    name, slash, selector = _after_slash(uri).partition("/")
    if not slash and re.fullmatch(r"m-[0-9a-f]{32}", name):
        return LoggedModelUri(name)
    alias = ""
    if not slash and "@" in name:
        held, _, alias = name.rpartition("@")
        name = held if alias else name
    if not name.strip() or ":" in name or not uri.isprintable() or (slash and not selector) or "/" in selector:
        raise _improper(uri)
    if alias:
        return RegistryUri(name, alias=alias)
    if not slash:
        return RegistryUri(name)
    if selector.isascii() and selector.isdigit() and len(selector) < 10:
        return RegistryUri(name, version=int(selector))
    if selector.lower() == "latest":
        return RegistryUri(name, latest=True)
    return RegistryUri(name, stage=selector)


def _run_uri(uri: str) -> RunUri:
    run_id, _, path = _after_slash(uri).partition("/")
    if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,255}", run_id):
        raise _improper(uri)
    return RunUri(run_id, _inside(uri, path))


def _artifact_uri(uri: str) -> ArtifactUri:
    rest = uri.split(":", 1)[1]
    if not rest.startswith("//"):
        return ArtifactUri(_inside(uri, _after_slash(uri)))
    host, _, path = rest[2:].partition("/")
    if not re.fullmatch(r"[a-zA-Z0-9.:_\[\]-]*", host):
        raise _improper(uri)
    return ArtifactUri(_inside(uri, path), host)


def _after_slash(uri: str) -> str:
    rest = uri.split(":", 1)[1]
    if not rest.startswith("/") or rest.startswith("//"):
        raise _improper(uri)
    return rest[1:]


def _inside(uri: str, path: str) -> str:
    """A path below an address, which must name something there and cannot lead out of it."""
    parts = path.rstrip("/").split("/")
    if not uri.isprintable() or "\\" in path or any(part in ("", ".", "..") for part in parts):
        raise _improper(uri)
    return "/".join(parts)


def _improper(uri: str) -> UsageError:
    kind = uri.split(":", 1)[0].lower()
    shown = uri if uri.isprintable() else ascii(uri)
    return UsageError(f"{shown} is not a proper {kind}:/ uri", f"Forms: {_FORMS[kind]}")


_READERS: dict[str, Callable[[str], Uri]] = {
    "models": _registry_uri,
    "runs": _run_uri,
    "mlflow-artifacts": _artifact_uri,
}
_FORMS = {
    "models": "models:/NAME/3, models:/NAME/Production, models:/NAME@alias, models:/m-ID",
    "runs": "runs:/RUN_ID/PATH",
    "mlflow-artifacts": "mlflow-artifacts:/PATH, mlflow-artifacts://HOST:PORT/PATH",
}
