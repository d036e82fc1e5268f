"""The page's lower half: what the advice stands on, as tables: stages, parity, every trial, the machine."""

from html import escape

from foretell.compare import units
from foretell.compare.costs import bound_name, steps
from foretell.compare.measured import Measured, Offline, Parity, Server, Single, Step

_COLUMNS = ("due", "answered", "p50", "p99", "95 % interval", "requests", "generator late", "")
_STAGES = {"http": "HTTP", "queue": "waiting for the model", "compute": "predicting"}


def stages(measured: Measured) -> str:
    """Of a row in a job, by all threads, and of a request: a bar each, and its parts in words."""
    made, served = measured.offline, measured.server
    jobs = {name: each / made.rows for name, each in made.stages.items()} if made.rows else {}
    requests = {_STAGES.get(name, name): each for name, each in served.stages.items()}
    return _stage("Batch", "a row, time of all threads", jobs, "batch") + _stage(
        "Real time", "a request, in the server at half of its capacity", requests, "served"
    )


def parity(found: Parity) -> str:
    """Whether both ways gave the same."""
    if found.equal == found.rows:
        return (
            f'<span class="good">Yes: {found.rows:,} of {found.rows:,} rows through both ways, equal to the bit.</span>'
        )
    head = "<tr><th>row</th><th>column</th><th>batch</th><th>real time</th></tr>"
    rows = "".join(
        f"<tr><td>{one.row:,}</td><td>{escape(one.column)}</td><td>{escape(one.batch)}</td><td>{escape(one.served)}</td></tr>"
        for one in found.mismatches
    )
    told = (
        f"No: {found.rows - found.equal:,} of {found.rows:,} rows differ; by {found.largest:.3g} at most, as numbers."
    )
    return f'<span class="bad">{told}</span><div class="scroll"><table>{head}{rows}</table></div>'


def tables(measured: Measured) -> str:
    """Every trial."""
    return (
        f'<div class="card"><h3>Batch: the job on your file</h3>{_facts(_offline(measured.offline))}</div>'
        f'<div class="card"><h3>Real time: one client, and at rest</h3>'
        f"{_facts(_single(measured.single, measured.server, bound_name(measured)))}</div>"
        f'<div class="card wide"><h3>Real time: requests arriving at random</h3>{_curve(measured)}</div>'
    )


def machine(measured: Measured) -> str:
    """The fingerprint, and the command."""
    here, model = measured.machine, measured.model
    facts = [
        ("model", model.uri),
        ("version", model.version),
        ("digest", model.digest),
        ("flavour", model.flavour),
        ("engine", model.engine),
        ("input", f"{measured.input}, {measured.input_rows:,} rows"),
        ("seed", str(measured.seed)),
    ]
    there = [
        ("processor", f"{here.processor}, {units.digits(here.cores)} cores"),
        ("memory", units.size(here.memory)),
        ("system", here.system),
        ("Python", here.python),
        ("foretell", here.foretell),
        ("libraries", " · ".join(f"{name} {version}" for name, version in here.versions.items())),
    ]
    notes = "".join(f"<li>{escape(note)}</li>" for note in measured.notes)
    told = f'<h3 class="next">Worth knowing</h3><ul class="why">{notes}</ul>' if notes else ""
    return (
        f'<div class="card">{_facts(facts)}</div><div class="card">{_facts(there)}</div>'
        f'<div class="card"><h3>To make it again</h3><pre>{escape(measured.command)}</pre>{told}</div>'
    )


def _stage(name: str, of: str, parts: dict[str, float], style: str) -> str:
    whole = sum(parts.values())
    if not whole:
        return ""
    shown = list(parts.items())[:4]
    bars = "".join(
        f'<div class="s{at + 1} i{max(1, round(100 * each / whole))}"></div>' for at, (_, each) in enumerate(shown)
    )
    key = "".join(
        f'<li class="s{at + 1}"><i></i>{escape(part)} <b>{units.seconds(each)}</b> {units.share(each / whole)}</li>'
        for at, (part, each) in enumerate(shown)
    )
    head = f"<h3>{name}: {units.seconds(whole)} {of}</h3>"
    return f'<div class="{style}">{head}<div class="stages">{bars}</div><ul class="key">{key}</ul></div>'


def _offline(made: Offline) -> list[tuple[str, str]]:
    work = made.cpu_s / made.rows * 1e6 if made.rows else 0.0
    return [
        ("throughput", f"{units.count(made.rows_per_s)} rows/s"),
        ("three windows", f"{' · '.join(units.count(each) for each in made.windows)} rows/s{_steady(made.stable)}"),
        ("rows", f"{made.rows:,}, the file {made.loops:,} time{'s' * (made.loops != 1)}"),
        ("start", units.seconds(made.start_s)),
        ("first row", units.seconds(made.first_row_s)),
        ("CPU per 1M rows", units.seconds(work)),
        ("CPU to start", units.seconds(made.cpu_s_start)),
        ("peak memory", units.size(made.peak)),
    ]


def _single(alone: Single, server: Server, name: str) -> list[tuple[str, str]]:
    latency = alone.latency
    told = [
        ("one client", f"{units.rate(alone.rps)}, {latency.requests:,} requests"),
        *((name, _quantile(value)) for name, value in _quantiles(latency.p50, latency.p99, latency.p999)),
        ("most", units.seconds(latency.most)),
        ("start, until ready", units.seconds(server.ready_s)),
        ("memory at rest", units.size(server.idle)),
        ("peak memory", units.size(server.peak)),
    ]
    rate = f"{'at least ' * server.at_least}{units.rate(server.capacity)}" if server.capacity else "no rate"
    return [*told, (f"keeps {name} within {units.seconds(server.slo_p99)}", rate)]


def _quantiles(p50: float | None, p99: float | None, p999: float | None) -> list[tuple[str, float | None]]:
    return [("p50", p50), ("p99", p99), ("p99.9", p999)]


def _curve(measured: Measured) -> str:
    head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
    rows = "".join(map(_step, steps(measured)))
    return f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>'


def _step(step: Step) -> str:
    latency = step.latency
    interval = "–"
    if latency.p99_low is not None and latency.p99_high is not None:
        interval = f"{units.seconds(latency.p99_low)} … {units.seconds(latency.p99_high)}"
    notes = ["kept" if step.within else "not kept"]
    notes += [f"{step.failed:,} failed"] if step.failed else []
    notes += ["unsteady"] if not step.stable else []
    notes += ["generator-bound"] if step.limited else []
    cells = [
        units.rate(step.asked),
        units.rate(step.done),
        _quantile(latency.p50),
        _quantile(latency.p99),
        interval,
        f"{latency.requests:,}",
        units.seconds(step.lag),
        ", ".join(notes),
    ]
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def _quantile(value: float | None) -> str:
    return "too few" if value is None else units.seconds(value)


def _steady(stable: bool) -> str:
    return "" if stable else ", not steady"


def _facts(facts: list[tuple[str, str]]) -> str:
    return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{escape(told)}</dd>' for name, told in facts)}</dl>"
