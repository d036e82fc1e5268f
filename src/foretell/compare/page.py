"""A comparison as one page that needs no network and runs no code: the advice first, then what it stands on."""

import re
from collections.abc import Sequence
from functools import cache
from html import escape
from importlib.resources import files
from string import Template

from foretell.compare import charts, evidence, units
from foretell.compare.advice import NEITHER, UNDECIDED, Advice
from foretell.compare.against import BETTER, WORSE, Difference, change_told
from foretell.compare.costs import JOBS, SERVERS, bound_name
from foretell.compare.measured import Measured, Quantiles
from foretell.compare.needs import Needs
from foretell.compare.reasons import cost_told, range_told
from foretell.compare.report import Report
from foretell.compare.ways import BOTH, Way

STYLES = {JOBS: "batch", SERVERS: "served", BOTH: "both", UNDECIDED: "none", NEITHER: "none"}
NAMES = {JOBS: "Batch", SERVERS: "Real time", BOTH: "Precomputed + real time"}

_HYPHENED = re.compile(r"--[a-z][a-z-]*|machine-[a-z]+")


def page(report: Report, ends: Sequence[float], difference: Difference | None = None) -> str:
    """The page's HTML. ends: upper ends of the histograms' buckets. Every word of a model or a file is escaped."""
    measured, advice = report.measured, report.advice
    return _template().substitute(
        title=escape(f"{measured.model.label}: batch or real time?"),
        model=escape(measured.model.label),
        at=escape(_moment(measured.at)),
        style=STYLES.get(advice.verdict, "none"),
        sentence=_whole(advice.sentence),
        reasons=_items(advice.reasons),
        aside=_aside(advice),
        difference="" if difference is None else _difference(difference),
        cards=_cards(advice),
        charts_title="At which volume, at which rate" if advice.ways else "Which way wins where",
        charts=_charts(measured, advice, ends),
        stages=evidence.stages(measured),
        parity=evidence.parity(measured.parity),
        evidence=evidence.tables(measured),
        machine=evidence.machine(measured),
        widths="".join(f".i{percent}{{width:{percent}%}}" for percent in range(2, 101)),
        footer=escape(
            f"Made by foretell {measured.machine.foretell} in {units.seconds(measured.took_s)}. Latencies count from "
            "the moment a request was due. No quantile is shown from fewer requests than can tell it."
        ),
    )


def _moment(at: str) -> str:
    return at.replace("T", " ").replace("+00:00", " UTC").replace("Z", " UTC")


def needs_told(needs: Needs) -> list[str]:
    """What is needed, a few words each."""
    found = []
    if needs.rows_per_day is not None:
        found.append(f"{units.count(needs.rows_per_day)} predictions a day")
    if needs.peak is not None:
        found.append(f"up to {units.rate(needs.peak)}")
    found.append(f"p99 within {units.seconds(needs.slo)}")
    if needs.max_age is not None:
        found.append(f"answers at most {units.seconds(needs.max_age)} old")
    if needs.refresh is not None:
        found.append(f"batch every {units.seconds(needs.refresh)}")
    if needs.known is not None:
        found.append(f"{units.share(needs.known)} of the rows known ahead")
    if needs.keys is not None:
        found.append(f"{units.count(needs.keys)} keys")
    if needs.job_overhead:
        found.append(f"{units.seconds(needs.job_overhead)} before a job starts")
    if needs.price is not None:
        found.append(f"{units.money(needs.price)} a machine-hour")
    return found


def _items(texts: Sequence[str]) -> str:
    return "".join(f"<li>{_whole(text)}</li>" for text in texts)


def _whole(text: str) -> str:
    """Escaped, and words with a hyphen in them kept on one line."""
    return _HYPHENED.sub(r'<span class="w">\g<0></span>', escape(text))


def _aside(advice: Advice) -> str:
    parts = [("Needed", needs_told(advice.needs)), ("What would change it", advice.changes)]
    parts.append((f"Confidence: {advice.confidence.level}", advice.confidence.why))
    if advice.assumed:
        parts.append(("Taken for granted", advice.assumed))
    return "".join(f"<div><h3>{escape(head)}</h3><ul>{_items(texts)}</ul></div>" for head, texts in parts if texts)


def _cards(advice: Advice) -> str:
    if not advice.ways:
        return ""
    most = max(way.cost for way in advice.ways) or 1.0
    return f'<h2>The ways, compared</h2><div class="cards">{"".join(_card(w, advice, most) for w in advice.ways)}</div>'


def _card(way: Way, advice: Advice, most: float) -> str:
    won = way.name == advice.verdict
    head = f'<p class="way">{NAMES[way.name]}<span>{"recommended" if won else ""}</span></p>'
    checks = "".join(
        f'<li><b class="{"good" if check.ok else "bad"}">{"✓" if check.ok else "✗"}</b>'
        f"{escape(check.need)}: {escape(check.found)}{'' if check.ok else escape(f'; needed: {check.asked}')}</li>"
        for check in way.checks
    )
    body = f'<p class="big">not possible</p><ul class="check">{checks}</ul>'
    if way.machines:
        width = max(1, min(100, round(100 * way.cost / most)))
        body = (
            f'<p class="big">{_whole(cost_told(way.cost, advice.needs.price))} <small>a day</small></p>'
            f'<div class="bar-line"><div class="i{width}"></div></div><dl>{_facts(way, advice.needs)}</dl>'
            f'<ul class="check">{checks}</ul>'
        )
    return f'<section class="card {STYLES[way.name]}{" won" if won else ""}">{head}{body}</section>'


