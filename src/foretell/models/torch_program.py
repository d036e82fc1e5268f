"""Computes an exported PyTorch program, node by node, by torch's own operators. Nothing of the file is evaluated."""

import json
import math
import operator
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from foretell.errors import ModelUnreadable
from foretell.models.torch_files import MALFORMED, StoredProgram, only

_DTYPES = {
    1: "uint8",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "float16",
    7: "float32",
    8: "float64",
    12: "bool",
    13: "bfloat16",
    28: "uint16",
    34: "uint32",
    35: "uint64",
}
_FORMATS = {1: "contiguous_format", 2: "channels_last", 3: "channels_last_3d", 4: "preserve_format"}
_FLOATS = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}


@dataclass(frozen=True)
class Given:
    """An input: its dtype by torch's name, its sizes, -1 where any will do, and its first size's symbol, if any."""

    name: str
    dtype: str
    sizes: tuple[int, ...]
    symbol: str = ""


@dataclass(frozen=True)
class _Name:
    """A value that an earlier node or an input made."""

    name: str


@dataclass(frozen=True)
class _Step:
    """One node: what is called with what, where the results go, and which values nobody needs afterwards."""

    call: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[Any, ...]
    done: tuple[str, ...]


class Program:
    """A loaded program. inputs: what it takes. outputs: their names; "" for the only one."""

    def __init__(self, stored: StoredProgram) -> None:
        try:
            self.inputs = _inputs(stored)
            self._results = [spec["user_output"]["arg"]["as_tensor"]["name"] for spec in _specs(stored, "output")]
            self.outputs = _labels(stored.call.get("out_spec"), len(self._results))
            self._constants = _constants(stored)
            self._ranges = {name: (int(at["min_val"] or 0), at["max_val"]) for name, at in stored.ranges.items()}
            self._steps = _steps(stored.graph["nodes"], set(self._results))
        except (*MALFORMED, zipfile.BadZipFile, OSError, RuntimeError) as error:
            raise ModelUnreadable(f"{stored.path} holds a program that cannot be read: {error}") from error

    def block(self, wished: int) -> int:
        """How many rows to give it: the number that it insists on; else the wished for one, within what it takes, where
        a row's last bits then do not depend on its place; else one. (A least number of 2 is what the exporter writes
        for any batch: it did not look at 1.)"""
        given = next((given for given in self.inputs if given.sizes), None)
        if given is not None and given.sizes[0] > 0:
            return given.sizes[0]
        low, high = self._ranges.get(given.symbol, (0, None)) if given is not None else (0, None)
        low = low if low > 2 else 1
        rows = max(low, wished if high is None else min(wished, high))
        return rows if steady(lambda fed, watch: self(*fed, watch=watch), self.inputs, rows) else low

    def __call__(self, *tensors: Any, watch: Callable[[Any], None] | None = None) -> list[Any]:
        """One tensor for each input, of shape (rows, …); gives one for each output. watch: sees all on the way."""
        values = dict(self._constants)
        for given, tensor in zip(self.inputs, tensors, strict=True):
            shape = tuple(tensor.shape)
            fits = len(shape) == len(given.sizes)
            if not fits or any(size not in (-1, is_) for size, is_ in zip(given.sizes, shape, strict=True)):
                raise ValueError(f"the program's input {given.name!r} has the shape {given.sizes}, and got {shape}")
            values[given.name] = tensor
        for step in self._steps:
            args = [_filled(arg, values) for arg in step.args]
            kwargs = {name: _filled(arg, values) for name, arg in step.kwargs.items()}
            _bind(step.outputs, step.call(*args, **kwargs), values)
            for name in _names(step.outputs) if watch is not None else ():
                watch(values[name])  # type: ignore[misc]
            for name in step.done:
                values.pop(name, None)
        return [values[name] for name in self._results]


