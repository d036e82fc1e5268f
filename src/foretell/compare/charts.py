"""The page's charts: cost over volume, which way wins where, latency over throughput, and latencies as a histogram."""

import math
from collections.abc import Callable, Sequence

from foretell.compare import units
from foretell.compare.advice import Advice
from foretell.compare.costs import JOBS, SERVERS, Speeds, jobs, replicas, speeds, steps
from foretell.compare.frontier import AGES, RATES
from foretell.compare.measured import Measured, Quantiles
from foretell.compare.needs import Load, load
from foretell.compare.svg import Chart, Pair, Scale
from foretell.compare.units import DAY, HOUR

_POINTS = 160
_AGE_TICKS = (0.1, 1.0, 10.0, 60.0, 600.0, HOUR, 6 * HOUR, DAY, 7 * DAY, 30 * DAY)


def cost(measured: Measured, advice: Advice) -> str:
    """Cost a day of each way over the rows a day, on logarithmic scales, with the user's volume and the crossing."""
    needs = advice.needs
    given = load(needs) or Load(1e6 / DAY, 1e6 / DAY, ())
    batch = advice.way(JOBS)
    refresh = (batch.refresh if batch else None) or needs.refresh or DAY
    speed, spread = speeds(measured, needs.slo, needs.job_overhead), given.peak / given.rate
    volume = given.rate * DAY
    low, high = 10.0 ** math.floor(math.log10(volume) - 2), 10.0 ** math.ceil(math.log10(volume) + 2)
    lines = {
        JOBS: _costs(low, high, lambda rows: _jobs_cost(speed, rows, refresh, needs.keys)),
        SERVERS: _costs(low, high, lambda rows: _servers_cost(speed, rows, spread)),
    }
    scale = (needs.price or 1.0) / HOUR
    lines = {name: [(rows, each * scale) for rows, each in line] for name, line in lines.items()}
    values = [each for line in lines.values() for _, each in line] or [1.0]
    told = units.short if needs.price is None else units.money
    chart = Chart(
        "Cost a day over predictions a day",
        Scale(low, high, "predictions a day", units.short),
        Scale(min(values) / 2, max(values) * 3, "cost a day" if needs.price else "machine-hours a day", told),
    )
    if load(needs) is not None:
        chart.upright(volume, "you")
        chart.label(volume, chart.y.high, "you", "you", "middle")
    for name, style in ((SERVERS, "served"), (JOBS, "batch")):
        if lines[name]:
            chart.line(lines[name], style)
            rows, each = lines[name][-1]
            named = name if name == SERVERS else f"batch, every {units.seconds(refresh)}"
            chart.label(rows, each * _above(chart), named, style, "end")
    crossing = advice.crossing
    if crossing is not None and crossing.rate is not None and low <= crossing.rate * DAY <= high:
        rows = crossing.rate * DAY
        each = float(_servers_cost(speed, rows, spread) * scale)
        chart.dot(rows, each, "cross", f"the same at {units.count(rows)} rows a day")
        chart.label(rows, each / _above(chart) ** 2, f"the same at {units.count(rows)} a day", "plain", "middle")
    return chart.drawn()


def _above(chart: Chart) -> float:
    """A factor that lifts a label over its line."""
    return (chart.y.high / chart.y.low) ** 0.035


def _costs(low: float, high: float, of: Callable[[float], float]) -> list[Pair]:
    rows = [low * (high / low) ** (at / (_POINTS - 1)) for at in range(_POINTS)]
    return [(each, found) for each in rows if (found := of(each)) > 0]


def _jobs_cost(speed: Speeds, rows: float, refresh: float, keys: float | None) -> float:
    made = jobs(speed, rows / DAY, refresh, keys)
    return made.cost if made else 0.0


def _servers_cost(speed: Speeds, rows: float, spread: float) -> float:
    served = replicas(speed, rows / DAY, rows / DAY * spread)
    return served.cost if served else 0.0


