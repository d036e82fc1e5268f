"""XGBoost, LightGBM and CatBoost: their own answers to the bit, without scikit-learn, from files that are checked."""

import random
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import catboost
import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost

import foretell as library
from conftest import Ran, foretell, model_path, rows_of
from foretell import predictor
from foretell.batch import Batch, Call
from foretell.errors import ForetellError, InputError, ModelUnreadable
from foretell.models import catboost_files, lightgbm_files, xgboost_files

ROWS, COLUMNS = 4096, ["a", "b", "c", "d"]
QUIET = {"verbose": -1, "n_estimators": 12, "n_jobs": 2}
CATS = {"verbose": 0, "allow_writing_files": False, "iterations": 12}


@dataclass(frozen=True)
class Data:
    """x: numbers with missing ones. two, three, amount: targets. names: three classes by name."""

    x: pd.DataFrame
    two: np.ndarray
    three: np.ndarray
    amount: np.ndarray

    @property
    def names(self) -> np.ndarray:
        return np.array(["low", "mid", "top"])[self.three]


@pytest.fixture(scope="module")
def data() -> Data:
    numbers = np.random.default_rng(3)
    x = pd.DataFrame(numbers.normal(size=(ROWS, 4)) * [1, 1e-6, 1e6, 30], columns=COLUMNS)
    amount = x["a"].to_numpy() + x["d"].to_numpy() / 30
    x.iloc[::7, 2] = np.nan
    return Data(x, (amount > 0).astype(int), np.digitize(amount, [-0.7, 0.7]), amount)


