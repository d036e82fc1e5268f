"""`foretell models compare`: both ways measured on the user's own model, and which of them to use."""

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from foretell.cli.main import own_stdout
from foretell.cli.opening import casts, find_model, model_options
from foretell.cli.reading import NAMES, csv_options, params, reading_options
from foretell.cli.registry import say
from foretell.compare import report as reports
from foretell.compare.advice import advise
from foretell.compare.against import Difference, difference
from foretell.compare.measured import Measured
from foretell.compare.needs import PARSERS, Needs, duration, percent
from foretell.compare.report import Report
from foretell.compare.scenarios import SCENARIOS
from foretell.errors import ForetellError, OutputError, UsageError
from foretell.storage import write_atomic

STDOUT = "-"
_SECRET = re.compile(r"(?<=://)[^/@\s]+@")
_SCENARIOS = "; ".join(f"{name}: {one.line}" for name, one in SCENARIOS.items())
_BUDGET = "60s"


@click.command()
@model_options
@click.option("-i", "--input-path", help="A file of your rows, as predict takes: both ways are measured on them.")
@reading_options
@click.option(
    "--slo", metavar="p99=TIME", help="How fast 99 of 100 answers have to be, such as p99=20ms.  [default: p99=50ms]"
)
@click.option("--rows-per-day", metavar="N", help="How many predictions are asked for a day: 2e6, 2M.")
@click.option("--peak-rate", metavar="N", help="How many a second at the busiest: 300.  [default: the day's average]")
@click.option(
    "--refresh",
    metavar="TIME",
    help="How often a batch job runs: 24h, 15min.  [default: as seldom as --max-age lets it]",
)
@click.option("--max-age", metavar="TIME", help="How old an answer may be and still help: 36h, 1s.")
@click.option("--known", metavar="SHARE", help="Share of the requests whose rows are there before somebody asks: 90%.")
@click.option(
    "--keys", metavar="N", help="Each job predicts the same N keys again.  [default: what came since the last job]"
)
@click.option("--price", metavar="N", help="Of a machine like this one, an hour; without it costs are machine time.")
@click.option(
    "--job-overhead", metavar="TIME", help="What a machine takes before a job starts on it, such as to be booked."
)
@click.option(
    "--scenario",
    type=click.Choice(list(SCENARIOS)),
    help=f"Needs to start from, which the options above replace. {_SCENARIOS}.",
)
@click.option("-o", "--output-path", help="The report as a page, such as report.html.")
@click.option(
    "--json",
    "json_path",
    is_flag=False,
    flag_value=STDOUT,
    metavar="[PATH]",
    help="Every raw number, to a file or to stdout.",
)
@click.option("--budget", default=_BUDGET, show_default=True, metavar="TIME", help="How long all of it may take.")
@click.option(
    "--seed", type=click.IntRange(0), default=1, show_default=True, help="Of the requests' order and moments."
)
@click.option(
    "-w", "--workers", type=click.IntRange(1, 256), default=1, show_default=True, help="Server processes of a replica."
)
@click.option("--against", metavar="REPORT", help="An older --json report: say what changed, of a model or a machine.")
@click.option(
    "--max-regression",
    default="10%",
    show_default=True,
    metavar="SHARE",
    help="With --against: exit 1 if a figure is worse by more.",
)
@click.option(
    "--from",
    "from_path",
    metavar="REPORT",
    help="Measure nothing: advise from an older --json report, for other needs.",
)
def compare(**given: Any) -> None:
    """Measure a model both ways on your own rows, and say which way to use.

    A job predicts the file; a server answers its rows as one client asks them, and as they come at random, faster and
    faster. Both are the commands that you would run. Every row's answers are compared. From that, and from what you
    need, follow the costs, and a recommendation with its reasons. With no needs given, a map shows which way
    wins where.

    \b
    foretell models compare -m models:/my-model/Production -i batch_input.csv
    foretell models compare -m models:/my-model/Production -i batch_input.csv --scenario fraud -o report.html
    foretell models compare -m models:/my-model/4 -i batch_input.csv --against v3.json --max-regression 10%
    """
    _check(given)
    budget = duration(given["budget"], "--budget")
    most = percent(given["max_regression"], "--max-regression")
    if given["against"] is None and _given("max_regression"):
        raise UsageError("--max-regression needs --against, an older --json report")
    older = None if given["against"] is None else reports.read(Path(given["against"]))
    if given["from_path"] is not None:
        base = reports.read(Path(given["from_path"]))
        measured, needs = base.measured, needs_of(given, base.advice.needs)
    else:
        needs = needs_of(given, Needs())
        measured = _measure(given, needs, budget)
    report = Report(measured, advise(measured, needs))
    changed = None if older is None else difference(older.measured, measured)
    _write(report, changed, given)
    if changed is not None and (worse := changed.regressions(most)):
        told = ", ".join(f"{one.name} {one.told[0]} → {one.told[1]}" for one in worse)
        raise ForetellError(f"worse by more than {given['max_regression']}: {told}")


