"""XGBoost models in the library's own formats, predicted by the library itself as its scikit-learn classes do it, and
without those: they need scikit-learn, which takes longer to import than most models to predict."""

import json
import warnings
from typing import Any

import numpy as np

from foretell import imports
from foretell.batch import Answers, Batch, Call, Output
from foretell.errors import ModelUnreadable, RowRefused
from foretell.models.boosters import known_columns, matrix, model_file, output
from foretell.models.load import Loaded
from foretell.models.mlmodel import StoredModel
from foretell.models.xgboost_files import check

_BOOSTER = "xgboost.core.Booster"
_KINDS = {
    _BOOSTER: "",
    "xgboost.sklearn.XGBModel": "regressor",
    "xgboost.sklearn.XGBRegressor": "regressor",
    "xgboost.sklearn.XGBRFRegressor": "regressor",
    "xgboost.sklearn.XGBRanker": "ranker",
    "xgboost.sklearn.XGBClassifier": "classifier",
    "xgboost.sklearn.XGBRFClassifier": "classifier",
}


_MALFORMED = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What comes of attributes that are not as XGBoost writes them."""


def runs_code(model: StoredModel) -> list[str]:
    """Never: the formats hold trees and numbers, which are checked."""
    return []


def load(model: StoredModel, trusted: bool) -> Loaded:
    """Loads the booster from a file that was checked. Raises ModelUnreadable."""
    path = model_file(model, "xgboost")
    data = path.read_bytes()
    check(data, path)
    with warnings.catch_warnings(), imports.without("sklearn", "pandas"):
        warnings.simplefilter("ignore")
        import xgboost

        with xgboost.config_context(verbosity=0):
            try:
                booster = xgboost.Booster()
                booster.load_model(bytearray(data))
                settings = json.loads(booster.save_config())["learner"]
                engine = XgboostEngine(xgboost, booster, _kind(model, booster), settings)
                names, count = list(booster.feature_names or []), booster.num_features()
            except (xgboost.core.XGBoostError, *_MALFORMED) as error:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise ModelUnreadable(f"{path} cannot be loaded: {reason}") from error
    return Loaded(engine, known_columns(names, count), tuple(names) or None)


def _kind(model: StoredModel, booster: Any) -> str:
    """What predicts: "" the booster itself; else that kind of scikit-learn estimator. Raises ModelUnreadable."""
    attribute = booster.attr("scikit_learn")
    said = json.loads(attribute).get("_estimator_type") if attribute else None
    if said not in (None, "classifier", "regressor", "ranker"):
        raise ModelUnreadable(f"{model.path} holds a {said!r}, which XGBoost does not have")
    if model.path.is_file():
        return said or ""
    named = model.flavours["xgboost"].get("model_class", _BOOSTER)
    if named not in _KINDS:
        raise ModelUnreadable(f"{model.path} names the class {named!r}, which foretell does not know of XGBoost")
    if _KINDS[named] and said not in (None, _KINDS[named]):
        raise ModelUnreadable(f"{model.path} names the class {named}, and its file holds a {said}")
    return _KINDS[named]


class XgboostEngine:
    """XGBoost itself. Trees and linear models are computed row by row.

    model: the booster. classes: how many, where it is a classifier. rounds: how many of its rounds count, 0 for all.
    in_place: whether it predicts as the estimators do, which take infinite numbers.
    """

    name = "XGBoost"
    block: int | None = None

    def __init__(self, xgboost: Any, booster: Any, kind: str, settings: dict[str, Any]) -> None:
        self._xgboost = xgboost
        self.model = booster
        self._classifier = kind == "classifier"
        self._objective = settings["objective"]["name"]
        linear = settings["gradient_booster"]["name"] == "gblinear"
        self.in_place = bool(kind) and not linear
        best = booster.attr("best_iteration") if self.in_place else None
        self.rounds = int(best) + 1 if best is not None else 0
        if best is not None and not 0 < self.rounds <= booster.num_boosted_rounds():
            raise ValueError(f"its best iteration is {best[:20]}, of {booster.num_boosted_rounds()}")
        self.classes = max(2, int(settings["learner_model_param"]["num_class"]))
        self._labels = tuple(map(str, range(self.classes)))
        self.proba = self._classifier

    def predict(self, batch: Batch, call: Call) -> Answers:
        rows = matrix(batch, "float32")
        with self._xgboost.config_context(verbosity=0):
            scores = self._scores(rows)
            if not self._classifier:
                return Answers((output(scores),))
            outputs: tuple[Output, ...] = (output(self._decided(scores)),)
            if call.proba:
                outputs += (output(self._probabilities(rows, scores), self._labels, proba=True),)
        return Answers(outputs)

    def _scores(self, rows: np.ndarray, *, margin: bool = False) -> Any:
        """As the estimators ask for them; a booster by itself, and a linear one, goes through a DMatrix."""
        if self.in_place:
            kind = "margin" if margin else "value"
            return self.model.inplace_predict(rows, iteration_range=(0, self.rounds), predict_type=kind)
        try:
            table = self._xgboost.DMatrix(rows)
        except self._xgboost.core.XGBoostError as error:
            if "Input data contains `inf`" not in str(error):
                raise
            raise RowRefused("the model refused the row: it holds a value too large for a 32-bit float") from error
        return self.model.predict(table, output_margin=margin, validate_features=False)

    def _decided(self, scores: Any) -> Any:
        """Classes from scores, as XGBClassifier.predict decides."""
        if scores.ndim > 1 and self.classes != 2:
            return np.argmax(scores, axis=1)
        if scores.ndim > 1 and scores.shape[1] != 1:
            return (scores > 0.5).astype("float64")
        if self._objective == "multi:softmax":
            return scores.astype("int32")
        return (scores.reshape(len(scores)) > 0.5).astype("int64")

    def _probabilities(self, rows: np.ndarray, scores: Any) -> Any:
        """As XGBClassifier.predict_proba gives them."""
        if self._objective == "multi:softmax":
            from scipy.special import softmax

            return softmax(self._scores(rows, margin=True), axis=1)
        if scores.ndim > 1 and scores.shape[1] >= self.classes:
            return scores
        return np.vstack((1.0 - scores, scores)).transpose()
