"""Every route but predictions, as a small ASGI app: health, version, the page, and what a wrong one says."""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

import msgspec

from foretell.errors import ForetellError
from foretell.serve.absent import Absent
from foretell.serve.access_log import Entry
from foretell.serve.administration import VERBS, Administration
from foretell.serve.console import curl, page
from foretell.serve.door import INVOCATIONS, Door, Stand
from foretell.serve.exchange import RETRY_SECONDS, request_id
from foretell.serve.exposition import exposed
from foretell.serve.kinds import Kind, kind_of
from foretell.serve.openapi import document
from foretell.serve.pages import html
from foretell.serve.problems import error_body

Message = MutableMapping[str, Any]

METRICS = "/metrics"
_PROBES = ("/ping", "/health", "/readyz", "/livez")
_LOOKING = ("GET", "HEAD")
_HTML = "text/html; charset=utf-8"
_HOPELESS_SECONDS = 30.0
_ROUTES = (*_PROBES, "/version", "/", "/docs", "/openapi.json", "/invocations", METRICS, *VERBS)
_OF_A_MODEL = ("ready", "invocations")
_SHOWN = 10


@dataclass(frozen=True)
class Page:
    """A response. policy: what a page may do, if it is one."""

    status: int
    body: bytes
    content_type: str = "application/json"
    allow: str = ""
    policy: bytes = b""


class Routes:
    """The ASGI app, behind the same door as the hot route. keys: whether requests need one. named: whether the server
    must be called by its name."""

    def __init__(
        self,
        door: Door,
        address: str,
        administration: Administration,
        *,
        keys: bool = False,
        named: bool = False,
        admin: bool = False,
    ) -> None:
        self.door = door
        self._administration = administration
        self._address = address
        self._keys = keys
        self._named = named
        self._admin = tuple(VERBS) if admin else ()

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        started = time.perf_counter()
        method, path = scope["method"], scope["path"]
        if path == METRICS and method in _LOOKING:
            answer = await self._metrics(scope)
        elif path == "/openapi.json" and method in _LOOKING:
            answer = await asyncio.to_thread(self._description)
        elif path == "/version" and method in _LOOKING:
            accept = dict(scope["headers"]).get(b"accept", b"")
            answer = Page(200, *self._administration.version(self.door.counts.all(self.door), accept))
        elif path in VERBS and method == "POST":
            answer = Page(*await self._administration.do(path, scope["query_string"]))
        else:
            answer = self._answer(method, path)
        stand, what = self._model(path)
        given = request_id(dict(scope["headers"]).get(b"x-request-id", b""))
        headers = [
            (b"content-type", answer.content_type.encode()),
            (b"content-length", str(len(answer.body)).encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"x-model-version", (stand or self.door.main).version),
            (b"x-request-id", given),
        ]
        if answer.status == 503:
            headers.append((b"retry-after", b"%d" % RETRY_SECONDS))
        if answer.allow:
            headers.append((b"allow", answer.allow.encode()))
        if answer.policy:
            headers += [(b"content-security-policy", answer.policy), (b"referrer-policy", b"no-referrer")]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})
        known = path if path in _ROUTES else f"/models/NAME/{what}" if stand else "other"
        self.door.counts.count("foretell_http_requests", known, str(answer.status))
        if self.door.log.wants(answer.status, quiet=path in _PROBES or what == "ready"):
            of = (stand.meter.model, stand.meter.version) if stand else ("", "")
            about = (scope["client"][0] if scope["client"] else "-", given.decode("latin-1"), *of, method, path)
            self.door.log.take(Entry(*about, answer.status, len(answer.body), time.perf_counter() - started))

    async def _metrics(self, scope: MutableMapping[str, Any]) -> Page:
        accept = dict(scope["headers"]).get(b"accept", b"").decode("latin-1")
        body, kind = await asyncio.to_thread(exposed, self.door.counts.all(self.door), accept)
        return Page(200, body, kind)

    def _description(self) -> Page:
        """Of the models that are there; of a single one as it is at /invocations."""
        stands = {INVOCATIONS: self.door.main} if len(self.door.names) == 1 else self.door.hot
        models = [
            stand.described(path.decode(), "" if path == INVOCATIONS else f"/models/{stand.meter.model}/ready")
            for path, stand in stands.items()
            if not isinstance(stand, Absent)
        ]
        if not models:
            return _error(503, "TEMPORARILY_UNAVAILABLE", self.door.main.unready)
        return Page(200, msgspec.json.encode(document(models, keys=self._keys, named=self._named, admin=self._admin)))

    def _answer(self, method: str, path: str) -> Page:
        stand, what = self._model(path)
        if path not in _ROUTES and stand is None:
            return self._missing(path)
        if path == "/invocations" or what == "invocations":
            return self._wrong_verb(method, path, stand or self.door.main)
        if path in VERBS:
            return _error(405, "METHOD_NOT_ALLOWED", f"{path} takes POST", allow="POST")
        if method not in _LOOKING:
            return _error(405, "METHOD_NOT_ALLOWED", f"{path} takes GET", allow="GET, HEAD")
        if path == "/":
            return self._page()
        if path == "/docs":
            return Page(200, html("docs").text.encode(), _HTML, policy=html("docs").policy)
        return self._health(stand or self.door.main, live=path == "/livez")

    def _model(self, path: str) -> tuple[Stand | None, str]:
        """The model that a path names, and what of it is wanted."""
        parts = path.split("/")
        if len(parts) == 4 and parts[1] == "models" and parts[2] in self.door.names and parts[3] in _OF_A_MODEL:
            return self.door.stand(parts[2]), parts[3]
        return None, ""

    def _page(self) -> Page:
        main = self.door.main
        if isinstance(main, Absent):
            return _error(503, "TEMPORARILY_UNAVAILABLE", main.unready)
        return Page(200, page(main.predictor, self._address).encode(), _HTML, policy=html("console").policy)

    def _wrong_verb(self, method: str, path: str, stand: Stand) -> Page:
        message = f"{path} takes POST, not {_shown(method)}."
        if not isinstance(stand, Absent):
            message += f" For example:\n{curl(stand.predictor, self._address, path)}"
        return _error(405, "METHOD_NOT_ALLOWED", message, allow="POST")

    def _health(self, stand: Stand, *, live: bool) -> Page:
        """Ready: requests are welcome. Live: the process need not be replaced. Anybody may ask, so that where others
        need a key it is not told what a model could not be loaded for."""
        why = stand.unready
        if not why or (live and stand.stuck < _HOPELESS_SECONDS):
            return Page(200, b"\n")
        hidden = self._keys and isinstance(stand, Absent)
        return _error(503, "TEMPORARILY_UNAVAILABLE", "the model is not there" if hidden else why)

    def _missing(self, path: str) -> Page:
        if self._keys and kind_of(path.encode("latin-1", "replace")) is Kind.PROBE:
            return _error(404, "ENDPOINT_NOT_FOUND", "there is no such model")
        names = self.door.names
        told = f"/models/{{{','.join(names[:_SHOWN])}{',…' * (len(names) > _SHOWN)}}}/{{{','.join(_OF_A_MODEL)}}}"
        return _error(404, "ENDPOINT_NOT_FOUND", f"there is no {_shown(path)}; there are {', '.join((*_ROUTES, told))}")


def _error(status: int, code: str, message: str, *, allow: str = "") -> Page:
    error = ForetellError(message)
    error.code = code
    return Page(status, error_body(error), allow=allow)


def _shown(text: str) -> str:
    """A client's text, fit for a line of a log or a message."""
    return msgspec.json.encode(text[:80]).decode()[1:-1]
