"""Columns that go different ways: each branch takes some of them, or all, and what comes out stands side by side.

Source: scikit-learn's compose/_column_transformer.py, and pipeline.py for unions and pipelines within.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from foretell.kernels.node import Making, NotCovered, Step
from foretell.kernels.rows import NUMERIC, Frame, Hot, Rows, Sparse, numbers

Lower = Callable[[Any, Making], Step | None]
"""lower.step_of."""


@dataclass(frozen=True)
class Chain:
    """Steps one after the other."""

    steps: tuple[Step, ...]

    def transform(self, rows: Rows) -> Rows:
        for step in self.steps:
            rows = step.transform(rows)
        return rows


@dataclass(frozen=True)
class Branch:
    """columns: places of those that step takes; None for all. step: None where they pass as they are. weight: what
    the outcome is multiplied by."""

    columns: tuple[int, ...] | None
    step: Step | None
    weight: float | int | None = None

    def transform(self, rows: Rows) -> Rows:
        if self.columns is not None:
            rows = taken(rows, self.columns)
        if self.step is not None:
            rows = self.step.transform(rows)
        return rows if self.weight is None else _weighted(rows, self.weight)


@dataclass(frozen=True)
class Branches:
    """sparse: whether what comes out is kept sparse; None where it is if a part of it is."""

    branches: tuple[Branch, ...]
    sparse: bool | None

    def transform(self, rows: Rows) -> Rows:
        parts = [branch.transform(rows) for branch in self.branches]
        if self.sparse is None:
            if not any(isinstance(part, Sparse) for part in parts):
                return _dense(parts)
            if any(isinstance(part, Frame) for part in parts):
                raise NotCovered("a union of sparse columns and such of a frame")
            return _sparse(parts)
        return _sparse(parts) if self.sparse else _dense(parts)


def taken(rows: Rows, columns: tuple[int, ...]) -> Rows:
    """Some columns of rows."""
    if isinstance(rows, Frame):
        return Frame(tuple([rows.columns[at] for at in columns]), rows.objects)
    if isinstance(rows, Sparse):
        raise NotCovered("columns taken of such that are kept sparse")
    return rows[:, columns]


def _weighted(rows: Rows, weight: float | int) -> Rows:
    if isinstance(rows, Sparse):
        return Sparse((rows.dense() * weight,))
    if isinstance(rows, Frame):
        raise NotCovered("a weight of columns that pass as they are")
    weighted: np.ndarray = rows * weight
    return weighted


def _sparse(parts: list[Rows]) -> Sparse:
    flat: list[np.ndarray | Hot] = []
    for part in parts:
        flat += part.parts if isinstance(part, Sparse) else [numbers(part, keeps=NUMERIC)]
    return Sparse(tuple(flat))


def _dense(parts: list[Rows]) -> Rows:
    """As numpy's hstack, to which a frame is a matrix of its columns' common dtype."""
    parts = [part.dense() if isinstance(part, Sparse) else part for part in parts]
    if any(isinstance(part, Frame) and _is_objects(part) for part in parts):
        return Frame(tuple(column for part in parts for column in _columns(part)), objects=True)
    matrices = [numbers(part, keeps=NUMERIC) for part in parts]
    return matrices[0] if len(matrices) == 1 else np.concatenate(matrices, axis=1)


def _is_objects(frame: Frame) -> bool:
    """Whether pandas makes a matrix of objects of it: text is, and flags beside numbers are."""
    if frame.text:
        return True
    kinds = {column.dtype.kind for column in frame.columns}
    if "M" in kinds:
        raise NotCovered("dates that pass as they are")
    return "b" in kinds and len(kinds) > 1


def _columns(rows: Rows) -> Iterator[np.ndarray]:
    yield from rows.columns if isinstance(rows, Frame) else rows.T  # type: ignore[union-attr]


def transformer(estimator: Any, making: Making, lower: Lower) -> Branches:
    """From a fitted ColumnTransformer. Raises NotCovered."""
    weights = estimator.transformer_weights or {}
    branches = []
    for name, part, columns in estimator.transformers_:
        places = [int(at) for at in estimator._transformer_to_input_indices[name]]
        if part == "drop" or (not places and not isinstance(columns, slice)):
            continue
        if not places:
            raise NotCovered("ColumnTransformer with a slice of no column")
        branches.append(_branch(part, _placed(estimator, places, making), weights.get(name), making, lower))
    return _beside("ColumnTransformer", branches, bool(estimator.sparse_output_))


def union(estimator: Any, making: Making, lower: Lower) -> Branches:
    """From a fitted FeatureUnion. Raises NotCovered."""
    weights = estimator.transformer_weights or {}
    return _beside(
        "FeatureUnion",
        [
            _branch(part, None, weights.get(name), making, lower)
            for name, part in estimator.transformer_list
            if not (isinstance(part, str) and part == "drop")
        ],
        None,
    )


def chain(steps: Sequence[Any], making: Making, lower: Lower) -> list[Step]:
    """The steps of a fitted Pipeline that change something. Raises NotCovered."""
    made: list[Step] = []
    for step in steps:
        lowered = lower(step, making)
        if lowered is not None:
            made.append(lowered)
            making = replace(making, names=None)
    return made


def pipeline(estimator: Any, making: Making, lower: Lower) -> Step | None:
    """From a fitted Pipeline within another model. Raises NotCovered."""
    made = chain([step for _, step in estimator.steps], making, lower)
    if len(made) < 2:
        return made[0] if made else None
    return Chain(tuple(made))


def function(estimator: Any, making: Making) -> None:
    """From a FunctionTransformer that changes nothing. Raises NotCovered for any other."""
    if estimator.func is not None or estimator.validate:
        raise NotCovered("FunctionTransformer with a function, or that checks")


def _placed(estimator: Any, places: list[int], making: Making) -> tuple[int, ...]:
    """Where a branch's columns stand: of a frame they are picked by the names that they had at fitting."""
    names = getattr(estimator, "feature_names_in_", None)
    if names is None or making.names is None:
        return tuple(places)
    missing = [str(names[at]) for at in places if str(names[at]) not in making.names]
    if missing:
        raise NotCovered(f"ColumnTransformer of a column {missing[0]!r} that is not there")
    return tuple(making.names.index(str(names[at])) for at in places)


def _branch(
    part: Any, columns: tuple[int, ...] | None, weight: float | int | None, making: Making, lower: Lower
) -> Branch:
    if writes(part):
        raise NotCovered(f"{type(part).__name__} with copy=False beside others")
    if weight is not None and type(weight) not in (float, int):
        raise NotCovered(f"a weight that is a {type(weight).__name__}")
    names = making.names
    if columns is not None and names is not None:
        names = tuple(names[at] for at in columns)
    return Branch(columns, lower(part, replace(making, names=names)), weight)


def writes(part: Any) -> bool:
    """Whether a transformer may write into what it is given, which others are given too."""
    inner = [step for _, step in getattr(part, "steps", None) or getattr(part, "transformer_list", None) or ()]
    return getattr(part, "copy", True) is False or any(map(writes, inner))


def _beside(name: str, branches: list[Branch], sparse: bool | None) -> Branches:
    if not branches:
        raise NotCovered(f"{name} of nothing")
    return Branches(tuple(branches), sparse)
