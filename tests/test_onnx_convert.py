"""A model as ONNX: the training library's answers, columns, types and refusals, with nothing of the library there."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm
import msgspec
import numpy as np
import pandas as pd
import pytest
import skops.io
import xgboost
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    OneHotEncoder,
    OrdinalEncoder,
    PowerTransformer,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)
from sklearn.svm import SVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from conftest import model_path, rows_of
from foretell import predictor
from foretell.batch import Answers, Batch, Call
from foretell.conversion.convert import convert
from foretell.errors import ForetellError, LibraryMissing, ModelUnreadable, RowRefused
from foretell.models import load as models_load
from foretell.models.onnx_converted import Converted, ConvertedEngine
from foretell.models.sklearn import SklearnEngine
from foretell.predictor import Predictor
from foretell.signature import Signature

ROWS, COLUMNS = 4096, ["a", "b", "c", "d"]
QUIET = {"n_estimators": 12, "verbose": -1}
FEW = {"n_estimators": 12, "random_state": 0}


@dataclass(frozen=True)
class Data:
    """x: numbers of four scales. gaps: the same with missing ones. two, three, amount: targets. frame: with text."""

    x: np.ndarray
    gaps: np.ndarray
    two: np.ndarray
    three: np.ndarray
    amount: np.ndarray
    frame: pd.DataFrame

    @property
    def names(self) -> np.ndarray:
        return np.array(["low", "mid", "top"])[self.three]

    @property
    def both(self) -> np.ndarray:
        return np.column_stack([self.amount, self.two])


@pytest.fixture(scope="module")
def data() -> Data:
    numbers = np.random.default_rng(3)
    x = numbers.normal(size=(ROWS, 4)) * [1, 1e-3, 1e3, 30]
    amount = x[:, 0] + x[:, 3] / 30 + 0.3 * numbers.normal(size=ROWS)
    gaps = x.copy()
    gaps[::7, 2] = np.nan
    frame = pd.DataFrame(
        {
            "town": numbers.choice(np.array(["Oslo", "São Paulo", "00501", ""], object), ROWS),
            "level": numbers.integers(0, 5, ROWS),
            "age": np.where(numbers.random(ROWS) < 0.1, np.nan, amount),
        }
    )
    frame.loc[::11, "town"] = np.nan
    return Data(x, gaps, (amount > 0).astype(int), np.digitize(amount, [-0.7, 0.7]), amount, frame)


@dataclass(frozen=True)
class Model:
    """A stored model and rows for it. schema: a file, where it does not know its columns."""

    path: Path
    rows: Batch
    schema: Path | None = None


Maker = Callable[[Data, Path, Path], Model]


def stored(name: str) -> Maker:
    def make(data: Data, folder: Path, models: Path) -> Model:
        path = model_path(models, name)
        opened = predictor.open(str(path), trust=True)
        return Model(path, opened.decoder.values(rows_of(models, name)[1]))

    return make


def skl(model: Any, target: Callable[[Data], Any], *, gaps: bool = False) -> Maker:
    def make(data: Data, folder: Path, models: Path) -> Model:
        x = data.gaps if gaps else data.x
        skops.io.dump(model.fit(x, target(data)), folder / "model.skops")
        return Model(folder / "model.skops", Batch.of(x))

    return make


SCHEMA = [{"name": "town", "type": "string"}, {"name": "level", "type": "long"}, {"name": "age", "type": "double"}]


def framed(transformers: list[tuple[str, Any, list[str]]], model: Any, target: Callable[[Data], Any]) -> Maker:
    def make(data: Data, folder: Path, models: Path) -> Model:
        pipeline = make_pipeline(ColumnTransformer(transformers, remainder="drop"), model)
        skops.io.dump(pipeline.fit(data.frame, target(data)), folder / "model.skops")
        (folder / "schema.json").write_text(json.dumps(SCHEMA))
        return Model(folder / "model.skops", framed_rows(data.frame), folder / "schema.json")

    return make


def framed_rows(frame: pd.DataFrame) -> Batch:
    town = np.array([None if pd.isna(cell) else cell for cell in frame["town"]], object)
    return Batch(len(frame), [town, frame["level"].to_numpy("int64"), frame["age"].to_numpy("float64")])


def xgb(kind: str, target: Callable[[Data], Any], **options: Any) -> Maker:
    def make(data: Data, folder: Path, models: Path) -> Model:
        more: dict[str, Any] = {"qid": np.arange(ROWS) // 16} if kind == "XGBRanker" else {}
        if "early_stopping_rounds" in options:
            more = {"eval_set": [(data.gaps[::3], target(data)[::3])], "verbose": False}
        model = getattr(xgboost, kind)(n_estimators=12, **options).fit(data.gaps, target(data), **more)
        model.save_model(folder / "model.ubj")
        return Model(folder / "model.ubj", Batch.of(data.gaps))

    return make


def xgb_alone(target: Callable[[Data], Any], **options: Any) -> Maker:
    def make(data: Data, folder: Path, models: Path) -> Model:
        xgboost.train(options, xgboost.DMatrix(data.gaps, target(data)), 12).save_model(folder / "model.json")
        return Model(folder / "model.json", Batch.of(data.gaps))

    return make


def lgb(target: Callable[[Data], Any], categories: Any = "auto", **options: Any) -> Maker:
    def make(data: Data, folder: Path, models: Path) -> Model:
        more = {"params": {"verbose": -1, **options}, "categorical_feature": categories}
        table = lightgbm.Dataset(np.abs(data.gaps) if categories != "auto" else data.gaps, target(data), **more)
        lightgbm.train({"verbose": -1, **options}, table, 12).save_model(folder / "model.txt")
        return Model(folder / "model.txt", Batch.of(data.gaps))

    return make


def lgb_estimator(model: Any, target: Callable[[Data], Any]) -> Maker:
    def make(data: Data, folder: Path, models: Path) -> Model:
        skops.io.dump(model.fit(data.gaps, target(data)), folder / "model.skops")
        kind = f"lightgbm.sklearn.{type(model).__name__}"
        (folder / "MLmodel").write_text(f"flavors:\n  lightgbm: {{data: model.skops, model_class: {kind}}}\n")
        return Model(folder, Batch.of(data.gaps))

    return make


def numbers() -> Any:
    return make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())


EXACT: dict[str, Maker] = {
    "forest of MLflow's": stored("forest"),
    "tree": skl(DecisionTreeClassifier(), lambda d: d.names, gaps=True),
    "tree of two outputs": skl(DecisionTreeRegressor(max_depth=6), lambda d: d.both),
    "forest": skl(RandomForestClassifier(**FEW), lambda d: d.names, gaps=True),
    "forest of numbers": skl(RandomForestRegressor(**FEW), lambda d: d.amount, gaps=True),
    "extra trees": skl(ExtraTreesClassifier(**FEW), lambda d: d.two.astype(bool), gaps=True),
    "scaled forest": skl(make_pipeline(StandardScaler(), RandomForestClassifier(**FEW)), lambda d: d.names),
    "gradient boosting": skl(GradientBoostingRegressor(n_estimators=12), lambda d: d.amount),
    "histograms": skl(HistGradientBoostingRegressor(max_iter=12), lambda d: d.amount, gaps=True),
    "xgb numbers": xgb("XGBRegressor", lambda d: d.amount),
    "xgb two numbers": xgb("XGBRegressor", lambda d: d.both),
    "xgb forest": xgb("XGBRFRegressor", lambda d: d.amount),
    "xgb ranker": xgb("XGBRanker", lambda d: d.two),
    "xgb booster": xgb_alone(lambda d: d.amount),
    "xgb booster of classes": xgb_alone(lambda d: d.three, objective="multi:softmax", num_class=3),
    "lgb booster": lgb(lambda d: d.amount),
    "lgb dart": lgb(lambda d: d.amount, boosting="dart"),
    "lgb forest": lgb(lambda d: d.amount, boosting="rf", bagging_freq=1, bagging_fraction=0.6),
    "lgb without missing ones": lgb(lambda d: d.amount, use_missing=False),
    "lgb numbers": lgb_estimator(lightgbm.LGBMRegressor(**QUIET), lambda d: d.amount),
    "ordinal": framed(
        [
            ("w", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["town", "level"]),
            ("n", "passthrough", ["age"]),
        ],
        HistGradientBoostingRegressor(max_iter=12),
        lambda d: d.amount,
    ),
}
"""Trees, whose sums and decisions are the library's to the bit, and so is an answer that is nothing more."""

