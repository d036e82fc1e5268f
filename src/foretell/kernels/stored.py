"""A kernel on disk: kernel.json for its structure and plain values, 0.npy, 1.npy, … for its arrays, which stay mapped.
Loading runs nothing of the files: nodes are looked up by name in a table, and arrays are raw numbers or text.

Source of the array format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
"""

import dataclasses
import functools
import importlib
import math
import tokenize
import types
import typing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from foretell.errors import ModelUnreadable
from foretell.kernels.kernel import Kernel
from foretell.kernels.node import Head, Step

_MODULES = {
    "adaboost": "AdaBoostClassifier AdaBoostRegressor",
    "bayes": "CategoryBayes GaussianBayes ProductBayes",
    "binning": "Bins Threshold",
    "boosting": "BoostedClassifier BoostedRegressor",
    "catboost": "CatboostTrees",
    "clusters": "CentroidScores NearestCentroid NearestMean SplitMeans",
    "columns": "Branch Branches Chain",
    "distributions": "Quantiles YeoJohnson",
    "encoding": "Numbered OneHot",
    "features": "Powers Projection UnitRows",
    "ensembles": "ForestClassifier ForestRegressor Isolation",
    "imputing": "Imputer Indicator",
    "lightgbm": "LightgbmTrees",
    "linear": "LinearClassifier LinearRegressor",
    "machines": "Machine MachineClassifier MachineRegressor",
    "meta": "Calibrated Calibration Member OneAClass OneAnOutput VotingClasses VotingNumbers",
    "scaling": "Scaler",
    "selecting": "Selected",
    "targets": "Back Constant TurnedBack",
    "xgboost": "BoostedScores",
    "kernel": "Kernel",
}
NODES = {name: f"kernels.{module}" for module, names in _MODULES.items() for name in names.split()}
NODES["Forest"] = "trees.forest"
"""All that a kernel may be made of, by name, and the modules where they are, imported when one is met."""

FORMAT = 1
_FILE = "kernel.json"
_LARGEST = 256 << 20
_DEEPEST = 64
_WIDEST = 1 << 22


def write(kernel: Kernel, folder: Path) -> None:
    """Writes a kernel into an empty folder. Raises OSError."""
    arrays: list[np.ndarray] = []
    tree = _encoded(kernel, arrays)
    for at, array in enumerate(arrays):
        np.save(folder / f"{at}.npy", array, allow_pickle=False)
    (folder / _FILE).write_bytes(msgspec.json.encode({"format": FORMAT, "arrays": len(arrays), "kernel": tree}))


def read(folder: Path) -> Kernel:
    """The kernel that write left in a folder. Raises ModelUnreadable."""
    path = folder / _FILE
    try:
        if path.stat().st_size > _LARGEST:
            raise ModelUnreadable(f"{path} is larger than any kernel's")
        stored = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        if stored.get("format") != FORMAT:
            raise ModelUnreadable(
                f"{path} is of format {stored.get('format')}, and this foretell reads {FORMAT}",
                "Compile the model again",
            )
        arrays = [_array(folder / f"{at}.npy") for at in range(min(int(stored["arrays"]), 10_000))]
        kernel: Kernel = _decoded(stored["kernel"], arrays, Kernel, 0)
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError, EOFError) as error:
        raise ModelUnreadable(f"{path} holds no kernel: {error}") from error
    return kernel


def _array(path: Path) -> np.ndarray:
    """Mapped and read only; a plain array, as a memmap's own class costs at every use."""
    try:
        with np.errstate(over="raise"):
            array = np.asarray(np.lib.format.open_memmap(path, mode="r"))
    except (ArithmeticError, tokenize.TokenError) as error:
        raise ValueError(f"{path.name} is no array: {error}") from error
    if array.dtype.kind not in "biufUS" or not array.dtype.isnative:
        raise ValueError(f"{path.name} holds {array.dtype}, which no kernel has")
    return array


def _encoded(value: Any, arrays: list[np.ndarray]) -> Any:
    if isinstance(value, np.ndarray) and value.dtype != object:
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if isinstance(value, np.ndarray):
        return {"objects": [_encoded(item, arrays) for item in value.ravel().tolist()]}
    if dataclasses.is_dataclass(value):
        fields = {field.name: _encoded(getattr(value, field.name), arrays) for field in dataclasses.fields(value)}
        return {"node": type(value).__name__, "fields": fields}
    if isinstance(value, tuple | list):
        return [_encoded(item, arrays) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a kernel cannot hold {type(value).__name__}")


def _decoded(value: Any, arrays: list[np.ndarray], hint: Any, depth: int) -> Any:
    """A value as its field's type says. Raises ValueError, TypeError, KeyError, IndexError for any other."""
    if depth > _DEEPEST:
        raise ValueError("it is nested too deeply")
    found: Any = value
    if isinstance(value, list):
        inner = typing.get_args(hint)[0] if typing.get_origin(hint) is tuple else Any
        return _fitting(tuple(_decoded(item, arrays, inner, depth + 1) for item in value), hint)
    if isinstance(value, dict):
        if "array" in value:
            at = value["array"]
            if type(at) is not int or not 0 <= at < len(arrays):
                raise IndexError(f"there is no array {at!r}")
            found = arrays[at]
        elif "objects" in value:
            items = [_decoded(item, arrays, Any, depth + 1) for item in value["objects"]]
            found = np.empty(len(items), object)
            found[:] = items
        elif "float" in value:
            found = float(value["float"])
        else:
            found = _node(value, arrays, depth)
    return _fitting(found, hint)


def _node(value: dict[str, Any], arrays: list[np.ndarray], depth: int) -> Any:
    name = value["node"]
    kind = getattr(importlib.import_module(f"foretell.{NODES[name]}"), name)
    hints = _hints(kind)
    if set(value["fields"]) != set(hints):
        raise ValueError(f"a {kind.__name__} with other fields")
    for name in ("block", "width"):
        if not 0 < value["fields"].get(name, 1) <= _WIDEST:
            raise ValueError(f"a {kind.__name__} of an impossible {name}")
    return kind(**{name: _decoded(value["fields"][name], arrays, hint, depth + 1) for name, hint in hints.items()})


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    known = typing.get_type_hints(kind)
    return {field.name: known[field.name] for field in dataclasses.fields(kind)}


def _fitting(value: Any, hint: Any) -> Any:
    if not _fits(value, hint):
        raise TypeError(f"a {type(value).__name__} stands where a kernel has something else")
    return value


def _fits(value: Any, hint: Any) -> bool:
    if hint is Any:
        return True
    if isinstance(hint, types.UnionType):
        return any(_fits(value, part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is typing.Literal:
        return value in typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)[0]
        return isinstance(value, tuple) and all(_fits(item, inner) for item in value)
    if hint is Step:
        return hasattr(value, "transform") and type(value).__name__ in NODES
    if hint is Head:
        return hasattr(value, "answer") and type(value).__name__ in NODES
    if hint is float:
        return isinstance(value, float | int) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)
