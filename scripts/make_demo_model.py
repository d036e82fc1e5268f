"""Makes what `foretell demo` ships: an iris classifier as ONNX, and its 150 flowers as CSV.

python scripts/make_demo_model.py [FOLDER]
"""

import json
import sys
from pathlib import Path

import numpy as np
import yaml
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

COLUMNS = ("sepal_length", "sepal_width", "petal_length", "petal_width")


def main(folder: Path) -> None:
    flowers = load_iris()
    classifier = LogisticRegression(max_iter=1000).fit(flowers.data, flowers.target)
    example = flowers.data[:1].astype(np.float32)
    model = to_onnx(classifier, example, options={"zipmap": False}, target_opset=15)
    model.producer_version = ""
    (folder / "iris").mkdir(exist_ok=True)
    (folder / "iris" / "model.onnx").write_bytes(model.SerializeToString())
    (folder / "iris" / "MLmodel").write_text(_mlmodel())
    split = {"columns": COLUMNS, "data": flowers.data[:1].tolist()}
    (folder / "iris" / "input_example.json").write_text(json.dumps(split) + "\n")
    lines = ["flower," + ",".join(COLUMNS)]
    lines += [f"iris-{at:03}," + ",".join(map(str, row)) for at, row in enumerate(flowers.data.tolist(), 1)]
    (folder / "batch_input.csv").write_text("\n".join(lines) + "\n")


def _mlmodel() -> str:
    inputs = [{"type": "double", "name": name, "required": True} for name in COLUMNS]
    described = {
        "flavors": {
            "onnx": {"data": "model.onnx"},
            "python_function": {"loader_module": "mlflow.onnx", "data": "model.onnx"},
        },
        "saved_input_example_info": {
            "artifact_path": "input_example.json",
            "type": "dataframe",
            "pandas_orient": "split",
        },
        "signature": {"inputs": json.dumps(inputs)},
    }
    return yaml.safe_dump(described, sort_keys=False, width=200)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "src/foretell/demo"))
