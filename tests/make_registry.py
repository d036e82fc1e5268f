"""Logs and registers models with the real mlflow, by its client: `make_registry.py ADDRESS`. For either mlflow.

churn: 1 in Production, 2 in Staging and @champion, 3 with nothing; one with an odd name. Prints {"run": …, "model": …}.
"""

import json
import sys
from pathlib import Path

import mlflow
import onnx
from mlflow import MlflowClient
from mlflow.models import infer_signature
from sklearn.datasets import load_iris

ONNX = Path(__file__).parent.parent / "src" / "foretell" / "demo" / "iris" / "model.onnx"
ODD = "odd name & ü%2F.."


def main(address: str) -> None:
    mlflow.set_tracking_uri(address)
    mlflow.set_experiment("flowers")
    columns, _ = load_iris(as_frame=True, return_X_y=True)
    where = "name" if mlflow.__version__ >= "3" else "artifact_path"
    for number, name in enumerate(["churn", "churn", "churn", ODD], 1):
        model = onnx.load(ONNX)
        model.doc_string = str(number)
        with mlflow.start_run() as run:
            info = mlflow.onnx.log_model(
                model,
                signature=infer_signature(columns),
                registered_model_name=name,
                pip_requirements=["onnxruntime"],
                **{where: "model"},
            )
            mlflow.log_text("bare", "notes/bare.txt")
    client = MlflowClient()
    client.transition_model_version_stage("churn", "1", "Production")
    client.transition_model_version_stage("churn", "2", "Staging")
    client.set_registered_model_alias("churn", "champion", "2")
    print(json.dumps({"run": run.info.run_id, "model": getattr(info, "model_id", None)}))


if __name__ == "__main__":
    main(sys.argv[1])
