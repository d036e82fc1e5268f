"""Ensembles of trees as ONNX's one operator for them, on doubles: decisions and sums as the libraries compute them."""

from collections.abc import Iterable, Sequence

import numpy as np

from foretell.conversion.graph import Graph
from foretell.trees.tree import Tree

LESS_OR_EQUAL, LESS = 0, 1


def summed(
    graph: Graph, value: str, trees: Sequence[Tree], targets: Iterable[int], dtype: str = "float64", mode: int = 0
) -> str:
    """The leaves' values of all trees, summed in order for each target; value and sum are of that dtype.

    targets: the column that each tree counts for, from 0. Answers with shape (rows, targets).
    """
    columns = list(targets)
    splits, places = _joined(trees)
    weights = np.concatenate([tree.leaves.reshape(-1) for tree in trees]).astype(dtype)
    owners = np.repeat(columns, [len(tree.leaves) for tree in trees])
    return graph.add(
        "TreeEnsemble",
        value,
        domain="ai.onnx.ml",
        n_targets=max(columns) + 1,
        aggregate_function=1,
        post_transform=0,
        tree_roots=places,
        nodes_modes=np.full(len(splits["featureids"]), mode, "uint8"),
        nodes_splits=splits.pop("splits").astype(dtype),
        leaf_weights=weights,
        leaf_targetids=owners.tolist(),
        **{f"nodes_{name}": array.astype("int64").tolist() for name, array in splits.items()},
    )


def looked_up(graph: Graph, value: str, trees: Sequence[Tree]) -> str:
    """The sum of all trees' leaves where each has k values, shape (rows, k): the operator's leaves have one value, so
    it answers with the leaf's number, and the values are looked up."""
    counts = [len(tree.leaves) for tree in trees]
    first = np.cumsum([0, *counts[:-1]])
    numbered = [
        Tree(t.feature, t.threshold, t.missing_left, t.left, t.right, start + np.arange(count, dtype="float64"))
        for t, start, count in zip(trees, first, counts, strict=True)
    ]
    leaves = graph.cast(summed(graph, value, numbered, range(len(trees))), "int64")
    values = graph.constant(np.concatenate([tree.leaves for tree in trees]), "float64")
    return graph.add("ReduceSum", graph.add("Gather", values, leaves), graph.constant([1]), keepdims=0)


def _joined(trees: Sequence[Tree]) -> tuple[dict[str, np.ndarray], list[int]]:
    """All trees' splits in one row, and each tree's root. A tree of one leaf becomes a split with it on both sides."""
    parts: dict[str, list[np.ndarray]] = {}
    roots, leaves = [], 0
    count = 0
    for tree in trees:
        lone = not len(tree.feature)
        left, right = (np.array([~0]) if lone else side for side in (tree.left, tree.right))
        for name, array in {
            "featureids": np.zeros(1) if lone else tree.feature,
            "splits": np.zeros(1) if lone else tree.threshold,
            "missing_value_tracks_true": np.zeros(1) if lone else tree.missing_left,
            "truenodeids": np.where(left < 0, ~left + leaves, left + count),
            "falsenodeids": np.where(right < 0, ~right + leaves, right + count),
            "trueleafs": left < 0,
            "falseleafs": right < 0,
        }.items():
            parts.setdefault(name, []).append(array)
        roots.append(count)
        count += len(left)
        leaves += len(tree.leaves)
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}, roots
