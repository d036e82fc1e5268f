"""The map: which way costs less at which rate and freshness, when nobody says what is needed, and where one's own need
lies in it."""

import math

import msgspec

from foretell.compare.costs import Speeds, jobs, refresh_for, replicas
from foretell.compare.units import DAY

RATES = (1e-3, 1e6)
"""Rows a second, from about a hundred a day."""

AGES = (0.2, 30 * DAY)
"""Seconds that an answer may be old."""

_STEPS = 72
_HALVINGS = 40


class Point(msgspec.Struct, frozen=True):
    """age: the youngest answers that batch gives for less than servers cost at this rate; None where it never does."""

    rate: float
    age: float | None


class Frontier(msgspec.Struct, frozen=True):
    """Where batch begins to win. spread: of the peak over the average rate that it was drawn for. served: whether
    servers keep the SLO at all."""

    points: list[Point]
    spread: float
    served: bool


def frontier(speeds: Speeds, spread: float = 1.0, keys: float | None = None) -> Frontier:
    """The boundary at rates from RATES, the same distance apart on a logarithmic scale."""
    low, high = RATES
    rates = [low * (high / low) ** (at / (_STEPS - 1)) for at in range(_STEPS)]
    return Frontier([Point(rate, youngest(speeds, rate, spread, keys)) for rate in rates], spread, speeds.capacity > 0)


def youngest(speeds: Speeds, rate: float, spread: float = 1.0, keys: float | None = None) -> float | None:
    """The smallest age that batch keeps and costs no more than servers do: at least twice a start, as a run has to end
    before the next begins."""
    low, high = AGES
    if not batch_wins(speeds, rate, high, spread, keys):
        return None
    if batch_wins(speeds, rate, low, spread, keys):
        return low
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        if batch_wins(speeds, rate, middle, spread, keys):
            high = middle
        else:
            low = middle
    return high


def batch_wins(speeds: Speeds, rate: float, age: float, spread: float = 1.0, keys: float | None = None) -> bool:
    """Whether jobs keep an age at this rate, and cost no more than servers would; where no server keeps the SLO, the
    age alone decides."""
    refresh = refresh_for(speeds, rate, age, keys)
    made = None if refresh is None else jobs(speeds, rate, refresh, keys)
    if made is None or made.worst_age > age * (1 + 1e-9):
        return False
    served = replicas(speeds, rate, rate * spread)
    return served is None or made.cost <= served.cost
