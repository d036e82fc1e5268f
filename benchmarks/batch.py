"""How fast a batch prediction is, beside others and beside its floors, all in one run: python benchmarks/batch.py

Makes its own files and models. iris: a classifier on 4 columns; xgb: 500 trees on 30. Others are `mlflow models
predict`, a pandas and a polars script (with the library's own predict on all rows), and Ray Data where it is installed.
The floors: a job whose model does nothing, and the seconds that foretell kept processors busy over their number. At the
end it is said whether the answers are equal.

--rows 1 means 10 million rows for iris and 1 million for xgb; --rows 0.01 a hundredth of that.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv

FULL = {"iris": (10_000_000, 4), "xgb": (1_000_000, 30)}
IRIS = ("sepal_length", "sepal_width", "petal_length", "petal_width")

MAKE = """
import sys, numpy as np, pandas as pd, mlflow
from mlflow.models import infer_signature
folder, names = sys.argv[1], sys.argv[3:]
numbers = np.random.default_rng(1)
x = pd.DataFrame(numbers.uniform(0.1, 7.9, (4000, len(names))), columns=names)
y = ((x.sum(axis=1) + numbers.normal(size=len(x))) > x.sum(axis=1).mean()).astype(int)
if sys.argv[2] == "iris":
    from sklearn.linear_model import LogisticRegression
    model = LogisticRegression(max_iter=1000).fit(x, y)
    mlflow.sklearn.save_model(model, folder, signature=infer_signature(x, y))
else:
    import xgboost
    model = xgboost.XGBRegressor(n_estimators=500, max_depth=6).fit(x, y)
    mlflow.xgboost.save_model(model, folder, signature=infer_signature(x, y.astype("float32")))
"""

PANDAS = """
import sys, pandas as pd, mlflow
from pathlib import Path
model, source, target, kind = sys.argv[1:]
library = mlflow.sklearn if kind == "iris" else mlflow.xgboost
opened = library.load_model(model)
frame = pd.read_csv(source)
pd.DataFrame({"prediction": opened.predict(frame)}).to_csv(target, index=False)
"""

POLARS = """
import sys, polars as pl, mlflow
model, source, target, kind = sys.argv[1:]
library = mlflow.sklearn if kind == "iris" else mlflow.xgboost
opened = library.load_model(model)
frame = pl.read_csv(source)
pl.DataFrame({"prediction": opened.predict(frame.to_pandas())}).write_csv(target)
"""

RAY = """
import sys, mlflow, ray, pandas as pd
model, source, target, kind = sys.argv[1:]
library = mlflow.sklearn if kind == "iris" else mlflow.xgboost
class Model:
    def __init__(self):
        self.opened = library.load_model(model)
    def __call__(self, frame):
        return pd.DataFrame({"prediction": self.opened.predict(frame)})
ray.init(log_to_driver=False)
ray.data.read_csv(source).map_batches(Model, batch_format="pandas", concurrency=2).write_csv(target)
"""

FLOOR = """
import sys, numpy as np
from pathlib import Path
from foretell import predictor
from foretell.batch import Answers, Output
from foretell.job.crew import opener
from foretell.job.inputs import Inputs
from foretell.job.job import run
from foretell.job.work import Job
from foretell.job.outputs import Output as File
from foretell.tables.formats import CSV
model, source, target, kind = sys.argv[1:]
opened = predictor.open(model, trust=True)
dtype = "int64" if kind == "iris" else "float32"
opened.predict = lambda batch, call=None: Answers((Output("", np.zeros(batch.rows, dtype)),))
job = Job(CSV, CSV)
with Inputs([source], opener(job, opened)) as inputs:
    for told in run(job, opened, inputs, File(Path(target))): pass
