"""Who may ask a server: addresses, keys, certificates, names and other people's pages, at either port."""

import asyncio
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import foretell as package
from certificates import Authority
from conftest import COMMAND, PATIENCE, Reply, Server, foretell, serving
from foretell.errors import UsageError
from foretell.serve import keys, tls
from foretell.serve.tls import TlsFiles
from load import Load, double, doubled
from scripted import scripted_model

MODEL = Path(package.__file__).parent / "demo" / "iris"
BODY = json.dumps({"data": [[5.1, 3.5, 1.4, 0.2]]}).encode()
ANSWER = b'{"predictions": [0]}'


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def plain() -> Iterator[Server]:
    """A server as it is by default."""
    with serving("-m", MODEL) as server:
        yield server


def asked(server: Server, method: str, path: str, headers: dict[str, str]) -> int:
    """The status of an answer to a request with just these headers and, if it is a POST, a body."""
    return server.request(method, path, BODY if method == "POST" else None, headers).status


# Names and pages

PAGES: dict[str, tuple[str, dict[str, str], int]] = {
    "localhost": ("POST", {"Host": "localhost"}, 200),
    "with-any-port": ("POST", {"Host": "LOCALHOST:9"}, 200),
    "ipv4": ("POST", {"Host": "127.0.0.1:80"}, 200),
    "ipv6": ("POST", {"Host": "[::1]:80"}, 200),
    "another-loopback": ("POST", {"Host": "127.9.9.9"}, 200),
    "rebound-name": ("POST", {"Host": "evil.example:8080"}, 421),
    "rebound-name-of-its-own-page": (
        "POST",
        {"Host": "evil.example", "Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"},
        421,
    ),
    "rebound-to-look": ("GET", {"Host": "evil.example"}, 421),
    "name-that-begins-right": ("POST", {"Host": "localhost.evil.example"}, 421),
    "name-with-a-user": ("POST", {"Host": "localhost@evil.example"}, 421),
    "address-of-another": ("POST", {"Host": "10.0.0.1"}, 421),
    "every-address": ("POST", {"Host": "0.0.0.0"}, 421),
    "empty": ("POST", {"Host": ""}, 421),
    "hostile": ("POST", {"Host": "\x9b31m<script>'\""}, 421),
    "own-page": ("POST", {"Host": "localhost:9", "Origin": "http://localhost:9"}, 200),
    "own-page-behind-a-proxy": (
        "POST",
        {"Host": "localhost", "Origin": "https://shown.example", "Sec-Fetch-Site": "same-origin"},
        200,
    ),
    "page-of-another-site": ("POST", {"Host": "localhost", "Origin": "http://evil.example"}, 403),
    "page-at-another-port": ("POST", {"Host": "localhost:9", "Origin": "http://localhost:3000"}, 403),
    "page-of-no-site": ("POST", {"Host": "localhost", "Origin": "null"}, 403),
    "said-by-the-browser": ("POST", {"Host": "localhost", "Sec-Fetch-Site": "cross-site"}, 403),
    "neighbouring-site": ("POST", {"Host": "localhost", "Sec-Fetch-Site": "same-site"}, 403),
    "typed-by-a-person": ("GET", {"Host": "localhost", "Sec-Fetch-Site": "none"}, 200),
    "link-on-another-page": ("GET", {"Host": "localhost", "Sec-Fetch-Site": "cross-site"}, 200),
    "look-by-another-page": ("GET", {"Host": "localhost", "Origin": "http://evil.example"}, 403),
    "asked-in-advance": ("OPTIONS", {"Host": "localhost", "Origin": "http://evil.example"}, 403),
}


@pytest.mark.parametrize(("method", "headers", "status"), PAGES.values(), ids=PAGES.keys())
def test_other_peoples_pages_may_not_ask(plain: Server, method: str, headers: dict[str, str], status: int) -> None:
    """On loopback a server answers to this machine's names, and to its own pages only."""
    path = "/" if method == "GET" else "/invocations"
    reply = plain.request(method, path, BODY if method == "POST" else None, headers)
    assert status == reply.status, reply.body
    assert not [name for name in reply.headers if name.startswith("access-control-")]


