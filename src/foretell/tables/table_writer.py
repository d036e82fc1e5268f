"""Rows → Parquet, or Arrow IPC as a file or a stream: carried columns with the types that they came with, then
predictions with the model's own."""

from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from foretell.batch import Answers, plain
from foretell.errors import OutputError, PredictionError
from foretell.signature import listed
from foretell.tables.kept import Kept
from foretell.tables.spelled import JSON
from foretell.tables.writer import Part

_GROUP_ROWS = 131_072
_GROUP_BYTES = 64 << 20


class Container(Protocol):
    """A file of a schema and of groups of rows, with an index at its end. A mark: what the index says of a group."""

    def opening(self, schema: pa.Schema) -> bytes: ...

    def group(self, table: pa.Table, at: int) -> tuple[bytes, bytes]:
        """A group, to stand at a place in the file, and its mark."""
        ...

    def closing(self, schema: pa.Schema, marks: list[bytes], at: int) -> bytes: ...


class TableWriter:
    """Gathers rows into groups of a fit size."""

    def __init__(self, prediction: str, container: Container) -> None:
        self.marks: list[bytes] = []
        self._prediction = prediction
        self._container = container
        self._schema: pa.Schema | None = None
        self._gathered: list[pa.RecordBatch] = []
        self._at = 0

    @property
    def held(self) -> bool:
        return any(batch.num_rows for batch in self._gathered)

    def part(self, kept: Kept, answers: Answers, spread: list[int | None] | None = None) -> Part:
        columns = answers.columns(self._prediction)
        names = [*kept.names, *(name for name, _ in columns)]
        made = [typed(values) for _, values in columns]
        if spread is not None:
            made = [array.take(pa.array(spread, pa.int64())) for array in made]
        batch = pa.RecordBatch.from_arrays([*kept.as_arrays(), *made], names=names)
        return Part(batch.num_rows, names, batch=batch)

    def add(self, part: Part) -> bytes:
        assert part.batch is not None  # noqa: S101
        if self._schema is None:
            self._schema = part.batch.schema
            self.marks.append(self._schema.serialize().to_pybytes())
        elif part.names != self._schema.names:
            raise PredictionError(
                f"the model first answered with {listed(self._schema.names)}, and then with {listed(part.names)}"
            )
        opening = b"" if self._at else self._out(self._made(lambda: self._container.opening(self._schema)))
        self._gathered.append(pa.record_batch(self._as_before(part.batch.columns), schema=self._schema))
        full = sum(batch.num_rows for batch in self._gathered) >= _GROUP_ROWS
        if full or sum(batch.nbytes for batch in self._gathered) >= _GROUP_BYTES:
            return opening + self._group()
        return opening

    def resume(self, marks: list[bytes], at: int) -> None:
        self.marks, self._at = list(marks), at
        self._schema = pa.ipc.read_schema(pa.py_buffer(marks[0])) if marks else None

    def end(self) -> bytes:
        if self._schema is None or not self._at:
            return b""
        last = self._group()
        return last + self._container.closing(self._schema, self.marks[1:], self._at)

    def following(self) -> "TableWriter":
        other = TableWriter(self._prediction, self._container)
        other.resume(self.marks[:1], 0)
        return other

    def rows(self, kept: Kept, answers: Answers) -> bytes:
        return self.add(self.part(kept, answers))

    def _group(self) -> bytes:
        """What was gathered, as one group."""
        if not self.held:
            return b""
        table = pa.Table.from_batches(self._gathered).combine_chunks()
        self._gathered = []
        data, mark = self._made(lambda: self._container.group(table, self._at))
        self.marks.append(mark)
        return self._out(data)

    def _out(self, data: bytes) -> bytes:
        self._at += len(data)
        return data

    def _made(self, make: Any) -> Any:
        try:
            return make()
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
            reason = str(error).splitlines()[0][:200]
            raise OutputError(
                f"the output cannot hold such columns: {reason}", "Leave them out: --keep none"
            ) from error

    def _as_before(self, arrays: list[pa.Array]) -> list[pa.Array]:
        assert self._schema is not None  # noqa: S101
        made = []
        for array, field in zip(arrays, self._schema, strict=True):
            try:
                made.append(array if array.type == field.type else array.cast(field.type))
            except pa.ArrowException as error:
                raise PredictionError(
                    f"the column {field.name!r} was first {field.type}, and is then {array.type}"
                ) from error
        return made


def typed(values: np.ndarray) -> pa.Array:
    """Answers of shape (rows, …) in Arrow's type for their dtype, lists of a fixed size for further dimensions; null
    where not finite or NaT."""
    flat = _flat(values.reshape(-1))
    for size in reversed(values.shape[1:]):
        flat = pa.FixedSizeListArray.from_arrays(flat, size)
    return flat


def _flat(values: np.ndarray) -> pa.Array:
    kind = values.dtype.kind
    if kind == "f":
        finite = np.isfinite(values)
        return pa.array(values, _TYPES.get(values.dtype.name), mask=None if finite.all() else ~finite)
    if kind == "M":
        return pa.array(values.astype("datetime64[ns]"), pa.timestamp("ns"))
    if kind in "biu":
        return pa.array(values)
    return _objects(plain(values))


_TYPES = {"float16": pa.float16(), "float32": pa.float32(), "float64": pa.float64()}


def _objects(cells: list[Any]) -> pa.Array:
    """Python values: of one type where they have one; else text, each as JSON writes it."""
    kinds = {type(cell) for cell in cells if cell is not None}
    for types, arrow in (({str}, pa.string()), ({bool}, pa.bool_()), ({int}, pa.int64()), ({int, float}, pa.float64())):
        if kinds <= types:
            return pa.array(cells, arrow)
    return pa.array([None if cell is None else JSON.encode(cell).decode() for cell in cells], pa.string())
