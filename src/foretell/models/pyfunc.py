"""Python models, models from code, and every flavour without a module of its own here: all by mlflow itself.

Such a model is code, so its answers are its own affair: one row's may depend on the rows beside it.
"""

import os
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from foretell.batch import Answers, Batch, Call
from foretell.cells import show
from foretell.errors import ModelUnreadable, RowRefused
from foretell.models.load import Loaded
from foretell.models.mlmodel import StoredModel
from foretell.models.pyfunc_outputs import outputs_of
from foretell.signature import Signature
from foretell.storage import contained

_NOTE = "its own Python code answers: whether a row's answer depends on the rows beside it was not checked"


def runs_code(model: StoredModel) -> list[str]:
    """Always: this names what would run first."""
    entry = _entry(model)
    if entry.get("model_code_path"):
        return [f"{_code_file(model, entry).name} (Python code)"]
    if entry.get("python_model"):
        return [f"{model.file(entry['python_model']).name} (a pickle)"]
    data = f"{show(entry['data'])}, loaded " if isinstance(entry.get("data"), str) else ""
    return [f"MLmodel ({data}by {show(entry.get('loader_module'))})"]


def load(model: StoredModel, trusted: bool) -> Loaded:
    """Loads it with mlflow, from its folder and nowhere else. Raises ModelUnreadable."""
    if not trusted:
        raise ModelUnreadable(f"{model.path} is Python code and was not trusted")
    entry = _entry(model)
    for named in ("data", "code"):
        if entry.get(named):
            contained(model.folder, entry[named])
    sys.dont_write_bytecode = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = _mlflow().pyfunc.load_model(str(model.path.resolve()), suppress_warnings=True)
    except ModuleNotFoundError:
        raise
    except Exception as error:
        raise ModelUnreadable(f"{model.path} cannot be loaded: {_said(error)}") from error
    names = _names(model)
    return Loaded(PythonEngine(loaded, names, model.signature), None, tuple(names) if names else None, (_NOTE,))


def _entry(model: StoredModel) -> dict[str, Any]:
    return model.flavours["python_function"]


def _code_file(model: StoredModel, entry: dict[str, Any]) -> Path:
    """MLmodel holds the path that the code had where it was saved; it lies in the folder under its own name."""
    named = entry["model_code_path"]
    return model.file(Path(named).name if isinstance(named, str) else named)


def _mlflow() -> Any:
    """mlflow without a word to anybody: no telemetry, and no traces, for which it would make a store here."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = os.environ["DO_NOT_TRACK"] = "true"
    import mlflow
    import mlflow.pyfunc

    mlflow.tracing.disable()
    return mlflow


def _names(model: StoredModel) -> list[str] | None:
    """The columns' names, by the signature or else by the input example."""
    if model.signature is not None:
        return model.signature.names if model.signature.named and model.signature.tensor is None else None
    columns = (model.example or {}).get("dataframe_split", {}).get("columns")
    return [str(name) for name in columns] if columns else None


class PythonEngine:
    """mlflow's own pyfunc, on frames or arrays just as its signature wants them."""

    name = "mlflow"
    proba = False
    block: int | None = None

    def __init__(self, loaded: Any, names: list[str] | None, signature: Signature | None) -> None:
        self._loaded = loaded
        self._names = names
        self._required = [column.required for column in signature.inputs] if signature is not None else None
        self._dtypes = [column.cell.dtype for column in signature.inputs] if signature is not None else None
        schema = loaded.metadata.get_input_schema()
        self._tensors: list[Any] = schema.inputs if schema is not None and schema.is_tensor_spec() else []
        self._listed = bool(getattr(loaded.metadata.signature, "_is_signature_from_type_hint", False))

    def predict(self, batch: Batch, call: Call) -> Answers:
        params = {name: list(value) if isinstance(value, tuple) else value for name, value in call.params}
        data = self._arrays(batch) if self._tensors else self._frame(batch)
        try:
            answer = self._loaded.predict(data, params=params or None)
        except Exception as error:
            if getattr(error, "error_class", "") or str(error).startswith("Failed to enforce schema"):
                raise RowRefused(f"the model refused the row: {str(error).rpartition('Error: ')[2]}") from error
            raise
        return Answers(outputs_of(answer))

    def _frame(self, batch: Batch) -> Any:
        """Columns by name; where the signature is a type hint, a list of the only column's values."""
        import pandas as pd

        if self._listed and len(batch.columns) == 1:
            return batch.columns[0].tolist()
        required = self._required or [True] * len(batch.columns)
        kinds = self._dtypes or [""] * len(batch.columns)
        columns: dict[Any, Any] = {}
        for at, column in enumerate(batch.columns):
            typed = _without_nulls(column, kinds[at])
            if required[at] or not pd.isna(typed).all():
                columns[self._names[at] if self._names else at] = pd.Series(typed, dtype=typed.dtype)
        return pd.DataFrame(columns, index=range(batch.rows))

    def _arrays(self, batch: Batch) -> Any:
        """One array, or a mapping of them where the tensors have names."""
        specs = self._tensors
        if len(specs) == 1 and len(specs[0].shape) == 2 and batch.columns[0].ndim == 1:
            arrays = [batch.matrix]
        else:
            arrays = batch.columns
        typed = [array.astype(spec.type, copy=False) for spec, array in zip(specs, arrays, strict=True)]
        shaped = [
            array[:, None] if array.ndim < len(spec.shape) else array for spec, array in zip(specs, typed, strict=True)
        ]
        return shaped[0] if specs[0].name is None else {s.name: a for s, a in zip(specs, shaped, strict=True)}


def _without_nulls(column: np.ndarray, dtype: str) -> np.ndarray:
    """An optional column of flags or whole numbers, which has room for nulls, as what it is where none is null."""
    if column.dtype == object and dtype == "bool" and all(value is not None for value in column):
        return column.astype(bool)
    if column.dtype == "float64" and dtype.startswith(("int", "uint")) and not np.isnan(column).any():
        return column.astype(dtype)
    return column


def _said(error: Exception) -> str:
    """What went wrong, in one line; mlflow wraps the model's own words."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}{': ' + text[:300] if text else ''}"
