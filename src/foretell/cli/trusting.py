"""Trust on the command line: `foretell models trust`, and the question that a terminal is asked once."""

import sys
from typing import Any

import click

from foretell import predictor
from foretell.cli.main import option
from foretell.cli.registry import say, say_choice
from foretell.errors import ModelUntrusted, UsageError
from foretell.models.trust import open_store
from foretell.predictor import Found
from foretell.registry.resolve import resolve, trust_name
from foretell.registry.uri import needs_registry


def find_asking(uri: str, registry: str | None, trusted: bool, *, again: bool = False, **how: Any) -> Found:
    """Finds a model and says which registry was chosen; where trust is missing and a person is there, asks. A yes
    counts for these very files.

    again: the command goes on, and what it found was said before. how: as predictor.find takes it.
    """
    try:
        found = predictor.find(uri, registry=registry, trust=trusted, say=say, **how)
    except ModelUntrusted as error:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise
        click.echo(f"Loading this model runs code that is inside of it.\n  file:   {error.file}", err=True)
        click.echo(f"  digest: {error.digest}\n  origin: {error.origin}", err=True)
        if not click.confirm("Do you trust where it came from?", default=False, err=True):
            raise
        _trust_digest(error.digest)
        found = predictor.find(uri, registry=registry, **how)
    if not again:
        if needs_registry(uri):
            say_choice(registry)
        for note in found.resolved.notes:
            click.echo(f"{click.style('warning:', fg='yellow', bold=True)} {note}", err=True)
    return found


@click.command()
@click.argument("uri", required=False)
@option("registry")
@click.option("--list", "show", is_flag=True, help="Show what is trusted.")
@click.option("--remove", is_flag=True, help="Take trust back.")
def trust(uri: str | None, registry: str | None, show: bool, remove: bool) -> None:
    """Let a model run code when it loads, as pickles do.

    \b
    models:/NAME          every version of that name in this registry, also later ones
    models:/NAME/3, PATH  these very files, by their digest
    """
    if show:
        _list()
        return
    if uri is None:
        raise UsageError("Which model? Give a uri", "foretell models trust models:/NAME")
    named = None if uri.startswith("sha256:") else trust_name(uri, registry, say)
    if named is None:
        digest = uri if uri.startswith("sha256:") else resolve(uri, registry, say).digest
        _trust_digest(digest, remove=remove)
        if needs_registry(uri):
            say_choice(registry)
        what = f"{uri} ({digest[:19]}…)"
    else:
        store = open_store()
        (store.names.discard if remove else store.names.add)(named)
        store.save()
        what = f"every version of {named[1]!r} in {named[0]}"
    click.echo(f"{'No longer trusted' if remove else 'Trusted'}: {what}")


def _trust_digest(digest: str, *, remove: bool = False) -> None:
    store = open_store()
    (store.digests.discard if remove else store.digests.add)(digest)
    store.save()


def _list() -> None:
    store = open_store()
    for registry, name in sorted(store.names):
        click.echo(f"models:/{name}   every version, in {registry}")
    for digest in sorted(store.digests):
        click.echo(digest)
    if not store.names and not store.digests:
        click.echo("Nothing is trusted yet.", err=True)
