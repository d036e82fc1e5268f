"""The options that say who else is told of requests: traces, the log of predictions."""

from pathlib import Path
from typing import Any

import click

from foretell.cli.main import Decorated, option
from foretell.cli.registry import say
from foretell.errors import LibraryMissing
from foretell.serve import spans
from foretell.serve.log_files import LogFolder
from foretell.serve.prediction_log import PredictionLog
from foretell.serve.tracing import Tracing
from foretell.serve.witness import Witness


def watching_options(function: Decorated) -> Decorated:
    """Who is told."""
    for one in (
        option("log_predictions_mb", type=click.FloatRange(min=0, min_open=True)),
        option("log_sample", type=click.FloatRange(0, 1, min_open=True)),
        option("log_predictions", metavar="DIR"),
        option("otel_endpoint", metavar="URL"),
    ):
        function = one(function)
    return function


def witnesses_of(given: dict[str, Any]) -> tuple[Witness, ...]:
    """They begin at once. Raises UsageError, LibraryMissing."""
    found: list[Witness] = []
    if given["log_predictions"]:
        folder = LogFolder(Path(given["log_predictions"]), int(given["log_predictions_mb"] * 2**20))
        for note in folder.open():
            say(note)
        found.append(PredictionLog(folder, given["log_sample"]))
    if given["otel_endpoint"] or spans.wanted():
        try:
            found.append(Tracing(given["otel_endpoint"]))
        except LibraryMissing as error:
            if given["otel_endpoint"]:
                raise
            say(f"no traces are sent, though the environment names a collector: {error.message}; {error.hint}")
    return tuple(found)
