"""`foretell registry …`: the embedded registry on the command line, and a look into MLflow's."""

from pathlib import Path
from typing import NoReturn

import click

from foretell.cli.main import option
from foretell.errors import UsageError
from foretell.registry import find
from foretell.registry.choose import choose, open_registry
from foretell.registry.held import shown
from foretell.registry.local import LocalRegistry
from foretell.registry.mlflow import Store
from foretell.registry.resolve import suggestion
from foretell.registry.uri import needs_registry

_registry = option("registry")


@click.group(name="registry")
def command() -> None:
    """Keep models in a folder of this machine, by name, version, stage and alias.

    Versions never change; a stage (Staging, Production, …) or an alias points to one of them. list and show work for
    MLflow's registries too.
    """


@command.command()
@click.argument("name")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--stage", help="Give the new version this stage, such as Production.")
@click.option("--alias", help="Give the new version this alias.")
@_registry
def add(name: str, path: Path, stage: str | None, alias: str | None, registry: str | None) -> None:
    """Copy a model (a folder in MLflow's format, or a model file) in as the next version of NAME."""
    local = _embedded(registry, "add", "mlflow.register_model(MODEL_URI, NAME)", new=True)
    version = local.add(name, path, stage, alias)
    click.echo(f"Added {name} version {version.number} to {local.root}")
    click.echo(f"Use it as {local.uri(name)}", err=True)


@command.command(name="list")
@_registry
def list_models(registry: str | None) -> None:
    """List the models and what points to their versions."""
    opened = _open(registry)
    models = opened.models()
    if not models:
        hint = " Try: foretell demo" if isinstance(opened, LocalRegistry) else ""
        click.echo(f"The registry {opened.address} is empty.{hint}", err=True)
    width = max((len(shown(name)) for name in models), default=0)
    for name in models:
        held = opened.held(name) if isinstance(opened, LocalRegistry) else find.held(opened.versions(name))
        click.echo(f"{shown(name):<{width}}  {held.describe()}")


@command.command()
@click.argument("name")
@_registry
def show(name: str, registry: str | None) -> None:
    """Show a model's versions: when they came, from where, their digest and files; of MLflow's, where they lie."""
    opened = _open(registry)
    if isinstance(opened, LocalRegistry):
        _show_embedded(opened, name)
        return
    for version in opened.versions(name) or _none(opened, name):
        marks = [version.stage] * (version.stage.lower() != "none") + [f"@{alias}" for alias in version.aliases]
        click.echo(f"version {version.number}  {shown(' '.join(marks))}".rstrip())
        click.echo(f"  from   {shown(version.location)}")
        click.echo(f"  status {shown(version.status)}")


@command.command()
@click.argument("name")
@click.argument("version", type=int)
@click.argument("stage")
@_registry
def stage(name: str, version: int, stage: str, registry: str | None) -> None:
    """Give a version a stage; None takes it out of its stage. Whatever held the stage before loses it."""
    how = "MlflowClient().transition_model_version_stage(NAME, VERSION, STAGE)"
    local = _embedded(registry, "stage", how)
    local.point(name, version, stage=stage)
    click.echo(f"{name} version {version} is now in stage {stage}")


@command.command()
@click.argument("name")
@click.argument("version", type=int)
@click.argument("alias")
@_registry
def alias(name: str, version: int, alias: str, registry: str | None) -> None:
    """Let an alias mean a version: models:/NAME@ALIAS."""
    local = _embedded(registry, "alias", "MlflowClient().set_registered_model_alias(NAME, ALIAS, VERSION)")
    local.point(name, version, alias=alias)
    click.echo(f"models:/{name}@{alias} is now version {version}")


@command.command()
@click.argument("name")
@click.argument("version", type=int, required=False)
@click.option("--yes", is_flag=True, help="Remove a whole model without asking.")
@_registry
def remove(name: str, version: int | None, yes: bool, registry: str | None) -> None:
    """Remove a version, or with no version the whole model."""
    local = _embedded(registry, "remove", "MlflowClient().delete_model_version(NAME, VERSION)")
    numbers = local.versions(name) or _none(local, name)
    if version is None and not yes:
        click.confirm(f"Remove {name} with {len(numbers)} version{'s' * (len(numbers) != 1)}?", abort=True, err=True)
    local.remove(name, version)
    click.echo(f"Removed {name}" + (f" version {version}" if version is not None else ""))


def say(line: str) -> None:
    """Tells what takes long, for whoever waits."""
    click.echo(f"note: {line}", err=True)


def say_choice(registry: str | None) -> None:
    """Tells which registry was chosen, and by what, where --registry did not say it."""
    choice = choose(registry)
    if not registry and choice.said:
        click.echo(f"registry: {choice.address} ({choice.said})", err=True)


def chosen(uri: str) -> str | None:
    """A registry that was not named by --registry, for another process to name; None where the environment names a
    server, which may hold a password and is not for a command line."""
    choice = choose() if needs_registry(uri) else None
    return None if choice is None or choice.kind == "server" else choice.address


def _open(registry: str | None) -> LocalRegistry | Store:
    opened = open_registry(choose(registry), say)
    if not isinstance(opened, LocalRegistry):
        say_choice(registry)
    return opened


def _embedded(registry: str | None, verb: str, how: str, *, new: bool = False) -> LocalRegistry:
    """The registry to change, which is foretell's own. how: the same in MLflow."""
    choice = choose(registry, new=new)
    opened = open_registry(choice) if choice.kind == "embedded" else None
    if not isinstance(opened, LocalRegistry):
        raise UsageError(
            f"registry {verb}: {choice.address} is MLflow's, and foretell only reads it",
            f"In MLflow: {how}; or name a folder of foretell's own: --registry FOLDER",
        )
    return opened


def _show_embedded(local: LocalRegistry, name: str) -> None:
    names = local.names(name)
    for number in local.versions(name) or _none(local, name):
        version = local.version(name, number)
        marks = [stage for stage, n in names.stages.items() if n == number]
        marks += [f"@{alias}" for alias, n in names.aliases.items() if n == number]
        click.echo(f"version {number}  {' '.join(marks)}".rstrip())
        click.echo(f"  added  {version.created} from {version.source}")
        click.echo(f"  digest {version.digest}")
        click.echo(f"  files  {', '.join(version.files)}")


def _none(registry: LocalRegistry | Store, name: str) -> NoReturn:
    raise UsageError(f"no model {name!r} in the registry {registry.address}", suggestion(registry, name))
