"""scikit-learn's estimators as a graph: pipelines and what prepares columns step by step, so that each step refuses the
rows that it refuses in the library; trees by their own operator; the rest by skl2onnx, in double precision."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from foretell.conversion.boosters import Answer, both, lightgbm, sigmoid, xgboost
from foretell.conversion.encoders import impute, one_hot, ordinal
from foretell.conversion.graph import LARGEST_FLOAT, OPSET, Graph, Piece, Table, cannot, first_line, versioned
from foretell.conversion.trees import looked_up, summed
from foretell.models.onnx import session
from foretell.models.sklearn import parts
from foretell.trees.tree import constant, of_histogram, of_sklearn

_SKL2ONNX = {"": OPSET, "ai.onnx.ml": 3}
_SEARCHES = ("GridSearchCV", "RandomizedSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV")
_THRESHOLDS = ("FixedThresholdClassifier", "TunedThresholdClassifierCV")


def predictor(graph: Graph, estimator: Any, table: Table) -> Answer:
    """What the estimator predicts of the table. Raises ModelUnreadable, which names the step that cannot."""
    return _predict(graph, estimator, table, _called(estimator))


def _predict(graph: Graph, estimator: Any, table: Table, where: str) -> Answer:
    kind = _kind(estimator, where)
    if kind == "Pipeline":
        *before, (name, last) = _steps(estimator)
        for step, transformer in before:
            table = _transform(graph, transformer, table, _called(transformer, step))
        return _predict(graph, last, table, _called(last, name))
    if kind in _SEARCHES:
        return _predict(graph, estimator.best_estimator_, table, _called(estimator.best_estimator_))
    numbers = graph.numbers(table, where)
    if numbers.width != estimator.n_features_in_:
        raise cannot(f"{where} takes {estimator.n_features_in_} columns, and would get {numbers.width}")
    if isinstance(getattr(estimator, "classes_", None), list):
        raise cannot(f"{where} gives several labels a row")
    return _PREDICTORS.get(kind, _by_library)(graph, estimator, numbers, where)


def _transform(graph: Graph, estimator: Any, table: Table, where: str) -> Table:
    if isinstance(estimator, str):
        return table if estimator == "passthrough" else ()
    kind = _kind(estimator, where)
    if kind == "FunctionTransformer" and estimator.func is None and not estimator.validate:
        return table
    if kind == "Pipeline":
        for name, step in _steps(estimator):
            table = _transform(graph, step, table, _called(step, name))
        return table
    if kind == "ColumnTransformer":
        return tuple(_column_transformer(graph, estimator, table))
    if kind == "FeatureUnion":
        if estimator.transformer_weights:
            raise cannot(f"{where} weighs its parts")
        made = (_transform(graph, step, table, _called(step, name)) for name, step in estimator.transformer_list)
        return tuple(piece for part in made for piece in part)
    if kind in _PREPARERS:
        return _PREPARERS[kind](graph, estimator, table, where)
    numbers = graph.numbers(table, where)
    outputs = _spliced(graph, estimator, numbers, where)
    width = len(estimator.get_feature_names_out())
    if len(outputs) != 1 or not hasattr(estimator, "transform"):
        raise cannot(f"{where} is no transformer in ONNX")
    return (Piece(outputs[0], width, gaps=numbers.gaps and _takes_missing(estimator)),)


def _column_transformer(graph: Graph, estimator: Any, table: Table) -> Iterator[Piece]:
    """Each transformer's own columns go through it, and what comes out stands side by side."""
    weights = estimator.transformer_weights or {}
    for name, transformer, _ in estimator.transformers_:
        columns = list(estimator._transformer_to_input_indices[name])
        if not columns:
            continue
        if name in weights:
            raise cannot(f"its ColumnTransformer weighs the step {name!r}")
        yield from _transform(graph, transformer, _picked(graph, table, columns), _called(transformer, name))


def _picked(graph: Graph, table: Table, columns: list[int]) -> Table:
    """Columns of a table by their numbers; neighbours from one piece stay together."""
    places = [(piece, at) for piece in table for at in range(piece.width)]
    groups: list[tuple[Piece, list[int]]] = []
    for piece, at in (places[column] for column in columns):
        if groups and groups[-1][0] is piece:
            groups[-1][1].append(at)
        else:
            groups.append((piece, [at]))
    return tuple(graph.pick(piece, chosen) for piece, chosen in groups)


