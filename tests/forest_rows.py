"""Tree ensembles to compare with their library: what they are trained on, and rows around all of their thresholds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from foretell.batch import Batch
from foretell.models.sklearn import parts

ROWS = 100_000
TRAINED = 500
TIE = 2**60 + 2**36 + 1
"""Rounded to float32 at once, it is 2 ** 60 + 2 ** 37; by way of float64, 2 ** 60."""

_LARGE = (3.4028234e38, -3.4028234e38, 3.4028235677973366e38, 1e39, -1e300, np.inf, -np.inf, np.nan)
_WHOLE = (0, -1, 3, 2**24 + 1, 2**53 + 1, 2**60, TIE, -TIE, 2**60 + 2**37)
ODD: dict[str, tuple[Any, ...]] = {
    "double": (0.0, -0.0, 5e-324, -5e-324, 1e-40, -1e-45, 1e30, *_LARGE),
    "float": (0.0, -0.0, 1e-40, -1e-45, 1e30, *_LARGE),
    "long": _WHOLE,
    "integer": (0, -1, 2**24 + 1, 2**31 - 1),
    "boolean": (False, True),
    "string": ("a", "bb", "ccc", "never met", "", None),
}
DTYPES = {"double": "f8", "float": "f4", "long": "i8", "integer": "i4", "boolean": "?", "string": "O"}

Target = Callable[[np.ndarray], Any]
"""What is learnt, of a score for each row."""


def two(score: np.ndarray) -> np.ndarray:
    return np.where(score > 0.5, "yes", "no")


def half(score: np.ndarray) -> np.ndarray:
    return score > np.median(score)


def three(score: np.ndarray) -> np.ndarray:
    return np.array(["a", "bb", "ccc"], object)[np.digitize(score, [-1, 1])]


def twelve(score: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(score)) * 12 // len(score) + 3


def one(score: np.ndarray) -> np.ndarray:
    return np.zeros(len(score), int)


def number(score: np.ndarray) -> np.ndarray:
    return score


def positive(score: np.ndarray) -> np.ndarray:
    return np.exp(score / 3)


def numbers(score: np.ndarray) -> np.ndarray:
    return np.stack([score, np.sin(score) - 3], axis=1)


def classes(score: np.ndarray) -> np.ndarray:
    return np.stack([np.digitize(score, [-1, 1]), score > 0, score * 0], axis=1).astype(int)


def labels(score: np.ndarray) -> np.ndarray:
    return np.stack([score > 0, score > 1], axis=1).astype(int)


@dataclass(frozen=True)
class Case:
    """A model, what it learns, and the types of its columns. missing: whether some cells are where it is trained.
    frame: whether it is trained on one."""

    name: str
    model: Any
    target: Target = number
    kinds: tuple[str, ...] = ("double",) * 6
    missing: bool = False
    frame: bool = False

    def fitted(self) -> tuple[Any, list[np.ndarray]]:
        """The model, and the columns that it was trained on."""
        dice = np.random.default_rng(1)
        cells = [_trained(kind, dice, at) for at, kind in enumerate(self.kinds)]
        score = sum((_numbers(column) for column in cells), start=np.zeros(TRAINED)) + dice.normal(size=TRAINED) / 9
        if self.missing:
            for column in cells:
                column[dice.random(TRAINED) < 0.2] = None if column.dtype == object else np.nan
        given: Any = np.column_stack(cells)
        if self.frame:
            given = pd.DataFrame({f"c{at}": column for at, column in enumerate(cells)})
        return self.model.fit(given, self.target(score)), cells


def _trained(kind: str, dice: np.random.Generator, at: int) -> np.ndarray:
    if kind in ("double", "float"):
        scale = (1.0, 0.25, 30.0)[at % 3]
        cells = dice.normal(size=TRAINED) * scale
        return (np.round(cells, 1) if at % 2 else cells).astype(DTYPES[kind])
    values = {"long": _WHOLE, "integer": range(-3, 9), "boolean": (0, 1), "string": ("a", "bb", "ccc", "dd")}[kind]
    return dice.choice(np.array(values, DTYPES[kind]), TRAINED)


def _numbers(column: np.ndarray) -> np.ndarray:
    """A column's share in what is learnt."""
    _, places = np.unique(column, return_inverse=True)
    return (places - places.mean()) / places.std() * (1 + column.dtype.itemsize % 3)


def thresholds(fitted: Any) -> np.ndarray:
    """Where the model's splits are, of any column, but those on missing cells."""
    found = [np.array([0.5])]
    for part in parts(fitted):
        if hasattr(part, "tree_"):
            found.append(part.tree_.threshold[part.tree_.children_left >= 0])
        for tree in (tree for stage in getattr(part, "_predictors", ()) for tree in stage):
            found.append(tree.nodes["num_threshold"][tree.nodes["is_leaf"] == 0])
    each = np.unique(np.concatenate(found))
    return each[np.isfinite(each)]


def near(values: np.ndarray) -> np.ndarray:
    """Finite values, their neighbours among doubles and among floats, and where a double begins to be another float."""
    single = values.astype("f4")
    floats = [np.nextafter(single, np.float32(side)) for side in (-np.inf, np.inf)] + [single]
    doubles = [values, *(each.astype("f8") for each in floats), *((values + each) / 2 for each in floats)]
    beside = [np.nextafter(each, side) for each in doubles for side in (-np.inf, np.inf)]
    return np.concatenate([*doubles, *beside])


def drawn(cells: list[np.ndarray], kinds: tuple[str, ...], edges: np.ndarray, odd: Any, rows: int) -> Batch:
    """Rows of which half the numbers are as trained on or between them, and the others near thresholds, or odd."""
    dice = np.random.default_rng(2)
    columns = []
    for column, kind, chosen in zip(cells, kinds, odd, strict=True):
        made = column[dice.integers(0, len(column), rows)]
        if kind in ("double", "float"):
            made = np.where(dice.random(rows) < 0.5, made, dice.choice(edges, rows).astype(made.dtype))
        if len(chosen):
            made = np.where(dice.random(rows) < 0.1, dice.choice(np.array(chosen, made.dtype), rows), made)
        columns.append(made)
    return _batch(columns, kinds)


def _batch(columns: list[np.ndarray], kinds: tuple[str, ...]) -> Batch:
    if len(set(kinds)) == 1 and kinds[0] != "string":
        return Batch.of(np.stack(columns, axis=1))
    return Batch(len(columns[0]), columns)


def special(cells: list[np.ndarray], kinds: tuple[str, ...]) -> tuple[Batch, list[tuple[int, Any]]]:
    """Rows as trained on but for one odd cell each, and which one that is."""
    places = [(at, value) for at, kind in enumerate(kinds) for value in ODD[kind]]
    columns = [column[np.arange(len(places)) % 7].copy() for column in cells]
    present = [column[column == column][0] for column in cells]
    for column, full in zip(columns, present, strict=True):
        column[[cell != cell or cell is None for cell in column.tolist()]] = full
    for row, (at, value) in enumerate(places):
        columns[at][row] = value
    return _batch(columns, kinds), places
