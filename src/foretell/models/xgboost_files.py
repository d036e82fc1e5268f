"""XGBoost's model files, JSON and UBJSON, read and checked before the library sees them: its C++ follows every index.

Source of the format: https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html and its JSON schema.
"""

import struct
from pathlib import Path
from typing import Any

import numpy as np

from foretell.errors import ModelUnreadable
from foretell.trees.ubjson import Wrong, document, sure

_MOST = 1 << 20
_PER_NODE = ("default_left", "loss_changes", "sum_hessian", "split_conditions", "parents")
_CATEGORIES = ("categories", "categories_nodes", "categories_segments", "categories_sizes")


def check(data: bytes, path: Path) -> None:
    """That every tree is one, and every index points at something. Raises ModelUnreadable."""
    if data[:4] == b"binf" or data[:1] != b"{":
        raise ModelUnreadable(
            f"{path} is not XGBoost's JSON or UBJSON",
            "A model from before XGBoost 2: load it with the XGBoost of that time and save it as model.ubj",
        )
    try:
        _check_learner(document(data)["learner"])
    except Wrong as wrong:
        raise ModelUnreadable(f"{path} is not a sound XGBoost model: {wrong}") from wrong
    except (ValueError, KeyError, TypeError, IndexError, struct.error, RecursionError, OverflowError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelUnreadable(f"{path} is not a readable XGBoost model: {type(error).__name__}: {reason}") from error


def _whole(value: Any, low: int, high: int, what: str) -> int:
    """A whole number that XGBoost keeps as text."""
    sure(isinstance(value, str) and value.isascii() and value.isdigit() and low <= int(value) <= high, what)
    return int(value)


def _check_learner(learner: dict[str, Any]) -> None:
    described = learner["learner_model_param"]
    features = _whole(described["num_feature"], 1, _MOST, "num_feature")
    classes = _whole(described.get("num_class", "0"), 0, _MOST, "num_class")
    targets = _whole(described.get("num_target", "1"), 1, _MOST, "num_target")
    groups = max(classes, targets)
    _check_score(described["base_score"], groups)
    _check_objective(learner["objective"], classes)
    for name in ("feature_names", "feature_types"):
        given = learner.get(name, [])
        fits = len(given) in (0, features) and all(isinstance(item, str) for item in given)
        sure(fits, f"{name} do not fit num_feature")
    gradient = learner["gradient_booster"]
    name = gradient["name"]
    if name == "gblinear":
        sure(len(_numbers(gradient["model"]["weights"])) == (features + 1) * groups, "its weights' number is wrong")
        return
    sure(name in ("gbtree", "dart"), "its booster is none of gbtree, dart, gblinear")
    trees = gradient["model"] if name == "gbtree" else gradient["gbtree"]["model"]
    _check_trees(trees, features, groups)
    if name == "dart":
        sure(gradient["gbtree"]["name"] == "gbtree", "its dart booster holds no trees")
        sure(len(_numbers(gradient["weight_drop"])) == len(trees["trees"]), "weight_drop's number is wrong")


def _check_score(text: Any, groups: int) -> None:
    """One number, or from XGBoost 3.1 on a list of one, or of one a group."""
    sure(isinstance(text, str), "base_score")
    parts = text.strip("[]").split(",")
    sure(len(parts) in (1, groups), "base_score's number is wrong")
    for part in parts:
        float(part)


def _check_objective(objective: dict[str, Any], classes: int) -> None:
    sure(isinstance(objective["name"], str), "its objective has no name")
    if objective["name"].startswith("multi:"):
        stated = objective.get("softmax_multiclass_param", {}).get("num_class", str(classes))
        sure(_whole(stated, 1, _MOST, "num_class") == classes, "its objective's num_class is another")


def _check_trees(model: dict[str, Any], features: int, groups: int) -> None:
    trees = model["trees"]
    settings = model["gbtree_model_param"]
    sure(_whole(settings["num_trees"], 0, _MOST, "num_trees") == len(trees), "num_trees is wrong")
    _whole(settings.get("num_parallel_tree", "1"), 0, _MOST, "num_parallel_tree")
    group = _integers(model["tree_info"])
    sure(len(group) == len(trees) and ((group >= 0) & (group < groups)).all(), "tree_info is wrong")
    if "iteration_indptr" in model:
        ends = _integers(model["iteration_indptr"])
        sound = len(ends) > 0 and ends[0] == 0 and ends[-1] == len(trees) and (np.diff(ends) >= 0).all()
        sure(sound, "iteration_indptr is wrong")
    sure(not any(len(part) for part in model.get("cats", {}).values()), _CATEGORICAL)
    numbers = sorted(_whole_number(tree["id"]) for tree in trees)
    sure(numbers == list(range(len(trees))), "its trees are not numbered one by one")
    for tree in trees:
        _check_tree(tree, features, groups)


def _whole_number(value: Any) -> int:
    sure(type(value) is int, "a tree's number is none")
    return int(value)


_CATEGORICAL = "it has columns of categories, which foretell does not read; train on their codes as numbers"


def _check_tree(tree: dict[str, Any], features: int, groups: int) -> None:
    described = tree["tree_param"]
    left, right = _integers(tree["left_children"]), _integers(tree["right_children"])
    count = len(left)
    width = max(1, _whole(described.get("size_leaf_vector", "1"), 0, _MOST, "size_leaf_vector"))
    sure(width in (1, groups), "size_leaf_vector is wrong")
    sure(_whole(described["num_nodes"], 1, 1 << 31, "num_nodes") == count == len(right), "num_nodes is wrong")
    sure(_whole(described.get("num_feature", "0"), 0, _MOST, "num_feature") in (0, features), "num_feature is wrong")
    _whole(described.get("num_deleted", "0"), 0, count, "num_deleted")
    sure(all(len(_numbers(tree[name])) == count for name in _PER_NODE if name in tree), "an array's length is wrong")
    sure({"default_left", "split_conditions", "parents", "base_weights"} <= set(tree), "an array is missing")
    columns = _integers(tree["split_indices"])
    inner = left != -1
    sure(len(columns) == count and ((columns >= 0) & (columns < features)).all(), "a split's column is not there")
    sure(not _integers(tree.get("split_type", [])).any(), _CATEGORICAL)
    sure(not any(len(tree.get(name, [])) for name in _CATEGORIES), _CATEGORICAL)
    below = np.concatenate([left[inner], right[inner]])
    sound = ((below > 0) & (below < count)).all() and len(np.unique(below)) == len(below)
    sure(sound, "a node's child is not there, or has two parents")
    _check_parents(_integers(tree["parents"]), left, right, inner)
    _check_leaves(tree, right[~inner], width, count)


def _check_parents(parents: Any, left: Any, right: Any, inner: Any) -> None:
    at = np.flatnonzero(inner)
    sure((parents[left[at]] == at).all() and (parents[right[at]] == at).all(), "a node's parent is another")


def _check_leaves(tree: dict[str, Any], leaf: Any, width: int, count: int) -> None:
    weights = len(_numbers(tree["base_weights"]))
    if width == 1:
        sure(weights == count, "base_weights' number is wrong")
        return
    stored = len(_numbers(tree["leaf_weights"]))
    sure(weights in (0, count * width) and stored % width == 0, "leaf_weights' number is wrong")
    sure(((leaf >= 0) & (leaf < stored // width)).all(), "a leaf's weights are not there")


def _integers(values: Any) -> Any:
    array = np.asarray(values) if len(values) else np.empty(0, "int64")
    sure(array.ndim == 1 and array.dtype.kind in "iub", "an array is not of whole numbers")
    return array.astype("int64")


def _numbers(values: Any) -> Any:
    array = np.asarray(values) if len(values) else np.empty(0)
    sure(array.ndim == 1 and array.dtype.kind in "iubf", "an array is not of numbers")
    return array
