"""ONNX models, by ONNX Runtime, which runs no code from a model's file. One thread a call; the caller parallelises."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from foretell.batch import Answers, Batch, Call, Output
from foretell.cells import Column
from foretell.errors import ModelUnreadable, RowRefused
from foretell.models.load import Loaded
from foretell.models.mlmodel import StoredModel
from foretell.signature import Signature

_BLOCK = 32
_TYPES = {
    "tensor(bool)": "boolean",
    "tensor(int32)": "integer",
    "tensor(int64)": "long",
    "tensor(float16)": "float16",
    "tensor(float)": "float",
    "tensor(double)": "double",
    "tensor(string)": "string",
    **{f"tensor({name})": name for name in ("int8", "int16", "uint8", "uint16", "uint32", "uint64")},
}


def runs_code(model: StoredModel) -> list[str]:
    """Never: operators are ONNX Runtime's own, and it keeps external data inside the model's folder."""
    return []


def load(model: StoredModel, trusted: bool) -> Loaded:
    """Opens a session. Raises ModelUnreadable."""
    path = _file(model)
    opened = session(path)
    known = _known_inputs(opened, path)
    return Loaded(OnnxEngine(opened), known, tuple(known.names) if known.named else None)


def session(model: Path | bytes) -> Any:
    """ONNX Runtime's session of one thread for a file or a model's bytes. Raises ModelUnreadable."""
    # Its builds report to their maker, and leave a file in the temporary folder that anyone can write to.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        name = model if isinstance(model, Path) else "the converted model"
        raise ModelUnreadable(f"{name} is not a readable ONNX model: {str(error).splitlines()[0]}") from error


def _file(model: StoredModel) -> Path:
    if model.path.is_file():
        return model.path
    entry = model.flavours["onnx"]
    return model.file(entry.get("data") or model.flavours.get("python_function", {}).get("data"))


def _known_inputs(session: Any, path: Path) -> Signature:
    """One (rows, k) input is k unnamed columns; else a column an input."""
    inputs = session.get_inputs()
    for given in inputs:
        if given.type not in _TYPES:
            raise ModelUnreadable(f"{path}: the input {given.name!r} is a {given.type}, which foretell cannot fill")
    shapes = [tuple(size if isinstance(size, int) and size > 0 else -1 for size in given.shape) for given in inputs]
    rows = next((shape[0] for shape in shapes if shape and shape[0] > 0), None)
    if len(inputs) == 1 and len(shapes[0]) == 2 and shapes[0][1] > 0:
        columns = Signature.unnamed(shapes[0][1], _TYPES[inputs[0].type]).inputs
        return Signature(columns, tensor=inputs[0].name, rows=rows)
    made = tuple(
        Column(given.name, _TYPES[given.type], () if shape[1:] in ((), (1,)) else shape[1:])
        for given, shape in zip(inputs, shapes, strict=True)
    )
    return Signature(made, rows=rows, tensor=made[0].name if len(made) == 1 and made[0].shape else None)


class OnnxEngine:
    """ONNX Runtime on the CPU, on blocks of one shape."""

    name = "ONNX Runtime"

    def __init__(self, session: Any) -> None:
        self._session = session
        self._inputs = [(given.name, _dtype(given.type), len(given.shape)) for given in session.get_inputs()]
        self._outputs = [output.name for output in session.get_outputs()]
        self._classifier = _is_classifier(session.get_outputs())
        self.proba = self._classifier
        fixed = any(isinstance(given.shape[0], int) for given in session.get_inputs() if given.shape)
        flat = all(rank <= 2 for _, _, rank in self._inputs)
        self.block = None if fixed else _BLOCK if flat else 1

    def predict(self, batch: Batch, call: Call) -> Answers:
        feed = self._feed(batch)
        if not self._classifier:
            values = self._session.run(None, feed)
            return Answers(tuple(self._output(name, value) for name, value in zip(self._outputs, values, strict=True)))
        if not call.proba:
            return Answers((Output("", self._session.run(self._outputs[:1], feed)[0]),))
        labels, scores = self._session.run(self._outputs, feed)
        return Answers((Output("", labels), _probabilities(scores)))

    def _feed(self, batch: Batch) -> dict[str, np.ndarray]:
        if len(self._inputs) == 1 and self._inputs[0][2] == 2 and batch.columns[0].ndim == 1:
            name, dtype, _ = self._inputs[0]
            return {name: _cast(batch.matrix, dtype)}
        feed = {}
        for (name, dtype, rank), column in zip(self._inputs, batch.columns, strict=True):
            array = _cast(column, dtype)
            feed[name] = array.reshape(-1, 1) if array.ndim == 1 and rank == 2 else array
        return feed

    def _output(self, name: str, value: Any) -> Output:
        array = np.asarray(value)
        if array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]
        return Output(name if len(self._outputs) > 1 else "", array)


def _is_classifier(outputs: list[Any]) -> bool:
    """ONNX-ML's pair of labels and scores, as its classifier operators and converters make it."""
    if len(outputs) != 2 or outputs[0].type not in ("tensor(int64)", "tensor(string)") or len(outputs[0].shape) != 1:
        return False
    scores = outputs[1]
    return scores.type.startswith("seq(map(") or (scores.type == "tensor(float)" and "prob" in scores.name.lower())


def _probabilities(scores: Any) -> Output:
    if isinstance(scores, list):
        labels = list(scores[0])
        return Output(
            "",
            np.array([[row[label] for label in labels] for row in scores]),
            tuple(map(str, labels)),
            proba=True,
        )
    return Output("", scores, proba=True)


def _dtype(kind: str) -> str:
    cell = Column(None, _TYPES[kind]).cell
    return cell.dtype


def _cast(array: np.ndarray, dtype: str) -> np.ndarray:
    """As the session takes it: doubles become floats, as MLflow does, but none may overflow; strings have no null."""
    if dtype == "object":
        if any(value is None for value in array.ravel()):
            raise RowRefused("the model takes no null in a string column")
        return array.astype(object)
    with np.errstate(over="ignore", invalid="ignore"):
        cast = np.ascontiguousarray(array, dtype)
    if cast.dtype.kind == "f" and np.isinf(cast).any() and not np.isinf(array).any():
        raise RowRefused(f"a value is out of the range of the model's {dtype} input")
    return cast
