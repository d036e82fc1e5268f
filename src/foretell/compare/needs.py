"""What a user needs of predictions, as given on the command line: parsed, and completed where something is left out."""

import math
import re
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from foretell.compare.units import DAY
from foretell.errors import UsageError

UNSAID = 0.0
"""The bound on p99 where nobody gave one: then it is the one that was measured by."""

_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+)\s*([A-Za-zµ%/]*)")
_SECONDS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": DAY, "w": 7 * DAY}
_COUNTS = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9}
_RATES = {"": 1.0, "/s": 1.0, "/min": 1 / 60, "/h": 1 / 3600, "/d": 1 / DAY}
_MOST = 1e15


class Needs(msgspec.Struct, frozen=True):
    """What is needed; None where nothing was said.

    slo: seconds within which 99 of 100 answers have to come, or UNSAID. rows_per_day: predictions that are asked for.
    peak: rows a second at the busiest. refresh: seconds between two jobs. max_age: seconds that an answer may be old,
    or that a new row may wait for one. known: share of requests whose rows are there before they are asked for. keys:
    rows that each job predicts, where it predicts the same ones again; without them, each row that came since the last
    job. price: of a machine like this, an hour. job_overhead: seconds that a machine takes before a job's process
    starts.
    """

    slo: float = UNSAID
    rows_per_day: float | None = None
    peak: float | None = None
    refresh: float | None = None
    max_age: float | None = None
    known: float | None = None
    keys: float | None = None
    price: float | None = None
    job_overhead: float = 0.0

    def __post_init__(self) -> None:
        for name in ("rows_per_day", "peak", "refresh", "max_age", "keys"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= _MOST:
                raise ValueError(f"{name} is {value}; expected a number above 0")
        for name, most in (("slo", _MOST), ("price", _MOST), ("job_overhead", _MOST), ("known", 1.0)):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= most:
                raise ValueError(f"{name} is {value}; expected 0 … {most:g}")

    @property
    def decidable(self) -> bool:
        """Whether there is enough for a verdict: how many rows, and how fresh. Else the map is the answer."""
        return (self.rows_per_day or self.peak) is not None and (
            self.refresh is not None or self.max_age is not None or self.known is not None
        )


class Load(NamedTuple):
    """Needs without holes. rate: rows a second on average. peak: at the busiest. assumed: what was taken for granted,
    a sentence each."""

    rate: float
    peak: float
    assumed: tuple[str, ...]


def load(needs: Needs) -> Load | None:
    """The load as far as it is given; None where nothing was."""
    if needs.rows_per_day is None:
        if needs.peak is None:
            return None
        return Load(needs.peak, needs.peak, ("as busy all day as at its peak, as --rows-per-day is not given",))
    rate = needs.rows_per_day / DAY
    if needs.peak is None:
        return Load(rate, rate, ("requests come evenly over the day, as --peak-rate is not given",))
    if needs.peak < rate:
        return Load(rate, rate, (f"the peak is at least the average, {rate:,.0f} a second",))
    return Load(rate, needs.peak, ())


def duration(text: str, option: str) -> float:
    """Seconds: 20ms, 90s, 15min, 24h, 7d."""
    return _parsed(text, option, _SECONDS, "a time with its unit", "20ms, 90s, 15min, 24h, 7d")


def count(text: str, option: str) -> float:
    """A number of rows: 2000000, 2e6, 2M."""
    return _parsed(text, option, _COUNTS, "a number", "2000000, 2e6, 2M")


def rate(text: str, option: str) -> float:
    """Rows a second: 300, 300/s, 5000/min."""
    return _parsed(text, option, _RATES, "a number a second", "300, 2.5, 5000/min")


def price(text: str, option: str) -> float:
    """Of a machine an hour, in any currency: 0.05."""
    return _parsed(text, option, {"": 1.0, "/h": 1.0}, "a price an hour", "0.05", zero=True)


def share(text: str, option: str) -> float:
    """A share of all: 95%, or 0.95."""
    found = _parsed(text, option, {"%": 0.01, "": 1.0}, "a share of 0 … 100 %", "95%, 0.95", zero=True)
    if found > 1:
        raise UsageError(f"{option} {text}: expected a share of 0 … 100 %", "For example: 95%, 0.95")
    return found


def percent(text: str, option: str) -> float:
    """By how much something may be worse: 10%, 0.1, 150%."""
    return _parsed(text, option, {"%": 0.01, "": 1.0}, "a share", "10%, 0.1", zero=True)


def slo(text: str, option: str) -> float:
    """The bound on p99: p99=20ms."""
    name, equals, bound = text.partition("=")
    if not equals or name.strip() != "p99":
        raise UsageError(f"{option} {text}: expected p99=TIME", "For example: p99=20ms")
    return duration(bound, option)


PARSERS: dict[str, tuple[str, Callable[[str, str], float]]] = {
    "slo": ("--slo", slo),
    "rows_per_day": ("--rows-per-day", count),
    "peak": ("--peak-rate", rate),
    "refresh": ("--refresh", duration),
    "max_age": ("--max-age", duration),
    "known": ("--known", share),
    "keys": ("--keys", count),
    "price": ("--price", price),
    "job_overhead": ("--job-overhead", duration),
}
"""Each need: its option, and what reads it."""


def _parsed(
    text: str, option: str, units: dict[str, float], expected: str, examples: str, *, zero: bool = False
) -> float:
    cleaned = text.strip().replace(",", "").replace("_", "")
    found = _NUMBER.fullmatch(cleaned)
    if found is None or found[2] not in units:
        raise UsageError(f"{option} {text}: expected {expected}", f"For example: {examples}")
    value = float(found[1]) * units[found[2]]
    if math.isinf(value) or value > _MOST or (value <= 0 and not zero):
        raise UsageError(f"{option} {text}: expected {expected}, above 0", f"For example: {examples}")
    return value
