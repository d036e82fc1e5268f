"""XGBoost's own documents: their trees, the outputs that these count for, and where sums begin, in float32.

Source of the formulas: XGBoost's predictor/cpu_predictor.cc, gbm/gbtree.cc, common/categorical.h and the objectives'
ProbToMargin.
"""

import itertools
import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from foretell.trees import libm
from foretell.trees.tree import Categories, Tree, from_nodes
from foretell.trees.ubjson import document

LOGISTIC = ("binary:logistic", "reg:logistic")
EXPONENTIAL = ("count:poisson", "reg:gamma", "reg:tweedie", "survival:cox")
LIFETIME = "survival:aft"
MULTIPLE = ("multi:softmax", "multi:softprob")
PLAIN = (
    *("binary:logitraw", "rank:map", "rank:ndcg", "rank:pairwise", "reg:absoluteerror", "reg:expectileerror"),
    *("reg:linear", "reg:pseudohubererror", "reg:quantileerror", "reg:squarederror", "reg:squaredlogerror"),
)
"""Objectives by what they make of sums. Two more: LIFETIME takes e to them as doubles, binary:hinge tells a sign."""

_NEAR = np.float32(1e-6)
"""As near to 0 and to 1 as a logistic objective lets a base score come."""
_LEAVES_ALONE = (3, 3)
"""From this version on a tree's weight is multiplied into its leaves alone."""


class NotTrees(Exception):
    """A booster's answers are not sums of trees as `forest` has them: the message says what they are."""


@dataclass(frozen=True)
class Boosted:
    """outputs: of each tree, the sum that it counts for. starts: where the sums begin, float32, one each. objective:
    what the sums become. A tree sends left what is less than its threshold."""

    trees: tuple[Tree, ...]
    outputs: tuple[int, ...]
    starts: np.ndarray
    columns: int
    objective: str


def read(data: bytes, rounds: int = 0, *, in_place: bool = True) -> Boosted:
    """What a model file, or save_raw of a booster, holds. rounds: how many of its rounds count, 0 for all. in_place:
    whether the booster is asked for predictions in place, as the estimators do.

    Raises NotTrees; ValueError, KeyError, TypeError, IndexError for what is no model.
    """
    stored = document(data)
    learner = stored["learner"]
    gradient = learner["gradient_booster"]
    if gradient["name"] not in ("gbtree", "dart"):
        raise NotTrees(f"XGBoost's booster {gradient['name']}")
    model = gradient["gbtree"]["model"] if gradient["name"] == "dart" else gradient["model"]
    if any(len(part) for part in model.get("cats", {}).values()):
        raise NotTrees("XGBoost's columns of named categories")
    count = int(model["iteration_indptr"][rounds]) if rounds else len(model["trees"])
    outputs = tuple(int(output) for output in model["tree_info"][:count])
    described = learner["learner_model_param"]
    starts = _starts(learner, max(1, int(described["num_class"]), int(described.get("num_target", "1"))))
    trees = tuple(_tree(tree) for tree in model["trees"][:count])
    weights = np.asarray(gradient.get("weight_drop", model.get("weight_drop", ())), "float32")
    if len(weights):
        bases = starts if in_place and tuple(stored["version"]) < _LEAVES_ALONE else np.zeros_like(starts)
        found = zip(trees, itertools.chain(weights, itertools.repeat(np.float32(1))), outputs, strict=False)
        trees = tuple(_weighed(tree, weight, bases[output]) for tree, weight, output in found)
    return Boosted(trees, outputs, starts, int(described["num_feature"]), learner["objective"]["name"])


def _starts(learner: dict[str, Any], outputs: int) -> np.ndarray:
    """Where the sums begin: the base score, which is kept as the objective shows it."""
    stored = json.loads(str(learner["learner_model_param"]["base_score"]))
    scores = np.broadcast_to(np.array(stored, "float32"), (outputs,)).copy()
    objective = learner["objective"]["name"]
    if objective in LOGISTIC:
        one = np.float32(1)
        return -libm.log(one / scores.clip(_NEAR, one - _NEAR) - one)
    return libm.log(scores) if objective in (*EXPONENTIAL, LIFETIME) else scores


def _tree(tree: dict[str, Any]) -> Tree:
    left, right = (np.asarray(tree[name], "int64") for name in ("left_children", "right_children"))
    leaf = left < 0
    conditions = np.asarray(tree["split_conditions"], "float32")
    width = int(tree["tree_param"].get("size_leaf_vector", "1"))
    values = _vectors(tree, leaf, right, width) if width > 1 else conditions
    arrays = (left, right, np.asarray(tree["split_indices"], "int64"), conditions)
    found = from_nodes(*arrays, np.asarray(tree["default_left"], bool), values)
    never = ~(found.threshold > -np.inf)
    sets = {int(split): Categories((), 0) for split in np.flatnonzero(never)}
    sets |= _sets(tree, np.cumsum(~leaf) - 1)
    return replace(found, sets=sets) if sets else found


def _vectors(tree: dict[str, Any], leaf: np.ndarray, right: np.ndarray, width: int) -> np.ndarray:
    """By node, a leaf's values, which XGBoost keeps by leaf from 3.2 on, and before by node."""
    stored = np.asarray(tree.get("leaf_weights", ()), "float32").reshape(-1, width)
    if not len(stored):
        return np.asarray(tree["base_weights"], "float32").reshape(-1, width)
    values = np.zeros((len(leaf), width), "float32")
    values[leaf] = stored[right[leaf]]
    return values


def _sets(tree: dict[str, Any], numbers: np.ndarray) -> dict[int, Categories]:
    """Splits by category: those that are listed go right, and left goes any other number, a negative one too. numbers:
    of each node, which split it is."""
    listed = np.asarray(tree.get("categories", ()), "int64")
    found = {}
    parts = (tree.get(f"categories_{name}", ()) for name in ("nodes", "segments", "sizes"))
    for node, first, count in zip(*parts, strict=True):
        right = listed[int(first) : int(first) + int(count)]
        most = int(right.max()) | 31
        found[int(numbers[node])] = Categories(np.setdiff1d(np.arange(most + 1), right).tolist(), most, True)
    return found


def _weighed(tree: Tree, weight: np.float32, base: np.float32) -> Tree:
    """A tree of dart. What begins a sum was added to each leaf and taken away again, which rounds."""
    return replace(tree, leaves=((base + tree.leaves) - base) * weight)
