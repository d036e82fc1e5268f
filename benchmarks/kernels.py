"""What a row costs with each kernel: every estimator that has one, on few columns and on many, against the library.

    .venv/bin/python benchmarks/kernels.py [--proba] [NAME …]

Walks the tables of kernels/lower, trains an example of each (a transformer stands before a Ridge) and prints µs a row
alone, in 32 and in 4,096, library → kernel, through the same predictor; in brackets how many times quicker. The least
of many calls, in turns. Says so where a kernel's bits differ or where there is no kernel.
"""

import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from sklearn.compose import make_column_selector
from sklearn.datasets import load_digits, load_iris
from sklearn.feature_selection import f_regression
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.utils import all_estimators

from foretell.batch import Answers, Batch, Call
from foretell.cells import Column
from foretell.kernels.kernel import KernelEngine
from foretell.kernels.lower import HEADS, STEPS, lower
from foretell.kernels.node import Making, NotCovered
from foretell.kernels.product import SHAPES
from foretell.models.load import Loaded, Settled
from foretell.models.mlmodel import StoredModel
from foretell.models.sklearn import SklearnEngine, _names
from foretell.models.trust import Origin
from foretell.predictor import Found, Predictor
from foretell.registry.resolve import Resolved
from foretell.signature import Signature

SIZES = (1, 32, 4096)
TURNS, TURN_SECONDS = 7, 0.015
WORDS = ("OneHotEncoder", "OrdinalEncoder", "TargetEncoder", "ColumnTransformer")
"""Steps of columns of text."""
PAIRS = ("MultiOutput", "MultiTask")
"""What takes several outputs only, by how its name starts."""

_CLASSES = dict(all_estimators())
_SCALED = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))
_VOTERS = [("a", _SCALED), ("b", GaussianNB())]

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "BisectingKMeans": [{"n_clusters": 6, "random_state": 0}],
    "CalibratedClassifierCV": [{"estimator": LinearSVC(max_iter=50), "cv": 3}],
    "CategoricalNB": [{"min_categories": 17}],
    "ColumnTransformer": [
        {
            "transformers": [
                ("numbers", StandardScaler(), make_column_selector("n")),
                ("words", OneHotEncoder(handle_unknown="ignore"), make_column_selector("c")),
            ]
        }
    ],
    "FeatureUnion": [{"transformer_list": [("a", StandardScaler()), ("b", _CLASSES["PCA"](2))]}],
    "GenericUnivariateSelect": [{"score_func": f_regression, "mode": "k_best", "param": 3}],
    "LinearRegression": [{}, {"target": "two outputs"}],
    "LogisticRegressionCV": [{"Cs": 2, "cv": 2, "max_iter": 100, "use_legacy_attributes": False}],
    "MissingIndicator": [{"features": "all"}],
    "MultiOutputClassifier": [{"estimator": _SCALED}],
    "MultiOutputRegressor": [{"estimator": Ridge()}],
    "NearestCentroid": [{}, {"metric": "manhattan"}, {"priors": "empirical"}],
    "Normalizer": [{}, {"norm": "max"}],
    "NuSVC": [{"nu": 0.05}],
    "OneVsRestClassifier": [{"estimator": _SCALED}, {"estimator": LinearSVC(max_iter=50)}],
    "PCA": [{"n_components": 3}],
    "Pipeline": [{"steps": [("a", StandardScaler()), ("b", StandardScaler())]}],
    "QuantileTransformer": [{"n_quantiles": 50}, {"n_quantiles": 50, "output_distribution": "normal"}],
    "RFE": [{"estimator": Ridge()}],
    "RFECV": [{"estimator": Ridge()}],
    "SelectFdr": [{"score_func": f_regression}],
    "SelectFpr": [{"score_func": f_regression}],
    "SelectFromModel": [{"estimator": Ridge()}],
    "SelectFwe": [{"score_func": f_regression}],
    "SelectKBest": [{"score_func": f_regression, "k": 3}],
    "SelectPercentile": [{"score_func": f_regression, "percentile": 60}],
    "SequentialFeatureSelector": [{"estimator": Ridge(), "n_features_to_select": 2}],
    "SVC": [{"kernel": kernel} for kernel in ("linear", "poly", "rbf")],
    "SVR": [{"kernel": kernel} for kernel in ("linear", "poly", "rbf")],
    "TargetEncoder": [{"target_type": "continuous"}],
    "TheilSenRegressor": [{"max_subpopulation": 200, "n_subsamples": 80}],
    "TransformedTargetRegressor": [{"regressor": Ridge(), "func": np.log1p, "inverse_func": np.expm1}],
    "TruncatedSVD": [{"n_components": 3}],
    "VotingClassifier": [
        {"estimators": _VOTERS, "voting": "soft"},
        {"estimators": [*_VOTERS, ("c", SVC())], "voting": "hard"},
    ],
    "VotingRegressor": [{"estimators": [("a", Ridge()), ("b", LinearRegression())]}],
}
"""How an estimator's examples are made, where not by its defaults."""


@dataclass(frozen=True)
class Example:
    """A fitted model, and rows for it."""

    name: str
    model: Any
    rows: Batch
    signature: Signature


def examples(name: str) -> Iterator[Example]:
    """An estimator of the tables, on few columns and on many."""
    for options in OPTIONS.get(name, [{}]):
        for wide in (False, True):
            said = ", ".join(str(value) for value in options.values() if isinstance(value, str))
            rows, classes = _words(name, wide) if name in WORDS else _numbers(name, wide)
            columns = rows.shape[1]
            model = _model(name, {key: value for key, value in options.items() if key != "target"}, rows)
            two = "target" in options or name.startswith(PAIRS)
            target = np.stack([classes, classes[::-1]], axis=1) if two else classes
            label = f"{name} ({said})" if said else name
            yield Example(f"{label}, {columns}", model.fit(rows, target), *_given(rows))


