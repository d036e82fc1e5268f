"""The table of trees: what a row comes to by walking in Python, and tables that would lead a walk astray."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import fuzz_walk
from foretell.trees.forest import Forest, planted
from foretell.trees.tree import Categories, Tree, below, constant

COLUMNS = 5


def grown(numbers: np.random.Generator, splits: int, width: int = 1, **more: Any) -> Tree:
    """A tree of any shape: each split but the root hangs below one before it."""
    free = [(0, "left"), (0, "right")]
    sides = {"left": np.zeros(splits, "int64"), "right": np.zeros(splits, "int64")}
    for split in range(1, splits):
        parent, side = free.pop(numbers.integers(len(free)))
        sides[side][parent] = split
        free += [(split, "left"), (split, "right")]
    for leaf, (parent, side) in enumerate(free):
        sides[side][parent] = ~leaf
    leaves = numbers.normal(size=(len(free), width)) if width > 1 else numbers.normal(size=len(free))
    thresholds = numbers.choice([-1.5, -0.0, 0.0, 0.25, 1e-40, np.inf, -np.inf, 3e38], splits)
    return Tree(
        numbers.integers(0, COLUMNS, splits), thresholds, numbers.random(splits) < 0.5, **sides, leaves=leaves, **more
    )


def rows_of(numbers: np.random.Generator, count: int) -> np.ndarray:
    """Ordinary numbers, the thresholds and their neighbours, and what is no number."""
    rows = numbers.normal(size=(count, COLUMNS)) * 3
    odd = [np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324, 1e-36, -1e-36, 0.25, np.nextafter(0.25, 1), -1.5, 1e300, 7.0]
    chosen = numbers.random(rows.shape) < 0.4
    rows[chosen] = numbers.choice(odd, int(chosen.sum()))
    return rows


def goes_left(tree: Tree, split: int, cell: float) -> bool:
    zero = tree.zero_missing is not None and tree.zero_missing[split] and abs(cell) <= np.float32(1e-35)
    if cell != cell or zero:
        return bool(tree.missing_left[split])
    chosen = (tree.sets or {}).get(split)
    if chosen is None:
        return bool(cell <= tree.threshold[split])
    if not (-1 if chosen.toward_zero else -np.finfo("f8").smallest_subnormal) < cell < 2**32:
        return chosen.others_left
    category = int(cell)
    return category in chosen.members if category <= chosen.most | 31 else chosen.others_left


def walked(trees: list[Tree], outputs: list[int], row: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """What the table should answer, by the trees themselves."""
    sums = sums.copy()
    for tree, output in zip(trees, outputs, strict=True):
        at = 0 if len(tree.feature) else ~0
        while at >= 0:
            at = int((tree.left if goes_left(tree, at, row[tree.feature[at]]) else tree.right)[at])
        values = np.atleast_1d(tree.leaves[~at]).astype(sums.dtype)
        sums[output : output + len(values)] += values
    return sums


def numeric(numbers: np.random.Generator) -> list[Tree]:
    return [constant(0.5), *(grown(numbers, int(numbers.integers(1, 40))) for _ in range(20)), constant(-0.0)]


def wide(numbers: np.random.Generator) -> list[Tree]:
    return [grown(numbers, int(numbers.integers(1, 40)), 3) for _ in range(11)]


def special(numbers: np.random.Generator) -> list[Tree]:
    """Splits by category, and zeros that are missing, among others."""
    trees = []
    for _ in range(15):
        splits = int(numbers.integers(3, 30))
        sets = {
            int(split): Categories(numbers.choice(70, 20, replace=False).tolist(), 95, bool(split % 2), bool(split % 3))
            for split in numbers.choice(splits, splits // 3, replace=False)
        }
        trees.append(grown(numbers, splits, sets=sets, zero_missing=numbers.random(splits) < 0.3))
    return trees


@pytest.mark.parametrize(
    ("number", "sums"), [("float32", "float32"), ("float32", "float64"), ("float64", "float64")], ids=str
)
@pytest.mark.parametrize("make", [numeric, wide, special], ids=lambda make: make.__name__)
def test_a_row_comes_to_the_leaves_that_the_trees_lead_to(
    make: Callable[[np.random.Generator], list[Tree]], number: Any, sums: Any
) -> None:
    """Alone, in a few, and in many; with missing values and without; every bit of the sums."""
    numbers = np.random.default_rng(3)
    trees = make(numbers)
    outputs = [0] * len(trees) if make is wide else [at % 4 for at in range(len(trees))]
    start = np.array([0.1, -0.0, 2.5, 1e9], sums)[: 3 if make is wide else 4]
    forest = planted(trees, COLUMNS, outputs=outputs, start=start, number=number, sums=sums)
    for rows in (rows_of(numbers, 300), np.nan_to_num(rows_of(numbers, 300), nan=7.0)):
        with np.errstate(over="ignore"):
            cells = rows.astype(number)
        expected = np.array([walked(trees, outputs, row.astype("float64"), start) for row in cells])
        for count in (1, 7, 8, 21, 300):
            assert expected[:count].tobytes() == forest.sums(cells[:count]).tobytes()
        assert expected.tobytes() == b"".join(forest.sums(cells[at : at + 1]).tobytes() for at in range(300))


def test_less_than_is_at_most_the_number_before() -> None:
    """For a library that sends left what is less than a threshold."""
    tree = Tree(*map(np.array, ([0], [0.25], [False], [~0], [~1])), leaves=np.array([1.0, 2.0]))
    forest = planted([below(tree)], 1, number="float32")
    cells = np.array([[0.25], [np.nextafter(np.float32(0.25), np.float32(0))], [np.nan], [-np.inf]], "float32")
    assert [2.0, 1.0, 2.0, 1.0] == forest.sums(cells)[:, 0].tolist()


def whole() -> Forest:
    numbers = np.random.default_rng(4)
    return planted(special(numbers) + numeric(numbers), COLUMNS, outputs=[0] * 37)


def bent(name: str, at: tuple[int, ...], to: int) -> Callable[[Forest], dict[str, Any]]:
    def change(forest: Forest) -> dict[str, Any]:
        array = getattr(forest, name).copy()
        array[at] = to
        return {name: array}

    return change


STRAY: dict[str, Callable[[Forest], dict[str, Any]]] = {
    "a child before its parent": bent("nodes", (4, 3), 1),
    "a child beyond the last": bent("nodes", (4, 3), 1 << 30),
    "a child of a negative number": bent("nodes", (4, 3), -5),
    "a right child beyond the last": lambda forest: bent("nodes", (4, 3), len(forest.nodes) - 1)(forest),
    "a split that is its own child": bent("nodes", (0, 3), 0),
    "a column that is not there": bent("nodes", (0, 2), COLUMNS),
    "a root beyond the last": bent("trees", (3, 0), 1 << 30),
    "a root of a negative number": bent("trees", (3, 0), -1),
    "an output that is not there": bent("trees", (3, 1), 1),
    "an output of a negative number": bent("trees", (3, 1), -1),
    "more steps than nodes": bent("trees", (3, 2), 1 << 30),
    "leaves cut short": lambda forest: {"leaves": forest.leaves[:-1]},
    "nodes cut short": lambda forest: {"nodes": forest.nodes[:-1]},
    "nodes and leaves cut short": lambda forest: {"nodes": forest.nodes[:-1], "leaves": forest.leaves[:-1]},
    "bits cut short": lambda forest: {"bits": forest.bits[:-1]},
    "no bits": lambda forest: {"bits": forest.bits[:0]},
    "no columns": lambda forest: {"columns": 0},
    "too many columns": lambda forest: {"columns": 1 << 25},
    "nodes of another type": lambda forest: {"nodes": forest.nodes.astype("int64")},
    "leaves of another type": lambda forest: {"leaves": forest.leaves.astype("float16")},
    "numbers of another type": lambda forest: {"number": "float32"},
    "leaves of several values without slots": lambda forest: {"leaves": np.ones((len(forest.nodes), 2))},
}


@pytest.mark.parametrize("change", STRAY.values(), ids=STRAY)
def test_a_table_that_leads_astray_is_refused(change: Callable[[Forest], dict[str, Any]]) -> None:
    """A forest is checked before the first row walks in it."""
    forest = whole()
    with pytest.raises(ValueError, match="forest"):
        replace(forest, **change(forest))


def test_a_forest_takes_rows_of_its_own_width_only() -> None:
    """What does not fit is refused, not read beyond its end."""
    with pytest.raises(ValueError, match="sizes"):
        whole().sums(np.zeros((3, COLUMNS - 1)))


def test_a_split_that_nobody_leads_to_is_left_out() -> None:
    """Libraries leave pruned nodes where they were."""
    zeros, sets = np.zeros(2, "int64"), {1: Categories([1], 31)}
    forest = planted([Tree(zeros, zeros, zeros, np.array([~0, ~0]), np.array([~1, ~1]), np.ones(2), sets=sets)], 1)
    assert 3 == len(forest.nodes)


LOOPED = {
    "a loop": ([1, 0], [~0, ~1], 3),
    "a child of two": ([1, ~0], [1, ~1], 3),
    "a leaf that is not there": ([~0, ~0], [1, ~7], 3),
}


@pytest.mark.parametrize(("left", "right", "leaves"), LOOPED.values(), ids=LOOPED)
def test_what_is_no_tree_is_not_planted(left: list[int], right: list[int], leaves: int) -> None:
    """A reader's tree is looked at before it becomes a table."""
    zeros = np.zeros(2, "int64")
    with pytest.raises((ValueError, IndexError)):
        planted([Tree(zeros, np.zeros(2), zeros, np.array(left), np.array(right), np.ones(leaves))], COLUMNS)


@pytest.mark.skipif(not fuzz_walk.possible(), reason="needs gcc and its sanitizers")
def test_bent_tables_are_refused_or_walked_without_harm() -> None:
    """At random, under AddressSanitizer and UndefinedBehaviorSanitizer; the fuzzer says how many of each."""
    ran = fuzz_walk.run(1500, seed=1)
    assert 0 == ran.returncode, ran.stderr
    print(ran.stdout)
