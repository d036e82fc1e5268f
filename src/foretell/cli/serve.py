"""`foretell models serve`: a model behind a port."""

import json
import os
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

import click

from foretell import machine
from foretell.cli.advising import advising
from foretell.cli.environment import pinned
from foretell.cli.main import option, own_stdout
from foretell.cli.opening import casts, find_model, load_model, model_options
from foretell.cli.registry import chosen, say
from foretell.cli.safety import bind_beside, safety_of, safety_options
from foretell.cli.watching import watching_options, witnesses_of
from foretell.compiler.background import Background
from foretell.compiler.candidates import coverable
from foretell.config import LOOPS
from foretell.models import proven
from foretell.predictor import AUTO, Found, Predictor, find, load, variant
from foretell.serve import workers as workers_
from foretell.serve.access_log import FORMATS
from foretell.serve.board import Board
from foretell.serve.console import curl
from foretell.serve.counts import Counts
from foretell.serve.limits import Limits
from foretell.serve.safety import entrances, is_loopback
from foretell.serve.server import Manner, run
from foretell.serve.sockets import address, bind

_POSITIVE = click.FloatRange(min=0, min_open=True)
_DRAIN_DELAY = 5.0
_SHARE_OF_MEMORY = 4


@click.command()
@model_options
@option("port", "-p", "--port", type=click.IntRange(0, 65535))
@option("host", "-h", "--host")
@option("timeout", "-t", "--timeout", type=click.FloatRange(min=0, min_open=True))
@option("workers", "-w", "--workers", type=click.IntRange(1, 256))
@option("max_batch_size", type=click.IntRange(min=1))
@option("max_queue_delay_ms", type=click.FloatRange(min=0))
@option("max_queue", type=click.IntRange(min=1))
@option("max_body_mb", type=_POSITIVE)
@option("max_in_flight_mb", type=_POSITIVE)
@option("max_header_kb", type=_POSITIVE)
@option("max_connections", type=click.IntRange(min=1))
@option("header_timeout", type=_POSITIVE)
@option("body_timeout", type=_POSITIVE)
@option("min_body_rate", type=click.FloatRange(min=0))
@option("write_timeout", type=_POSITIVE)
@option("keep_alive", type=_POSITIVE)
@option("drain_delay", type=click.FloatRange(min=0))
@safety_options
@option("loop", type=click.Choice(LOOPS))
@option("access_log", type=click.Choice(["all", "errors", "none"]))
@option("access_log_format", type=click.Choice(FORMATS))
@watching_options
@click.option("--debug", is_flag=True, help="Put the traceback into error replies. Not for strangers.")
def serve(**given: Any) -> None:
    """Answer requests for predictions over HTTP.

    \b
    foretell models serve -m models:/my-model/Production -p 1234
    curl -X POST -H 'Content-Type: application/json' -d '{"data": [[5.1, 3.5, 1.4, 0.2]]}' http://localhost:1234/invocations

    POST /invocations takes JSON, CSV, JSON Lines, Parquet and Arrow; GET / is a page to try it on.
    """
    sockets = bind(given["host"], given["port"])
    beside = bind_beside(given)
    for note in safety_of(given).check([*sockets, *beside]):
        say(note)
    found = find_model(given)
    if given["drain_delay"] is None:
        given["drain_delay"] = 0.0 if is_loopback(sockets) else _DRAIN_DELAY
    given["beside"] = len(beside)
    sockets += beside
    if given["workers"] > 1:
        command = _worker_command(found, given)
        supervisor = workers_.Supervisor(command, sockets, given["workers"], given["drain_delay"])
        sys.exit(supervisor.run(lambda example: _announce(found, given, sockets, example, sys.stdout)))
    with own_stdout() as stdout:
        _run(found, given, sockets, lambda example: _announce(found, given, sockets, example, stdout))


@click.command(name="serve-worker", hidden=True)
@click.argument("settings")
@click.argument("listeners")
@click.argument("ready", type=int)
@click.argument("alive", type=int)
@click.argument("board", type=int)
@click.argument("slot", type=int)
def worker(settings: str, listeners: str, ready: int, alive: int, board: int, slot: int) -> None:
    """One of several server processes; started by `serve -w N`."""
    given = json.loads(settings)
    sockets, accepting = workers_.inherited(listeners, ready, alive)
    with own_stdout():
        read_as = variant(given["schema"], casts(given["cast"]))
        found = find(given["model_uri"], registry=given["registry"], engine=given["engine"], variant=read_as)
        _run(found, given, sockets, accepting, Counts(Board(board), slot))


