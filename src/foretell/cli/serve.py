"""`foretell models serve`: a model behind a port."""

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TextIO

import click
import msgspec

from foretell import machine
from foretell.cli.advising import advising
from foretell.cli.environment import env_manager, find_there
from foretell.cli.main import option, own_stdout
from foretell.cli.registry import chosen, say
from foretell.cli.safety import bind_beside, safety_of, safety_options
from foretell.cli.several import several_options, wanted_models
from foretell.cli.watching import watching_options, witnesses_of
from foretell.config import ENGINES, LOOPS
from foretell.errors import ForetellError, UsageError
from foretell.predictor import Found
from foretell.registry.resolve import moves
from foretell.serve.absent import Absent
from foretell.serve.access_log import FORMATS
from foretell.serve.board import Board
from foretell.serve.channel import Parent
from foretell.serve.console import curl
from foretell.serve.counts import Counts
from foretell.serve.door import INVOCATIONS, Door
from foretell.serve.generations import Generations
from foretell.serve.limits import Limits
from foretell.serve.safety import entrances, is_loopback
from foretell.serve.server import Manner, run
from foretell.serve.shadow import Shadow
from foretell.serve.sockets import address, bind, inherited
from foretell.serve.standing import Version
from foretell.serve.swapper import Manners
from foretell.serve.wanted import Wanted, brings_code, keep_trust
from foretell.serve.workers import SETTINGS, Supervisor

_POSITIVE = click.FloatRange(min=0, min_open=True)
_DRAIN_DELAY = 5.0
_SHARE_OF_MEMORY = 4


@click.command()
@option("trust", is_flag=True)
@option("engine", type=click.Choice(ENGINES))
@env_manager
@several_options
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
@option("follow", is_flag=True)
@option("poll_seconds", type=click.FloatRange(min=0))
@option("load_timeout", type=_POSITIVE)
@option("allow_signature_change", is_flag=True)
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
    wanted = wanted_models(given)
    if given["env_manager"] == "uv" and len(wanted) > 1:
        raise UsageError("--env-manager uv makes an environment for one model", "Serve each by a server of its own")
    sockets = bind(given["host"], given["port"])
    beside = bind_beside(given)
    for note in safety_of(given).check([*sockets, *beside]):
        say(note)
    wanted = {name: _with_shadow(one) for name, one in wanted.items()}
    first = _first(wanted, given)
    if given["drain_delay"] is None:
        given["drain_delay"] = 0.0 if is_loopback(sockets) else _DRAIN_DELAY
    given["beside"] = len(beside)
    sockets += beside
    given["supervised"] = given["workers"] > 1 or _brings_code(wanted, first)
    if given["supervised"]:
        sys.exit(_supervise(wanted, first, given, sockets))
    with own_stdout() as stdout:
        started = partial(_announce, list(wanted), given, sockets, stdout=stdout)
        _run(wanted, first, given, sockets, started)


@click.command(name="serve-worker", hidden=True)
@click.argument("listeners")
@click.argument("channel", type=int)
@click.argument("alive", type=int)
@click.argument("board", type=int)
@click.argument("slot", type=int)
def worker(listeners: str, channel: int, alive: int, board: int, slot: int) -> None:
    """One of several server processes; started by `serve -w N`."""
    given = json.loads(os.environ.pop(SETTINGS))
    wanted = {one["name"]: msgspec.convert(one, Wanted) for one in given["models"]}
    parent = Parent(channel, alive)
    with own_stdout():
        first = {name: one.find for name, one in wanted.items()}
        _run(wanted, first, given, inherited(listeners), parent.accepting, Counts(Board(board), slot), parent)


def _first(wanted: dict[str, Wanted], given: dict[str, Any]) -> dict[str, Callable[[], Found]]:
    """How the models are found at the start. Where a person may be asked, or the command goes on elsewhere, that is
    done here; else when the port is open already."""
    alone = len(wanted) == 1
    first: dict[str, Callable[[], Found]] = {name: partial(_find, one, given) for name, one in wanted.items()}
    if not (given["env_manager"] == "uv" or given["workers"] > 1 or (sys.stdin.isatty() and sys.stderr.isatty())):
        return first
    found = {name: _found(find, fatal=alone) for name, find in first.items()}
    return {name: partial(_again, result) for name, result in found.items()}


def _with_shadow(one: Wanted) -> Wanted:
    """With its shadow's very version, which may run code if it is trusted now."""
    if not one.shadow:
        return one
    found = replace(one, uri=one.shadow).find(trust=one.trust, say=say)
    keep_trust(found)
    return replace(one, shadow=found.resolved.pinned)


def _find(one: Wanted, given: dict[str, Any]) -> Found:
    asked = {**given, "model_uri": one.uri, "registry": one.registry, "schema": one.schema, "engine": one.engine}
    return one.with_engine(find_there(asked, one.variant), say)