DOUBLES: dict[str, Maker] = {
    "logistic of MLflow's": stored("logistic"),
    "pipeline of MLflow's": stored("pipeline"),
    "linear of two outputs": stored("two_outputs"),
    "logistic": skl(make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)), lambda d: d.names),
    "logistic of two": skl(LogisticRegression(max_iter=1000), lambda d: d.two.astype(bool)),
    "logistic of whole doubles": skl(LogisticRegression(max_iter=1000), lambda d: d.three * 10.0),
    "imputed": skl(make_pipeline(SimpleImputer(strategy="median"), Ridge()), lambda d: d.amount, gaps=True),
    "nearest": skl(KNeighborsClassifier(), lambda d: d.names),
    "k-means": skl(KMeans(3, n_init=1, random_state=0), lambda d: None),
    "gradient boosting of three": skl(GradientBoostingClassifier(n_estimators=12), lambda d: d.names),
    "gradient boosting of two": skl(GradientBoostingClassifier(n_estimators=12), lambda d: d.two),
    "gradient boosting, exponential": skl(
        GradientBoostingClassifier(n_estimators=12, loss="exponential"), lambda d: d.two
    ),
    "histograms of three": skl(HistGradientBoostingClassifier(max_iter=12), lambda d: d.names, gaps=True),
    "histograms of two": skl(HistGradientBoostingClassifier(max_iter=12), lambda d: d.two, gaps=True),
    "histograms, poisson": skl(HistGradientBoostingRegressor(max_iter=12, loss="poisson"), lambda d: abs(d.amount)),
    "lgb three classes": lgb_estimator(lightgbm.LGBMClassifier(**QUIET), lambda d: d.names),
    "lgb two classes": lgb_estimator(lightgbm.LGBMClassifier(**QUIET), lambda d: d.two),
    "lgb booster of classes": lgb(lambda d: d.three, objective="multiclass", num_class=3),
    "lgb gamma": lgb(lambda d: abs(d.amount) + 1, objective="gamma"),
    "words or refused": framed(
        [("w", OneHotEncoder(), ["town", "level"]), ("n", numbers(), ["age"])],
        LogisticRegression(max_iter=1000),
        lambda d: np.where(d.two, "yes", "no"),
    ),
    "words, rare together": framed(
        [
            ("w", OneHotEncoder(min_frequency=900, handle_unknown="infrequent_if_exist", drop="first"), ["town"]),
            ("i", make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()), ["town"]),
            ("n", numbers(), ["age", "level"]),
        ],
        Ridge(),
        lambda d: d.amount,
    ),
}
"""What else is computed in doubles, or has a link behind its trees: within 1e-13."""

