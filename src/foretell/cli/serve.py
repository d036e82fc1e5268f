"""`foretell models serve`: a model behind a port."""

import json
import os
import socket
import sys
import time
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, TextIO

import click

from foretell.cli.environment import env_manager, find_there, pinned
from foretell.cli.main import option, own_stdout
from foretell.cli.predict import cast, casts
from foretell.cli.registry import chosen
from foretell.predictor import Found, find, load
from foretell.serve import workers as workers_
from foretell.serve.console import curl
from foretell.serve.server import Limits, run
from foretell.serve.sockets import address, bind


@click.command()
@click.option("-m", "--model-uri", required=True, help="models:/NAME/STAGE, models:/NAME/3, a folder or a model file.")
@option("port", "-p", "--port", type=click.IntRange(0, 65535))
@option("host", "-h", "--host")
@option("timeout", "-t", "--timeout", type=click.FloatRange(min=0, min_open=True))
@option("workers", "-w", "--workers", type=click.IntRange(1, 256))
@env_manager
@cast
@option("max_body_mb", type=click.FloatRange(min=0, min_open=True))
@option("access_log", type=click.Choice(["all", "errors", "none"]))
@click.option("--debug", is_flag=True, help="Put the traceback into error replies. Not for strangers.")
@option("schema")
@option("registry")
@option("trust", is_flag=True)
def serve(**given: Any) -> None:
    """Answer requests for predictions over HTTP.

    \b
    foretell models serve -m models:/my-model/Production -p 1234
    curl -X POST -H 'Content-Type: application/json' -d '{"data": [[5.1, 3.5, 1.4, 0.2]]}' http://localhost:1234/invocations

    POST /invocations takes JSON, CSV, JSON Lines, Parquet and Arrow; GET / is a page to try it on.
    """
    found = find_there(given)
    sockets = bind(given["host"], given["port"])
    if not all(ip_address(opened.getsockname()[0]).is_loopback for opened in sockets):
        click.echo(f"note: {given['host']} can be reached from other machines, and anyone there may ask", err=True)
    if given["workers"] > 1:
        supervisor = workers_.Supervisor(_worker_command(found, given), sockets, given["workers"])
        sys.exit(supervisor.run(lambda example: _announce(found, sockets, example, sys.stdout)))
    with own_stdout() as stdout:
        _run(found, given, sockets, lambda example: _announce(found, sockets, example, stdout))


@click.command(name="serve-worker", hidden=True)
@click.argument("settings")
@click.argument("listeners")
@click.argument("ready", type=int)
@click.argument("alive", type=int)
def worker(settings: str, listeners: str, ready: int, alive: int) -> None:
    """One of several server processes; started by `serve -w N`."""
    given = json.loads(settings)
    sockets, accepting = workers_.inherited(listeners, ready, alive)
    with own_stdout():
        _run(find(given["model_uri"], registry=given["registry"]), given, sockets, accepting)


def _worker_command(found: Found, given: dict[str, Any]) -> list[str]:
    """The same model for every worker: the version that was resolved, and its digest if it is trusted."""
    resolved = found.resolved
    if found.settled.trusted:
        os.environ["FORETELL_TRUST"] = resolved.digest
    uri = given["model_uri"]
    settings = {**given, "model_uri": pinned(found, uri), "registry": given["registry"] or chosen(uri)}
    return [sys.executable, "-P", "-m", "foretell", "models", "serve-worker", json.dumps(settings)]


def _run(found: Found, given: dict[str, Any], sockets: list[socket.socket], accepting: Callable[[str], None]) -> None:
    """Loads the model and serves it in this process. accepting: called with an example request once it can be sent."""
    predictor = load(found, schema=given["schema"], cast=casts(tuple(given["cast"])))
    for note in predictor.notes:
        click.echo(f"note: {note}", err=True)
    run(
        predictor,
        sockets,
        Limits(given["timeout"], int(given["max_body_mb"] * 2**20)),
        access_log=given["access_log"],
        debug=given["debug"],
        accepting=lambda: accepting(curl(predictor, address(sockets))),
    )


def _announce(found: Found, sockets: list[socket.socket], example: str, stdout: TextIO) -> None:
    port = sockets[0].getsockname()[1]
    stamp = time.strftime("%Y/%m/%d %H:%M:%S")
    click.echo(f"{stamp} Starting foretell model server for model '{found.resolved.name}' on port {port}", file=stdout)
    stdout.flush()
    click.echo(f"Try it: {example}\nA page: {address(sockets)}/", err=True)
