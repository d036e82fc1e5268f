"""`foretell models predict`: batch prediction from a file to a file."""

import csv
import hashlib
import shlex
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from foretell.cli.advising import advise_job
from foretell.cli.destination import ENDINGS, Destination, destination
from foretell.cli.main import own_stdout
from foretell.cli.noting import Note, noted, noting_options, report_path, summary
from foretell.cli.opening import casts, find_model, load_model, model_options
from foretell.cli.progress import shown, stopped_by_signals
from foretell.cli.reading import csv_options, params, reading_options
from foretell.cli.registry import say
from foretell.errors import ForetellError, UsageError
from foretell.job.crew import opener
from foretell.job.inputs import Inputs, expand, format_of
from foretell.job.job import run
from foretell.job.outputs import AUTO, NEVER, REQUIRE, Output, Target
from foretell.job.rejects import NULL, REJECT, STOP
from foretell.job.running import Limit, Running, Stop
from foretell.job.work import Job
from foretell.predictor import Found, Predictor, load
from foretell.tables import formats
from foretell.tables.files import STDIN, Source, open_input
from foretell.tables.formats import Format
from foretell.tables.kept import ALL, NONE, Keep

if TYPE_CHECKING:
    from foretell.compiler.watch import Watch


@click.command()
@model_options
@click.option(
    "-i",
    "--input-path",
    default=STDIN,
    help="Input file, .gz and .zst too, a folder of them or a pattern such as 'day/*.csv'; - or none for stdin.",
)
@click.option(
    "-o",
    "--output-path",
    default=STDIN,
    help="Output file, its format by its ending, such as .parquet or .csv.gz; or a folder of parts, such as out/; - or "
    "none for stdout.",
)
@click.option(
    "--output-format",
    type=click.Choice(ENDINGS),
    metavar="ENDING",
    help="The output's format, such as parquet or csv.gz, else by its name's ending, else the input's.",
)
@click.option(
    "--part-mb",
    type=click.IntRange(1),
    default=128,
    show_default=True,
    help="In a folder, a part ends after so many MiB; packed text counts before it is packed by zstd.",
)
@reading_options
@click.option("--keep", default="all", metavar="all|none|A,B", help="Input columns to carry along.", show_default=True)
@click.option("--prediction-column", default="prediction", show_default=True, help="The predictions' column.")
@click.option("--no-clobber", is_flag=True, help="Refuse to replace an output that is there.")
@click.option(
    "--on-error",
    type=click.Choice([STOP, REJECT, NULL]),
    default=STOP,
    show_default=True,
    help="A bad row: stop at it; leave it out; or predict nothing for it. Both write it to OUT.rejects.jsonl.",
)
@click.option(
    "--max-rejects",
    metavar="N|P%",
    help="So many bad rows are accepted; beyond, exit 4 and the older output stays.  [default: all but every row]",
)
@click.option(
    "--resume",
    type=click.Choice([AUTO, REQUIRE, NEVER]),
    default=AUTO,
    show_default=True,
    help="Go on where an earlier run of the same job stopped: where there is one, only then, or never.",
)
@click.option("--threads", type=click.IntRange(1), help="Rows are worked on by so many.  [default: one a core]")
@noting_options
def predict(**given: Any) -> None:
    """Predict every row of a file: CSV, JSON Lines, JSON, Parquet or Arrow.

    Each row of the input becomes a row of the output, in order: the columns that the model does not take (ids, keys),
    then the prediction. The output appears when it is complete; until then an older one stays.

    \b
    foretell models predict -m models:/my-model/Production -i batch_input.csv -o batch_output.csv
    """
    source, target = given["input_path"], given["output_path"]
    paths = [] if source == STDIN else expand(source)
    to = destination(given, source, paths)
    report = report_path(given, paths)
    limit = _limit(given["max_rejects"])
    if given["on_error"] != STOP and target == STDIN:
        raise UsageError(f"--on-error {given['on_error']} writes bad rows beside the output", "Give a file: -o")
    stop = Stop()
    with noted(given) as note:
        found = find_model(given)
        note.begin(found)
        running = Running(
            given["threads"] or 0,
            given["resume"],
            limit,
            stop,
            say=say,
            name=note.name,
            began=note.began,
            digests=report is not None and not given["no_hashes"],
            guard=note.guard(),
        )
        with own_stdout() as stdout:
            label = _run(given, paths, to, note, found, running, lambda fmt: to.open(fmt, stdout.buffer, report))
        if note.tally.jumps:
            raise note.held(note.tally.jumps)
        if not note.tally.finished:
            click.echo(f"stopped after {note.tally.rows:,} rows; the same command goes on from there", err=True)
            raise SystemExit(stop.code)
    if target != STDIN:
        click.echo(f"Prediction completed successfully. Output saved to {target}")
    click.echo(summary(note.tally, label, given), err=True)
    advise_job(note.ledger, found.resolved.digest, given["model_uri"])


