"""Whether an output is like that of the last job of its name: in its rows, in the nulls of its input, and in how its
predictions are distributed."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from foretell.job.distribution import Distribution, binned
from foretell.job.figures import Figures
from foretell.job.report import Counts, Report

_NOISE = 3.0
"""So many standard deviations are chance."""


@dataclass(frozen=True)
class Limits:
    """How much is a jump. rows: change by the earlier number. nulls: change of a column's share. distribution: PSI."""

    rows: float = 0.5
    nulls: float = 0.1
    distribution: float = 0.25


@dataclass(frozen=True)
class Guard:
    """What a job is compared with. told: what that was, for people."""

    earlier: Report
    told: str
    limits: Limits = Limits()

    def jumps(self, counts: Counts, figures: Figures) -> list[str]:
        """What is not as it was, a line each with both numbers; none where all is."""
        return [*self._rows(counts), *self._nulls(counts, figures), *self._predictions(figures)]

    def _rows(self, counts: Counts) -> Iterator[str]:
        was, now = self.earlier.counts.predicted, counts.predicted
        chance = _NOISE * math.sqrt(was + now)
        if abs(now - was) > max(self.limits.rows * was, chance):
            yield f"rows: {was:,} before, {now:,} now ({_change(was, now)}; the limit is {self.limits.rows:.0%})"

    def _nulls(self, counts: Counts, figures: Figures) -> Iterator[str]:
        of_was, of_now = self.earlier.counts.predicted, counts.predicted
        pairs = [
            (f"nulls of {name}", was, of_was, figures.nulls.get(name, 0), of_now)
            for name, was in self.earlier.nulls.items()
        ]
        for name, found in figures.predictions.items():
            if (told := self.earlier.predictions.get(name)) is not None:
                pairs.append((f"nulls of {name}", told["nulls"], of_was, found.nulls, of_now))
        for name, was, of, now, of_these in pairs:
            if not of or not of_these:
                continue
            before, share = was / of, now / of_these
            all_ = (was + now) / (of + of_these)
            chance = _NOISE * math.sqrt(all_ * (1 - all_) * (1 / of + 1 / of_these))
            if abs(share - before) > max(self.limits.nulls, chance):
                limit = f"the limit is {self.limits.nulls:.0%} of the rows"
                yield f"{name}: {before:.1%} of the rows before, {share:.1%} now ({limit})"

    def _predictions(self, figures: Figures) -> Iterator[str]:
        for name, found in figures.predictions.items():
            told = self.earlier.predictions.get(name)
            if told is None or not found.rows:
                continue
            if (pairs := _side_by_side(told, found)) is None:
                yield f"{name}: was of another kind before"
                continue
            score, chance = psi([was for _, was, _ in pairs], [now for _, _, now in pairs])
            if score > max(self.limits.distribution, chance):
                yield f"{name}: PSI {score:.2f} (the limit is {self.limits.distribution:g}); {_most(pairs)}"


def psi(was: list[int], now: list[int]) -> tuple[float, float]:
    """The population stability index of two histograms, and what chance alone gives at most, in about 1 of 1,000 cases.

    PSI = Σ (pᵢ − qᵢ) · ln(pᵢ / qᵢ), p and q the shares of bin i; half a row is added to each, for those without any.
    Over 0.25 is a significant change by the custom of N. Siddiqi, Credit Risk Scorecards (2006). Of two samples of n
    and m rows of one population, in B bins, PSI / (1/n + 1/m) is distributed as χ² with B − 1 degrees of freedom (B.
    Yurdakul, Statistical Properties of Population Stability Index, 2018); its bound here is by Wilson and Hilferty.
    """
    bins, n, m = len(was), sum(was), sum(now)
    if bins < 2 or not n or not m:
        return 0.0, 0.0
    shares = [((a + 0.5) / (n + bins / 2), (b + 0.5) / (m + bins / 2)) for a, b in zip(was, now, strict=True)]
    score = sum((q - p) * math.log(q / p) for p, q in shares)
    free = bins - 1
    bound = free * (1 - 2 / (9 * free) + _NOISE * math.sqrt(2 / (9 * free))) ** 3
    return score, bound * (1 / n + 1 / m)


Pair = tuple[str, int, int]
"""A bin for people, its rows before, and now."""


def _side_by_side(told: dict[str, Any], found: Distribution) -> list[Pair] | None:
    """The same bins of both; None where they cannot be compared."""
    if "bins" in told:
        if not found.numeric:
            return None
        edges = told["bins"]["edges"]
        names = [f"up to {edge:.4g}" for edge in edges] + [f"above {edges[-1]:.4g}"]
        return list(zip(names, told["bins"]["rows"], binned(found.points(), edges), strict=True))
    classes: dict[str, int] = told.get("classes", {})
    if found.classes is not None:
        labels = [*classes, *(label for label in found.classes if label not in classes)]
        pairs = [(label, classes.get(label, 0), found.classes.get(label, 0)) for label in labels]
        return (
            [*pairs, ("others", told.get("others", 0), found.others)] if told.get("others") or found.others else pairs
        )
    try:
        values = sorted((float(label), rows) for label, rows in classes.items())
    except ValueError:
        return None
    edges = sorted({value for value, _ in values})
    names = [f"up to {edge:.4g}" for edge in edges] + ["above"]
    return list(zip(names, binned(values, edges), binned(found.points(), edges), strict=True))


def _most(pairs: list[Pair]) -> str:
    """The bin whose share changed most, and by how much."""
    n, m = sum(was for _, was, _ in pairs), sum(now for _, _, now in pairs)
    name, was, now = max(pairs, key=lambda pair: abs(pair[2] / m - pair[1] / n))
    return f"{name}: {was / n:.1%} of the rows before, {now / m:.1%} now"


def _change(was: int, now: int) -> str:
    return f"{(now - was) / was:+.0%}" if was else "none before"