def territory(advice: Advice) -> str:
    """Which way wins in which region of rate and freshness, with the user's own needs in it."""
    points = [(point.rate, point.age) for point in advice.map.points if point.age is not None]
    chart = Chart(
        "Which way wins, by rate and by the age that answers may have",
        Scale(*RATES, "rows a second, on average", units.short),
        Scale(*AGES, "an answer may be as old as", units.seconds, ticks=_AGE_TICKS),
    )
    whole = [(RATES[0], AGES[0]), (RATES[0], AGES[1]), (RATES[1], AGES[1]), (RATES[1], AGES[0])]
    chart.area(whole, "served" if advice.map.served else "none")
    if points:
        chart.area([*points, (points[-1][0], AGES[1]), (points[0][0], AGES[1])], "ground")
        chart.area([*points, (points[-1][0], AGES[1]), (points[0][0], AGES[1])], "batch")
        chart.line(points, "edge")
        chart.label(0.02, 12 * HOUR, "batch costs less", "batch", "start")
    youngest = min((age for _, age in points), default=AGES[1])
    below = "real time" if advice.map.served else "neither: too young for batch, no rate keeps p99"
    chart.label(0.02, max(AGES[0] * 1.6, youngest / 3), below, "served" if advice.map.served else "plain", "start")
    given = load(advice.needs)
    age = advice.needs.max_age or _worst_age(advice)
    if given is not None and age is not None:
        chart.dot(given.rate, age, "you", f"{units.rate(given.rate)}, {units.seconds(age)}")
        chart.label(given.rate * 1.6, age, "you", "you")
    return chart.drawn()


def _worst_age(advice: Advice) -> float | None:
    batch = advice.way(JOBS)
    return batch.worst_age if batch else None


def throughput(measured: Measured, advice: Advice) -> str:
    """p50 and p99 over the rate of one replica, p99 with its interval, the SLO, and the rate up to which it holds."""
    shown = [step for step in steps(measured) if step in measured.server.curve and step.latency.p50 is not None]
    slo = advice.needs.slo
    highest = max((step.asked for step in shown), default=1.0)
    bounds = [step.latency.p50 for step in shown if step.latency.p50] + [slo]
    tops = [step.latency.p99_high or step.latency.p99 or slo for step in shown] + [slo]
    chart = Chart(
        "Latency over requests a second, of one replica",
        Scale(0, highest * 1.06, "requests a second, of one replica", units.short, log=False),
        Scale(min(bounds) / 1.5, max(tops) * 1.6, "latency, from when a request was due", units.seconds),
    )
    known = [step for step in shown if step.latency.p99 is not None]
    if len(known) > 1:
        upper = [(step.asked, step.latency.p99_high or step.latency.p99 or slo) for step in known]
        lower = [(step.asked, step.latency.p99_low or step.latency.p99 or slo) for step in known]
        chart.area([*upper, *reversed(lower)], "served")
    chart.level(slo, "limit")
    chart.label(0, slo / 1.0, f"allowed: p99 {units.seconds(slo)}", "limit")
    chart.labels[-1] = (chart.labels[-1][0] + 4, chart.labels[-1][1] - 5, *chart.labels[-1][2:])
    if measured.server.capacity > 0:
        chart.upright(measured.server.capacity, "limit")
    won = advice.way(SERVERS)
    if won is not None and won.rps is not None and won.rps <= chart.x.high:
        chart.upright(won.rps, "you")
        chart.label(won.rps, chart.y.high, "your peak", "you", "middle")
    for name, style, line in (
        ("p99", "served", [(step.asked, step.latency.p99 or 0) for step in known]),
        ("p50", "soft", [(step.asked, step.latency.p50 or 0) for step in shown]),
    ):
        if line:
            chart.line(line, style)
            for step, (rate, latency) in zip(known if name == "p99" else shown, line, strict=True):
                told = f"{name} {units.seconds(latency)} at {units.rate(rate)}, {step.latency.requests:,} requests"
                chart.dot(rate, latency, style, told)
            middle = line[len(line) // 2]
            chart.label(middle[0], middle[1] * (chart.y.high / chart.y.low) ** 0.05, name, style, "middle")
    return chart.drawn()


def histogram(latency: Quantiles, ends: Sequence[float], title: str) -> str:
    """How many requests took how long: logarithmic buckets by their upper ends, with p50 and p99."""
    filled = [at for at, count in enumerate(latency.counts) if count and at < len(ends)]
    if not filled:
        return ""
    first, last = max(0, filled[0] - 1), min(len(ends) - 1, filled[-1] + 1)
    begins = [ends[0] ** 2 / ends[1], *ends[:-1]]
    most = max(latency.counts)
    chart = Chart(
        title,
        Scale(begins[first], ends[last], "latency", units.seconds),
        Scale(0, most * 1.18, "requests", units.short, log=False),
    )
    for at in range(first, last + 1):
        if at < len(latency.counts) and latency.counts[at]:
            told = f"{latency.counts[at]:,} within {units.seconds(begins[at])} … {units.seconds(ends[at])}"
            chart.bar((begins[at], 0), (ends[at], latency.counts[at]), "served", told)
    for name, value in (("p50", latency.p50), ("p99", latency.p99)):
        if value is not None:
            chart.upright(value, "mark")
            chart.label(value * 1.02, most * 1.15, f"{name} {units.seconds(value)}", "plain")
    return chart.drawn()