def _found(find: Callable[[], Found], *, fatal: bool) -> Found | ForetellError:
    try:
        return find()
    except ForetellError as error:
        if fatal:
            raise
        return error


def _again(result: Found | ForetellError) -> Found:
    if isinstance(result, ForetellError):
        raise result
    return result


def _supervise(
    wanted: dict[str, Wanted],
    first: dict[str, Callable[[], Found]],
    given: dict[str, Any],
    sockets: list[socket.socket],
) -> int:
    """Runs workers until a signal. All serve the versions that were resolved here."""
    targets = {}
    for name, find in list(first.items()):
        found = _found(find, fatal=len(wanted) == 1)
        first[name] = partial(_again, found)
        if not isinstance(found, ForetellError):
            keep_trust(found)
            targets[name] = Version.of(found)

    def command(targets: Mapping[str, Version]) -> list[str]:
        models = [replace(one, uri=targets[name].uri if name in targets else one.uri) for name, one in wanted.items()]
        named = [replace(one, registry=one.registry or chosen(one.uri)) for one in models]
        settings = {**given, "models": msgspec.to_builtins(named)}
        return [sys.executable, "-P", "-m", "foretell", "models", "serve-worker", json.dumps(settings)]

    supervisor = Supervisor(command(targets), sockets, given["workers"], given["drain_delay"])
    poll = given["poll_seconds"]
    changes = Generations(wanted, first, supervisor, command, _manners(given), say, poll=poll)
    supervisor.ask = changes.ask
    changes.start()
    return supervisor.run(lambda example: _announce(list(wanted), given, sockets, example, sys.stdout))


def _brings_code(wanted: dict[str, Wanted], first: dict[str, Callable[[], Found]]) -> bool:
    """Whether versions with code of their own are followed: each needs a process that knew no other."""
    for name, one in wanted.items():
        if one.follow and moves(one.uri):
            found = _found(first[name], fatal=len(wanted) == 1)
            first[name] = partial(_again, found)
            if not isinstance(found, ForetellError) and brings_code(found):
                return True
    return False


def _manners(given: dict[str, Any]) -> Manners:
    return Manners(given["load_timeout"], given["allow_signature_change"])


def _run(
    wanted: dict[str, Wanted],
    first: Mapping[str, Callable[[], Found]],
    given: dict[str, Any],
    sockets: list[socket.socket],
    accepting: Callable[[str], None],
    counts: Counts | None = None,
    parent: Parent | None = None,
) -> None:
    """Serves the models in this process. sockets: of the port, then of that for administration. accepting: called with
    an example request once it can be sent."""
    ports = entrances(*_ports(given, sockets), safety_of(given))
    where = address(sockets, secure=bool(given["tls_cert"]))
    several = given["supervised"]
    manner = Manner(
        given["access_log"],
        given["access_log_format"],
        given["debug"],
        given["loop"],
        replaceable=several,
        early=not several,
        poll=0.0 if several else given["poll_seconds"],
        change=_manners(given),
    )
    shadowed = [replace(one, uri=one.shadow) for one in wanted.values() if one.shadow]
    witnesses = (*witnesses_of(given), *(Shadow(one, one.find, say) for one in shadowed))
    run(
        wanted,
        first,
        ports,
        _limits(given),
        manner,
        lambda door: accepting(_example(door, where)),
        counts,
        witnesses,
        parent,
        say,
        advising(next(iter(wanted.values())).uri),
    )


def _example(door: Door, where: str) -> str:
    """A request to try: of the model at /invocations, or of the first that is served."""
    for path, stand in ((INVOCATIONS, door.main), *door.hot.items()):
        if not isinstance(stand, Absent):
            return curl(stand.predictor, where, path.decode())
    return ""


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


def _ports(given: dict[str, Any], sockets: list[socket.socket]) -> tuple[list[socket.socket], list[socket.socket]]:
    apart = len(sockets) - given["beside"]
    return sockets[:apart], sockets[apart:]


def _announce(
    names: list[str], given: dict[str, Any], sockets: list[socket.socket], example: str, stdout: TextIO
) -> None:
    port = sockets[0].getsockname()[1]
    stamp = time.strftime("%Y/%m/%d %H:%M:%S")
    which = f"model{'s' * (len(names) > 1)} {', '.join(map(repr, names))}"
    click.echo(f"{stamp} Starting foretell model server for {which} on port {port}", file=stdout)
    stdout.flush()
    main, beside = (address(port, secure=bool(given["tls_cert"])) if port else "" for port in _ports(given, sockets))
    click.echo(f"Try it: {example}", err=True)
    if beside:
        click.echo(f"Metrics: {beside}/metrics", err=True)
    click.echo(f"A page: {main}/", err=True)