def xgb(kind: str, target: Callable[[Data], Any], **options: Any) -> Callable[[Data, Path], Any]:
    def make(data: Data, folder: Path) -> Any:
        model = getattr(xgboost, kind)(n_estimators=12, **options)
        more = {"qid": np.arange(ROWS) // 16} if kind == "XGBRanker" else {}
        if "early_stopping_rounds" in options:
            more = {"eval_set": [(data.x[::3], target(data)[::3])], "verbose": False}
        model.fit(data.x, target(data), **more).save_model(folder / "model.ubj")
        again = getattr(xgboost, kind)()
        again.load_model(folder / "model.ubj")
        return folder / "model.ubj", again.predict(data.x), getattr(again, "predict_proba", lambda x: None)(data.x)

    return make


def xgb_alone(**options: Any) -> Callable[[Data, Path], Any]:
    def make(data: Data, folder: Path) -> Any:
        xgboost.train(options, xgboost.DMatrix(data.x, data.three), 8).save_model(folder / "model.json")
        table = xgboost.DMatrix(data.x)
        return folder / "model.json", xgboost.Booster(model_file=folder / "model.json").predict(table), None

    return make


def lgb(objective: str, target: Callable[[Data], Any], **options: Any) -> Callable[[Data, Path], Any]:
    def make(data: Data, folder: Path) -> Any:
        table = lightgbm.Dataset(data.x, target(data), params={"verbose": -1, **options})
        booster = lightgbm.train({"objective": objective, "verbose": -1, **options}, table, 12)
        booster.save_model(folder / "model.txt")
        return folder / "model.txt", lightgbm.Booster(model_file=folder / "model.txt").predict(data.x), None

    return make


def cat(kind: str, target: Callable[[Data], Any], **options: Any) -> Callable[[Data, Path], Any]:
    def make(data: Data, folder: Path) -> Any:
        getattr(catboost, kind)(**CATS, **options).fit(data.x, target(data)).save_model(str(folder / "model.cbm"))
        again = getattr(catboost, kind)().load_model(str(folder / "model.cbm"))
        return folder / "model.cbm", again.predict(data.x), getattr(again, "predict_proba", lambda x: None)(data.x)

    return make


def both(data: Data) -> Any:
    return np.column_stack([data.two, data.three > 1])


VARIANTS = {
    "xgb two classes": xgb("XGBClassifier", lambda d: d.two),
    "xgb three classes": xgb("XGBClassifier", lambda d: d.three),
    "xgb softmax": xgb("XGBClassifier", lambda d: d.three, objective="multi:softmax"),
    "xgb two labels": xgb("XGBClassifier", both),
    "xgb regressor": xgb("XGBRegressor", lambda d: d.amount),
    "xgb two outputs": xgb("XGBRegressor", both, multi_strategy="multi_output_tree"),
    "xgb ranker": xgb("XGBRanker", lambda d: d.two),
    "xgb forest": xgb("XGBRFClassifier", lambda d: d.two),
    "xgb dart": xgb("XGBRegressor", lambda d: d.amount, booster="dart", rate_drop=0.3),
    "xgb linear": xgb("XGBClassifier", lambda d: d.three, booster="gblinear"),
    "xgb early": xgb("XGBClassifier", lambda d: d.two, early_stopping_rounds=1, learning_rate=3.0),
    "xgb booster": xgb_alone(objective="multi:softprob", num_class=3),
    "xgb booster of classes": xgb_alone(objective="multi:softmax", num_class=3),
    "xgb dart booster": xgb_alone(booster="dart", rate_drop=0.3),
    "lgb two classes": lgb("binary", lambda d: d.two),
    "lgb three classes": lgb("multiclass", lambda d: d.three, num_class=3),
    "lgb linear trees": lgb("regression", lambda d: d.amount, linear_tree=True),
    "lgb dart": lgb("regression", lambda d: d.amount, boosting="dart"),
    "lgb forest": lgb("regression", lambda d: d.amount, boosting="rf", bagging_freq=1, bagging_fraction=0.6),
    "cb two classes": cat("CatBoostClassifier", lambda d: d.two),
    "cb three names": cat("CatBoostClassifier", lambda d: d.names),
    "cb two labels": cat("CatBoostClassifier", both, loss_function="MultiLogloss"),
    "cb regressor": cat("CatBoostRegressor", lambda d: d.amount),
    "cb counts": cat("CatBoostRegressor", lambda d: d.two, loss_function="Poisson"),
    "cb free trees": cat("CatBoostClassifier", lambda d: d.names, grow_policy="Lossguide"),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_answers_are_the_librarys(variant: str, data: Data, tmp_path: Path) -> None:
    """A model file gives what the library gives, to the bit; a row alone and in 32 what it gets among 4,096."""
    path, answers, probabilities = VARIANTS[variant](data, tmp_path)
    opened = predictor.open(str(path))
    call = Call(proba=probabilities is not None)
    rows = data.x.to_numpy()
    whole = opened.predict(Batch.of(rows), call)
    expected = answers[:, 0] if answers.ndim == 2 and answers.shape[1] == 1 else answers
    assert same(expected, whole.outputs[0].values)
    assert probabilities is None or same(probabilities, whole.outputs[1].values)
    for start, size in [*((at, 1) for at in range(0, ROWS, 97)), (0, 32), (4000, 32), (64, 1000)]:
        piece = opened.predict(Batch.of(rows[start : start + size]), call)
        for part, one in zip(piece.outputs, whole.outputs, strict=True):
            assert same(one.values[start : start + size], part.values)


def same(one: Any, other: Any) -> bool:
    """Equal in value and type; NaN to NaN."""
    return one.dtype == other.dtype and bool(np.array_equal(one, other))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["xgb_classifier", "xgb_early", "xgb_booster", "lgb_classifier", "lgb_ranker"])
@pytest.mark.parametrize("by", ["mlflow3", "mlflow2"])
def test_answers_are_mlflows(by: str, name: str, flavours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of MLflow's gives what mlflow.pyfunc gives."""
    assert_as_mlflow(flavours, f"{by}/{name}", monkeypatch)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["cb_classifier", "cb_regressor", "lgb_booster"])
def test_answers_are_mlflows_too(name: str, flavours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So do CatBoost's formats, with strings and whole numbers as categories, and LightGBM's text."""
    assert_as_mlflow(flavours, f"mlflow3/{name}", monkeypatch)


def assert_as_mlflow(flavours: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    columns, rows = rows_of(flavours, name)
    frame = pd.DataFrame(rows, columns=columns)
    answers = np.asarray(mlflow.pyfunc.load_model(str(flavours / name)).predict(frame))
    got = np.asarray(library.load(str(flavours / name), trust=True).predict(frame))
    assert np.array_equal(answers.reshape(got.shape), got)


def test_classes_keep_their_names(flavours: Path) -> None:
    """Labels are the classes that the model was trained with, and probabilities are headed by them."""
    for name in ("mlflow3/lgb_classifier", "mlflow3/cb_classifier", "mlflow3/bare.cbm"):
        columns, rows = rows_of(flavours, name)
        opened, frame = library.load(str(flavours / name)), pd.DataFrame(rows, columns=columns)
        species = ["setosa", "versicolor", "virginica"]
        assert set(species) >= set(opened.predict(frame))
        assert [f"probability_{one}" for one in species] == opened.predict_proba(frame).columns.tolist()


def test_wrappers_load_freely_only_as_skops(flavours: Path) -> None:
    """LightGBM's estimators in skops are reviewed; the same in a pickle need trust."""
    assert "probability_setosa" in predict(flavours, "mlflow3/lgb_classifier", "--proba").out
    refused = predict(flavours, "mlflow2/lgb_classifier", trust=False)
    assert (3, True) == (refused.code, "model.pkl (a pickle)" in refused.err)


LEAN = ["mlflow3/bare.ubj", "mlflow3/bare.txt", "mlflow3/bare.cbm", "mlflow2/xgb_early", "mlflow3/lgb_booster"]


@pytest.mark.parametrize("name", [*LEAN, "mlflow3/cb_classifier"])
def test_neither_scikit_learn_nor_pandas_is_imported(name: str, flavours: Path) -> None:
    """A model in a library's own format predicts without them, and prints its predictions only."""
    ran = predict(flavours, name, PYTHONPROFILEIMPORTTIME="1")
    imported = {line.rpartition("|")[2].strip() for line in ran.err.splitlines() if line.startswith("import time:")}
    assert {"numpy"} == imported & {"numpy", "sklearn.base", "pandas.core", "sklearn.utils", "pandas.core.api"}
    said = [line for line in ran.err.splitlines() if not line.startswith("import time:")]
    assert (0, 1, 4) == (ran.code, len(said), len(ran.out.splitlines())), ran.err
    assert ["in.csv"] == sorted(path.name for path in Path.cwd().iterdir())


def predict(flavours: Path, name: str, *flags: str, trust: bool = False, **environment: str) -> Ran:
    """The command on three rows of a model's."""
    columns, rows = rows_of(flavours, name)
    pd.DataFrame(rows[:3], columns=columns).to_csv("in.csv", index=False)
    more = [*flags, *(["--trust"] if trust else [])]
    return foretell(
        "models", "predict", "-m", model_path(flavours, name), "-i", "in.csv", "-t", "csv", *more, **environment
    )


def test_a_value_too_large_is_a_bad_row(data: Data, tmp_path: Path) -> None:
    """A booster by itself refuses what a 32-bit float cannot hold; the estimator takes it as infinite."""
    path, *_ = xgb_alone()(data, tmp_path)
    with pytest.raises(InputError, match="too large for a 32-bit float"):
        library.load(str(path)).predict([[1e39, 0.0, 0.0, 0.0]])
    path, *_ = xgb("XGBRegressor", lambda d: d.amount)(data, tmp_path)
    again = xgboost.XGBRegressor()
    again.load_model(path)
    row = np.array([[1e39, 0.0, 0.0, 0.0]])
    assert same(again.predict(pd.DataFrame(row, columns=COLUMNS)), library.load(str(path)).predict(row))


def test_a_missing_category_is_a_bad_row(flavours: Path) -> None:
    """What CatBoost refuses by its own checks is the row's fault."""
    _, rows = rows_of(flavours, "mlflow3/cb_classifier")
    with pytest.raises(InputError, match="the model refused the row"):
        library.load(str(flavours / "mlflow3" / "cb_classifier")).predict([[*rows[0][:4], None, 1]])


def edited(name: str, pattern: str, new: str) -> Callable[[Path], bytes]:
    """A model's file with the first match of pattern replaced, in the same length where it is text with sizes."""

    def make(flavours: Path) -> bytes:
        data = (flavours / name).read_bytes()
        changed = re.sub(pattern.encode(), new.encode(), data, count=1, flags=re.S)
        assert changed != data
        return changed

    return make


JSON = "mlflow3/xgb_early/model.json"
TEXT = "mlflow3/bare.txt"
HOSTILE = {
    "xgb empty.ubj": lambda _: b"",
    "xgb garbage.ubj": lambda _: b"{L" + bytes(range(256)),
    "xgb cut.ubj": lambda flavours: (flavours / "mlflow3/bare.ubj").read_bytes()[:-100],
    "xgb deep.json": lambda _: b'{"learner":' + b"[" * 100_000,
    "xgb far child.json": edited(JSON, r'"left_children":\[1', '"left_children":[99999'),
    "xgb circle.json": edited(JSON, r'"left_children":\[1', '"left_children":[0'),
    "xgb far column.json": edited(JSON, r'"split_indices":\[\d', '"split_indices":[4000'),
    "xgb many columns.json": edited(JSON, r'"num_feature":"4"', '"num_feature":"2000000000"'),
    "xgb more trees.json": edited(JSON, r'"num_trees":"\d+"', '"num_trees":"90000"'),
    "xgb a key twice.json": edited(JSON, r'\{"learner"', '{"learner":{},"learner"'),
    "xgb other document.json": lambda _: b'{"predictions": [0]}',
    "lgb empty.txt": lambda _: b"",
    "lgb prose.txt": lambda _: b"tree of life\n" * 50,
    "lgb cut.txt": lambda flavours: (flavours / TEXT).read_bytes()[:2000],
    "lgb far column.txt": edited(TEXT, r"split_feature=\d", "split_feature=9"),
    "lgb circle.txt": edited(TEXT, r"left_child=\d", "left_child=0"),
    "lgb no leaf.txt": edited(TEXT, r"leaf_value=", "leaf_volue="),
    "lgb sizes.txt": edited(TEXT, r"tree_sizes=\d\d", "tree_sizes=11"),
    "lgb classes.txt": edited(TEXT, r"num_class=1", "num_class=7"),
    "cb empty.cbm": lambda _: b"",
    "cb garbage.cbm": lambda _: b"CBM1" + bytes(range(256)) * 4,
    "cb cut.cbm": lambda flavours: (flavours / "mlflow3/bare.cbm").read_bytes()[:3000],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(name: str, flavours: Path, tmp_path: Path) -> None:
    """A file that does not hold together is refused in one line, before the library sees it."""
    path = tmp_path / name
    path.write_bytes(HOSTILE[name](flavours))
    with pytest.raises(ModelUnreadable) as caught:
        predictor.open(str(path))
    assert path.name in caught.value.message
    assert "\n" not in caught.value.message


def test_what_only_training_needs_is_not_read(flavours: Path, tmp_path: Path) -> None:
    """LightGBM's parser of parameters crashes on a cut one; they say nothing about predicting."""
    whole = (flavours / TEXT).read_bytes()
    path = tmp_path / "cut tail.txt"
    path.write_bytes(whole.partition(b"[boosting")[0] + b"[")
    rows = rows_of(flavours, "mlflow3/bare.txt")[1]
    assert same(
        library.load(str(flavours / TEXT)).predict(np.array(rows, float)),
        library.load(str(path)).predict(np.array(rows, float)),
    )


@pytest.mark.parametrize("name", ["xgb far child.json", "lgb circle.txt", "cb garbage.cbm"])
def test_the_command_says_so_in_two_lines_at_most(name: str, flavours: Path) -> None:
    """It ends with 3, and no library has said anything."""
    path = Path(name.replace(" ", "_"))
    path.write_bytes(HOSTILE[name](flavours))
    ran = foretell("models", "predict", "-m", path, "-t", "csv", stdin=b"a\n1\n")
    assert (3, "", True) == (ran.code, ran.out, 1 <= len(ran.err.splitlines()) <= 2), ran.err


CHECKS = {
    "mlflow3/bare.ubj": xgboost_files.check,
    JSON: xgboost_files.check,
    TEXT: lightgbm_files.read,
    "mlflow3/bare.cbm": catboost_files.check,
}


@pytest.mark.parametrize("name", CHECKS)
def test_flipped_bytes_are_refused_or_read(name: str, flavours: Path) -> None:
    """Whatever a file was turned into, the check ends in our error or in none."""
    data, chance, refused = (flavours / name).read_bytes(), random.Random(5), 0
    for _ in range(150):
        changed = bytearray(data[: chance.choice([len(data), chance.randrange(len(data))])])
        for _ in range(chance.randrange(4)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        try:
            CHECKS[name](bytes(changed), Path(name))
        except ForetellError:
            refused += 1
    assert 50 < refused < 150


def test_a_skops_files_booster_is_checked_too(flavours: Path, tmp_path: Path) -> None:
    """The text inside an estimator goes through the same check as a file of its own."""
    folder = tmp_path / "model"
    folder.mkdir()
    stored = flavours / "mlflow3" / "lgb_classifier"
    (folder / "MLmodel").write_bytes((stored / "MLmodel").read_bytes())
    with zipfile.ZipFile(stored / "model.skops") as old, zipfile.ZipFile(folder / "model.skops", "w") as new:
        for entry in old.namelist():
            content = old.read(entry)
            new.writestr(entry, content.replace(b"split_feature=", b"split_feature=-", 1))
    with pytest.raises(ModelUnreadable, match=r"tree 1 does not stand"):
        predictor.open(str(folder))


def test_a_class_that_is_none_of_the_librarys_is_refused(flavours: Path, tmp_path: Path) -> None:
    """What an MLmodel names is looked up among the library's classes, never imported."""
    stored = flavours / "mlflow3" / "xgb_classifier"
    (tmp_path / "model.ubj").write_bytes((stored / "model.ubj").read_bytes())
    text = (stored / "MLmodel").read_text().replace("xgboost.sklearn.XGBClassifier", "os.system")
    (tmp_path / "MLmodel").write_text(text)
    with pytest.raises(ModelUnreadable, match=r"os\.system"):
        predictor.open(str(tmp_path))