def _worker_command(found: Found, given: dict[str, Any]) -> list[str]:
    """The same model for every worker: the version that was resolved, and its digest if it is trusted."""
    resolved = found.resolved
    if found.compiled is None and found.settled.trusted:
        os.environ["FORETELL_TRUST"] = resolved.digest
    uri = given["model_uri"]
    settings = {**given, "model_uri": pinned(found, uri), "registry": given["registry"] or chosen(uri)}
    return [sys.executable, "-P", "-m", "foretell", "models", "serve-worker", json.dumps(settings)]


def _run(
    found: Found,
    given: dict[str, Any],
    sockets: list[socket.socket],
    accepting: Callable[[str], None],
    counts: Counts | None = None,
) -> None:
    """Loads the model and serves it in this process. sockets: of the port, then of that for administration. accepting:
    called with an example request once it can be sent."""
    ports = entrances(*_ports(given, sockets), safety_of(given))
    predictor = load_model(found, given)
    engines = _engines(predictor, given)

    def started() -> None:
        accepting(curl(predictor, address(sockets, secure=bool(given["tls_cert"]))))
        engines.start()

    try:
        run(
            predictor,
            ports,
            _limits(given),
            Manner(
                given["access_log"],
                given["access_log_format"],
                given["debug"],
                given["loop"],
                replaceable=given["workers"] > 1,
            ),
            started,
            counts,
            witnesses_of(given),
            advising(given["model_uri"]),
        )
    finally:
        engines.close()


def _limits(given: dict[str, Any]) -> Limits:
    """The settings as bytes, seconds and rows."""
    in_flight = given["max_in_flight_mb"]
    return Limits(
        timeout=given["timeout"],
        batch_rows=given["max_batch_size"],
        queue_delay=given["max_queue_delay_ms"] / 1000,
        queue=given["max_queue"],
        body=int(given["max_body_mb"] * 2**20),
        in_flight=int(in_flight * 2**20) if in_flight else machine.memory() // _SHARE_OF_MEMORY // given["workers"],
        head=int(given["max_header_kb"] * 2**10),
        connections=given["max_connections"],
        head_timeout=given["header_timeout"],
        body_timeout=given["body_timeout"],
        body_rate=given["min_body_rate"],
        write_timeout=given["write_timeout"],
        keep_alive=given["keep_alive"],
        drain_delay=given["drain_delay"],
    )


def _engines(predictor: Predictor, given: dict[str, Any]) -> Background:
    """What sees to the engine beside the server: with --engine auto one is made, if one can be and none is there."""
    schema, cast, native = given["schema"], casts(given["cast"]), predictor.found.native
    place = proven.entry(predictor.resolved.digest, variant(schema, cast))
    found = predictor.found
    wanted = (
        found.automatic and found.compiled is None and place.record() is None and coverable(predictor, at_once=False)
    )
    flags = [(f"--{name}", given[name]) for name in ("schema", "registry") if given[name]]
    flags += [("--cast", one) for one in given["cast"]]
    command = [sys.executable, "-P", "-m", "foretell", "models", "compile", "--beside", "--json", "--engine", AUTO]
    command += ["-m", pinned(found, given["model_uri"]), *(part for flag in flags for part in flag)]
    trusted = found.compiled is None and found.settled.trusted
    environment = {**os.environ, **({"FORETELL_TRUST": predictor.resolved.digest} if trusted else {})}
    return Background(
        predictor,
        place,
        command if wanted else None,
        environment,
        lambda: load(native, schema=schema, cast=cast),
        say,
    )


def _ports(given: dict[str, Any], sockets: list[socket.socket]) -> tuple[list[socket.socket], list[socket.socket]]:
    apart = len(sockets) - given["beside"]
    return sockets[:apart], sockets[apart:]


def _announce(found: Found, given: dict[str, Any], sockets: list[socket.socket], example: str, stdout: TextIO) -> None:
    port = sockets[0].getsockname()[1]
    stamp = time.strftime("%Y/%m/%d %H:%M:%S")
    click.echo(f"{stamp} Starting foretell model server for model '{found.resolved.name}' on port {port}", file=stdout)
    stdout.flush()
    main, beside = (address(port, secure=bool(given["tls_cert"])) if port else "" for port in _ports(given, sockets))
    click.echo(f"Try it: {example}", err=True)
    if beside:
        click.echo(f"Metrics: {beside}/metrics", err=True)
    click.echo(f"A page: {main}/", err=True)
