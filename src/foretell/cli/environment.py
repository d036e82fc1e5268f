"""--env-manager: in which environment a command runs, and how it goes on in the model's own."""

import os
import sys
from typing import Any, NoReturn

import click

from foretell.cli.main import Decorated
from foretell.cli.trusting import find_asking
from foretell.errors import ModelUnreadable, UsageError
from foretell.predictor import Found


def _known(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    """The other environment managers of MLflow's, refused with what to do."""
    if value in ("virtualenv", "conda"):
        raise UsageError(
            f"--env-manager {value}: foretell makes environments with uv",
            "--env-manager uv makes one from the model's requirements; local, the default, runs it beside foretell",
        )
    return value


def env_manager(function: Decorated) -> Decorated:
    """The option, and the hidden one by which the command goes on with the very files that it began with."""
    manager = click.option(
        "--env-manager",
        default="local",
        type=click.Choice(["local", "virtualenv", "uv", "conda"]),
        callback=_known,
        help="local runs the model beside foretell; uv in an environment made from the model's requirements.",
        show_default=True,
    )
    return manager(click.option("--digest", hidden=True)(function))


def find_there(given: dict[str, Any], variant: str) -> Found:
    """Finds the model. With --env-manager uv this does not return: the command goes on in the model's environment.

    variant: what its columns are read as besides what it says.
    """
    uv = given["env_manager"] == "uv"
    again = given["digest"] is not None
    how = {"engine": given["engine"], "variant": variant, "installs": uv}
    found = find_asking(given["model_uri"], given["registry"], given["trust"], again=again, **how)
    if given["digest"] not in (None, found.resolved.digest):
        raise ModelUnreadable(f"{found.resolved.label} was changed while its environment was made", "Run it again")
    if uv:
        _go_on(found)
    return found


def _go_on(found: Found) -> NoReturn:
    """The same command in the model's environment, in this process: same signals, streams and exit code."""
    from foretell import environment

    python = environment.ready(environment.recipe(found.settled), lambda said: click.echo(f"note: {said}", err=True))
    digest = found.resolved.digest
    pins = ["--env-manager", "local", "--model-uri", found.resolved.pinned, "--digest", digest]
    command = [str(python), "-m", "foretell", *sys.argv[1:], *pins]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(python, command, {**environment.variables(), "FORETELL_TRUST": digest})  # noqa: S606 - our own command
