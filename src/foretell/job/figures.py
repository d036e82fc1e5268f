"""What a job's report tells of its rows: nulls by input column, and how the predictions are distributed. A block's are
counted where it is worked on; they add up, and a commit keeps the sum, so that a job that is gone on with tells the
same."""

import msgspec
import numpy as np
import pyarrow as pa

from foretell.batch import Answers, Batch
from foretell.job.counting import distribution, null_rows
from foretell.job.distribution import Distribution
from foretell.tables.kept import Kept

_COLUMNS = 32
"""So many columns of predictions are told of."""
_NULL = msgspec.Raw(b"null")


class Figures(msgspec.Struct, frozen=True):
    """rows: that were predicted. nulls: rows by input column, of those that have some. predictions: by their column."""

    rows: int = 0
    nulls: dict[str, int] = msgspec.field(default_factory=dict)
    predictions: dict[str, Distribution] = msgspec.field(default_factory=dict)

    def __add__(self, other: "Figures") -> "Figures":
        nulls = dict(self.nulls)
        for name, rows in other.nulls.items():
            nulls[name] = nulls.get(name, 0) + rows
        predictions = dict(self.predictions)
        for name, found in other.predictions.items():
            predictions[name] = predictions[name] + found if name in predictions else found
        return Figures(self.rows + other.rows, nulls, predictions)


def figures(
    names: list[str],
    batch: Batch,
    kept: Kept,
    answers: Answers,
    prediction: str,
    rows: "list[int] | np.ndarray | None" = None,
) -> Figures:
    """Of one block. names: the inputs'. batch, answers: of the rows that were predicted. kept: what is carried along;
    rows: of which of it, None for all."""
    if not batch.rows:
        return Figures()
    nulls = _carried(kept, rows) | dict(zip(names, _nulls(batch), strict=True))
    outputs = answers.columns(prediction)[:_COLUMNS]
    found = {name: distribution(values) for name, values in outputs if values.ndim == 1}
    return Figures(batch.rows, {name: count for name, count in nulls.items() if count}, found)


def _nulls(batch: Batch) -> list[int]:
    if batch.uniform and not (batch.matrix.dtype.kind == "f" and np.isnan(np.min(batch.matrix))):
        return [0] * batch.matrix.shape[1]
    return [null_rows(column) for column in batch.columns]


def _carried(kept: Kept, rows: "list[int] | np.ndarray | None") -> dict[str, int]:
    if kept.records is not None:
        records = kept.records if rows is None else [kept.records[row] for row in rows]
        return {name: sum(record.get(name, _NULL) == _NULL for record in records) for name in kept.names}
    columns = kept.columns
    if rows is not None:
        taken = pa.array(rows, pa.int64())
        columns = [column.take(taken) if column.null_count else column for column in columns]
    return {name: column.null_count for name, column in zip(kept.names, columns, strict=True)}
