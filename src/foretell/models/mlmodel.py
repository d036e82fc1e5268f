"""Reads a stored model's own description, without mlflow: the MLmodel file of a folder, or a bare file's suffix.

Source of the format: https://mlflow.org/docs/latest/ml/model/#mlmodel-file. Nothing here imports or runs what it names.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foretell.errors import ModelUnreadable
from foretell.safe_yaml import read_yaml
from foretell.signature import Signature, from_mlflow
from foretell.storage import contained

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
    if set(body) <= {"columns", "index", "data"} and "data" in body:
        body = {"dataframe_split": body}
    return body if "dataframe_split" not in body or _is_frame(body["dataframe_split"]) else None


def _is_frame(frame: Any) -> bool:
    """Whether an example has columns and rows that fit each other."""
    rows = frame.get("data") if isinstance(frame, dict) else None
    names = frame.get("columns") if isinstance(frame, dict) else None
    if not (isinstance(rows, list) and rows and all(isinstance(row, list) and row for row in rows)):
        return False
    widths = {len(row) for row in rows}
    return len(widths) == 1 and (not names or (isinstance(names, list) and {len(names)} == widths))
