"""XGBoost's and LightGBM's boosters as a graph: their trees, in the precision and the order of their own sums, and what
their objectives make of the scores."""

from dataclasses import dataclass
from typing import Any

from foretell.conversion.graph import LARGEST_FLOAT, Graph, Piece, cannot
from foretell.conversion.trees import LESS, summed
from foretell.trees import lightgbm as lightgbm_trees
from foretell.trees.tree import Tree, constant
from foretell.trees.xgboost import EXPONENTIAL, LOGISTIC, MULTIPLE, PLAIN, Boosted, NotTrees, read


@dataclass(frozen=True)
class Answer:
    """What a model answers, as values of a graph.

    prediction: shape (rows,) or (rows, k); a classifier's are indices of its classes. probabilities: shape (rows, k),
    or None without any. classes: a classifier's, else None.
    """

    prediction: str
    probabilities: str | None = None
    classes: Any = None


def xgboost(graph: Graph, table: Piece, booster: Any, rounds: int, classes: Any, *, finite: bool) -> Answer:
    """XGBoost's booster. rounds: how many of its rounds count, 0 for all. classes: a classifier's, else None. finite:
    infinite numbers are refused. Raises ModelUnreadable."""
    _check_width("XGBoost", table, booster.num_features())
    try:
        found = read(bytes(booster.save_raw("ubj")), rounds, in_place=not finite)
    except NotTrees as error:
        raise cannot(f"it has {error}") from error
    objective = found.objective
    if objective not in (*LOGISTIC, *EXPONENTIAL, *MULTIPLE, *PLAIN):
        raise cannot(f"it has XGBoost's objective {objective}")
    if finite:
        graph.refuse_from(table, LARGEST_FLOAT)
    trees, targets = _xgboost_trees(found)
    margins = summed(graph, graph.cast(table.value, "float32"), trees, targets, "float32", LESS)
    if objective in MULTIPLE:
        return _xgboost_classes(graph, graph.softmax(margins, "float32"), objective, classes)
    scores = margins
    if objective in EXPONENTIAL:
        scores = graph.exp(margins, "float32")
    elif objective in LOGISTIC:
        scores = sigmoid(graph, margins, "float32")
    if classes is None:
        return Answer(scores)
    if objective not in LOGISTIC:
        raise cannot(f"it decides classes by XGBoost's objective {objective}")
    if len(classes) != 2 or max(targets) > 0:
        raise cannot("it gives several labels a row")
    positive = graph.add("Greater", scores, graph.constant(0.5, "float32"))
    return Answer(_flat(graph, graph.cast(positive, "int64")), both(graph, scores, "float32"), classes)


def _xgboost_classes(graph: Graph, shares: str, objective: str, classes: Any) -> Answer:
    """Probabilities of several classes, or the class; a booster by itself answers as its objective says."""
    best = graph.add("ArgMax", shares, axis=1, keepdims=0)
    if classes is None:
        return Answer(graph.cast(best, "float32") if objective == "multi:softmax" else shares)
    if len(classes) == 2 and objective != "multi:softmax":
        raise cannot(f"it has two classes with XGBoost's objective {objective}")
    return Answer(best, shares, classes)


def _xgboost_trees(found: Boosted) -> tuple[list[Tree], list[int]]:
    """The trees, and the target of each, behind one tree a target from which the sums begin."""
    if any(tree.sets for tree in found.trees):
        raise cannot("it has XGBoost's splits by category")
    if any(tree.leaves.ndim > 1 for tree in found.trees):
        raise cannot("it has XGBoost's trees with several outputs")
    starts = [constant(float(start)) for start in found.starts]
    return [*starts, *found.trees], [*range(len(starts)), *found.outputs]


def lightgbm(graph: Graph, table: Piece, booster: Any, classes: Any) -> Answer:
    """LightGBM's booster, in its own text. classes: a classifier's, else None. Raises ModelUnreadable."""
    _check_width("LightGBM", table, booster.num_feature())
    model = lightgbm_trees.read(booster.model_to_string())
    for what, there in {
        "linear trees": model.linear,
        "splits by category": any(tree.sets for tree in model.trees),
        "zeros that count as missing": any(tree.zero_missing is not None for tree in model.trees),
    }.items():
        if there:
            raise cannot(f"it has LightGBM's {what}")
    scores = summed(graph, table.value, model.trees, [number % model.outputs for number in range(len(model.trees))])
    if model.average:
        scores = graph.add("Div", scores, graph.constant(float(model.rounds)))
    shares = _lightgbm_link(graph, scores, model.objective, model.options)
    if classes is None:
        return Answer(shares)
    if model.outputs == 1:
        shares = both(graph, shares, "float64")
    return Answer(graph.add("ArgMax", shares, axis=1, keepdims=0), shares, classes)


_LIGHTGBM_PLAIN = ("regression", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg")


def _lightgbm_link(graph: Graph, scores: str, objective: str, options: dict[str, str]) -> str:
    """What the objective makes of the scores."""
    if objective in _LIGHTGBM_PLAIN and "sqrt" not in options:
        return scores
    if objective in ("poisson", "gamma", "tweedie"):
        return graph.exp(scores)
    if objective == "multiclass":
        return graph.softmax(scores)
    if objective in ("binary", "multiclassova", "cross_entropy"):
        slope = float(options.get("sigmoid", 1))
        return sigmoid(graph, scores if slope == 1 else graph.add("Mul", scores, graph.constant(slope)))
    raise cannot(f"it has LightGBM's objective {objective}{' with sqrt' if 'sqrt' in options else ''}")


def _check_width(library: str, table: Piece, columns: int) -> None:
    if table.width != columns:
        raise cannot(f"{library} takes {columns} columns, and would get {table.width}")


def sigmoid(graph: Graph, scores: str, dtype: str = "float64") -> str:
    """1 / (1 + e^-x), in that dtype."""
    one = graph.constant(1.0, dtype)
    return graph.add("Div", one, graph.add("Add", one, graph.exp(graph.add("Neg", scores), dtype)))


def both(graph: Graph, share: str, dtype: str) -> str:
    """The two classes' probabilities from the second one's, shape (rows, 1)."""
    return graph.add("Concat", graph.add("Sub", graph.constant(1.0, dtype), share), share, axis=1)


def _flat(graph: Graph, value: str) -> str:
    return graph.add("Reshape", value, graph.constant([-1], "int64"))
