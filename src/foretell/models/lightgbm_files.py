"""LightGBM's model text, read and checked before the library sees it: it parses trees in threads where an error ends
the process, and follows every index.

Source of the format: GBDT::LoadModelFromString and Tree::Tree of https://github.com/microsoft/LightGBM.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from foretell.errors import ModelUnreadable

_MOST = 1 << 20
_INTEGERS = re.compile(r"[-+0-9 ]*", re.ASCII)
_FLOATS = re.compile(r"[-+0-9.eEinfa ]*", re.ASCII)
_KEY = re.compile(r"\w+", re.ASCII)
"""The library passes over what stands before a name, and would take a line that is none for another one's."""
_BY_SPLIT = ("split_gain", "internal_value", "internal_weight", "internal_count")
_BY_LEAF = ("leaf_weight", "leaf_count")


def read(data: bytes, path: Path) -> str:
    """The text of a model file, checked. Raises ModelUnreadable."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ModelUnreadable(f"{path} is not LightGBM's text: byte {error.start} is not UTF-8") from error
    return check(text, path)


def check(text: object, path: Path) -> str:
    """The text, if every tree is one and every index points at something; without what only training needs, which the
    library reads trustingly too. Raises ModelUnreadable."""
    try:
        if not isinstance(text, str):
            raise _Wrong("it holds no text")
        return _check(text)
    except _Wrong as wrong:
        raise ModelUnreadable(f"{path} is not a sound LightGBM model: {wrong}") from wrong
    except (ValueError, KeyError, IndexError, OverflowError, RecursionError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise ModelUnreadable(f"{path} is not a readable LightGBM model: {type(error).__name__}: {reason}") from error


class _Wrong(ValueError):
    """The text can be read, and does not hold together."""


def _sure(holds: Any, what: str) -> None:
    if not holds:
        raise _Wrong(what)


def _check(text: str) -> str:
    _sure(text.startswith("tree\n"), "its first line is not 'tree'")
    _sure("\0" not in text and "\r" not in text, "it holds bytes that no model has")
    data = text.encode()
    start = data.find(b"\nTree=") + 1
    _sure(start, "it has no trees")
    head = _pairs(data[:start].decode())
    features = _whole(head["max_feature_idx"], 0, _MOST) + 1
    names = head["feature_names"].split(" ")
    _sure(len(names) == features and all(names), "feature_names do not fit max_feature_idx")
    _sure(len(head["feature_infos"].split()) == features, "feature_infos do not fit max_feature_idx")
    groups = _whole(head["num_tree_per_iteration"], 1, _MOST)
    _sure(groups == _whole(head["num_class"], 1, _MOST), "num_class is not num_tree_per_iteration")
    _check_objective(head.get("objective", "").split(), groups)
    sizes = _integers(head["tree_sizes"])
    _sure(len(sizes) % groups == 0 and (sizes > 0).all(), "tree_sizes are wrong")
    for number, size in enumerate(sizes.tolist()):
        _sure(data.startswith(b"Tree=%d\n" % number, start), f"tree {number} does not stand where tree_sizes says")
        _sure(start + size <= len(data), f"tree {number} is cut off")
        _check_tree(_pairs(data[start : start + size].decode()), features)
        start += size
    _sure(data.startswith(b"end of trees\n", start), "the trees do not end where tree_sizes says")
    return f"{data[:start].decode()}end of trees\n\n{_CATEGORIES}{json.dumps(_categories(text))}\n"


_CATEGORIES = "pandas_categorical:"


def _categories(text: str) -> list[Any]:
    """The categories that pandas' columns had; the last line holds them."""
    last = text.rstrip("\n").rpartition("\n")[2]
    found = json.loads(last.removeprefix(_CATEGORIES)) if last.startswith(_CATEGORIES) else None
    _sure(found is None or isinstance(found, list), "pandas_categorical is no list")
    return found or []


def _check_objective(words: list[str], groups: int) -> None:
    """An objective with classes writes as many scores as it says."""
    stated = [word.partition(":")[2] for word in words if word.startswith("num_class:")]
    several = bool(words) and words[0] in ("multiclass", "multiclassova")
    _sure(stated == [str(groups)] if several else not stated, "its objective's num_class is another")


