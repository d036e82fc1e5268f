"""`foretell models compile`: makes the engines that could predict in a library's place, proves and measures them."""

import os
import shutil
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import click

from foretell import predictor
from foretell.cli.environment import find_there
from foretell.cli.inspect import show
from foretell.cli.opening import casts, model_options
from foretell.cli.registry import say
from foretell.compiler.compile import compile_model
from foretell.compiler.known import known
from foretell.compiler.sandboxed import compile_sandboxed
from foretell.errors import ModelError, OutputError, UsageError
from foretell.models import proven
from foretell.models.proven import NATIVE
from foretell.registry.resolve import resolve


@click.command(name="compile")
@model_options
@click.option("-o", "--output-path", type=click.Path(path_type=Path), help="A new folder for the compiled model.")
@click.option("--again", is_flag=True, help="Compile and prove once more, whatever is there.")
@click.option(
    "--sandbox",
    is_flag=True,
    help="Compile a model that is not trusted: its code runs where it sees nothing and reaches nobody.",
)
@click.option("--beside", is_flag=True, hidden=True)
@click.option("--json", "as_json", is_flag=True, help="Tell what was found as JSON.")
def compile_(**given: Any) -> None:
    """Make a faster engine for a model, and prove that it answers the same.

    What is proven equal to the bit is kept in the cache, where predict and serve find it. With -o it goes into a folder
    too, which predict and serve take as a model, with neither the model's library nor pandas on the machine.

    \b
    foretell models compile -m models:/churn/Production
    foretell models compile -m models:/churn/Production -o churn-compiled
    foretell models predict -m churn-compiled -i rows.csv -o predictions.csv

    A pickle runs code when it is loaded, so compiling one needs trust, or --sandbox.
    """
    if given["beside"]:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    target: Path | None = given["output_path"]
    if target is not None and target.exists():
        raise UsageError(f"{target} is there already", "Give a new folder, or remove it")
    if target is not None and not target.parent.is_dir():
        raise OutputError(f"{target}: there is no folder {target.parent}", f"mkdir -p {target.parent}")
    how = {"schema": given["schema"], "cast": casts(given["cast"]), "engine": given["engine"], "say": say}
    read_as = predictor.variant(how["schema"], how["cast"])
    if given["sandbox"]:
        resolved = resolve(given["model_uri"], given["registry"], say)
        record = compile_sandboxed(resolved, **how)
    else:
        found = find_there({**given, "engine": NATIVE}, read_as)
        resolved = found.resolved
        record = compile_model(found, again=given["again"], **how)
    if target is not None:
        name = record.chosen if given["engine"] in (predictor.AUTO, NATIVE) else given["engine"]
        _save(proven.entry(resolved.digest, read_as).compiled(name), target, resolved.label, record.why)
    shown = known(resolved, given["registry"], schema=how["schema"], cast=how["cast"])
    show(shown, as_json=given["as_json"])


def _end_with_stdin() -> None:
    """Of a process that works beside a server: it ends with the server, however that ends."""
    sys.stdin.buffer.read()
    os._exit(1)


def _save(folder: Path | None, target: Path, label: str, why: str) -> None:
    """The compiled model as a folder of the user's."""
    if folder is None:
        raise ModelError(f"{label} has no engine to compile to: {why}", "Predict and serve with the model itself")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as draft:
            made = Path(draft) / "model"
            shutil.copytree(folder, made, copy_function=shutil.copyfile)
            made.rename(target)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror}") from error
    click.echo(f"Compiled model saved to {target}", err=True)
