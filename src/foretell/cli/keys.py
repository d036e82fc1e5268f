"""`foretell keys …`: the file of those who may ask a server, on the command line."""

from pathlib import Path

import click

from foretell.errors import OutputError
from foretell.serve import keys

_file = click.option(
    "--file", "path", type=click.Path(path_type=Path), required=True, help="The file that --api-key-file names."
)


@click.group(name="keys")
def command() -> None:
    """Make and remove the keys that `foretell models serve --api-key-file FILE` asks for.

    The file holds each key's name, role and hash. A running server notices its changes.
    """


@command.command()
@click.argument("name")
@_file
@click.option(
    "--role",
    type=click.Choice(list(keys.ROLES)),
    default="predict",
    show_default=True,
    help="What the key opens: predictions and pages, metrics, or all, administration too.",
)
def new(name: str, path: Path, role: str) -> None:
    """Make a key, print it, and add its hash to the file. The key is printed this once, and kept nowhere."""
    try:
        key = keys.add(path, name, role)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    click.echo(key)
    click.echo(f"The key of {name}, role {role}; it is not shown again. Send it: Authorization: Bearer KEY", err=True)


@command.command(name="list")
@_file
def list_keys(path: Path) -> None:
    """List the keys' names and roles."""
    for key in keys.read(path).keys:
        click.echo(f"{key.role:<7}  {key.name}")


@command.command()
@click.argument("name")
@_file
def remove(name: str, path: Path) -> None:
    """Take a key out of the file; a running server knows it no longer."""
    try:
        keys.remove(path, name)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    click.echo(f"Removed {name}")
