"""LightGBM models, predicted by the library itself: boosters in its own text, and its scikit-learn estimators."""

import contextlib
import io
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from foretell import imports
from foretell.batch import Answers, Batch, Call, Output
from foretell.errors import ModelUnreadable
from foretell.models.boosters import known_columns, matrix, model_file, output
from foretell.models.lightgbm_files import check, read
from foretell.models.load import Loaded, import_code
from foretell.models.mlmodel import StoredModel
from foretell.models.sklearn_files import REVIEWED, is_skops, load_pickle, load_skops, untrusted

_BOOSTER = "lightgbm.basic.Booster"
_ESTIMATORS = ("LGBMModel", "LGBMClassifier", "LGBMRegressor", "LGBMRanker")
_REVIEWED = REVIEWED | {
    "collections.OrderedDict",
    _BOOSTER,
    *(f"lightgbm.sklearn.{name}" for name in _ESTIMATORS),
}
"""Types that hold numbers and text only when a file is loaded with the booster's text checked, as here."""

_LOCK = threading.RLock()
_FEW_ROWS = 1024


def runs_code(model: StoredModel) -> list[str]:
    """The library's own text never; a pickle always; a skops file, where it holds types that nobody reviewed."""
    path = model_file(model, "lightgbm")
    if _is_text(model, path):
        return []
    if not is_skops(path):
        return [f"{path.name} (a pickle)"]
    unknown = [name[:100] for name in untrusted(path) if name not in _REVIEWED]
    return [f"{path.name} (a skops file with {', '.join(unknown[:5])})"] if unknown else []


def load(model: StoredModel, trusted: bool) -> Loaded:
    """Loads a booster or an estimator. Raises ModelUnreadable."""
    path = model_file(model, "lightgbm")
    if not _is_text(model, path):
        return _load_estimator(model, path, trusted)
    text = read(path.read_bytes(), path)
    with _quiet(), imports.without("sklearn", "pandas"):
        import lightgbm

        try:
            booster = lightgbm.Booster(model_str=text)
        except (lightgbm.basic.LightGBMError, ValueError, TypeError) as error:
            raise ModelUnreadable(f"{path} cannot be loaded: {str(error).splitlines()[0]}") from error
    return _loaded(booster, LightgbmEngine(booster), model, path)


def _is_text(model: StoredModel, path: Path) -> bool:
    if model.path.is_file():
        return True
    return bool(model.flavours["lightgbm"].get("model_class", _BOOSTER) == _BOOSTER)


def _load_estimator(model: StoredModel, path: Path, trusted: bool) -> Loaded:
    if not trusted and not is_skops(path):
        raise ModelUnreadable(f"{path} is a pickle and was not trusted")
    with _quiet():
        _forget_alone()
        import lightgbm

        with _checked_boosters(lightgbm, path):
            if is_skops(path):
                estimator = load_skops(path, trusted, _REVIEWED)
            else:
                import_code(model)
                estimator = load_pickle(path)
    if not isinstance(estimator, lightgbm.LGBMModel):
        raise ModelUnreadable(f"{path} holds a {type(estimator).__name__}, which is no model of LightGBM's")
    booster = getattr(estimator, "_Booster", None)
    if not isinstance(booster, lightgbm.Booster) or not getattr(booster, "_handle", None):
        raise ModelUnreadable(f"{path} holds a model without trees")
    return _loaded(booster, LightgbmEngine(booster, estimator), model, path)


def _forget_alone() -> None:
    """A library that was imported without scikit-learn has no estimators: it is imported again."""
    compat = sys.modules.get("lightgbm.compat")
    if compat is not None and not compat.SKLEARN_INSTALLED:
        for name in [name for name in sys.modules if name.partition(".")[0] == "lightgbm"]:
            del sys.modules[name]


