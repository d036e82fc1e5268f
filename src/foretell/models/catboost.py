"""CatBoost models in the library's own formats, predicted by the library itself."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from foretell import imports
from foretell.batch import Answers, Batch, Call, Output
from foretell.cells import Column
from foretell.errors import ModelUnreadable, RowRefused
from foretell.models.boosters import matrix, model_file, number_column, output
from foretell.models.catboost_files import check, has_more
from foretell.models.load import Loaded
from foretell.models.mlmodel import StoredModel
from foretell.signature import Signature

_TYPES = ("CatBoost", "CatBoostClassifier", "CatBoostRegressor", "CatBoostRanker")
_FORMATS = ("cbm", "json")


def runs_code(model: StoredModel) -> list[str]:
    """Trees and numbers run nothing, and are checked. What the library keeps for categories and text, and its JSON, it
    follows without a look, so a file that was made for it could do anything."""
    path = model_file(model, "catboost")
    if _form(model) == "json":
        return [f"{path.name} (CatBoost's JSON, which cannot be checked)"]
    return [f"{path.name} (tables for categories or text, which cannot be checked)"] if has_more(_bytes(path)) else []


def load(model: StoredModel, trusted: bool) -> Loaded:
    """Loads the model. Raises ModelUnreadable."""
    path = model_file(model, "catboost")
    entry = {} if model.path.is_file() else model.flavours["catboost"]
    kind, form = entry.get("model_type"), _form(model)
    if entry and kind not in _TYPES:
        raise ModelUnreadable(f"{path} is a {kind!r}, which CatBoost does not have")
    if form not in _FORMATS:
        raise ModelUnreadable(f"{path} is in CatBoost's format {form!r}; foretell reads {' and '.join(_FORMATS)}")
    with warnings.catch_warnings(), imports.without("sklearn", "pandas"):
        warnings.simplefilter("ignore")
        import catboost

        if catboost._catboost.pd is None:  # one half of the library has stand-ins for pandas, the other forgot
            catboost._catboost.pd = catboost.core.pd
        loaded = _read(catboost, kind, form, path)
    engine = CatboostEngine(catboost, loaded)
    return Loaded(engine, engine.columns, tuple(engine.columns.names) if engine.columns.named else None)


def _form(model: StoredModel) -> str:
    return str(model.flavours.get("catboost", {}).get("save_format") or "cbm")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelUnreadable(f"{path} cannot be read: {error.strerror}") from error


def _read(catboost: Any, kind: str | None, form: str, path: Path) -> Any:
    """A bare file does not say which class trained it: a classifier where it names classes."""
    if form == "cbm":
        check(_bytes(path), path)
    try:
        loaded = getattr(catboost, kind or "CatBoostClassifier")()
        # From a path: from bytes the library forgets the loss, by which it answers with counts or their logarithms.
        loaded.load_model(str(path.absolute()), form)
        if kind is None and not len(loaded.classes_):
            loaded = catboost.CatBoostRegressor().load_model(str(path.absolute()), form)
    except (catboost.CatBoostError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelUnreadable(f"{path} cannot be loaded: {reason}") from error
    if loaded.get_embedding_feature_indices():
        raise ModelUnreadable(f"{path} takes columns of embeddings, which foretell does not fill")
    return loaded


class CatboostEngine:
    """CatBoost itself, which computes row by row. model: of the library. columns: what it knows of its inputs."""

    name = "CatBoost"
    block: int | None = None

    def __init__(self, catboost: Any, model: Any) -> None:
        self._catboost = catboost
        self.model = model
        self._categories = list(model.get_cat_feature_indices())
        self._texts = list(model.get_text_feature_indices())
        self._labels = tuple(map(str, model.classes_))
        self.proba = hasattr(model, "predict_proba") and bool(self._labels)
        self.columns = self._columns()

    def predict(self, batch: Batch, call: Call) -> Answers:
        rows = self._pool(batch)
        outputs: tuple[Output, ...] = (output(self.model.predict(rows)),)
        if call.proba:
            outputs += (output(self.model.predict_proba(rows), self._labels, proba=True),)
        return Answers(outputs)

    def _pool(self, batch: Batch) -> Any:
        words = {*self._categories, *self._texts}
        if not words:
            return self._catboost.Pool(matrix(batch, "float64"))
        cells = np.empty((batch.rows, len(batch.columns)), object)
        for at, column in enumerate(batch.columns):
            cells[:, at] = _words(column) if at in words else number_column(column)
        try:
            return self._catboost.Pool(cells, cat_features=self._categories, text_features=self._texts)
        except self._catboost.CatBoostError as error:
            raise RowRefused(f"the model refused the row: {str(error).splitlines()[0][:200]}") from error

    def _columns(self) -> Signature:
        """Doubles, and strings where the model takes categories or text."""
        names = [str(name) for name in self.model.feature_names_]
        given = names != [str(at) for at in range(len(names))]
        words = {*self._categories, *self._texts}
        kinds = ["string" if at in words else "double" for at in range(len(names))]
        return Signature(tuple(Column(name if given else None, k) for name, k in zip(names, kinds, strict=True)))


def _words(column: np.ndarray) -> np.ndarray:
    """Strings and whole numbers as they are; a null as NaN, which the library refuses."""
    cells = column.astype(object)
    cells[np.array([value is None for value in cells], bool)] = np.nan
    return cells