def _model(name: str, options: dict[str, Any], rows: Any) -> Any:
    if name == "TheilSenRegressor" and rows.shape[1] < 10:
        options = {}
    made = _CLASSES[name](**options)
    if name in ("MissingIndicator", "Pipeline"):
        made = make_union(made, _CLASSES["SimpleImputer"]())
    return make_pipeline(made, Ridge()) if name in STEPS else made


def _numbers(name: str, wide: bool) -> tuple[np.ndarray, np.ndarray]:
    rows, classes = (load_digits if wide else load_iris)(return_X_y=True)
    chosen = np.random.default_rng(0).permutation(len(rows))[:1000]
    rows, classes = rows[chosen], classes[chosen]
    if name in ("GammaRegressor", "PoissonRegressor", "TweedieRegressor"):
        classes = classes + 1
    return rows.round() if name == "CategoricalNB" else rows, classes


def _words(name: str, wide: bool) -> tuple[pd.DataFrame, np.ndarray]:
    """Columns of text, and after them as many numbers where one takes both."""
    numbers = np.random.default_rng(0)
    known = numbers.choice(
        np.array([f"word {at}" for at in range(20 if wide else 5)], object), (1000, 32 if wide else 2)
    )
    frame = pd.DataFrame(known, columns=[f"c{at}" for at in range(known.shape[1])])
    if name == "ColumnTransformer":
        frame = frame.assign(**{f"n{at}": numbers.normal(size=1000) for at in range(known.shape[1])})
    return frame, numbers.integers(0, 3, 1000)


def _given(rows: Any) -> tuple[Batch, Signature]:
    """4,096 rows as readers give them."""
    places = np.random.default_rng(1).integers(0, len(rows), SIZES[-1])
    if isinstance(rows, np.ndarray):
        return Batch.of(np.ascontiguousarray(rows[places])), Signature.unnamed(rows.shape[1])
    columns = [rows[name].to_numpy()[places] for name in rows]
    kinds = ["string" if column.dtype == object else "double" for column in columns]
    return Batch(len(places), columns), Signature(tuple(map(Column, rows.columns, kinds)))


def engines(example: Example, call: Call) -> tuple[Predictor, Predictor | None, str]:
    """The library's and the kernel's predictor, and what is to be said of the kernel."""
    native = SklearnEngine(example.model)
    library = behind(native, example)
    try:
        for shape in SHAPES:
            making = Making(shape, _names(example.model))
            kernel = behind(KernelEngine(lower(example.model, making, frame=native.framed)), example)
            if same(kernel.predict(example.rows, call), library.predict(example.rows, call)):
                return library, kernel, ""
    except NotCovered as why:
        return library, None, f"not covered: {why}"
    return library, kernel, "DIFFERS"


def behind(engine: Any, example: Example) -> Predictor:
    """An engine behind the real predictor."""
    settled = Settled(StoredModel(Path("model"), signature=example.signature), "sklearn", trusted=True)
    found = Found(Resolved("model", "model", Path("model"), "sha256:"), Origin("model", "sha256:"), trust=True)
    return Predictor(found, settled, Loaded(engine, example.signature, _names(example.model)), example.signature)


def same(one: Answers, other: Answers) -> bool:
    return all(
        a.values.dtype == b.values.dtype and a.values.tobytes() == b.values.tobytes()
        for a, b in zip(one.outputs, other.outputs, strict=True)
    )


def timed(predictors: list[Predictor], rows: Batch, call: Call) -> list[float]:
    """Seconds of a call with each, the least of many. They take turns, so that what else goes on hits them alike."""
    least = [float("inf")] * len(predictors)
    for _ in range(TURNS):
        for at, predictor in enumerate(predictors):
            until = time.perf_counter() + TURN_SECONDS
            while True:
                started = time.perf_counter()
                predictor.predict(rows, call)
                stopped = time.perf_counter()
                least[at] = min(least[at], stopped - started)
                if stopped > until:
                    break
    return least


def main(wanted: list[str]) -> None:
    warnings.filterwarnings("ignore")
    call = Call(proba="--proba" in wanted)
    names = [name for name in wanted if not name.startswith("-")]
    table = Table(title="µs a row, library → kernel (times quicker)", title_justify="left", box=None, padding=(0, 2))
    table.add_column("estimator, columns", no_wrap=True)
    for size in SIZES:
        table.add_column(f"{size:,}", justify="right")
    table.add_column("")
    for name in (*HEADS, *STEPS):
        if not names or name in names:
            for example in examples(name):
                table.add_row(*row(example, call))
    Console(width=None if sys.stdout.isatty() else 170).print(table)


def row(example: Example, call: Call) -> list[str]:
    if call.proba and not SklearnEngine(example.model).proba:
        return [example.name, *["–"] * len(SIZES), "no probabilities"]
    library, kernel, said = engines(example, call)
    if kernel is None:
        return [example.name, *["–"] * len(SIZES), said]
    cells = []
    for size in SIZES:
        slow, quick = (seconds / size * 1e6 for seconds in timed([library, kernel], example.rows[:size], call))
        cells.append(f"{slow:,.2f} → {quick:,.2f} ({slow / quick:,.1f} x)")
    return [example.name, *cells, said]


if __name__ == "__main__":
    main(sys.argv[1:])
