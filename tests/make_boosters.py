"""Trains small boosters and two models of other kinds, and writes them by whichever mlflow runs it, into a FOLDER.

Beside each model NAME lie its rows, NAME.json, as make_models.py writes them. Bare files are written by mlflow 3's
Python only.
"""

import sys
import warnings
from pathlib import Path
from typing import Any

import catboost
import lightgbm
import mlflow
import numpy as np
import onnx
import pandas as pd
import xgboost
from mlflow.models import infer_signature
from mlflow.types import ColSpec, Schema
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from make_models import _rows, without_torch

ONNX = Path(__file__).parent.parent / "src" / "foretell" / "demo" / "iris" / "model.onnx"
ROWS = 120
TREES = 8
CATBOOST = {"verbose": 0, "allow_writing_files": False, "iterations": TREES, "thread_count": 1}
LIGHTGBM = {"verbose": -1, "n_estimators": TREES, "n_jobs": 1, "min_child_samples": 5}


def main(folder: Path) -> None:
    without_torch()
    warnings.filterwarnings("ignore")
    folder.mkdir(parents=True, exist_ok=True)
    x, low, species = _flowers()
    _xgboost(folder, x, low, species)
    _lightgbm(folder, x, low, species)
    _catboost(folder, x, low, species)
    _others(folder)
    if mlflow.__version__ >= "3":
        _bare(folder, x, low, species)


def _others(folder: Path) -> None:
    """A pickled scikit-learn model, and an ONNX model, as both mlflows write them."""
    flowers, species = load_iris(as_frame=True, return_X_y=True)
    flowers = flowers[::2]
    logistic = LogisticRegression(max_iter=1000).fit(flowers, species[::2])
    _save(folder, "sklearn", mlflow.sklearn, logistic, flowers, serialization_format="cloudpickle")
    _save(folder, "onnx", mlflow.onnx, onnx.load(ONNX), flowers)


def _flowers() -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    """Numbers with missing ones, two classes as 0 and 1, and three by name."""
    numbers = np.random.default_rng(11)
    scales = {"petal length": 1.0, "petal width": 1e-6, "stem": 1e6, "leaves": 30.0}
    x = pd.DataFrame({name: numbers.normal(size=ROWS) * scale for name, scale in scales.items()})
    score = x["petal length"] + x["leaves"] / 30
    x.iloc[::7, 2] = np.nan
    species = pd.cut(score, 3, labels=["setosa", "versicolor", "virginica"]).astype(str)
    return x, (score > 0).astype(int), species


def _xgboost(folder: Path, x: pd.DataFrame, low: pd.Series, species: pd.Series) -> None:
    codes = species.astype("category").cat.codes
    several = xgboost.XGBClassifier(n_estimators=TREES).fit(x, codes)
    _save(folder, "xgb_classifier", mlflow.xgboost, several, x)
    stopped = xgboost.XGBClassifier(n_estimators=80, early_stopping_rounds=2, learning_rate=1.0)
    stopped.fit(x[:80], low[:80], eval_set=[(x[80:], low[80:])], verbose=False)
    _save(folder, "xgb_early", mlflow.xgboost, stopped, x, model_format="json")
    booster = xgboost.train({"objective": "multi:softprob", "num_class": 3}, xgboost.DMatrix(x, codes), TREES)
    _save(folder, "xgb_booster", mlflow.xgboost, booster, x)


def _lightgbm(folder: Path, x: pd.DataFrame, low: pd.Series, species: pd.Series) -> None:
    _save(folder, "lgb_classifier", mlflow.lightgbm, lightgbm.LGBMClassifier(**LIGHTGBM).fit(x, species), x)
    _save(folder, "lgb_ranker", mlflow.lightgbm, lightgbm.LGBMRanker(**LIGHTGBM).fit(x, low, group=[30] * 4), x)
    _save(folder, "lgb_booster", mlflow.lightgbm, lightgbm.LGBMClassifier(**LIGHTGBM).fit(x, species).booster_, x)


def _catboost(folder: Path, x: pd.DataFrame, low: pd.Series, species: pd.Series) -> None:
    mixed = x.assign(soil=np.array(["clay", "sand", "loam"])[np.arange(ROWS) % 3], pot=np.arange(ROWS) % 4)
    names = catboost.CatBoostClassifier(cat_features=["soil", "pot"], **CATBOOST).fit(mixed, species)
    kinds = ["double"] * 4 + ["string", "long"]
    schema = Schema([ColSpec(kind, name) for kind, name in zip(kinds, mixed, strict=True)])
    _save(folder, "cb_classifier", mlflow.catboost, names, mixed, schema=schema)
    amount = catboost.CatBoostRegressor(loss_function="Poisson", **CATBOOST).fit(x, low)
    _save(folder, "cb_regressor", mlflow.catboost, amount, x, format="json")


def _bare(folder: Path, x: pd.DataFrame, low: pd.Series, species: pd.Series) -> None:
    """Files of the libraries' own, with no MLmodel beside them."""
    xgboost.XGBClassifier(n_estimators=TREES).fit(x, low).save_model(folder / "bare.ubj")
    lightgbm.LGBMRegressor(**LIGHTGBM).fit(x.set_axis(list("abcd"), axis=1), low).booster_.save_model(
        folder / "bare.txt"
    )
    catboost.CatBoostClassifier(**CATBOOST).fit(x, species).save_model(str(folder / "bare.cbm"))
    for suffix in ("ubj", "txt", "cbm"):
        _rows(folder, f"bare.{suffix}", x if suffix != "txt" else x.set_axis(list("abcd"), axis=1))


def _save(
    folder: Path, name: str, flavour: Any, model: Any, rows: pd.DataFrame, schema: Schema | None = None, **more: Any
) -> None:
    signature = infer_signature(rows)
    if schema is not None:
        signature.inputs = schema
    if mlflow.__version__ >= "3" and flavour is mlflow.lightgbm:
        kinds = ("sklearn.LGBMClassifier", "sklearn.LGBMRanker", "basic.Booster")
        more["skops_trusted_types"] = [*(f"lightgbm.{kind}" for kind in kinds), "collections.OrderedDict"]
    flavour.save_model(model, folder / name, signature=signature, pip_requirements=[], **more)
    _rows(folder, name, rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
