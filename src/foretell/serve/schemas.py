"""A signature as JSON Schema: what a request's rows may be, in each form, and what comes back. For `openapi`."""

from typing import Any

import numpy as np

from foretell.batch import Answers, Output
from foretell.cells import TYPES, Column
from foretell.signature import Param, Signature

Schema = dict[str, Any]

_MANY = 200
"""So many columns of one type are not named one by one in a row, but in a record."""
_DATE = (
    r"^(16[789]|1[7-9]\d|2[01]\d|22[0-6])\d-[01]\d-[0-3]\d"
    r"([T ][0-2]\d:[0-5]\d(:[0-5]\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)?)?$"
)
_BASE64 = r"^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
_KINDS: dict[str, Schema] = {
    "bool": {"type": "boolean"},
    "text": {"type": "string"},
    "datetime": {"type": "string", "pattern": _DATE, "description": "ISO 8601; by UTC where it has no zone."},
    "binary": {"type": "string", "pattern": _BASE64, "contentEncoding": "base64"},
}
_FORMATS = {"integer": "int32", "long": "int64", "float": "float", "double": "double"}


class Schemas:
    """Of one model. prefix: of its components' names, which are unique in a document."""

    def __init__(self, signature: Signature, prefix: str = "") -> None:
        self.components: dict[str, Schema] = {}
        self._signature = signature
        self._prefix = prefix
        self._cells = [self._cell(column) for column in signature.inputs]

    def body(self) -> Schema:
        """A JSON request."""
        signature = self._signature
        rows = self._array(self._row())
        forms: dict[str, Schema] = {"data": rows, "instances": rows, "inputs": rows}
        if (columns := self._columns()) is not None:
            forms["instances"] = forms["inputs"] = {"anyOf": [rows, columns]}
        forms["dataframe_split"] = self._component("SplitFrame", self._split())
        if signature.named:
            forms["dataframe_records"] = self._array(self._record())
        fields = {**forms, "params": self._component("Params", _params(signature.params))}
        one = [{"required": [form]} for form in forms]
        about = "Rows in just one of these forms. Further keys are passed over."
        body = {"type": "object", "description": about, "properties": fields, "oneOf": one}
        return self._component("Request", body)

    def line(self) -> Schema:
        """A line of JSON Lines."""
        return self._row()

    def predictions(self, samples: list[Answers]) -> Schema:
        """A JSON answer. samples: what the model answered, without and with probabilities; as far as is known."""
        rows = [_row_of(sample) for sample in samples] or [{}]
        if self._signature.params:
            rows.append({"description": "Of another form, where params ask for one."})
        items = rows[0] if len(rows) == 1 else {"anyOf": rows}
        fields = {"predictions": {"type": "array", "items": items, "description": "One for each row, in order."}}
        answer = {"type": "object", "required": ["predictions"], "properties": fields}
        return self._component("Predictions", answer)

    def _component(self, name: str, schema: Schema) -> Schema:
        self.components[self._prefix + name] = schema
        return {"$ref": f"#/components/schemas/{self._prefix}{name}"}

    def _array(self, item: Schema) -> Schema:
        rows = self._signature.rows
        return {"type": "array", "items": item, **({} if rows is None else {"minItems": rows, "maxItems": rows})}

    def _cell(self, column: Column) -> Schema:
        if column.shape:
            schema = _plain(column.type, nullable=False)
            for size in reversed(column.shape):
                sizes = {"minItems": size, "maxItems": size} if size >= 0 else {}
                schema = {"type": "array", "items": schema, **sizes}
            shape = "x".join("n" if size < 0 else str(size) for size in column.shape)
            return self._component(f"{column.type}.{shape}", schema)
        name = column.type if column.required else f"optional.{column.type}"
        return self._component(name, _plain(column.type, nullable=column.nullable))

    def _row(self) -> Schema:
        """As an array in the columns' order, as an object by their names, or, of one column, as its cell."""
        signature, cells, count = self._signature, self._cells, len(self._cells)
        row: Schema = {"type": "array", "minItems": count, "maxItems": count}
        if count > _MANY and len({cell["$ref"] for cell in cells}) == 1:
            row["items"] = cells[0]
        elif signature.named:
            named = zip(signature.names, cells, strict=True)
            row |= {"prefixItems": [{**cell, "title": name} for name, cell in named], "items": False}
        else:
            row |= {"prefixItems": cells, "items": False} if len(set(map(str, cells))) > 1 else {"items": cells[0]}
        ways = [self._component("Row", row)]
        if count == 1:
            ways.append(cells[0])
        if signature.named:
            ways.append(self._record())
        return ways[0] if len(ways) == 1 else {"anyOf": ways}

    def _record(self) -> Schema:
        fields = dict(zip(self._signature.names, self._cells, strict=True))
        about = "A row by its columns' names. Further keys are passed over."
        return self._component("Record", self._object(fields, about))

    def _columns(self) -> Schema | None:
        signature = self._signature
        if signature.named:
            fields = {
                name: {"type": "array", "items": cell} for name, cell in zip(signature.names, self._cells, strict=True)
            }
            return self._component("Columns", self._object(fields, "Equally long arrays, one for each column."))
        if signature.tensor:
            fields = {signature.tensor: self._array(self._row())}
            return self._component("Columns", {"type": "object", "properties": fields, "required": list(fields)})
        return None

    def _object(self, fields: dict[str, Schema], about: str) -> Schema:
        columns = zip(self._signature.names, self._signature.inputs, strict=True)
        required = [name for name, column in columns if column.required]
        return {"type": "object", "description": about, "properties": fields, "required": required}

    def _split(self) -> Schema:
        names: Schema = {"type": ["array", "null"], "items": {"type": "string"}, "uniqueItems": True}
        if self._signature.named:
            names = {
                "description": "The columns in the order of each row's cells. Theirs may be another, and there may be "
                "further columns, which are passed over.",
                "enum": [self._signature.names, None],
            }
        self._row()
        rows = self._array({"$ref": f"#/components/schemas/{self._prefix}Row"})
        fields = {"columns": names, "index": {"description": "Passed over."}, "data": rows}
        return {"type": "object", "description": "pandas' split frame.", "properties": fields, "required": ["data"]}


