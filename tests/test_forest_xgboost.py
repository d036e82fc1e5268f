"""XGBoost's boosters and estimators as kernels: every bit of sums, numbers, classes and probabilities, and refusals."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import VotingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from foretell import predictor
from foretell.batch import Batch, Call
from foretell.cells import Column
from foretell.compiler.compile import compile_model
from foretell.kernels import lower
from foretell.kernels import xgboost as kernels
from foretell.kernels.kernel import KernelEngine
from foretell.kernels.node import Making, NotCovered
from foretell.models import proven
from foretell.models.sklearn import SklearnEngine
from foretell.models.xgboost import XgboostEngine
from foretell.signature import Signature
from kernel_reference import apart, behind
from xgboost_rows import (
    COLUMNS,
    DATA,
    SIGNATURE,
    Target,
    four,
    number,
    positive,
    rows_for,
    same,
    three_flags,
    three_numbers,
    two,
)

pytestmark = pytest.mark.filterwarnings("ignore")

TREES = 12


@dataclass(frozen=True)
class Trained:
    """A booster by itself. kinds: of estimators whose answers are asked for; "" is the booster."""

    target: Target
    kinds: tuple[str, ...] = ("", "regressor")
    params: dict[str, Any] = field(default_factory=dict)
    types: str = ""
    more: Callable[[Any], None] = lambda table: None

    def booster(self) -> Any:
        types = list(self.types) or None
        table = xgboost.DMatrix(DATA.x, self.target(DATA.number), feature_types=types, enable_categorical=True)
        self.more(table)
        return xgboost.train({"max_depth": 5, "nthread": 1, **self.params}, table, TREES)


def lifetimes(table: Any) -> None:
    table.set_float_info("label_lower_bound", positive(DATA.number))
    table.set_float_info("label_upper_bound", positive(DATA.number) + 1)


def groups(table: Any) -> None:
    table.set_group([50] * 10)


def by(objective: str, target: Target, *kinds: str, **more: Any) -> Trained:
    options = {name: more.pop(name) for name in ("types", "more") if name in more}
    return Trained(target, kinds or ("", "regressor"), {"objective": objective, **more}, **options)


BOTH = ("", "classifier")
BOOSTERS = {
    "squared error": by("reg:squarederror", number),
    "squared log error": by("reg:squaredlogerror", positive),
    "absolute error": by("reg:absoluteerror", number),
    "pseudo-Huber": by("reg:pseudohubererror", number),
    "quantiles": by("reg:quantileerror", number, quantile_alpha=[0.1, 0.5, 0.9]),
    "logistic": by("reg:logistic", two),
    "two classes": by("binary:logistic", two, *BOTH),
    "two classes, of one": by("binary:logistic", lambda y: y * 0, *BOTH),
    "two classes, their scores": by("binary:logitraw", two, *BOTH),
    "two classes, weighed": by("binary:logistic", two, *BOTH, scale_pos_weight=7, base_score=0.013),
    "hinge": by("binary:hinge", two, *BOTH),
    "Poisson": by("count:poisson", positive),
    "gamma": by("reg:gamma", positive),
    "Tweedie": by("reg:tweedie", positive, tweedie_variance_power=1.3),
    "Cox": by("survival:cox", number),
    "lifetimes": by("survival:aft", positive, more=lifetimes),
    "ranks by NDCG": by("rank:ndcg", two, "", "ranker", more=groups),
    "ranks by pairs": by("rank:pairwise", two, "", "ranker", more=groups),
    "ranks by MAP": by("rank:map", two, "", "ranker", more=groups),
    "probabilities of four": by("multi:softprob", four, *BOTH, num_class=4),
    "one of four": by("multi:softmax", four, *BOTH, num_class=4),
    "dart": by("reg:squarederror", number, booster="dart", rate_drop=0.3),
    "dart by forest": by("count:poisson", positive, booster="dart", rate_drop=0.5, normalize_type="forest"),
    "dart of four": by("multi:softprob", four, *BOTH, num_class=4, booster="dart", rate_drop=0.3, base_score=0.3),
    "dart of categories": by("binary:logistic", two, *BOTH, booster="dart", rate_drop=0.4, types="qqqqcc"),
    "by leaves": by("reg:squarederror", number, grow_policy="lossguide", max_leaves=60, max_depth=0),
    "by leaves, four classes": by("multi:softprob", four, num_class=4, grow_policy="lossguide", max_leaves=9),
    "exact": by("reg:squarederror", number, tree_method="exact"),
    "approximate": by("binary:logistic", two, *BOTH, tree_method="approx"),
    "deep": by("reg:squarederror", number, max_depth=14, min_child_weight=0),
    "stumps": by("reg:squarederror", number, max_depth=1, base_score=-1e7),
    "no splits": by("reg:squarederror", number, gamma=1e9),
    "parallel trees": by("multi:softprob", four, *BOTH, num_class=4, num_parallel_tree=3, subsample=0.5),
    "categories one by one": by("reg:squarederror", number, types="qqqqcc", max_cat_to_onehot=100),
    "categories in parts": by("reg:squarederror", number, types="qqqqcc", max_cat_to_onehot=1),
    "categories of four classes": by("multi:softmax", four, *BOTH, num_class=4, types="qqqqcc"),
    "several numbers": by("reg:squarederror", three_numbers),
    "several numbers a tree": by("reg:squarederror", three_numbers, multi_strategy="multi_output_tree"),
    "several labels": by("binary:logistic", three_flags, *BOTH),
    "several labels a tree": by("binary:logistic", three_flags, *BOTH, multi_strategy="multi_output_tree"),
}


@pytest.mark.parametrize("trained", BOOSTERS.values(), ids=BOOSTERS)
def test_a_boosters_kernel_gives_its_bits(trained: Trained, tmp_path: Path) -> None:
    """Sums and outputs, by itself and as an estimator's; infinite numbers are refused where the library refuses."""
    booster = trained.booster()
    data = bytes(booster.save_raw("ubj"))
    settings = json.loads(booster.save_config())["learner"]
    for kind in trained.kinds:
        engine = XgboostEngine(xgboost, booster, kind, settings)
        classes = engine.classes if engine.proba else 0
        kernel = kernels.booster(data, classes=classes, rounds=engine.rounds, in_place=engine.in_place)
        rows = rows_for(booster, finite=not kind)
        folder = tmp_path / (kind or "booster")
        folder.mkdir()
        same(behind(engine, None, SIGNATURE), kernel, rows, folder)
        if kind:
            expected = booster.inplace_predict(rows, predict_type="margin")
        else:
            expected = booster.predict(xgboost.DMatrix(rows), output_margin=True)
        assert expected.tobytes() == kernel.head.forest.sums(rows).tobytes()  # type: ignore[attr-defined]


