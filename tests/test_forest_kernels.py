"""Kernels of scikit-learn's tree ensembles: the library's bits on 100,000 rows around every threshold, and its
refusals, row by row."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingClassifier,
    BaggingRegressor,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputRegressor
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier, ExtraTreeRegressor
from threadpoolctl import threadpool_limits

from forest_rows import (
    ROWS,
    Case,
    classes,
    drawn,
    half,
    labels,
    near,
    number,
    numbers,
    one,
    positive,
    special,
    three,
    thresholds,
    twelve,
    two,
)
from foretell.batch import Call
from foretell.cells import Column
from foretell.kernels import lower, stored
from foretell.kernels.kernel import KernelEngine
from foretell.kernels.node import Making, NotCovered
from foretell.models.sklearn import SklearnEngine, _names
from foretell.signature import Signature
from kernel_reference import apart, behind, cut, said

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning", "ignore::FutureWarning")


def forests() -> list[Case]:
    each: dict[str, Any] = {"n_estimators": 9, "random_state": 0, "max_depth": 6}
    classifier, regressor = RandomForestClassifier(**each), RandomForestRegressor(**each)
    rising = {"monotonic_cst": [1, 0, -1, 0, 0, 0], **each}
    return [
        Case("forest, two classes", classifier, two),
        Case("forest, three classes", classifier, three),
        Case("forest, twelve classes", classifier, twelve),
        Case("forest, one class", classifier, one),
        Case("forest, several outputs", classifier, classes),
        Case("forest, several labels", classifier, labels),
        Case("forest, weights", RandomForestClassifier(class_weight="balanced_subsample", **each), three),
        Case("forest, rising", RandomForestClassifier(**rising), two),
        Case("forest, missing cells", classifier, three, missing=True),
        Case("forest, floats", classifier, three, ("float",) * 6, missing=True),
        Case("forest, whole numbers", classifier, two, ("long",) * 4),
        Case("forest, flags", classifier, two, ("boolean",) * 9),
        Case("forest, one column", classifier, two, ("double",)),
        Case("forest of numbers", regressor),
        Case("forest of numbers, missing cells", regressor, missing=True),
        Case("forest of numbers, several", regressor, numbers),
        Case("forest of numbers, rising", RandomForestRegressor(**rising)),
        *(
            Case(
                f"forest of numbers, {loss}",
                RandomForestRegressor(3, criterion=loss, max_depth=3, random_state=0),
                target,
            )
            for loss, target in (("poisson", positive), ("absolute_error", number), ("friedman_mse", number))
        ),
        Case("extra trees", ExtraTreesClassifier(**each), three),
        Case("extra trees, missing cells", ExtraTreesClassifier(**each), three, missing=True),
        Case("extra trees of numbers", ExtraTreesRegressor(**each), numbers),
        Case("a tree", DecisionTreeClassifier(max_depth=6), three),
        Case("a tree, several outputs", DecisionTreeClassifier(max_depth=6), classes),
        Case("a tree, split anyhow", DecisionTreeClassifier(splitter="random", random_state=0), three),
        Case("a tree of numbers", DecisionTreeRegressor(), missing=True),
        Case("a tree of numbers, several", DecisionTreeRegressor(max_leaf_nodes=9), numbers),
        Case("an extra tree", ExtraTreeClassifier(random_state=0), twelve),
        Case("an extra tree of numbers", ExtraTreeRegressor(random_state=0)),
        Case("a tree of one leaf", DecisionTreeRegressor(max_depth=1, min_samples_leaf=400)),
        Case("isolation", IsolationForest(n_estimators=9, random_state=0)),
        Case("isolation, missing cells", IsolationForest(n_estimators=9, random_state=0), missing=True),
        Case("isolation, a share", IsolationForest(n_estimators=9, contamination=0.2, max_features=3, random_state=0)),
        Case(
            "isolation, columns twice", IsolationForest(n_estimators=9, bootstrap=True, max_samples=40, random_state=0)
        ),
        Case("isolation, two rows", IsolationForest(n_estimators=9, max_samples=2, random_state=0)),
        Case("isolation, one row", IsolationForest(n_estimators=3, max_samples=1, random_state=0)),
        Case("bagging", BaggingClassifier(DecisionTreeClassifier(max_depth=4), random_state=0), three),
        Case("bagging, missing cells", BaggingClassifier(max_features=0.5, random_state=0), two, missing=True),
        Case("bagging, few rows", BaggingClassifier(max_samples=5, random_state=0), twelve),
        Case("bagging of numbers", BaggingRegressor(max_features=3, bootstrap_features=True, random_state=0)),
        Case("bagging of numbers, several", BaggingRegressor(ExtraTreeRegressor(max_depth=4), random_state=0), numbers),
    ]


def boosted() -> list[Case]:
    each: dict[str, Any] = {"n_estimators": 9, "random_state": 0}
    by_bins: dict[str, Any] = {"max_iter": 9, "max_leaf_nodes": 9, "random_state": 0}
    stump, classifier = DecisionTreeClassifier(max_depth=2), HistGradientBoostingClassifier(**by_bins)
    return [
        Case("boosting, two classes", GradientBoostingClassifier(**each), two),
        Case("boosting, exponential", GradientBoostingClassifier(loss="exponential", **each), two),
        Case("boosting, three classes", GradientBoostingClassifier(**each), three),
        Case("boosting, twelve classes", GradientBoostingClassifier(**each), twelve),
        Case("boosting from zero", GradientBoostingClassifier(init="zero", subsample=0.5, **each), three),
        Case("boosting, scores of zero", GradientBoostingClassifier(init="zero", min_samples_leaf=400, **each), half),
        Case("bins, scores of zero", HistGradientBoostingClassifier(min_samples_leaf=400, **by_bins), half),
        Case("boosting, stopped early", GradientBoostingClassifier(n_iter_no_change=1, tol=1.0, **each), two),
        Case("boosting, whole numbers", GradientBoostingClassifier(**each), two, ("long",) * 4),
        *(
            Case(f"boosting of numbers, {loss}", GradientBoostingRegressor(loss=loss, **each), kinds=(kind,) * 6)
            for loss in ("squared_error", "absolute_error", "huber", "quantile")
            for kind in ("double", "float")
        ),
        Case("boosting of numbers from zero", GradientBoostingRegressor(init="zero", **each)),
        Case("boosting of numbers from a forest", GradientBoostingRegressor(init=RandomForestRegressor(3), **each)),
        Case("bins, two classes", classifier, two, missing=True),
        Case("bins, three classes", classifier, three),
        Case("bins, twelve classes", classifier, twelve, missing=True),
        Case("bins, floats", classifier, three, ("float",) * 6),
        Case("bins, whole numbers", classifier, two, ("long",) * 4),
        Case("bins, few iterations", HistGradientBoostingClassifier(max_iter=1, max_depth=1), two),
        Case("bins, rising", HistGradientBoostingClassifier(monotonic_cst=[1, -1, 0, 0, 0, 0], **by_bins), two),
        *(
            Case(f"bins of numbers, {loss}", HistGradientBoostingRegressor(loss=loss, quantile=0.3, **by_bins), target)
            for loss, target in {
                "squared_error": number,
                "absolute_error": number,
                "quantile": number,
                "poisson": positive,
                "gamma": positive,
            }.items()
        ),
        *(
            Case(f"bins, categories, {name}", HistGradientBoostingClassifier(**options, **by_bins), target, *more)
            for name, options, target, *more in (
                ("numbers", {"categorical_features": [0, 2]}, three, ("integer", "double", "integer")),
                ("nothing else", {"categorical_features": [0, 1]}, two, ("integer",) * 2),
                ("text", {"categorical_features": ["c0", "c3"]}, twelve, TEXT, False, True),
                ("text, missing cells", {"categorical_features": ["c0", "c3"]}, two, TEXT[:4], True, True),
            )
        ),
        Case("AdaBoost, two classes", AdaBoostClassifier(stump, **each), two),
        Case("AdaBoost, three classes", AdaBoostClassifier(stump, learning_rate=0.3, **each), three),
        Case("AdaBoost, twelve classes", AdaBoostClassifier(DecisionTreeClassifier(max_depth=6), **each), twelve),
        Case("AdaBoost, floats", AdaBoostClassifier(stump, **each), three, ("float",) * 6),
        *(
            Case(f"AdaBoost of numbers, {loss}", AdaBoostRegressor(loss=loss, **each))
            for loss in ("linear", "square", "exponential")
        ),
        Case("AdaBoost of numbers, many", AdaBoostRegressor(DecisionTreeRegressor(max_depth=2), n_estimators=70)),
    ]


TEXT = ("string", "double", "double", "string", "long", "integer")
FLAGS = ("long", "boolean", "double", "float", "integer", "boolean")
WHOLE = ("long", "double", "long", "integer", "float")


def models_of_models() -> list[Case]:
    each: dict[str, Any] = {"n_estimators": 5, "max_depth": 4, "random_state": 0}
    soft = [
        ("forest", RandomForestClassifier(**each)),
        ("boosting", GradientBoostingClassifier(**each)),
        ("bins", HistGradientBoostingClassifier(max_iter=5)),
        ("AdaBoost", AdaBoostClassifier(n_estimators=5)),
    ]
    mixed = ColumnTransformer(
        [("text", OneHotEncoder(handle_unknown="ignore"), ["c0", "c3"]), ("rest", "passthrough", ["c1", "c2"])],
        sparse_threshold=1.0,
    )
    filled = make_pipeline(SimpleImputer(), StandardScaler(), RandomForestClassifier(**each))
    frames = {
        "forest": RandomForestRegressor(**each),
        "boosting": GradientBoostingRegressor(**each),
        "bins": HistGradientBoostingRegressor(max_iter=9),
        "AdaBoost": AdaBoostRegressor(n_estimators=5, random_state=0),
        "bagging": BaggingRegressor(random_state=0),
        "isolation": IsolationForest(n_estimators=9, random_state=0),
    }
    return [
        Case("votes", VotingClassifier(soft, voting="soft"), three),
        Case("votes by label", VotingClassifier(soft[:3]), twelve),
        Case("votes of numbers", VotingRegressor([*frames.items()][:5])),
        *(
            Case(f"calibrated {name}", CalibratedClassifierCV(model, cv=2, method=way), target)
            for (name, model), way, target in zip(soft, ("sigmoid", "isotonic") * 2, (two, three) * 2, strict=True)
        ),
        Case("one a class, boosting", OneVsRestClassifier(soft[1][1]), three),
        Case("one an output", MultiOutputRegressor(frames["bins"]), numbers),
        Case("after imputing and scaling", filled, three, missing=True),
        *(
            Case(f"sparse, {name}", make_pipeline(mixed, model), three, TEXT, frame=True)
            for name, model in (*soft[:2], soft[3], ("bagging", BaggingClassifier(random_state=0)))
        ),
        Case("sparse, isolation", make_pipeline(mixed, frames["isolation"]), three, TEXT, frame=True),
        *(
            Case(f"a frame {kind}, {name}", make_pipeline(FunctionTransformer(), model), number, kinds, frame=True)
            for name, model in frames.items()
            for kind, kinds in (("with flags", FLAGS), ("without flags", WHOLE), ("of whole numbers", ("long",) * 3))
        ),
    ]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """The library's threads wait for each other longer than they compute."""
    with threadpool_limits(1):
        yield


