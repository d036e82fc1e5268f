"""A model's inputs, outputs and params: what its rows must look like. Read from MLflow's JSON or a schema file.

Source of the format: the `signature` entry of an MLmodel file, https://mlflow.org/docs/latest/ml/model/signatures.
"""

import json
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from foretell.cells import TYPES, Column, Refused, from_value, show
from foretell.errors import FormWrong, ModelUnreadable, UsageError

_MAX_SHOWN = 300
_TENSOR_TYPES = {
    "bool": "boolean",
    "int32": "integer",
    "int64": "long",
    "float32": "float",
    "float64": "double",
    "str": "string",
    "object": "string",
}


@dataclass(frozen=True)
class Param:
    """One parameter of a prediction. shape: () for a scalar, (-1,) for a list."""

    name: str
    type: str
    default: Any
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Signature:
    """What a model takes and gives.

    inputs: its columns; the k cells of one (rows, k) tensor count as k unnamed columns. tensor: that tensor's name
    ("" without one), or None. rows: the number of rows that it insists on, or None. outputs: names, as far as known.
    """

    inputs: tuple[Column, ...]
    outputs: tuple[str, ...] = ()
    params: tuple[Param, ...] = ()
    tensor: str | None = None
    rows: int | None = None

    @property
    def named(self) -> bool:
        return self.inputs[0].name is not None

    @property
    def names(self) -> list[str]:
        """The columns' names; "0", "1", … without any."""
        return [column.name if column.name is not None else str(at) for at, column in enumerate(self.inputs)]

    @property
    def tabular(self) -> bool:
        """Whether every cell is a scalar, so that a row fits a line of CSV."""
        return not any(column.shape for column in self.inputs)

    @property
    def uniform(self) -> str | None:
        """The numpy dtype that all columns share, where they are required numeric scalars of one type; or None."""
        kinds = {column.type for column in self.inputs if column.required}
        one = len(kinds) == 1 and self.tabular and all(column.required for column in self.inputs)
        cell = TYPES[self.inputs[0].type]
        return cell.dtype if one and cell.kind in ("int", "float", "bool") else None

    def cast(self, types: dict[str, str]) -> "Signature":
        """The same signature with other types for some columns. Raises UsageError."""
        for name, kind in types.items():
            if name not in self.names:
                near = get_close_matches(name, self.names, 1)
                raise UsageError(
                    f"--cast {name}={kind}: the model has no column {name!r}",
                    f"Did you mean {near[0]!r}?" if near else f"It takes: {listed(self.names)}",
                )
            if kind not in TYPES:
                raise UsageError(f"--cast {name}={kind}: no such type", f"Types: {', '.join(TYPES)}")
        columns = zip(self.names, self.inputs, strict=True)
        return replace(self, inputs=tuple(replace(c, type=types.get(name, c.type)) for name, c in columns))

    def call_params(self, given: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
        """Checked params with defaults filled in, sorted by name. Raises FormWrong."""
        known = {param.name: param for param in self.params}
        for name in given:
            if name not in known:
                takes = f"It takes: {listed(list(known))}" if known else "This model takes none."
                raise FormWrong(f"params: no parameter {show(name)}", takes)
        values = {name: _param(param, given.get(name, param.default)) for name, param in known.items()}
        return tuple(sorted(values.items()))

    def example(self) -> list[list[Any]]:
        """One row that fits, as JSON values."""
        return [[_example(column) for column in self.inputs]]

    def shown_example(self) -> str:
        """A request body for a message: of a large tensor or of many columns only how it begins."""
        body = json.dumps({"data": self.example()})
        return body if len(body) <= _MAX_SHOWN else f"{body[:_MAX_SHOWN]}…"

    def to_dict(self) -> dict[str, Any]:
        """For people and tools: {"inputs": [{"name", "type", "required", "shape"?}], "outputs", "params"}."""
        inputs = [
            {
                "name": c.name,
                "type": c.type,
                "required": c.required,
                **({"shape": c.shape} if c.shape else {}),
            }
            for c in self.inputs
        ]
        params = [{"name": p.name, "type": p.type, "default": p.default} for p in self.params]
        return {"inputs": inputs, "outputs": list(self.outputs), "params": params}

    @staticmethod
    def unnamed(count: int, kind: str = "double") -> "Signature":
        """count columns by position."""
        return Signature(tuple(Column(None, kind) for _ in range(count)))


def from_mlflow(entry: dict[str, Any], where: str) -> Signature:
    """The signature from MLflow's entry, whose parts are JSON in strings, or plain. Raises ModelUnreadable."""
    try:
        inputs = _unpacked(entry.get("inputs")) or []
        outputs = _unpacked(entry.get("outputs")) or []
        params = _unpacked(entry.get("params")) or []
        if not inputs:
            raise ValueError("it has no inputs")
        signature = _inputs(inputs)
        names = tuple(str(item["name"]) for item in outputs if isinstance(item, dict) and item.get("name"))
        return replace(signature, outputs=names, params=tuple(_read_param(item) for item in params))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelUnreadable(f"{where}: the signature cannot be read: {error}") from error


def from_schema_file(path: Path) -> Signature:
    """A signature that the user wrote: a JSON list of {"name", "type"}, or {"inputs": …}. Raises UsageError."""
    try:
        entry = json.loads(path.read_bytes())
        return from_mlflow({"inputs": entry} if isinstance(entry, list) else entry, str(path))
    except OSError as error:
        raise UsageError(f"--schema {path}: {error.strerror}") from error
    except (ValueError, AttributeError, ModelUnreadable) as error:
        raise UsageError(f"--schema {path}: {error}", 'It holds: [{"name": "age", "type": "double"}, …]') from error


def listed(names: list[str], most: int = 8) -> str:
    """Names for a message: the first few, and how many more."""
    shown = ", ".join(name if len(name) <= 60 else f"{name[:57]}…" for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _unpacked(part: Any) -> Any:
    return json.loads(part) if isinstance(part, str) else part


def _inputs(items: list[dict[str, Any]]) -> Signature:
    if any(item.get("type") == "tensor" for item in items):
        return _tensors(items)
    columns = tuple(_column(item) for item in items)
    if len({column.name is None for column in columns}) > 1:
        raise ValueError("some inputs have names and some have not")
    names = [column.name for column in columns if column.name is not None]
    if len(set(names)) < len(names):
        raise ValueError("two inputs have the same name")
    return Signature(columns)


def _column(item: dict[str, Any]) -> Column:
    name, kind = item.get("name"), str(item["type"])
    kind = _TENSOR_TYPES.get(kind, kind)
    if kind not in TYPES:
        raise ValueError(f"input {name!r} has the type {kind!r}; foretell reads {', '.join(TYPES)}")
    required = bool(item.get("required", not item.get("optional", False)))
    return Column(None if name is None else str(name), kind, required=required)


def _tensors(items: list[dict[str, Any]]) -> Signature:
    read = [(item.get("name"), *_tensor_spec(item["tensor-spec"])) for item in items]
    fixed = {shape[0] for _, _, shape in read if shape and shape[0] >= 0}
    rows = fixed.pop() if fixed else None
    if len(read) == 1 and len(read[0][2]) == 2 and read[0][2][1] > 0:
        name, kind, shape = read[0]
        columns = Signature.unnamed(shape[1], kind).inputs
        return Signature(columns, tensor=name or "", rows=rows)
    if len(read) > 1 and any(name is None for name, _, _ in read):
        raise ValueError("several tensors, and not all of them have a name")
    columns = tuple(Column(name, kind, () if shape[1:] in ((), (1,)) else shape[1:]) for name, kind, shape in read)
    return Signature(columns, tensor=read[0][0] if len(read) == 1 and columns[0].shape else None, rows=rows)


def _tensor_spec(spec: dict[str, Any]) -> tuple[str, tuple[int, ...]]:
    dtype = str(spec["dtype"])
    kind = _TENSOR_TYPES.get(dtype, dtype)
    if kind not in TYPES:
        raise ValueError(f"a tensor has the dtype {dtype!r}, which foretell does not read")
    return kind, tuple(int(size) for size in spec["shape"])


def _read_param(item: dict[str, Any]) -> Param:
    kind = str(item.get("type", item.get("dtype", "string")))
    shape = tuple(int(size) for size in item.get("shape") or ())
    return Param(str(item["name"]), _TENSOR_TYPES.get(kind, kind), item.get("default"), shape)


def _param(param: Param, value: Any) -> Any:
    if value is None:
        if param.default is None:
            return None
        raise FormWrong(
            f"params: {param.name}: null is no {param.type}", f"Leave it out for its default, {show(param.default)}"
        )
    if param.type not in TYPES:
        return value
    column = Column(param.name, param.type)
    values = value if param.shape and isinstance(value, list) else [value]
    try:
        checked = tuple(from_value(item, column) for item in values)
    except Refused as refused:
        raise FormWrong(f"params: {param.name}: {refused.reason}", "") from refused
    return checked if param.shape else checked[0]


_EXAMPLES = {"bool": False, "text": "text", "binary": "", "datetime": "2026-01-01T00:00:00"}


def _example(column: Column) -> Any:
    cell: Any = _EXAMPLES.get(column.cell.kind, 0 if column.cell.kind == "int" else 0.0)
    for size in reversed(column.shape):
        cell = [cell] * max(size, 1)
    return cell


def check_names(signature: Signature, given: list[str]) -> None:
    """That all required columns are among the given names. Raises FormWrong, with the nearest name."""
    for column in signature.inputs:
        if column.required and column.name is not None and column.name not in given:
            hint = (
                nearest(column.name, given) or f"There is: {listed(given)}. The model takes: {listed(signature.names)}"
            )
            raise FormWrong(f"the column {column.name!r} is missing", hint)


def miscounted(signature: Signature, there: str, hint: str = "") -> FormWrong:
    """That columns which count by their position are more or fewer. there: how many there are."""
    count = len(signature.inputs)
    told = f"the model takes {count} column{'s' * (count != 1)} by position, and {there}"
    return FormWrong(told, hint or "Leave just those, or name the model's columns with --schema FILE")


def nearest(name: str, given: list[str]) -> str:
    """A hint where a name is there but for case and spaces; else empty."""
    plain = "".join(name.lower().split())
    for other in given:
        if "".join(other.lower().split()) == plain:
            return f"There is {other!r}: names must match to the letter"
    return ""
