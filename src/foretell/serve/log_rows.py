"""Requests' rows and answers as Arrow: the model's columns by its signature, then a batch job's columns of predictions,
then what is to be known of the request."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from foretell.batch import Answers, Batch, Call
from foretell.cells import Column
from foretell.tables.table_writer import typed

if TYPE_CHECKING:
    from foretell.serve.service import Service

ABOUT = pa.schema(
    [
        ("foretell_time", pa.timestamp("us", "UTC")),
        ("foretell_request_id", pa.string()),
        ("foretell_row", pa.int32()),
        ("foretell_latency_ms", pa.float64()),
        ("foretell_model", pa.string()),
        ("foretell_version", pa.string()),
        ("foretell_params", pa.string()),
    ]
)
"""Of a request: when it came, its id, the row's number in it, how long it took, who answered, with which params."""

_TYPES = {
    "boolean": pa.bool_(),
    "integer": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "binary": pa.binary(),
    "datetime": pa.timestamp("ns"),
    **{name: getattr(pa, name)() for name in ("int8", "int16", "uint8", "uint16", "uint32", "uint64", "float16")},
}


class Logged(NamedTuple):
    """A request to keep. time: when it came, since the epoch; seconds: until it was answered."""

    service: "Service"
    id: bytes
    time: float
    seconds: float
    call: Call
    batch: Batch
    answers: Answers


@dataclass(frozen=True)
class LogRows:
    """Rows of one version of a model. outputs: the names of the columns of predictions."""

    service: "Service"
    batch: pa.RecordBatch
    outputs: tuple[str, ...]

    @property
    def model(self) -> str:
        return self.service.meter.model


def batches(items: list[Logged]) -> Iterator[LogRows]:
    """What can be joined, joined."""
    alike: dict[object, list[Logged]] = {}
    for item in items:
        layout = tuple(
            (o.name, o.labels, o.proba, o.values.dtype.kind, o.values.shape[1:]) for o in item.answers.outputs
        )
        alike.setdefault((id(item.service), item.batch.shapes, layout), []).append(item)
    for group in alike.values():
        yield _rows(group)


def outputs_of(answers: Answers) -> list[tuple[str, pa.Array]]:
    """A batch job's columns of predictions."""
    return [(name, typed(values)) for name, values in answers.columns()]


def arrow_type(column: Column) -> pa.DataType:
    """Of a model's column."""
    made = _TYPES[column.type]
    for size in reversed(column.shape):
        made = pa.list_(made, size) if size >= 0 else pa.list_(made)
    return made


def _rows(group: list[Logged]) -> LogRows:
    service = group[0].service
    signature = service.predictor.signature
    batch = Batch.concat([item.batch for item in group])
    outputs = outputs_of(Answers.concat([item.answers for item in group]))
    inputs = [_cells(values, column) for values, column in zip(batch.columns, signature.inputs, strict=True)]
    arrays = [*inputs, *(array for _, array in outputs), *_about(group)]
    names = [*signature.names, *(name for name, _ in outputs), *ABOUT.names]
    return LogRows(service, pa.RecordBatch.from_arrays(arrays, names=names), tuple(name for name, _ in outputs))


def _about(group: list[Logged]) -> list[pa.Array]:
    counts = [item.batch.rows for item in group]
    meter = group[0].service.meter
    params = {item.call: _params(item.call) for item in group}
    each = [
        pa.array([int(item.time * 1e6) for item in group], ABOUT.field(0).type),
        pa.array([item.id.decode("latin-1") for item in group], pa.string()),
        None,
        pa.array([item.seconds * 1000 for item in group], pa.float64()),
        pa.array([meter.model] * len(group), pa.string()),
        pa.array([meter.version] * len(group), pa.string()),
        pa.array([params[item.call] for item in group], pa.string()),
    ]
    at = pa.array(np.repeat(np.arange(len(group)), counts))
    numbers = np.concatenate([np.arange(count, dtype="int32") for count in counts])
    return [pa.array(numbers) if values is None else values.take(at) for values in each]


def _params(call: Call) -> str | None:
    return json.dumps(dict(call.params), default=str) if call.params else None


def _cells(values: np.ndarray, column: Column) -> pa.Array:
    """A column of a Batch, nulls as nulls."""
    wanted = arrow_type(column)
    if column.shape:
        if -1 in column.shape or values.dtype.kind == "O":
            return pa.array(values.tolist(), wanted)
        flat = pa.array(values.reshape(-1), _TYPES[column.type])
        for size in reversed(values.shape[1:]):
            flat = pa.FixedSizeListArray.from_arrays(flat, size)
        return flat
    if values.dtype.kind == "O":
        return pa.array(values.tolist(), wanted)
    if values.dtype.kind == "f":
        missing = np.isnan(values)
        if column.cell.kind == "int":
            values = np.where(missing, 0, values).astype(column.cell.dtype)
        return pa.array(values, wanted, mask=missing if missing.any() else None)
    return pa.array(values, wanted)
