"""How long 150 rows take, from the command to its end: foretell against mlflow and against `import numpy`, in one run.

    .venv/bin/python benchmarks/first_answer.py

Prints the best of five in seconds, and its ratio to importing numpy. The model is a classifier that mlflow saved;
foretell runs it by scikit-learn, compiled into a folder, and compiled in the cache; a forest of 100 trees, compiled;
and the demo's, as ONNX.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TRAIN = """
import mlflow, sklearn.datasets, sklearn.ensemble, sklearn.linear_model
flowers = sklearn.datasets.load_iris(as_frame=True)
model = sklearn.linear_model.LogisticRegression(max_iter=1000).fit(flowers.data, flowers.target)
signature = mlflow.models.infer_signature(flowers.data)
how = {"serialization_format": "skops", "signature": signature, "pip_requirements": []}
mlflow.sklearn.save_model(model, "model", **how)
forest = sklearn.ensemble.RandomForestClassifier(100).fit(flowers.data, flowers.target)
mlflow.sklearn.save_model(forest, "forest", skops_trusted_types=["sklearn.tree._tree.Tree"], **how)
flowers.data.to_csv("rows.csv", index=False)
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["FORETELL_CACHE"] = f"{folder}/cache"
        subprocess.run([sys.executable, "-W", "ignore", "-c", TRAIN], check=True, capture_output=True)
        foretell = [sys.executable, "-m", "foretell"]
        subprocess.run([*foretell, "demo"], check=True, capture_output=True)
        predict = [*foretell, "models", "predict", "-o", "out.csv", "-m"]
        mlflow = [sys.executable, "-m", "mlflow", "models", "predict", "-m", "model", "-i", "rows.csv", "-t", "csv"]
        for name in ("model", "forest"):
            compiled = [*foretell, "models", "compile", "-m", name, "-o", f"compiled_{name}"]
            subprocess.run(compiled, check=True, capture_output=True)
        subprocess.run([*predict, "model", "-i", "rows.csv"], check=True, capture_output=True)
        runs = {
            "import numpy": [sys.executable, "-c", "import numpy"],
            "foretell, ONNX": [*predict, "models:/my-model/Production", "-i", "batch_input.csv"],
            "foretell, compiled": [*predict, "compiled_model", "-i", "rows.csv"],
            "foretell, compiled forest": [*predict, "compiled_forest", "-i", "rows.csv"],
            "foretell, in the cache": [*predict, "model", "-i", "rows.csv"],
            "foretell, scikit-learn": [*predict, "model", "-i", "rows.csv", "--engine", "native"],
            "mlflow models predict": [*mlflow, "-o", "out.json", "--env-manager", "local"],
        }
        floor = 0.0
        for name, command in runs.items():
            best = min(seconds(command) for _ in range(5))
            floor = floor or best
            print(f"{name:<27}{best:6.2f} s{best / floor:7.1f} x")


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=Path.cwd())
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