def _facts(way: Way, needs: Needs) -> str:
    facts = [("per 1M predictions", cost_told(way.per_million, needs.price))]
    if way.cost_high > way.cost_low * 1.001:
        facts.append(("a day, with its noise", range_told(way.cost_low, way.cost_high, needs.price)))
    if way.refresh is not None and way.run_s is not None:
        facts.append(("a run every", units.seconds(way.refresh)))
        facts.append(("a run takes", units.seconds(way.run_s)))
    if way.mean_age is not None and way.worst_age is not None:
        facts.append(("answers' age, mean", units.seconds(way.mean_age)))
        facts.append(("answers' age, worst", units.seconds(way.worst_age)))
    if way.p99 is not None:
        facts.append((f"p99 at {units.rate(way.rps or 0)} a replica", units.seconds(way.p99)))
    if way.p99_low is not None and way.p99_high is not None:
        facts.append(("its 95 % interval", f"{units.seconds(way.p99_low)} … {units.seconds(way.p99_high)}"))
    facts.append(("machines at a time", f"{way.machines:,}"))
    if way.idle is not None:
        facts.append(("of servers idle", units.share(way.idle)))
    return "".join(f"<dt>{escape(name)}</dt><dd>{_whole(told)}</dd>" for name, told in facts)


def _charts(measured: Measured, advice: Advice, ends: Sequence[float]) -> str:
    found = []
    if advice.ways:
        found.append(("Cost over volume", _crossing_told(advice), charts.cost(measured, advice)))
        found.append(("Cost over freshness", _even_told(advice), charts.freshness(measured, advice)))
    found.append(("Which way wins", _map_told(advice), charts.territory(advice)))
    if measured.server.curve:
        server = measured.server
        rate = (
            f"{'at least ' * server.at_least}{units.rate(server.capacity)} keep" if server.capacity else "no rate keeps"
        )
        kept = f"{bound_name(measured)} within {units.seconds(measured.server.slo_p99)}"
        limit = f"{rate} {kept}"
        found.append(
            ("Latency over throughput", f"real time, one replica: {limit}", charts.throughput(measured, advice))
        )
    alone = charts.histogram(measured.single.latency, ends, "Latencies of one client")
    found.append(("Latency of one client alone", _requests(measured.single.latency), alone))
    loaded = [step for step in measured.server.curve if step.within]
    if loaded:
        step = loaded[-1]
        drawn = charts.histogram(step.latency, ends, "Latencies at capacity")
        found.append((f"Latency at {units.rate(step.asked)}", _requests(step.latency), drawn))
    return "".join(
        f"<figure><figcaption>{escape(head)}<small>{escape(sub)}</small></figcaption>{drawn}</figure>"
        for head, sub, drawn in found
        if drawn
    )


def _requests(latency: Quantiles) -> str:
    return f"{latency.requests:,} requests; the bars are as wide as a bucket"


def _crossing_told(advice: Advice) -> str:
    crossing = advice.crossing
    if crossing is None:
        return "batch cannot run as often as is needed"
    if crossing.rate is None:
        return f"no crossing: {crossing.below} costs less at every volume"
    return f"the same at {units.rate(crossing.rate)}: {crossing.below} costs less below, {crossing.above} above"


def _even_told(advice: Advice) -> str:
    if advice.refresh_even is None:
        return "at your volume; no refresh costs what servers do"
    return f"at your volume; the same with batch every {units.seconds(advice.refresh_even)}"


def _map_told(advice: Advice) -> str:
    spread = f"; peak {units.times(advice.map.spread)} the average" if advice.map.spread > 1.005 else ""
    return f"by the rate, and the age that an answer may have{spread}"


def _difference(found: Difference) -> str:
    rows = "".join(
        f"<tr><td>{escape(change.name)}</td><td>{escape(change.told[0])}</td><td>{escape(change.told[1])}</td>"
        f'<td>{change_told(change)}</td><td class="{_verdict(change.verdict)}">{_said(change.verdict)}</td></tr>'
        for change in found.changes
    )
    head = "<tr><th>what</th><th>before</th><th>now</th><th>change</th><th></th></tr>"
    notes = f'<p class="note">{escape("; ".join(found.notes))}</p>' if found.notes else ""
    return f'<h2>What changed</h2><div class="card"><div class="scroll"><table>{head}{rows}</table></div>{notes}</div>'


def _verdict(verdict: str) -> str:
    return {WORSE: "bad", BETTER: "good"}.get(verdict, "")


def _said(verdict: str) -> str:
    return {WORSE: "worse", BETTER: "better"}.get(verdict, "within noise")


@cache
def _template() -> Template:
    return Template((files("foretell.compare") / "page.html").read_text("utf-8"))
