"""A model that was converted to ONNX, and how it predicts: with the training library's columns, types and refusals, and
with nothing of that library there."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from foretell.batch import Answers, Batch, Call, Output
from foretell.errors import RowRefused
from foretell.models.boosters import matrix, number_column
from foretell.models.onnx import session

MISSING_TEXT = "\ue000missing"
"""What stands for a missing cell in a column of text, as ONNX has no null: a character that is nobody's."""

REASONS = ("missing", "large", "unknown")
_REFUSALS = {
    "missing": "a value is missing where the model needs one",
    "large": "a value is infinite or too large for the model",
    "unknown": "a category is unknown to the model",
}
_BLOCK = 32


@dataclass(frozen=True)
class Converted:
    """An ONNX model that stands in for another engine, and that engine's way to answer.

    data: the model's bytes. rowwise: whether a row's bits are the same however many rows there are. prediction: its
    numpy dtype. classes: a classifier's, in order: the model answers with their indices; None for another model.
    labels: their names in columns. probability: the probabilities' dtype, or None where there are none.
    """

    data: bytes
    rowwise: bool
    prediction: str
    classes: tuple[str | int | float | bool, ...] | None = None
    labels: tuple[str, ...] = ()
    probability: str | None = None


class ConvertedEngine:
    """ONNX Runtime in the training library's place, on blocks of one shape where matrices are multiplied."""

    name = "ONNX Runtime"

    def __init__(self, converted: Converted) -> None:
        self.block = None if converted.rowwise else _BLOCK
        self._session = session(converted.data)
        self._inputs = self._session.get_inputs()
        self._outputs = {output.name for output in self._session.get_outputs()}
        self._dtype = np.dtype(converted.prediction)
        self._classes = None if converted.classes is None else np.array(converted.classes).astype(self._dtype)
        self._labels = converted.labels
        self._probability = converted.probability
        self.proba = converted.probability is not None

    def predict(self, batch: Batch, call: Call) -> Answers:
        wanted = self._outputs - (set() if call.proba else {"probabilities"})
        names = sorted(wanted)
        found = dict(zip(names, self._session.run(names, self._feed(batch)), strict=True))
        if (refused := found.get("refused")) is not None and refused.any():
            raise RowRefused(f"the model refused the row: {_REFUSALS[REASONS[refused.max() - 1]]}")
        outputs: tuple[Output, ...] = (Output("", self._predictions(found["prediction"])),)
        if call.proba:
            values = found["probabilities"].astype(self._probability)
            outputs += (Output("", values, self._labels, proba=True),)
        return Answers(outputs)

    def _feed(self, batch: Batch) -> dict[str, np.ndarray]:
        if len(self._inputs) == 1 and self._inputs[0].type == "tensor(double)":
            return {self._inputs[0].name: matrix(batch, "float64")}
        return {
            given.name: _words(column) if given.type == "tensor(string)" else _numbers(column)
            for given, column in zip(self._inputs, batch.columns, strict=True)
        }

    def _predictions(self, values: Any) -> np.ndarray:
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        chosen: np.ndarray = values if self._classes is None else self._classes[values]
        return chosen.astype(self._dtype, copy=False)


def _words(column: np.ndarray) -> np.ndarray:
    return np.array([MISSING_TEXT if value is None else value for value in column], object).reshape(-1, 1)


def _numbers(column: np.ndarray) -> np.ndarray:
    return number_column(column).astype("float64").reshape(-1, 1)
