"""What an output's bytes depend on: the input, the model, the options, the versions. A job is gone on with only where
all of it is as it was."""

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import foretell
from foretell.errors import InputUnreadable
from foretell.job.journal import Commit
from foretell.predictor import Predictor

_ENDS = 64 << 10
_LIBRARIES = (
    "catboost",
    "lightgbm",
    "mlflow",
    "numpy",
    "onnxruntime",
    "pandas",
    "pyarrow",
    "scipy",
    "sklearn",
    "statsmodels",
    "torch",
    "xgboost",
)


def identity(path: str) -> dict[str, Any]:
    """A file's name, size, time, and the hash of how it begins and ends. Raises InputUnreadable."""
    try:
        with Path(path).open("rb") as file:
            status = os.fstat(file.fileno())
            head = file.read(_ENDS)
            file.seek(max(0, status.st_size - _ENDS))
            ends = hashlib.sha256(head + file.read(_ENDS)).hexdigest()
    except OSError as error:
        raise InputUnreadable(f"{path} cannot be read: {error.strerror}") from error
    return {"path": path, "size": status.st_size, "time": status.st_mtime_ns, "ends": ends}


def pins(inputs: list[dict[str, Any]], predictor: Predictor, options: dict[str, Any]) -> dict[str, Any]:
    """All of it, as JSON holds it. inputs: identities of files; none for what comes through a pipe."""
    found = predictor.found
    return {
        "input": inputs,
        "model": {"label": predictor.resolved.label, "digest": predictor.resolved.digest},
        "engine": "auto" if found.automatic else predictor.engine.name,
        "options": options,
        "versions": {"foretell": foretell.__version__, "python": sys.version.split()[0], **_libraries()},
        "now": {"engine": predictor.engine.name, "native": found.compiled is None},
    }


def _libraries() -> dict[str, str]:
    """Of all that may compute or write, what is loaded."""
    loaded = {name: sys.modules.get(name) for name in _LIBRARIES}
    return {name: str(getattr(module, "__version__", "")) for name, module in loaded.items() if module is not None}


def difference(before: dict[str, Any], now: dict[str, Any], last: Commit) -> str:
    """Why a job cannot be gone on with, in a few words; empty where it can."""
    try:
        return (
            _inputs(before["input"], now["input"])
            or _model(before["model"], now["model"])
            or _options(before["options"], now["options"], last)
            or _engine(before, now, last)
            or _versions(before["versions"], now["versions"])
        )
    except (KeyError, TypeError, AttributeError):
        return "its journal is of another version"


def _inputs(before: list[dict[str, Any]], now: list[dict[str, Any]]) -> str:
    if not now or not before:
        return "what comes through a pipe cannot be read again"
    if [one["path"] for one in before] != [one["path"] for one in now]:
        return "the input is another one"
    changed = next((one["path"] for one, other in zip(before, now, strict=True) if one != other), None)
    return f"{changed} has changed" if changed else ""


def _model(before: dict[str, Any], now: dict[str, Any]) -> str:
    same = before["digest"] == now["digest"]
    return "" if same else f"the model was {before['label']}, and is now {now['label']} with other files"


def _options(before: dict[str, Any], now: dict[str, Any], last: Commit) -> str:
    """Without a bad row so far, it makes no difference what was to happen to one."""
    free = {"on_error"} if not last.rejected else set()
    changed = [name for name in now if before[name] != now[name] and name not in free]
    return f"--{changed[0].replace('_', '-')} is another one" if changed else ""


def _engine(before: dict[str, Any], now: dict[str, Any], last: Commit) -> str:
    """Engines that were proven equal may take over from the library; where the library takes over from one, there was a
    reason, and what the engine did counts no more."""
    if before["engine"] != now["engine"]:
        return "--engine is another one"
    current = now["now"]
    if now["engine"] == "auto" and (last.native or (last.engine, False) == (current["engine"], current["native"])):
        return ""
    same = (last.engine, last.native) == (current["engine"], current["native"])
    return "" if same else f"its rows were predicted by {last.engine}, which is not used any more"


def _versions(before: dict[str, str], now: dict[str, str]) -> str:
    changed = [name for name in now if before.get(name, now[name]) != now[name]]
    return f"{changed[0]} is of another version" if changed else ""
