"""LightGBM's trees without LightGBM: its scores and answers to the bit, for every objective, way of boosting, kind of
missing value and category."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
import skops.io
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import VotingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from foretell import predictor
from foretell.batch import Answers, Batch, Call
from foretell.cells import Column
from foretell.compiler.compile import compile_model
from foretell.kernels import stored
from foretell.kernels.kernel import Kernel, KernelEngine
from foretell.kernels.lightgbm import head, model
from foretell.kernels.lower import lower
from foretell.kernels.node import Making, NotCovered
from foretell.models.lightgbm import LightgbmEngine
from foretell.signature import Signature
from foretell.trees.lightgbm import ZERO, read
from kernel_reference import apart, bits, cut, equal, reference, said

TRAINED, ROWS, COLUMNS = 1500, 100_000, 8
GAPS, ZEROS, FEW, MANY = 3, 4, 5, 6
"""Columns with missing values, with zeros and what is next to nothing, and with categories."""


def trained_on() -> tuple[np.ndarray, np.ndarray]:
    numbers = np.random.default_rng(11)
    x = numbers.normal(size=(TRAINED, COLUMNS)) * [1, 1e-6, 1e6, 30, 1, 1, 1, 1e-38]
    x[:, FEW], x[:, MANY] = numbers.integers(0, 9, TRAINED), numbers.integers(0, 150, TRAINED)
    signal = x[:, 0] + x[:, 3] / 30 + (x[:, FEW] % 3) + (x[:, MANY] % 7) / 4 + numbers.normal(size=TRAINED) / 4
    x[numbers.random(TRAINED) < 0.4, ZEROS] = 0.0
    signal += np.sign(x[:, ZEROS])
    x[numbers.random(TRAINED) < 0.2, GAPS] = np.nan
    return x, signal


X, SIGNAL = trained_on()
TWO, THREE, COUNT = (SIGNAL > 2).astype(int), np.digitize(SIGNAL, [1.5, 3.0]), np.floor(np.abs(SIGNAL) * 3) + 1
Make = Callable[[], Any]


def booster(objective: Any, target: np.ndarray = SIGNAL, *, rounds: int = 12, best: int = -1, **options: Any) -> Make:
    """A booster from its own text, as it is loaded. best: the round up to which it predicts."""

    def make() -> Any:
        given = {"verbose": -1, "num_leaves": 15, "min_data_in_leaf": 5, "num_threads": 1, **options}
        more: dict[str, Any] = {"group": np.full(TRAINED // 15, 15)} if "rank" in str(objective) else {}
        more["categorical_feature"] = [FEW, MANY] if "cat_smooth" in options else "auto"
        table = lightgbm.Dataset(X, target, params=given, **more)
        text = lightgbm.train({"objective": objective, **given}, table, rounds).model_to_string()
        made = lightgbm.Booster(model_str=text)
        made.best_iteration = best
        return made

    return make


def estimator(kind: str, target: np.ndarray = SIGNAL, **options: Any) -> Make:
    """An estimator from a pickle."""

    def make() -> Any:
        fitted = getattr(lightgbm, kind)(n_estimators=12, num_leaves=15, verbose=-1, n_jobs=1, **options)
        more: dict[str, Any] = {"group": np.full(TRAINED // 15, 15)} if kind == "LGBMRanker" else {}
        if "early_stopping_round" in options:
            more = {"eval_set": [(X[::3], target[::3][::-1])]}
        return pickle.loads(pickle.dumps(fitted.fit(X, target, **more)))

    return make


def squares(scores: np.ndarray, table: Any) -> tuple[np.ndarray, np.ndarray]:
    wanted = table.get_label()
    away = scores - wanted if scores.ndim == 1 else scores - (wanted[:, None] == np.arange(scores.shape[1]))
    return away, np.ones_like(away)


def squares_of(wanted: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return scores - wanted, np.ones_like(scores)


NAMES = np.array(["low", "mid", "top"])
CATS = {"min_data_per_group": 1, "cat_smooth": 1, "cat_l2": 0}
BAGGED = {"bagging_freq": 1, "bagging_fraction": 0.6}
RANKS = np.clip(THREE, 0, 2)

VARIANTS: dict[str, Make] = {
    **{name: booster(name) for name in ("regression", "regression_l1", "huber", "fair", "quantile", "mape")},
    **{name: booster(name, COUNT) for name in ("poisson", "gamma", "tweedie")},
    **{f"{name}, sqrt": booster(name, reg_sqrt=True) for name in ("regression", "regression_l1", "quantile", "fair")},
    **{name: booster(name, RANKS) for name in ("lambdarank", "rank_xendcg")},
    "binary": booster("binary", TWO),
    "binary, a slope": booster("binary", TWO, sigmoid=0.7, is_unbalance=True),
    "cross_entropy": booster("cross_entropy", TWO * 0.9),
    "cross_entropy_lambda": booster("cross_entropy_lambda", TWO * 0.9),
    "multiclass": booster("multiclass", THREE, num_class=3),
    "multiclassova, a slope": booster("multiclassova", THREE, num_class=3, sigmoid=1.3),
    "a function": booster(squares),
    "a function, three outputs": booster(squares, THREE, num_class=3),
    "many classes": booster("multiclass", (SIGNAL * 4).clip(0, 15).astype(int), num_class=16, rounds=3),
    **{f"dart, {name}": booster(name, TWO, boosting="dart", drop_rate=0.5) for name in ("regression", "binary")},
    **{f"rf, {name}": booster(name, TWO, boosting="rf", **BAGGED) for name in ("regression", "binary")},
    "rf, multiclass": booster("multiclass", THREE, num_class=3, boosting="rf", **BAGGED),
    "goss": booster("multiclass", THREE, num_class=3, data_sample_strategy="goss"),
    "no value is missing": booster("binary", TWO, use_missing=False),
    "zeros are missing": booster("regression", zero_as_missing=True),
    "categories": booster("regression", **CATS),
    "categories, zeros are missing": booster("multiclass", THREE, num_class=3, zero_as_missing=True, **CATS),
    "categories, no value is missing": booster("binary", TWO, use_missing=False, **CATS),
    "categories, one at a time": booster("binary", TWO, max_cat_to_onehot=500, **CATS),
    "not from the average": booster("binary", TWO, boost_from_average=False),
    "large trees": booster("regression", rounds=3, num_leaves=400, min_data_in_leaf=1),
    "the best rounds alone": booster("binary", TWO, best=5),
    "a hundred trees": booster("regression", rounds=100, num_leaves=4),
    "trees of one leaf": booster("regression", min_data_in_leaf=TRAINED),
    "stumps, extra": booster("binary", TWO, num_leaves=2, extra_trees=True),
    "few bins": booster("regression", max_bin=7, monotone_constraints=[1] + [0] * 7),
    "classifier": estimator("LGBMClassifier", NAMES[TWO]),
    "classifier, three": estimator("LGBMClassifier", NAMES[THREE]),
    "classifier, three of bytes": estimator("LGBMClassifier", THREE.astype("int8") - 5),
    "classifier, of objects": estimator("LGBMClassifier", NAMES.astype(object)[THREE]),
    "classifier, flags": estimator("LGBMClassifier", TWO > 0),
    "classifier, one of two": estimator("LGBMClassifier", TWO, objective="multiclassova", num_class=2),
    "classifier, cross entropy": estimator("LGBMClassifier", TWO, objective="cross_entropy"),
    "classifier, a function": estimator("LGBMClassifier", TWO, objective=squares_of),
    "classifier, stopped": estimator("LGBMClassifier", TWO, early_stopping_round=2, learning_rate=0.9),
    "classifier, rf": estimator("LGBMClassifier", THREE, boosting_type="rf", subsample_freq=1, subsample=0.6),
    "regressor": estimator("LGBMRegressor"),
    "regressor, poisson": estimator("LGBMRegressor", COUNT, objective="poisson"),
    "ranker": estimator("LGBMRanker", RANKS),
}

ODD = [
    *(np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324, -5e-324, 1e-36, -1e-36, 1e-300, 1e300, -1e300),
    *(sign * np.nextafter(ZERO, to) for sign in (1, -1) for to in (0, 1)),
    *(ZERO, -ZERO, -0.5, np.nextafter(-1.0, 0), -1.0, -7.0, 0.5, 3.7, 31.0, 32.0, 149.0, 150.0, 151.0, 160.0, 1e4),
    *(2.0**31 - 1, 2.0**31, 2.0**32 - 1, 2.0**32, 2.0**32 + 3, -(2.0**31), 2.0**53, 2.0**63, -(2.0**63)),
]


def rows_for(booster: Any) -> np.ndarray:
    """Ordinary rows, of which many cells are a threshold, one of its neighbours, or odd."""
    numbers = np.random.default_rng(5)
    rows = X[numbers.integers(0, TRAINED, ROWS)]
    lines = [line.partition("=")[::2] for line in booster.model_to_string().splitlines()]
    columns, thresholds = (
        np.array([float(word) for name, words in lines if name == wanted for word in words.split()])
        for wanted in ("split_feature", "threshold")
    )
    for at in range(COLUMNS):
        found = thresholds[columns == at]
        near = [found, np.nextafter(found, np.inf), np.nextafter(found, -np.inf), np.arange(160.0)[:: 1 + at % 2], ODD]
        chosen = numbers.random(ROWS) < 0.5
        rows[chosen, at] = numbers.choice(np.concatenate([*near, ODD]), int(chosen.sum()))
    return rows


@pytest.mark.filterwarnings("ignore:Cannot compute class probabilities")
@pytest.mark.parametrize("variant", VARIANTS)
def test_scores_and_answers_are_the_librarys(variant: str, tmp_path: Path) -> None:
    """Every bit of 100,000 rows at once, in 32 and alone, from the kernel that was written and read again."""
    made = VARIANTS[variant]()
    native = LightgbmEngine(made._Booster, made) if hasattr(made, "_Booster") else LightgbmEngine(made)
    rows = rows_for(native.booster)
    stored.write(Kernel((), model(native.model)), tmp_path)
    kernel = stored.read(tmp_path)
    raw = native.booster.predict(rows, raw_score=True)
    assert raw.tobytes() == kernel.head.scores(rows).tobytes()  # type: ignore[attr-defined]

    engine, call = KernelEngine(kernel), Call(proba=native.proba)
    assert engine.proba == native.proba
    expected = bits(native.predict(Batch.of(rows), call))
    assert expected == bits(engine.predict(Batch.of(rows), call))
    assert expected[:1] == bits(engine.predict(Batch.of(rows), Call()))
    assert expected == bits(pieces(engine, rows, 32, call))
    chosen = range(0, ROWS, 211)
    assert cut(expected, chosen, ROWS) == bits(pieces(engine, rows[chosen], 1, call))


def pieces(engine: KernelEngine, rows: np.ndarray, size: int, call: Call) -> Answers:
    return Answers.concat(
        [engine.predict(Batch.of(piece), call) for piece in (rows[at : at + size] for at in range(0, len(rows), size))]
    )


def test_the_variants_have_what_they_are_named_for() -> None:
    """Zeros on either side of a threshold, sets of categories, each kind of missing value, and stopped training."""
    zeros = {
        float(threshold)
        for line in VARIANTS["zeros are missing"]().model_to_string().splitlines()
        for threshold in line.removeprefix("threshold=").split()
        if line.startswith("threshold=") and abs(float(threshold)) <= ZERO
    }
    assert {ZERO, -ZERO} & zeros
    assert any(tree.zero_missing is not None for tree in read(VARIANTS["zeros are missing"]().model_to_string()).trees)
    sets = [
        len(found.members)
        for tree in read(VARIANTS["categories"]().model_to_string()).trees
        if tree.sets
        for found in tree.sets.values()
    ]
    assert max(sets) > 5
    assert 12 > VARIANTS["classifier, stopped"]().best_iteration_
    assert (12, 5) == ((best := VARIANTS["the best rounds alone"]()).num_trees(), model(best).forest.trees.shape[0])


PIPELINES: dict[str, Callable[[], Any]] = {
    "scaled": lambda: make_pipeline(StandardScaler(), small()),
    "a matrix as it is": lambda: make_pipeline(FunctionTransformer(), small()),
    "columns of their own": lambda: make_pipeline(
        ColumnTransformer([("one", OneHotEncoder(handle_unknown="ignore"), [FEW]), ("two", StandardScaler(), [0, 1])]),
        small(),
    ),
    "alone": lambda: small(),
    "votes": lambda: VotingClassifier([("a", small()), ("b", make_pipeline(StandardScaler(), small()))], voting="soft"),
    "calibrated": lambda: CalibratedClassifierCV(small(), cv=2),
}


def small() -> Any:
    return lightgbm.LGBMClassifier(n_estimators=8, num_leaves=7, verbose=-1, n_jobs=1)


@pytest.mark.parametrize("kind", ["double", "float", "long"])
@pytest.mark.parametrize("name", PIPELINES)
def test_within_scikit_learn_it_answers_as_the_library(name: str, kind: str, tmp_path: Path) -> None:
    """As the last step of a pipeline, and in models of models, on doubles, singles and large whole numbers."""
    x = np.nan_to_num(X) * [1, 1e6, 1e-6, 1, 1, 1, 1, 1e38]
    table = {"double": x, "float": x.astype("float32"), "long": (x * [1 << 25, 1, 1, 1, 1, 1, 1, 1]).astype("int64")}
    rows = table[kind]
    fitted = PIPELINES[name]().fit(rows, THREE)
    special = rows[:40].copy()
    if kind != "long":
        with np.errstate(over="ignore"):
            special[np.arange(40), np.arange(40) % COLUMNS] = np.resize(ODD, 40).astype(rows.dtype)
    signature = Signature(tuple(Column(f"Column_{at}", kind) for at in range(COLUMNS)))
    found = reference(fitted, signature, Batch.of(special), Batch.of(rows), Call(proba=True))
    kernel = equal(found, tmp_path)
    assert found.alone == apart(kernel, found.special, found.call)
    assert found.together == said(kernel, found.bulk, found.call)


LEFT_OUT: dict[str, Make] = {
    "linear trees": booster("regression", linear_tree=True),
    "pred_early_stop": estimator("LGBMClassifier", TWO, pred_early_stop=True),
    "1 classes": estimator("LGBMClassifier", np.zeros(TRAINED, int)),
}


@pytest.mark.parametrize("phrase", LEFT_OUT)
def test_what_would_be_a_guess_is_not_covered(phrase: str) -> None:
    """A kernel is refused when it is made, and the reason names the part."""
    with pytest.raises(NotCovered, match=phrase):
        model(LEFT_OUT[phrase]())


def test_an_objective_that_nobody_knows_is_not_covered() -> None:
    """A newer library may have more of them."""
    text = VARIANTS["binary"]().model_to_string().replace("objective=binary", "objective=other")
    with pytest.raises(NotCovered, match="objective other"):
        head(text)


def test_a_column_of_objects_is_refused_as_by_the_library() -> None:
    """In a frame, LightGBM takes no objects."""
    fitted = small().fit(X, TWO)
    kernel = KernelEngine(lower(fitted, Making(names=("a",) * COLUMNS), frame=True))
    with pytest.raises(ValueError, match="dtypes"):
        kernel.predict(Batch(1, [np.array([None], object) for _ in range(COLUMNS)]), Call())


def test_a_compiled_classifier_needs_no_lightgbm(tmp_path: Path) -> None:
    """The compiler chooses the kernel, and what it kept predicts with the library out of reach."""
    rows = X[:, :3]
    fitted = lightgbm.LGBMClassifier(n_estimators=5, num_leaves=7, verbose=-1, n_jobs=1).fit(rows, NAMES[THREE])
    folder = tmp_path / "model"
    folder.mkdir()
    skops.io.dump(fitted, folder / "model.skops")
    entry = "flavors:\n  lightgbm:\n    data: model.skops\n    model_class: lightgbm.sklearn.LGBMClassifier\n"
    (folder / "MLmodel").write_text(entry)
    assert "kernel" == compile_model(predictor.find(str(folder))).chosen
    code = (
        "import sys, numpy, foretell\n"
        "sys.modules.update(lightgbm=None, sklearn=None)\n"
        "print(*foretell.load(sys.argv[1]).predict(numpy.load(sys.argv[2])))"
    )
    np.save(tmp_path / "rows.npy", rows)
    command = [sys.executable, "-c", code, str(folder), str(tmp_path / "rows.npy")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert fitted.predict(rows).tolist() == ran.stdout.split(), ran.stderr
