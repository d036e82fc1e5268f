"""`foretell models predict`: batch prediction from a file to a file."""

import csv
import signal
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from foretell.cells import NULLS, TextRules
from foretell.cli.main import own_stdout
from foretell.cli.opening import casts, find_model, load_model, model_options
from foretell.cli.registry import say
from foretell.errors import FormatUnknown, InputUnreadable, OutputError, UsageError
from foretell.job.job import Job, Progress, run
from foretell.predictor import Predictor
from foretell.strict_json import strict_json
from foretell.tables import compression, formats
from foretell.tables.csv_reader import CsvOptions
from foretell.tables.files import STDIN, Source, open_input
from foretell.tables.formats import ARROW, ARROW_STREAM, Format
from foretell.tables.kept import ALL, NONE, Keep
from foretell.tables.outputs import Output, Packed, Sink, Stdout

if TYPE_CHECKING:
    from foretell.compiler.watch import Watch


@click.command()
@model_options
@click.option("-i", "--input-path", default=STDIN, help="Input file, .gz and .zst too; - or none for stdin.")
@click.option(
    "-o",
    "--output-path",
    default=STDIN,
    help="Output file, its format by its ending, such as .parquet or .csv.gz; - or none for stdout.",
)
@click.option(
    "-t",
    "--content-type",
    type=click.Choice(list(formats.FORMATS)),
    help="The input's format, else by its ending.",
)
@click.option("--keep", default="all", metavar="all|none|A,B", help="Input columns to carry along.", show_default=True)
@click.option("--prediction-column", default="prediction", show_default=True, help="The predictions' column.")
@click.option("--proba", is_flag=True, help="Class probabilities too, a column a class.")
@click.option("--params", default="{}", metavar="JSON", help="Parameters of the prediction, as a JSON object.")
@click.option("--no-clobber", is_flag=True, help="Refuse to replace an output that is there.")
@click.option(
    "--null-values",
    metavar="A,B",
    help="Words for null in columns that are not strings, besides an empty cell.",
)
@click.option("--encoding", default="utf-8", show_default=True, help="The input's encoding.")
@click.option("--decimal", default=".", show_default=True, type=click.Choice([".", ","]), help="CSV's decimal mark.")
@click.option("--delimiter", default=",", show_default=True, help="CSV's delimiter, one character.")
def predict(**given: Any) -> None:
    """Predict every row of a file: CSV, JSON Lines, JSON, Parquet or Arrow.

    Each row of the input becomes a row of the output, in order: the columns that the model does not take (ids, keys),
    then the prediction. The output appears when it is complete; until then an older one stays.

    \b
    foretell models predict -m models:/my-model/Production -i batch_input.csv -o batch_output.csv
    """
    source, target = given["input_path"], given["output_path"]
    output_format = _check_output(target, source, given["no_clobber"])
    found = find_model(given)
    with open_input(source) as opened, own_stdout() as stdout:
        input_format = _input_format(given["content_type"], source, opened)
        predictor = load_model(found, given)
        job = Job(
            input_format,
            output_format or (ARROW_STREAM if input_format is ARROW else input_format),
            given["proba"],
            _params(given["params"]),
            _keep(given["keep"]),
            given["prediction_column"],
            CsvOptions(
                TextRules(_nulls(given["null_values"]), given["decimal"]),
                _delimiter(given["delimiter"]),
                given["encoding"],
            ),
        )
        sink = _sink(target, stdout.buffer)
        signal.signal(signal.SIGTERM, _terminated)
        try:
            done = _watched(run(job, predictor, opened, sink, _watch(predictor, given)))
        finally:
            sink.discard()
    if target != STDIN:
        click.echo(f"Prediction completed successfully. Output saved to {target}")
    click.echo(_summary(done, predictor), err=True)


def _check_output(target: str, source: str, no_clobber: bool) -> Format | None:
    """All that can be known to be wrong with the output before any work is done."""
    if target == STDIN:
        return None
    try:
        fmt = formats.by_suffix(target, "output")
    except FormatUnknown as error:
        raise UsageError(error.message, error.hint) from error
    path = Path(target)
    if path.is_dir():
        raise UsageError(f"{target} is a folder", "Give a file's name")
    if not path.parent.is_dir():
        raise OutputError(f"{target}: there is no folder {path.parent}", f"mkdir -p {path.parent}")
    if path.exists():
        if no_clobber:
            raise UsageError(f"{target} is there already, and --no-clobber was given")
        if source != STDIN and Path(source).exists() and Path(source).samefile(target):
            raise UsageError(f"{target} is the input too", "Give the output another name")
    return fmt


def _sink(target: str, stdout: BinaryIO) -> Sink:
    if target == STDIN:
        return Stdout(stdout)
    codec = compression.split(target)[1]
    return Packed(Output(Path(target)), codec) if codec else Output(Path(target))


def _input_format(content_type: str | None, source: str, opened: Source) -> Format:
    if content_type is not None:
        return formats.FORMATS[content_type]
    if source != STDIN:
        try:
            return formats.by_suffix(source, "input")
        except FormatUnknown as error:
            raise InputUnreadable(error.message, f"{error.hint}; or say it: -t csv") from error
    return formats.sniffed(opened.peek())


def _keep(said: str) -> Keep:
    if said in ("all", "none"):
        return ALL if said == "all" else NONE
    return Keep(tuple(next(csv.reader([said]))))


def _nulls(said: str | None) -> tuple[str, ...]:
    return NULLS if said is None else ("", *next(csv.reader([said]), []))


def _delimiter(said: str) -> str:
    said = said.replace("\\t", "\t")
    if len(said) != 1 or not said.isascii() or said in '"\n\r':
        raise UsageError(f"--delimiter {said!r}: expected one ASCII character")
    return said


def _params(said: str) -> dict[str, Any]:
    try:
        params = strict_json(said.encode())
    except InputUnreadable as error:
        raise UsageError(f"--params: {error.message}", """For example: --params '{"alpha": 0.5}'""") from error
    if not isinstance(params, dict):
        raise UsageError("--params: expected a JSON object", """For example: --params '{"alpha": 0.5}'""")
    return params


def _watched(progress: Iterator[Progress]) -> Progress:
    """Runs the job, with a bar where a person watches; returns the last progress."""
    if sys.stderr.isatty():
        from foretell.cli.bar import shown

        progress = shown(progress)
    return deque(progress, maxlen=1)[0]


def _watch(predictor: Predictor, given: dict[str, Any]) -> "Watch | None":
    """What sees to the engine, where there is a choice of engines."""
    if not predictor.found.automatic or predictor.own:
        return None
    from foretell.compiler.watch import Watch

    return Watch(predictor, schema=given["schema"], cast=casts(given["cast"]), say=say)


def _summary(done: Progress, predictor: Predictor) -> str:
    rate = done.rows / done.seconds if done.seconds else 0.0
    rows = f"{done.rows:,} row{'' if done.rows == 1 else 's'}"
    return (
        f"{rows} in {done.seconds:.2f} s ({rate:,.0f} rows/s) with {predictor.resolved.label}, {predictor.engine.name}"
    )


def _terminated(*_: object) -> None:
    raise SystemExit(143)