for _parameter in compare.params:
    if _parameter.name == "model_uri":
        # --from needs no model.
        _parameter.required = False


def needs_of(given: dict[str, Any], base: Needs) -> Needs:
    """The scenario's needs, or else the base's, with every option that is given in their place. Refresh and age belong
    together: where one is given, the other is no longer the scenario's."""
    needs = SCENARIOS[given["scenario"]].needs if given["scenario"] else base
    changed = {}
    for name, (option, parse) in PARSERS.items():
        text = given[option.removeprefix("--").replace("-", "_")]
        if text is not None:
            changed[name] = parse(text, option)
    if len({"refresh", "max_age"} & changed.keys()) == 1:
        needs = msgspec.structs.replace(needs, refresh=None, max_age=None)
    return msgspec.structs.replace(needs, **changed)


def _check(given: dict[str, Any]) -> None:
    """What can be said before a minute is spent."""
    if given["from_path"] is not None:
        if given["model_uri"] or given["input_path"]:
            raise UsageError("--from advises from what was measured before; -m and -i would measure", "Give either")
        if told := [option for name, option in NAMES.items() if _given(name)]:
            raise UsageError(f"--from reads no input and asks no model; {told[0]} would have to be measured with")
    elif not given["model_uri"] or not given["input_path"]:
        lacking = "-m MODEL" if not given["model_uri"] else "-i FILE"
        raise UsageError(f"{lacking} is missing: both ways are measured on your model and your rows")
    page = given["output_path"]
    if page is not None and page.endswith(".json"):
        raise UsageError(f"-o {page}: the report is a page, such as report.html", f"For the numbers: --json {page}")
    for option, path in (("-o", page), ("--json", given["json_path"])):
        if path not in (None, STDOUT) and not Path(path).absolute().parent.is_dir():
            raise UsageError(f"{option} {path}: there is no folder {Path(path).absolute().parent}")


def _given(name: str) -> bool:
    """Whether an option was, rather than its default."""
    context = click.get_current_context()
    return context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT


def _measure(given: dict[str, Any], needs: Needs, budget: float) -> Measured:
    """Measures both ways, with a bar where a person watches."""
    from foretell.cli.comparison import watched
    from foretell.compare.asked import Asked, Reading
    from foretell.compare.measure import measure
    from foretell.job.inputs import expand, format_of
    from foretell.tables.files import STDIN

    params(given["params"])
    reading = Reading(given["content_type"], csv_options(given), given["proba"], given["params"])
    if given["input_path"] != STDIN:
        format_of(expand(given["input_path"]), reading.format)
    found = find_model(given)
    asked = Asked(
        uri=given["model_uri"],
        input=given["input_path"],
        registry=given["registry"],
        trust=given["trust"] or found.settled.trusted,
        engine=given["engine"],
        schema=given["schema"],
        cast=casts(given["cast"]),
        slo_p99=needs.slo or None,
        budget=budget,
        seed=given["seed"],
        workers=given["workers"],
        command=_command(given),
        reading=reading,
    )
    with watched(budget) as say_how:
        return measure(asked, say_how)


def _command(given: dict[str, Any]) -> str:
    """What makes the report again; a password in an address is left out. Raises UsageError."""
    if told := next((word for word in sys.argv[1:] if word != word.encode("utf-8", "ignore").decode()), None):
        raise UsageError(f"{told!a} is no UTF-8, which a report has to be")
    words = ["foretell", *(_SECRET.sub("", word) for word in sys.argv[1:])]
    if not any(word == "--seed" or word.startswith("--seed=") for word in words):
        words += ["--seed", str(given["seed"])]
    return shlex.join(words)


def _write(report: Report, changed: Difference | None, given: dict[str, Any]) -> None:
    """The page and the numbers to their files; the report to the terminal, but where the numbers go to stdout."""
    data = reports.encoded(report)
    page, numbers = given["output_path"], given["json_path"]
    if page is not None:
        from foretell.compare.page import page as drawn
        from foretell.compare.quantiles import BUCKETS

        _save(page, drawn(report, BUCKETS, changed).encode())
    if numbers == STDOUT:
        with own_stdout() as stdout:
            stdout.write(data.decode())
    else:
        from foretell.cli.comparison import show

        if numbers is not None:
            _save(numbers, data)
        show(report.measured, report.advice, changed)
    for path in (page, numbers):
        if path not in (None, STDOUT):
            say(f"saved to {path}")


def _save(path: str, data: bytes) -> None:
    try:
        write_atomic(Path(path), data)
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}") from error
