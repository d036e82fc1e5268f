"""Writes models of statsmodels, PyTorch and Python itself with the real mlflow, 3.x or 2.x:
python tests/make_python_models.py FOLDER.

Beside each model NAME lie its rows, NAME.json, as make_models.py writes them.
"""

import json
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import statsmodels.api as sm
import statsmodels.formula.api as smf
import torch
from mlflow.models import infer_signature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec
from torch import nn

ROWS = 70
NEWER = int(mlflow.__version__.split(".")[0]) >= 3
PICKLED: dict[str, Any] = {"serialization_format": "pickle"} if NEWER else {}
NUMBERS = np.random.default_rng(11)

MODEL_CODE = """
import mlflow
from mlflow.pyfunc import PythonModel


class Doubled(PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input.iloc[:, 0] * 2


mlflow.models.set_model(Doubled())
"""

OWN_LOADER = """
from pathlib import Path


class Own:
    def __init__(self, factor):
        self.factor = factor

    def predict(self, rows):
        return rows.sum(axis=1) * self.factor


def _load_pyfunc(path):
    return Own(float(Path(path).read_text()))
"""


class Scaled(mlflow.pyfunc.PythonModel):
    """Takes params."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> Any:
        return model_input.sum(axis=1) * (params or {"by": 1.0})["by"]


class Described(mlflow.pyfunc.PythonModel):
    """Takes every kind of column, one of them optional, and gives a frame."""

    def predict(self, context: Any, model_input: pd.DataFrame) -> pd.DataFrame:
        kinds = "/".join(map(str, model_input.dtypes))
        words = model_input["word"].fillna("-") + (" yes" if "extra" in model_input else "")
        return pd.DataFrame({"word": words, "half": model_input["size"] / 2, "kinds": kinds})


class Talkative(mlflow.pyfunc.PythonModel):
    """Strings in, strings out, and much to say on the side."""

    def predict(self, context: Any, model_input: pd.DataFrame) -> list[str]:
        print("a model speaks")
        note = Path(context.artifacts["note"]).read_text()
        return [f"{text.upper()}{note}" for text in model_input.iloc[:, 0]]


class Pictures(nn.Module):
    """Sees (rows, 1, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(256, 5)
        )

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.net(pictures), 1)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(3)
    frame = pd.DataFrame(NUMBERS.uniform(1, 6, (ROWS, 4)), columns=list("abcd"))
    _statsmodels(folder, frame)
    _torch(folder, frame)
    _python(folder, frame)


def _statsmodels(folder: Path, frame: pd.DataFrame) -> None:
    target = frame["a"] - frame["c"] + NUMBERS.normal(size=ROWS)
    mlflow.statsmodels.save_model(
        sm.OLS(target, frame).fit(), folder / "statsmodels", signature=infer_signature(frame), pip_requirements=[]
    )
    _rows(folder, "statsmodels", frame)
    words = frame.assign(place=np.array(["north", "south", "east"])[np.arange(ROWS) % 3], y=target)
    fitted = smf.ols("y ~ a + np.log(b) + center(c) + C(place)", words).fit()
    columns = words[["place", "a", "b", "c"]]
    schema = Schema([ColSpec("string", "place"), *(ColSpec("double", name) for name in "abc")])
    signature = infer_signature(columns)
    signature.inputs = schema
    mlflow.statsmodels.save_model(fitted, folder / "formula", signature=signature, pip_requirements=[])
    _rows(folder, "formula", columns)


