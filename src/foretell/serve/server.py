"""Runs one server process: a loaded model, bound sockets, and uvicorn on uvloop around them."""

import gc
import socket
from collections.abc import Callable
from dataclasses import dataclass

from uvicorn import Config

from foretell.predictor import Predictor
from foretell.serve.access_log import AccessLog
from foretell.serve.http import InvocationsProtocol, ModelServer
from foretell.serve.routes import Routes
from foretell.serve.service import Service
from foretell.serve.sockets import address, listen

_KEEP_ALIVE_SECONDS = 75
_DRAIN_SECONDS = 30


@dataclass(frozen=True)
class Limits:
    """timeout: seconds a request may take. max_body: bytes of a request's body."""

    timeout: float
    max_body: int


def run(
    predictor: Predictor,
    sockets: list[socket.socket],
    limits: Limits,
    *,
    access_log: str,
    debug: bool,
    accepting: Callable[[], None],
) -> None:
    """Serves until SIGTERM or SIGINT, then finishes what is in flight. accepting: called once it takes requests."""
    service = Service(predictor, timeout=limits.timeout, max_body=limits.max_body, debug=debug)
    service.warm_up()
    config = Config(
        Routes(service, AccessLog(access_log), address(sockets)),
        http=InvocationsProtocol,
        loop="uvloop",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
    )
    listen(sockets)
    gc.freeze()
    ModelServer(config, service, accepting).run(sockets)
