"""XGBoost's model files, JSON and UBJSON, read and checked before the library sees them: its C++ follows every index.

Source of the format: https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html and its JSON schema.
"""

import json
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np

from foretell.errors import ModelUnreadable

_MOST = 1 << 20
_MAX_DEPTH = 32
_ARRAYS = {"d": ">f4", "D": ">f8", "i": "i1", "U": "u1", "I": ">i2", "l": ">i4", "L": ">i8"}
_SCALARS = {"d": ">f", "D": ">d", "i": ">b", "U": ">B", "I": ">h", "l": ">i", "L": ">q"}
_ESCAPED = re.compile(rb"\\u00[2-9a-fA-F]|\\u(?!00)|\\/")
"""A key in such a spelling is one key to Python and another to XGBoost."""
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
        stored = _Ubjson(data).document() if data[1:2] in b"LUilI}" else _from_json(data)
        _check_learner(stored["learner"])
    except _Wrong as wrong:
        raise ModelUnreadable(f"{path} is not a sound XGBoost model: {wrong}") from wrong
    except (ValueError, KeyError, TypeError, IndexError, struct.error, RecursionError, OverflowError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelUnreadable(f"{path} is not a readable XGBoost model: {type(error).__name__}: {reason}") from error


class _Wrong(ValueError):
    """The document can be read, and does not hold together."""


def _sure(holds: Any, what: str) -> None:
    if not holds:
        raise _Wrong(what)


def _from_json(data: bytes) -> Any:
    _sure(not _ESCAPED.search(data.replace(b"\\\\", b"")), "it spells letters as numbers, which XGBoost does not read")
    return json.loads(data, object_pairs_hook=_distinct)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    _sure(len(found) == len(pairs), "a key comes twice")
    return found


class _Ubjson:
    """Universal Binary JSON, as much of it as XGBoost writes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def document(self) -> Any:
        value = self._value(self._mark(), 0)
        _sure(self._at == len(self._data), "something follows the document")
        return value

    def _take(self, count: int) -> bytes:
        _sure(0 <= count <= len(self._data) - self._at, "it is cut off")
        self._at += count
        return self._data[self._at - count : self._at]

    def _mark(self) -> str:
        return chr(self._take(1)[0])

    def _count(self) -> int:
        _sure(self._mark() == "L", "a length is not a long")
        return int(struct.unpack(">q", self._take(8))[0])

    def _value(self, mark: str, depth: int) -> Any:
        _sure(depth < _MAX_DEPTH, "it is nested too deeply")
        if mark == "{":
            return self._object(depth)
        if mark == "[":
            return self._array(depth)
        if mark == "S":
            return self._take(self._count()).decode()
        if mark in "ZTF":
            return {"Z": None, "T": True, "F": False}[mark]
        _sure(mark in _SCALARS, f"an unknown mark {mark!r}")
        form = _SCALARS[mark]
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _object(self, depth: int) -> dict[str, Any]:
        pairs = []
        while self._data[self._at : self._at + 1] != b"}":
            key = self._take(self._count()).decode()
            pairs.append((key, self._value(self._mark(), depth + 1)))
        self._at += 1
        return _distinct(pairs)

    def _array(self, depth: int) -> Any:
        mark = self._mark()
        if mark == "$":
            kind = self._mark()
            _sure(kind in _ARRAYS and self._mark() == "#", "an array of an unknown kind")
            dtype = np.dtype(_ARRAYS[kind])
            return np.frombuffer(self._take(self._count() * dtype.itemsize), dtype)
        if mark == "#":
            return [self._value(self._mark(), depth + 1) for _ in range(self._count())]
        values = []
        while mark != "]":
            values.append(self._value(mark, depth + 1))
            mark = self._mark()
        return values


def _whole(value: Any, low: int, high: int, what: str) -> int:
    """A whole number that XGBoost keeps as text."""
    _sure(isinstance(value, str) and value.isascii() and value.isdigit() and low <= int(value) <= high, what)
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
        _sure(fits, f"{name} do not fit num_feature")
    gradient = learner["gradient_booster"]
    name = gradient["name"]
    if name == "gblinear":
        _sure(len(_numbers(gradient["model"]["weights"])) == (features + 1) * groups, "its weights' number is wrong")
        return
    _sure(name in ("gbtree", "dart"), "its booster is none of gbtree, dart, gblinear")
    trees = gradient["model"] if name == "gbtree" else gradient["gbtree"]["model"]
    _check_trees(trees, features, groups)
    if name == "dart":
        _sure(gradient["gbtree"]["name"] == "gbtree", "its dart booster holds no trees")
        _sure(len(_numbers(gradient["weight_drop"])) == len(trees["trees"]), "weight_drop's number is wrong")


def _check_score(text: Any, groups: int) -> None:
    """One number, or from XGBoost 3.1 on a list of one, or of one a group."""
    _sure(isinstance(text, str), "base_score")
    parts = text.strip("[]").split(",")
    _sure(len(parts) in (1, groups), "base_score's number is wrong")
    for part in parts:
        float(part)


def _check_objective(objective: dict[str, Any], classes: int) -> None:
    _sure(isinstance(objective["name"], str), "its objective has no name")
    if objective["name"].startswith("multi:"):
        stated = objective.get("softmax_multiclass_param", {}).get("num_class", str(classes))
        _sure(_whole(stated, 1, _MOST, "num_class") == classes, "its objective's num_class is another")


def _check_trees(model: dict[str, Any], features: int, groups: int) -> None:
    trees = model["trees"]
    settings = model["gbtree_model_param"]
    _sure(_whole(settings["num_trees"], 0, _MOST, "num_trees") == len(trees), "num_trees is wrong")
    _whole(settings.get("num_parallel_tree", "1"), 0, _MOST, "num_parallel_tree")
    group = _integers(model["tree_info"])
    _sure(len(group) == len(trees) and ((group >= 0) & (group < groups)).all(), "tree_info is wrong")
    if "iteration_indptr" in model:
        ends = _integers(model["iteration_indptr"])
        sound = len(ends) > 0 and ends[0] == 0 and ends[-1] == len(trees) and (np.diff(ends) >= 0).all()
        _sure(sound, "iteration_indptr is wrong")
    _sure(not any(len(part) for part in model.get("cats", {}).values()), _CATEGORICAL)
    numbers = sorted(_whole_number(tree["id"]) for tree in trees)
    _sure(numbers == list(range(len(trees))), "its trees are not numbered one by one")
    for tree in trees:
        _check_tree(tree, features, groups)


def _whole_number(value: Any) -> int:
    _sure(type(value) is int, "a tree's number is none")
    return int(value)


_CATEGORICAL = "it has columns of categories, which foretell does not read; train on their codes as numbers"


def _check_tree(tree: dict[str, Any], features: int, groups: int) -> None:
    described = tree["tree_param"]
    left, right = _integers(tree["left_children"]), _integers(tree["right_children"])
    count = len(left)
    width = max(1, _whole(described.get("size_leaf_vector", "1"), 0, _MOST, "size_leaf_vector"))
    _sure(width in (1, groups), "size_leaf_vector is wrong")
    _sure(_whole(described["num_nodes"], 1, 1 << 31, "num_nodes") == count == len(right), "num_nodes is wrong")
    _sure(_whole(described.get("num_feature", "0"), 0, _MOST, "num_feature") in (0, features), "num_feature is wrong")
    _whole(described.get("num_deleted", "0"), 0, count, "num_deleted")
    _sure(all(len(_numbers(tree[name])) == count for name in _PER_NODE if name in tree), "an array's length is wrong")
    _sure({"default_left", "split_conditions", "parents", "base_weights"} <= set(tree), "an array is missing")
    columns = _integers(tree["split_indices"])
    inner = left != -1
    _sure(len(columns) == count and ((columns >= 0) & (columns < features)).all(), "a split's column is not there")
    _sure(not _integers(tree.get("split_type", [])).any(), _CATEGORICAL)
    _sure(not any(len(tree.get(name, [])) for name in _CATEGORIES), _CATEGORICAL)
    below = np.concatenate([left[inner], right[inner]])
    sound = ((below > 0) & (below < count)).all() and len(np.unique(below)) == len(below)
    _sure(sound, "a node's child is not there, or has two parents")
    _check_parents(_integers(tree["parents"]), left, right, inner)
    _check_leaves(tree, right[~inner], width, count)


def _check_parents(parents: Any, left: Any, right: Any, inner: Any) -> None:
    at = np.flatnonzero(inner)
    _sure((parents[left[at]] == at).all() and (parents[right[at]] == at).all(), "a node's parent is another")


def _check_leaves(tree: dict[str, Any], leaf: Any, width: int, count: int) -> None:
    weights = len(_numbers(tree["base_weights"]))
    if width == 1:
        _sure(weights == count, "base_weights' number is wrong")
        return
    stored = len(_numbers(tree["leaf_weights"]))
    _sure(weights in (0, count * width) and stored % width == 0, "leaf_weights' number is wrong")
    _sure(((leaf >= 0) & (leaf < stored // width)).all(), "a leaf's weights are not there")


def _integers(values: Any) -> Any:
    array = np.asarray(values) if len(values) else np.empty(0, "int64")
    _sure(array.ndim == 1 and array.dtype.kind in "iub", "an array is not of whole numbers")
    return array.astype("int64")


def _numbers(values: Any) -> Any:
    array = np.asarray(values) if len(values) else np.empty(0)
    _sure(array.ndim == 1 and array.dtype.kind in "iubf", "an array is not of numbers")
    return array
