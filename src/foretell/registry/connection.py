"""How one tracking server is asked over HTTP: within time and size, again where it stumbles, and never another server.

Nothing that a server says is shown or followed: no redirect, no address, no text of its errors.
"""

import contextlib
import http.client
import os
import random
import re
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from foretell import __version__
from foretell.errors import ModelError, ModelUnreadable, RegistryDown, UsageError
from foretell.registry import credentials

LARGEST_REPLY = 64 << 20
WINDOW = 30.0
"""Seconds after the last sign of life in which a new try may start."""

_CONNECT = 10.0
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 8.0
_AGAIN = {408, 429, 500, 502, 503, 504}
_SLOWEST = 16 << 10

Result = TypeVar("Result")


@dataclass(frozen=True)
class Reply:
    """A whole answer that is neither a redirect nor a refusal to let us in. code: MLflow's error code, or ""."""

    status: int
    body: bytes
    code: str


class Stumble(Exception):
    """A try that failed in a way that may pass. alive: something of the answer had come. pause: the server's wish."""

    def __init__(self, why: str, *, alive: bool = False, pause: float | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.alive = alive
        self.pause = pause


class Connection:
    """One server, kept connected; for one thread. address: scheme, host, port and base path, without secrets.

    say: told once, in a line, that an answer is waited for. Raises UsageError for an address or setting that cannot be.
    """

    def __init__(self, uri: str, say: Callable[[str], None] | None = None) -> None:
        self._say = say
        base = _base(uri)
        self.scheme, self.host, self.port, self.path = base.scheme, base.host, base.port, base.path
        self.address = base.text
        self._headers = {"User-Agent": f"foretell/{__version__}", "Accept": "*/*"}
        if secret := credentials.authorization(base.userinfo):
            self._headers["Authorization"] = secret
        self.workspace = os.environ.get("MLFLOW_WORKSPACE", "").strip()
        if not (self.workspace.isascii() and self.workspace.isprintable()):
            raise UsageError(f"MLFLOW_WORKSPACE={self.workspace!r} cannot be a workspace's name")
        if self.workspace:
            self._headers["X-MLFLOW-WORKSPACE"] = self.workspace
        self._timeout = _number("MLFLOW_HTTP_REQUEST_TIMEOUT", 30, 1)
        self._retries = _number("MLFLOW_HTTP_REQUEST_MAX_RETRIES", 7, 0)
        if base.scheme == "https":
            self._http: http.client.HTTPConnection = http.client.HTTPSConnection(
                base.host, base.port, timeout=_CONNECT, context=credentials.tls()
            )
        else:
            self._http = http.client.HTTPConnection(base.host, base.port, timeout=_CONNECT)
        weakref.finalize(self, self._http.close)

    def close(self) -> None:
        self._http.close()

    def same_server(self, netloc: str, scheme: str) -> bool:
        """Whether a server's address, of a scheme, is the one that is asked here."""
        try:
            parts = urlsplit(f"{scheme}://{netloc}")
            port = parts.port or _PORTS[scheme]
        except (ValueError, KeyError):
            return False
        return (scheme, parts.hostname, port) == (self.scheme, self.host, self.port) and parts.username is None

    def ask(self, path: str, query: Mapping[str, object] | None = None, body: bytes | None = None) -> Reply:
        """One call that changes nothing on the server, tried again for a while. path: below the server's own, quoted.

        Raises RegistryDown, ModelUnreadable, and ModelError where the server does not let us in.
        """
        target = f"{path}?{urlencode(query, quote_via=quote)}" if query else path
        headers = {"Content-Type": "application/json"} if body is not None else {}

        def once() -> Reply:
            with self.exchange(target, headers, self._timeout, body) as response:
                return _whole(response, self.address)

        return self.tried(once)

    def tried(self, once: Callable[[], Result]) -> Result:
        """What once returns, tried again after each Stumble, with full jitter. Raises RegistryDown."""
        living = time.monotonic()
        for attempt in range(self._retries + 1):
            try:
                return once()
            except Stumble as stumble:
                self.close()
                if stumble.alive:
                    living = time.monotonic()
                pause = stumble.pause
                if pause is None:
                    pause = random.uniform(0, min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt))
                if attempt == self._retries or time.monotonic() + pause > living + WINDOW:
                    raise self._down(stumble) from None
                if self._say is not None:
                    self._say(f"{self.address} does not answer ({stumble.why}); trying for up to {WINDOW:.0f} s …")
                    self._say = None
                time.sleep(pause)
        raise AssertionError("the last try returns or raises")

    @contextlib.contextmanager
    def exchange(
        self, target: str, headers: Mapping[str, str], seconds: float, body: bytes | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """One request and its answer, to be read within seconds. Raises Stumble, and as ask does."""
        late = threading.Event()
        try:
            if self._http.sock is None:
                self._http.timeout = min(_CONNECT, self._timeout)
                self._http.connect()
            held: socket.socket = self._http.sock
            held.settimeout(self._timeout)
            with _cut_after(held, seconds, late):
                method = "GET" if body is None else "POST"
                self._http.request(method, self.path + target, body, {**self._headers, **headers})
                with contextlib.closing(self._http.getresponse()) as response:
                    self._check(response)
                    yield response
                    whole = response.isclosed()
            if not whole:
                self.close()
        except Stumble:
            raise
        except (OSError, http.client.HTTPException) as error:
            raise (Stumble("timed out") if late.is_set() else self._stumble(error)) from None
        except BaseException:
            self.close()
            raise

    def allowance(self, size: int) -> float:
        """The seconds that an answer of size bytes may take, over the slowest of lines."""
        return self._timeout + size / _SLOWEST

    def _check(self, response: http.client.HTTPResponse) -> None:
        status = response.status
        if status in _AGAIN:
            raise Stumble(f"HTTP {status}", pause=_retry_after(response.headers.get("Retry-After")))
        if 300 <= status < 400:
            where = _origin(response.headers.get("Location"))
            raise ModelUnreadable(
                f"{self.address} sends us on to {where}, where foretell does not go",
                "If that is the server, give its own address",
            )
        if status in (401, 403):
            known = "does not let us in" if "Authorization" in self._headers else "asks who we are"
            raise ModelError(f"{self.address} {known} (HTTP {status})", f"Set {credentials.SETTINGS}")

    def _stumble(self, error: Exception) -> Stumble:
        """The error as a try that may be repeated. Raises ModelError for one that would come again."""
        if isinstance(error, ssl.SSLCertVerificationError):
            self.close()
            raise ModelError(
                f"{self.address} has a certificate that is not trusted here: {error.verify_message}",
                "Set MLFLOW_TRACKING_SERVER_CERT_PATH to the file of the authority that signed it",
            ) from None
        if isinstance(error, ssl.SSLError) and error.reason == "WRONG_VERSION_NUMBER":
            self.close()
            raise ModelError(f"{self.address} does not speak TLS", "Try http:// in place of https://") from None
        return Stumble(_reason(error))

    def _down(self, stumble: Stumble) -> RegistryDown:
        hints = {
            "HTTP 503": "Is the tracking server overloaded, or was it started without --serve-artifacts?",
            "timed out": f"It had {self._timeout} s; MLFLOW_HTTP_REQUEST_TIMEOUT gives it more",
        }
        hint = hints.get(stumble.why, "Is the address right, and the tracking server up?")
        return RegistryDown(f"{self.address} does not answer: {stumble.why}", hint)


_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class _Base:
    scheme: str
    host: str
    port: int
    path: str
    userinfo: str = field(repr=False)

    @property
    def text(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.path}"


def _base(uri: str) -> _Base:
    """A server's address, taken apart. Nothing of it is shown where it is wrong: it may hold a password."""
    wrong = UsageError("the tracking server's address is malformed", "It looks like http://HOST:PORT")
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        raise wrong from None
    host = parts.hostname or ""
    if parts.scheme not in _PORTS or not re.fullmatch(r"[a-z0-9._:%-]+", host) or parts.query or parts.fragment:
        raise wrong
    if not (uri.isascii() and uri.isprintable()) or " " in uri:
        raise wrong
    userinfo = parts.netloc.rpartition("@")[0]
    return _Base(parts.scheme, host, port or _PORTS[parts.scheme], parts.path.rstrip("/"), userinfo)


def _number(name: str, default: int, least: int) -> int:
    text = os.environ.get(name, "")
    if text and not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) >= least):
        raise UsageError(f"{name}={text!r} is no whole number from {least}")
    return int(text) if text else default