def test_probes_come_by_any_name(plain: Server) -> None:
    """A balancer calls a server by its address, or by what it likes."""
    for path in ("/ping", "/health", "/readyz", "/livez", "/%70ing"):
        assert 200 == asked(plain, "GET", path, {"Host": "10.1.2.3", "Origin": "http://any"})


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_what_a_form_can_send_is_no_request(plain: Server, kind: str) -> None:
    """The types that any page may send without asking first are not read."""
    assert 415 == plain.post(BODY, kind).status


# Keys


@dataclass(frozen=True)
class Guarded:
    """A server with keys, TLS and a port for administration. held: the keys, by name."""

    server: Server
    file: Path
    client: ssl.SSLContext
    held: dict[str, str]
    admin_port: int

    def ask(self, path: str, key: str = "", *, method: str = "GET", admin: bool = False, **more: str) -> Reply:
        port = self.admin_port if admin else self.server.port
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=PATIENCE, context=self.client)
        headers = {**({"Authorization": f"Bearer {key}"} if key else {}), **more}
        with contextlib.closing(connection):
            connection.request(method, path, BODY if method == "POST" else None, headers)
            got = connection.getresponse()
            return Reply(got.status, {k.lower(): v for k, v in got.getheaders()}, got.read())

    def post(self, key: str = "", **more: str) -> Reply:
        return self.ask("/invocations", key, method="POST", **more)

    def becomes(self, key: str, status: int) -> None:
        """Returns when a prediction by that key has that status; a server that never comes to it fails the test."""
        while self.post(key).status != status:
            assert self.server.process.poll() is None


