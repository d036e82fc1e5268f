"""Where a model's answers change: per column the values that it knows, and where its numbers usually lie. Read from the
loaded model's own attributes, so that rows to verify an engine with can be drawn close to them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from foretell.models.engine import Engine

_MOST = 50_000


@dataclass
class Landmarks:
    """Of one column. values: thresholds and categories, as the model holds them. center, scale: of its numbers."""

    values: list[Any] = field(default_factory=list)
    center: float = 0.0
    scale: float | None = None


def of(engine: Engine, columns: int) -> list[Landmarks]:
    """Landmarks by column, in the engine's order; empty ones where the model tells nothing."""
    found = [Landmarks() for _ in range(columns)]
    model = getattr(engine, "model", None)
    module = type(engine).__module__.rpartition(".")[2]
    if module == "sklearn":
        _of_estimator(model, list(range(columns)), found)
    elif module == "xgboost":
        booster = getattr(model, "get_booster", lambda: model)()
        _of_nodes(_xgboost_nodes(booster), found)
    elif module == "lightgbm":
        booster = getattr(model, "booster_", model)
        _of_nodes(_lightgbm_nodes(booster), found)
    return found


def _of_estimator(part: Any, columns: list[int], found: list[Landmarks]) -> None:
    """columns: which of the model's columns the part sees, as far as that is known."""
    if hasattr(part, "steps"):
        for _, step in part.steps:
            _of_estimator(step, columns, found)
            if hasattr(step, "transform") and not _keeps_columns(step):
                return
        return
    if hasattr(part, "transformers_"):
        names = list(map(str, getattr(part, "feature_names_in_", ())))
        for _, transformer, asked in part.transformers_:
            _of_estimator(transformer, [columns[at] for at in _positions(asked, names, len(columns))], found)
        return
    for at, categories in enumerate(getattr(part, "categories_", ())):
        if at < len(columns):
            found[columns[at]].values += list(categories)
    for means in ("statistics_", "mean_", "center_"):
        _note_numbers(getattr(part, means, None), getattr(part, "scale_", None), columns, found)
    for feature, threshold in _tree_nodes(part):
        if feature < len(columns):
            found[columns[feature]].values.append(threshold)


def _keeps_columns(step: Any) -> bool:
    """Whether a transformer's columns are those that it takes, so that what comes after is known by column too."""
    return type(step).__name__ in ("SimpleImputer",) and not getattr(step, "add_indicator", False)


def _positions(asked: Any, names: list[str], count: int) -> list[int]:
    """A transformer's columns as positions."""
    if isinstance(asked, slice):
        first, last = (names.index(end) if isinstance(end, str) else end for end in (asked.start, asked.stop))
        inclusive = isinstance(asked.stop, str)
        return list(range(count))[slice(first, last + 1 if inclusive else last, asked.step)]
    if isinstance(asked, str):
        asked = [asked]
    if np.isscalar(asked):
        asked = [asked]
    listed = list(asked)
    if listed and isinstance(listed[0], bool | np.bool_):
        return [at for at, there in enumerate(listed) if there]
    return [names.index(one) if isinstance(one, str) else int(one) % count for one in listed]


def _note_numbers(means: Any, scales: Any, columns: list[int], found: list[Landmarks]) -> None:
    if not isinstance(means, np.ndarray) or len(means) != len(columns) or means.dtype.kind != "f":
        return
    for at, column in enumerate(columns):
        if np.isfinite(means[at]):
            found[column].center = float(means[at])
            if isinstance(scales, np.ndarray) and len(scales) == len(columns) and np.isfinite(scales[at]):
                found[column].scale = float(scales[at])


def _tree_nodes(part: Any) -> Iterator[tuple[int, float]]:
    """(column, threshold) of every inner node of scikit-learn's trees."""
    waiting, left = [part], _MOST
    while waiting and left > 0:
        one = waiting.pop()
        if isinstance(one, list | tuple | np.ndarray):
            waiting.extend(one)
        elif (tree := getattr(one, "tree_", None)) is not None:
            inner = tree.children_left >= 0
            left -= int(inner.sum())
            yield from zip(tree.feature[inner].tolist(), tree.threshold[inner].tolist(), strict=True)
        elif type(one).__name__ == "TreePredictor":
            nodes = one.nodes[~one.nodes["is_leaf"].astype(bool)]
            left -= len(nodes)
            yield from zip(nodes["feature_idx"].tolist(), nodes["num_threshold"].tolist(), strict=True)
        else:
            waiting += [
                found for name in ("estimators_", "_predictors") if (found := getattr(one, name, None)) is not None
            ]


def _of_nodes(nodes: Iterator[tuple[int, Any]], found: list[Landmarks]) -> None:
    for at, (feature, threshold) in enumerate(nodes):
        if at == _MOST:
            return
        if 0 <= feature < len(found):
            found[feature].values.append(threshold)


def _xgboost_nodes(booster: Any) -> Iterator[tuple[int, float]]:
    """Source of the layout: https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html."""
    stored = json.loads(booster.save_raw("json"))
    trees = stored["learner"]["gradient_booster"]
    trees = trees.get("gbtree", trees).get("model", {}).get("trees", [])
    for tree in trees:
        for feature, threshold, left in zip(
            tree["split_indices"], tree["split_conditions"], tree["left_children"], strict=True
        ):
            if left >= 0:
                yield int(feature), float(threshold)


def _lightgbm_nodes(booster: Any) -> Iterator[tuple[int, float]]:
    for tree in booster.dump_model()["tree_info"]:
        waiting = [tree["tree_structure"]]
        while waiting:
            node = waiting.pop()
            if "split_feature" in node:
                if isinstance(node["threshold"], int | float):
                    yield int(node["split_feature"]), float(node["threshold"])
                waiting += [node["left_child"], node["right_child"]]
