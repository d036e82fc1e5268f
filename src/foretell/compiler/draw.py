"""Rows to verify an engine with: drawn from the signature, and close to where the model's answers change."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from foretell.batch import Batch
from foretell.cells import Column
from foretell.columns import build
from foretell.models import landmarks
from foretell.models.landmarks import Landmarks
from foretell.predictor import Predictor

ROWS = 10_000
"""At least so many rows that the library answers are compared."""

_DRAWN, _NULLS, _EXTREMES, _UNSEEN, _PAIRS, _MOST_THRESHOLDS = 9_000, 900, 900, 400, 250, 3_000
_LARGEST_ROW, _FEW = 4096, 64
"""Of rows with more cells, as images are, a few are drawn."""
_MOST_LABELS, _MOST_CALLS = 50, 500
_TRIED, _MOST_OF_THEM = 100, 0.9
_FLOATS = (
    *(0.0, -0.0, 5e-324, -5e-324, 2.2250738585072014e-308, 1e-300, 1.0, -1.0, 0.1, 1e-45, -1e-45, 1.4e-45),
    *(2.0**53, 2.0**53 + 2, -(2.0**63), 1e16, 3.4028234663852886e38, 3.4028235677973366e38, -3.5e38, 1e39),
    *(1e300, -1e300, 1.7976931348623157e308, -1.7976931348623157e308, 16777217.0, 255.0, 256.0, -2147483648.0),
)
_WORDS = (
    "",
    " ",
    "a",
    "00501",
    "NA",
    "nan",
    "None",
    "0",
    "1.0",
    "true",
    "ß",
    "Ünïcödé",
    "日本語",
    "🦔🌲",
    "e\u0301",
    "A\u200d",
)


@dataclass(frozen=True)
class Rows:
    """Rows by how they were made. enough: how many of them the library should answer."""

    kinds: dict[str, Batch]
    enough: int = ROWS

    def __len__(self) -> int:
        return sum(batch.rows for batch in self.kinds.values())


def draw(native: Predictor, label: Callable[[Batch], np.ndarray]) -> Rows:
    """Rows for a loaded model. label: which answer a row gets, as a number; -1 where it is refused."""
    chance = np.random.default_rng(20)
    columns = native.signature.inputs
    order = native.engine_order
    marks = [Landmarks() for _ in columns]
    for at, found in zip(order, landmarks.of(native.engine, len(order)), strict=True):
        marks[at] = found
    cells = sum(int(np.prod(column.shape or (1,))) for column in columns)
    small = abs(cells) <= _LARGEST_ROW
    draws = _Draws(columns, marks, chance)
    if small:
        draws = _answered_most(draws, label)
    kinds = {"example": native.example(), "drawn": draws.rows(_DRAWN if small else _FEW)}
    if any(column.nullable for column in columns):
        kinds["nulls"] = draws.rows(_NULLS if small else _FEW, draws.holed)
    kinds["extremes"] = draws.rows(_EXTREMES if small else _FEW, draws.extreme)
    if any(column.cell.kind == "text" for column in columns):
        kinds["unseen words"] = draws.rows(_UNSEEN, draws.unseen)
    if small and (thresholds := draws.around_thresholds()) is not None:
        kinds["one ulp around thresholds"] = thresholds
    if small and (boundary := around_boundary(kinds["drawn"], label, chance)) is not None:
        kinds["one ulp around the boundary"] = boundary
    return Rows(kinds, ROWS if small else 1)


def _answered_most(draws: "_Draws", label: Callable[[Batch], np.ndarray]) -> "_Draws":
    """The first way to draw numbers of which the library answers most, else the way of which it answers the most."""
    best, most = draws, -1.0
    for way in (draws, draws.known(), draws.tamed(np.abs), draws.tamed(_counts)):
        if (share := float(np.mean(label(way.rows(_TRIED)) >= 0))) > most:
            best, most = way, share
        if share >= _MOST_OF_THEM:
            break
    return best


class _Draws:
    """Cells by column, as the cell grammar would have made them."""

    def __init__(
        self,
        columns: tuple[Column, ...],
        marks: list[Landmarks],
        chance: np.random.Generator,
        tame: Callable[[np.ndarray], np.ndarray] = lambda numbers: numbers,
        *,
        invent: bool = True,
    ) -> None:
        self._columns = columns
        self._marks = marks
        self._chance = chance
        self._tame = tame
        self._invent = invent

    def tamed(self, tame: Callable[[np.ndarray], np.ndarray]) -> "_Draws":
        """The same with other numbers: where the model refuses negative ones, or all but small whole ones."""
        return _Draws(self._columns, self._marks, self._chance, tame)

    def known(self) -> "_Draws":
        """The same with numbers that the model knows alone, where it knows some: it may refuse all others."""
        return _Draws(self._columns, self._marks, self._chance, self._tame, invent=False)

    def rows(self, count: int, change: Callable[[Column, list[Any]], list[Any]] | None = None) -> Batch:
        """count rows. change: what becomes of a column's plain cells."""
        arrays = []
        for column, marks in zip(self._columns, self._marks, strict=True):
            size = int(np.prod(column.shape or (1,)))
            cells = self._plain(column, marks, count * max(size, 1))
            array = build(change(column, cells) if change else cells, column)
            arrays.append(array.reshape(count, *(abs(s) for s in column.shape)) if column.shape else array)
        return Batch(count, arrays)

    def _plain(self, column: Column, marks: Landmarks, count: int) -> list[Any]:
        """Cells as they usually are."""
        kind, chance = column.cell.kind, self._chance
        if kind == "text":
            known = [value for value in marks.values if isinstance(value, str)] or list(_WORDS[2:])
            return [known[at] for at in chance.integers(0, len(known), count)]
        if kind == "binary":
            return [chance.bytes(int(size)) for size in chance.integers(0, 20, count)]
        if kind == "bool":
            return list(chance.random(count) < 0.5)
        if kind == "datetime":
            return list(np.datetime64("2000-01-01", "ns") + chance.integers(0, 10**18, count).astype("timedelta64[ns]"))
        numbers = self._tame(self._numbers(marks, count))
        if kind == "int":
            ends = max(column.cell.low, -(2**53)), min(column.cell.high, 2**53)
            return [int(number) for number in np.clip(np.rint(numbers), *ends)]
        largest = float(np.finfo(column.cell.dtype).max)
        return [float(number) for number in np.clip(numbers, -largest, largest).astype(column.cell.dtype)]

    def _numbers(self, marks: Landmarks, count: int) -> np.ndarray:
        chance = self._chance
        known = np.array([v for v in marks.values if isinstance(v, int | float | np.number) and np.isfinite(v)], float)
        if marks.scale is not None:
            return marks.center + marks.scale * chance.normal(size=count) * np.where(chance.random(count) < 0.1, 10, 1)
        if len(known) > 1:
            if not self._invent:
                return chance.choice(known, count)
            low, high = np.quantile(known, [0.02, 0.98])
            wide = (high - low) or abs(low) or 1.0
            return np.where(
                chance.random(count) < 0.3,
                chance.choice(known, count),
                chance.uniform(low - wide / 5, high + wide / 5, count),
            )
        wide = np.where(chance.random(count) < 0.5, 1.0, 10.0 ** chance.uniform(-3, 3, count))
        return marks.center + chance.normal(size=count) * wide * 3

    def holed(self, column: Column, cells: list[Any]) -> list[Any]:
        if not column.nullable or column.shape:
            return cells
        share = self._chance.choice([0.02, 0.2, 0.6])
        return [
            None if hole else cell for cell, hole in zip(cells, self._chance.random(len(cells)) < share, strict=True)
        ]

    def extreme(self, column: Column, cells: list[Any]) -> list[Any]:
        """About one cell in ten at an end of its range, or where numbers are odd."""
        kind = column.cell.kind
        if kind == "float":
            ends = np.array([v for v in _FLOATS if abs(v) <= float(np.finfo(column.cell.dtype).max)]).tolist()
        elif kind == "int":
            ends = [column.cell.low, column.cell.high, 0, -1, 1, 255, 256, min(2**31, column.cell.high)]
            ends = [end for end in ends if column.cell.low <= end]
        elif kind == "text":
            ends = ["", " ", "x" * 300, "\U0010ffff", "ﬀ", "İ", "\ufeff"]
        else:
            return cells
        picked = self._chance.random(len(cells)) < 0.1
        return [
            ends[int(self._chance.integers(len(ends)))] if pick else cell
            for cell, pick in zip(cells, picked, strict=True)
        ]

    def unseen(self, column: Column, cells: list[Any]) -> list[Any]:
        if column.cell.kind != "text":
            return cells
        words = [*_WORDS, *(f"{cell} " for cell in cells[:20]), *(str(cell).upper() for cell in cells[:20])]
        picked = self._chance.random(len(cells)) < 0.3
        return [
            words[int(self._chance.integers(len(words)))] if pick else cell
            for cell, pick in zip(cells, picked, strict=True)
        ]

    def around_thresholds(self) -> Batch | None:
        """Rows of which one cell is at a threshold, or next to it on either side, as a double and as a float."""
        places = [
            (at, float(value))
            for at, (column, marks) in enumerate(zip(self._columns, self._marks, strict=True))
            if column.cell.kind == "float" and not column.shape
            for value in dict.fromkeys(marks.values)
            if isinstance(value, float | np.floating) and np.isfinite(value)
        ]
        if not places:
            return None
        if len(places) * 5 > _MOST_THRESHOLDS:
            places = [places[int(at)] for at in self._chance.choice(len(places), _MOST_THRESHOLDS // 5, replace=False)]
        rows = self.rows(len(places) * 5)
        for row, (at, value) in enumerate(place for place in places for _ in range(5)):
            column = rows.columns[at]
            single = np.float32(np.clip(value, -3.4e38, 3.4e38))
            near = (
                value,
                np.nextafter(value, np.inf),
                np.nextafter(value, -np.inf),
                np.nextafter(single, np.float32(np.inf)),
                np.nextafter(single, np.float32(-np.inf)),
            )
            column[row] = near[row % 5]
        return Batch(rows.rows, rows.columns)


def _counts(numbers: np.ndarray) -> np.ndarray:
    """Small whole numbers, not negative."""
    counts: np.ndarray = np.floor(np.abs(numbers)) % 3
    return counts


def around_boundary(rows: Batch, label: Callable[[Batch], np.ndarray], chance: np.random.Generator) -> Batch | None:
    """Rows on either side of where the answer changes, one ulp apart, found by bisecting between rows of different
    answers; None where no column is a double, where all answers are alike, or nearly each row has its own."""
    doubles = [at for at, column in enumerate(rows.columns) if column.dtype == "float64" and column.ndim == 1]
    if not doubles:
        return None
    rows = rows[: 4 * _PAIRS]
    answers = label(rows)
    if len(np.unique(answers)) > _MOST_LABELS:
        return None
    one, other = chance.permutation(rows.rows), chance.permutation(rows.rows)
    both = (answers[one] >= 0) & (answers[other] >= 0)
    pairs = np.flatnonzero((answers[one] != answers[other]) & both)[:_PAIRS]
    if not len(pairs):
        return None
    one, other = one[pairs], other[pairs]
    low = [column[one].copy() for column in rows.columns]
    high = [column[other].copy() if at in doubles else column[one].copy() for at, column in enumerate(rows.columns)]
    first = label(Batch(len(one), low))
    last = label(Batch(len(one), high))
    apart = np.flatnonzero((first != last) & (last >= 0))
    if not len(apart):
        return None
    low, high, first = [c[apart] for c in low], [c[apart] for c in high], first[apart]
    calls = 0
    for at in doubles:
        if calls < _MOST_CALLS:
            calls += _bisect(low, high, at, doubles, first, label)
    return Batch.concat([Batch(len(first), low), Batch(len(first), high)])


def _bisect(
    low: list[np.ndarray],
    high: list[np.ndarray],
    at: int,
    doubles: list[int],
    first: np.ndarray,
    label: Callable[[Batch], np.ndarray],
) -> int:
    """Moves one column of the pairs together as far as the answers stay apart; a pair whose answers hang on this column
    alone then differs by one ulp of it. In place; returns the calls that it took."""
    target = low[at].copy()
    trial = [column.copy() for column in high]
    trial[at] = target
    answers = label(Batch(len(first), trial))
    same, apart = answers == first, (answers != first) & (answers >= 0)
    high[at][apart] = target[apart]
    if not same.any():
        return 1
    calls, near, far = 1, low[at].copy(), high[at].copy()
    while True:
        middle = near + (far - near) / 2
        if ((middle == near) | (middle == far) | ~same).all() or calls > _MOST_CALLS:
            break
        calls += 1
        trial = [column.copy() for column in high]
        trial[at] = np.where(same, middle, high[at])
        answers = label(Batch(len(first), trial))
        like_first, same = answers == first, same & (answers >= 0)
        near = np.where(same & like_first, middle, near)
        far = np.where(same & ~like_first, middle, far)
    low[at] = np.where(same, near, low[at])
    high[at] = np.where(same, far, high[at])
    for other in doubles:
        if other != at:
            low[other] = np.where(same, high[other], low[other])
    return calls