def _torch(folder: Path, frame: pd.DataFrame) -> None:
    net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3)).eval()
    floats = frame.to_numpy("float32")
    tensor = infer_signature(floats, net(torch.tensor(floats)).detach().numpy())
    mlflow.pytorch.save_model(
        net, folder / "torch_pickle", signature=infer_signature(frame), pip_requirements=[], **PICKLED
    )
    mlflow.pytorch.save_model(net, folder / "torch_tensor", signature=tensor, pip_requirements=[], **PICKLED)
    for name in ("torch_pickle", "torch_tensor"):
        _rows(folder, name, frame)
    pictures = Pictures().eval()
    seen = NUMBERS.normal(size=(ROWS, 1, 8, 8)).astype("float32")
    if NEWER:
        mlflow.pytorch.save_model(net, folder / "torch_exported", input_example=floats[:2], pip_requirements=[])
        _rows(folder, "torch_exported", frame)
        mlflow.pytorch.save_model(pictures, folder / "torch_pictures", input_example=seen[:2], pip_requirements=[])
    else:
        signature = infer_signature(seen)
        mlflow.pytorch.save_model(pictures, folder / "torch_pictures", signature=signature, pip_requirements=[])
    pictures_ = {"columns": ["picture"], "rows": seen.tolist()}
    (folder / "torch_pictures.json").write_text(json.dumps(pictures_))


def _python(folder: Path, frame: pd.DataFrame) -> None:
    signature = infer_signature(frame, params={"by": 2.0})
    signature.params = ParamSchema([ParamSpec("by", "double", 2.0)])
    _save(folder, "python_params", frame, Scaled(), signature)

    mixed = pd.DataFrame(
        {
            "size": NUMBERS.normal(size=ROWS),
            "count": NUMBERS.integers(0, 9, ROWS),
            "level": NUMBERS.integers(0, 9, ROWS).astype("int32"),
            "weight": NUMBERS.normal(size=ROWS).astype("float32"),
            "ready": NUMBERS.random(ROWS) < 0.5,
            "word": np.where(np.arange(ROWS) % 7 == 0, None, "w"),
        }
    )
    kinds = ("double", "long", "integer", "float", "boolean", "string")
    columns = [ColSpec(kind, name) for kind, name in zip(kinds, mixed.columns, strict=True)]
    signature = infer_signature(frame)
    signature.inputs = Schema([*columns, ColSpec("long", "extra", required=False)])
    _save(folder, "python_frame", mixed.assign(extra=None), Described(), signature)

    texts = pd.DataFrame({"text": [f"text {at}" for at in range(ROWS)]})
    (folder / "note.txt").write_text("!")
    _save(
        folder, "python_text", texts, Talkative(), infer_signature(texts), artifacts={"note": str(folder / "note.txt")}
    )

    code = folder / "model_code.py"
    code.write_text(MODEL_CODE)
    _save(folder, "from_code", frame, str(code), infer_signature(frame))

    own = folder / "own" / "own_loader.py"
    own.parent.mkdir(exist_ok=True)
    own.write_text(OWN_LOADER)
    (folder / "factor.txt").write_text("0.5")
    mlflow.pyfunc.save_model(
        folder / "own_loader",
        loader_module="own_loader",
        data_path=str(folder / "factor.txt"),
        code_paths=[str(own)],
        signature=infer_signature(frame),
        pip_requirements=[],
    )
    _rows(folder, "own_loader", frame)

    tensors = infer_signature(frame.to_numpy())
    tensors.inputs = Schema([TensorSpec(np.dtype("float64"), (-1, 4))])
    _save(folder, "python_tensor", frame, Halved(), tensors)


class Halved(mlflow.pyfunc.PythonModel):
    """An array in, an array out."""

    def predict(self, context: Any, model_input: np.ndarray) -> np.ndarray:
        return model_input / 2


def _save(folder: Path, name: str, rows: pd.DataFrame, model: Any, signature: Any, **more: Any) -> None:
    mlflow.pyfunc.save_model(folder / name, python_model=model, signature=signature, pip_requirements=[], **more)
    _rows(folder, name, rows)


def _rows(folder: Path, name: str, rows: pd.DataFrame) -> None:
    cells = rows.astype(object).where(rows.notna(), None).to_numpy().tolist()
    (folder / f"{name}.json").write_text(json.dumps({"columns": list(rows.columns), "rows": cells}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
