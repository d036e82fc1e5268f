"""A graph of ONNX operators as a converter builds it: tables of numbers in double precision and columns of text, and
beside the answer a note of the rows that the training library would refuse."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from foretell.errors import ModelUnreadable
from foretell.models.onnx_converted import MISSING_TEXT, REASONS

OPSET, ML_OPSET, IR_VERSION = 21, 5, 10
"""The operators' versions, which ONNX Runtime 1.24 has all of. The trees' one operator on doubles is of ML_OPSET."""

_LANES = 16

LARGEST_FLOAT = float(2**128 - 2**103)
"""From here on a number is infinite as a 32-bit float."""


@dataclass(frozen=True)
class Piece:
    """Some columns that stand side by side in one value of the graph, of shape (rows, width).

    text: strings, always of width 1; else doubles. gaps: cells may be missing: NaN, or MISSING_TEXT. source: the
    model's column that text comes from.
    """

    value: str
    width: int
    text: bool = False
    gaps: bool = True
    source: int = 0


Table = tuple[Piece, ...]
"""A model's columns, or what a step made of them, in order."""


class Graph:
    """Nodes are added to it; data() is the model.

    known: a word of each column of text that the model knows. rowwise: whether a row's answer has the same bits however
    many rows there are, as it has as long as nothing is spliced in.
    """

    def __init__(self) -> None:
        self.rowwise = True
        self.known: dict[int, str] = {}
        self._inputs: list[Any] = []
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._refusals: list[str] = []

    def input(self, width: int, *, text: bool = False) -> Piece:
        """An input of shape (rows, width)."""
        from onnx import TensorProto, helper

        name, kind = f"input_{len(self._inputs)}", TensorProto.STRING if text else TensorProto.DOUBLE
        source = len(self._inputs)
        self._inputs.append(helper.make_tensor_value_info(name, kind, ["rows", width]))
        return Piece(name, width, text, source=source)

    def add(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """A node; its only output's name. attributes: arrays count as tensors."""
        from onnx import helper, numpy_helper

        for name, value in attributes.items():
            if isinstance(value, np.ndarray):
                attributes[name] = numpy_helper.from_array(value)
        output = f"value_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [output], domain=domain, **attributes))
        return output

    def constant(self, values: Any, dtype: str | None = None) -> str:
        """An array that the model brings along."""
        from onnx import numpy_helper

        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def cast(self, value: str, dtype: str) -> str:
        """The value in another numpy dtype."""
        from onnx import helper

        return self.add("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def exp(self, value: str, dtype: str = "float64") -> str:
        """e^x of shape (rows, k), computed as doubles and rounded to dtype."""
        return self._first(self._powers(value, dtype))

    def softmax(self, value: str, dtype: str = "float64") -> str:
        """The shares of e^x in a row, of shape (rows, k): powers of that dtype, summed in order as doubles."""
        axis = self.constant([1])
        powers = self._powers(self.add("Sub", value, self.add("ReduceMax", value, axis, keepdims=1)), dtype)
        total = self.add("ReduceSum", self.cast(powers, "float64"), axis, keepdims=1)
        return self._first(self.add("Div", powers, self.cast(total, dtype)))

    def _powers(self, value: str, dtype: str) -> str:
        """ONNX Runtime computes numbers in lanes, and those left over at the end in another way: here each number
        fills lanes of its own, so that its bits do not depend on others. Shape (rows, k, lanes)."""
        spread = self.add("Unsqueeze", self.cast(value, "float64"), self.constant([2]))
        return self.cast(self.add("Exp", self.add("Tile", spread, self.constant([1, 1, _LANES]))), dtype)

    def _first(self, lanes: str) -> str:
        return self.add("Gather", lanes, self.constant(0), axis=2)

    def splice(self, model: Any, value: str) -> list[str]:
        """The nodes of a model with one input, which value feeds; its outputs' names."""
        from onnx import compose

        self.rowwise = False
        prefix = f"part_{len(self._nodes)}_"
        graph = compose.add_prefix(model, prefix).graph
        self._constants.extend(graph.initializer)
        self._nodes.append(_identity(value, graph.input[0].name))
        self._nodes.extend(graph.node)
        return [output.name for output in graph.output]

    def numbers(self, table: Table, where: str) -> Piece:
        """The whole table as one piece of numbers. Raises ModelUnreadable where it holds text."""
        if any(piece.text for piece in table):
            raise cannot(f"{where} would be given text where a converted one takes numbers")
        if len(table) == 1:
            return table[0]
        value = self.add("Concat", *(piece.value for piece in table), axis=1)
        return Piece(value, sum(piece.width for piece in table), gaps=any(piece.gaps for piece in table))

    def pick(self, piece: Piece, columns: Sequence[int]) -> Piece:
        """Some of a piece's columns."""
        if list(columns) == list(range(piece.width)):
            return piece
        value = self.add("Gather", piece.value, self.constant(columns, "int64"), axis=1)
        return replace(piece, value=value, width=len(columns))

    def refuse(self, flags: str, reason: str) -> None:
        """Rows with any true flag, of shape (rows, k), are refused for that reason, a key of REASONS."""
        numbers = self.add("Mul", self.cast(flags, "int64"), self.constant(REASONS.index(reason) + 1, "int64"))
        self._refusals.append(self.add("ReduceMax", numbers, self.constant([1]), keepdims=0))

    def refuse_missing(self, piece: Piece) -> Piece:
        """Rows in which a number is missing are refused."""
        if piece.gaps:
            self.refuse(self.missing(piece), "missing")
        return replace(piece, gaps=False)

    def refuse_from(self, piece: Piece, limit: float) -> None:
        """Rows in which a number is as large as limit, or larger, are refused."""
        self.refuse(self.add("GreaterOrEqual", self.add("Abs", piece.value), self.constant(limit)), "large")

    def missing(self, piece: Piece) -> str:
        """Where cells are missing, as flags."""
        if piece.text:
            return self.add("Equal", piece.value, self.constant([[MISSING_TEXT]], "object"))
        return self.add("IsNaN", piece.value)

    def data(self, outputs: dict[str, str]) -> bytes:
        """The model. outputs: their names, and the values that they are."""
        from onnx import helper

        named = dict(outputs)
        if self._refusals:
            named["refused"] = self._refusals[0] if len(self._refusals) == 1 else self.add("Max", *self._refusals)
        nodes = [*self._nodes, *(_identity(value, name) for name, value in named.items())]
        kinds = [helper.make_empty_tensor_value_info(name) for name in named]
        graph = helper.make_graph(nodes, "converted", self._inputs, kinds, self._constants)
        return bytes(versioned(helper.make_model(graph)).SerializeToString(deterministic=True))


def versioned(model: Any) -> Any:
    """The model, of the versions that are written here."""
    from onnx import helper

    del model.opset_import[:]
    model.opset_import.extend([helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)])
    model.ir_version = IR_VERSION
    return model


def first_line(error: Exception) -> str:
    """What a library said, or the error's name."""
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__


def cannot(reason: str) -> ModelUnreadable:
    """The error for a model that has no ONNX of its own meaning."""
    return ModelUnreadable(f"the model cannot be converted to ONNX: {reason}")


def _identity(value: str, name: str) -> Any:
    from onnx import helper

    return helper.make_node("Identity", [value], [name])
