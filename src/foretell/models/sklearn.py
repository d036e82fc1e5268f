"""scikit-learn models, predicted by the library itself, on blocks of one shape."""

import inspect
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from foretell.batch import Answers, Batch, Call, Output
from foretell.cells import Column
from foretell.errors import ModelUnreadable, RowRefused
from foretell.models.load import Loaded, import_code
from foretell.models.mlmodel import StoredModel
from foretell.models.requirements import note, saved_with
from foretell.models.sklearn_files import (
    REVIEWED,
    check_machines,
    check_trees,
    is_skops,
    load_pickle,
    load_skops,
    untrusted,
)
from foretell.signature import Signature

_BLOCK = 256
_FRAME_BLOCK = 1024
_ROW_BY_ROW = tuple(
    f"sklearn.{name}"
    for name in (
        "_loss",
        "compose.",
        "dummy",
        "ensemble._bagging",
        "ensemble._forest",
        "ensemble._gb",
        "ensemble._hist_gradient_boosting",
        "ensemble._iforest",
        "ensemble._weight_boosting",
        "impute._base",
        "pipeline",
        "preprocessing.",
        "tree.",
        "utils",
    )
)
"""Modules whose estimators compute each row by itself; an ensemble's members are looked at one by one."""
_BY_COLUMNS = ("AdaBoostClassifier", "HistGradientBoostingClassifier")
"""Estimators that have classes' scores a column after the other. numpy adds up a row of them in another order where it
is alone, which eight or more of them tell."""


def runs_code(model: StoredModel) -> list[str]:
    """A pickle always does; a skops file, where it holds types that nobody reviewed."""
    path = model_file(model)
    if not is_skops(path):
        return [f"{path.name} (a pickle)"]
    unknown = [name[:100] for name in untrusted(path) if name not in REVIEWED]
    return (
        [f"{path.name} (a skops file with {', '.join(unknown[:5])}{', …' if len(unknown) > 5 else ''})"]
        if unknown
        else []
    )


def load(model: StoredModel, trusted: bool) -> Loaded:
    """Loads the estimator. trusted: it may be unpickled, and a skops file may hold any type."""
    path = model_file(model)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if is_skops(path):
            estimator = load_skops(path, trusted)
        elif trusted:
            import_code(model)
            estimator = load_pickle(path)
        else:
            raise ModelUnreadable(f"{path} is a pickle and was not trusted")
    if not hasattr(estimator, "predict"):
        raise ModelUnreadable(f"{path} holds a {type(estimator).__name__}, which has no predict")
    check_trees(parts(estimator), path)
    check_machines(parts(estimator), path)
    for part in parts(estimator):
        if getattr(part, "n_jobs", None) is not None:
            part.n_jobs = None
    return Loaded(SklearnEngine(estimator), known_columns(estimator), _names(estimator), _notes(model, caught))


def _notes(model: StoredModel, caught: list[warnings.WarningMessage]) -> tuple[str, ...]:
    """The version that a file itself says it was saved with, where the model's description does not."""
    said = {str(getattr(warning.message, "original_sklearn_version", "")) for warning in caught} - {""}
    if not said or saved_with(model, "sklearn"):
        return ()
    return note(model, "scikit-learn", min(said))


def model_file(model: StoredModel) -> Path:
    """The file that holds the estimator."""
    if model.path.is_file():
        return model.path
    entry = model.flavours["sklearn"]
    return model.file(entry.get("pickled_model") or model.flavours.get("python_function", {}).get("model_path"))


def parts(estimator: Any) -> Iterator[Any]:
    """The estimator and all that it is made of: steps, transformers, members."""
    seen: set[int] = set()
    waiting = [estimator]
    while waiting:
        part = waiting.pop()
        if id(part) in seen or isinstance(part, str | bytes | int | float | np.generic | type(None)):
            continue
        seen.add(id(part))
        if isinstance(part, list | tuple):
            waiting.extend(part)
        elif isinstance(part, np.ndarray):
            waiting.extend(part.ravel().tolist() if part.dtype == object else [])
        elif isinstance(part, dict):
            waiting.extend(part.values())
        elif type(part).__module__.startswith("sklearn.") or hasattr(part, "get_params"):
            yield part
            waiting.extend(getattr(part, "__dict__", {}).values())


def known_columns(estimator: Any) -> Signature | None:
    """What the estimator itself knows of its inputs, which then are doubles; None where it may take other types."""
    if _needs_frame(estimator):
        return None
    names = _names(estimator)
    if names is not None:
        return Signature(tuple(Column(name, "double") for name in names))
    count = getattr(estimator, "n_features_in_", None)
    return Signature.unnamed(int(count)) if count else None


