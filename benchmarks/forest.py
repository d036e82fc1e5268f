"""What a row costs in an ensemble of trees: foretell's kernel against the library that trained it, ONNX Runtime, and
treelite where it is installed; ten ensembles, alone, in 32, in 4,096 and in 100,000.

    .venv/bin/python benchmarks/forest.py [NAME …]

One thread each. Prints µs a row; in brackets how many times quicker than the library, in the same run; and whether all
answers on 100,000 rows are equal to the library's. Rows are never the same twice in a row, so that no branch is learnt
by heart. Two threads: how many times quicker two calls at once go through the rows than one after the other.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import itertools
import pickle
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

SIZES = (1, 32, 4096, 100_000)
BUDGET = 0.2
COLUMNS = 30


@dataclass(frozen=True)
class Ensemble:
    """save: writes the model into a file that foretell loads. missing: whether rows have missing values."""

    name: str
    model: Any
    save: Callable[[Path], Path]
    missing: bool = True


def ensembles(wanted: list[str]) -> Iterator[Ensemble]:
    import catboost
    import lightgbm
    import xgboost
    from sklearn import ensemble

    numbers = np.random.default_rng(7)
    x = numbers.normal(size=(10_000, COLUMNS))
    amount = x[:, :5].sum(axis=1) + x[:, 5] * x[:, 6] + numbers.normal(size=len(x))
    sort, high = np.digitize(amount, [-2, 0, 2]), amount > 0
    quiet: dict[str, Any] = {"verbose": 0, "allow_writing_files": False}
    trained: dict[str, tuple[Any, Any]] = {
        "XGBoost, 500 x depth 6": (xgboost.XGBClassifier(n_estimators=500, max_depth=6), high),
        "XGBoost, 4 classes, 200 rounds": (xgboost.XGBClassifier(n_estimators=200, max_depth=6), sort),
        "LightGBM, 500 x 31 leaves": (lightgbm.LGBMClassifier(n_estimators=500, verbose=-1), high),
        "LightGBM, regression, 300 x 63": (
            lightgbm.LGBMRegressor(n_estimators=300, num_leaves=63, verbose=-1),
            amount,
        ),
        "CatBoost, 500 x depth 6": (catboost.CatBoostClassifier(iterations=500, depth=6, **quiet), high),
        "random forest, 100": (ensemble.RandomForestClassifier(100, random_state=0), high),
        "extra trees, 100": (ensemble.ExtraTreesRegressor(100, random_state=0), amount),
        "gradient boosting, 200 x 3": (ensemble.GradientBoostingClassifier(n_estimators=200, random_state=0), high),
        "histogram boosting, 200 x 31": (ensemble.HistGradientBoostingClassifier(max_iter=200, random_state=0), high),
        "isolation forest, 100": (ensemble.IsolationForest(n_estimators=100, random_state=0), None),
    }
    for name, (model, target) in trained.items():
        if wanted and not any(word in name for word in wanted):
            continue
        model.fit(x) if target is None else model.fit(x, target)
        refuses = (ensemble.GradientBoostingClassifier, ensemble.IsolationForest)
        yield Ensemble(name, model, saver(model), not isinstance(model, refuses))


def saver(model: Any) -> Callable[[Path], Path]:
    """Writes a model as its library does."""
    library = type(model).__module__.split(".")[0]

    def save(folder: Path) -> Path:
        path = folder / {"xgboost": "model.ubj", "lightgbm": "model.txt", "catboost": "model.cbm"}.get(
            library, "model.pkl"
        )
        if library == "sklearn":
            path.write_bytes(pickle.dumps(model))
        elif library == "lightgbm":
            model.booster_.save_model(path)
        else:
            model.save_model(path)
        return path

    return save


def engines(made: Ensemble, folder: Path) -> dict[str, Any]:
    """What can predict, by its name: the library first; in the place of an engine the reason that there is none."""
    from foretell import predictor
    from foretell.compiler.candidates import MAKERS
    from foretell.models import compiled

    native = predictor.load(predictor.find(str(made.save(folder)), trust=True, engine="native"))
    found: dict[str, Any] = {native.engine.name: native.engine}
    for name, label in (("kernel", "foretell's kernel"), ("onnx", "ONNX Runtime")):
        try:
            artifact = next(iter(MAKERS[name].make(native)))
            (folder / name).mkdir()
            artifact.files(folder / name)
            described = compiled.Described(name, "", "", native.signature, native.names, artifact.more)
            found[label] = compiled.open_engine(folder / name, described)
        except Exception as error:
            found[label] = str(error).splitlines()[0]
    found["treelite"] = treelite(made.model)
    return found


class Treelite:
    """treelite's reference predictor, GTIL."""

    def __init__(self, gtil: Any, model: Any) -> None:
        self._gtil, self._model = gtil, model

    def predict(self, batch: Any, call: Any) -> Any:
        return self._gtil.predict(self._model, batch.matrix.astype("float32"), nthread=1)


