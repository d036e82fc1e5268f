"""Rows of a log of predictions that will be one file: of one version of a model, with one schema from its signature."""

from io import BytesIO
from time import monotonic

import pyarrow as pa

from foretell import __version__
from foretell.registry.choose import without_secrets
from foretell.serve.log_rows import ABOUT, LogRows, arrow_type, outputs_of

_RENAMED = "input_"


class LogTable:
    """since: when its first rows came, by the monotonic clock."""

    def __init__(self, first: LogRows) -> None:
        self.since = monotonic()
        self.rows = self.bytes = 0
        self.model, self.version = first.service.meter.model, first.service.meter.version
        self._service = first.service
        self._batches: list[pa.RecordBatch] = []
        self._outputs = _outputs(first)
        self._schema = self._made_schema()

    def fits(self, rows: LogRows) -> bool:
        """Whether these can stand in the same file."""
        if rows.service is not self._service:
            return False
        width = len(rows.service.predictor.signature.inputs)
        given = zip(rows.outputs, rows.batch.columns[width:], strict=False)
        return all(_holds(self._outputs.get(name), array) for name, array in given)

    def add(self, rows: LogRows) -> None:
        count, given = rows.batch.num_rows, rows.batch.columns
        width = len(self._service.predictor.signature.inputs)
        inputs, about = given[:width], given[width + len(rows.outputs) :]
        answered = dict(zip(rows.outputs, given[width:], strict=False))
        outputs = [
            answered[name].cast(kind) if name in answered else pa.nulls(count, kind)
            for name, kind in self._outputs.items()
        ]
        batch = pa.RecordBatch.from_arrays([*inputs, *outputs, *about], schema=self._schema)
        self._batches.append(batch)
        self.rows += count
        self.bytes += batch.nbytes

    def packed(self) -> bytes:
        """The file."""
        import pyarrow.parquet as pq

        out = BytesIO()
        pq.write_table(pa.Table.from_batches(self._batches), out, compression="zstd")
        return out.getvalue()

    def _made_schema(self) -> pa.Schema:
        predictor = self._service.predictor
        signature = predictor.signature
        taken = {*self._outputs, *ABOUT.names}
        fields = [
            pa.field(_free(name, taken), arrow_type(column))
            for name, column in zip(signature.names, signature.inputs, strict=True)
        ]
        fields += [pa.field(name, kind) for name, kind in self._outputs.items()]
        resolved = predictor.resolved
        about = {
            "foretell.model": self.model,
            "foretell.version": self.version,
            "foretell.uri": without_secrets(resolved.uri),
            "foretell.digest": resolved.digest,
            "foretell.engine": predictor.engine.name,
            "foretell": __version__,
        }
        return pa.schema([*fields, *ABOUT], metadata=about)


def _outputs(first: LogRows) -> dict[str, pa.DataType]:
    """Columns of predictions: those of the example's answers, with and without probabilities, where they hold what was
    answered; else of the first answers."""
    width = len(first.service.predictor.signature.inputs)
    given = {name: first.batch.column(width + at).type for at, name in enumerate(first.outputs)}
    known: dict[str, pa.DataType] = {}
    for sample in first.service.samples:
        known |= {name: array.type for name, array in outputs_of(sample)}
    return known if all(known.get(name) == kind for name, kind in given.items()) else given


def _holds(kind: pa.DataType | None, array: pa.Array) -> bool:
    return kind is not None and bool(array.type == kind or array.null_count == len(array))


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name = _RENAMED + name
    taken.add(name)
    return name
