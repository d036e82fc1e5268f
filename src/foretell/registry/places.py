"""Where the artifacts of a registry on this machine lie: an address that it holds → a folder, which is used in place.

What may be read. The registry is the user's own choice, and MLflow reads whatever path stands in it, outside of its
folder too (an artifact root on another disk is common); so does foretell, but only a folder that holds an MLmodel file,
by a path without `..`, and of it plain files alone: storage.files_under refuses links and devices. Nothing is written,
and nothing in it runs before trust is settled. A path that is gone is looked up by its end beside the registry, as both
may have been moved together; there the folder must lie inside the registry's own, and under the id of the run or the
model that MLflow put into the path, so that another model of a like name is never taken for it.
"""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from foretell.errors import ModelNotFound, ModelUnreadable
from foretell.registry.held import shown

_ID = re.compile(r"(m-)?[0-9a-f]{32}")
_MAX_PARTS = 64


def folder(address: str, places: tuple[Path, ...], registry: str) -> Path:
    """The model's folder. places: where to look for it if it was moved. registry: what it is called, for messages.

    Raises ModelNotFound, ModelUnreadable.
    """
    path = _path(address, registry)
    if ".." in path.parts or "\0" in address or not address.isprintable() or len(path.parts) > _MAX_PARTS:
        raise ModelUnreadable(f"the registry {registry} names the folder {shown(address)}, which is no plain path")
    found = [path] if path.is_absolute() else []
    found += [place / tail for place in places for tail in _tails(path) if _lies_in(place / tail, place)]
    try:
        there = next((candidate for candidate in found if candidate.is_dir()), None)
    except OSError as error:
        raise ModelUnreadable(f"{shown(address)} cannot be read: {error.strerror}") from error
    if there is None:
        raise ModelNotFound(
            f"{path} is not there, and nothing like it beside the registry {registry}",
            f"Copy the registry's artifacts along, to {places[0]}, or give the model's folder itself",
        )
    if there.is_symlink() or not (there / "MLmodel").is_file():
        raise ModelUnreadable(f"{there} holds no MLmodel file, or is a link: no model in MLflow's format")
    return there


def _path(address: str, registry: str) -> Path:
    """The path that an address means on this machine. Raises ModelNotFound for one elsewhere, saying what to do."""
    scheme = re.match(r"([a-zA-Z][a-zA-Z0-9+.-]+):", address)
    if scheme is None:
        return Path(address)
    kind = scheme.group(1).lower()
    if kind == "mlflow-artifacts":
        server = address.split("/")[2] if address.startswith("mlflow-artifacts://") else ""
        raise ModelNotFound(
            f"{shown(address)} lies behind a tracking server, and {registry} is none",
            f"Point at {'it' if server else 'the server that keeps this registry'}: "
            f"MLFLOW_TRACKING_URI=http://{shown(server) or 'HOST:5000'}",
        )
    if kind != "file":
        raise ModelNotFound(
            f"the registry {registry} keeps the model's files at a {kind}: address, which foretell does not read",
            "Point at the tracking server, which fetches them (MLFLOW_TRACKING_URI=http://…), or give a copy's folder",
        )
    parts = urlsplit(address)
    if parts.netloc not in ("", "localhost"):
        raise ModelNotFound(f"the registry {registry} names a folder on another machine: {shown(address)}")
    if parts.query or parts.fragment:
        raise ModelUnreadable(f"the registry {registry} names the folder {shown(address)}, which is no plain path")
    return Path(unquote(parts.path))


def _tails(path: Path) -> list[Path]:
    """The ends of a path, the longest first: with MLflow's id in them if there is one, else of two parts at least."""
    parts = [part for part in path.parts if part != "/"]
    ids = [at for at, part in enumerate(parts) if _ID.fullmatch(part)]
    last = ids[-1] if ids else len(parts) - 2
    return [Path(*parts[at:]) for at in range(last + 1)]


def _lies_in(path: Path, place: Path) -> bool:
    try:
        return path.resolve().is_relative_to(place.resolve())
    except (OSError, RuntimeError):
        return False