def _run(
    given: dict[str, Any],
    paths: list[str],
    to: Destination,
    note: Note,
    found: Found,
    running: Running,
    open_output: Callable[[Format], Target],
) -> str:
    """Runs the job; returns the model's name for people."""
    with open_input(paths[0] if paths else STDIN) as opened:
        if running.digests:
            opened.heard = hashlib.sha256()
        input_format = _input_format(given["content_type"], paths, opened)
        if opened.stamp is None or given["input_path"] == STDIN:
            paths = []
        if given["on_error"] != STOP and not input_format.streamed:
            raise UsageError(
                f"--on-error {given['on_error']}: rows of a JSON document do not stand alone", "Use .jsonl"
            )
        predictor = load_model(found, given)
        job = _job(given, input_format, to)
        again = partial(load, predictor.found, schema=given["schema"], cast=casts(given["cast"]))
        running = replace(running, again=again, start=time.time() - running.began)
        out = open_output(job.output_format)
        with (
            closing(out),
            Inputs(paths or opened, opener(job, predictor)) as inputs,
            stopped_by_signals(running.stop, resumable=bool(paths)),
        ):
            _tell_delimiter(inputs, job)
            try:
                for tally in shown(run(job, predictor, inputs, out, running, _watch(predictor, given))):
                    note.tally = tally
            except ForetellError as error:
                _advise(error, kept=isinstance(out, Output) and out.kept)
                raise
    return predictor.resolved.label


def _job(given: dict[str, Any], input_format: Format, to: Destination) -> Job:
    return Job(
        input_format,
        to.format(input_format),
        given["proba"],
        params(given["params"]),
        _keep(given["keep"]),
        given["prediction_column"],
        csv_options(given),
        to.by_part,
        given["on_error"],
        to.part,
    )


def _advise(error: ForetellError, *, kept: bool) -> None:
    """What would go on, where something does."""
    if error.hint:
        return
    if error.row_wrong:
        command = shlex.join(["foretell", *sys.argv[1:], "--on-error", "reject"])
        error.hint = f"To go on without such rows: {command}"
    elif kept:
        error.hint = "What is done is kept: the same command goes on from there"


def _limit(said: str | None) -> Limit:
    if said is None:
        return Limit()
    number, percent = (said[:-1], True) if said.endswith("%") else (said, False)
    try:
        if percent and 0 <= float(number) <= 100:
            return Limit(share=float(number) / 100)
        if not percent and int(number) >= 0:
            return Limit(rows=int(number))
    except ValueError:
        pass
    raise UsageError(f"--max-rejects {said}: expected a number of rows, or a share", "For example: 100, or 0.5%")


def _input_format(said: str | None, paths: list[str], opened: Source) -> Format:
    return formats.sniffed(opened.peek()) if said is None and not paths else format_of(paths, said)


def _keep(said: str) -> Keep:
    if said in ("all", "none"):
        return ALL if said == "all" else NONE
    return Keep(tuple(next(csv.reader([said]))))


def _tell_delimiter(inputs: Inputs, job: Job) -> None:
    """Says which delimiter was found, where it is not the one that everybody expects."""
    found = getattr(inputs.reader, "options", job.options).delimiter
    if job.options.delimiter is None and found not in (None, ","):
        say(f"reading {found!r} as the delimiter")


def _watch(predictor: Predictor, given: dict[str, Any]) -> "Watch | None":
    """What sees to the engine, where there is a choice of engines."""
    if not predictor.found.automatic or predictor.own:
        return None
    from foretell.compiler.watch import Watch

    return Watch(predictor, schema=given["schema"], cast=casts(given["cast"]), say=say)
