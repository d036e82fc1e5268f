"""What a job is called when nobody says it, and the command line by which it can be run again."""

import os
import re
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from foretell.errors import UsageError
from foretell.registry.choose import without_secrets
from foretell.tables.files import STDIN

_LONGEST = 400
_YEAR, _MONTH, _DAY, _CLOCK = r"(?:19|20)\d\d", r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])", r"[0-2]\d"
_DATE = re.compile(
    rf"(?<!\d){_YEAR}(?:"
    rf"([-_./]?){_MONTH}(?:\1{_DAY}(?:[T _.-]?{_CLOCK}(?:[:_.h-]?[0-5]\d(?:[:_.m-]?[0-5]\d)?)?Z?)?)?"
    rf"|-?W[0-5]\d(?:-[1-7])?"
    rf")(?!\d)"
)
"""2026-11-30, 20261130, 2026/11/30, 2026_11, 2026-W48, and with a time 2026-11-30T02:00 or 20261130_020000."""
_UNIX = re.compile(r"(?<!\d)1[5-9]\d{8}(?:\d{3})?(?!\d)")
_PARTITION = re.compile(r"\b(year|month|day|date|hour|dt)=[^/]+")
_SECRET = ("params",)
"""Options whose values may hold anything, and are never written down."""
HERE = "-here-"
"""What --report means without a file."""
_URIS = ("registry", "model_uri")


def job_name(given: dict[str, Any]) -> str:
    """The job's name: as it was said, else by its model's name, input and output, in which dates count for nothing: the
    same for tonight's job as for last night's. Raises UsageError."""
    if (said := given["job_name"]) is not None:
        if not said.strip() or not said.isprintable() or len(said) > _LONGEST:
            raise UsageError("--job-name: expected a line of text", "For example: --job-name nightly-churn")
        return str(said)
    places = [_place(given["input_path"], "stdin"), _place(given["output_path"], "stdout")]
    return f"{_model(given['model_uri'])}: {places[0]} > {places[1]}"[:_LONGEST]


def undated(text: str) -> str:
    """Text in which every date is {date}."""
    text = _PARTITION.sub(r"\1={date}", text)
    return _UNIX.sub("{date}", _DATE.sub("{date}", text))


def _place(path: str, nothing: str) -> str:
    text = nothing if path == STDIN else undated(os.path.normpath(Path(path).absolute()))
    return text if text.isprintable() else ascii(text)


def _model(uri: str) -> str:
    """A registered model by its name alone: a new version is the same job."""
    if named := re.fullmatch(r"models:/+([^/@]+)(?:[/@].*)?", uri):
        return named[1]
    if of_run := re.fullmatch(r"runs:/+[^/]+/(.+)", uri):
        return of_run[1]
    if "://" in uri or uri.startswith("mlflow-artifacts:"):
        return without_secrets(uri)
    return undated(os.path.normpath(Path(uri).absolute()))


def command_line(given: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The arguments after "foretell" that were given on the command line; and the options among them that are left out,
    as they may hold a secret."""
    context = click.get_current_context()
    command, omitted = ["models", "predict"], []
    for option in context.command.params:
        name = option.name or ""
        if context.get_parameter_source(name) is not ParameterSource.COMMANDLINE or name == "digest":
            continue
        value, flag = context.params[name], max(option.opts, key=len)
        if name == "env_manager" and given["digest"]:
            value = "uv"
        values = value if getattr(option, "multiple", False) else (value,)
        if name in _SECRET or (name in _URIS and without_secrets(value) != value):
            omitted.append(flag)
        elif getattr(option, "is_flag", False) or value == HERE:
            command.append(flag)
        else:
            command += [f"{flag}={one}" for one in values]
    return tuple(command), tuple(omitted)