CASES = forests() + boosted() + models_of_models()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_forest_answers_as_the_library(case: Case, tmp_path: Path) -> None:
    """Every bit, label and name is the library's for a row alone and in 100,000, and the same rows are refused."""
    fitted, cells = case.fitted()
    native, in_one, names = SklearnEngine(fitted), SklearnEngine(fitted), _names(fitted)
    in_one.block = None
    signature = Signature(tuple(Column(f"c{at}" if names else None, kind) for at, kind in enumerate(case.kinds)))
    call = Call(proba=native.proba)
    stored.write(lower.lower(fitted, Making(names=names), frame=native.framed), tmp_path)
    engines = (native, in_one, KernelEngine(stored.read(tmp_path)))
    library, at_once, ours = (behind(engine, names, signature) for engine in engines)

    odd, places = special(cells, case.kinds)
    each = apart(library, odd, call)
    assert each == apart(ours, odd, call)

    good = [place for place, what in zip(places, each, strict=True) if not isinstance(what, str)]
    taken = [[value for at, value in good if at == column] for column in range(len(cells))]
    rows = drawn(cells, case.kinds, near(thresholds(fitted)), taken, ROWS)
    expected, actual = said(at_once, rows, call), said(ours, rows, call)
    assert not isinstance(expected, str), "the library refuses an ordinary row, so nothing is compared"
    assert [output[:-1] for output in expected] == [output[:-1] for output in actual]
    same = expected == actual
    assert same, "the answers have other bits"
    for row in (0, 1, 77, 4096):
        for predictor in (library, ours):
            assert cut(expected, [row], ROWS) == said(predictor, rows[row : row + 1], call)