FLOATS: dict[str, Maker] = {
    "xgb two classes": xgb("XGBClassifier", lambda d: d.two),
    "xgb three classes": xgb("XGBClassifier", lambda d: d.three),
    "xgb softmax": xgb("XGBClassifier", lambda d: d.three, objective="multi:softmax"),
    "xgb early": xgb("XGBClassifier", lambda d: d.three, early_stopping_rounds=1, learning_rate=3.0),
    "xgb tweedie": xgb("XGBRegressor", lambda d: abs(d.amount), objective="reg:tweedie"),
    "xgb dart": xgb("XGBRegressor", lambda d: d.amount, booster="dart", rate_drop=0.3),
    "xgb booster of shares": xgb_alone(lambda d: d.three, objective="multi:softprob", num_class=3),
    "power": skl(make_pipeline(PowerTransformer(), LogisticRegression(max_iter=1000)), lambda d: d.names),
    "support vectors": skl(make_pipeline(StandardScaler(), SVR()), lambda d: d.amount),
}
"""What the library, or ONNX Runtime, computes in 32-bit floats: within 5e-5."""

WITHIN = {**dict.fromkeys(EXACT, 0.0), **dict.fromkeys(DOUBLES, 1e-13), **dict.fromkeys(FLOATS, 5e-5)}
MAKERS = {**EXACT, **DOUBLES, **FLOATS}


