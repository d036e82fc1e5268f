"""What changed between two comparisons, of two versions of a model or on two machines: only what is more than noise."""

import math

import msgspec

from foretell.compare import units
from foretell.compare.costs import steps
from foretell.compare.measured import Measured, Quantiles

BETTER, WORSE, SAME = "better", "worse", "same"

_NOISE = 0.1
"""Two runs of the same agree within this; where no interval was measured, it is taken for one."""


class Span(msgspec.Struct, frozen=True):
    """A figure, and within what it lies."""

    value: float
    low: float
    high: float


class Change(msgspec.Struct, frozen=True):
    """One figure, before and after, in words and as numbers. change: relative, above 0 where it grew. regression: how
    much worse, relative, whichever way is worse; 0 or less where it is not. verdict: SAME where the spans touch."""

    name: str
    before: Span
    after: Span
    told: tuple[str, str]
    change: float
    regression: float
    verdict: str


class Difference(msgspec.Struct, frozen=True):
    """changes: of every figure. notes: what else is different: the model, the machine, the input."""

    changes: list[Change]
    notes: list[str]

    def regressions(self, most: float) -> list[Change]:
        """Those that are worse by more than this share, and by more than noise."""
        return [change for change in self.changes if change.verdict == WORSE and change.regression > most]


def difference(before: Measured, after: Measured) -> Difference:
    """What changed, figure by figure."""
    changes = []
    for name, unit, more_is_better, old, new in _figures(before, after):
        if old is None or new is None or old.value <= 0 or new.value <= 0:
            continue
        change = new.value / old.value - 1
        regression = old.value / new.value - 1 if more_is_better else change
        apart = new.low > old.high or new.high < old.low
        verdict = SAME if not apart else WORSE if regression > 0 else BETTER
        told = _told(unit, old.value), _told(unit, new.value)
        changes.append(Change(name, old, new, told, change, regression, verdict))
    return Difference(changes, _notes(before, after))


def change_told(change: Change) -> str:
    """By how much: +12 %, or a factor where it is more than twice."""
    if change.change > 1:
        return f"× {units.digits(change.change + 1)}"
    return f"÷ {units.digits(1 / (change.change + 1))}" if change.change < -0.5 else f"{change.change:+.1%}"


def _figures(before: Measured, after: Measured) -> list[tuple[str, str, bool, Span | None, Span | None]]:
    """Name, unit, whether more is better, before, after."""
    return [
        ("batch, rows/s", "rows/s", True, _windows(before), _windows(after)),
        ("batch, CPU per 1M rows", "s", False, _cpu(before), _cpu(after)),
        ("batch, start", "s", False, _loose(before.offline.start_s), _loose(after.offline.start_s)),
        ("batch, peak memory", "bytes", False, _loose(before.offline.peak), _loose(after.offline.peak)),
        ("real time, p50 of one client", "s", False, _p50(before), _p50(after)),
        ("real time, p99 of one client", "s", False, _p99(before.single.latency), _p99(after.single.latency)),
        ("real time, requests/s within the SLO", "/s", True, *_capacities(before, after)),
        ("real time, start", "s", False, _loose(before.server.ready_s), _loose(after.server.ready_s)),
        ("real time, peak memory", "bytes", False, _loose(before.server.peak), _loose(after.server.peak)),
    ]


def _windows(found: Measured) -> Span:
    made = found.offline
    ends = [*made.windows, made.rows_per_s]
    return Span(made.rows_per_s, min(ends), max(ends))


def _cpu(found: Measured) -> Span | None:
    made = found.offline
    return _loose(made.cpu_s / made.rows * 1e6) if made.rows else None


def _p50(found: Measured) -> Span | None:
    return None if found.single.latency.p50 is None else _loose(found.single.latency.p50)


def _p99(latency: Quantiles) -> Span | None:
    if latency.p99 is None:
        return None
    return Span(latency.p99, latency.p99_low or latency.p99, latency.p99_high or latency.p99)


def _capacities(before: Measured, after: Measured) -> tuple[Span | None, Span | None]:
    """Comparable only for the same SLO; a generator that was the limit leaves the upper end open."""
    if not math.isclose(before.server.slo_p99, after.server.slo_p99):
        return None, None
    return _capacity(before), _capacity(after)


def _capacity(found: Measured) -> Span:
    at = found.server.capacity
    over = [step.asked for step in steps(found) if not step.within and step.asked > at]
    high = math.inf if found.server.at_least else max(at * (1 + _NOISE / 2), min(over, default=0.0))
    return Span(at, at * (1 - _NOISE / 2), min(high, 1e300))


def _loose(value: float) -> Span:
    return Span(value, value * (1 - _NOISE / 2), value * (1 + _NOISE / 2))


def _told(unit: str, value: float) -> str:
    if unit == "s":
        return units.seconds(value)
    return units.size(value) if unit == "bytes" else units.count(value)


def _notes(before: Measured, after: Measured) -> list[str]:
    found = []
    pairs: list[tuple[str, object, object]] = [
        ("model", before.model.label, after.model.label),
        ("engine", before.model.engine, after.model.engine),
        ("processor", before.machine.processor, after.machine.processor),
        ("cores", before.machine.cores, after.machine.cores),
        ("memory", units.size(before.machine.memory), units.size(after.machine.memory)),
        ("system", before.machine.system, after.machine.system),
        ("Python", before.machine.python, after.machine.python),
        ("foretell", before.machine.foretell, after.machine.foretell),
        ("input", f"{before.input}, {before.input_rows:,} rows", f"{after.input}, {after.input_rows:,} rows"),
        ("asked with", before.asked or "no options", after.asked or "no options"),
        ("SLO", units.seconds(before.server.slo_p99), units.seconds(after.server.slo_p99)),
    ]
    pairs += [
        (name, before.machine.versions.get(name, "none"), after.machine.versions.get(name, "none"))
        for name in sorted({*before.machine.versions, *after.machine.versions})
    ]
    if before.model.digest != after.model.digest and before.model.label == after.model.label:
        found.append("the model's files are others")
    found += [f"{name}: {old} → {new}" for name, old, new in pairs if old != new]
    if after.parity.equal < after.parity.rows:
        found.append(f"the two ways now differ on {after.parity.rows - after.parity.equal:,} rows")
    return found