def steady(run: Callable[[list[Any], Callable[[Any], None]], Any], inputs: list[Given], rows: int) -> bool:
    """Whether one row, repeated, comes out the same at every place of a block, wherever run lets us watch: matrix
    products of some shapes round a block's last rows otherwise. Doubles are not tried: too few of them show it."""
    import torch

    if any(given.dtype == "float64" or -1 in given.sizes[1:] or not given.sizes for given in inputs):
        return False
    same = True

    def watch(value: Any) -> None:
        nonlocal same
        if isinstance(value, torch.Tensor) and value.ndim and value.shape[0] == rows:
            same = same and value.dtype != torch.float64 and torch.equal(value, value[:1].expand_as(value))

    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _ in range(_TRIES):
            try:
                fed = [_row(given, draw).expand(rows, *given.sizes[1:]).contiguous() for given in inputs]
                result = run(fed, watch)
            except Exception:  # it may refuse what was made up
                return False
            for value in result if isinstance(result, list | tuple) else [result]:
                watch(value)
    return same


_TRIES = 8


def _row(given: Given, draw: Any) -> Any:
    import torch

    dtype = getattr(torch, given.dtype)
    shape = (1, *given.sizes[1:])
    return torch.randn(shape, generator=draw).to(dtype) if dtype.is_floating_point else torch.zeros(shape, dtype=dtype)


def _specs(stored: StoredProgram, side: str) -> list[dict[str, Any]]:
    specs: list[dict[str, Any]] = stored.signature[f"{side}_specs"]
    return specs


def _inputs(stored: StoredProgram) -> list[Given]:
    found = []
    for spec in _specs(stored, "input"):
        if "user_input" in spec:
            name = spec["user_input"]["arg"]["as_tensor"]["name"]
            meta = stored.graph["tensor_values"][name]
            kinds = [only(size) for size in meta["sizes"]]
            sizes = tuple(int(value) if kind == "as_int" else -1 for kind, value in kinds)
            symbol = next((range_ for range_ in stored.ranges if kinds and _is_symbol(kinds[0], range_)), "")
            found.append(Given(str(name), _DTYPES[meta["dtype"]], sizes, symbol))
    return found


def _is_symbol(size: tuple[str, Any], name: str) -> bool:
    """Compared as text; expressions are never evaluated."""
    kind, value = size
    return kind == "as_expr" and (value["expr_str"] == name or value["expr_str"].startswith(f"Symbol('{name}',"))


def _labels(spec: str | None, count: int) -> list[str]:
    """Names of outputs: a dict's keys, a tuple's positions."""
    numbers = [str(at) for at in range(count)] if count > 1 else [""]
    tree = json.loads(spec)[1] if spec else {}
    if not str(tree.get("type")).rpartition(".")[2].lower().endswith("dict") or not isinstance(tree["context"], str):
        return numbers
    keys = json.loads(tree["context"])
    plain = (
        isinstance(keys, list) and len(keys) == count and all(child["type"] is None for child in tree["children_spec"])
    )
    return [str(key) for key in keys] if plain else numbers


