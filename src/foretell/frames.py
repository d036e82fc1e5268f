"""Python's own tables ⇄ Batch: `foretell.load(uri).predict(x)` for pandas, polars, Arrow, numpy and plain lists."""

import warnings
from typing import Any

import numpy as np
import pyarrow as pa

from foretell import predictor
from foretell.batch import Answers, Batch, Call
from foretell.columns import from_arrow
from foretell.compiler.compile import obtained
from foretell.errors import CellWrong, FormWrong, UsageError
from foretell.models.proven import NATIVE
from foretell.predictor import Predictor
from foretell.signature import Signature, check_names
from foretell.tables.arrow_rows import positions
from foretell.tables.arrow_rows import to_batch as arrow_to_batch
from foretell.tables.table_writer import typed
from foretell.tensors import from_lists, from_numpy


def load(
    uri: str, *, registry: str | None = None, trust: bool = False, schema: str | None = None, engine: str = "auto"
) -> "Model":
    """Loads a model: models:/NAME/STAGE, a folder in MLflow's format, or a bare model file.

    registry: as --registry; else what the environment names, or what lies in the working directory or above it.
    trust: it may run code when it loads, as a pickle does. schema: a file that describes its columns.
    engine: as --engine: "auto" for what was proven equal, if the model was compiled, else its own library; "native"; or
    an engine by name, made if it is not there. Raises ModelError, UsageError.
    """
    found = predictor.find(uri, registry=registry, trust=trust, engine=engine, variant=predictor.variant(schema, None))
    if engine not in (predictor.AUTO, NATIVE):
        found = obtained(found, engine, schema=schema, cast=None, say=lambda told: warnings.warn(told, stacklevel=4))
    opened = predictor.load(found, schema=schema)
    for note in opened.resolved.notes:
        warnings.warn(note, stacklevel=2)
    return Model(opened)


class Model:
    """A loaded model. Answers with the same bits as `foretell models predict` and `serve`."""

    def __init__(self, opened: Predictor) -> None:
        self._predictor = opened

    @property
    def signature(self) -> Signature:
        """Its inputs, outputs and params."""
        return self._predictor.signature

    def __repr__(self) -> str:
        return f"<foretell model: {self._predictor.resolved.label}, {self._predictor.engine.name}>"

    def predict(self, x: Any, params: dict[str, Any] | None = None) -> Any:
        """One answer a row, as the kind of table that was given.

        x: a pandas or polars frame, an Arrow table, a numpy array of shape (rows, columns) or (rows, *tensor), a dict
        of arrays by name, or a list of lists or dicts. Returns a Series, an Arrow array, or an array of shape
        (rows, …); several outputs as a frame, a table, an array of shape (rows, k), or a dict of arrays where they
        are tensors. A pandas index is kept. Raises InputError, PredictionError.
        """
        return self._answer(x, params or {}, proba=False)

    def predict_proba(self, x: Any, params: dict[str, Any] | None = None) -> Any:
        """Class probabilities: a frame with the columns probability_<class>, or an array of shape (rows, classes)."""
        return self._answer(x, params or {}, proba=True)

    def _answer(self, x: Any, params: dict[str, Any], *, proba: bool) -> Any:
        call = Call(proba, self.signature.call_params(params))
        answers = self._predictor.predict(to_batch(x, self._predictor), call)
        if proba:
            answers = Answers(tuple(output for output in answers.outputs if output.proba))
        return _like(x, answers)


def to_batch(x: Any, opened: Predictor) -> Batch:
    """Any of Python's tables as a checked batch. Raises InputError, naming row and column."""
    signature = opened.signature
    try:
        if isinstance(x, list | tuple):
            return opened.decoder.values(list(x))
        if isinstance(x, np.ndarray):
            return _from_numpy(x, opened)
        if isinstance(x, dict):
            return _from_arrays(x, opened)
        if not signature.tabular and type(x).__module__.partition(".")[0] == "pandas":
            return _from_arrays({str(name): _cells(x[name]) for name in x.columns}, opened)
        try:
            table = _table(x)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            return opened.decoder.values(x.to_dict("records"))
        if table is None:
            raise UsageError(
                f"a {type(x).__name__} holds no rows that foretell reads", "Give a frame, an array or a list"
            )
        return _from_table(table, signature)
    except CellWrong as error:
        if error.column is None:
            raise error.at(f"row {error.row}") from error
        raise error.at(f"row {error.row}, column {signature.names[error.column]!r}") from error


