"""statsmodels' results: pickles, predicted by the library, as MLflow does: by name in a formula, else by place."""

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from foretell.batch import Answers, Batch, Call, Output
from foretell.cells import Column
from foretell.errors import ModelUnreadable, RowRefused
from foretell.models.load import Loaded, import_code
from foretell.models.mlmodel import StoredModel
from foretell.signature import Signature

_BLOCK = 256
_FORMULA_BLOCK = 1024
"""Rows of a formula's frame, whose making costs more than its sums."""


def runs_code(model: StoredModel) -> list[str]:
    """Always: results are pickles."""
    return [f"{_file(model).name} (a pickle)"]


def load(model: StoredModel, trusted: bool) -> Loaded:
    """Unpickles the results of a fit. Raises ModelUnreadable."""
    path = _file(model)
    if not trusted:
        raise ModelUnreadable(f"{path} is a pickle and was not trusted")
    import_code(model)
    results = _unpickled(path)
    fitted = getattr(results, "model", None)
    if fitted is None or not hasattr(results, "predict"):
        raise ModelUnreadable(f"{path} holds a {type(results).__name__}, which is no fitted statsmodels model")
    if _is_series(fitted):
        raise ModelUnreadable(
            f"{path} holds a time series ({type(fitted).__name__}), which forecasts a span, and not row by row",
            "Write its forecasts with statsmodels' own forecast(), one row a period",
        )
    if not hasattr(fitted, "formula"):
        known = _columns(fitted)
        stored = model.signature or known
        return Loaded(StatsmodelsEngine(results, stored.names if stored is not None and stored.named else None), known)
    columns = _variables(fitted)
    names = tuple(columns) or tuple(model.signature.names if model.signature is not None else ())
    known = Signature(tuple(columns.values())) if columns else None
    return Loaded(StatsmodelsEngine(results, list(names), by_name=True), known, names)


def _file(model: StoredModel) -> Path:
    entry = model.flavours["statsmodels"]
    return model.file(entry.get("data") or model.flavours.get("python_function", {}).get("data"))


def _unpickled(path: Path) -> Any:
    """By the library's own reader; a formula is read again then, and looks for np in the frames that call it."""
    from statsmodels.iolib.smpickle import load_pickle

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return load_pickle(str(path))
    except ModuleNotFoundError:
        raise
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "")
        raise ModelUnreadable(f"{path} cannot be unpickled: {type(error).__name__} {reason}") from error


def _is_series(fitted: Any) -> bool:
    from statsmodels.tsa.base.tsa_model import TimeSeriesModel

    return isinstance(fitted, TimeSeriesModel)


def _columns(fitted: Any) -> Signature | None:
    """What it was fitted on: named doubles from a frame, else as many unnamed ones; a constant counts too."""
    exog = getattr(getattr(fitted, "data", None), "orig_exog", None)
    if exog is None or getattr(exog, "ndim", 0) != 2:
        return None
    names = getattr(exog, "columns", None)
    if names is None:
        return Signature.unnamed(exog.shape[1])
    return Signature(tuple(Column(str(name), "double") for name in names))


def _variables(fitted: Any) -> dict[str, Column]:
    """The columns of the frame that it was fitted on which the formula's right side speaks of."""
    frame = getattr(fitted.data, "frame", None)
    if frame is None:
        return {}
    right = str(fitted.formula).partition("~")[2]
    words = set(re.findall(r"[^\W\d]\w*", right)) | {quoted[1] for quoted in re.findall(r"Q\(\s*(['\"])(.*?)\1", right)}
    return {
        str(name): Column(str(name), {"f": "double", "i": "double", "u": "double", "b": "boolean"}.get(kind, "string"))
        for name, kind in ((name, getattr(frame[name].dtype, "kind", "O")) for name in frame.columns)
        if str(name) in words
    }


class StatsmodelsEngine:
    """The library itself, on blocks of one shape."""

    name = "statsmodels"
    proba = False

    def __init__(self, results: Any, names: list[str] | None, *, by_name: bool = False) -> None:
        self._results = results
        self._names = names
        self.block: int | None = _FORMULA_BLOCK if by_name else _BLOCK

    def predict(self, batch: Batch, call: Call) -> Answers:
        rows = batch.matrix if self._names is None else self._frame(batch, self._names)
        try:
            answer = self._results.predict(rows)
        except Exception as error:
            if type(error).__module__.partition(".")[0] not in ("patsy", "formulaic"):
                raise
            lines = [line.strip() for line in str(error).splitlines() if line.strip(" ^")]
            reason = next((line for line in reversed(lines) if ":" in line or " " in line), "")
            raise RowRefused(f"the model's formula refused the row: {reason[:200]}") from error
        return Answers((Output("", np.asarray(answer)),))

    def _frame(self, batch: Batch, names: list[str]) -> Any:
        import pandas as pd

        series = [pd.Series(column, dtype=column.dtype) for column in batch.columns]
        return pd.DataFrame(dict(zip(names, series, strict=True)), copy=False)
