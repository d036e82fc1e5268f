"""CatBoost's trees without CatBoost: its scores and answers to the bit, for every loss, shape of trees and treatment of
missing values."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import catboost
import numpy as np
import pytest

from foretell import predictor
from foretell.batch import Answers, Batch, Call
from foretell.compiler.compile import compile_model
from foretell.kernels import stored
from foretell.kernels.catboost import model, quick_exp
from foretell.kernels.kernel import Kernel, KernelEngine
from foretell.kernels.node import NotCovered
from foretell.models.catboost import CatboostEngine
from foretell.trees.catboost import trees_of
from foretell.trees.libm import exp
from kernel_reference import bits, cut

TRAINED, ROWS, COLUMNS = 1500, 100_000, 6
Make = Callable[[Path], Any]


def trained_on() -> tuple[np.ndarray, np.ndarray]:
    numbers = np.random.default_rng(11)
    x = (numbers.normal(size=(TRAINED, COLUMNS)) * [1, 1e-6, 1e6, 30, 1, 1e-39]).astype("float32").astype("float64")
    signal = x[:, 0] + x[:, 3] / 30 + numbers.normal(size=TRAINED) / 4
    x[numbers.random(TRAINED) < 0.2, 3] = np.nan
    x[:, 4] = np.round(x[:, 4])
    return x, signal + np.nan_to_num(x[:, 4])


X, SIGNAL = trained_on()
TWO, THREE, COUNT = (SIGNAL > 0.5).astype(int), np.digitize(SIGNAL, [-0.5, 1.0]), np.floor(np.abs(SIGNAL) * 3) + 1
NAMES = np.array(["low", "mid", "top"])
TARGETS = np.column_stack([SIGNAL, COUNT, -SIGNAL])
LABELS = np.column_stack([TWO, THREE > 1, THREE < 1]).astype(int)


def made(kind: str, target: Any = SIGNAL, *, after: Callable[[Any], Any] | None = None, **options: Any) -> Make:
    """A model from its file. after: what is done to it before it is written."""

    def make(folder: Path) -> Any:
        given = {"iterations": 14, "depth": 4, "verbose": 0, "allow_writing_files": False, "thread_count": 1, **options}
        more: dict[str, Any] = {"group_id": np.arange(TRAINED) // 15} if kind == "CatBoostRanker" else {}
        fitted = getattr(catboost, kind)(**given) if kind != "CatBoost" else catboost.CatBoost(given)
        fitted.fit(X, target, **more)
        if after:
            after(fitted)
        fitted.save_model(str(folder / "model.cbm"))
        return getattr(catboost, kind)().load_model(str(folder / "model.cbm"))

    return make


def number(loss: str, target: Any = SIGNAL, **options: Any) -> Make:
    return made("CatBoostRegressor", target, loss_function=loss, **options)


def classes(target: Any, **options: Any) -> Make:
    return made("CatBoostClassifier", target, **options)


VARIANTS: dict[str, Make] = {
    **{loss: number(loss) for loss in ("RMSE", "MAE", "Quantile:alpha=0.7", "Huber:delta=1", "Lq:q=3", "LogCosh")},
    **{loss: number(loss, COUNT) for loss in ("Poisson", "Tweedie:variance_power=1.5", "MAPE", "LogLinQuantile")},
    "Cox": number("Cox"),
    "SurvivalAft": number("SurvivalAft", np.column_stack([COUNT, COUNT + 1])),
    "RMSEWithUncertainty": number("RMSEWithUncertainty"),
    "MultiRMSE": number("MultiRMSE", TARGETS),
    "MultiQuantile": number("MultiQuantile:alpha=0.1,0.5,0.9"),
    "Logloss": classes(TWO),
    "CrossEntropy": classes(TWO * 0.7, loss_function="CrossEntropy"),
    "Focal": classes(TWO, loss_function="Focal:focal_alpha=0.5;focal_gamma=2"),
    "MultiClass": classes(THREE),
    "MultiClass of two": classes(TWO, loss_function="MultiClass"),
    "MultiClass of many": classes((SIGNAL * 4).clip(-8, 8).astype(int)),
    "MultiClassOneVsAll": classes(THREE, loss_function="MultiClassOneVsAll"),
    "MultiLogloss": classes(LABELS, loss_function="MultiLogloss"),
    "MultiLogloss of two": classes(LABELS[:, :2], loss_function="MultiLogloss"),
    "MultiCrossEntropy": classes(LABELS * 0.7, loss_function="MultiCrossEntropy"),
    "two names": classes(NAMES[TWO]),
    "three names": classes(NAMES[THREE]),
    "flags": classes(TWO > 0),
    "two floats": classes(TWO * 1.5),
    "three negative": classes((THREE - 2).astype("int8")),
    "names in another order": classes(TWO, class_names=[1, 0]),
    "another threshold": classes(TWO, after=lambda fitted: fitted.set_probability_threshold(0.7)),
    "a scale": made("CatBoostRegressor", after=lambda fitted: fitted.set_scale_and_bias(0.3, [7.1])),
    "a scale, classes": classes(TWO, after=lambda fitted: fitted.set_scale_and_bias(-1.7, [0.1])),
    "ranker": made("CatBoostRanker", TWO),
    "the library's own class": made("CatBoost", TWO, loss_function="Logloss"),
    "the library's own class, counts": made("CatBoost", COUNT, loss_function="Poisson"),
    **{f"missing {mode}": number("RMSE", nan_mode=mode) for mode in ("Min", "Max")},
    **{
        f"{policy}, {name}": made_for(THREE if "three" in name else TWO, grow_policy=policy, nan_mode="Max")
        for policy in ("Depthwise", "Lossguide")
        for name, made_for in {"two": classes, "three classes": classes}.items()
    },
    "Lossguide, numbers": number("RMSE", grow_policy="Lossguide", max_leaves=30, depth=12),
    "Lossguide, counts": number("Poisson", COUNT, grow_policy="Lossguide", max_leaves=9),
    "Plain": classes(TWO, boosting_type="Plain", leaf_estimation_method="Gradient"),
    "deep": number("RMSE", depth=11, iterations=4),
    "stumps": number("RMSE", depth=1, iterations=70),
    "many borders": number("RMSE", border_count=1000, iterations=40),
    "one tree": classes(THREE, iterations=1),
    "stopped": classes(TWO, iterations=60, learning_rate=0.9, od_type="Iter", od_wait=3),
}

ODD = [np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324, -5e-324, 1e-45, -1e-45, 1e-39, 1e300, -1e300, 3.5e38, 1e-50]


def rows_for(loaded: Any) -> np.ndarray:
    """Ordinary rows, of which many cells are a border, one of its neighbours in either precision, or odd."""
    numbers = np.random.default_rng(5)
    rows = X[numbers.integers(0, TRAINED, ROWS)]
    for at, column in enumerate(trees_of(loaded._serialize_model()).tables(5)):
        single = column.array(3, "<f4")
        border = single.astype("float64")
        singles = [np.nextafter(single, np.float32(to)).astype("float64") for to in (np.inf, -np.inf)]
        doubles = [np.nextafter(border, to) for to in (np.inf, -np.inf)]
        halves = [(border + one) / 2 for one in singles]
        chosen = numbers.random(ROWS) < 0.6
        pool = np.concatenate([border, *singles, *doubles, *halves, ODD])
        rows[chosen, at] = numbers.choice(pool, int(chosen.sum()))
    return rows


@pytest.mark.parametrize("variant", VARIANTS)
def test_scores_and_answers_are_the_librarys(variant: str, tmp_path: Path) -> None:
    """Every bit of 100,000 rows at once, in 32 and alone, from the kernel that was written and read again."""
    loaded = VARIANTS[variant](tmp_path)
    native = CatboostEngine(catboost, loaded)
    folder = tmp_path / "kernel"
    folder.mkdir()
    stored.write(Kernel((), model(loaded)), folder)
    kernel = stored.read(folder)
    with np.errstate(over="ignore"):
        rows = rows_for(loaded)
        scores = kernel.head.scores(rows)  # type: ignore[attr-defined]
    assert catboost.CatBoost.predict(loaded, catboost.Pool(rows)).tobytes() == scores.tobytes()

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


def test_rows_of_other_types_are_rounded_as_the_library_is_given_them(tmp_path: Path) -> None:
    """Whole numbers, singles, and flags with nulls, each by way of doubles."""
    loaded = VARIANTS["MultiClass"](tmp_path)
    native, engine, call = CatboostEngine(catboost, loaded), KernelEngine(Kernel((), model(loaded))), Call(proba=True)
    whole = (np.nan_to_num(X) * (1 << 30)).astype("int64")
    flags = np.array([None, True, False], object)[np.arange(TRAINED) % 3]
    for batch in (
        Batch.of(whole),
        Batch.of(X.astype("float32")),
        Batch(TRAINED, [flags, *whole.T[1:3], *X.T[3:]]),
    ):
        assert bits(native.predict(batch, call)) == bits(engine.predict(batch, call))


def test_the_exponential_is_close_to_the_truth() -> None:
    """What the library computes with is no exact exponential, but nearly."""
    values = np.random.default_rng(0).uniform(-700, 700, 50_000)
    assert np.abs(quick_exp(values) / exp(values) - 1).max() < 1e-13


def test_categories_are_not_covered(tmp_path: Path) -> None:
    """A kernel is refused when it is made, and the reason names the part."""
    rows = np.column_stack([NAMES[THREE].astype(object), SIGNAL])
    fitted = catboost.CatBoostClassifier(iterations=2, verbose=0, allow_writing_files=False).fit(rows, TWO, [0])
    with pytest.raises(NotCovered, match="categories"):
        model(fitted)


def test_scores_beyond_the_exponential_are_not_covered(tmp_path: Path) -> None:
    """Where the library would stop short of infinity, by where a row stands in its batch."""
    loaded = number("Poisson", COUNT, after=lambda fitted: fitted.set_scale_and_bias(1.0, [400.0]))(tmp_path)
    with pytest.raises(NotCovered, match="scores that large"):
        model(loaded)


def test_a_compiled_classifier_needs_no_catboost(tmp_path: Path) -> None:
    """The compiler makes an exact kernel, and its folder predicts with the library out of reach."""
    loaded = classes(NAMES[THREE], iterations=5)(tmp_path)
    record = compile_model(predictor.find(str(tmp_path / "model.cbm")), engine="kernel")
    tried = record.of_engine("kernel")
    assert tried is not None and tried.verified is not None and tried.verified.exact, record
    code = (
        "import sys, numpy, foretell\n"
        "sys.modules.update(catboost=None)\n"
        "print(*foretell.load(sys.argv[1], engine='kernel').predict(numpy.load(sys.argv[2])))"
    )
    np.save(tmp_path / "rows.npy", X)
    command = [sys.executable, "-c", code, str(tmp_path / "model.cbm"), str(tmp_path / "rows.npy")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert loaded.predict(X)[:, 0].tolist() == ran.stdout.split(), ran.stderr
