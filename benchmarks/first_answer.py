"""How long 150 rows take, from the command to its end: foretell against mlflow and against `import numpy`, in one run.

    .venv/bin/python benchmarks/first_answer.py

Prints the best of three in seconds, and its ratio to importing numpy. The model is a classifier that mlflow saved;
foretell runs it once as skops, by scikit-learn, and once the demo's, as ONNX.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TRAIN = """
import mlflow, sklearn.datasets, sklearn.linear_model
flowers = sklearn.datasets.load_iris(as_frame=True)
model = sklearn.linear_model.LogisticRegression(max_iter=1000).fit(flowers.data, flowers.target)
signature = mlflow.models.infer_signature(flowers.data)
mlflow.sklearn.save_model(model, "model", serialization_format="skops", signature=signature, pip_requirements=[])
flowers.data.to_csv("rows.csv", index=False)
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        subprocess.run([sys.executable, "-W", "ignore", "-c", TRAIN], check=True, capture_output=True)
        foretell = [sys.executable, "-m", "foretell"]
        subprocess.run([*foretell, "demo"], check=True, capture_output=True)
        predict = [*foretell, "models", "predict", "-o", "out.csv", "-m"]
        mlflow = [sys.executable, "-m", "mlflow", "models", "predict", "-m", "model", "-i", "rows.csv", "-t", "csv"]
        runs = {
            "import numpy": [sys.executable, "-c", "import numpy"],
            "foretell, ONNX": [*predict, "models:/my-model/Production", "-i", "batch_input.csv"],
            "foretell, scikit-learn": [*predict, "model", "-i", "rows.csv"],
            "mlflow models predict": [*mlflow, "-o", "out.json", "--env-manager", "local"],
        }
        floor = 0.0
        for name, command in runs.items():
            best = min(seconds(command) for _ in range(3))
            floor = floor or best
            print(f"{name:<24}{best:6.2f} s{best / floor:7.1f} x")


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=Path.cwd())
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