def _steps(pipeline: Any) -> list[tuple[str, Any]]:
    return [(name, step) for name, step in pipeline.steps if step is not None and not isinstance(step, str)]


def _called(estimator: Any, step: str = "") -> str:
    kind = estimator if isinstance(estimator, str) else type(estimator).__name__
    return f"the step {step!r} ({kind})" if step else kind


def _kind(estimator: Any, where: str) -> str:
    """The estimator's name, where it is a library's own and nobody's subclass."""
    if not type(estimator).__module__.startswith(("sklearn.", "xgboost.", "lightgbm.")):
        raise cannot(f"{where} is not scikit-learn's own")
    return type(estimator).__name__


def _takes_missing(estimator: Any) -> bool:
    tags = getattr(estimator, "__sklearn_tags__", None)
    return bool(tags().input_tags.allow_nan if tags else estimator._get_tags()["allow_nan"])


def _validated(graph: Graph, estimator: Any, table: Piece, limit: float = np.inf) -> Piece:
    """The table behind the library's own validation: rows with what the estimator takes not are refused."""
    graph.refuse_from(table, limit)
    return table if _takes_missing(estimator) else graph.refuse_missing(table)


def _by_library(graph: Graph, estimator: Any, table: Piece, where: str) -> Answer:
    """By skl2onnx. A label becomes its class's number."""
    outputs = _spliced(graph, estimator, table, where)
    classes = getattr(estimator, "classes_", None)
    if classes is None:
        return Answer(outputs[0])
    text = classes.dtype.kind in "OUS"
    if not text and (classes.astype("int64") != classes).any():
        raise cannot(f"{where} has classes that are neither text nor whole numbers")
    keys = {"keys_strings": list(map(str, classes))} if text else {"keys_int64s": classes.astype("int64").tolist()}
    numbers = {"values_int64s": list(range(len(classes))), "default_int64": len(classes)}
    chosen = graph.add("LabelEncoder", outputs[0], domain="ai.onnx.ml", **numbers, **keys)
    return Answer(chosen, outputs[1] if hasattr(estimator, "predict_proba") else None, classes)


def _spliced(graph: Graph, estimator: Any, table: Piece, where: str) -> list[str]:
    """The outputs of skl2onnx's own graph: on doubles, or on floats where it, or ONNX Runtime, has it for them only."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    if any(type(part).__name__ in _THRESHOLDS for part in parts(estimator)):
        raise cannot(f"{where} decides by a threshold of its own")
    table = _validated(graph, estimator, table)
    labelled = hasattr(estimator, "predict_proba") and hasattr(estimator, "classes_")
    options = {id(estimator): {"zipmap": False}} if labelled else None
    reason = ""
    for kind, dtype in ((DoubleTensorType, "float64"), (FloatTensorType, "float32")):
        given = [("x", kind([None, table.width]))]
        try:
            model = to_onnx(estimator, initial_types=given, target_opset=_SKL2ONNX, options=options)
            if any(node.op_type.startswith("TreeEnsemble") for node in model.graph.node):
                raise NotImplementedError("trees inside of it cannot be converted")
            versioned(model)
            trial = session(model.SerializeToString())
            trial.run(None, {"x": np.zeros((1, table.width), dtype)})
        except Exception as error:
            reason = first_line(error)
            continue
        outputs = graph.splice(model, graph.cast(table.value, dtype))
        return [
            graph.cast(output, "float64") if given.type == "tensor(float)" else output
            for output, given in zip(outputs, trial.get_outputs(), strict=True)
        ]
    raise cannot(f"{where}: {reason}")


def _rounded(graph: Graph, estimator: Any, table: Piece) -> str:
    """scikit-learn's trees compare doubles with numbers that were rounded to floats."""
    table = _validated(graph, estimator, table, LARGEST_FLOAT)
    return graph.cast(graph.cast(table.value, "float32"), "float64")


def _forest(graph: Graph, estimator: Any, table: Piece, where: str) -> Answer:
    """One tree, or the mean of several."""
    members = getattr(estimator, "estimators_", [estimator])
    trees = [of_sklearn(member.tree_) for member in members]
    rounded = _rounded(graph, estimator, table)
    classes = getattr(estimator, "classes_", None)
    if classes is None and estimator.n_outputs_ == 1:
        total = summed(graph, rounded, trees, [0] * len(trees))
    else:
        total = looked_up(graph, rounded, trees)
    mean = total if members == [estimator] else graph.add("Div", total, graph.constant(float(len(trees))))
    if classes is None:
        return Answer(mean)
    return Answer(graph.add("ArgMax", mean, axis=1, keepdims=0), mean, classes)


