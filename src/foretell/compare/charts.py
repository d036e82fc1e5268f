"""The page's charts: cost over volume, which way wins where, latency over throughput, and latencies as a histogram."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from foretell.compare import units
from foretell.compare.advice import Advice
from foretell.compare.costs import JOBS, SERVERS, Speeds, bound_name, jobs, replicas, speeds, tail
from foretell.compare.frontier import AGES, RATES
from foretell.compare.measured import Measured, Quantiles
from foretell.compare.needs import Needs, load
from foretell.compare.svg import Chart, Pair, Scale
from foretell.compare.units import DAY, HOUR

_POINTS = 240
_P99 = 0.99
_AGE_TICKS = (0.1, 1.0, 10.0, 60.0, 600.0, HOUR, 6 * HOUR, DAY, 7 * DAY, 30 * DAY)


def cost(measured: Measured, advice: Advice) -> str:
    """Cost a day of each way over the rows a day, on logarithmic scales, with the user's volume and the crossing."""
    needs, given = advice.needs, load(advice.needs)
    if given is None:
        return ""
    batch = advice.way(JOBS)
    refresh = batch.refresh if batch else None
    speed, spread = speeds(measured, needs.slo, needs.job_overhead), given.peak / given.rate
    volume = given.rate * DAY
    crossing = advice.crossing
    met = crossing.rate * DAY if crossing is not None and crossing.rate else volume
    low, high = (
        10.0 ** round(math.log10(each) + more) for each, more in ((min(volume, met), -2), (max(volume, met), 2))
    )
    lines = {
        SERVERS: _stairs(_line(low, high, lambda rows: _servers_cost(speed, rows / DAY, spread))),
        JOBS: _line(low, high, lambda rows: _jobs_cost(speed, rows / DAY, refresh, needs.keys)),
    }
    names = {SERVERS: SERVERS, JOBS: f"batch, every {units.seconds(refresh or DAY)}"}
    chart = _costs("predictions a day", low, high, lines, names, needs)
    chart.upright(volume, "you")
    chart.label(volume, chart.y.high, "you", "you", "middle")
    if crossing is not None and crossing.rate:
        rows = crossing.rate * DAY
        each = _servers_cost(speed, crossing.rate, spread) * _unit(needs)
        chart.dot(rows, each, "cross", f"the same at {units.count(rows)} rows a day")
        chart.label(rows, each / _above(chart) ** 2, f"the same at {units.count(rows)} a day", "plain", "middle")
    return chart.drawn()


def freshness(measured: Measured, advice: Advice) -> str:
    """Cost a day of each way over the refresh, at the user's load: jobs are the dearer the more often they run."""
    needs, given = advice.needs, load(advice.needs)
    if given is None:
        return ""
    speed, even = speeds(measured, needs.slo, needs.job_overhead), advice.refresh_even
    batch = advice.way(JOBS)
    refresh = batch.refresh if batch else None
    low, high = speed.start * 1.02, max(7 * DAY, (refresh or 0) * 3)
    served = _servers_cost(speed, given.rate, given.peak / given.rate)
    lines = {
        SERVERS: _line(low, high, lambda _: served),
        JOBS: _line(low, high, lambda each: _jobs_cost(speed, given.rate, each, needs.keys)),
    }
    chart = _costs("batch every", low, high, lines, {JOBS: JOBS}, needs, ticks=_AGE_TICKS)
    if served:
        late = even is not None and math.log(even / low) > math.log(high / low) / 2
        at = served * _unit(needs) * _above(chart)
        chart.label(low * 1.1 if late else high, at, SERVERS, "served", "start" if late else "end")
    if refresh is not None:
        chart.upright(refresh, "you")
        chart.label(refresh, chart.y.high, "you", "you", "middle")
    if even is not None and low <= even <= high and served:
        chart.dot(even, served * _unit(needs), "cross", f"the same every {units.seconds(even)}")
        at = served * _unit(needs) * _above(chart) ** 2
        chart.label(even * 1.3, at, f"the same every {units.seconds(even)}", "plain")
    return chart.drawn()