def treelite(model: Any) -> Any:
    try:
        import treelite
        from treelite import gtil
    except ImportError:
        return "not installed"
    library = type(model).__module__.split(".")[0]
    try:
        if library == "sklearn":
            return Treelite(gtil, treelite.sklearn.import_model(model))
        if library == "xgboost":
            return Treelite(gtil, treelite.frontend.from_xgboost(model.get_booster()))
        if library == "lightgbm":
            return Treelite(gtil, treelite.frontend.from_lightgbm(model.booster_))
    except Exception as error:
        return str(error).splitlines()[0]
    return f"does not read {library}"


def main(wanted: list[str]) -> None:
    warnings.filterwarnings("ignore")
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print("µs a row (times quicker than the library)")
    for made in ensembles(wanted):
        table = Table(title=made.name, title_justify="left", box=None, padding=(0, 2))
        table.add_column("engine", width=18)
        for head in (*(f"{size:,}" for size in SIZES), "two threads"):
            table.add_column(head, justify="right", width=18)
        table.add_column("equal answers")
        with tempfile.TemporaryDirectory() as folder:
            for row in measured(made, Path(folder)):
                table.add_row(*row)
        console.print(table)


def measured(made: Ensemble, folder: Path) -> Iterator[list[str]]:
    """The table's rows for one ensemble."""
    from foretell.batch import Batch, Call

    numbers = np.random.default_rng(8)
    rows = numbers.normal(size=(SIZES[-1], COLUMNS))
    if made.missing:
        rows[numbers.random(rows.shape) < 0.01] = np.nan
    whole, call = Batch.of(rows), Call()
    base: dict[int, float] = {}
    expected: Any = None
    for name, engine in engines(made, folder).items():
        if isinstance(engine, str):
            yield [name, *["–"] * len(SIZES), "", engine]
            continue
        seconds = timed(engine, whole, call)
        answered = engine.predict(whole, Call(proba=getattr(engine, "proba", False)))
        first = not base
        base, expected = base or seconds, expected if base else answered
        each = [f"{seconds[size] / size * 1e6:,.2f} ({base[size] / seconds[size]:,.1f} x)" for size in SIZES]
        both = f"{together(engine, whole, call):.2f} x" if name.startswith("foretell") else ""
        yield [name, *each, both, "the reference" if first else told(answered, expected)]


def timed(engine: Any, whole: Any, call: Any) -> dict[int, float]:
    """Seconds of a call by its rows, other ones each time."""
    found = {}
    for size in SIZES:
        starts = range(0, SIZES[-1] - size + 1, max(size, SIZES[-1] // 1000))
        parts = itertools.cycle([whole[at : at + size] for at in starts])
        found[size] = best(lambda parts=parts: engine.predict(next(parts), call))
    return found


def together(engine: Any, whole: Any, call: Any) -> float:
    """How many times quicker two threads go through the rows than one."""
    halves = [whole[: whole.rows // 2], whole[whole.rows // 2 :]]
    with ThreadPoolExecutor(2) as pool:
        alone = best(lambda: [engine.predict(half, call) for half in halves])
        return alone / best(lambda: list(pool.map(lambda half: engine.predict(half, call), halves)))


def told(answered: Any, expected: Any) -> str:
    """How answers compare."""
    if not hasattr(answered, "outputs"):
        return "not compared"
    pairs = [(one.values, other.values) for one, other in zip(answered.outputs, expected.outputs, strict=True)]
    if all(one.dtype == other.dtype and one.tobytes() == other.tobytes() for one, other in pairs):
        return "to the bit"
    numbers = [(one, other) for one, other in pairs if one.dtype.kind == "f"]
    apart = max((float(np.nanmax(np.abs(one - other))) for one, other in numbers), default=0.0)
    labels = sum(int((one != other).sum()) for one, other in pairs if one.dtype.kind != "f")
    return f"no: {apart:.1g} apart" + (f", {labels} labels" if labels else "")


def best(call: Callable[[], Any]) -> float:
    """The median of calls that take up to BUDGET seconds together, at least three."""
    taken: list[float] = []
    while len(taken) < 3 or (sum(taken) < BUDGET and len(taken) < 1000):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return median(taken)


if __name__ == "__main__":
    main(sys.argv[1:])
