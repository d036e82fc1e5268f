"""How a column of predictions is distributed: counts of its classes, or of numbers in narrow buckets. Those of blocks
are put together in any order with the same result.

A bucket holds the doubles that share sign, exponent and the first bits of their mantissa: it is about as wide as its
numbers times a constant, and a number's bucket costs one shift. That is DDSketch (Masson, Rim, Lee: "DDSketch: A Fast
and Fully-Mergeable Quantile Sketch with Relative-Error Guarantees", VLDB 2019) with its logarithm interpolated linearly
between powers of two; too many buckets become half as many everywhere, as in UDDSketch (Epicoco and others, 2020).
"""

import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import msgspec
import numpy as np

CLASSES = 256
"""So many distinct values are counted each; of more, numbers are counted in buckets, and texts together."""
_BUCKETS = 1024
SHIFT = 46
"""Bits that a bucket leaves out at first: of the mantissa's 52, the first 6 count."""
_QUANTILES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


class Distribution(msgspec.Struct, frozen=True):
    """A column's values. nulls: also NaN. numeric: whether they are numbers. classes: rows by value, written as text;
    None where there are too many. others: rows whose text is none of those. buckets: rows by bucket, of numbers that
    are no classes any more; shift: the bits left out. infinite: rows. low, high, total: of what is finite."""

    nulls: int = 0
    numeric: bool = True
    classes: dict[str, int] | None = msgspec.field(default_factory=dict)
    others: int = 0
    buckets: dict[int, int] = msgspec.field(default_factory=dict)
    shift: int = SHIFT
    infinite: int = 0
    low: float | None = None
    high: float | None = None
    total: float = 0.0

    @property
    def rows(self) -> int:
        """Those that are not null."""
        return self.others + self.infinite + sum((self.classes or {}).values()) + sum(self.buckets.values())

    def __add__(self, other: "Distribution") -> "Distribution":
        numeric = self.numeric and other.numeric
        counts = self.classes, other.classes
        together = Distribution(
            self.nulls + other.nulls,
            numeric,
            None,
            self.others + other.others,
            infinite=self.infinite + other.infinite,
            low=_least(min, self.low, other.low),
            high=_least(max, self.high, other.high),
            total=finite(self.total + other.total),
        )
        if counts[0] is not None and counts[1] is not None:
            joined = dict(counts[0])
            for label, rows in counts[1].items():
                joined[label] = joined.get(label, 0) + rows
            if len(joined) <= CLASSES:
                return msgspec.structs.replace(together, classes=joined)
            if not numeric:
                return first_classes(together, joined)
        if not numeric:
            texts = {**(counts[0] or {}), **(counts[1] or {})}
            return msgspec.structs.replace(together, others=self.rows + other.rows - sum(texts.values()), classes=texts)
        buckets, shift = _joined(*self.in_buckets(), *other.in_buckets())
        return msgspec.structs.replace(together, buckets=buckets, shift=shift)

    def in_buckets(self) -> tuple[dict[int, int], int]:
        """The numbers by bucket, and the bits left out."""
        if self.classes is None:
            return self.buckets, self.shift
        values = np.array([float(label) for label in self.classes])
        counts: Counter[int] = Counter()
        for bucket, rows in zip((values.view(np.int64) >> SHIFT).tolist(), self.classes.values(), strict=True):
            counts[bucket] += rows
        return narrowed(counts, SHIFT)

    def points(self) -> list[tuple[float, int]]:
        """Numbers and their rows, ascending: a bucket's by its middle."""
        if self.classes is not None:
            return sorted((float(label), rows) for label, rows in self.classes.items())
        return sorted((self._middle(bucket), rows) for bucket, rows in self.buckets.items())

    @property
    def error(self) -> float:
        """By which share a quantile may be off: half of a bucket's width by its lower end; 0 for classes."""
        return 0.0 if self.classes is not None else 2.0 ** (self.shift - 53)

    def told(self) -> dict[str, Any]:
        """For a report. bins: rows of numbers up to each edge, and above the last, edges being about the deciles."""
        told: dict[str, Any] = {"nulls": self.nulls}
        if self.classes is not None:
            told["classes"] = dict(sorted(self.classes.items(), key=_order))
            if self.others:
                told["others"] = self.others
        if self.numeric and self.low is not None:
            points = self.points()
            count = sum(rows for _, rows in points)
            told |= {"min": self.low, "max": self.high, "mean": self.total / count}
            if self.classes is None:
                cut = {f"{share:g}": self._quantile(points, count, share) for share in _QUANTILES}
                edges = sorted({cut[f"{tenth / 10:g}"] for tenth in range(1, 10)})
                told |= {"quantiles": cut, "quantiles_within": self.error}
                told["bins"] = {"edges": edges, "rows": binned(points, edges)}
        if self.infinite:
            told["infinite"] = self.infinite
        return told

    def _quantile(self, points: list[tuple[float, int]], count: int, share: float) -> float:
        """The smallest value that so many rows are not above."""
        until = list(accumulate(rows for _, rows in points))
        at = min(bisect_right(until, max(0, int(share * count) - 1)), len(points) - 1)
        return min(max(points[at][0], self.low or 0.0), self.high or 0.0) if self.low is not None else points[at][0]

    def _middle(self, bucket: int) -> float:
        bits = (bucket << self.shift) + (1 << self.shift - 1)
        return float(np.array([bits], np.int64).view(np.float64)[0])


def finite(number: float) -> float:
    """A sum that JSON can hold."""
    return min(max(number, -sys.float_info.max), sys.float_info.max)


def binned(points: Sequence[tuple[float, int]], edges: Sequence[float]) -> list[int]:
    """Rows up to each edge, and above the last."""
    rows = [0] * (len(edges) + 1)
    for value, count in points:
        at = bisect_right(edges, value)
        rows[at - 1 if at and edges[at - 1] == value else at] += count
    return rows


def first_classes(known: Distribution, rows: dict[str, int]) -> Distribution:
    """Of too many texts, those that were met first and that are in the earlier blocks; the rest together."""
    kept = dict(list(rows.items())[:CLASSES])
    rest = sum(rows.values()) - sum(kept.values())
    return msgspec.structs.replace(known, classes=kept, others=known.others + rest)


def _joined(one: dict[int, int], shift: int, other: dict[int, int], others: int) -> tuple[dict[int, int], int]:
    """Buckets put together, at the coarser of the two widths."""
    most = max(shift, others)
    rows: Counter[int] = Counter()
    for buckets, own in ((one, shift), (other, others)):
        for bucket, count in buckets.items():
            rows[bucket >> most - own] += count
    return narrowed(rows, most)


def narrowed(rows: dict[int, int], shift: int) -> tuple[dict[int, int], int]:
    """Buckets of twice the width, as often as there are too many: the same in the end, whenever it is done."""
    while len(rows) > _BUCKETS:
        wider: Counter[int] = Counter()
        for bucket, count in rows.items():
            wider[bucket >> 1] += count
        rows, shift = wider, shift + 1
    return dict(rows), shift


def _least(of: Any, *values: float | None) -> float | None:
    there = [value for value in values if value is not None]
    return of(there) if there else None


def _order(pair: tuple[str, int]) -> tuple[bool, float, str]:
    """Numbers by size, before words."""
    try:
        return (False, float(pair[0]), pair[0])
    except ValueError:
        return (True, 0.0, pair[0])