@dataclass(frozen=True)
class Pair:
    """The same model by its library, and converted."""

    library: Predictor
    own: Predictor
    converted: Converted
    rows: Batch


@pytest.fixture(scope="module")
def pairs(data: Data, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Pair]:
    made: dict[str, Pair] = {}

    def pair(name: str) -> Pair:
        if name not in made:
            folder = tmp_path_factory.mktemp("model")
            made[name] = paired(MAKERS[name](data, folder, models))
        return made[name]

    return pair


def paired(model: Model) -> Pair:
    found = predictor.find(str(model.path), trust=True)
    library = predictor.load(found, schema=str(model.schema) if model.schema else None)
    converted = convert(library.engine, library.signature, library.names)
    loaded = models_load.Loaded(ConvertedEngine(converted), library.signature, library.names)
    own = Predictor(found, found.settled, loaded, library.signature)
    return Pair(library, own, converted, model.rows)


def asked(which: Predictor, rows: Batch) -> Answers:
    return which.predict(rows, Call(which.engine.proba))


@pytest.mark.parametrize("name", MAKERS)
def test_answers_are_the_librarys(name: str, pairs: Callable[[str], Pair]) -> None:
    """The same labels, numbers that are as near as said, and the same columns of the same types."""
    pair = pairs(name)
    theirs, ours = asked(pair.library, pair.rows), asked(pair.own, pair.rows)
    assert [column for column, _ in theirs.columns()] == [column for column, _ in ours.columns()]
    for expected, actual in zip(theirs.outputs, ours.outputs, strict=True):
        assert (expected.values.dtype, expected.values.shape) == (actual.values.dtype, actual.values.shape)
        if expected.proba or expected.values.dtype.kind == "f":
            scale = np.abs(expected.values).max()
            np.testing.assert_allclose(actual.values, expected.values, rtol=0, atol=WITHIN[name] * scale)
        else:
            assert expected.values.tolist() == actual.values.tolist()


@pytest.mark.parametrize("name", MAKERS)
def test_a_row_has_the_same_bits_in_any_company(name: str, pairs: Callable[[str], Pair]) -> None:
    """Alone, among a few and among all, a row's answer is the same."""
    pair = pairs(name)
    whole = asked(pair.own, pair.rows)
    for count in (1, 5, 33):
        pieces = [asked(pair.own, pair.rows[start : start + count]) for start in range(0, 100, count)]
        joined = Answers.concat(pieces)
        for expected, actual in zip(whole[: len(joined)].outputs, joined.outputs, strict=True):
            assert expected.values.tolist() == actual.values.tolist(), count


