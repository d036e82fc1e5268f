"""Runs one server process: a loaded model, bound sockets, and uvicorn on uvloop around them."""

import asyncio
import contextlib
import gc
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from uvicorn import Config, Server

from foretell.predictor import Predictor
from foretell.serve.access_log import AccessLog
from foretell.serve.http import InvocationsProtocol
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


class ModelServer(Server):
    """uvicorn's server: tells when it accepts, and ends with exit code 0 on SIGTERM and SIGINT."""

    def __init__(self, config: Config, service: Service, accepting: Callable[[], None]) -> None:
        super().__init__(config)
        self._service = service
        self._accepting = accepting

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.start(asyncio.get_running_loop())
        await super().startup(sockets)
        self._accepting()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        self._service.close()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As in the base class, but without raising the signals again at the end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
