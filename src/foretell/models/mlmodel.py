"""Reads a stored model's own description, without mlflow: the MLmodel file of a folder, or a bare file's suffix.

Source of the format: https://mlflow.org/docs/latest/ml/model/#mlmodel-file. Nothing here imports or runs what it names.
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from foretell.errors import ModelUnreadable
from foretell.signature import Signature, from_mlflow
from foretell.storage import contained

_MAX_YAML = 1 << 20
_MAX_ALIASES = 64
_MAX_DEPTH = 60
_MAX_EXAMPLE = 16 << 20


@dataclass(frozen=True)
class StoredModel:
    """A model on disk, described and not loaded. path: its folder or bare file. flavours: MLflow's `flavors` entry."""

    path: Path
    flavours: dict[str, dict[str, Any]] = field(default_factory=dict)
    signature: Signature | None = None
    example: dict[str, Any] | None = None

    @property
    def folder(self) -> Path:
        return self.path if self.path.is_dir() else self.path.parent

    def file(self, relative: object) -> Path:
        """A file that the description names, inside the folder. Raises ModelUnreadable."""
        path = contained(self.folder, relative)
        if not path.is_file():
            raise ModelUnreadable(f"{path} is no file, and the model names it as one")
        return path

    def code(self) -> Path | None:
        """The folder with Python code of its own that the model names, if it does. Raises ModelUnreadable."""
        named = next((entry["code"] for entry in self.flavours.values() if entry.get("code")), None)
        return contained(self.folder, named) if named else None


def read(path: Path) -> StoredModel:
    """Describes the model at path. Raises ModelUnreadable."""
    if path.is_file():
        return StoredModel(path)
    described = read_yaml(contained(path, "MLmodel"))
    flavours = described.get("flavors")
    if not isinstance(flavours, dict) or not all(
        isinstance(name, str) and isinstance(entry, dict) for name, entry in flavours.items()
    ):
        raise ModelUnreadable(f"{path / 'MLmodel'} names no flavors")
    entry = described.get("signature")
    signature = from_mlflow(entry, str(path / "MLmodel")) if isinstance(entry, dict) and entry.get("inputs") else None
    return StoredModel(path, flavours, signature, _example(path, described.get("saved_input_example_info")))


def read_yaml(path: Path) -> dict[str, Any]:
    """A small YAML mapping, by the safe loader. Raises ModelUnreadable."""
    if path.stat().st_size > _MAX_YAML:
        raise ModelUnreadable(f"{path} is over {_MAX_YAML >> 20} MiB, which no MLmodel file is")
    try:
        text = path.read_text("utf-8")
        if _depth(text) > _MAX_DEPTH:
            raise ModelUnreadable(f"{path} is nested more than {_MAX_DEPTH} deep")
        if sum(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)) > _MAX_ALIASES:
            raise ModelUnreadable(f"{path} has over {_MAX_ALIASES} YAML aliases")
        value = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelUnreadable(f"{path} cannot be read: {reason}") from error
    if not isinstance(value, dict):
        raise ModelUnreadable(f"{path} is not a YAML mapping")
    return value


def _depth(text: str) -> int:
    """How deep brackets and dashes nest, at least: looked at first, as the parser's time grows with its square."""
    deepest = max((found.group().count("-") for found in re.finditer(r"^\s*(?:[-?] +)+", text, re.M)), default=0)
    depth = 0
    for mark in re.findall(r"[\[\]{}]", text):
        depth = depth + 1 if mark in "[{" else max(0, depth - 1)
        deepest = max(deepest, depth)
    return deepest


def _example(folder: Path, info: Any) -> dict[str, Any] | None:
    """The input example as a request body, {"dataframe_split": …} or {"inputs": …}; None without a readable one."""
    if not isinstance(info, dict) or not isinstance(info.get("artifact_path"), str):
        return None
    name = info.get("serving_input_path") or info["artifact_path"]
    try:
        path = contained(folder, str(name))
        if path.stat().st_size > _MAX_EXAMPLE:
            return None
        body = json.loads(path.read_bytes())
    except (ModelUnreadable, OSError, ValueError, RecursionError):
        return None
    if not isinstance(body, dict):
        return {"inputs": body}
    return {"dataframe_split": body} if set(body) <= {"columns", "index", "data"} and "data" in body else body
