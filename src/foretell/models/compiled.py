"""Compiled models: a folder in MLflow's layout with what one engine needs, the signature, and what was proven.

    MLmodel         the flavour "foretell": the engine, the columns, the model it was made of
    kernel/…        or model.onnx, or model.txt: what the engine computes with; nothing of it runs when it loads
    record.json     what was tried, proven and measured
    example.json    the input example, where the model has one
    SHA256SUMS      of all of them, and at its end of itself

Needs neither the library that trained the model nor pandas. A folder of which one byte was changed is refused.
"""

import hashlib
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from foretell import storage
from foretell.cells import TYPES
from foretell.errors import ModelUnreadable
from foretell.kernels import stored
from foretell.kernels.kernel import Kernel, KernelEngine
from foretell.models import proven
from foretell.models.engine import Engine
from foretell.models.load import COMPILED, Loaded
from foretell.models.mlmodel import StoredModel
from foretell.models.proven import Record
from foretell.signature import Signature

_SUMS, _RECORD, _EXAMPLE = "SHA256SUMS", "record.json", "example.json"
_MOST_CELLS, _MOST_ROWS = 1 << 27, 1 << 20
"""Of a row, and of rows at a time."""
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


class Described(msgspec.Struct, frozen=True):
    """What MLmodel says. of, digest: the model that it was made of. names: the order in which the engine wants columns.
    more: what the engine needs besides its files."""

    engine: str
    of: str
    digest: str
    signature: Signature
    names: tuple[str, ...] | None = None
    more: dict[str, Any] = {}


def runs_code(model: StoredModel) -> list[str]:
    """Never."""
    return []


def load(model: StoredModel, trusted: bool) -> Loaded:
    """Opens a compiled model. Raises ModelUnreadable."""
    try:
        check_sums(model.path)
        described = describe(model)
        engine = open_engine(model.path, described)
    except OSError as error:
        raise ModelUnreadable(f"{model.path} cannot be read: {error.strerror}") from error
    notes = _notes(model.path, described.engine)
    return Loaded(engine, described.signature, described.names, notes, described.digest)


def open_engine(folder: Path, described: Described) -> Engine:
    """The engine of what lies in a folder. Raises ModelUnreadable."""
    if described.engine not in _OPEN:
        raise ModelUnreadable(
            f"{folder} was compiled for the engine {described.engine!r}, which this foretell does not have",
            "Compile the model again",
        )
    return _OPEN[described.engine](folder, described)


def describe(model: StoredModel) -> Described:
    """What a compiled model's MLmodel says. Raises ModelUnreadable."""
    try:
        described = msgspec.convert(model.flavours[COMPILED], Described)
    except msgspec.ValidationError as error:
        raise ModelUnreadable(f"{model.path / 'MLmodel'} is no description of a compiled model: {error}") from error
    signature, names = described.signature, described.names
    known = bool(signature.inputs) and all(column.type in TYPES for column in signature.inputs)
    cells = sum(math.prod(abs(size) for size in column.shape) for column in signature.inputs)
    if not known or cells > _MOST_CELLS or not 0 < (signature.rows or 1) <= _MOST_ROWS:
        raise ModelUnreadable(f"{model.path / 'MLmodel'} describes columns that foretell does not read")
    if names is not None and (len(set(names)) < len(names) or not names or not set(names) <= set(signature.names)):
        raise ModelUnreadable(f"{model.path / 'MLmodel'} names other columns than its signature has")
    return described