@contextlib.contextmanager
def _checked_boosters(lightgbm: Any, path: Path) -> Iterator[None]:
    """While a file is unpacked, every booster's text is checked before the library parses it, wherever it stands in
    the file, and none is made in another way."""
    kind = lightgbm.Booster
    made, restored = kind.__init__, kind.__setstate__

    def refuse(self: Any, *args: Any, **options: Any) -> None:
        raise ModelUnreadable(f"{path} makes a booster out of something else than its text")

    def restore(self: Any, state: dict[str, Any]) -> None:
        text = check(state.get("_handle", state.get("handle")), path)
        restored(self, {**state, "_handle": text})

    with _LOCK:
        kind.__init__, kind.__setstate__ = refuse, restore
        try:
            yield
        finally:
            kind.__init__, kind.__setstate__ = made, restored


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what the library says, on stdout, to itself."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _loaded(booster: Any, engine: "LightgbmEngine", model: StoredModel, path: Path) -> Loaded:
    names = booster.feature_name()
    if names == [f"Column_{at}" for at in range(len(names))]:
        names = []
    if booster.pandas_categorical:
        raise ModelUnreadable(
            f"{path} was trained on pandas' columns of categories, which foretell does not read",
            "Train it on their codes as numbers, with categorical_feature=[…]",
        )
    return Loaded(engine, known_columns(names, booster.num_feature()), _order(names, model))


def _order(names: list[str], model: StoredModel) -> tuple[str, ...] | None:
    """The columns' names as the signature has them: LightGBM writes a space as _. None where they are other ones, as
    the library does not look at them."""
    if model.signature is None or not names:
        return tuple(names) or None
    given = {name.replace(" ", "_"): name for name in model.signature.names}
    return tuple(given[name] for name in names) if set(names) == set(given) else None


def open_text(path: Path, classes: np.ndarray | None) -> "BoosterEngine":
    """An estimator's booster alone, from the library's text, without scikit-learn. classes: of a classifier.
    Raises ModelUnreadable."""
    text = read(path.read_bytes(), path)
    with _quiet(), imports.without("sklearn", "pandas"):
        import lightgbm

        try:
            return BoosterEngine(lightgbm.Booster(model_str=text), classes)
        except (lightgbm.basic.LightGBMError, ValueError, TypeError) as error:
            raise ModelUnreadable(f"{path} cannot be loaded: {str(error).splitlines()[0]}") from error


def _threads(batch: Batch) -> int:
    """Few rows take one thread: to wake others, and to wait for them on a busy machine, costs more. 0 is for all."""
    return 1 if batch.rows < _FEW_ROWS else 0


class BoosterEngine:
    """An estimator's booster without the estimator, whose classes and probabilities are made here.

    Source: LGBMClassifier.predict and predict_proba in lightgbm/sklearn.py.
    """

    name = "LightGBM booster"
    block: int | None = None

    def __init__(self, booster: Any, classes: np.ndarray | None) -> None:
        self._booster = booster
        self._classes = classes
        self._labels = () if classes is None else tuple(map(str, classes))
        self.proba = classes is not None

    def predict(self, batch: Batch, call: Call) -> Answers:
        scores = self._booster.predict(matrix(batch, "float64"), verbosity=-1, num_threads=_threads(batch))
        if self._classes is None:
            return Answers((output(scores),))
        each = scores if scores.ndim == 2 else np.vstack((1.0 - scores, scores)).transpose()
        outputs: tuple[Output, ...] = (output(self._classes[np.argmax(each, axis=1)]),)
        if call.proba:
            outputs += (output(each, self._labels, proba=True),)
        return Answers(outputs)


class LightgbmEngine:
    """LightGBM itself, which computes row by row. model: the booster, or the estimator around it. framed: whether it is
    an estimator, which is given a frame. classes: a classifier's, else None."""

    name = "LightGBM"
    block: int | None = None

    def __init__(self, booster: Any, estimator: Any = None) -> None:
        self.model = booster if estimator is None else estimator
        self.booster = booster
        self.framed = estimator is not None
        self._columns = booster.num_feature()
        self.proba = hasattr(estimator, "predict_proba") and not callable(getattr(estimator, "_objective", None))
        self.classes = estimator.classes_ if self.proba else None
        self._labels = () if self.classes is None else tuple(map(str, self.classes))

    def predict(self, batch: Batch, call: Call) -> Answers:
        rows = self._rows(batch)
        options = {"verbosity": -1, "num_threads": _threads(batch)}
        outputs: tuple[Output, ...] = (output(self.model.predict(rows, **options)),)
        if call.proba:
            outputs += (output(self.model.predict_proba(rows, **options), self._labels, proba=True),)
        return Answers(outputs)

    def _rows(self, batch: Batch) -> Any:
        """The estimators look at an array with scikit-learn, and take a frame as it is."""
        rows = matrix(batch, "float64")
        if not self.framed:
            return rows
        import pandas as pd

        return pd.DataFrame(rows, copy=False)
