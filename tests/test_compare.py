"""`foretell models compare`: what it prints, writes and refuses; the page in a real browser."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from conftest import COMMAND, PATIENCE
from foretell.compare.advice import advise
from foretell.compare.against import BETTER, SAME, WORSE, difference
from foretell.compare.measured import Measured, Mismatch
from foretell.compare.needs import Needs
from foretell.compare.page import page
from foretell.compare.quantiles import BUCKETS
from foretell.compare.report import Report, encoded, read
from foretell.compare.scenarios import SCENARIOS
from foretell.errors import InputUnreadable
from made_measured import measured, with_offline, with_server
from test_page import CHROMIUM, CONTRASTS, HOSTILE, Browser, browser  # noqa: F401

OLD = measured()


def saved(name: str, found: Measured, needs: Needs = Needs()) -> Path:  # noqa: B008
    path = Path(name)
    path.write_bytes(encoded(Report(found, advise(found, needs))))
    return path


def compare(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, "models", "compare", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=4 * PATIENCE, check=False)


def test_advises_again_from_a_report() -> None:
    """--from measures nothing: the sentence, the ways side by side and the evidence fit 24 lines of 80."""
    ran = compare("--from", str(saved("old.json", OLD)), "--scenario", "fraud")
    lines = ran.stdout.splitlines()
    assert (0, "") == (ran.returncode, ran.stderr)
    assert "Serve it in real time, with 1 replica: 24 machine-hours a day." == lines[0]
    assert len(lines) <= 24
    assert max(len(line.rstrip()) for line in lines) <= 80
    assert "✗ fresh enough" in ran.stdout


def test_options_replace_a_scenario_s_needs() -> None:
    """Each number of a scenario may be said otherwise, and the verdict follows."""
    path = str(saved("old.json", OLD))
    ran = compare("--from", path, "--scenario", "fraud", "--max-age", "24h", "--known", "100%", "--json")
    advice = json.loads(ran.stdout)["advice"]
    assert ("batch", 86400.0, 300.0) == (advice["verdict"], advice["needs"]["max_age"], advice["needs"]["peak"])


def test_json_holds_every_raw_number() -> None:
    """What is written is read again as the same, seed and all."""
    path = saved("old.json", OLD)
    ran = compare("--from", str(path), "--json", "new.json", "-o", "page.html")
    assert 0 == ran.returncode, ran.stderr
    assert OLD == read(Path("new.json")).measured == read(path).measured
    assert Path("page.html").read_text().startswith("<!doctype html>")


def test_measures_both_ways_and_advises() -> None:
    """From a model and a file to the sentence, the page and the numbers; where the time is too short for this machine,
    with the one that the error names."""
    subprocess.run([*COMMAND, "demo"], capture_output=True, timeout=PATIENCE, check=True)
    arguments = ["-m", "models:/my-model/Production", "-i", "batch_input.csv", "--scenario", "daily"]
    budget = "7s"
    while True:
        ran = compare(*arguments, "-o", "page.html", "--json", "new.json", "--budget", budget)
        if "too short to compare" not in ran.stderr:
            break
        budget = str(re.findall(r"--budget (\w+)", ran.stderr)[0])
    assert 0 == ran.returncode, ran.stderr
    assert ran.stdout.startswith("Predict in batch, every 24 h: ")
    found = read(Path("new.json")).measured
    assert 0 < found.parity.rows == found.parity.equal
    assert 150 == found.input_rows
    assert found.offline.rows_per_s > 0
    assert found.single.latency.requests > 0
    assert found.command.endswith(f"--budget {budget} --seed 1")
    assert "Predict in batch, every 24 h" in Path("page.html").read_text()


REFUSED = {
    "no model": (["-i", "rows.csv"], "-m MODEL is missing"),
    "no input": (["-m", "model"], "-i FILE is missing"),
    "both": (["--from", "old.json", "-m", "model"], "--from advises from what was measured before"),
    "slo": (["--from", "old.json", "--slo", "20ms"], "--slo 20ms: expected p99=TIME"),
    "slo of another quantile": (["--from", "old.json", "--slo", "p50=20ms"], "--slo p50=20ms: expected p99=TIME"),
    "a time without a unit": (["--from", "old.json", "--refresh", "24"], "--refresh 24: expected a time with its unit"),
    "rows": (["--from", "old.json", "--rows-per-day", "many"], "--rows-per-day many: expected a number"),
    "no rows": (["--from", "old.json", "--rows-per-day", "0"], "--rows-per-day 0: expected a number, above 0"),
    "rate": (["--from", "old.json", "--peak-rate", "-3"], "--peak-rate -3: expected a number a second"),
    "share": (["--from", "old.json", "--known", "120%"], "--known 120%: expected a share of 0 … 100 %"),
    "price": (["--from", "old.json", "--price", "5c"], "--price 5c: expected a price an hour"),
    "regression of nothing": (["--from", "old.json", "--max-regression", "5%"], "--max-regression needs --against"),
    "regression": (["--from", "old.json", "--max-regression", "x"], "--max-regression x: expected a share"),
    "scenario": (["--from", "old.json", "--scenario", "x"], "'x' is not one of"),
    "budget": (["--from", "old.json", "--budget", "soon"], "--budget soon: expected a time with its unit"),
    "a page called json": (["--from", "old.json", "-o", "r.json"], "-o r.json: the report is a page"),
    "no folder": (["--from", "old.json", "-o", "none/r.html"], "-o none/r.html: there is no folder"),
    "another way to read": (["--from", "old.json", "--proba"], "--from reads no input and asks no model; --proba"),
    "delimiter": (["-m", "model", "-i", "rows.csv", "--delimiter", ";;"], "--delimiter ';;': expected one"),
    "encoding": (["-m", "model", "-i", "rows.csv", "--encoding", "utf-9"], "--encoding utf-9: no such encoding"),
    "words": (["-m", "model", "-i", "rows.csv", "--null-values", "a\nb"], "--null-values 'a\\nb': new-line"),
    "params": (["-m", "model", "-i", "rows.csv", "--params", "[1]"], "--params: expected a JSON object"),
    "a name without a format": (["-m", "model", "-i", "rows", "--proba"], "rows: the input's format cannot be told"),
    "no report": (["--from", "none.json"], "none.json: No such file or directory"),
    "not a report": (["--from", "rows.csv"], "rows.csv: not a report"),
    "against no report": (["--from", "old.json", "--against", "rows.csv"], "rows.csv: not a report"),
}


@pytest.mark.parametrize(("arguments", "said"), REFUSED.values(), ids=REFUSED)
def test_refuses_with_the_place_and_the_remedy(arguments: list[str], said: str) -> None:
    """Every mistake is one error that names the option, before anything is measured."""
    from click.testing import CliRunner

    from foretell.cli.main import exit_code
    from foretell.cli.models import command
    from foretell.errors import ForetellError

    saved("old.json", OLD)
    Path("rows.csv").write_text("a,b\n1,2\n")
    ran = CliRunner().invoke(command, ["compare", *arguments])
    if isinstance(ran.exception, ForetellError):
        assert exit_code(ran.exception) in (2, 3)
        assert said in ran.exception.message
    else:
        assert 2 == ran.exit_code
        assert said in ran.output


BENT = {
    "another kind": {"kind": "x"},
    "a later version": {"version": 99},
    "a need below 0": {"advice": {"needs": {"rows_per_day": -1}}},
    "words for numbers": {"measured": {"seed": "x"}},
    "no speed": {"measured": {"offline": {"rows_per_s": 0}}},
    "no start": {"measured": {"offline": {"start_s": 0.0}}},
    "a time below 0": {"measured": {"took_s": -1}},
    "a number without end": {"measured": {"server": {"capacity": 1e300}}},
    "a rate that is none": {"measured": {"offline": {"rows_per_s": None}}},
}


@pytest.mark.parametrize("bent", BENT.values(), ids=BENT)
def test_a_bent_report_is_refused(bent: dict[str, Any]) -> None:
    """A file that is not what foretell wrote is one clear error."""

    def bend(whole: dict[str, Any], with_: dict[str, Any]) -> dict[str, Any]:
        return {**whole, **{name: bend(whole[name], v) if isinstance(v, dict) else v for name, v in with_.items()}}

    path = saved("old.json", OLD)
    path.write_text(json.dumps(bend(json.loads(path.read_text()), bent)))
    with pytest.raises(InputUnreadable, match=r"old\.json"):
        read(path)


def test_against_an_older_report_exits_1_beyond_the_regression() -> None:
    """Slower by more than is allowed and by more than noise: the figures are named, and the exit code is 1."""
    old, new = saved("old.json", OLD), saved("new.json", measured(rows_per_s=60_000.0))
    ran = compare("--from", str(new), "--against", str(old), "--max-regression", "20%")
    assert 1 == ran.returncode
    assert "worse by more than 20%: batch, rows/s 100,000 → 60,000" in ran.stderr
    assert 0 == compare("--from", str(new), "--against", str(old), "--max-regression", "200%").returncode
    assert 0 == compare("--from", str(old), "--against", str(new), "--max-regression", "1%").returncode


CHANGED = {
    "nothing": (OLD, "batch, rows/s", SAME),
    "within the windows": (measured(rows_per_s=97_000.0), "batch, rows/s", SAME),
    "more rows": (measured(rows_per_s=120_000.0), "batch, rows/s", BETTER),
    "fewer rows": (measured(rows_per_s=80_000.0), "batch, rows/s", WORSE),
    "a noisy job": (with_offline(OLD, rows_per_s=9e4, windows=[8e4, 1e5]), "batch, rows/s", SAME),
    "a longer p99": (measured(slo=0.03), "real time, p99 of one client", WORSE),
    "less capacity": (measured(capacity=700.0), "real time, requests/s within the SLO", WORSE),
    "at least as much": (
        with_server(OLD, capacity=900.0, at_least=True),
        "real time, requests/s within the SLO",
        SAME,
    ),
}


@pytest.mark.parametrize(("new", "name", "verdict"), CHANGED.values(), ids=CHANGED)
def test_a_change_counts_only_beyond_the_noise(new: Measured, name: str, verdict: str) -> None:
    """Intervals that touch are the same."""
    assert verdict == next(change.verdict for change in difference(OLD, new).changes if change.name == name)


def test_another_slo_makes_capacities_no_comparison() -> None:
    """What cannot be compared is not; that it is another is said."""
    found = difference(OLD, measured(slo=0.05))
    assert "real time, requests/s within the SLO" not in [change.name for change in found.changes]
    assert "SLO: 20 ms → 50 ms" in found.notes


def test_another_question_to_the_model_is_told() -> None:
    """Where only one of two measured probabilities too, the difference says so."""
    found = difference(OLD, msgspec.structs.replace(OLD, asked="--proba"))
    assert ["asked with: no options → --proba"] == found.notes


def test_every_scenario_has_a_page() -> None:
    """The page stands for every verdict, also where nothing was said or no server is fast enough."""
    for found in (OLD, measured(capacity=0.0), measured(start=4.0, rows_per_s=400.0, capacity=150.0)):
        for needs in (Needs(), Needs(rows_per_day=1e6), *(scenario.needs for scenario in SCENARIOS.values())):
            drawn = page(Report(found, advise(found, needs)), BUCKETS)
            assert not re.search(r"\b(nan|inf|None)\b", re.sub(r"<style>.*?</style>", "", drawn, flags=re.S))
            assert "<script" not in drawn


@pytest.fixture
def opened(browser: Browser) -> Browser:  # noqa: F811
    found = measured(start=4.0, rows_per_s=400.0, capacity=150.0, slo=0.05, equal=False)
    drawn = page(Report(found, advise(found, SCENARIOS["recommend"].needs)), BUCKETS, difference(OLD, found))
    Path("page.html").write_text(drawn)
    browser.size(1280, 900)
    browser.scheme("light")
    browser.open(Path("page.html").absolute().as_uri())
    return browser


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_the_page_can_be_read_wide_and_narrow_light_and_dark(opened: Browser) -> None:
    """Nothing sticks out at any width, every text stands out from its ground, and the sentence comes first."""
    for width in (1280, 800, 380):
        opened.size(width, 900)
        assert width == opened.ask("document.documentElement.scrollWidth")
    assert opened.ask("document.querySelector('h1').innerText").startswith("Precompute every 1 h and serve the rest")
    for scheme in ("light", "dark"):
        opened.scheme(scheme)
        contrasts = opened.ask(CONTRASTS.replace(".color)", "[element.closest('svg') ? 'fill' : 'color'])"))
        assert 20 < len(contrasts)
        assert {} == {where: at for where, at in contrasts.items() if at < 4.5 and not where.startswith("title.")}
    assert 6 == opened.ask("document.querySelectorAll('figure svg').length")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_the_page_asks_no_network_and_runs_no_code(browser: Browser) -> None:  # noqa: F811
    """Hostile names of models, columns and files are text, and the page's own policy forbids everything else."""
    hostile = " ".join(HOSTILE)
    named = msgspec.structs.replace(
        OLD,
        input=hostile,
        command=hostile,
        notes=[hostile],
        model=msgspec.structs.replace(OLD.model, label=hostile, uri=hostile, flavour=hostile),
        machine=msgspec.structs.replace(OLD.machine, processor=hostile, versions={hostile: hostile}),
        parity=msgspec.structs.replace(OLD.parity, equal=1, mismatches=[Mismatch(1, hostile, hostile, hostile)]),
        offline=msgspec.structs.replace(OLD.offline, stages={hostile: 1.0}),
    )
    Path("page.html").write_text(page(Report(named, advise(named, Needs())), BUCKETS, difference(OLD, named)))
    browser.size(400, 900)
    browser.open(Path("page.html").absolute().as_uri())
    assert f"{hostile}: batch or real time?" == browser.ask("document.title")
    assert hostile == browser.ask("document.querySelector('.eyebrow b').textContent")
    assert [0, 1, 0] == [browser.ask(f"document.querySelectorAll('{tag}').length") for tag in ("script", "h1", "img")]
    assert 0 == browser.ask("performance.getEntriesByType('resource').length")
    assert 400 == browser.ask("document.documentElement.scrollWidth")
    refused = "fetch('data:text/plain,x').then(() => 'fetched', () => 'refused')"
    assert "refused" == browser.ask(refused)