def _gradient_boosting(graph: Graph, estimator: Any, table: Piece, where: str) -> Answer:
    if estimator.init_ != "zero" and not type(estimator.init_).__name__.startswith("Dummy"):
        raise cannot(f"{where} begins with the answers of a {type(estimator.init_).__name__}")
    width = estimator.estimators_.shape[1]
    begin = estimator._raw_predict_init(np.zeros((1, table.width), "float32"))[0]
    members = [of_sklearn(member.tree_) for member in estimator.estimators_.ravel()]
    steps = [replace(tree, leaves=tree.leaves * estimator.learning_rate) for tree in members]
    trees = [*map(constant, begin), *steps]
    scores = summed(graph, _rounded(graph, estimator, table), trees, [number % width for number in range(len(trees))])
    if not hasattr(estimator, "classes_"):
        return Answer(scores)
    return _classified(graph, estimator, scores, width, "GreaterOrEqual")


def _histogram_boosting(graph: Graph, estimator: Any, table: Piece, where: str) -> Answer:
    if estimator.is_categorical_ is not None and np.any(estimator.is_categorical_):
        raise cannot(f"{where} splits by category")
    width = len(estimator._predictors[0]) if estimator._predictors else 1
    begin = np.asarray(estimator._baseline_prediction, "float64").ravel()
    trees = [*map(constant, begin), *(of_histogram(tree) for group in estimator._predictors for tree in group)]
    scores = summed(graph, table.value, trees, [number % width for number in range(len(trees))])
    if hasattr(estimator, "classes_"):
        return _classified(graph, estimator, scores, width, "Greater")
    link = type(estimator._loss.link).__name__
    if link not in ("IdentityLink", "LogLink"):
        raise cannot(f"{where} has the loss {estimator.loss}")
    return Answer(graph.exp(scores) if link == "LogLink" else scores)


def _classified(graph: Graph, estimator: Any, scores: str, width: int, above: str) -> Answer:
    """Boosted scores to classes and probabilities. above: how two classes' one score is compared with 0."""
    if width > 1:
        best = graph.add("ArgMax", scores, axis=1, keepdims=0)
        return Answer(best, graph.softmax(scores), estimator.classes_)
    positive = graph.cast(graph.add(above, scores, graph.constant(0.0)), "int64")
    if type(estimator._loss).__name__ == "ExponentialLoss":
        scores = graph.add("Mul", scores, graph.constant(2.0))
    shares = both(graph, sigmoid(graph, scores), "float64")
    return Answer(positive, shares, estimator.classes_)


def _xgboost(graph: Graph, estimator: Any, table: Piece, where: str) -> Answer:
    booster = estimator.get_booster()
    best = booster.attr("best_iteration")
    if not np.isnan(estimator.missing):
        raise cannot(f"{where} takes {estimator.missing} for missing")
    rounds = int(best) + 1 if best is not None else 0
    return xgboost(graph, table, booster, rounds, getattr(estimator, "classes_", None), finite=False)


def _lightgbm(graph: Graph, estimator: Any, table: Piece, where: str) -> Answer:
    if callable(estimator.objective_):
        raise cannot(f"{where} has an objective of its own")
    return lightgbm(graph, table, estimator.booster_, getattr(estimator, "classes_", None))


_PREPARERS: dict[str, Callable[[Graph, Any, Table, str], Table]] = {
    "OneHotEncoder": one_hot,
    "OrdinalEncoder": ordinal,
    "SimpleImputer": impute,
}
_PREDICTORS: dict[str, Callable[[Graph, Any, Piece, str], Answer]] = {
    **{
        f"{kind}{task}": _forest
        for kind in ("DecisionTree", "ExtraTree", "RandomForest", "ExtraTrees")
        for task in ("Classifier", "Regressor")
    },
    **{f"GradientBoosting{task}": _gradient_boosting for task in ("Classifier", "Regressor")},
    **{f"HistGradientBoosting{task}": _histogram_boosting for task in ("Classifier", "Regressor")},
    **dict.fromkeys(("XGBClassifier", "XGBRegressor", "XGBRFClassifier", "XGBRFRegressor", "XGBRanker"), _xgboost),
    **dict.fromkeys(("LGBMClassifier", "LGBMRegressor", "LGBMRanker"), _lightgbm),
}