@pytest.mark.parametrize("form", ["ubj", "json"])
def test_a_booster_by_itself_refuses_what_its_library_refuses(form: str) -> None:
    """Infinite numbers, also those that become so as 32-bit floats; each of the other rows is answered."""
    booster = BOOSTERS["two classes"].booster()
    engine = XgboostEngine(xgboost, booster, "", json.loads(booster.save_config())["learner"])
    kernel = kernels.booster(bytes(booster.save_raw(form)), classes=0, rounds=0, in_place=False)
    rows = DATA.x[:40].astype("float64")
    rows[3, 1], rows[7, 0], rows[9, 4] = np.inf, -1e39, 3.5e38
    whole = Batch(40, [*rows.T[:5], np.arange(40) + 2**24])
    answers = [apart(behind(each, None, SIGNATURE), whole, Call()) for each in (engine, KernelEngine(kernel))]
    assert answers[0] == answers[1]
    assert ["RowRefused"] * 3 == [answers[1][at] for at in (3, 7, 9)]


def fitted(kind: str, target: Target, **more: Any) -> Callable[[], Any]:
    """An estimator by itself."""

    def fit() -> Any:
        options: dict[str, Any] = {"qid": np.arange(500) // 50} if kind == "XGBRanker" else {}
        if "early_stopping_rounds" in more:
            options["eval_set"] = [(DATA.x[:100], target(DATA.number)[:100])]
        model = getattr(xgboost, kind)(n_estimators=TREES, n_jobs=1, **more)
        return model.fit(
            np.nan_to_num(DATA.x, nan=more.get("missing", np.nan)), target(DATA.number), verbose=False, **options
        )

    return fit


def scaled() -> Any:
    return make_pipeline(StandardScaler(), xgboost.XGBClassifier(n_estimators=TREES, n_jobs=1)).fit(
        DATA.x, four(DATA.number)
    )


def sparse() -> Any:
    """Of which XGBoost takes zeros for missing."""
    hot = ColumnTransformer([("hot", OneHotEncoder(handle_unknown="ignore"), [4, 5])], remainder="passthrough")
    model = make_pipeline(hot, xgboost.XGBRegressor(n_estimators=TREES, n_jobs=1, max_depth=9))
    return model.fit(np.nan_to_num(DATA.x, nan=0.0), DATA.number)


def framed() -> Any:
    frame = pd.DataFrame(DATA.x.astype("float64"), columns=list("abcdef"))
    return make_pipeline(StandardScaler(), xgboost.XGBRFClassifier(n_estimators=TREES, n_jobs=1)).fit(
        frame, two(DATA.number)
    )


def voting() -> Any:
    members = [
        (name, xgboost.XGBClassifier(n_estimators=TREES, n_jobs=1, max_depth=depth))
        for name, depth in (("a", 2), ("b", 5))
    ]
    return VotingClassifier(members, voting="soft").fit(DATA.x, four(DATA.number))


ESTIMATORS: dict[str, Callable[[], Any]] = {
    "classifier": fitted("XGBClassifier", two),
    "classifier of four": fitted("XGBClassifier", four),
    "classifier, one of four": fitted("XGBClassifier", four, objective="multi:softmax"),
    "classifier of labels": fitted("XGBClassifier", lambda y: three_flags(y)[:, :2]),
    "regressor": fitted("XGBRegressor", number, booster="dart", rate_drop=0.3),
    "ranker": fitted("XGBRanker", two),
    "forest classifier": fitted("XGBRFClassifier", four, subsample=0.7),
    "forest regressor": fitted("XGBRFRegressor", number, colsample_bynode=0.5),
    "stopped early": fitted("XGBClassifier", four, early_stopping_rounds=1, learning_rate=3.0),
    "missing as a number": fitted("XGBRegressor", number, missing=-1.0),
    "missing as zero": fitted("XGBClassifier", two, missing=0.0),
    "categories": fitted("XGBRegressor", number, feature_types=list("qqqqcc"), enable_categorical=True),
    "after a scaler": scaled,
    "after one-hot columns": sparse,
    "after a scaler, named": framed,
    "in a vote": voting,
}


@pytest.mark.parametrize("fit", ESTIMATORS.values(), ids=ESTIMATORS)
def test_an_estimators_kernel_gives_its_bits(fit: Callable[[], Any], tmp_path: Path) -> None:
    """By itself and as the last step of a Pipeline."""
    model = fit()
    engine = SklearnEngine(model)
    names = getattr(model, "feature_names_in_", None)
    signature = SIGNATURE if names is None else Signature(tuple(Column(name, "double") for name in names))
    last = model[-1] if hasattr(model, "steps") else getattr(model, "estimators_", [model])[0]
    rows = rows_for(last.get_booster(), finite=hasattr(model, "steps"))
    kernel = lower.lower(model, Making(names=None if names is None else tuple(names)), frame=engine.framed)
    same(behind(engine, None if names is None else tuple(names), signature), kernel, rows, tmp_path)


def named_categories() -> Any:
    frame = pd.DataFrame({"a": DATA.x[:, 0], "b": pd.Categorical(np.where(two(DATA.number), "yes", "no"))})
    return xgboost.XGBRegressor(n_estimators=3, enable_categorical=True).fit(frame, DATA.number)


LEFT: dict[str, tuple[Callable[[], Any], str]] = {
    "a linear model": (fitted("XGBRegressor", number, booster="gblinear"), "booster gblinear"),
    "named categories": (named_categories, "named categories"),
}


@pytest.mark.parametrize(("fit", "why"), LEFT.values(), ids=LEFT)
def test_what_no_kernel_computes_is_said(fit: Callable[[], Any], why: str) -> None:
    """Other engines are left for it."""
    with pytest.raises(NotCovered, match=why):
        lower.lower(fit(), Making(), frame=True)


ALONE = """
import sys
sys.modules.update(dict.fromkeys(("xgboost", "sklearn", "scipy", "pandas")))
import numpy as np
from foretell import predictor
from foretell.batch import Batch, Call
rows = np.load("rows.npy")
answers = predictor.open(sys.argv[1]).predict(Batch.of(rows), Call(proba=True))
np.savez("answers.npz", *[output.values for output in answers.outputs])
"""


def test_a_compiled_booster_is_a_kernel_that_needs_no_library() -> None:
    """It is chosen, proven on many rows, and predicts where XGBoost cannot be imported."""
    fitted("XGBClassifier", four, early_stopping_rounds=1, learning_rate=3.0)().save_model("model.ubj")
    found = predictor.find("model.ubj", engine="native")
    record = compile_model(found)
    tried = record.of_engine("kernel")
    assert record.chosen == "kernel", tried
    assert tried is not None and tried.verified is not None
    assert (True, True) == (tried.verified.exact, tried.verified.answered >= 10_000)
    rows = np.random.default_rng(2).choice(DATA.x.ravel(), (3000, COLUMNS))
    np.save("rows.npy", rows)
    folder = proven.entry(found.resolved.digest).compiled("kernel")
    subprocess.run([sys.executable, "-c", ALONE, str(folder)], check=True)
    native = predictor.load(found.native).predict(Batch.of(rows), Call(proba=True))
    answers = np.load("answers.npz")
    assert [output.values.tobytes() for output in native.outputs] == [answers[name].tobytes() for name in answers.files]