ODD = [np.nan, np.inf, -np.inf, 1e39, -1e39, 1e308, 3.4028235e38, 3.4028236e38, 0.0, -0.0]
"""Numbers that one library refuses and another takes."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in MAKERS if name not in ("support vectors", "power", "nearest")])
def test_what_the_library_refuses_is_refused(name: str, pairs: Callable[[str], Pair]) -> None:
    """A row with a strange number or an unknown word is refused exactly where the library refuses it."""
    pair = pairs(name)
    odd = strange(pair.rows)
    edges = list(range(1, odd.rows + 1))
    call = Call(pair.library.engine.proba)
    theirs, ours = (list(which.predict_apart(odd, edges, call)) for which in (pair.library, pair.own))
    assert [kind(answer) for answer in theirs] == [kind(answer) for answer in ours]
    for row, (expected, actual) in enumerate(zip(theirs, ours, strict=True)):
        if isinstance(expected, Answers) and isinstance(actual, Answers) and sane(odd[row : row + 1]):
            assert near(expected, actual), (row, expected, actual)


def strange(rows: Batch) -> Batch:
    """Rows with each odd number in each column of doubles, and with each odd word in each column of text."""
    made = []
    for at, column in enumerate(rows.columns):
        values: list[Any] = ODD if column.dtype == np.float64 else [None, "Atlantis"] if column.dtype == object else []
        if column.dtype == np.int64:
            values = [99, 0]
        for value in values:
            columns = [other[:1].copy() for other in rows.columns]
            columns[at][0] = value
            made.append(Batch(1, columns))
    return Batch.concat(made)


def kind(answer: Answers | ForetellError) -> str:
    return "answered" if isinstance(answer, Answers) else type(answer).__name__


def sane(row: Batch) -> bool:
    """Whether no number is out of all scale, where a sum of squares has no digits left."""
    return not any(column.dtype.kind == "f" and np.abs(column[0]) > 1e30 for column in row.columns)


def near(expected: Answers, actual: Answers) -> bool:
    """Equal but for rounding."""
    pairs = zip(expected.outputs, actual.outputs, strict=True)
    return all(
        np.allclose(one.values, other.values, rtol=1e-5, atol=1e-7)
        if one.values.dtype.kind == "f"
        else one.values.tolist() == other.values.tolist()
        for one, other in pairs
    )


def test_a_refusal_says_why(pairs: Callable[[str], Pair]) -> None:
    """What was wrong with the row is said as far as it is known."""
    row = pairs("logistic").rows[:1].matrix.copy()
    row[0, 1] = np.nan
    with pytest.raises(RowRefused, match="the model refused the row: a value is missing where the model needs one"):
        asked(pairs("logistic").own, Batch.of(row))
    row[0, 1] = 1e39
    with pytest.raises(RowRefused, match="a value is infinite or too large for the model"):
        asked(pairs("forest").own, Batch.of(row))
    with pytest.raises(RowRefused, match="a category is unknown to the model"):
        asked(pairs("words or refused").own, Batch(1, [np.array(["?"], object), np.zeros(1, int), np.zeros(1)]))


BLOCKED = ("joblib", "lightgbm", "onnx", "pandas", "scipy", "skl2onnx", "sklearn", "skops", "xgboost")
READER = """
import sys
for name in {blocked!r}:
    sys.modules[name] = None
import msgspec, numpy as np
from foretell.batch import Batch, Call
from foretell.models.onnx_converted import Converted, ConvertedEngine
engine = ConvertedEngine(msgspec.json.decode(open("converted.json", "rb").read(), type=Converted))
columns = [np.array(cells, kind) for kind, cells in msgspec.json.decode(open("rows.json", "rb").read())]
batch = Batch(len(columns[0]), columns)
answers = engine.predict(batch.padded(engine.block or 1), Call(engine.proba))[: batch.rows]
print(msgspec.json.encode([[name, values.dtype.str, values.tolist()] for name, values in answers.columns()]).decode())
"""


@pytest.mark.parametrize(
    "name", ["pipeline of MLflow's", "forest", "xgb three classes", "lgb three classes", "k-means"]
)
def test_it_predicts_where_the_library_is_not(name: str, pairs: Callable[[str], Pair]) -> None:
    """What was converted is values that JSON has, and predicts in a process without any training library."""
    pair = pairs(name)
    rows = pair.rows[:20]
    cells = [(column.dtype.str, [plain(cell) for cell in column.tolist()]) for column in rows.columns]
    Path("converted.json").write_bytes(msgspec.json.encode(dataclasses.asdict(pair.converted)))
    Path("rows.json").write_bytes(msgspec.json.encode(cells))
    command = [sys.executable, "-c", READER.format(blocked=BLOCKED)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert 0 == ran.returncode, ran.stderr
    expected = [[head, values.dtype.str, values.tolist()] for head, values in asked(pair.own, rows).columns()]
    assert expected == json.loads(ran.stdout)


def plain(cell: Any) -> Any:
    return None if isinstance(cell, float) and np.isnan(cell) else cell


class OwnForest(RandomForestClassifier):
    """Somebody's own estimator, which may decide otherwise."""