def _constants(stored: StoredProgram) -> dict[str, Any]:
    """Weights and constants by the names that nodes call them by; tensors that share a record share memory."""
    import torch

    records: dict[tuple[str, int], Any] = {}
    found: dict[str, Any] = {}
    fields = {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": "tensor_constant_name"}
    with zipfile.ZipFile(stored.path) as archive:
        for spec in _specs(stored, "input"):
            kind, value = only(spec)
            if kind == "constant_input":
                found[value["name"]] = _constant(value["value"])
            elif kind in fields:
                record, meta = stored.weights[value[fields[kind]]]
                if (record, meta["dtype"]) not in records:
                    dtype = getattr(torch, _DTYPES[meta["dtype"]])
                    records[record, meta["dtype"]] = _tensor(archive.read(record), dtype)
                sizes, strides = ([int(size["as_int"]) for size in meta[part]] for part in ("sizes", "strides"))
                whole = records[record, meta["dtype"]]
                found[value["arg"]["name"]] = whole.as_strided(sizes, strides, int(meta["storage_offset"]["as_int"]))
    return found


def _tensor(data: bytes, dtype: Any) -> Any:
    """Raw bytes as a flat tensor in memory of torch's own, whose alignment its kernels count on."""
    import torch

    if not data:
        return torch.empty(0, dtype=dtype)
    return torch.frombuffer(bytearray(data), dtype=dtype).clone()


def _steps(nodes: list[dict[str, Any]], kept: set[str]) -> list[_Step]:
    import torch

    ours = {f"_operator.{name}": getattr(operator, name) for name in dir(operator) if not name.startswith("__")}
    ours |= {f"math.{name}": getattr(math, name) for name in ("ceil", "floor", "trunc")}
    ours |= {f"torch.{name}": getattr(torch, name) for name in dir(torch) if name.startswith("sym_")}
    steps: list[_Step] = []
    seen = set(kept)
    for node in reversed(nodes):
        call = ours.get(node["target"])
        args: tuple[Any, ...]
        if call is None:
            _, _, _, name, overload = node["target"].split(".")
            call = getattr(getattr(torch.ops.aten, name), overload)
            args, kwargs = _arguments(call, node["inputs"])
        else:
            args, kwargs = tuple(_constant(given["arg"]) for given in node["inputs"]), {}
        outputs = tuple(_target(output) for output in node["outputs"])
        used = _names([*args, *kwargs.values(), outputs])
        steps.append(_Step(call, args, kwargs, outputs, tuple(used - seen)))
        seen |= used
    return steps[::-1]


def _arguments(call: Any, inputs: list[dict[str, Any]]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """As the operator's schema has them: by position up to the first that is left out, by name after that."""
    given = {entry["name"]: _constant(entry["arg"]) for entry in inputs}
    args: list[Any] = []
    kwargs = {}
    for at, argument in enumerate(call._schema.arguments):
        if argument.name in given:
            value = given.pop(argument.name)
            if argument.kwarg_only or len(args) < at:
                kwargs[argument.name] = value
            else:
                args.append(value)
    if given:
        raise ValueError(f"{call} takes no {', '.join(given)}")
    return tuple(args), kwargs


def _constant(argument: dict[str, Any]) -> Any:
    """An argument as it is passed, with _Name for what is computed."""
    import torch

    kind, value = only(argument)
    if kind in ("as_tensor", "as_sym_int", "as_sym_float", "as_sym_bool"):
        return _named(value)
    if kind in ("as_tensors", "as_optional_tensors", "as_sym_ints", "as_sym_floats"):
        return [_named(item) for item in value]
    if kind == "as_optional_tensor":
        return _named(value)
    if kind in ("as_float", "as_floats"):
        return [_float(item) for item in value] if kind == "as_floats" else _float(value)
    if kind == "as_scalar_type":
        return getattr(torch, _DTYPES[value])
    if kind == "as_memory_format":
        return getattr(torch, _FORMATS[value])
    fixed = {"as_none": None, "as_device": "cpu", "as_layout": torch.strided}
    return fixed.get(kind, value)


def _named(value: dict[str, Any]) -> Any:
    """A tensor or size by its name, or the number or null that stands in its place."""
    if "name" in value:
        return _Name(value["name"])
    kind, inner = only(value)
    if kind == "as_name":
        return _Name(inner)
    if kind == "as_tensor":
        return _Name(inner["name"])
    return None if kind == "as_none" else inner


def _float(value: Any) -> float:
    return _FLOATS[value] if isinstance(value, str) else float(value)


def _target(output: dict[str, Any]) -> Any:
    made = _constant(output)
    return tuple(made) if isinstance(made, list) else made


def _names(arg: Any) -> set[str]:
    if isinstance(arg, _Name):
        return {arg.name}
    return set().union(*map(_names, arg)) if isinstance(arg, list | tuple) else set()


def _filled(arg: Any, values: dict[str, Any]) -> Any:
    if isinstance(arg, _Name):
        return values[arg.name]
    return [_filled(item, values) for item in arg] if isinstance(arg, list) else arg


def _bind(outputs: tuple[Any, ...], result: Any, values: dict[str, Any]) -> None:
    if len(outputs) == 1 and isinstance(outputs[0], _Name):
        values[outputs[0].name] = result
        return
    if len(outputs) == 1 and isinstance(outputs[0], tuple):
        result = [result]
    for output, made in zip(outputs, result if outputs else (), strict=False):
        if isinstance(output, tuple):
            _bind(output if len(output) > 1 else (*output, None), made, values)
        elif output is not None:
            values[output.name] = made