def _whole(response: http.client.HTTPResponse, address: str) -> Reply:
    body = response.read(LARGEST_REPLY + 1)
    if len(body) > LARGEST_REPLY:
        raise ModelUnreadable(f"{address} answers with more than {LARGEST_REPLY >> 20} MiB")
    if response.length:
        raise http.client.IncompleteRead(b"")
    found = re.search(rb'"error_code"\s*:\s*"([A-Z_]{1,60})"', body[:2000]) if response.status != 200 else None
    return Reply(response.status, body, found[1].decode() if found else "")


@contextlib.contextmanager
def _cut_after(held: socket.socket, seconds: float, late: threading.Event) -> Iterator[None]:
    """Ends the connection after seconds: a server that sends a byte now and then never runs into a socket's timeout."""

    def cut() -> None:
        late.set()
        with contextlib.suppress(OSError):
            socket.socket.shutdown(held, socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _retry_after(value: str | None) -> float | None:
    """Seconds, from a number or a date; None for what is neither."""
    if value is None:
        return None
    if value.isascii() and value.isdigit() and len(value) < 8:
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError, TypeError):
        return None


def _origin(location: Any) -> str:
    """scheme://host of a redirect, or what can be said of it without showing what a server sent."""
    match = re.match(r"(https?)://(?:[^/@]*@)?([A-Za-z0-9.-]{1,100}(?::\d{1,5})?)(?:[/?#]|$)", str(location or ""))
    return f"{match[1]}://{match[2]}" if match else "another place"


def _reason(error: Exception) -> str:
    """Why a try failed, in words that hold nothing of the server's or of ours."""
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, socket.gaierror):
        return "no such host"
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, ConnectionError | http.client.RemoteDisconnected | http.client.IncompleteRead):
        return "the connection was cut"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or 'cut'})"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return "it does not speak HTTP"
