"""Kernels of naive Bayes, clusters, support vector machines, made features and models of models: the library's bits,
and its refusals, row by row."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import BisectingKMeans, KMeans, MiniBatchKMeans
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import VotingClassifier, VotingRegressor
from sklearn.feature_selection import SelectKBest
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression, Perceptron, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier, MultiOutputRegressor
from sklearn.naive_bayes import BernoulliNB, CategoricalNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import SVC, SVR, LinearSVC, NuSVC, NuSVR, OneClassSVM

from foretell.batch import Batch, Call
from foretell.cells import Column
from foretell.kernels import lower
from foretell.kernels.kernel import KernelEngine
from foretell.kernels.node import Making, NotCovered
from foretell.models.sklearn import SklearnEngine
from foretell.signature import Signature
from foretell.trees import libm
from kernel_reference import Reference, apart, behind, cut, equal, reference, said

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")

ODD = (0.0, -0.0, 5e-324, -5e-324, 2.3e-310, 1e-300, 1e300, -1e300, 1.7e308, -1.7e308, 2.0**53, math.nan, math.inf)
DTYPES = {"double": "float64", "float": "float32", "long": "int64", "boolean": "bool"}


@cache
def table(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on, and their classes."""
    numbers = np.random.default_rng(5)
    if name == "counts":
        rows = numbers.integers(0, [3, 5, 2, 10, 4, 7], (400, 6)).astype("float64")
        return rows, (rows.sum(axis=1).astype(int) // 8).clip(0, 2)
    rows, classes = {"iris": load_iris, "wine": load_wine, "digits": load_digits}[name](return_X_y=True)
    chosen = numbers.permutation(len(rows))[:300]
    return rows[chosen], classes[chosen]


@dataclass(frozen=True)
class Case:
    """A model, the rows that it is trained on, and how they come. target: what is learnt of the classes. varies:
    whether a processor decides if it is covered."""

    name: str
    model: Any
    rows: str = "wine"
    target: Callable[[np.ndarray], Any] = lambda classes: classes
    kind: str = "double"
    trained: str = "float64"
    frame: bool = False
    varies: bool = False

    def reference(self) -> Reference:
        rows, classes = table(self.rows)
        given = pd.DataFrame(rows, columns=list(map("c{}".format, range(rows.shape[1])))) if self.frame else rows
        fitted = self.model.fit(given.astype(self.trained), self.target(classes))
        kinds = [Column(name if self.frame else None, self.kind) for name in map("c{}".format, range(rows.shape[1]))]
        signature = Signature(tuple(kinds))
        usual = ordinary(rows, self.rows == "counts").astype(DTYPES[self.kind])
        if self.kind in ("double", "float"):
            usual = np.concatenate([usual, edges(fitted, usual, signature)])
        special = odd(rows, self.kind)
        return reference(fitted, signature, batch(special), batch(usual), Call(proba=True))


def batch(rows: np.ndarray) -> Batch:
    return Batch.of(rows)


def ordinary(rows: np.ndarray, counts: bool) -> np.ndarray:
    """Rows trained on, and for numbers that are measured rows between and around them."""
    numbers = np.random.default_rng(6)
    one, other = rows[numbers.integers(0, len(rows), (2, 700))]
    if counts:
        return one
    return np.concatenate(
        [one, one + (other - one) * numbers.random((700, 1)), one + rows.std(axis=0) * numbers.normal(size=one.shape)]
    )


def odd(rows: np.ndarray, kind: str) -> np.ndarray:
    """Each row is one that was trained on but for a cell that is not ordinary; then rows of nothing else."""
    numbers = np.random.default_rng(7)
    values = ODD if kind in ("double", "float") else (0, 1, -1, 3, 2**53 + 1, 2**31, -(2**40))
    special = rows[numbers.integers(0, len(rows), 3 * len(values))]
    special[np.arange(len(special)), numbers.integers(0, rows.shape[1], len(special))] = values * 3
    alike = np.repeat(np.array(values)[:, np.newaxis], rows.shape[1], axis=1)
    together = np.concatenate([special, alike, rows[:9], rows[:9] + 0.25, rows.mean(axis=0)[np.newaxis]])
    with np.errstate(over="ignore", invalid="ignore"):
        return together.astype(DTYPES[kind])


def edges(fitted: Any, rows: np.ndarray, signature: Signature) -> np.ndarray:
    """Rows on both sides of the boundaries between labels: pairs halved until nothing is between them, and rows that
    lie a few last bits away."""
    predictor = behind(SklearnEngine(fitted), None, signature)

    def labels(rows: np.ndarray) -> np.ndarray:
        values = predictor.predict(batch(rows), Call()).outputs[0].values
        return values if values.ndim == 1 else values[:, 0]

    numbers = np.random.default_rng(8)
    one, other = rows[numbers.integers(0, len(rows), (2, 256))]
    if labels(one[:1]).dtype.kind == "f":
        return one[:0]
    apart = labels(one) != labels(other)
    one, other = one[apart], other[apart]
    if not len(one):
        return one
    here = labels(one)
    for _ in range(60 if rows.dtype == "float64" else 30):
        middle = one + (other - one) / 2
        same = (labels(middle) == here)[:, np.newaxis]
        one, other = np.where(same, middle, one), np.where(same, other, middle)
    near = np.concatenate([one, other] * 3)
    near += numbers.integers(-3, 4, near.shape) * np.spacing(near)
    return np.concatenate([one, other, near])


def named(classes: np.ndarray) -> np.ndarray:
    return np.array(["a", "bb", "ccc"], object)[classes]


def two(classes: np.ndarray) -> np.ndarray:
    return np.where(classes > 0, "yes", "no")


def number(classes: np.ndarray) -> np.ndarray:
    return classes + 1.5


def both(classes: np.ndarray) -> np.ndarray:
    return np.stack([classes, classes[::-1]], axis=1)


def numbers(classes: np.ndarray) -> np.ndarray:
    return np.stack([classes + 0.5, classes[::-1] * 2.0], axis=1)


def bayes() -> list[Case]:
    return [
        *(
            case
            for name, model in {
                "multinomial": MultinomialNB(),
                "complement": ComplementNB(),
                "complement, weights over their sum": ComplementNB(norm=True),
                "Bernoulli": BernoulliNB(binarize=3.5),
            }.items()
            for case in (
                Case(name, model, "digits"),
                Case(f"{name}, two classes", model, "digits", two),
                Case(f"{name}, few columns", model, "counts", named),
                Case(f"{name}, float32", model, "digits", kind="float", trained="float32"),
                Case(f"{name}, whole numbers", model, "counts", kind="long"),
            )
        ),
        Case("Gauss", GaussianNB(), "iris", named),
        Case("Gauss, wide", GaussianNB(), "digits"),
        Case("Gauss, two classes", GaussianNB(priors=[0.25, 0.75]), "wine", two),
        Case("Gauss, float32", GaussianNB(), "digits", kind="float", trained="float32"),
        Case("Gauss, whole numbers", GaussianNB(), "counts", kind="long", trained="float32"),
        Case("without smoothing", MultinomialNB(alpha=0, force_alpha=True), "digits"),
        Case("one class", ComplementNB(), "counts", lambda classes: classes * 0),
        Case("Bernoulli of flags", BernoulliNB(binarize=None), "counts", kind="boolean", trained="bool"),
        Case("Bernoulli, a threshold that float32 rounds", BernoulliNB(binarize=0.1), "counts", kind="float"),
        Case("categories", CategoricalNB(), "counts", named),
        Case("categories, whole numbers", CategoricalNB(min_categories=12), "counts", two, kind="long"),
    ]


def clusters() -> list[Case]:
    few, wide = KMeans(3, n_init=1, random_state=0), KMeans(20, n_init=1, random_state=0, max_iter=5)
    return [
        Case("k-means", few),
        Case("k-means, wide", wide, "digits"),
        Case("k-means, float32", few, "wine", kind="float", trained="float32"),
        Case("k-means, wide, float32", wide, "digits", kind="float", trained="float32", varies=True),
        Case("k-means, whole numbers", few, "counts", kind="long"),
        Case("k-means, one cluster", KMeans(1), "iris"),
        Case("k-means in small batches", MiniBatchKMeans(8, n_init=1, random_state=0), "digits"),
        *(
            Case(f"k-means by halves, of {rows}", BisectingKMeans(6, random_state=0), rows, varies=True)
            for rows in ("iris", "wine", "digits")
        ),
        *(
            Case(f"centroids, {name}, of {rows}", NearestCentroid(**options), rows, target)
            for rows, target in (("iris", named), ("wine", two), ("digits", same))
            for name, options in {
                "euclidean": {},
                "euclidean by share": {"priors": "empirical"},
                "shrunken": {"shrink_threshold": 0.3},
                "manhattan": {"metric": "manhattan"},
                "manhattan by share": {"metric": "manhattan", "priors": "empirical"},
            }.items()
        ),
        Case("centroids, float32", NearestCentroid(), kind="float"),
    ]


def same(classes: np.ndarray) -> np.ndarray:
    return classes


def machines() -> list[Case]:
    svc: dict[str, Any] = {"probability": True, "random_state": 0, "max_iter": 2000}
    return [
        *(
            case
            for kernel in ("linear", "poly", "rbf")
            for case in (
                Case(f"classifier, {kernel}", SVC(kernel=kernel, **svc), "iris", named),
                Case(f"classifier, {kernel}, wide", SVC(kernel=kernel, max_iter=2000), "digits"),
                Case(f"classifier, {kernel}, two classes", SVC(kernel=kernel, **svc), "wine", two),
                Case(f"classifier, {kernel}, ties broken", SVC(kernel=kernel, break_ties=True, max_iter=2000), "wine"),
                Case(f"regressor, {kernel}", SVR(kernel=kernel, max_iter=2000), "wine", number),
                Case(f"one class, {kernel}", OneClassSVM(kernel=kernel, nu=0.3), "iris"),
            )
        ),
        Case("classifier by nu", NuSVC(nu=0.1, decision_function_shape="ovo"), "iris"),
        Case("regressor by nu", NuSVR(), "iris", number),
        Case("classifier, many probabilities", SVC(probability=True, random_state=0), "digits"),
        Case("classifier, float32", SVC(**svc), "iris", kind="float"),
        Case("classifier, whole numbers", SVC(**svc), "counts", kind="long"),
    ]


def made_features() -> list[Case]:
    return [
        *(
            Case(f"{name}, of {rows}", make_pipeline(step, LogisticRegression(max_iter=50)), rows)
            for name, step, tables in (
                ("principal components", PCA(3), ("iris", "wine", "digits")),
                ("principal components, white", PCA(3, whiten=True, random_state=0), ("wine", "digits")),
                ("singular vectors", TruncatedSVD(3), ("iris", "digits")),
                ("rows of length 1", Normalizer(), ("wine", "digits")),
                ("rows of sum 1", Normalizer("l1"), ("wine", "digits")),
                ("rows of largest 1", Normalizer("max"), ("wine",)),
                ("products", PolynomialFeatures(2), ("iris", "wine")),
                ("products of three", PolynomialFeatures(3, interaction_only=True, include_bias=False), ("iris",)),
                ("products, from two to three", PolynomialFeatures((2, 3)), ("iris",)),
                ("products of two only", PolynomialFeatures((2, 2), include_bias=False), ("iris",)),
                ("powers", PowerTransformer(), ("wine",)),
                ("powers as they are", PowerTransformer(standardize=False), ("iris",)),
                ("quantiles", QuantileTransformer(n_quantiles=50), ("wine", "counts")),
                (
                    "normal quantiles",
                    QuantileTransformer(n_quantiles=50, output_distribution="normal"),
                    ("wine", "counts"),
                ),
            )
            for rows in tables
        ),
        Case("products, wide", make_pipeline(PolynomialFeatures(2), Ridge()), "digits", number),
        Case("powers, float32", make_pipeline(PowerTransformer(), Ridge()), "iris", number, "float", "float32"),
        Case(
            "quantiles, float32",
            make_pipeline(QuantileTransformer(n_quantiles=50, output_distribution="normal"), Ridge()),
            "iris",
            number,
            "float",
            "float32",
        ),
        Case("rows of length 1, whole numbers", make_pipeline(Normalizer(), Ridge()), "counts", number, "long"),
        Case("components, then labels alone", make_pipeline(StandardScaler(), PCA(5), LinearSVC()), "digits"),
        Case("components, then clusters", make_pipeline(PCA(5), KMeans(5, n_init=1, random_state=0)), "digits"),
        *(
            Case(f"chosen columns, then {name}", make_pipeline(SelectKBest(k=9), *then), "wine")
            for name, then in {
                "Gauss": (GaussianNB(),),
                "components": (PCA(3), LogisticRegression(max_iter=50)),
                "rows of length 1": (Normalizer(), LogisticRegression(max_iter=50)),
                "rows of sum 1": (Normalizer("l1"), LogisticRegression(max_iter=50)),
                "products": (PolynomialFeatures(2), LogisticRegression(max_iter=50)),
                "a machine": (SVC(probability=True, random_state=0),),
                "clusters": (KMeans(4, n_init=1, random_state=0),),
                "centroids": (NearestCentroid(priors="empirical"),),
            }.items()
        ),
    ]


def models_of_models() -> list[Case]:
    logistic = make_pipeline(StandardScaler(), LogisticRegression(max_iter=50))
    soft = [("a", logistic), ("b", GaussianNB()), ("c", SVC(probability=True, random_state=0)), ("d", "drop")]
    hard = [("a", logistic), ("b", LinearSVC(max_iter=50)), ("c", NearestCentroid())]
    ridges = [(str(at), Ridge(alpha=at + 1)) for at in range(11)]

    def calibrated(model: Any, **options: Any) -> CalibratedClassifierCV:
        return CalibratedClassifierCV(model, cv=3, **options)

    back: dict[str, dict[str, Any]] = {
        "by a function": {"func": np.log1p, "inverse_func": np.expm1},
        "by none": {},
        "by a scaler": {"transformer": StandardScaler()},
        "by a range": {"transformer": MinMaxScaler()},
        "by quartiles": {"transformer": RobustScaler()},
        "by the largest": {"transformer": MaxAbsScaler()},
    }
    return [
        Case("votes by probability", VotingClassifier(soft, voting="soft", weights=[1, 0.3, 2, 5]), "iris", named),
        Case("votes by probability, wide", VotingClassifier(soft[:2], voting="soft"), "digits"),
        Case("votes by label", VotingClassifier(hard), "wine", named),
        Case("votes by label, weights", VotingClassifier(hard, weights=[1, 2.5, 1.5]), "digits"),
        Case("votes of numbers", VotingRegressor(ridges), "digits", number),
        Case("votes of numbers, weights", VotingRegressor(ridges[:3], weights=[1, 2, 3]), "wine", number),
        Case("calibrated", calibrated(LinearSVC(max_iter=50)), "wine", named),
        Case("calibrated, two classes", calibrated(LinearSVC(max_iter=50)), "wine", two),
        Case("calibrated, wide", calibrated(logistic), "digits"),
        Case("calibrated by steps", calibrated(logistic, method="isotonic"), "wine"),
        Case("calibrated by steps, two classes", calibrated(GaussianNB(), method="isotonic"), "wine", two),
        Case("calibrated, a machine", calibrated(SVC()), "iris"),
        Case("calibrated, one model", calibrated(GaussianNB(), ensemble=False), "iris"),
        Case(
            "calibrated, as it was",
            CalibratedClassifierCV(FrozenEstimator(LogisticRegression(max_iter=500).fit(*table("iris")))),
            "iris",
        ),
        Case("one a class", OneVsRestClassifier(logistic), "wine", named),
        Case("one a class, by probability", OneVsRestClassifier(GaussianNB()), "digits"),
        Case("one a class, labels alone", OneVsRestClassifier(LinearSVC(max_iter=50)), "digits"),
        Case("one a class, machines", OneVsRestClassifier(SVC(kernel="linear")), "iris"),
        Case("one a class, by numbers", OneVsRestClassifier(LinearRegression()), "wine"),
        Case("one of two classes", OneVsRestClassifier(logistic), "wine", two),
        Case("one an output, classes", MultiOutputClassifier(logistic), "wine", lambda classes: both(named(classes))),
        Case("one an output, labels alone", MultiOutputClassifier(LinearSVC(max_iter=50)), "wine", both),
        Case("one an output, numbers", MultiOutputRegressor(SVR()), "iris", numbers),
        Case("one output", MultiOutputRegressor(Ridge()), "wine", lambda classes: number(classes)[:, np.newaxis]),
        Case("the same class", DummyClassifier(), "iris", named),
        Case("the same class, sure", DummyClassifier(strategy="most_frequent"), "iris"),
        Case("a given class", DummyClassifier(strategy="constant", constant="bb"), "iris", named),
        Case("the same number", DummyRegressor(), "iris", number),
        Case("the same numbers", DummyRegressor(), "iris", numbers),
        *(
            case
            for name, options in back.items()
            for case in (
                Case(f"turned back {name}", TransformedTargetRegressor(SVR(), **options), "iris", number),
                Case(f"turned back {name}, two", TransformedTargetRegressor(Ridge(), **options), "wine", numbers),
            )
        ),
    ]


def frames() -> list[Case]:
    """Where the library is given a frame, whose columns lie one after the other."""
    scaled = ColumnTransformer([("all", StandardScaler(), [f"c{at}" for at in range(2, 12)])])
    hot = ColumnTransformer([("hot", OneHotEncoder(handle_unknown="ignore"), ["c0", "c1", "c3"])])
    mixed = ColumnTransformer(
        [("hot", OneHotEncoder(handle_unknown="ignore"), ["c0", "c1"]), ("as they are", "passthrough", ["c3", "c4"])],
        sparse_threshold=1.0,
    )
    logistic = LogisticRegression(max_iter=50)
    steps = {
        "length 1": Normalizer(),
        "sum 1": Normalizer("l1"),
        "components": PCA(3),
        "products": PolynomialFeatures(2),
        "powers": PowerTransformer(),
        "quantiles": QuantileTransformer(n_quantiles=50),
    }
    return [
        Case("a frame, Gauss", make_pipeline(scaled, GaussianNB()), frame=True),
        Case("a frame, clusters", make_pipeline(scaled, KMeans(3, n_init=1, random_state=0)), frame=True),
        Case("a frame, a machine", make_pipeline(scaled, SVC(probability=True, random_state=0)), frame=True),
        *(Case(f"a frame, {name}", make_pipeline(scaled, step, logistic), frame=True) for name, step in steps.items()),
        Case(
            "a frame, votes",
            VotingClassifier([("a", make_pipeline(scaled, logistic)), ("b", GaussianNB())], voting="soft"),
            frame=True,
        ),
        Case("sparse, multinomial", make_pipeline(hot, MultinomialNB()), "counts", frame=True),
        Case("sparse, complement", make_pipeline(mixed, ComplementNB()), "counts", frame=True),
        Case("sparse, Bernoulli", make_pipeline(mixed, BernoulliNB()), "counts", frame=True),
        Case("sparse, singular vectors", make_pipeline(mixed, TruncatedSVD(3), logistic), "counts", frame=True),
        Case("sparse, components", make_pipeline(mixed, PCA(3, svd_solver="arpack"), logistic), "counts", frame=True),
    ]


CASES = bayes() + clusters() + machines() + made_features() + models_of_models() + frames()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_kernel_answers_as_the_library(case: Case, tmp_path: Path) -> None:
    """Every bit, label and name is the library's for a row alone, in 32 and in 4,096, and the same rows are refused."""
    found = case.reference()
    try:
        predictor = equal(found, tmp_path)
    except NotCovered:
        assert case.varies
        return
    call = found.call

    assert found.alone == [said(predictor, found.special[at : at + 1], call) for at in range(found.special.rows)]
    assert found.alone == apart(predictor, found.special, call)
    assert found.together == said(predictor, found.bulk, call)
    for at in (0, 32, 1000, 4064):
        assert cut(found.together, range(at, at + 32), 4096) == said(predictor, found.bulk[at : at + 32], call)
    for at in (*range(0, 4096, 7), 4095):
        assert cut(found.together, [at], 4096) == said(predictor, found.bulk[at : at + 1], call)


@pytest.mark.parametrize("call", [Call(), Call(proba=True)], ids=["labels", "probabilities"])
def test_the_library_itself_answers_a_row_alone_so(call: Call, tmp_path: Path) -> None:
    """What a kernel is held to does not depend on the rows beside it."""
    found = Case("", VotingClassifier([("a", GaussianNB()), ("b", LogisticRegression())], voting="soft")).reference()
    native = behind(found.native, None, found.signature)
    whole = said(native, found.bulk, call)
    for at in range(0, 4096, 211):
        assert cut(whole, [at], 4096) == said(native, found.bulk[at : at + 1], call)


@pytest.mark.parametrize("exp", [libm.exp, libm.without_walk], ids=["compiled", "not compiled"])
def test_exponentials_are_the_c_library_s(exp: Callable[[np.ndarray], np.ndarray]) -> None:
    """To the bit as math.exp, few or many, and infinite where that overflows."""
    values = np.concatenate([np.random.default_rng(0).uniform(-760, 705, 20_000), [0.0, -0.0, -1e308, 5e-324, 700.0]])
    expected = [math.exp(value) for value in values]
    assert expected == exp(values).tolist()
    assert expected[:5] == exp(values[:5]).tolist()
    assert [math.inf, 0.0] == exp(np.array([710.0, -math.inf])).tolist()
    beyond = np.array([math.nan, *[709.5] * 50])
    assert [math.exp(709.5)] * 50 == exp(beyond)[1:].tolist()


def not_covered() -> list[tuple[str, Any]]:
    """What each kernel would have to guess, and the model."""
    logistic = LogisticRegression()

    def turned(**options: Any) -> TransformedTargetRegressor:
        return TransformedTargetRegressor(Ridge(), check_inverse=False, **options)

    return [
        ("SVC with the kernel sigmoid", SVC(kernel="sigmoid")),
        ("SVC with the kernel of a function", SVC(kernel=lambda left, right: left @ right.T)),
        ("BisectingKMeans of one cluster", BisectingKMeans(1)),
        ("by Box-Cox", make_pipeline(MinMaxScaler((1, 2)), PowerTransformer("box-cox"), logistic)),
        ("copy=False", make_pipeline(PowerTransformer(copy=False), logistic)),
        ("copy=False", make_pipeline(QuantileTransformer(n_quantiles=9, copy=False), logistic)),
        ("copy=False", make_pipeline(Normalizer(copy=False), logistic)),
        ("copy=False", VotingClassifier([("a", make_pipeline(StandardScaler(copy=False), logistic))])),
        ("how they lie in memory", make_pipeline(SelectKBest(k=5), NearestCentroid())),
        ("degree 0", make_pipeline(PolynomialFeatures(0), logistic)),
        ("looks at all rows at once", CalibratedClassifierCV(logistic, cv=2, method="temperature")),
        ("KNeighborsClassifier", VotingClassifier([("a", KNeighborsClassifier(2))])),
        ("DummyClassifier by stratified", DummyClassifier(strategy="stratified")),
        ("DummyClassifier by uniform", DummyClassifier(strategy="uniform")),
        ("turned back by FunctionTransformer", turned(func=lambda y: y, inverse_func=lambda y: y)),
        ("turned back by PowerTransformer", turned(transformer=PowerTransformer())),
        ("negative weights", VotingClassifier([("a", logistic), ("b", Perceptron())], weights=[1, -1])),
    ]


@pytest.mark.parametrize(("phrase", "model"), not_covered(), ids=[str(at) for at in range(len(not_covered()))])
def test_what_would_be_a_guess_is_not_covered(phrase: str, model: Any) -> None:
    """A kernel is refused when it is made, and the reason names the part."""
    fitted = model.fit(*table("wine"))
    with pytest.raises(NotCovered, match=phrase):
        lower.lower(fitted, Making(), frame=False)


def test_centers_of_another_dtype_fail_as_the_library_s() -> None:
    """k-means on doubles does not take rows of float32, and no kernel answers what the library does not."""
    fitted = KMeans(3, n_init=1, random_state=0).fit(table("iris")[0])
    signature = Signature(tuple(Column(None, "float") for _ in range(4)))
    kernel = KernelEngine(lower.lower(fitted, Making(), frame=False))
    rows = batch(table("iris")[0].astype("float32"))
    for engine in (SklearnEngine(fitted), kernel):
        assert "PredictionError" == said(behind(engine, None, signature), rows, Call())