CANNOT: dict[str, tuple[Maker, str]] = {
    "parameters": (stored("params"), "parameters with each call: return_std"),
    "no converter": (
        skl(make_pipeline(StandardScaler(), SplineTransformer(), Ridge()), lambda d: d.amount),
        r"the step 'splinetransformer' \(SplineTransformer\): Unable to find",
    ),
    "trees inside": (skl(BaggingClassifier(n_estimators=3), lambda d: d.two), "BaggingClassifier: trees inside"),
    "own threshold": (
        skl(FixedThresholdClassifier(LogisticRegression(max_iter=1000), threshold=0.9), lambda d: d.two),
        "FixedThresholdClassifier decides by a threshold of its own",
    ),
    "several labels": (
        skl(RandomForestClassifier(n_estimators=2), lambda d: np.column_stack([d.two, d.three])),
        "RandomForestClassifier gives several labels",
    ),
    "first answers": (
        skl(GradientBoostingRegressor(n_estimators=2, init=LinearRegression()), lambda d: d.amount),
        "GradientBoostingRegressor begins with the answers of a LinearRegression",
    ),
    "histograms of categories": (
        framed(
            [("n", "passthrough", ["level", "age"])],
            HistGradientBoostingClassifier(max_iter=2, categorical_features=[0]),
            lambda d: d.two,
        ),
        r"\(HistGradientBoostingClassifier\) splits by category",
    ),
    "text for numbers": (
        framed([("w", TargetEncoder(), ["town"])], Ridge(), lambda d: d.amount),
        "would be given text",
    ),
    "xgb linear": (xgb("XGBClassifier", lambda d: d.two, booster="gblinear"), "XGBoost's booster gblinear"),
    "xgb hinge": (xgb("XGBClassifier", lambda d: d.two, objective="binary:hinge"), "objective binary:hinge"),
    "xgb labels": (xgb("XGBClassifier", lambda d: np.column_stack([d.two, d.two])), "several labels a row"),
    "xgb outputs": (
        xgb("XGBRegressor", lambda d: d.both, multi_strategy="multi_output_tree"),
        "trees with several outputs",
    ),
    "lgb linear trees": (lgb(lambda d: d.amount, linear_tree=True), "LightGBM's linear trees"),
    "lgb zeros": (lgb(lambda d: d.amount, zero_as_missing=True), "zeros that count as missing"),
    "lgb objective": (lgb(lambda d: d.two, objective="cross_entropy_lambda"), "objective cross_entropy_lambda"),
    "lgb root": (lgb(lambda d: d.amount, reg_sqrt=True), "regression with sqrt"),
    "lgb categories": (lgb(lambda d: d.amount, categories=[3]), "splits by category"),
    "ONNX itself": (stored("onnx"), "ONNX Runtime has no conversion"),
}
"""What would change its meaning, or has none in ONNX: by what the error says."""


@pytest.mark.parametrize("name", CANNOT)
def test_what_would_change_its_meaning_is_not_converted(name: str, data: Data, models: Path, tmp_path: Path) -> None:
    """The error names the step or the trait that cannot be converted."""
    make, said = CANNOT[name]
    with pytest.raises(ModelUnreadable, match=f"the model cannot be converted to ONNX: .*{said}"):
        paired(make(data, tmp_path, models))


def test_a_subclass_is_not_taken_for_its_base(data: Data) -> None:
    """An estimator of somebody's own may decide otherwise than the one that it extends."""
    engine = SklearnEngine(OwnForest(n_estimators=2).fit(data.x, data.two))
    with pytest.raises(ModelUnreadable, match="OwnForest is not scikit-learn's own"):
        convert(engine, Signature.unnamed(4), None)


def test_a_missing_extra_is_named(data: Data, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without onnx or skl2onnx the error says how to install them."""
    model = skl(Ridge(), lambda d: d.amount)(data, tmp_path, models)
    for name in ("skl2onnx", "onnx"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(LibraryMissing, match=f"needs {name}, which is not installed") as caught:
            paired(model)
        assert "pip install 'foretell[onnx]'" == caught.value.hint
