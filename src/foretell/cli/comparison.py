"""A comparison on a terminal: the advice and what it stands on, on one screen of 80 by 24."""

import contextlib
import sys
from collections.abc import Callable, Iterator

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from foretell.compare import units
from foretell.compare.advice import Advice
from foretell.compare.against import BETTER, WORSE, Difference, change_told
from foretell.compare.costs import JOBS, SERVERS, bound_name, speeds
from foretell.compare.frontier import batch_wins
from foretell.compare.measured import Measured
from foretell.compare.reasons import cost_told
from foretell.compare.ways import BOTH, Way
from foretell.errors import printable

COLOURS = {JOBS: "blue", SERVERS: "yellow", BOTH: "magenta"}
NAMES = {JOBS: "batch", SERVERS: "real time", BOTH: "precomputed + rest"}
_BAR = 16
_WIDTH = 80
_MOST_WIDTH = 110
_MAP_AGES = (7 * units.DAY, units.DAY, units.HOUR, 600.0, 60.0, 10.0, 1.0)
_MAP_RATES = (0.01, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5)


def show(measured: Measured, advice: Advice, difference: Difference | None) -> None:
    """Prints the report on stdout; without a terminal 80 wide and without colours."""
    console = Console(markup=False, emoji=False, highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    if console.width > _MOST_WIDTH:
        console.width = _MOST_WIDTH
    parts = _advice(measured, advice)
    if difference is not None:
        parts += ["", *_changes(difference)]
    console.print(Group(*parts))


@contextlib.contextmanager
def watched(budget: float) -> Iterator[Callable[[str, float], None]]:
    """Gives what is told of the progress, a word and the share of the budget that is gone; drawn on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda what, share: None
        return
    columns = (BarColumn(), TextColumn("{task.fields[left]}  {task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=1.0, left=units.seconds(budget))

        def tell(what: str, share: float) -> None:
            left = f"at most {units.seconds(max(0.0, 1 - share) * budget)} to go"
            bar.update(task, completed=share, description=printable(what), left=left)

        yield tell


def _advice(measured: Measured, advice: Advice) -> list[RenderableType]:
    colour = COLOURS.get(advice.verdict, "default")
    parts: list[RenderableType] = [Text(printable(advice.sentence), style=f"bold {colour}")]
    parts += [_bullet(reason) for reason in advice.reasons]
    parts += ["", _ways(advice) if advice.ways else _map(measured, advice), ""]
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column()
    for name, told in _facts(measured, advice):
        facts.add_row(name, printable(told))
    return [*parts, facts]


def _bullet(text: str) -> Table:
    line = Table.grid(padding=(0, 1))
    line.add_row(" •", Text(printable(text)))
    return line


def _ways(advice: Advice) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    table.add_column("")
    for way in advice.ways:
        mark = " ←" if way.name == advice.verdict else ""
        table.add_column(Text(NAMES[way.name] + mark, style=COLOURS[way.name]))
    price = advice.needs.price
    most = max(way.cost for way in advice.ways) or 1.0
    unit = "machine time" if price is None else "cost"
    table.add_row(f"{unit} a day", *(_or(way, lambda way: _cost(way.cost, price)) for way in advice.ways))
    table.add_row("", *(_bar(way, most) for way in advice.ways))
    table.add_row("  per 1M rows", *(_or(way, lambda way: _cost(way.per_million, price)) for way in advice.ways))
    table.add_row("answers' age", *map(_age, advice.ways))
    table.add_row("p99 at the peak", *map(_p99, advice.ways))
    table.add_row("machines", *(_or(way, _machines) for way in advice.ways))
    table.add_row("meets the needs", *map(_meets, advice.ways))
    return table


def _cost(machine_seconds: float, price: float | None) -> str:
    if price is not None:
        return cost_told(machine_seconds, price)
    hours = machine_seconds / units.HOUR
    return f"{units.digits(hours)} h" if hours >= 1 else units.seconds(machine_seconds)


def _or(way: Way, told: Callable[[Way], str]) -> str:
    return told(way) if way.machines else "–"


def _bar(way: Way, most: float) -> Text:
    eighths = round(8 * _BAR * way.cost / most)
    if way.machines and not eighths:
        eighths = 1
    full, rest = divmod(eighths, 8)
    return Text("█" * full + ("", *"▏▎▍▌▋▊▉")[rest], style=COLOURS[way.name])


def _age(way: Way) -> str:
    if way.name == SERVERS:
        return "none"
    if way.mean_age is None or way.worst_age is None:
        return "–"
    return f"{units.seconds(way.mean_age)}; worst {units.seconds(way.worst_age)}"


def _p99(way: Way) -> str:
    return "–" if way.p99 is None else f"{units.seconds(way.p99)} at {units.rate(way.rps or 0)}"


def _machines(way: Way) -> str:
    if way.name == JOBS and way.run_s is not None:
        return f"{way.machines:,} for {units.seconds(way.run_s)}"
    return f"{way.machines:,}, {units.share(way.idle or 0.0)} idle"


def _meets(way: Way) -> Text:
    if way.feasible:
        return Text("✓ all", style="green")
    return Text(f"✗ {next(check.need for check in way.checks if not check.ok)}", style="red")


def _facts(measured: Measured, advice: Advice) -> list[tuple[str, str]]:
    made, server, alone = measured.offline, measured.server, measured.single.latency
    rate = f"{'at least ' * server.at_least}{units.rate(server.capacity)}" if server.capacity else "no rate keeps"
    p99 = "" if alone.p99 is None else f", p99 {units.seconds(alone.p99)}"
    p50 = "too few requests" if alone.p50 is None else f"p50 {units.seconds(alone.p50)}{p99}"
    same = measured.parity
    kept = f"{bound_name(measured)} within {units.seconds(server.slo_p99)}"
    found = [
        ("batch", f"{units.count(made.rows_per_s)} rows/s, starts in {units.seconds(made.start_s)}"),
        ("real time", f"{rate}{', ' if server.capacity else ' '}{kept}; one client {p50}"),
        (
            "answers",
            f"equal to the bit on {same.equal:,} of {same.rows:,} rows"
            if same.equal == same.rows
            else f"{same.rows - same.equal:,} of {same.rows:,} rows differ, by {same.largest:.3g} at most",
        ),
        ("it changes with" if advice.ways else "next", "; ".join(advice.changes)),
        (f"{advice.confidence.level} confidence", "; ".join(advice.confidence.why)),
    ]
    # That costs are machine time, the table says already.
    assumed = [one for one in advice.assumed if "--price" not in one]
    return [*found, ("assumed", "; ".join(assumed))] if assumed else found


def _map(measured: Measured, advice: Advice) -> Table:
    """Which way wins, by age downward and rate to the right: letters, for those who see no colours."""
    speed = speeds(measured, advice.needs.slo, advice.needs.job_overhead)
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
    table.add_column("age allowed", justify="right", style="dim")
    for rate in _MAP_RATES:
        table.add_column(f"{units.short(rate)}/s", justify="center")
    for age in _MAP_AGES:
        cells = []
        for rate in _MAP_RATES:
            batch = batch_wins(speed, rate, age, advice.map.spread, advice.needs.keys)
            name, word = (JOBS, "batch") if batch else (SERVERS, "serve" if advice.map.served else "none")
            cells.append(Text(word, style=COLOURS[name] if batch or advice.map.served else "dim"))
        table.add_row(units.seconds(age), *cells)
    return table


def _changes(found: Difference) -> list[RenderableType]:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for name in ("changed", "before", "now", ""):
        table.add_column(name, justify="left" if name == "changed" else "right")
    styles = {WORSE: "red", BETTER: "green"}
    for change in found.changes:
        said = f"{change_told(change)} {change.verdict}" if change.verdict in styles else "within noise"
        table.add_row(change.name, *change.told, Text(said, style=styles.get(change.verdict, "dim")))
    return [table, *(Text(printable(note), style="dim") for note in found.notes)]
