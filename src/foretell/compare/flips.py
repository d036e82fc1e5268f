"""What would change the advice: for each need, the nearest value at which another way wins, all others unchanged."""

from collections.abc import Callable

import msgspec

from foretell.compare import units
from foretell.compare.measured import Measured
from foretell.compare.needs import Load, Needs, load
from foretell.compare.units import DAY
from foretell.compare.ways import best, ways

_NEITHER = "neither"
_REACH = 1e4
_STEPS = 80
_HALVINGS = 50

Wins = Callable[[float], str]


def changes(measured: Measured, needs: Needs, given: Load) -> list[str]:
    """Sentences, each with the value at which the verdict flips and what it is then; one that says so where nothing
    within a factor of 10,000 does."""

    def verdict(other: Needs) -> str:
        filled = load(other)
        won = best(ways(measured, other, filled)) if filled else None
        return won.name if won else _NEITHER

    now = verdict(needs)
    found = []
    volume = needs.rows_per_day or given.rate * DAY
    for name, value, told, wins in (
        ("volume", volume, _volume, lambda rows: verdict(_at_volume(needs, given, rows))),
        ("max_age", needs.max_age, _age, lambda age: verdict(_with(needs, max_age=age, refresh=None))),
        ("refresh", needs.refresh, _refresh, lambda refresh: verdict(_with(needs, refresh=refresh))),
        ("slo", needs.slo, _slo, lambda slo: verdict(_with(needs, slo=slo))),
    ):
        if value is None or (name == "refresh" and needs.max_age is not None):
            continue
        found += [told(at, side, other) for at, side, other in _crossings(value, now, wins)]
    if needs.known is not None:
        found += _known(now, needs.known, lambda known: verdict(_with(needs, known=known)))
    return found or [f"Nothing alone: a volume, age or latency 10,000 times as large or small, and it is still {now}"]


def _with(needs: Needs, **changed: float | None) -> Needs:
    return msgspec.structs.replace(needs, **changed)


def _at_volume(needs: Needs, given: Load, rows: float) -> Needs:
    return _with(needs, rows_per_day=rows, peak=given.peak / given.rate * rows / DAY)


def _crossings(value: float, now: str, wins: Wins) -> list[tuple[float, str, str]]:
    """The nearest flip above and below: (value, "above" or "below", the verdict beyond it)."""
    found = []
    for side, step in (("below", _REACH ** (-1 / _STEPS)), ("above", _REACH ** (1 / _STEPS))):
        inside = value
        for _ in range(_STEPS):
            outside = inside * step
            if (other := wins(outside)) != now:
                found.append((_narrowed(inside, outside, now, wins), side, other))
                break
            inside = outside
    return found


def _narrowed(inside: float, outside: float, now: str, wins: Wins) -> float:
    """The flip between two values, to the last digits that anybody reads."""
    for _ in range(_HALVINGS):
        middle = (inside * outside) ** 0.5
        inside, outside = (middle, outside) if wins(middle) == now else (inside, middle)
    return outside


def _known(now: str, known: float, wins: Wins) -> list[str]:
    for percent in range(1, 101):
        for other in {min(1.0, known + percent / 100), max(0.0, known - percent / 100)} - {known}:
            if (then := wins(other)) != now:
                if known == 1:
                    return [f"rows that are new when somebody asks: {then}"]
                side = "at least" if other > known else "at most"
                return [f"{side} {units.share(other)} of the rows known ahead: {then}"]
    return []


def _volume(rows: float, side: str, then: str) -> str:
    return f"{'more' if side == 'above' else 'fewer'} than {units.count(rows)} rows a day: {then}"


def _age(age: float, side: str, then: str) -> str:
    told = "answers may be older than" if side == "above" else "answers have to be younger than"
    return f"{told} {units.seconds(age)}: {then}"


def _refresh(refresh: float, side: str, then: str) -> str:
    return f"a refresh {'longer' if side == 'above' else 'shorter'} than {units.seconds(refresh)}: {then}"


def _slo(slo: float, side: str, then: str) -> str:
    return f"p99 {'allowed beyond' if side == 'above' else 'needed under'} {units.seconds(slo)}: {then}"