def _plain(kind: str, *, nullable: bool) -> Schema:
    """A scalar cell of a type."""
    cell = TYPES[kind]
    schema = dict(_KINDS.get(cell.kind, {}))
    if cell.kind == "int":
        schema = {"type": "integer", "minimum": cell.low, "maximum": cell.high}
    elif cell.kind == "float":
        most = float(np.finfo(cell.dtype).max)
        schema = {"type": "number", "minimum": -most, "maximum": most}
    if kind in _FORMATS:
        schema["format"] = _FORMATS[kind]
    return {**schema, "type": [schema["type"], "null"]} if nullable else schema


def _params(params: tuple[Param, ...]) -> Schema:
    """What else a request may say."""
    fields = {}
    for param in params:
        plain = _plain(param.type, nullable=param.default is None) if param.type in TYPES else {}
        schema = {"anyOf": [plain, {"type": "array", "items": plain}]} if param.shape else plain
        fields[param.name] = schema if param.default is None else {**schema, "default": param.default}
    return {"type": ["object", "null"], "properties": fields, "additionalProperties": False}


_OUTPUTS: dict[str, Schema] = {
    "b": {"type": "boolean"},
    "f": {"type": ["number", "null"]},
    "i": {"type": "integer"},
    "u": {"type": "integer"},
    "M": {"type": ["string", "null"]},
    "U": {"type": "string"},
}


def _row_of(answers: Answers) -> Schema:
    """A row of answers, in the form that `Answers.to_list` gives it."""
    outputs = answers.outputs
    if len(outputs) == 1 and not outputs[0].proba:
        return _value_of(outputs[0].values)
    fields: dict[str, Schema] = {}
    for output in outputs:
        fields |= _fields_of(output)
    return {"type": "object", "properties": fields, "required": list(fields)}


def _fields_of(output: Output) -> dict[str, Schema]:
    if output.name and not output.proba and (output.values.ndim == 1 or output.nested):
        return {output.name: _value_of(output.values)}
    return {name: _value_of(values) for name, values in output.columns("prediction")}


def _value_of(values: np.ndarray) -> Schema:
    schema = _OUTPUTS.get(values.dtype.kind, {})
    for _ in values.shape[1:]:
        schema = {"type": "array", "items": schema}
    return schema
