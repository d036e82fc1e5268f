"""How a command finds and loads its model: the options for that, trust that is asked for, environment and engine."""

from typing import Any

import click

from foretell import predictor
from foretell.cli.environment import env_manager, find_there
from foretell.cli.main import Decorated, option
from foretell.cli.registry import say
from foretell.config import ENGINES
from foretell.errors import UsageError
from foretell.models.proven import NATIVE
from foretell.predictor import Found, Predictor


def model_options(function: Decorated) -> Decorated:
    """What every command that loads a model takes."""
    for one in (
        option("trust", is_flag=True),
        option("engine", type=click.Choice(ENGINES)),
        env_manager,
        naming_options,
    ):
        function = one(function)
    return function


def naming_options(function: Decorated) -> Decorated:
    """Which model, and as what its columns are read."""
    for one in (
        option("registry"),
        option("schema"),
        click.option(
            "--cast",
            multiple=True,
            metavar="NAME=TYPE",
            help="Read a column as another type, such as age=double. Repeatable.",
        ),
        click.option(
            "-m", "--model-uri", required=True, help="models:/NAME/STAGE, models:/NAME/3, a folder or a model file."
        ),
    ):
        function = one(function)
    return function


def find_model(given: dict[str, Any]) -> Found:
    """The model, found and verified, its trust settled; with the engine that was asked for, made if it is not there."""
    engine, schema, cast = given["engine"], given["schema"], casts(given["cast"])
    found = find_there(given, predictor.variant(schema, cast))
    if engine in (predictor.AUTO, NATIVE):
        return found
    from foretell.compiler.compile import obtained

    return obtained(found, engine, schema=schema, cast=cast, say=say)


def load_model(found: Found, given: dict[str, Any]) -> Predictor:
    """Loads a found model; what a person must hear of it is said."""
    opened = predictor.load(found, schema=given["schema"], cast=casts(given["cast"]))
    for note in opened.notes:
        click.echo(f"note: {note}", err=True)
    return opened


def casts(pairs: tuple[str, ...] | list[str]) -> dict[str, str]:
    """--cast's NAME=TYPE pairs; several may stand in one, with commas."""
    found = {}
    for pair in (part for given in pairs for part in given.split(",")):
        name, equals, kind = pair.rpartition("=")
        if not equals:
            raise UsageError(f"--cast {pair}: expected NAME=TYPE", "For example: --cast age=double")
        found[name] = kind
    return found