def _costs(
    name: str,
    low: float,
    high: float,
    lines: dict[str, list[Pair]],
    names: dict[str, str],
    needs: Needs,
    ticks: Sequence[float] = (),
) -> Chart:
    """The frame of a chart of costs, with a line a way, which bears its name."""
    lines = {way: [(x, each * _unit(needs)) for x, each in line] for way, line in lines.items()}
    values = [each for line in lines.values() for _, each in line] or [1.0]
    chart = Chart(
        f"Cost a day over {name}",
        Scale(low, high, name, units.seconds if ticks else units.short, ticks=ticks),
        Scale(
            min(values) / 2,
            max(values) * 3,
            "machine-hours a day" if needs.price is None else "cost a day",
            units.short,
        ),
    )
    for way, style in ((SERVERS, "served"), (JOBS, "batch")):
        if lines[way]:
            chart.line(lines[way], style)
        if lines[way] and way in names:
            x, each = lines[way][-1]
            chart.label(x, each * _above(chart), names[way], style, "end")
    return chart


def _unit(needs: Needs) -> float:
    """Machine-seconds to what the axis shows."""
    return (1.0 if needs.price is None else needs.price or 1e-9) / HOUR


def _line(low: float, high: float, of: Callable[[float], float]) -> list[Pair]:
    values = [low * math.pow(high / low, at / (_POINTS - 1)) for at in range(_POINTS)]
    return [(each, found) for each in values if (found := of(each)) > 0]


def _above(chart: Chart) -> float:
    """A factor that lifts a label over its line."""
    return math.pow(chart.y.high / chart.y.low, 0.035)


def _stairs(line: list[Pair]) -> list[Pair]:
    """The same with upright steps."""
    edges = [[(x, before[1]), (x, y)] for before, (x, y) in pairwise(line)]
    return [*line[:1], *(point for edge in edges for point in edge)]


def _jobs_cost(speed: Speeds, rate: float, refresh: float | None, keys: float | None) -> float:
    made = None if refresh is None else jobs(speed, rate, refresh, keys)
    return made.cost if made else 0.0


def _servers_cost(speed: Speeds, rate: float, spread: float) -> float:
    served = replicas(speed, rate, rate * spread)
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
    """p50 and p99 over the rate of one replica, p99 with its interval, the SLO, and the rate up to which it holds.
    Where the time was too short for p99, the quantile that the search kept instead."""
    shown = [step for step in measured.server.curve if step.latency.p50 is not None]
    known = [step for step in shown if tail(step.latency, measured.server.quantile) is not None]
    if not shown:
        return ""
    slo, quantile = advice.needs.slo, measured.server.quantile
    highest = max(step.asked for step in shown)
    p50s = [(step.asked, step.latency.p50 or slo) for step in shown]
    tails = [(step.asked, tail(step.latency, quantile) or slo) for step in known]
    tops = [step.latency.p99_high or slo for step in known]
    chart = Chart(
        "Latency over requests a second, of one replica",
        Scale(0, highest * 1.06, "requests a second, of one replica", units.short, log=False),
        Scale(
            min(slo, *(each for _, each in p50s)) / 1.5,
            max([slo, *tops, *(each for _, each in tails + p50s)]) * 1.6,
            "latency, from when a request was due",
            units.seconds,
        ),
    )
    sure = [step for step in known if step.latency.p99_low is not None and step.latency.p99_high is not None]
    if len(sure) > 1 and quantile >= _P99:
        upper = [(step.asked, step.latency.p99_high or slo) for step in sure]
        lower = [(step.asked, step.latency.p99_low or slo) for step in sure]
        chart.area([*upper, *reversed(lower)], "served")
    chart.level(slo, "limit")
    chart.label(highest * 0.02, slo * _above(chart), f"allowed: p99 {units.seconds(slo)}", "limit")
    if measured.server.capacity > 0:
        chart.upright(measured.server.capacity, "limit")
    won = advice.way(SERVERS)
    if won is not None and won.rps is not None and won.rps <= chart.x.high:
        chart.upright(won.rps, "you")
        chart.label(won.rps, chart.y.high, "your peak", "you", "middle")
    for name, style, line, steps in ((bound_name(measured), "served", tails, known), ("p50", "soft", p50s, shown)):
        if line:
            chart.line(line, style)
            for step, (rate, latency) in zip(steps, line, strict=True):
                told = f"{name} {units.seconds(latency)} at {units.rate(rate)}, {step.latency.requests:,} requests"
                chart.dot(rate, latency, style, told)
            rate, latency = line[len(line) // 2]
            chart.label(rate, latency * _above(chart) ** 1.5, name, style, "middle")
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