"""


@dataclass(frozen=True)
class Took:
    """One run. seconds: by the wall, start included; cpu: of all its processes; peak: MiB."""

    seconds: float
    cpu: float
    peak: float


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--rows", type=float, default=1.0, help="share of the full number of rows")
    given.add_argument("--repeat", type=int, default=1, help="runs of each; the median counts")
    given.add_argument("--only", choices=list(FULL), help="one of the two")
    given.add_argument("--engine", default="auto", help="foretell's engine")
    given.add_argument("--folder", type=Path, help="where the files go, and stay")
    told = given.parse_args()
    folder = told.folder or Path(tempfile.mkdtemp(prefix="batch-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for kind in [told.only] if told.only else FULL:
            compare(kind, folder, told)
    finally:
        if told.folder is None:
            shutil.rmtree(folder)


def compare(kind: str, folder: Path, told: argparse.Namespace) -> None:
    rows, columns = int(FULL[kind][0] * told.rows), FULL[kind][1]
    source, model = folder / f"{kind}-{rows}.csv", folder / kind
    names = list(IRIS) if kind == "iris" else [f"f{at}" for at in range(columns)]
    if not source.exists():
        write(source, rows, names, digits=1 if kind == "iris" else 16)
    if not model.exists():
        python("-c", MAKE, str(model), kind, *names)
    print(f"\n{kind}: {rows:,} rows × {columns}, {source.stat().st_size / 1e6:,.0f} MB, {os.cpu_count()} cores")
    print(f"{'':<24}{'wall s':>9}{'CPU s':>9}{'peak MB':>9}{'rows/s':>13}{'× floor':>9}{'× foretell':>12}")
    foretell = [sys.executable, "-m", "foretell", "models", "predict", "--trust", "-m", str(model), "-i", str(source)]
    warm(foretell, folder, told.engine)
    runs: dict[str, list[str]] = {
        "foretell": [*foretell, "--engine", told.engine, "-o", str(folder / "foretell.csv")],
        "floor: no model": script(FLOOR, model, source, folder / "floor.csv", kind),
        "mlflow models predict": mlflow(model, source, folder / "mlflow.csv"),
        "pandas script": script(PANDAS, model, source, folder / "pandas.csv", kind),
        "polars script": script(POLARS, model, source, folder / "polars.csv", kind),
    }
    if installed("ray"):
        runs["Ray Data"] = script(RAY, model, source, folder / "ray", kind)
    else:
        print("Ray Data is not installed here, and left out")
    took = {name: median([measured(command) for _ in range(told.repeat)]) for name, command in runs.items()}
    floor = max(took["floor: no model"].seconds, took["foretell"].cpu / (os.cpu_count() or 1))
    for name, one in took.items():
        ratio, beside = one.seconds / floor, one.seconds / took["foretell"].seconds
        rate = rows / one.seconds
        print(f"{name:<24}{one.seconds:>9.2f}{one.cpu:>9.2f}{one.peak:>9.0f}{rate:>13,.0f}{ratio:>9.2f}{beside:>12.2f}")
    print(f"the larger floor: {floor:.2f} s; answers equal: {agree(folder, rows)}")


def write(path: Path, rows: int, names: list[str], digits: int) -> None:
    numbers = np.random.default_rng(0)
    schema = pa.schema([(name, pa.float64()) for name in names])
    with arrow_csv.CSVWriter(path, schema, write_options=arrow_csv.WriteOptions(quoting_style="none")) as writer:
        for start in range(0, rows, 500_000):
            count = min(500_000, rows - start)
            writer.write_table(pa.table({name: numbers.uniform(0.1, 7.9, count).round(digits) for name in names}))


def warm(foretell: list[str], folder: Path, engine: str) -> None:
    """The engine is compiled once in a model's life; here before the clock runs."""
    model = foretell[foretell.index("-m", 3) + 1]
    if engine == "auto":
        subprocess.run(
            [sys.executable, "-m", "foretell", "models", "compile", "--trust", "-m", model],
            capture_output=True,
            check=False,
        )


def script(text: str, *arguments: object) -> list[str]:
    return [sys.executable, "-W", "ignore", "-c", text, *map(str, arguments)]


def mlflow(model: Path, source: Path, target: Path) -> list[str]:
    command = ["models", "predict", "-m", str(model), "-i", str(source), "-o", str(target)]
    return [sys.executable, "-W", "ignore", "-m", "mlflow", *command, "-t", "csv", "--env-manager", "local"]


def installed(library: str) -> bool:
    return subprocess.run([sys.executable, "-c", f"import {library}"], capture_output=True, check=False).returncode == 0


def python(*arguments: str) -> None:
    subprocess.run([sys.executable, "-W", "ignore", *arguments], check=True, capture_output=True)


def measured(command: list[str]) -> Took:
    """Runs a command; memory is that of its largest process."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)[:300]}\n{said.decode()[-2000:]}")
    return Took(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def median(runs: list[Took]) -> Took:
    return Took(*(statistics.median(getattr(run, name) for run in runs) for name in ("seconds", "cpu", "peak")))


def agree(folder: Path, rows: int) -> bool:
    """Whether foretell's predictions are pandas' and mlflow's, to float32."""
    ours = column(folder / "foretell.csv")
    document = json.loads((folder / "mlflow.csv").read_text())["predictions"]
    others = [
        column(folder / "pandas.csv"),
        np.array([next(iter(one.values())) if isinstance(one, dict) else one for one in document]),
    ]
    return len(ours) == rows and all(np.allclose(ours, other, rtol=1e-6) for other in others)


def column(path: Path) -> np.ndarray:
    return np.asarray(arrow_csv.read_csv(path)["prediction"], "float64")


if __name__ == "__main__":
    main()
