"""`foretell demo`: a tiny ready model, its registration and its input, in the current folder."""

import os
from importlib.resources import as_file, files
from pathlib import Path

import click

from foretell.errors import UsageError
from foretell.registry.choose import ENVIRONMENT, choose, open_registry
from foretell.registry.local import FOLDER, LocalRegistry

NAME = "my-model"
INPUT = "batch_input.csv"


@click.command(name="demo")
def command() -> None:
    """Put a tiny iris model and its input into this folder, and print the three commands to try.

    The model is registered as my-model, stage Production, in .foretell/registry here.
    """
    packaged = files("foretell.demo")
    rows = (packaged / INPUT).read_bytes()
    if Path(INPUT).exists() and Path(INPUT).read_bytes() != rows:
        raise UsageError(f"{INPUT} is here already, and is not the demo's", "Run foretell demo in an empty folder")
    registry, flag = _registry()
    if not registry.versions(NAME):
        with as_file(packaged / "iris") as model:
            registry.add(NAME, model, "Production", None)
    Path(INPUT).write_bytes(rows)
    click.echo(f"Here are now {INPUT} (150 flowers) and {registry.uri(NAME)} (which iris it is). Try:\n")
    click.echo(f"  foretell models predict -m models:/{NAME}/Production -i {INPUT} -o batch_output.csv{flag}")
    click.echo(f"  foretell models serve -m models:/{NAME}/Production -p 1234{flag}")
    click.echo(
        "  curl -X POST -H 'Content-Type:application/json' "
        """-d '{"data": [[5.1, 3.5, 1.4, 0.2]]}' http://localhost:1234/invocations"""
    )


def _registry() -> tuple[LocalRegistry, str]:
    """Where the demo's model goes, and what its commands then need: foretell's own registry, here or the one that
    FORETELL_REGISTRY names, also where the environment names one of MLflow's."""
    if named := os.environ.get("FORETELL_REGISTRY", "").strip():
        opened = open_registry(choose(named, new=True))
        if not isinstance(opened, LocalRegistry):
            raise UsageError(f"FORETELL_REGISTRY is MLflow's, {opened.address}; the demo needs foretell's own")
        return opened, ""
    others = any(os.environ.get(name, "").strip() for name in ENVIRONMENT)
    return LocalRegistry(Path.cwd() / FOLDER), f" --registry {FOLDER}" if others else ""
