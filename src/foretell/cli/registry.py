"""`foretell registry …`: the embedded registry on the command line."""

from pathlib import Path

import click

from foretell.cli.main import option
from foretell.errors import UsageError
from foretell.registry.local import LocalRegistry
from foretell.registry.resolve import open_registry

_registry = option("registry")


@click.group(name="registry")
def command() -> None:
    """Keep models in a folder of this machine, by name, version, stage and alias.

    Versions never change; a stage (Staging, Production, …) or an alias points to one of them.
    """


@command.command()
@click.argument("name")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--stage", help="Give the new version this stage, such as Production.")
@click.option("--alias", help="Give the new version this alias.")
@_registry
def add(name: str, path: Path, stage: str | None, alias: str | None, registry: str | None) -> None:
    """Copy a model (a folder in MLflow's format, or a model file) in as the next version of NAME."""
    local = open_registry(registry)
    version = local.add(name, path, stage, alias)
    click.echo(f"Added {name} version {version.number} to {local.root}")
    click.echo(f"Use it as {local.uri(name)}", err=True)


@command.command(name="list")
@_registry
def list_models(registry: str | None) -> None:
    """List the models and what points to their versions."""
    local = open_registry(registry)
    models = local.models()
    if not models:
        click.echo(f"The registry {local.root} is empty. Try: foretell demo", err=True)
    width = max(map(len, models), default=0)
    for name in models:
        click.echo(f"{name:<{width}}  {local.describe(name)}")


@command.command()
@click.argument("name")
@_registry
def show(name: str, registry: str | None) -> None:
    """Show a model's versions: when they came, from where, their digest and files."""
    local = open_registry(registry)
    names = local.names(name)
    for number in _versions(local, name):
        version = local.version(name, number)
        marks = [stage for stage, n in names.stages.items() if n == number]
        marks += [f"@{alias}" for alias, n in names.aliases.items() if n == number]
        click.echo(f"version {number}  {' '.join(marks)}".rstrip())
        click.echo(f"  added  {version.created} from {version.source}")
        click.echo(f"  digest {version.digest}")
        click.echo(f"  files  {', '.join(version.files)}")


@command.command()
@click.argument("name")
@click.argument("version", type=int)
@click.argument("stage")
@_registry
def stage(name: str, version: int, stage: str, registry: str | None) -> None:
    """Give a version a stage; None takes it out of its stage. Whatever held the stage before loses it."""
    local = open_registry(registry)
    local.point(name, version, stage=stage)
    click.echo(f"{name} version {version} is now in stage {stage}")


@command.command()
@click.argument("name")
@click.argument("version", type=int)
@click.argument("alias")
@_registry
def alias(name: str, version: int, alias: str, registry: str | None) -> None:
    """Let an alias mean a version: models:/NAME@ALIAS."""
    local = open_registry(registry)
    local.point(name, version, alias=alias)
    click.echo(f"models:/{name}@{alias} is now version {version}")


@command.command()
@click.argument("name")
@click.argument("version", type=int, required=False)
@click.option("--yes", is_flag=True, help="Remove a whole model without asking.")
@_registry
def remove(name: str, version: int | None, yes: bool, registry: str | None) -> None:
    """Remove a version, or with no version the whole model."""
    local = open_registry(registry)
    numbers = _versions(local, name)
    if version is None and not yes:
        click.confirm(f"Remove {name} with {len(numbers)} version{'s' * (len(numbers) != 1)}?", abort=True, err=True)
    local.remove(name, version)
    click.echo(f"Removed {name}" + (f" version {version}" if version is not None else ""))


def _versions(local: LocalRegistry, name: str) -> list[int]:
    numbers = local.versions(name)
    if not numbers:
        raise UsageError(f"no model {name!r} in the registry {local.root}", local.suggestion(name))
    return numbers