@pytest.fixture(scope="module")
def guarded(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    file = tmp_path_factory.mktemp("keys") / "keys"
    held = {role: keys.add(file, f"the-{role}", role) for role in keys.ROLES}
    pair = authority.issue("server")
    options = ["--api-key-file", file, "--tls-cert", pair.certificate, "--tls-key", pair.key, "--admin-port", "0"]
    names = ["--allowed-hosts", "api.example.com:8443, *.inside.example"]
    with serving("-m", MODEL, "-h", "0.0.0.0", "--drain-delay", "0", *options, *names) as server:
        told = server.lines.until("Metrics: ")
        port = int(re.findall(r"https://localhost:(\d+)/metrics", told)[0])
        yield Guarded(server, file, authority.client(), held, port)


HEADERS: dict[str, tuple[dict[str, str], int]] = {
    "bearer": ({"Authorization": "Bearer KEY"}, 200),
    "bearer-in-capitals": ({"Authorization": "BEARER  KEY "}, 200),
    "x-api-key": ({"X-API-Key": "KEY"}, 200),
    "x-api-key-beside-another-scheme": ({"Authorization": "Basic eDp5", "X-API-Key": "KEY"}, 200),
    "none": ({}, 401),
    "empty": ({"Authorization": "Bearer "}, 401),
    "no-scheme": ({"Authorization": "KEY"}, 401),
    "a-beginning": ({"Authorization": "Bearer foretell_"}, 401),
    "one-more": ({"Authorization": "Bearer KEYx"}, 401),
    "two": ({"Authorization": "Bearer KEY KEY"}, 401),
    "long": ({"X-API-Key": "k" * 60_000}, 401),
}


@pytest.mark.parametrize(("headers", "status"), HEADERS.values(), ids=HEADERS.keys())
def test_a_key_opens_the_server(guarded: Guarded, headers: dict[str, str], status: int) -> None:
    """Either header will do; anything else gets a 401 that says how to send one."""
    sent = {name: value.replace("KEY", guarded.held["predict"]) for name, value in headers.items()}
    reply = guarded.post(**sent)
    assert (status, status == 401) == (reply.status, reply.headers.get("www-authenticate") == "Bearer")


ROUTES: dict[str, tuple[str, bool, dict[str, int]]] = {
    "predictions": ("/invocations", False, {"": 401, "predict": 405, "metrics": 403, "admin": 405}),
    "page": ("/", False, {"": 401, "predict": 200, "metrics": 403, "admin": 200}),
    "version": ("/version", False, {"": 401, "predict": 200, "metrics": 403, "admin": 200}),
    "nothing": ("/nothing", False, {"": 401, "predict": 404, "metrics": 403, "admin": 404}),
    "probe": ("/readyz", False, {"": 200, "predict": 200}),
    "metrics-elsewhere": ("/metrics", False, {"": 404, "metrics": 404, "admin": 404}),
    "metrics-spelt-otherwise": ("/%6detrics", False, {"": 404, "metrics": 404, "predict": 404}),
    "metrics-with-a-fragment": ("/metrics#x", False, {"": 404, "metrics": 404}),
    "admin-elsewhere": ("/admin/reload", False, {"": 404, "admin": 404}),
    "admin-spelt-otherwise": ("/%61dmin/models", False, {"": 404, "admin": 404}),
    "metrics": ("/metrics", True, {"": 401, "predict": 403, "metrics": 200, "admin": 200}),
    "admin": ("/admin/nothing", True, {"": 401, "predict": 403, "metrics": 403, "admin": 404}),
    "probe-there": ("/readyz", True, {"": 200}),
    "predictions-there": ("/invocations", True, {"": 404, "predict": 404, "admin": 404}),
    "page-there": ("/", True, {"": 404, "admin": 404}),
}


@pytest.mark.parametrize(("path", "admin", "statuses"), ROUTES.values(), ids=ROUTES.keys())
def test_each_role_opens_its_routes(guarded: Guarded, path: str, admin: bool, statuses: dict[str, int]) -> None:
    """Probes are everybody's; metrics and administration have their own port, and nothing else is there."""
    assert statuses == {role: guarded.ask(path, guarded.held.get(role, ""), admin=admin).status for role in statuses}


def test_what_one_port_lets_in_another_may_not(guarded: Guarded) -> None:
    """The very request that the server has just answered is no request at its other port."""
    key = guarded.held["predict"]
    asked = [guarded.post(key).status for _ in range(3)]
    there = guarded.ask("/invocations", key, method="POST", admin=True).status
    assert ([200] * 3, 404) == (asked, there)


def test_is_refused_before_its_body_is_read(guarded: Guarded) -> None:
    """Whoever has no key is told while the body is still to come, and the connection ends."""
    with (
        socket.create_connection(("127.0.0.1", guarded.server.port), timeout=PATIENCE) as raw,
        guarded.client.wrap_socket(raw, server_hostname="localhost") as connection,
    ):
        connection.sendall(b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n")
        got = b"".join(iter(lambda: connection.recv(4096), b""))
    assert got.startswith(b"HTTP/1.1 401 ")
    assert b"\r\nconnection: close\r\n" in got


@pytest.mark.parametrize(
    ("host", "status"),
    [("api.example.com:8443", 200), ("api.example.com", 421), ("a.inside.example", 200), ("evil.example", 421)],
)
def test_allowed_hosts_hold_on_every_address(guarded: Guarded, host: str, status: int) -> None:
    """Where names are given, only those will do, and their pages may ask too."""
    page = {"Origin": f"https://{host}"} if status == 200 else {}
    assert status == guarded.post(guarded.held["predict"], Host=host, **page).status


def test_keys_change_while_the_server_runs(guarded: Guarded) -> None:
    """A new key opens, one that was removed does not, and a file that cannot be read leaves all as it was."""
    ran = foretell("keys", "new", "second", "--file", guarded.file)
    key = ran.out.strip()
    guarded.becomes(key, 200)
    good = guarded.file.read_bytes()
    guarded.file.write_bytes(b"second:predict:no-hash\n")
    said = guarded.server.lines.until("stay as they were")
    kept = guarded.post(key).status
    guarded.file.write_bytes(good)
    removed = foretell("keys", "remove", "second", "--file", guarded.file)
    guarded.becomes(key, 401)
    listed = foretell("keys", "list", "--file", guarded.file)
    assert (0, 0, 200, 200) == (ran.code, removed.code, kept, guarded.post(guarded.held["predict"]).status)
    assert "line 1: not NAME:ROLE:SHA256" in said
    assert ["predict  the-predict", "metrics  the-metrics", "admin    the-admin"] == listed.out.splitlines()
    assert [] == [line for line in guarded.server.lines if key in line]


def test_a_renewed_certificate_is_shown_without_a_restart(guarded: Guarded, authority: Authority) -> None:
    """Connections that begin later see it; half of it, and a broken one, leave the old one."""

    def serial() -> str:
        with (
            socket.create_connection(("127.0.0.1", guarded.server.port), timeout=PATIENCE) as raw,
            guarded.client.wrap_socket(raw, server_hostname="localhost") as connection,
        ):
            return str((connection.getpeercert() or {})["serialNumber"])

    before = serial()
    pair = authority.issue("renewed")
    place = pair.certificate.with_name("server.pem")
    place.write_bytes(pair.certificate.read_bytes())
    guarded.server.lines.until("is not the key of")
    half = serial()
    place.with_suffix(".key").write_bytes(pair.key.read_bytes())
    while (after := serial()) == before:
        pass
    assert before == half != after


def test_what_is_no_tls_is_left(guarded: Guarded) -> None:
    """Plain HTTP and noise at a port of TLS end that connection alone."""
    for noise in (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", os.urandom(3000)):
        with socket.create_connection(("127.0.0.1", guarded.server.port), timeout=PATIENCE) as raw:
            raw.sendall(noise)
            raw.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                while raw.recv(4096):
                    pass
    assert 200 == guarded.post(guarded.held["predict"]).status
    assert [] == [line for line in guarded.server.lines if "Traceback" in line]


# Certificates of clients, and the end


@pytest.mark.parametrize("options", [["--loop", "asyncio"], ["-w", "2"]], ids=["asyncio", "workers"])
def test_certified_clients_lose_nothing_when_it_stops(authority: Authority, tmp_path: Path, options: list[str]) -> None:
    """Clients with a certificate are answered over TLS under load until SIGTERM, and none is cut off; others get 403,
    but for probes, or no connection at all."""
    pair = authority.issue("with-clients")
    other = Authority(tmp_path)
    files = ["--tls-cert", pair.certificate, "--tls-key", pair.key, "--tls-client-ca", authority.certificate]
    more = ["-h", "0.0.0.0", "--drain-delay", "0.2", "--header-timeout", "0.5"]

    async def drive(server: Server) -> Load:
        client = authority.client(authority.issue("client"))
        load = Load(server.port, 8, doubled, double, retry=False, tls=client)
        running = asyncio.ensure_future(load.run())
        await load.until(200)
        server.process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(running, PATIENCE)
        return load

    with serving("--trust", "-m", scripted_model(tmp_path / "scripted"), *files, *more, *options) as server:
        known = Guarded(server, tmp_path, authority.client(authority.issue("client")), {}, 0)
        asked = [known.post().status for _ in range(3)]
        nobody = Guarded(server, tmp_path, authority.client(), {}, 0)
        refused, probe = nobody.post().status, nobody.ask("/ping").status
        stranger = Guarded(server, tmp_path, authority.client(other.issue("stranger")), {}, 0)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            stranger.ask("/ping")
        silent = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
        with silent, contextlib.suppress(ConnectionResetError):
            assert silent.recv(1) == b""
        account = asyncio.run(drive(server)).account
        code = server.process.wait(PATIENCE)
    assert ([400] * 3, 403, 200) == (asked, refused, probe)
    assert (0, 0, 0, 0, 8) == (account.wrong, account.lost, account.reset, code, account.refused)
    assert {200} == set(account.statuses)
    assert [] == [line for line in server.lines if "Traceback" in line or "eof_received" in line]


# Starting


def test_an_address_that_others_reach_needs_protection() -> None:
    """Without any the server does not start, before it looks for the model, and all three ways are named."""
    command = [*COMMAND, "models", "serve", "-m", "nothing", "-h", "0.0.0.0", "-p", "0"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (2, "") == (ran.returncode, ran.stdout)
    assert [] == [way for way in ("--api-key-file", "--tls-cert", "--insecure") if way not in ran.stderr]


def test_says_what_is_wrong_with_certificates(authority: Authority, tmp_path: Path) -> None:
    """A missing file, one of another kind, another's key, an encrypted key; and what clients will refuse."""
    good, other = authority.issue("good"), authority.issue("other")
    hidden, old, soon = authority.issue("hidden", 30, b"secret"), authority.issue("old", -1), authority.issue("soon", 3)

    def said(certificate: Path, key: Path, authority_file: Path | None = None) -> str:
        files = TlsFiles(certificate, key, authority_file)
        try:
            return tls.complaint(files, tls.context(files))
        except UsageError as error:
            return str(error)

    told = {
        "missing": said(tmp_path / "none", good.key),
        "no-certificate": said(good.key, good.key),
        "no-key": said(good.certificate, good.certificate),
        "mismatch": said(good.certificate, other.key),
        "encrypted": said(hidden.certificate, hidden.key),
        "no-authority": said(good.certificate, good.key, good.key),
        "expired": said(old.certificate, old.key),
        "soon": said(soon.certificate, soon.key),
        "good": said(good.certificate, good.key, authority.certificate),
    }
    expected = {
        "missing": "No such file",
        "no-certificate": "no certificate",
        "no-key": "no private key",
        "mismatch": "not the key of",
        "encrypted": "openssl pkey",
        "no-authority": "holds no certificate",
        "expired": "certificate has expired",
        "soon": "expires in 3.0 days",
        "good": "",
    }
    assert [] == [(name, told[name]) for name, part in expected.items() if part not in told[name]]
    assert "" == told["good"]


HASH = "a" * 64
FILES: dict[str, tuple[str, int, str]] = {
    "good": (f"# a comment\n\nme:predict:{HASH}\nyou:admin:{'b' * 64}\n", 0o644, ""),
    "only-a-comment": ("# nobody\n", 0o600, ""),
    "nothing": ("", 0o600, "is empty"),
    "a-key-itself": ("me:predict:foretell_abc\n", 0o600, "line 1"),
    "unknown-role": (f"me:root:{HASH}\n", 0o600, "line 1"),
    "torn": (f"me:predict:{HASH[:50]}", 0o600, "line 1"),
    "twice": (f"me:predict:{HASH}\nme:admin:{'b' * 64}\n", 0o600, "line 2"),
    "the-same-hash": (f"me:predict:{HASH}\nyou:admin:{HASH}\n", 0o600, "line 2"),
    "written-by-others": (f"me:predict:{HASH}\n", 0o666, "chmod go-w"),
    "bytes": ("\xff\xfe\x00", 0o600, "line 1"),
    "huge": ("# \n" * 400_000, 0o600, "too large"),
}


@pytest.mark.parametrize(("text", "mode", "said"), FILES.values(), ids=FILES.keys())
def test_reads_files_of_keys(tmp_path: Path, text: str, mode: int, said: str) -> None:
    """A file that is not whole, or that others may write, is refused with its line; what stands there is not shown."""
    file = tmp_path / "keys"
    file.write_bytes(text.encode("latin-1"))
    file.chmod(mode)
    try:
        keys.read(file)
        told = ""
    except UsageError as error:
        told = str(error)
    assert (said == "", True) == (told == "", said in told), told
    assert "foretell_abc" not in told


def test_makes_and_removes_keys(tmp_path: Path) -> None:
    """A key is long, random, and only its hash is written; the file is the owner's alone; other lines stay."""
    file = tmp_path / "keys"
    first, second = (foretell("keys", "new", name, "--file", file) for name in ("a", "b"))
    again = foretell("keys", "new", "a", "--file", file)
    held = keys.read(file)
    named = [found.name for key in (first.out, second.out) if (found := held.find(key.strip().encode()))]
    mode = stat.S_IMODE(file.stat().st_mode)
    keys.remove(file, "a")
    assert ["a", "b"] == named
    assert (0o600, 2) == (mode, again.code)
    assert [52, 52] == [len(one.out.strip()) for one in (first, second)]
    assert ["b"] == [key.name for key in keys.read(file).keys]
    assert first.out.strip() not in file.read_text()
