"""Rows → Parquet, or Arrow IPC as a file or a stream: carried columns with the types that they came with, then
predictions with the model's own."""

from typing import Any

import numpy as np
import pyarrow as pa

from foretell.batch import Answers, plain
from foretell.errors import OutputError, PredictionError
from foretell.signature import listed
from foretell.tables.compression import Collected
from foretell.tables.kept import Kept
from foretell.tables.spelled import JSON

_GROUP_ROWS = 131_072
_GROUP_BYTES = 64 << 20


class TableWriter:
    """Gathers rows into row groups, or record batches, of a fit size. kind: "parquet", "file" or "stream"."""

    def __init__(self, prediction: str, kind: str) -> None:
        self._prediction = prediction
        self._kind = kind
        self._out = Collected()
        self._writer: Any = None
        self._schema: pa.Schema | None = None
        self._held: list[pa.RecordBatch] = []

    def rows(self, kept: Kept, answers: Answers) -> bytes:
        columns = answers.columns(self._prediction)
        names = [*kept.names, *(name for name, _ in columns)]
        arrays = [*kept.as_arrays(), *(typed(values) for _, values in columns)]
        if self._schema is None:
            self._schema = pa.schema(list(zip(names, (array.type for array in arrays), strict=True)))
        elif names != self._schema.names:
            raise PredictionError(
                f"the model first answered with {listed(self._schema.names)}, and then with {listed(names)}"
            )
        self._held.append(pa.record_batch(self._as_before(arrays), schema=self._schema))
        full = sum(batch.num_rows for batch in self._held) >= _GROUP_ROWS
        return self._write() if full or sum(batch.nbytes for batch in self._held) >= _GROUP_BYTES else b""

    def end(self) -> bytes:
        return self._write(end=True)

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

    def _write(self, *, end: bool = False) -> bytes:
        """What is held, as one row group; with end, all that is left."""
        try:
            if self._writer is None:
                self._writer = self._opened()
            if any(batch.num_rows for batch in self._held):
                table = pa.Table.from_batches(self._held).combine_chunks()
                self._writer.write_table(table, max(table.num_rows, 1))
            self._held = []
            if end:
                self._writer.close()
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
            reason = str(error).splitlines()[0][:200]
            raise OutputError(
                f"the output cannot hold such columns: {reason}", "Leave them out: --keep none"
            ) from error
        return self._out.take()

    def _opened(self) -> Any:
        if self._kind == "parquet":
            import pyarrow.parquet as pq

            return pq.ParquetWriter(self._out, self._schema, compression="snappy")
        opener = pa.ipc.new_file if self._kind == "file" else pa.ipc.new_stream
        return opener(pa.PythonFile(self._out, "w"), self._schema)


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
