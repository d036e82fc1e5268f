"""Kernels of encoders, imputers, columns and linear models: the library's bits, and its refusals, row by row."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.feature_selection import SelectFromModel, SelectKBest, VarianceThreshold
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.linear_model import (
    BayesianRidge,
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    Perceptron,
    PoissonRegressor,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline, make_union
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)
from sklearn.svm import LinearSVC

from foretell.batch import Batch, Call
from foretell.cells import Column
from foretell.kernels import lower
from foretell.kernels.kernel import KernelEngine
from foretell.kernels.node import Making, NotCovered
from foretell.signature import Signature
from kernel_reference import Reference, apart, behind, cut, equal, reference, said

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")

TRAINED = 400
CITIES = np.array(["Oslo", "São Paulo", 'the "old" town', "Paris, Texas", "00501", "naïve", "東京", None], object)
WORDS = np.array(["a", "b", "c", "", "🎈", "e\u0301", "rare"], object)
COLUMNS = (
    ("age", "double"),
    ("income", "double"),
    ("visits", "long"),
    ("level", "integer"),
    ("score", "float"),
    ("member", "boolean"),
    ("city", "string"),
    ("word", "string"),
    ("flag", "boolean"),
    ("joined", "datetime"),
)
PEOPLE = Signature(tuple(Column(name, kind, required=name != "flag") for name, kind in COLUMNS))
MATRIX = Signature.unnamed(5)
NAMED = Signature(tuple(Column(name, "double") for name in "abcde"))


def people(rows: int, seed: int) -> dict[str, np.ndarray]:
    """Rows of every kind of cell, as a model is trained on and as readers give them."""
    numbers = np.random.default_rng(seed)
    age = numbers.uniform(18, 90, rows).round(1)
    age[numbers.random(rows) < 0.1] = np.nan
    return {
        "age": age,
        "income": numbers.lognormal(10, 1, rows),
        "visits": numbers.integers(0, 6, rows),
        "level": numbers.integers(1, 5, rows).astype("int32"),
        "score": numbers.normal(size=rows).astype("float32").round(1),
        "member": numbers.random(rows) < 0.5,
        "city": numbers.choice(CITIES, rows),
        "word": numbers.choice(WORDS, rows, p=[0.3, 0.3, 0.2, 0.1, 0.06, 0.03, 0.01]),
        "flag": numbers.choice(np.array([True, False, None], object), rows),
        "joined": np.datetime64("2020-01-01", "ns") + numbers.integers(0, 9**15, rows).astype("timedelta64[ns]"),
    }


def odd_people() -> dict[str, np.ndarray]:
    """Each row is an ordinary one but for a cell or two that is not."""
    tiny, huge, inf, nan = 5e-324, 1.7e308, np.inf, np.nan
    odd: list[dict[str, Any]] = [{}]
    odd += [{"age": v} for v in (0.0, -0.0, tiny, -tiny, huge, -huge, 1e300, inf, -inf, nan, 2.0**53, 1e-310)]
    odd += [{"income": v} for v in (0.0, -0.0, tiny, huge, -huge, inf, nan, 3.0)]
    odd += [{"visits": v} for v in (-1, 7, 2**53 + 1, 2**63 - 1, -(2**63))]
    odd += [{"level": v} for v in (0, -1, 2**31 - 1, -(2**31))]
    odd += [{"score": v} for v in (0.0, -0.0, 1e-45, 3.4e38, inf, nan, 0.1, 9.0)]
    odd += [{"city": v} for v in ("", "oslo", "Oslo ", "Osl\u00f6", "a" * 300, "None", "nan", "🏳️‍🌈", None, "rare")]
    odd += [{"word": v} for v in (None, "z", "\u00e9", "é", "\U0010ffff", "a\0", "infrequent_sklearn")]
    odd += [{"flag": v} for v in (True, False, None)]
    odd += [{"city": None, "flag": None, "age": nan, "word": ""}, {"city": "?", "word": "?", "visits": 99}]
    columns = people(len(odd), 3)
    for name in ("age", "city", "flag"):
        columns[name][:] = {"age": 40.5, "city": "Oslo", "flag": True}[name]
    with np.errstate(over="ignore"):
        for at, cells in enumerate(odd):
            for name, cell in cells.items():
                columns[name][at] = cell
    return columns


def table(columns: dict[str, np.ndarray]) -> pd.DataFrame:
    """As the library is given it."""
    frame = pd.DataFrame({name: pd.Series(column, dtype=column.dtype) for name, column in columns.items()})
    for name in ("city", "word", "flag"):
        frame[name] = frame[name].where(frame[name].notna(), np.nan)
    return frame


def batch(columns: dict[str, np.ndarray]) -> Batch:
    return Batch(len(columns["age"]), list(columns.values()))


def matrix(rows: int, seed: int) -> np.ndarray:
    numbers = np.random.default_rng(seed)
    return numbers.normal(size=(rows, 5)) * [1, 10, 1e-3, 1e6, 1] + [0, 5, 0, 0, -1]


def odd_matrix() -> np.ndarray:
    edges = (0.0, -0.0, 5e-324, 1.7e308, -1.7e308, np.inf, np.nan, 1e-310, 2.0**53, 1e200)
    rows = matrix(5 * len(edges), 5)
    for at, edge in enumerate(edges):
        for column in range(5):
            rows[5 * at + column, column] = edge
    rows[0], rows[1] = 0.0, -0.0
    return rows


TRAIN = people(TRAINED, 1)
FRAME = table(TRAIN)
POINTS = matrix(TRAINED, 2)
NUMBER = np.nan_to_num(TRAIN["age"], nan=50) / 10 + TRAIN["visits"] + (TRAIN["city"] == "Oslo") + POINTS[:, 0]
TARGETS = {
    "two": np.where(NUMBER > np.median(NUMBER), "yes", "no"),
    "three": np.digitize(NUMBER, np.quantile(NUMBER, [0.3, 0.6])),
    "number": NUMBER,
    "count": np.maximum(NUMBER, 0).round(),
    "column": NUMBER[:, None],
    "pair": np.stack([NUMBER, POINTS[:, 0] - NUMBER], axis=1),
}


TRAINING: dict[str, Any] = {
    "frame": FRAME,
    "text": FRAME.astype({"city": "str", "word": "str"}),
    "doubles": FRAME.astype({"visits": "float64"}),
    "empty": FRAME.assign(income=np.nan),
    "words": FRAME[["city", "word", "visits"]],
    "objects": FRAME[["city", "word", "visits"]].to_numpy(),
    "matrix": POINTS,
    "named": pd.DataFrame(POINTS, columns=list("abcde")),
}


@dataclass(frozen=True)
class Case:
    """An estimator to fit, what on and what for."""

    name: str
    estimator: Any
    target: str = "two"
    rows: str = "frame"
    params: tuple[tuple[str, Any], ...] = ()

    def reference(self) -> Reference:
        call = Call(proba=True, params=self.params)
        fitted = self.estimator.fit(TRAINING[self.rows], TARGETS[self.target])
        if self.rows in ("matrix", "named"):
            return reference(
                fitted,
                NAMED if self.rows == "named" else MATRIX,
                Batch.of(odd_matrix()),
                Batch.of(matrix(500, 7)),
                call,
            )
        special, ordinary = batch(odd_people()), batch(people(500, 7))
        if self.rows not in ("objects", "words"):
            return reference(fitted, PEOPLE, special, ordinary, call)
        names = ("city", "word", "visits")
        special, ordinary = (
            Batch(b.rows, [b.columns[PEOPLE.names.index(n)] for n in names]) for b in (special, ordinary)
        )
        given = Signature(tuple(Column(n if self.rows == "words" else None, dict(COLUMNS)[n]) for n in names))
        return reference(fitted, given, special, ordinary, call)


def linear_cases() -> list[Case]:
    """Linear models and scalers, of numbers alone."""
    heads = [
        ("logistic of two", LogisticRegression(), "two"),
        ("logistic of three", LogisticRegression(max_iter=500), "three"),
        ("logistic, one against the rest", LogisticRegression(solver="liblinear"), "two"),
        ("logistic without intercept", LogisticRegression(fit_intercept=False), "two"),
        (
            "logistic by cross-validation",
            LogisticRegressionCV(Cs=2, cv=2, max_iter=200, use_legacy_attributes=False),
            "three",
        ),
        ("ridge", Ridge(), "number"),
        ("two outputs", LinearRegression(), "pair"),
        ("one output of two dimensions", LinearRegression(), "column"),
        ("Poisson", make_pipeline(StandardScaler(), PoissonRegressor(max_iter=300)), "count"),
        (
            "descent, logistic loss, two",
            make_pipeline(StandardScaler(), SGDClassifier(loss="log_loss", random_state=0)),
            "two",
        ),
        (
            "descent, logistic loss, three",
            make_pipeline(StandardScaler(), SGDClassifier(loss="log_loss", random_state=0)),
            "three",
        ),
        (
            "descent, Huber's loss, two",
            make_pipeline(StandardScaler(), SGDClassifier(loss="modified_huber", random_state=0)),
            "two",
        ),
        (
            "descent, Huber's loss, three",
            make_pipeline(StandardScaler(), SGDClassifier(loss="modified_huber", random_state=0)),
            "three",
        ),
        ("support vectors", make_pipeline(StandardScaler(), LinearSVC()), "three"),
        ("ridge classifier", RidgeClassifier(), "three"),
        ("discriminant of two", LinearDiscriminantAnalysis(), "two"),
        ("discriminant of three", LinearDiscriminantAnalysis(), "three"),
        ("perceptron", make_pipeline(StandardScaler(), Perceptron()), "three"),
    ]
    scalers = [
        ("standard", StandardScaler()),
        ("standard, mean alone", StandardScaler(with_std=False)),
        ("standard, spread alone", StandardScaler(with_mean=False)),
        ("smallest and largest", MinMaxScaler(feature_range=(-1, 2))),
        ("smallest and largest, clipped", MinMaxScaler(clip=True)),
        ("largest", MaxAbsScaler()),
        ("quartiles", RobustScaler()),
        ("quartiles, no center", RobustScaler(with_centering=False, quantile_range=(10, 90))),
        ("nothing", "passthrough"),
        ("a function of nothing", FunctionTransformer()),
        ("threshold", Binarizer(threshold=0.5)),
        ("bins", KBinsDiscretizer(4, encode="ordinal")),
        ("bins, a column each", KBinsDiscretizer(4)),
        ("bins, a column each, dense", KBinsDiscretizer(3, encode="onehot-dense", strategy="uniform")),
        ("bins of float32", KBinsDiscretizer(3, encode="onehot-dense", dtype=np.float32)),
        ("those that vary", VarianceThreshold(0.1)),
        ("the best", SelectKBest(k=2)),
        ("those of a model", SelectFromModel(Ridge())),
        ("missing filled", SimpleImputer()),
        ("missing told", make_union(MissingIndicator(features="all"), SimpleImputer(strategy="median"))),
        ("numbers of categories", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)),
    ]
    spread = [
        Case(f"spread, {asked}", BayesianRidge(), "number", rows="matrix", params=(("return_std", asked),))
        for asked in (True, False)
    ]
    spread.append(Case("named columns", make_pipeline(SimpleImputer(), LogisticRegression()), rows="named"))
    return (
        spread
        + [Case(name, head, target, rows="matrix") for name, head, target in heads]
        + [Case(f"{name}, scaled", make_pipeline(scaler, Ridge()), "number", rows="matrix") for name, scaler in scalers]
    )


def encoders() -> list[Case]:
    """Encoders of columns of a frame."""
    words, several = ["city", "word"], ["city", "word", "visits", "level", "member", "flag", "score"]
    few = {"handle_unknown": "infrequent_if_exist", "min_frequency": 60}
    known = OneHotEncoder(handle_unknown="ignore")
    sevens = [np.array(["b", "a", "z"], object)]
    one_hot = [
        ("one-hot", known, several),
        ("one-hot, dense", OneHotEncoder(handle_unknown="ignore", sparse_output=False), several),
        ("one-hot, strict", OneHotEncoder(), ["word", "visits"]),
        ("one-hot, strict, missing", OneHotEncoder(), ["city", "flag", "member"]),
        ("one-hot of a double", OneHotEncoder(handle_unknown="ignore"), ["age"]),
        ("one-hot of a float", OneHotEncoder(handle_unknown="ignore"), ["score"]),
        ("one-hot, warn", OneHotEncoder(handle_unknown="warn"), several),
        ("one-hot, first dropped", OneHotEncoder(drop="first", handle_unknown="ignore"), several),
        ("one-hot, two are one", OneHotEncoder(drop="if_binary", handle_unknown="ignore"), several),
        ("one-hot, some dropped", OneHotEncoder(drop=["Oslo", "b"], handle_unknown="ignore"), words),
        ("one-hot, missing dropped", OneHotEncoder(drop=[np.nan, "a"], handle_unknown="ignore"), words),
        ("one-hot, rare ones", OneHotEncoder(**few), several),
        ("one-hot, rare ones, strict", OneHotEncoder(min_frequency=0.2), ["word", "visits"]),
        ("one-hot, rare ones, ignored", OneHotEncoder(handle_unknown="ignore", max_categories=3), several),
        ("one-hot, rare ones, first dropped", OneHotEncoder(drop="first", **few), several),
        (
            "one-hot, rare ones, two are one",
            OneHotEncoder(drop="if_binary", handle_unknown="warn", max_categories=2),
            several,
        ),
        ("one-hot, all rare", OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=1), words),
        ("one-hot, given", OneHotEncoder(categories=sevens, handle_unknown="ignore"), ["word"]),
        ("one-hot of float32", OneHotEncoder(dtype=np.float32, handle_unknown="ignore", sparse_output=False), several),
        ("one-hot of float32, sparse", OneHotEncoder(dtype=np.float32, handle_unknown="ignore"), several),
        ("one-hot of whole numbers", OneHotEncoder(dtype=np.int64, handle_unknown="ignore"), several),
        ("one-hot of flags", OneHotEncoder(dtype=bool, handle_unknown="ignore", sparse_output=False), several),
    ]
    numbered = [
        ("ordinal, strict", OrdinalEncoder(), ["word", "level", "member"]),
        (
            "ordinal",
            OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2),
            several,
        ),
        (
            "ordinal, one for both",
            OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1),
            several,
        ),
        (
            "ordinal, rare ones",
            OrdinalEncoder(
                handle_unknown="use_encoded_value", unknown_value=50, encoded_missing_value=60, min_frequency=60
            ),
            several,
        ),
        (
            "ordinal of int32",
            OrdinalEncoder(
                dtype=np.int32, handle_unknown="use_encoded_value", unknown_value=-7, encoded_missing_value=-3
            ),
            several,
        ),
        (
            "ordinal of float32",
            OrdinalEncoder(
                dtype=np.float32, handle_unknown="use_encoded_value", unknown_value=99, encoded_missing_value=98.5
            ),
            several,
        ),
        (
            "ordinal, missing stay so, then imputed",
            make_pipeline(
                OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan),
                SimpleImputer(add_indicator=True),
            ),
            several,
        ),
    ]
    cases = [Case(name, _picked(encoder, columns)) for name, encoder, columns in one_hot + numbered]
    cases += [
        Case(f"{name}, among sparse ones", _picked(encoder, columns, sparse_threshold=1.0), "three")
        for name, encoder, columns in one_hot
    ]
    for target in ("two", "three", "number"):
        head = Ridge() if target == "number" else LogisticRegression(max_iter=2000)
        cases.append(Case(f"means of the target, {target}", _picked(TargetEncoder(), several, head), target))
    cases += [
        Case("trained on pandas' strings", _picked(known, words), rows="text"),
        Case("trained on pandas' strings, means", _picked(TargetEncoder(), words), rows="text"),
        Case("an encoder of a frame", make_pipeline(known, Ridge()), "number", rows="words"),
        Case("an encoder of objects", make_pipeline(known, Ridge()), "number", rows="objects"),
        Case(
            "an imputer of objects",
            make_pipeline(SimpleImputer(strategy="most_frequent"), known, Ridge()),
            "number",
            rows="objects",
        ),
        Case(
            "a chosen part of one-hot columns",
            make_pipeline(_columns(known, several), SelectKBest(k=7), Ridge()),
            "number",
        ),
        Case(
            "a varying part of one-hot columns",
            make_pipeline(_columns(known, several, sparse_threshold=1.0), VarianceThreshold(0.1), LogisticRegression()),
            "three",
        ),
        Case(
            "whole numbers known as doubles",
            _picked(
                OrdinalEncoder(
                    categories=[[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 2.0**53]],
                    handle_unknown="use_encoded_value",
                    unknown_value=-1,
                ),
                ["visits"],
            ),
            rows="doubles",
        ),
    ]
    return cases


def imputers() -> list[Case]:
    """Missing cells of a frame."""
    numbers, words, mixed = (
        ["age", "visits", "level", "score"],
        ["city", "word"],
        ["age", "city", "flag", "visits", "member"],
    )
    known = OneHotEncoder(handle_unknown="ignore")
    plain = [
        ("mean", SimpleImputer(), numbers),
        ("mean of flags too", SimpleImputer(), [*numbers, "member", "flag"]),
        ("mean, told", SimpleImputer(add_indicator=True), numbers),
        ("median", SimpleImputer(strategy="median", add_indicator=True), [*numbers, "flag"]),
        ("most frequent", SimpleImputer(strategy="most_frequent"), numbers),
        ("most frequent whole number", SimpleImputer(strategy="most_frequent", missing_values=3), ["visits", "level"]),
        ("constant", SimpleImputer(strategy="constant", fill_value=-1.5), numbers),
        ("constant of whole numbers", SimpleImputer(strategy="constant", fill_value=7, missing_values=1), ["visits"]),
        ("constant by default", SimpleImputer(strategy="constant"), ["score"]),
        ("a number marks them", SimpleImputer(missing_values=0.1, add_indicator=True), ["score", "level"]),
        ("a numpy number marks them", SimpleImputer(missing_values=np.float64(0.1), add_indicator=True), ["score"]),
        ("most frequent flag", SimpleImputer(strategy="most_frequent"), ["flag"]),
        ("most frequent flag, told", SimpleImputer(strategy="most_frequent", add_indicator=True), ["flag", "member"]),
        ("indicator", MissingIndicator(), ["age", "flag"]),
        ("indicator of all", MissingIndicator(features="all"), mixed),
        ("indicator that tolerates new ones", MissingIndicator(error_on_new=False), ["age", "score"]),
        ("indicator that does not", MissingIndicator(), ["age", "score"]),
        ("indicator of a number", MissingIndicator(missing_values=2, features="all"), ["visits", "level"]),
        ("indicator of text", MissingIndicator(missing_values="b", features="all"), ["word"]),
    ]
    text = [
        ("most frequent text", SimpleImputer(strategy="most_frequent"), words),
        ("most frequent of all kinds", SimpleImputer(strategy="most_frequent"), mixed),
        ("most frequent of all kinds, told", SimpleImputer(strategy="most_frequent", add_indicator=True), mixed),
        ("constant text", SimpleImputer(strategy="constant", fill_value="?"), words),
        ("constant text by default, told", SimpleImputer(strategy="constant", add_indicator=True), words),
        ("a word marks them", SimpleImputer(missing_values="a", strategy="most_frequent"), ["word"]),
        (
            "an empty word marks them",
            SimpleImputer(missing_values="", strategy="constant", fill_value="none"),
            ["word"],
        ),
        ("None marks them", SimpleImputer(missing_values=None, strategy="most_frequent"), ["word"]),
    ]
    cases = [Case(f"imputed: {name}", _picked(imputer, columns)) for name, imputer, columns in plain]
    cases += [
        Case(f"imputed: {name}", _picked(make_pipeline(imputer, known), columns)) for name, imputer, columns in text
    ]
    for keeps in (False, True):
        for strategy in ("mean", "median", "most_frequent", "constant"):
            imputer = SimpleImputer(strategy=strategy, keep_empty_features=keeps, add_indicator=keeps)
            cases.append(
                Case(
                    f"imputed: nothing to learn from, {strategy}, {keeps}",
                    _picked(imputer, ["age", "income"]),
                    rows="empty",
                )
            )
    return cases


def mixtures() -> list[Case]:
    """Columns that go different ways."""
    numbers, words = ["age", "visits", "level", "score"], ["city", "word"]
    known, dense = OneHotEncoder(handle_unknown="ignore"), OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    filled = make_pipeline(SimpleImputer(), StandardScaler())
    whole = make_pipeline(SimpleImputer(strategy="most_frequent"), known)
    logistic = LogisticRegression(max_iter=500)

    def mixed(*parts: Any, head: Any = logistic, **options: Any) -> Any:
        named = [(f"part {at}", part, columns) for at, (part, columns) in enumerate(parts)]
        return make_pipeline(ColumnTransformer(named, **options), head)

    by_type = (filled, make_column_selector(dtype_include=["float64", "int64"]))
    inner = ColumnTransformer([("in", filled, ["score", "visits"]), ("out", "passthrough", ["level"])])
    return [
        Case("pipeline", mixed((filled, numbers), (whole, ["city"]), ("passthrough", ["member"]))),
        Case("by place", mixed((filled, [0, 2, 3]), (known, slice(6, 8)), ("passthrough", [-5, -7]))),
        Case("by mask", mixed((filled, [True] + [False] * 9), (known, np.arange(10) == 7))),
        Case("by names from to", mixed((filled, slice("visits", "score")), (known, words))),
        Case("by type", mixed(by_type, (known, make_column_selector(dtype_include=object)))),
        Case("others as they are", mixed((known, words), ("drop", ["joined", "age", "flag"]), remainder="passthrough")),
        Case("others scaled", mixed((known, words), ("drop", ["joined"]), remainder=filled)),
        Case("others dropped", mixed((known, words), ("drop", ["joined"]), remainder="drop")),
        Case("no column", mixed((known, words), (filled, []), (filled, ["score"]))),
        Case("weights", mixed((filled, numbers), (dense, words), transformer_weights={"part 0": 0.3, "part 1": 2})),
        Case(
            "weights, sparse",
            mixed(
                (filled, ["age"]),
                (known, words),
                head=Ridge(),
                sparse_threshold=1.0,
                transformer_weights={"part 0": 0.3, "part 1": 0.1},
            ),
            "number",
        ),
        Case(
            "sparse",
            mixed((filled, numbers), (known, words), ("passthrough", ["member", "score"]), sparse_threshold=1.0),
            "three",
        ),
        Case(
            "sparse, one number a row",
            mixed((filled, numbers), (known, words), head=Ridge(), sparse_threshold=1.0),
            "number",
        ),
        Case(
            "sparse, two numbers a row",
            mixed((known, words), (filled, numbers), head=LinearRegression(), sparse_threshold=1.0),
            "pair",
        ),
        Case(
            "sparse, Huber",
            mixed(
                (known, words),
                (filled, numbers),
                head=SGDClassifier(loss="modified_huber", random_state=0),
                sparse_threshold=1.0,
            ),
            "three",
        ),
        Case("float32 alone", mixed(("passthrough", ["score"]), (StandardScaler(), ["score"]))),
        Case("float32 and flags", mixed((StandardScaler(), ["score", "member"]), ("passthrough", ["member", "score"]))),
        Case("flags alone", mixed(("passthrough", ["member"]), (MissingIndicator(features="all"), ["age"]))),
        Case("whole numbers alone", mixed(("passthrough", ["visits", "level"]))),
        Case(
            "flags with nulls",
            make_pipeline(
                ColumnTransformer([("as they are", "passthrough", ["flag", "level"]), ("filled", filled, ["flag"])]),
                SimpleImputer(add_indicator=True),
                logistic,
            ),
        ),
        Case(
            "nulls among sparse ones",
            mixed(("passthrough", ["income", "member"]), (known, words), sparse_threshold=1.0),
        ),
        Case(
            "flags and numbers as they are",
            make_pipeline(
                ColumnTransformer([("as they are", "passthrough", ["member", "income"])]),
                SimpleImputer(strategy="most_frequent"),
                logistic,
            ),
        ),
        Case(
            "text as it is, then one-hot",
            make_pipeline(
                ColumnTransformer([("as it is", "passthrough", ["word", "visits", "member", "age"])]), known, logistic
            ),
        ),
        Case(
            "text as it is, then numbered",
            make_pipeline(
                ColumnTransformer([("as it is", "passthrough", ["word", "score"])]),
                OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
                logistic,
            ),
        ),
        Case("columns of columns", mixed((inner, ["level", "score", "visits"]), (known, words))),
        Case(
            "columns within a pipeline",
            mixed(
                (make_pipeline("passthrough", inner, StandardScaler()), ["visits", "level", "score"]), (known, words)
            ),
        ),
        Case(
            "columns of a matrix of them",
            make_pipeline(
                ColumnTransformer([("a", filled, numbers), ("b", dense, ["word"])]),
                ColumnTransformer([("c", "passthrough", [5, 0]), ("d", StandardScaler(), slice(1, 3))]),
                logistic,
            ),
        ),
        Case(
            "a union",
            make_pipeline(
                ColumnTransformer([("a", filled, numbers)]),
                make_union(StandardScaler(), "passthrough", KBinsDiscretizer(3, encode="ordinal")),
                logistic,
            ),
        ),
        Case(
            "a union, sparse",
            make_pipeline(
                ColumnTransformer([("a", filled, numbers)]), make_union(KBinsDiscretizer(3), StandardScaler()), logistic
            ),
        ),
        Case(
            "a union of columns", make_pipeline(make_union(_columns(known, words), _columns(filled, numbers)), logistic)
        ),
        Case(
            "a union, weights",
            make_pipeline(
                _columns(filled, numbers),
                FeatureUnion(
                    [("a", MinMaxScaler()), ("b", "drop"), ("c", "passthrough")], transformer_weights={"a": 3, "c": 0.1}
                ),
                logistic,
            ),
        ),
        Case(
            "a pipeline of pipelines",
            Pipeline(
                [
                    ("all", make_pipeline(_columns(filled, numbers), make_pipeline(MaxAbsScaler(), "passthrough"))),
                    ("head", make_pipeline(StandardScaler(), logistic)),
                ]
            ),
        ),
        Case(
            "spread, which a pipeline does not pass on",
            mixed((filled, numbers), (dense, words), head=BayesianRidge()),
            "number",
            params=(("return_std", True),),
        ),
        Case(
            "a matrix in parts",
            make_pipeline(
                ColumnTransformer(
                    [("a", StandardScaler(), [0, 3]), ("b", KBinsDiscretizer(5), [1, 2])], remainder="passthrough"
                ),
                logistic,
            ),
            rows="matrix",
        ),
    ]


def _columns(part: Any, columns: Any, **options: Any) -> ColumnTransformer:
    return ColumnTransformer([("part", part, columns)], **options)


def _picked(part: Any, columns: Any, head: Any = None, **options: Any) -> Pipeline:
    """Some columns of the frame, and what becomes of them is the model's."""
    return make_pipeline(_columns(part, columns, **options), head or LogisticRegression(max_iter=500))


