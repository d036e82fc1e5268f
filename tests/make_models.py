"""Trains the tests' models and writes them with the real mlflow: python tests/make_models.py FOLDER.

Beside each model NAME lie its rows, NAME.json: {"columns": […], "rows": [[…]]} with null for missing.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import infer_signature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from onnx import TensorProto, helper, numpy_helper
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import BayesianRidge, LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

ROWS = 400


def main(folder: Path) -> None:
    without_torch()
    import skops.io

    folder.mkdir(parents=True, exist_ok=True)
    flowers = load_iris(as_frame=True)
    x, y = flowers.data, flowers.target
    species = y.map(dict(enumerate(flowers.target_names)))
    numbers = np.random.default_rng(7)

    logistic = LogisticRegression(max_iter=1000).fit(x, species)
    _save(folder, "logistic", logistic, x, "skops", example=True)

    forest = RandomForestClassifier(30, random_state=0, n_jobs=2).fit(x, y)
    _save(folder, "forest", forest, x, "skops")

    people = _people(numbers)
    _save(folder, "pipeline", _pipeline(people), people, "cloudpickle", schema=_people_schema())

    from skl2onnx import to_onnx  # not beside the older mlflow, which imports this module for its rows

    onnx = to_onnx(LogisticRegression(max_iter=1000).fit(x, y), x[:1].to_numpy("float32"), options={"zipmap": False})
    signature = infer_signature(x.to_numpy("float32"))
    mlflow.onnx.save_model(onnx, folder / "onnx", signature=signature, pip_requirements=[])
    _rows(folder, "onnx", x)

    skops.io.dump(LogisticRegression(max_iter=1000).fit(x, y), folder / "nosignature.skops")
    _rows(folder, "nosignature", x)

    targets = pd.DataFrame({"low": x.iloc[:, 0] - 1, "high": x.iloc[:, 0] + 1})
    both = LinearRegression().fit(x.iloc[:, 1:], targets)
    _save(folder, "two_outputs", both, x.iloc[:, 1:], "skops", outputs=targets)

    spread = BayesianRidge().fit(x.iloc[:, 1:], x.iloc[:, 0])
    params = ParamSchema([ParamSpec("return_std", DataType.boolean, False)])
    _save(folder, "params", spread, x.iloc[:, 1:], "skops", params=params)

    _tensors(folder, numbers)


def without_torch() -> None:
    """Skops imports all of scikit-learn, of which one module would import torch: five seconds."""
    sys.modules["sklearn.externals.array_api_compat.torch"] = None  # type: ignore[assignment]


def _tensors(folder: Path, numbers: np.random.Generator) -> None:
    """Networks on tensors: one image to ten scores, and two named tensors to a number and a tensor."""
    weights = numpy_helper.from_array(numbers.normal(size=(64, 10)).astype("float32"), "weights")
    nodes = [helper.make_node("Flatten", ["image"], ["flat"]), helper.make_node("MatMul", ["flat", "weights"], ["out"])]
    images = numbers.random((ROWS // 8, 8, 8)).astype("float32")
    _network(folder / "image", nodes, {"image": images}, {"out": (10,)}, [weights], infer_signature(images))

    axes = numpy_helper.from_array(np.array([1]), "axes")
    nodes = [
        helper.make_node("ReduceSum", ["a", "axes"], ["sum"], keepdims=0),
        helper.make_node("Neg", ["b"], ["minus"]),
    ]
    pair = {
        "a": numbers.normal(size=(ROWS // 8, 3)).astype("float32"),
        "b": numbers.integers(-9, 9, (ROWS // 8, 2, 3)),
    }
    _network(folder / "tensors", nodes, pair, {"sum": (), "minus": (2, 3)}, [axes], infer_signature(pair))


def _network(
    path: Path,
    nodes: list[Any],
    inputs: dict[str, np.ndarray],
    outputs: dict[str, tuple[int, ...]],
    weights: list[Any],
    signature: Any,
) -> None:
    kinds = {"minus": TensorProto.INT64}
    graph = helper.make_graph(
        nodes,
        path.name,
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(values.dtype), ["n", *values.shape[1:]])
            for name, values in inputs.items()
        ],
        [
            helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), ["n", *shape])
            for name, shape in outputs.items()
        ],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    mlflow.onnx.save_model(model, path, signature=signature, pip_requirements=[])
    rows = list(map(list, zip(*(values.tolist() for values in inputs.values()), strict=True)))
    path.with_suffix(".json").write_text(json.dumps({"columns": list(inputs), "rows": rows}))


def _people(numbers: np.random.Generator) -> pd.DataFrame:
    """Every kind of cell: doubles and strings with missing ones, longs, integers, floats, booleans."""
    cities = np.array(["Oslo", "São Paulo", 'the "old" town', "Paris, Texas", "00501", None], object)
    frame = pd.DataFrame(
        {
            "age": numbers.uniform(18, 90, ROWS).round(1),
            "city": numbers.choice(cities, ROWS),
            "visits": numbers.integers(0, 50, ROWS),
            "level": numbers.integers(1, 5, ROWS).astype("int32"),
            "score": numbers.normal(size=ROWS).astype("float32"),
            "member": numbers.random(ROWS) < 0.5,
        }
    )
    frame.loc[numbers.random(ROWS) < 0.1, "age"] = np.nan
    frame["city"] = frame["city"].where(frame["city"].notna(), np.nan)
    return frame


def _pipeline(people: pd.DataFrame) -> Any:
    words = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    prepared = ColumnTransformer(
        [
            (
                "numbers",
                make_pipeline(SimpleImputer(), StandardScaler()),
                ["age", "visits", "level", "score"],
            ),
            ("words", words, ["city"]),
            ("flags", "passthrough", ["member"]),
        ]
    )
    target = (people["age"].fillna(50) + people["visits"] > 70).map({True: "yes", False: "no"})
    return make_pipeline(prepared, LogisticRegression(max_iter=1000)).fit(people, target)


def _people_schema() -> Schema:
    kinds = ("double", "string", "long", "integer", "float", "boolean")
    names = ("age", "city", "visits", "level", "score", "member")
    return Schema([ColSpec(kind, name) for kind, name in zip(kinds, names, strict=True)])


def _save(
    folder: Path,
    name: str,
    model: Any,
    rows: pd.DataFrame,
    serialization: str,
    *,
    outputs: pd.DataFrame | None = None,
    params: ParamSchema | None = None,
    schema: Schema | None = None,
    example: bool = False,
) -> None:
    signature = infer_signature(rows, outputs)
    signature.params = params
    if schema is not None:
        signature.inputs = schema
    mlflow.sklearn.save_model(
        model,
        folder / name,
        serialization_format=serialization,
        signature=signature,
        input_example=rows[:2] if example else None,
        pip_requirements=[],
        **({"skops_trusted_types": ["sklearn.tree._tree.Tree"]} if serialization == "skops" else {}),
    )
    _rows(folder, name, rows)


def _rows(folder: Path, name: str, rows: pd.DataFrame) -> None:
    cells = [
        [None if isinstance(c, float) and math.isnan(c) else c for c in row]
        for row in rows.astype(object).to_numpy().tolist()
    ]
    (folder / f"{name}.json").write_text(json.dumps({"columns": list(rows.columns), "rows": cells}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