def _pairs(text: str) -> dict[str, str]:
    lines = [line.partition("=") for line in text.split("\n") if line]
    found = {key: value for key, _, value in lines}
    _sure(len(found) == len(lines), "a line comes twice")
    _sure(all(_KEY.fullmatch(key) for key in found), "a line begins with no name")
    return found


def _check_tree(tree: dict[str, str], features: int) -> None:
    leaves = _whole(tree["num_leaves"], 1, _MOST)
    splits = leaves - 1
    _sure(len(_floats(tree["leaf_value"])) == leaves, "leaf_value's number is wrong")
    for names, count in ((_BY_SPLIT, splits), (_BY_LEAF, leaves)):
        short = [
            name for name in names if name in tree and len(_floats(tree[name])) not in ((count,) if count else (0, 1))
        ]
        _sure(not short, f"{', '.join(short)}: their number is wrong")
    if tree.get("is_linear", "0") != "0":
        _check_linear(tree, leaves, features)
    if not splits:
        return
    columns, kinds = _integers(tree["split_feature"]), _integers(tree["decision_type"])
    thresholds = _floats(tree["threshold"])
    left, right = _integers(tree["left_child"]), _integers(tree["right_child"])
    lengths = {len(array) for array in (columns, kinds, thresholds, left, right)}
    _sure(lengths == {splits}, "an array's length is wrong")
    _sure(((columns >= 0) & (columns < features)).all(), "a split's column is not there")
    below = np.concatenate([left, right])
    _sure(((below != 0) & (below < splits) & (below >= -leaves)).all(), "a split's child is not there")
    _sure(len(np.unique(below)) == len(below), "a split's child has two parents")
    _check_categories(tree, kinds, thresholds)


def _check_categories(tree: dict[str, str], kinds: Any, thresholds: Any) -> None:
    """A categorical split's threshold is the number of a set of bits."""
    _sure(((kinds >= 0) & (kinds < 16)).all(), "decision_type is wrong")
    count = _whole(tree["num_cat"], 0, _MOST)
    categorical = thresholds[(kinds & 1) == 1]
    if not count:
        _sure(not len(categorical), "a categorical split has no categories")
        return
    bounds, bits = _integers(tree["cat_boundaries"]), _integers(tree["cat_threshold"])
    sound = len(bounds) == count + 1 and bounds[0] == 0 and bounds[-1] == len(bits) and (np.diff(bounds) >= 0).all()
    _sure(sound and ((bits >= 0) & (bits < 1 << 32)).all(), "its categories are wrong")
    known = np.isfinite(categorical) & (categorical >= 0) & (categorical < count)
    _sure(
        known.all() and (categorical == np.floor(categorical)).all(), "a categorical split's categories are not there"
    )


def _check_linear(tree: dict[str, str], leaves: int, features: int) -> None:
    _sure(tree["is_linear"] == "1" and len(_floats(tree["leaf_const"])) == leaves, "leaf_const is wrong")
    counts, columns = _integers(tree["num_features"]), _integers(tree["leaf_features"])
    _sure(len(counts) == leaves and (counts >= 0).all() and counts.sum() == len(columns), "leaf_features are wrong")
    _sure(((columns >= 0) & (columns < features)).all(), "a leaf's column is not there")
    _sure(len(_floats(tree["leaf_coeff"])) == len(columns), "leaf_coeff's number is wrong")


def _whole(text: str, low: int, high: int) -> int:
    _sure(text.isascii() and text.isdigit() and low <= int(text) <= high, f"{text[:20]!r} is out of range")
    return int(text)


def _integers(text: str) -> Any:
    _sure(_INTEGERS.fullmatch(text), "an array is not of whole numbers")
    return np.array([int(word) for word in text.split()], "int64")


def _floats(text: str) -> Any:
    _sure(_FLOATS.fullmatch(text), "an array is not of numbers")
    return np.array([float(word) for word in text.split()], "float64")