def record(folder: Path) -> Record | None:
    """What was proven of a compiled model."""
    try:
        found = msgspec.json.decode((folder / _RECORD).read_bytes(), type=Record)
        return found if found.sound else None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def write(
    folder: Path, described: Described, files: Callable[[Path], None], record: Record, example: dict[str, Any] | None
) -> None:
    """Fills an empty folder. files: writes the engine's own into it. Raises OSError."""
    files(folder)
    (folder / _RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
    entry: dict[str, Any] = {"flavors": {COMPILED: msgspec.to_builtins(described)}}
    if example is not None:
        (folder / _EXAMPLE).write_bytes(msgspec.json.encode(example))
        entry["saved_input_example_info"] = {"artifact_path": _EXAMPLE}
    (folder / "MLmodel").write_bytes(msgspec.json.format(msgspec.json.encode(entry), indent=1) + b"\n")
    lines = "".join(f"{storage.sha256(path)}  {name}\n" for name, path in storage.files_under(folder))
    (folder / _SUMS).write_text(f"{lines}{_of_lines(lines)}  {_SUMS}\n")


def check_sums(folder: Path) -> None:
    """That every file is the one that was written, and no other is there. Raises ModelUnreadable."""
    path = folder / _SUMS
    try:
        text = path.read_bytes().decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelUnreadable(f"{path} cannot be read, so nobody knows whether the model is whole") from error
    body, _, last = text.removesuffix("\n").rpartition("\n")
    if last != f"{_of_lines(body + chr(10))}  {_SUMS}" or not text.endswith("\n"):
        raise ModelUnreadable(f"{path} was changed since the model was compiled", "Compile it again")
    said = {found[2]: found[1] for line in body.splitlines() if (found := _LINE.fullmatch(line))}
    there = {name: file for name, file in storage.files_under(folder) if name not in (_SUMS, storage.UNCOUNTED)}
    for name in sorted(said.keys() | there.keys()):
        if name not in there or name not in said or storage.sha256(there[name]) != said[name]:
            what = "is missing" if name not in there else "was changed or added"
            raise ModelUnreadable(f"{folder / name} {what} since the model was compiled", "Compile it again")


def _of_lines(lines: str) -> str:
    return hashlib.sha256(lines.encode()).hexdigest()


def _notes(folder: Path, engine: str) -> tuple[str, ...]:
    """What a person must hear of a model whose engine was not proven equal, or was proven elsewhere."""
    found = record(folder)
    tried = found.of_engine(engine) if found else None
    if found is None or tried is None:
        return ("it has no record of what was proven",)
    if tried.verified is None or not tried.verified.exact:
        return (f"its {tried.label} was not proven equal to its library: foretell models inspect",)
    if found.made.get("cpu") != proven.cpu():
        return (
            f"its {tried.label} was proven on another processor; last bits may differ from its library's on this one",
        )
    return ()


def kernel_files(kernel: Kernel) -> Callable[[Path], None]:
    """Writes a kernel."""

    def files(folder: Path) -> None:
        (folder / "kernel").mkdir()
        stored.write(kernel, folder / "kernel")

    return files


def plain_classes(classes: np.ndarray) -> dict[str, Any]:
    """A classifier's labels as JSON, with their dtype."""
    return {"dtype": classes.dtype.str, "values": classes.tolist()}


def classes_of(more: dict[str, Any]) -> np.ndarray | None:
    """The labels that plain_classes wrote under "classes"; None where the engine has none. Raises ModelUnreadable."""
    if (said := more.get("classes")) is None:
        return None
    try:
        dtype = np.dtype(said["dtype"])
        if dtype.itemsize * len(said["values"]) > _MOST_CELLS:
            raise ValueError("they are too many")
        array = np.array(said["values"], dtype)
        if dtype.kind not in "biufUO" or array.ndim != 1 or array.size == 0:
            raise ValueError(f"{dtype} labels")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ModelUnreadable(f"the compiled model's labels cannot be read: {error}") from error
    return array


def _open_booster(folder: Path, described: Described) -> Engine:
    from foretell.models import lightgbm

    return lightgbm.open_text(folder / "model.txt", classes_of(described.more))


def _open_onnx(folder: Path, described: Described) -> Engine:
    from foretell.models.onnx_converted import Converted, ConvertedEngine

    try:
        said = msgspec.convert({**described.more, "data": b""}, Converted)
        return ConvertedEngine(replace(said, data=(folder / "model.onnx").read_bytes()))
    except (msgspec.ValidationError, OSError, TypeError, ValueError) as error:
        raise ModelUnreadable(f"{folder} holds no ONNX model that was compiled: {error}") from error


def _open_kernel(folder: Path, described: Described) -> Engine:
    try:
        return KernelEngine(stored.read(folder / "kernel"))
    except (ArithmeticError, ValueError, TypeError, IndexError, MemoryError) as error:
        raise ModelUnreadable(f"{folder / 'kernel'} holds no kernel that fits together: {error}") from error


_OPEN: dict[str, Callable[[Path, Described], Engine]] = {
    "booster": _open_booster,
    "kernel": _open_kernel,
    "onnx": _open_onnx,
}
"""By engine."""
