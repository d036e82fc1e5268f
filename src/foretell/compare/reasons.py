"""Why: everything that speaks for the way that won, each with its numbers, the strongest first."""

import math

from foretell.compare import units
from foretell.compare.costs import JOBS, SERVERS, capacity
from foretell.compare.measured import Measured
from foretell.compare.needs import Load, Needs
from foretell.compare.units import HOUR
from foretell.compare.ways import BOTH, Way

_DECISIVE = 10.0


def reasons(won: Way | None, found: list[Way], measured: Measured, needs: Needs, load: Load) -> list[str]:
    """Sentences. What rules the other way out weighs most; ratios weigh by their order of magnitude."""
    if won is None:
        return [f"{_subject(way.name)}: {check.found}" for way in found for check in way.checks if not check.ok]
    weighed = [*_ruled_out(won, found), *_cheaper(won, found, needs), *_own(won, measured, needs, load)]
    return [text for _, text in sorted(weighed, key=lambda one: -one[0])]


def cost_told(machine_seconds: float, price: float | None) -> str:
    """A cost as money, where a machine's price is known, else as machine time."""
    if price is not None:
        return units.money(machine_seconds / HOUR * price)
    size, unit = _unit(machine_seconds)
    return f"{units.digits(machine_seconds / size)} machine-{unit}"


def range_told(low: float, high: float, price: float | None) -> str:
    """From one cost to another, in one unit."""
    if price is not None:
        return f"{cost_told(low, price)} … {cost_told(high, price)}"
    size, unit = _unit(low)
    return f"{units.digits(low / size)} … {units.digits(high / size)} machine-{unit}"


def _unit(machine_seconds: float) -> tuple[float, str]:
    found = [(HOUR, "hours"), (60.0, "minutes"), (1.0, "seconds")]
    return next((one for one in found if machine_seconds >= one[0]), found[-1])


def _ruled_out(won: Way, found: list[Way]) -> list[tuple[float, str]]:
    out = []
    for way in found:
        failed = next((check for check in reversed(way.checks) if not check.ok), None)
        if way is not won and failed is not None and way.name in (JOBS, SERVERS):
            asked = f"; needed: {failed.asked}"
            weight = _DECISIVE if won.name != BOTH else _DECISIVE / 2
            out.append((weight, f"{_subject(way.name)} cannot: {failed.found}{asked}"))
    return out


def _cheaper(won: Way, found: list[Way], needs: Needs) -> list[tuple[float, str]]:
    out = []
    for way in found:
        if way is won or not way.feasible or way.cost <= won.cost * 1.05:
            continue
        idle = f", {units.share(way.idle)} of it idle" if way.idle is not None and way.name == SERVERS else ""
        text = (
            f"{_subject(won.name)} takes {cost_told(won.cost, needs.price)} a day, {way.name} "
            f"{cost_told(way.cost, needs.price)}{idle}: {units.times(way.cost / max(won.cost, 1e-9))} as much"
        )
        out.append((4 + math.log10(way.cost / max(won.cost, 1e-9)), text))
    return out


def _own(won: Way, measured: Measured, needs: Needs, load: Load) -> list[tuple[float, str]]:
    out = []
    if won.worst_age is not None and won.mean_age is not None:
        allowed = f"; {units.seconds(needs.max_age)} is allowed" if needs.max_age is not None else ""
        text = (
            f"Its answers are {units.seconds(won.mean_age)} old on average and {units.seconds(won.worst_age)} at most"
            f"{allowed}"
        )
        out.append((2.5 if needs.max_age is not None else 0.5, text))
    if won.p99 is not None and won.rps is not None:
        text = (
            f"p99 is {units.seconds(won.p99)}{_interval(won)} at the peak, {units.rate(won.rps)} a replica; "
            f"{units.seconds(needs.slo)} is allowed"
        )
        out.append((3.0, text))
    if won.name == SERVERS and won.rps:
        limit = capacity(measured, needs.slo)
        least = "at least " if measured.server.at_least else ""
        text = f"A replica answers {least}{units.rate(limit)} within that, {units.times(limit / won.rps)} what it gets"
        out.append((1.5, text))
    if won.name == JOBS:
        served, made = capacity(measured, needs.slo), measured.offline.rows_per_s
        if served > 0 and made > served:
            text = (
                f"A machine predicts {units.count(made)} rows/s from a file and {units.count(served)} by request: "
                f"{units.times(made / served)} as many"
            )
            out.append((1 + math.log10(made / served), text))
    return out


def _interval(way: Way) -> str:
    if way.p99_low is None or way.p99_high is None:
        return ""
    return f" ({units.seconds(way.p99_low)} … {units.seconds(way.p99_high)})"


def _subject(name: str) -> str:
    return {JOBS: "Batch", SERVERS: "Real time", BOTH: "Both together"}[name]