CASES = linear_cases() + encoders() + imputers() + mixtures()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_kernel_answers_as_the_library(case: Case, tmp_path: Path) -> None:
    """Every bit, label and name is the library's for a row alone, in 32 and in 4,096, and the same rows are refused."""
    found = case.reference()
    predictor = equal(found, tmp_path)
    call = found.call

    assert found.alone == [said(predictor, found.special[at : at + 1], call) for at in range(found.special.rows)]
    assert found.together == said(predictor, found.bulk, call)
    for at in (0, 32, 1000, 4064):
        rows = range(at, at + 32)
        assert cut(found.together, rows, 4096) == said(predictor, found.bulk[at : at + 32], call)
    for at in (*range(0, 4096, 97), 4095):
        assert cut(found.together, [at], 4096) == said(predictor, found.bulk[at : at + 1], call)
    assert found.alone == apart(predictor, found.special, call)


class Doubled(TransformerMixin, BaseEstimator):
    """A transformer of a user's own."""

    def fit(self, rows: Any, target: Any = None) -> "Doubled":
        self.fitted_ = True
        return self

    def transform(self, rows: Any) -> Any:
        return np.asarray(rows) * 2


def not_covered() -> list[tuple[str, Any]]:
    """What each kernel would have to guess, and the model."""
    numbers = ["income", "visits"]
    scaler, known = StandardScaler(), OneHotEncoder(handle_unknown="ignore")
    frames = make_pipeline(StandardScaler(), MinMaxScaler()).set_output(transform="pandas")
    bins = KBinsDiscretizer(3, encode="ordinal")
    return [
        ("Doubled", _picked(Doubled(), numbers)),
        ("Doubled", _picked(make_pipeline(scaler, Doubled()), numbers)),
        ("FunctionTransformer", _picked(FunctionTransformer(np.log1p), numbers)),
        ("FunctionTransformer", _picked(FunctionTransformer(validate=True), numbers)),
        ("StandardScaler that gives frames", _picked(frames, numbers)),
        (
            "copy=False",
            make_pipeline(_columns("passthrough", numbers), make_union(StandardScaler(copy=False), bins), Ridge()),
        ),
        ("copy=False", _picked(make_pipeline(make_union(SimpleImputer(copy=False))), numbers)),
        ("a weight", _picked(scaler, numbers, transformer_weights={"part": np.float64(0.5)})),
        ("a threshold of float64", _picked(Binarizer(threshold=np.float64(0.5)), numbers)),
        ("kept sparse", _picked(make_union(MissingIndicator(features="all", sparse=True), scaler), numbers)),
        ("datetime64", _picked(known, ["joined"])),
        ("ColumnTransformer", _picked("drop", numbers, DummyClassifier())),
        ("SimpleImputer that keeps no column", _picked(SimpleImputer(), ["nothing"], DummyClassifier())),
        (
            "a slice of no column",
            make_pipeline(ColumnTransformer([("a", scaler, [1]), ("b", "passthrough", slice(5, 5))]), Ridge()),
        ),
        ("GaussianProcessClassifier", _picked(scaler, numbers, GaussianProcessClassifier())),
    ]


