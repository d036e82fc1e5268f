"""Writes MLflow's own registries with the real mlflow, 2 or 3: python tests/make_registries.py FOLDER.

FOLDER/sqlite/mlflow.db, FOLDER/files/mlruns, and beside each facts.json: {"run": id, "model": "m-…" or null}. In each:

churn   1 Production and @first, 2 and 3 Staging, 4 in no stage, 5 deleted; all of them the same small model
others  names that MLflow allows, of one version each
pickled 1, a model that runs code when it loads
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"

import mlflow
import onnx
from mlflow.models import infer_signature
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

ONNX = Path(__file__).parent.parent / "src" / "foretell" / "demo" / "iris" / "model.onnx"
THREE = mlflow.__version__ >= "3"
ODD = ("my model", "ü & 模型", 'it\'s "one"', "a#b?c=d", ".hidden", "me@home")
ODD_IN_SQLITE = ("odd name & ü%2F..",)


def main(folder: Path) -> None:
    for kind, uri in (("sqlite", "sqlite:///mlflow.db"), ("files", "mlruns")):
        (folder / kind).mkdir(parents=True)
        os.chdir(folder / kind)
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        mlflow.set_experiment("iris")
        run, source, model = _logged()
        _pickled()
        _registered(source, run, ODD + (ODD_IN_SQLITE if kind == "sqlite" else ()))
        Path("facts.json").write_text(json.dumps({"run": run, "model": model}))


def _logged() -> tuple[str, str, str | None]:
    """(run id, what to register, model id)."""
    columns, _ = load_iris(as_frame=True, return_X_y=True)
    more: dict[str, Any] = {"name": "model"} if THREE else {"artifact_path": "model"}
    with mlflow.start_run() as run:
        fitted = onnx.load(ONNX)
        info = mlflow.onnx.log_model(fitted, signature=infer_signature(columns), pip_requirements=[], **more)
    model = getattr(info, "model_id", None)
    return run.info.run_id, f"models:/{model}" if model else f"{run.info.artifact_uri}/model", model


def _pickled() -> None:
    columns, labels = load_iris(as_frame=True, return_X_y=True)
    fitted = LogisticRegression(max_iter=1000).fit(columns, labels)
    where = {"name": "pickled"} if THREE else {"artifact_path": "pickled"}
    how: dict[str, Any] = {"registered_model_name": "pickled", "serialization_format": "cloudpickle"}
    with mlflow.start_run():
        mlflow.sklearn.log_model(fitted, signature=infer_signature(columns), pip_requirements=[], **where, **how)


def _registered(source: str, run: str, odd: tuple[str, ...]) -> None:
    client = mlflow.MlflowClient()
    client.create_registered_model("churn")
    for _ in range(5):
        client.create_model_version("churn", source, run)
    client.delete_model_version("churn", "5")
    for version, stage in (("1", "Production"), ("2", "Staging"), ("3", "Staging")):
        client.transition_model_version_stage("churn", version, stage)
    client.set_registered_model_alias("churn", "first", "1")
    for name in odd:
        client.create_registered_model(name)
        client.create_model_version(name, source, run)
    if THREE:
        client.register_prompt("a-prompt", "Say {{ this }}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
