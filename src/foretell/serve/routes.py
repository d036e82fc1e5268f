"""Every route but predictions, as a small ASGI app: health, version, the page, and what a wrong one says."""

import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

import msgspec

from foretell import __version__
from foretell.errors import ForetellError
from foretell.serve.access_log import AccessLog
from foretell.serve.console import curl, page
from foretell.serve.protocols import error_body
from foretell.serve.service import Service

Message = MutableMapping[str, Any]

_PROBES = ("/ping", "/health", "/readyz", "/livez")
_ROUTES = (*_PROBES, "/version", "/", "/invocations")


@dataclass(frozen=True)
class Page:
    """A response."""

    status: int
    body: bytes
    content_type: str = "application/json"
    allow: str = ""


class Routes:
    """The ASGI app. service and log are also the hot route's."""

    def __init__(self, service: Service, log: AccessLog, address: str) -> None:
        self.service = service
        self.log = log
        self._address = address

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        started = time.perf_counter()
        method, path = scope["method"], scope["path"]
        answer = self._answer(method, path)
        headers = [
            (b"content-type", answer.content_type.encode()),
            (b"content-length", str(len(answer.body)).encode()),
            (b"x-content-type-options", b"nosniff"),
        ]
        if answer.allow:
            headers.append((b"allow", answer.allow.encode()))
        if answer.content_type.startswith("text/html"):
            policy = b"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
            headers.append((b"content-security-policy", policy))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})
        request = f"{method} {_shown(path)}"
        self.log.cold(scope["client"], request, answer.status, time.perf_counter() - started, probe=path in _PROBES)

    def _answer(self, method: str, path: str) -> Page:
        if path not in _ROUTES:
            return self._missing(path)
        if path == "/invocations":
            return self._wrong_verb(method)
        if method not in ("GET", "HEAD"):
            return _error(405, "METHOD_NOT_ALLOWED", f"{path} takes GET", allow="GET, HEAD")
        if path == "/":
            html = page(self.service.predictor, self._address)
            return Page(200, html.encode(), "text/html; charset=utf-8")
        if path == "/version":
            return Page(200, __version__.encode(), "text/plain; charset=utf-8")
        if path == "/livez" or self.service.ready:
            return Page(200, b"\n")
        return _error(503, "TEMPORARILY_UNAVAILABLE", "the model is not ready")

    def _wrong_verb(self, method: str) -> Page:
        example = curl(self.service.predictor, self._address)
        message = f"/invocations takes POST, not {_shown(method)}. For example:\n{example}"
        return _error(405, "METHOD_NOT_ALLOWED", message, allow="POST")

    def _missing(self, path: str) -> Page:
        return _error(404, "ENDPOINT_NOT_FOUND", f"there is no {_shown(path)}; there are {', '.join(_ROUTES)}")


def _error(status: int, code: str, message: str, *, allow: str = "") -> Page:
    error = ForetellError(message)
    error.code = code
    return Page(status, error_body(error), allow=allow)


def _shown(text: str) -> str:
    """A client's text, fit for a line of a log or a message."""
    return msgspec.json.encode(text[:80]).decode()[1:-1]