@pytest.mark.parametrize(("phrase", "estimator"), not_covered(), ids=[str(at) for at in range(len(not_covered()))])
def test_what_would_be_a_guess_is_not_covered(phrase: str, estimator: Any) -> None:
    """A kernel is refused when it is made, and the reason names the part."""
    frame = FRAME.assign(nothing=np.nan)
    fitted = estimator.fit(frame, NUMBER > 5)
    names = tuple(map(str, frame.columns))
    with pytest.raises(NotCovered, match=phrase):
        lower.lower(fitted, Making(names=names), frame=True)


MISREAD = {
    "text for numbers": (StandardScaler(), ["income"], {"income": "string"}),
    "text for whole numbers": (SimpleImputer(strategy="constant", fill_value=0), ["visits"], {"visits": "string"}),
    "numbers for categories of text": (OneHotEncoder(handle_unknown="ignore"), ["word"], {"word": "double"}),
    "flags for categories of text": (OneHotEncoder(handle_unknown="ignore"), ["word"], {"word": "boolean"}),
    "dates for categories": (OneHotEncoder(handle_unknown="ignore"), ["word"], {"word": "datetime"}),
    "dates for numbers": (SimpleImputer(), ["income"], {"income": "datetime"}),
}


@pytest.mark.parametrize("misread", MISREAD.values(), ids=MISREAD)
def test_columns_of_other_types_fail_and_are_never_guessed(misread: tuple[Any, list[str], dict[str, str]]) -> None:
    """Where a signature gives a model columns that it was not trained on, no kernel answers."""
    part, columns, types = misread
    fitted = _picked(part, columns).fit(FRAME, TARGETS["two"])
    given = Signature(tuple(Column(name, types.get(name, kind)) for name, kind in COLUMNS))
    kernel = lower.lower(fitted, Making(names=tuple(given.names)), frame=True)
    predictor = behind(KernelEngine(kernel), tuple(given.names), given)
    assert "PredictionError" == said(predictor, predictor.example(), Call())
