"""What a row costs with each engine: ten models, alone, in 32 and in 4,096, against the library and mlflow's pyfunc.

    .venv/bin/python benchmarks/engines.py [NAME …]

Trains ten small models, saves them with mlflow, compiles each, and prints µs a row in one table; in brackets how many
times quicker than the library, through the same predictor, in the same run. What an engine was proven on is its last
column.
"""

import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

SIZES = (1, 32, 4096)
BUDGET = 0.4


@dataclass(frozen=True)
class Model:
    """flavour: mlflow's module to save it with. rows: what it was trained on."""

    name: str
    flavour: str
    model: Any
    rows: Any


def models() -> Iterator[Model]:
    from sklearn.compose import ColumnTransformer
    from sklearn.datasets import load_iris
    from sklearn.ensemble import ExtraTreesRegressor, GradientBoostingClassifier, RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import BayesianRidge, LinearRegression, LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = np.random.default_rng(7)
    x, y = load_iris(as_frame=True, return_X_y=True)
    wide = pd.DataFrame(numbers.normal(size=(2000, 30)), columns=[f"x{at}" for at in range(30)])
    amount = wide["x0"] - 2 * wide["x1"] + numbers.normal(size=2000)
    yield Model("logistic, 4 columns", "sklearn", LogisticRegression(max_iter=1000).fit(x, y), x)
    yield Model("linear, two outputs", "sklearn", LinearRegression().fit(x.iloc[:, 1:], x.iloc[:, :2]), x.iloc[:, 1:])
    yield Model("Bayesian ridge, 30 columns", "sklearn", BayesianRidge().fit(wide, amount), wide)

    people = pd.DataFrame(
        {
            "age": numbers.uniform(18, 90, 2000).round(1),
            "visits": numbers.integers(0, 50, 2000).astype(float),
            "city": numbers.choice(np.array(["Oslo", "Rome", "Paris", "Bern"], object), 2000),
        }
    )
    people.loc[::9, "age"] = np.nan
    prepared = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["age", "visits"]),
            ("words", OneHotEncoder(handle_unknown="ignore"), ["city"]),
        ]
    )
    older = people["age"].fillna(50) > 50
    yield Model(
        "pipeline, words and missing",
        "sklearn",
        make_pipeline(prepared, LogisticRegression()).fit(people, older),
        people,
    )

    codes = pd.DataFrame({f"c{at}": numbers.integers(0, 20, 2000).astype(str) for at in range(10)})
    hot = make_pipeline(OneHotEncoder(handle_unknown="ignore"), Ridge())
    yield Model("ridge, 200 one-hot columns", "sklearn", hot.fit(codes, codes["c0"].astype(int) + amount), codes)

    yield Model(
        "forest, 100 trees",
        "sklearn",
        RandomForestClassifier(100, n_jobs=1, random_state=0).fit(wide, amount > 0),
        wide,
    )
    yield Model(
        "extra trees, 100", "sklearn", ExtraTreesRegressor(100, n_jobs=1, random_state=0).fit(wide, amount), wide
    )
    yield Model(
        "gradient boosting, 100", "sklearn", GradientBoostingClassifier(random_state=0).fit(wide, amount > 0), wide
    )

    from skl2onnx import to_onnx

    floats = x.astype("float32")
    flat = to_onnx(LogisticRegression(max_iter=1000).fit(floats, y), floats.to_numpy()[:1], options={"zipmap": False})
    yield Model("ONNX, logistic", "onnx", flat, floats.to_numpy())

    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(30, 64), torch.nn.ReLU(), torch.nn.Linear(64, 3)).eval()
    yield Model("torch, 30-64-3", "pytorch", net, wide.to_numpy("float32"))


def main(wanted: list[str]) -> None:
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "true"
    warnings.filterwarnings("ignore")
    logging.disable()
    table = Table(title="µs a row (times quicker than the library)", title_justify="left", box=None, padding=(0, 2))
    for head, justify in (
        ("model", "left"),
        ("engine", "left"),
        *((f"{size:,}", "right") for size in SIZES),
        ("proven", "left"),
    ):
        table.add_column(head, justify=justify)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FORETELL_CACHE"] = f"{folder}/cache"
        for at, model in enumerate(models()):
            if not wanted or any(name in model.name for name in wanted):
                for row in measured(model, Path(folder) / str(at)):
                    table.add_row(*row)
                table.add_section()
    Console(width=None if sys.stdout.isatty() else 130).print(table)


def measured(model: Model, path: Path) -> Iterator[list[str]]:
    """A row of the table for mlflow and each engine."""
    import mlflow
    from mlflow.models import infer_signature

    from foretell import predictor
    from foretell.compiler.compile import compile_model

    flavour = getattr(mlflow, model.flavour)
    how: dict[str, Any] = {"serialization_format": "cloudpickle"} if model.flavour == "sklearn" else {}
    how |= {"input_example": model.rows[:2]} if model.flavour == "pytorch" else {}
    flavour.save_model(model.model, path, signature=infer_signature(model.rows), pip_requirements=[], **how)
    found = predictor.find(str(path), trust=True, engine="native")
    engine = "onnx" if model.flavour == "sklearn" else "auto"
    record = compile_model(found, engine=engine)
    native = record.tried[0].seconds or timed_predictor(predictor.load(found))
    pyfunc = mlflow.pyfunc.load_model(str(path))
    yield cells(model.name, "mlflow pyfunc", timed(pyfunc.predict, model.rows), native, "")
    yield cells("", record.tried[0].label, native, native, "the reference")
    for tried in record.tried[1:]:
        if tried.verified is None:
            yield ["", tried.label, *["–"] * len(SIZES), tried.why]
            continue
        chosen = " ←" if tried.engine == record.chosen else ""
        exact = "to the bit" if tried.verified.exact else f"no: {tried.verified.largest:.1g} apart"
        yield cells("", tried.label + chosen, tried.seconds, native, f"{exact}, {tried.verified.answered:,} rows")


def cells(name: str, engine: str, seconds: dict[int, float], native: dict[int, float], proven: str) -> list[str]:
    each = [f"{seconds[size] / size * 1e6:,.2f} ({native[size] / seconds[size]:,.1f} x)" for size in SIZES]
    return [name, engine, *each, proven]


def timed(predict: Any, rows: Any) -> dict[int, float]:
    """Seconds of a call by its rows."""
    found = {}
    for size in SIZES:
        times = -(-size // len(rows))
        part = (
            pd.concat([rows] * times)[:size]
            if isinstance(rows, pd.DataFrame)
            else np.concatenate([rows] * times)[:size]
        )
        found[size] = best(lambda part=part: predict(part))
    return found


def timed_predictor(opened: Any) -> dict[int, float]:
    """The same through foretell's predictor."""
    from foretell.batch import Batch

    found = {}
    for size in SIZES:
        batch = Batch.concat([opened.example()] * size)
        found[size] = best(lambda batch=batch: opened.predict(batch))
    return found


def best(call: Any) -> float:
    """The median of calls that take up to BUDGET seconds together, at least three."""
    taken: list[float] = []
    while len(taken) < 3 or (sum(taken) < BUDGET and len(taken) < 500):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return median(taken)


if __name__ == "__main__":
    main(sys.argv[1:])