def not_covered() -> list[tuple[str, Any]]:
    """What each kernel would have to guess, and the model."""
    ridge, logistic = Ridge(), LogisticRegression()
    return [
        ("begins with LogisticRegression", GradientBoostingClassifier(n_estimators=2, init=logistic)),
        ("KNeighborsRegressor", GradientBoostingRegressor(n_estimators=2, init=KNeighborsRegressor())),
        ("AdaBoostClassifier of LogisticRegression", AdaBoostClassifier(logistic, n_estimators=2)),
        ("AdaBoostRegressor of Ridge", AdaBoostRegressor(ridge, n_estimators=2)),
        ("BaggingRegressor of Ridge", BaggingRegressor(ridge, n_estimators=2)),
        ("no member looks at", BaggingRegressor(n_estimators=2, max_features=1)),
    ]


@pytest.mark.parametrize(("phrase", "model"), not_covered(), ids=[phrase for phrase, _ in not_covered()])
def test_what_would_be_a_guess_is_not_covered(phrase: str, model: Any) -> None:
    """A kernel is refused when it is made, and the reason names the part."""
    fitted, _ = Case("", model, two if hasattr(model, "predict_proba") else number).fitted()
    with pytest.raises(NotCovered, match=phrase):
        lower.lower(fitted, Making(), frame=False)


def test_boosting_of_one_class_is_not_covered() -> None:
    """scikit-learn tells two probabilities of one class, which nobody could name."""
    for model in (HistGradientBoostingClassifier(max_iter=1), AdaBoostClassifier(n_estimators=1)):
        fitted, _ = Case("", model, one).fitted()
        with pytest.raises(NotCovered, match="one class"):
            lower.lower(fitted, Making(), frame=False)