class SklearnEngine:
    """The training library itself, on blocks of one shape. model: the estimator. framed: whether it is given a frame.
    takes: what its predict may be given besides rows."""

    name = "scikit-learn"

    def __init__(self, estimator: Any) -> None:
        self.model = estimator
        self.proba = hasattr(estimator, "predict_proba")
        self.framed = _needs_frame(estimator)
        block = _FRAME_BLOCK if self.framed else _BLOCK
        self.block = None if all(map(_is_row_by_row, parts(estimator))) else block
        self._names = _names(estimator) if self.framed else None
        self._text = not hasattr(estimator, "n_features_in_")
        self.takes = set(inspect.signature(estimator.predict).parameters)
        # Rows arrive in the signature's order, by which names were checked already.
        warnings.filterwarnings("ignore", "X does not have valid feature names", UserWarning)

    def predict(self, batch: Batch, call: Call) -> Answers:
        rows = self._rows(batch)
        options = {name: value for name, value in call.params if name in self.takes}
        try:
            outputs = _outputs(self.model.predict(rows, **options))
            if call.proba:
                outputs += _probabilities(self.model, self.model.predict_proba(rows))
        except ValueError as error:
            if _is_refusal(error):
                raise RowRefused(f"the model refused the row: {str(error).splitlines()[0]}") from error
            raise
        return Answers(outputs)

    def _rows(self, batch: Batch) -> Any:
        if self._names is None:
            columns = batch.columns
            if self._text and len(columns) == 1:
                return columns[0]
            if any(column.dtype == object for column in columns):
                return np.column_stack([_missing_as_nan(column) for column in columns])
            return batch.matrix if columns[0].ndim == 1 else columns[0]
        import pandas as pd

        series = [pd.Series(_missing_as_nan(column), dtype=column.dtype) for column in batch.columns]
        return pd.DataFrame(dict(zip(self._names, series, strict=True)), copy=False)


def _missing_as_nan(column: np.ndarray) -> np.ndarray:
    """Strings were missing as NaN in the frames that models are trained on."""
    if column.dtype != object:
        return column
    missing = np.array([value is None for value in column], bool)
    return np.where(missing, np.nan, column) if missing.any() else column


def _outputs(answer: Any) -> tuple[Output, ...]:
    if isinstance(answer, tuple):
        return tuple(Output(str(at), np.asarray(values)) for at, values in enumerate(answer))
    values = np.asarray(answer)
    return (Output("", values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values),)


def _probabilities(estimator: Any, answer: Any) -> tuple[Output, ...]:
    if isinstance(answer, list):
        return tuple(
            Output(str(at), np.asarray(values), tuple(map(str, classes)), proba=True)
            for at, (values, classes) in enumerate(zip(answer, estimator.classes_, strict=True))
        )
    return (Output("", np.asarray(answer), tuple(map(str, estimator.classes_)), proba=True),)


def _is_refusal(error: ValueError) -> bool:
    """Whether the library's own input validation raised it: the innermost frame says."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = trace.tb_frame.f_globals.get("__name__", "") if trace is not None else ""
    return module.startswith(("sklearn.utils.validation", "sklearn.utils._encode", "sklearn.preprocessing._encoders"))


def _is_row_by_row(part: Any) -> bool:
    kind = type(part)
    by_columns = kind.__name__ in _BY_COLUMNS and len(getattr(part, "classes_", ())) >= 8
    return kind.__module__.startswith(_ROW_BY_ROW) and not by_columns


def _needs_frame(estimator: Any) -> bool:
    """Whether columns are picked by name or by type inside, or parts that are not scikit-learn's may do so."""
    free = ("ColumnTransformer", "FunctionTransformer", "ColumnSelector")
    by_type = (
        "OneHotEncoder",
        "OrdinalEncoder",
        "TargetEncoder",
        "HistGradientBoostingClassifier",
        "HistGradientBoostingRegressor",
    )
    for part in parts(estimator):
        kind = type(part)
        if kind.__name__ in free or not kind.__module__.startswith("sklearn."):
            return True
        if kind.__name__ in by_type and _has_categories(part):
            return True
    return False


def _has_categories(part: Any) -> bool:
    mask = getattr(part, "is_categorical_", None)
    return hasattr(part, "categories_") or (mask is not None and bool(np.any(mask)))


def _names(estimator: Any) -> tuple[str, ...] | None:
    names = getattr(estimator, "feature_names_in_", None)
    return None if names is None else tuple(str(name) for name in names)