def _table(x: Any) -> pa.Table | None:
    home = type(x).__module__.partition(".")[0]
    if isinstance(x, pa.RecordBatch):
        return pa.Table.from_batches([x])
    if isinstance(x, pa.Table):
        return x
    if home == "pandas" and hasattr(x, "columns"):
        return pa.Table.from_pandas(_text_names(x), preserve_index=False)
    if home == "polars" and hasattr(x, "columns"):
        return x.to_arrow()
    return None


def _text_names(frame: Any) -> Any:
    return frame if all(isinstance(name, str) for name in frame.columns) else frame.rename(columns=str)


def _from_table(table: pa.Table, signature: Signature) -> Batch:
    columns = table.columns
    given = [None if at is None else columns[at] for at in positions(table.schema, signature)]
    return arrow_to_batch(given, table.num_rows, signature)


def _from_arrays(arrays: dict[str, Any], opened: Predictor) -> Batch:
    """Arrays, or lists, by name."""
    signature = opened.signature
    if all(isinstance(values, list) for values in arrays.values()):
        return opened.decoder.named_columns(arrays)
    if not signature.named and len(arrays) == 1:
        return _from_numpy(np.asarray(next(iter(arrays.values()))), opened)
    check_names(signature, list(arrays))
    counts = {len(arrays[name]) for name in signature.names if name in arrays}
    if len(counts) != 1:
        raise FormWrong("the columns are not equally long arrays")
    rows, columns = counts.pop(), []
    for at, column in enumerate(signature.inputs):
        values = _cells(arrays[str(column.name)]) if column.name in arrays else None
        if column.shape and values is not None and values.dtype != object:
            columns.append(from_numpy(values, column, at))
        elif column.shape and values is not None:
            columns.append(from_lists(pa.array(values.tolist()), column, at))
        else:
            columns.append(from_arrow(pa.nulls(rows) if values is None else pa.array(values), column, at))
    return Batch(rows, columns)


def _cells(values: Any) -> np.ndarray:
    """A column's cells as an array; of arrays or lists of one shape, one array of them all."""
    array = np.asarray(values)
    if array.dtype != object or array.ndim != 1 or not len(array) or not isinstance(array[0], list | np.ndarray):
        return array
    try:
        return np.array(array.tolist())
    except ValueError:
        return array


def _from_numpy(x: np.ndarray, opened: Predictor) -> Batch:
    signature = opened.signature
    if len(signature.inputs) == 1 and signature.inputs[0].shape and x.dtype != object:
        return Batch(len(x), [from_numpy(x, signature.inputs[0], 0)])
    if not signature.tabular or x.dtype == object or x.ndim != 2:
        return opened.decoder.values(x.tolist() if x.dtype != object else [_plain_row(row) for row in x])
    if x.shape[1] != len(signature.inputs):
        raise FormWrong(f"the model takes {len(signature.inputs)} columns, and the array has {x.shape[1]}")
    if x.dtype == signature.uniform and x.dtype.kind == "f" and not np.isinf(x).any():
        return Batch.of(np.ascontiguousarray(x))
    arrays = [pa.array(np.ascontiguousarray(x[:, at])) for at in range(x.shape[1])]
    return Batch(len(x), [from_arrow(values, signature.inputs[at], at) for at, values in enumerate(arrays)])


def _plain_row(row: Any) -> Any:
    return row.tolist() if isinstance(row, np.ndarray) else row


def _like(x: Any, answers: Answers) -> Any:
    """The answers as the kind of table that x is."""
    columns = answers.columns()
    home = type(x).__module__.partition(".")[0]
    single = len(columns) == 1 and not answers.outputs[0].proba
    if home == "pandas":
        import pandas as pd

        frame = pd.DataFrame({name: v if v.ndim == 1 else list(v) for name, v in columns}, index=x.index)
        return frame[columns[0][0]] if single else frame
    if home == "polars":
        import polars as pl

        made = pl.DataFrame(
            {name: pl.Series(values.tolist()) if values.dtype == object else values for name, values in columns}
        )
        return made.to_series(0) if single else made
    if home == "pyarrow":
        table = pa.table({name: pa.array(v) if v.ndim == 1 else typed(v) for name, v in columns})
        return table.column(0).combine_chunks() if single else table
    outputs = answers.outputs
    if len(outputs) > 1 and any(values.ndim > 1 for _, values in columns):
        return dict(columns)
    return outputs[0].values if len(outputs) == 1 else np.column_stack([values for _, values in columns])
