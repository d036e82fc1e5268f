"""From a training library's loaded model to an ONNX model that stands in for it: trees as exact as in the library, the
rest in double precision. Asked once, ahead of time, where the training library is; onnx_converted predicts with it."""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from foretell.batch import Answers, Batch, Call
from foretell.cells import Column
from foretell.conversion import boosters, sklearn
from foretell.conversion.boosters import Answer
from foretell.conversion.graph import Graph, Table, cannot, first_line
from foretell.errors import ForetellError, LibraryMissing, RowRefused
from foretell.models.engine import Engine
from foretell.models.lightgbm import LightgbmEngine
from foretell.models.onnx_converted import Converted, ConvertedEngine
from foretell.models.sklearn import SklearnEngine
from foretell.models.xgboost import XgboostEngine
from foretell.signature import Signature


def convert(engine: Engine, signature: Signature, names: tuple[str, ...] | None) -> Converted:
    """The engine's model as ONNX. names: the order in which the engine takes named columns, as Loaded has it.

    Raises ModelUnreadable for what has no ONNX of its own meaning, and LibraryMissing.
    """
    columns = _ordered(signature, names)
    graph = Graph()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            answer = _answer(graph, engine, _inputs(graph, columns), signature)
            outputs = {"prediction": answer.prediction}
            if engine.proba and answer.probabilities is not None:
                outputs["probabilities"] = answer.probabilities
            elif engine.proba:
                raise cannot(f"its probabilities, which {engine.name} gives, would be lost")
            return _like(engine, graph, outputs, answer.classes, _example(graph, columns))
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            fix = "pip install 'foretell[onnx]'"
            raise LibraryMissing(f"converting a model to ONNX needs {missing}, which is not installed", fix) from error
        except ForetellError:
            raise
        except Exception as error:
            raise cannot(f"{type(error).__name__}: {first_line(error)}") from error


def _ordered(signature: Signature, names: tuple[str, ...] | None) -> list[Column]:
    """The columns as the engine takes them. Raises ModelUnreadable for types that ONNX's operators do not know."""
    columns = list(signature.inputs)
    if names is not None and signature.named:
        by_name = dict(zip(signature.names, signature.inputs, strict=True))
        columns = [by_name[name] for name in names]
    for column in columns:
        if column.shape or column.cell.kind not in ("bool", "int", "float", "text"):
            raise cannot(f"it takes a column of another kind than numbers and text: {column}")
    return columns


def _inputs(graph: Graph, columns: list[Column]) -> Table:
    """Numbers as one tensor of doubles, from which each library rounds by itself; a column each where some are text."""
    if all(column.cell.kind != "text" for column in columns):
        return (graph.input(len(columns)),)
    return tuple(graph.input(1, text=column.cell.kind == "text") for column in columns)


def _answer(graph: Graph, engine: Engine, table: Table, signature: Signature) -> Answer:
    if isinstance(engine, SklearnEngine):
        taken = [param.name for param in signature.params if param.name in engine.takes]
        if taken:
            raise cannot(f"it takes parameters with each call: {', '.join(taken)}")
        return sklearn.predictor(graph, engine.model, table)
    if isinstance(engine, XgboostEngine):
        classes = np.arange(engine.classes) if engine.proba else None
        numbers = graph.numbers(table, "XGBoost")
        return boosters.xgboost(graph, numbers, engine.model, engine.rounds, classes, finite=not engine.in_place)
    if isinstance(engine, LightgbmEngine):
        numbers = graph.numbers(table, "LightGBM")
        return boosters.lightgbm(graph, numbers, engine.booster, engine.classes)
    raise cannot(f"{engine.name} has no conversion")


def _example(graph: Graph, columns: list[Column]) -> Batch:
    """A row of zeros and of words that the model knows."""
    cells = [
        np.array([graph.known.get(at, "")], object) if column.cell.kind == "text" else np.zeros(1, column.cell.dtype)
        for at, column in enumerate(columns)
    ]
    return Batch(1, cells)


def _like(engine: Engine, graph: Graph, outputs: dict[str, str], classes: Any, example: Batch) -> Converted:
    """The converted model, which answers in the types that the engine answers with, as an example row tells."""
    converted = Converted(
        graph.data(outputs),
        graph.rowwise,
        "float64" if classes is None else np.asarray(classes).dtype.str,
        None if classes is None else tuple(np.asarray(classes).tolist()),
        () if classes is None else tuple(map(str, classes)),
        "float64" if engine.proba else None,
    )
    try:
        answers = _asked(engine, example)
    except RowRefused:
        return converted
    kinds = [output.values.dtype.str for output in answers.outputs]
    converted = replace(converted, prediction=kinds[0], probability=kinds[1] if engine.proba else None)
    if _shapes(_asked(ConvertedEngine(converted), example)) != _shapes(answers):
        raise cannot("its answers would be of another shape")
    return converted


def _asked(engine: Engine, example: Batch) -> Answers:
    return engine.predict(example.padded(engine.block or 1), Call(engine.proba))[:1]


def _shapes(answers: Answers) -> list[tuple[int, ...]]:
    return [output.values.shape for output in answers.outputs]
