"""MLflow's tracking server as a registry: real servers of two versions, and one that means harm."""

import json
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from conftest import PATIENCE, Ran, foretell
from foretell.errors import ForetellError, ModelError, ModelNotFound, ModelUnreadable, RegistryDown, UsageError
from foretell.registry import connection
from foretell.registry.cache import Cache, Found
from foretell.registry.find import locate
from foretell.registry.rest import RestStore
from foretell.registry.uri import FileUri, parse
from make_registry import ODD
from tracking import ROOT, Request, Scripted, Tracking, free_port, scripted

LOCATION = f"mlflow-artifacts:/{ROOT}"
SECRETS = ("s3cret-token", "s3cret-password", "s3cret-user")
FILES = {"MLmodel": b"flavors: {}\n", "data/weights": b"w" * 1000}


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted() as running:
        yield running


@pytest.fixture(autouse=True)
def _impatient(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripted servers are asked once, unless a test says more, and cut off soon."""
    if "trackers" in request.fixturenames:
        return
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")


def fetched(server: Scripted, tmp_path: Path, uri: str = "") -> dict[str, bytes]:
    """The files of the model m version 1, resolved and fetched into a new cache."""
    store = RestStore(uri or server.uri)
    [version] = store.versions("m")
    _, path = Cache(tmp_path / "cache").fetch(store, store.location("m", version.number))
    return contents(path)


def contents(path: Path) -> dict[str, bytes]:
    return {found.relative_to(path).as_posix(): found.read_bytes() for found in path.rglob("*") if found.is_file()}


def refusal(kind: type[ForetellError], call: Callable[[], object]) -> str:
    """What a person is told, in at most two lines; nobody is told a secret, not even in a traceback."""
    with pytest.raises(kind) as caught:
        call()
    text = str(caught.value)
    assert kind is type(caught.value)
    assert len(text.splitlines()) <= 2
    assert text.replace("\n", "").isprintable()
    whole = "".join(traceback.format_exception(caught.value))
    assert [] == [secret for secret in SECRETS if secret in whole]
    return text


def entries(*names: str, **more: Any) -> dict[str, Any]:
    return {"files": [{"path": name, "is_dir": False, "file_size": 3, **more} for name in names]}


def test_a_model_is_found_and_fetched(server: Scripted, tmp_path: Path) -> None:
    """The scripted server, left alone, is one that works: what it changes below is what is refused."""
    assert FILES == fetched(server, tmp_path)


NAMES = {
    "parent": "..",
    "here": ".",
    "empty": "",
    "traversal": "../../evil",
    "nested-traversal": "data/../../evil",
    "absolute": "/etc/cron.d/evil",
    "separator": "a/b",
    "backslash": "..\\evil",
    "drive": "C:evil",
    "nul": "a\0b",
    "newline": "a\nb",
    "escape": "\x1b[2Jevil",
    "right-to-left": "a\u202eb",
    "surrogate": "a\ud800b",
    "tilde": "~root",
    "device": "NUL",
    "device-with-suffix": "com1.txt",
    "trailing-dot": "evil.",
    "leading-space": " evil",
    "too-long": "x" * 201,
}


@pytest.mark.parametrize("name", [pytest.param(name, id=case) for case, name in NAMES.items()])
@pytest.mark.parametrize("is_dir", [pytest.param(False, id="file"), pytest.param(True, id="folder")])
def test_a_name_that_is_no_file_name_is_refused(name: str, is_dir: bool, server: Scripted, tmp_path: Path) -> None:
    """Remote names never become paths unless they are plain; nothing is fetched, nothing is written."""
    server.answers["list data"] = {"files": [{"path": name, "is_dir": is_dir}, {"path": "w", "is_dir": False}]}
    said = refusal(ModelUnreadable, lambda: fetched(server, tmp_path))
    assert "cannot be a file's name here" in said or "no MLflow tracking server" in said
    assert [] == [path for path, _ in server.asked if "artifacts/1" in path]
    assert ["cache"] == sorted(path.name for path in tmp_path.iterdir() if path.name not in ("home", "work"))


@pytest.mark.parametrize(
    ("listing", "said"),
    [
        pytest.param(entries("a", "a"), "twice", id="twice"),
        pytest.param(entries("weights", "Weights"), "in two spellings", id="case"),
        pytest.param(entries("caf\u00e9", "cafe\u0301"), "in two spellings", id="unicode-form"),
        pytest.param({"files": [{"path": "a"}, {"path": "a", "is_dir": True}]}, "twice", id="file-and-folder"),
        pytest.param(entries("a", file_size=-1), "-1 bytes", id="negative"),
        pytest.param(entries("a", file_size=1 << 40), "more than the 16.0 GiB", id="huge"),
        pytest.param(entries("a", file_size=1 << 80), "", id="huger"),
        pytest.param(entries(*map(str, range(10_001))), "more than 10,000 files", id="many"),
        pytest.param({"files": {"a": 1}}, "no MLflow tracking server", id="no-list"),
        pytest.param({"files": [{"path": 1}]}, "no MLflow tracking server", id="no-name"),
        pytest.param([1], "no MLflow tracking server", id="no-object"),
    ],
)
def test_a_listing_that_cannot_be_is_refused(listing: Any, said: str, server: Scripted, tmp_path: Path) -> None:
    """Collisions, sizes and counts beyond reason, and other shapes end before anything is fetched."""
    server.answers["list data"] = json.dumps(listing).encode()
    assert said in refusal(ModelUnreadable, lambda: fetched(server, tmp_path))
    assert [] == [path for path, _ in server.asked if "artifacts/1" in path]


def test_folders_without_end_are_refused(server: Scripted, tmp_path: Path) -> None:
    """A folder in a folder in a folder … is left at a bounded depth."""
    for depth in range(50):
        server.answers["list data" + "/data" * depth] = {"files": [{"path": "data", "is_dir": True}]}
    assert "folders deeper than 16" in refusal(ModelUnreadable, lambda: fetched(server, tmp_path))
    assert len(server.asked) < 30


@pytest.mark.parametrize(
    ("location", "said"),
    [
        pytest.param("mlflow-artifacts://other:123/1/m", "on another server", id="other-proxy"),
        pytest.param("mlflow-artifacts://user:x@{host}/1/m", "on another server", id="with-user"),
        pytest.param("http://169.254.169.254/latest/meta-data", "on another server", id="cloud-metadata"),
        pytest.param("http://localhost:22/api/2.0/mlflow-artifacts/artifacts/1", "on another server", id="loopback"),
        pytest.param("https://{host}/api/2.0/mlflow-artifacts/artifacts/1", "on another server", id="other-scheme"),
        pytest.param("http://{host}/metrics", "no artifact's", id="other-route"),
        pytest.param("http://{host}/x/api/2.0/mlflow-artifacts/artifacts/1", "no artifact's", id="other-prefix"),
        pytest.param("https://bucket.s3.amazonaws.com/m?X-Amz-Signature=0", "on another server", id="presigned"),
        pytest.param("mlflow-artifacts:/1/../../etc", "cannot be a file's name", id="traversal"),
        pytest.param("mlflow-artifacts:/1/m?x=1", "malformed", id="query"),
        pytest.param("mlflow-artifacts:/", "malformed", id="nothing"),
        pytest.param("mlflow-artifacts://[::1/m", "malformed", id="broken"),
        pytest.param("/etc", "a folder of the server's own (/etc)", id="local"),
        pytest.param("file:///etc", "a folder of the server's own (/etc)", id="file"),
        pytest.param("file://{host}/etc", "a folder of the server's own (/etc)", id="file-host"),
        pytest.param("etc", "a folder of the server's own (etc)", id="relative"),
        pytest.param("s3://bucket/m", "s3: storage", id="s3"),
        pytest.param("dbfs:/m", "dbfs: storage", id="dbfs"),
        pytest.param("gopher://x", "gopher: storage", id="gopher"),
        pytest.param("a\nb", "no text", id="control"),
    ],
)
def test_only_the_server_itself_is_asked(location: str, said: str, server: Scripted, tmp_path: Path) -> None:
    """An address elsewhere is named and refused: no other host, no folder of this machine, no storage of its own."""
    server.register(location.format(host=server.uri.removeprefix("http://")))
    assert said in refusal(ModelUnreadable, lambda: fetched(server, tmp_path))
    assert [] == [path for path, _ in server.asked if "mlflow-artifacts/artifacts" in path]


@pytest.mark.parametrize(
    "location",
    [
        pytest.param("mlflow-artifacts:/{root}", id="proxy"),
        pytest.param("mlflow-artifacts:///{root}", id="proxy-slashes"),
        pytest.param("mlflow-artifacts://{host}/{root}", id="proxy-with-host"),
        pytest.param("http://{host}/api/2.0/mlflow-artifacts/artifacts/{root}", id="http"),
    ],
)
def test_the_server_names_itself_in_several_ways(location: str, server: Scripted, tmp_path: Path) -> None:
    """MLflow's forms of an address behind its own proxy all lead there."""
    server.register(location.format(host=server.uri.removeprefix("http://"), root=ROOT))
    assert FILES == fetched(server, tmp_path)


def test_a_version_of_a_logged_model_or_a_run_is_followed(server: Scripted) -> None:
    """`models:/m-…` and `runs:/…` as a version's address are looked up on the same server, and not in circles."""
    uri = parse("models:/m/1")
    assert not isinstance(uri, FileUri)
    store = RestStore(server.uri)
    logged = f"m-{'0' * 32}"
    info = {"artifact_uri": LOCATION, "name": "model", "experiment_id": "1"}
    server.answers[f"mlflow/logged-models/{logged}"] = {"model": {"info": info}}
    server.answers["mlflow/runs/get"] = {"run": {"info": {"artifact_uri": "s3://b/1/r1"}}}
    server.answers["mlflow/logged-models/search"] = {"models": [{"info": info}]}
    server.register(f"models:/{logged}")
    assert LOCATION == locate(store, uri).address
    server.register("runs:/r1/model/data")
    assert f"{LOCATION}/data" == locate(store, uri).address
    server.answers["mlflow/logged-models/search"] = None
    assert "s3://b/1/r1/model/data" == locate(store, uri).address
    server.register("models:/m/1")
    assert "in a circle" in refusal(ModelUnreadable, lambda: locate(store, uri))


def declared(body: bytes, length: int) -> Callable[[Request], None]:
    def answer(request: Request) -> None:
        request.head(**{"Content-Length": str(length)})
        request.wfile.write(body)
        request.close_connection = True

    return answer


def endless(request: Request) -> None:
    request.head(**{"Transfer-Encoding": "chunked"})
    while True:
        request.wfile.write(b"10000\r\n" + b"w" * 65536 + b"\r\n")


def unframed(body: bytes) -> Callable[[Request], None]:
    def answer(request: Request) -> None:
        request.head(Connection="close")
        request.wfile.write(body)
        request.close_connection = True

    return answer


def dripping(request: Request) -> None:
    request.head(**{"Content-Length": "1000"})
    while True:
        request.wfile.write(b" ")
        request.wfile.flush()
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        pytest.param(b"w" * 999, ModelUnreadable, "has 999 bytes where the server lists 1,000", id="short"),
        pytest.param(b"w" * 1001, ModelUnreadable, "larger than the 1,000 bytes", id="long"),
        pytest.param(declared(b"w" * 1000, 1 << 60), ModelUnreadable, "larger than", id="declared-huge"),
        pytest.param(declared(b"w" * 500, 1000), RegistryDown, "the connection was cut", id="cut"),
        pytest.param(endless, ModelUnreadable, "larger than", id="endless"),
        pytest.param(unframed(b"w" * 999), RegistryDown, "the connection was cut", id="unframed-short"),
        pytest.param(unframed(b"w" * 1001), ModelUnreadable, "larger than", id="unframed-long"),
        pytest.param(None, ModelUnreadable, "cannot be had (HTTP 404)", id="gone"),
        pytest.param(lambda r: r.reply(b"w" * 1000, 206), ModelUnreadable, "not asked for", id="piece"),
        pytest.param(dripping, RegistryDown, "timed out", id="dripping"),
    ],
)
def test_a_file_that_is_not_as_listed_is_refused(
    answer: Any, kind: type[ForetellError], said: str, server: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes are bounded by the listed size and never accepted short; no model appears."""
    monkeypatch.setattr(connection, "_SLOWEST", 1 << 30)
    server.answers["file data/weights"] = answer
    assert said in refusal(kind, lambda: fetched(server, tmp_path))
    assert [] == list((tmp_path / "cache" / "models").iterdir())
    assert [] == list((tmp_path / "cache" / "drafts").iterdir())


def test_a_file_of_unknown_size_is_fetched_whole(server: Scripted, tmp_path: Path) -> None:
    """A server that lists no size is believed where its answer has an end of its own, and bounded all the same."""
    server.answers["list data"] = {"files": [{"path": "weights", "is_dir": False}]}
    assert FILES == fetched(server, tmp_path)
    store = RestStore(server.uri)
    refusal(ModelUnreadable, lambda: Cache(tmp_path / "small", 500).fetch(store, LOCATION))
    server.answers["file data/weights"] = unframed(b"w" * 1000)
    assert "cut" in refusal(RegistryDown, lambda: Cache(tmp_path / "other").fetch(store, LOCATION))


class Torn:
    """A file that comes in pieces: each answer is cut after 300 bytes. ranges: what was asked for."""

    def __init__(self, etag: str | None, body: bytes) -> None:
        self.etag = etag
        self.body = body
        self.ranges: list[str | None] = []

    def __call__(self, request: Request) -> None:
        asked = request.headers.get("Range")
        self.ranges.append(asked)
        fits = asked and request.headers.get("If-Range") == self.etag
        start = int(asked[6:-1]) if asked and fits else 0
        more = {"ETag": self.etag} if self.etag else {}
        if fits:
            more["Content-Range"] = f"bytes {start}-{len(self.body) - 1}/{len(self.body)}"
        request.head(206 if fits else 200, **{"Content-Length": str(len(self.body) - start), **more})
        size = 300 if self.etag or len(self.ranges) < 3 else len(self.body)
        request.wfile.write(self.body[start : start + size])
        request.close_connection = True


@pytest.mark.parametrize(
    ("etag", "ranges"),
    [
        pytest.param('"one"', [None, "bytes=300-", "bytes=600-", "bytes=900-"], id="goes-on"),
        pytest.param('W/"weak"', [None, None, None, None], id="weak-starts-over"),
        pytest.param(None, [None, None, None], id="no-etag-starts-over"),
    ],
)
def test_a_cut_download_is_made_whole(
    etag: str | None, ranges: list[str | None], server: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a strong ETag it goes on where it stood; else it starts over. Either way the bytes are right."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    body = bytes(range(250)) * 4
    server.model({"MLmodel": b"", "data/weights": body})
    torn = Torn(etag, body)
    server.answers["file data/weights"] = torn
    if etag is not None and etag.startswith("W/"):
        said = refusal(RegistryDown, lambda: fetched(server, tmp_path))
        assert "the connection was cut" in said
    else:
        assert body == fetched(server, tmp_path)["data/weights"]
    assert ranges == torn.ranges


def test_a_file_that_changes_under_a_cut_download_starts_over(
    server: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two files are never spliced: the rest is asked for under the first one's ETag."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    body = b"new!" * 250

    def second(request: Request) -> None:
        assert '"old"' == request.headers["If-Range"]
        request.reply(body, ETag='"new"')

    old = Torn('"old"', b"old!" * 250)
    answers = iter([old, second])
    server.answers["file data/weights"] = lambda request: next(answers)(request)
    assert body == fetched(server, tmp_path)["data/weights"]


REPLIES = {
    "html": (b"<!doctype html><title>Sign in</title>", "no MLflow tracking server"),
    "nothing": (b"", "no MLflow tracking server"),
    "deep": (b'{"x":' * 200_000, "no MLflow tracking server"),
    "deep-known": (b'{"registered_models":' + b"[" * 200_000, "no MLflow tracking server"),
    "not-utf8": (b'{"registered_models": [{"name": "\xff"}]}', "no MLflow tracking server"),
    "number-name": (b'{"registered_models": [{"name": 3}]}', "no MLflow tracking server"),
    "string": (b'"x"', "no MLflow tracking server"),
    "terminal": (b'{"registered_models": [{"name": "\\u001b[31m"}]}', "no text"),
    "same-page": (b'{"registered_models": [], "next_page_token": "again"}', "without an end"),
}


@pytest.mark.parametrize(("body", "said"), [pytest.param(*case, id=name) for name, case in REPLIES.items()])
def test_an_answer_of_another_shape_is_refused(body: bytes, said: str, server: Scripted) -> None:
    """What is not MLflow's JSON is one clear line, however deep or strange."""
    server.answers["mlflow/registered-models/search"] = body
    assert said in refusal(ModelUnreadable, RestStore(server.uri).models)


def test_an_answer_without_end_is_cut(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are bounded in bytes and in time, also where bytes keep coming one by one."""
    monkeypatch.setattr(connection, "LARGEST_REPLY", 1 << 20)
    server.answers["mlflow/registered-models/search"] = endless
    assert "more than 1 MiB" in refusal(ModelUnreadable, RestStore(server.uri).models)
    server.answers["mlflow/registered-models/search"] = dripping
    started = time.monotonic()
    assert "timed out" in refusal(RegistryDown, RestStore(server.uri).models)
    assert time.monotonic() - started < PATIENCE


@pytest.mark.parametrize("version", ["0", "-1", "1.5", "x", str(1 << 40)])
def test_a_version_that_is_no_number_is_refused(version: str, server: Scripted) -> None:
    """Version numbers are whole and positive."""
    server.answers["mlflow/model-versions/search"] = {"model_versions": [{"name": "m", "version": version}]}
    refusal(ModelUnreadable, lambda: RestStore(server.uri).versions("m"))


def test_pages_are_followed(server: Scripted) -> None:
    """Names and versions come page by page, each asked for by the token of the one before."""

    def search(key: str, made: Callable[[int], dict[str, Any]]) -> Callable[[Request], None]:
        def answer(request: Request) -> None:
            at = int(request.path.partition("page_token=")[2] or 0)
            more = {"next_page_token": str(at + 1)} if at < 4 else {}
            request.reply(json.dumps({key: [made(2 * at + 1), made(2 * at + 2)], **more}).encode())

        return answer

    server.answers["mlflow/registered-models/search"] = search("registered_models", lambda n: {"name": f"m{n:02}"})
    versions = search("model_versions", lambda n: {"name": "m" if n % 2 else "M", "version": n})
    server.answers["mlflow/model-versions/search"] = versions
    store = RestStore(server.uri)
    assert [f"m{n:02}" for n in range(1, 11)] == store.models()
    assert [1, 3, 5, 7, 9] == [version.number for version in store.versions("m")]


def failing(times: int, status: int, **headers: str) -> Callable[[Request], None]:
    """Fails so many times, then lists the model m."""
    left = iter(range(times))

    def answer(request: Request) -> None:
        if next(left, None) is None:
            request.reply(b'{"registered_models": [{"name": "m"}]}')
        else:
            request.reply(b"<html>no", status, **headers)

    return answer


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_server_that_stumbles_is_asked_again(status: int, server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two failures and then an answer is an answer; more failures than tries is a registry that is down."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    server.answers["mlflow/registered-models/search"] = failing(2, status)
    assert ["m"] == RestStore(server.uri).models()
    assert 3 == len(server.asked)
    server.answers["mlflow/registered-models/search"] = failing(3, status)
    said = refusal(RegistryDown, RestStore(server.uri).models)
    assert said.startswith(f"{server.uri} does not answer: HTTP {status}\n")


@pytest.mark.parametrize("status", [400, 404, 409, 501])
def test_an_answer_that_will_not_change_is_not_asked_for_again(
    status: int, server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal is final at the first time."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
    server.answers["mlflow/registered-models/search"] = failing(1, status)
    assert f"HTTP {status}" in refusal(ModelUnreadable, RestStore(server.uri).models)
    assert 1 == len(server.asked)


@pytest.mark.parametrize("when", ["1", "date"])
def test_a_server_says_when_to_come_back(when: str, server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry-After, in seconds or as a date, is waited for."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    date = (datetime.now(UTC) + timedelta(seconds=2)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    server.answers["mlflow/registered-models/search"] = failing(1, 429, Retry_After=date if when == "date" else when)
    started = time.monotonic()
    assert ["m"] == RestStore(server.uri).models()
    assert time.monotonic() - started > 0.9


def test_a_server_that_wants_a_long_pause_is_down(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for an hour because a server says so."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
    server.answers["mlflow/registered-models/search"] = failing(1, 503, Retry_After="3600")
    assert "HTTP 503" in refusal(RegistryDown, RestStore(server.uri).models)
    assert 1 == len(server.asked)


def test_a_server_that_is_not_there_is_down() -> None:
    """Nobody listening, nobody by that name, and nobody answering are said as such."""
    port = free_port()
    assert f"http://127.0.0.1:{port} does not answer: connection refused" in refusal(
        RegistryDown, RestStore(f"http://127.0.0.1:{port}").models
    )
    assert "no such host" in refusal(RegistryDown, RestStore("http://nowhere.invalid").models)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        said = refusal(RegistryDown, RestStore(f"http://127.0.0.1:{silent.getsockname()[1]}").models)
    assert "timed out" in said


def test_what_does_not_speak_http_is_down() -> None:
    """A mail server, say."""
    with socket.create_server(("127.0.0.1", 0)) as other:

        def greet() -> None:
            peer, _ = other.accept()
            with peer:
                peer.sendall(b"220 mail.example ESMTP\r\n" * 3)
                peer.recv(1000)

        thread = threading.Thread(target=greet)
        thread.start()
        said = refusal(RegistryDown, RestStore(f"http://127.0.0.1:{other.getsockname()[1]}").models)
        thread.join()
    assert "does not speak HTTP" in said or "was cut" in said


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    ("target", "said"),
    [
        pytest.param("{other}/api/2.0/mlflow", "http://127.0.0.1:", id="another-host"),
        pytest.param("https://mlflow.example/x", "https://mlflow.example,", id="to-https"),
        pytest.param("file:///etc/passwd", "another place,", id="file"),
        pytest.param("/login?next=/", "another place,", id="same-host"),
        pytest.param("http://s3cret-token@evil.example/", "http://evil.example,", id="with-user"),
        pytest.param("http://evil.example\x1b[2J/", "another place,", id="control"),
    ],
)
def test_redirects_are_not_followed(
    status: int, target: str, said: str, server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Credentials go to the configured server alone; where it sends us is said, and nobody is asked there."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "s3cret-token")
    with scripted() as other:
        where = target.format(other=other.uri)
        server.answers["mlflow/registered-models/search"] = lambda request: request.reply(b"", status, Location=where)
        assert f"sends us on to {said}" in refusal(ModelUnreadable, RestStore(server.uri).models)
        assert [] == other.asked
    assert 1 == len(server.asked)


BASIC = "Basic czNjcmV0LXVzZXI6czNjcmV0LXBhc3N3b3Jk"
USER = {"MLFLOW_TRACKING_USERNAME": "s3cret-user", "MLFLOW_TRACKING_PASSWORD": "s3cret-password"}
TOKEN = {"MLFLOW_TRACKING_TOKEN": "s3cret-token"}


@pytest.mark.parametrize(
    ("environment", "userinfo", "stored", "sent"),
    [
        pytest.param({}, "", "", None, id="none"),
        pytest.param(TOKEN, "", "", "Bearer s3cret-token", id="token"),
        pytest.param(USER, "", "", BASIC, id="user"),
        pytest.param({**USER, **TOKEN}, "", "", BASIC, id="user-before-token"),
        pytest.param({"MLFLOW_TRACKING_USERNAME": "s3cret-user", **TOKEN}, "", "", "Bearer s3cret-token", id="half"),
        pytest.param(TOKEN, "s3cret-user:s3cret%2Dpassword@", "", BASIC, id="uri-before-all"),
        pytest.param({}, "", "{user}{password}", BASIC, id="file"),
        pytest.param({"MLFLOW_TRACKING_PASSWORD": "s3cret-password"}, "", "{user}", BASIC, id="file-and-environment"),
    ],
)
def test_who_we_are_is_said_as_mlflow_says_it(
    environment: dict[str, str],
    userinfo: str,
    stored: str,
    sent: str | None,
    server: Scripted,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """MLflow's variables, its credentials file and the uri, by its own precedence; the address holds no secret."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if stored:
        path = Path.home() / ".mlflow" / "credentials"
        path.parent.mkdir()
        lines = stored.format(user="mlflow_tracking_username = s3cret-user\n", password="")
        path.write_text(f"[mlflow]\n{lines}mlflow_tracking_password = s3cret-password\n")
    store = RestStore(f"http://{userinfo}{server.uri.removeprefix('http://')}/")
    assert server.uri == store.address
    assert ["m"] == store.models()
    assert [sent] == [headers.get("Authorization") for _, headers in server.asked]


def test_a_workspace_is_said_and_is_part_of_the_address(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same name in another workspace is another model: for the server, for trust, and for the cache."""
    monkeypatch.setenv("MLFLOW_WORKSPACE", "team a")
    store = RestStore(server.uri)
    store.models()
    assert f"{server.uri}#team%20a" == store.address
    assert ["team a"] == [headers.get("X-MLFLOW-WORKSPACE") for _, headers in server.asked]


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("environment", [pytest.param({}, id="without"), pytest.param(USER, id="with")])
def test_a_server_that_does_not_let_us_in_is_not_down(
    status: int, environment: dict[str, str], server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variables to set are named, nothing is tried again, and an echoed secret is not shown."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    echo = b'{"error_code": "PERMISSION_DENIED", "message": "s3cret-user s3cret-password"}'
    server.answers["mlflow/registered-models/search"] = lambda request: request.reply(echo, status)
    said = refusal(ModelError, RestStore(server.uri).models)
    assert "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN" in said
    assert 1 == len(server.asked)


@pytest.mark.parametrize("status", [400, 404, 409, 500, 503])
def test_a_server_that_echoes_our_secrets_is_not_quoted(
    status: int, server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No text of a server's error is shown, whatever the status."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "s3cret-token")
    echo = b'{"error_code": "s3cret-token", "message": "Bearer s3cret-token"}'
    server.answers["mlflow/registered-models/search"] = lambda request: request.reply(echo, status)
    refusal(RegistryDown if status in (500, 503) else ModelUnreadable, RestStore(server.uri).models)


@pytest.mark.parametrize(
    ("uri", "environment", "said"),
    [
        pytest.param("http://h", {"MLFLOW_TRACKING_AWS_SIGV4": "true"}, "MLFLOW_TRACKING_AWS_SIGV4", id="sigv4"),
        pytest.param("http://h", {"MLFLOW_TRACKING_AUTH": "s3cret-token"}, "MLFLOW_TRACKING_AUTH", id="plugin"),
        pytest.param("http://h", {"MLFLOW_TRACKING_TOKEN": "s3cret-token\r\nX: y"}, "no token has", id="token-lines"),
        pytest.param("http://h", {"MLFLOW_TRACKING_TOKEN": "s3cret-token\u00e9"}, "no token has", id="token-letters"),
        pytest.param("http://h", {"MLFLOW_HTTP_REQUEST_TIMEOUT": "soon"}, "REQUEST_TIMEOUT='soon'", id="timeout"),
        pytest.param("http://h", {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "-1"}, "MAX_RETRIES='-1'", id="retries"),
        pytest.param("http://h", {"MLFLOW_WORKSPACE": "a\r\nb"}, "MLFLOW_WORKSPACE", id="workspace"),
        pytest.param("http://s3cret-user:s3cret-password@h:x", {}, "malformed", id="port"),
        pytest.param("http://s3cret-user:s3cret-password@", {}, "malformed", id="no-host"),
        pytest.param("http://s3cret-user:s3cret-password@h\r\nX: y", {}, "malformed", id="line-break"),
        pytest.param("http://h/?token=s3cret-token", {}, "malformed", id="query"),
        pytest.param("ftp://h", {}, "malformed", id="scheme"),
        pytest.param("https://h", {"MLFLOW_TRACKING_SERVER_CERT_PATH": "/no.pem"}, "/no.pem", id="no-authority"),
        pytest.param("https://h", {"MLFLOW_TRACKING_CLIENT_CERT_PATH": "/no.pem"}, "/no.pem", id="no-certificate"),
        pytest.param(
            "https://h",
            {"MLFLOW_TRACKING_INSECURE_TLS": "true", "MLFLOW_TRACKING_SERVER_CERT_PATH": "x"},
            "both set",
            id="insecure-and-authority",
        ),
    ],
)
def test_settings_that_cannot_be_are_said(
    uri: str, environment: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anybody is asked, and without the value where it is a secret."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert said in refusal(UsageError, lambda: RestStore(uri))


def test_a_broken_credentials_file_is_said_without_its_content() -> None:
    """The file's name is enough to find the fault."""
    path = Path.home() / ".mlflow" / "credentials"
    path.parent.mkdir()
    for text in (
        "[mlflow]\ns3cret-password\n",
        "[mlflow]\nmlflow_tracking_password = s3cret-password%\n",
        "s3cret-user",
    ):
        path.write_text(text)
        assert str(path) in refusal(UsageError, lambda: RestStore("http://h"))


def test_a_secret_is_in_no_object_that_could_be_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the store nor its connection shows one."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "s3cret-token")
    store = RestStore("http://s3cret-user:s3cret-password@h")
    assert [] == [s for s in SECRETS if s in f"{store!r} {store.server!r} {store.address}"]


@pytest.fixture
def secure(server: Scripted, tmp_path: Path) -> Path:
    """The server over TLS; the path of the certificate that it signed itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(datetime.now(UTC) - timedelta(days=1))
    made = made.not_valid_after(datetime.now(UTC) + timedelta(days=1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    certificate = made.sign(key, hashes.SHA256())
    path = tmp_path / "server.pem"
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + certificate.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return path


def test_certificates_are_checked(
    secure: Path, server: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate that nobody vouches for, or for another name, is refused; with its authority given, TLS works."""
    port = server.server_address[1]
    uri = f"https://localhost:{port}"
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "s3cret-token")
    assert "MLFLOW_TRACKING_SERVER_CERT_PATH" in refusal(ModelError, RestStore(uri).models)
    assert [] == server.asked
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(secure))
    assert FILES == fetched(server, tmp_path, uri)
    assert "not trusted" in refusal(ModelError, RestStore(f"https://127.0.0.1:{port}").models)
    monkeypatch.delenv("MLFLOW_TRACKING_SERVER_CERT_PATH")
    monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
    assert ["m"] == RestStore(f"https://127.0.0.1:{port}").models()


def test_a_server_without_tls_is_said(server: Scripted) -> None:
    """https:// to a plain server says which to try."""
    said = refusal(ModelError, RestStore(server.uri.replace("http:", "https:")).models)
    assert "Try http://" in said


@pytest.mark.parametrize("name", ["no such", "it's", 'a "quoted" one', "ü%2F..", "a\\"])
def test_a_model_that_is_not_there_has_no_versions(name: str, newest: Tracking) -> None:
    """Any name can be asked for; there is just nothing under it."""
    assert [] == RestStore(newest.uri).versions(name)


@pytest.fixture
def newest(trackers: dict[str, Tracking]) -> Tracking:
    return trackers["newest"]


@pytest.mark.parametrize("which", ["newest", "older"])
def test_a_real_server_is_read(which: str, trackers: dict[str, Tracking], tmp_path: Path) -> None:
    """Names, versions, stages, aliases and artifacts of a real server, of either MLflow."""
    server = trackers[which]
    store = RestStore(server.uri)
    assert ["churn", ODD] == store.models()
    versions = store.versions("churn")
    wanted = [(1, "Production", ()), (2, "Staging", ("champion",)), (3, "None", ())]
    assert wanted == [(version.number, version.stage, version.aliases) for version in versions]
    assert {"READY"} == {version.status for version in versions}
    cache = Cache(tmp_path / "cache")
    digests = set()
    for name, number in (("churn", 1), ("churn", 2), ("churn", 3), (ODD, 1)):
        digest, path = cache.fetch(store, store.location(name, number))
        digests.add(digest)
        [kept] = [root for root in server.folder.rglob("MLmodel") if contents(root.parent) == contents(path)]
        assert kept.parent.is_relative_to(server.folder / "artifacts")
    assert 4 == len(digests)


@pytest.mark.parametrize("which", ["newest", "older"])
def test_a_run_and_its_model_are_found(which: str, trackers: dict[str, Tracking], tmp_path: Path) -> None:
    """`runs:/ID/model` leads to the logged model in MLflow 3 and to the run in 2, as other paths do."""
    server = trackers[which]
    store, cache = RestStore(server.uri), Cache(tmp_path / "cache")
    run = server.made["run"]
    _, model = cache.fetch(store, store.run_model(run, "model"))
    assert "MLmodel" in contents(model)
    _, note = cache.fetch(store, store.run_model(run, "notes/bare.txt"))
    assert ("bare.txt", b"bare") == (note.name, note.read_bytes())
    assert store.run_model(run, "notes") == f"{store.run(run)}/notes"
    if which == "newest":
        assert store.logged_model(server.made["model"]) == store.run_model(run, "model")


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(lambda store: store.location("churn", 99), id="version"),
        pytest.param(lambda store: store.location("no such", 1), id="model"),
        pytest.param(lambda store: store.logged_model("m-" + "0" * 32), id="logged-model"),
        pytest.param(lambda store: store.run("0" * 32), id="run"),
        pytest.param(lambda store: store.run_model("0" * 32, "model"), id="run-model"),
    ],
)
def test_what_a_real_server_does_not_have_is_not_found(asked: Callable[[RestStore], str], newest: Tracking) -> None:
    """What is not there is said as such, and is no reason for an old version."""
    refusal(ModelNotFound, lambda: asked(RestStore(newest.uri)))


def test_an_artifact_folder_that_is_empty_is_not_found(newest: Tracking, tmp_path: Path) -> None:
    """MLflow lists nothing where nothing is; that is no empty model."""
    store = RestStore(newest.uri)
    location = f"{store.run(newest.made['run'])}/nothing"
    assert "no files at" in refusal(ModelNotFound, lambda: Cache(tmp_path / "cache").fetch(store, location))


def test_a_real_server_asks_for_a_password(
    trackers: dict[str, Tracking], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mlflow's basic auth: without, with a wrong and with the right password, in the environment and in the uri."""
    uri = trackers["guarded"].uri
    assert "MLFLOW_TRACKING_USERNAME" in refusal(ModelError, RestStore(uri).models)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "s3cret-password")
    assert "does not let us in" in refusal(ModelError, RestStore(uri).models)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "correct horse")
    store = RestStore(uri)
    assert "MLmodel" in contents(Cache(tmp_path / "cache").fetch(store, store.location("churn", 2))[1])
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    given = RestStore(uri.replace("//", "//admin:correct%20horse@"))
    assert (uri, ["churn", ODD]) == (given.address, given.models())


ROWS = b"sepal length (cm),sepal width (cm),petal length (cm),petal width (cm)\n5.1,3.5,1.4,0.2\n6.3,2.9,5.6,1.8\n"


def predicted(uri: str, *arguments: str, **environment: str) -> Ran:
    """What the command makes of two flowers, with a cache that outlives the command."""
    return foretell("models", "predict", "-m", uri, "-t", "csv", *arguments, stdin=ROWS, **environment)


@pytest.mark.parametrize(
    "uri",
    [
        pytest.param("models:/churn/1", id="version"),
        pytest.param("models:/churn/production", id="stage"),
        pytest.param("models:/churn@champion", id="alias"),
        pytest.param("models:/churn/latest", id="latest"),
        pytest.param(f"models:/{ODD}/1", id="odd-name"),
        pytest.param("models:/{model}", id="logged-model"),
        pytest.param("runs:/{run}/model", id="run"),
    ],
)
def test_the_command_predicts_with_a_model_of_a_real_server(uri: str, newest: Tracking) -> None:
    """Any of MLflow's uris, and the server by MLflow's variable or by --registry: two lines of predictions."""
    uri = uri.format(**newest.made)
    ran = predicted(uri, MLFLOW_TRACKING_URI=newest.uri)
    assert (0, ["prediction", "0", "2"]) == (ran.code, ran.out.splitlines()), ran.err
    assert newest.uri in ran.err
    assert ran.out == predicted(uri, "--registry", newest.uri).out


def test_the_command_reads_an_older_server(trackers: dict[str, Tracking]) -> None:
    """A server and models of MLflow 2."""
    for uri in ("models:/churn@champion", f"runs:/{trackers['older'].made['run']}/model"):
        ran = predicted(uri, "--registry", trackers["older"].uri, "--trust")
        assert (0, ["prediction", "0", "2"]) == (ran.code, ran.out.splitlines()), ran.err


def test_the_command_keeps_a_password_to_itself(trackers: dict[str, Tracking]) -> None:
    """A guarded server: what to set, or predictions; the password is in no line, not even where all is traced."""
    uri = trackers["guarded"].uri
    ran = predicted("models:/churn@champion", "--registry", uri, FORETELL_DEBUG="1")
    assert 3 == ran.code
    assert "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in ran.err
    wrong = {"MLFLOW_TRACKING_USERNAME": "s3cret-user", "MLFLOW_TRACKING_PASSWORD": "s3cret-password"}
    right = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": "correct horse"}
    in_uri = {"MLFLOW_TRACKING_URI": uri.replace("//", "//admin:correct%20horse@")}
    for environment, code in ((wrong, 3), (right, 0), (in_uri, 0)):
        given = {"MLFLOW_TRACKING_URI": uri, "FORETELL_DEBUG": "1", **environment}
        for ran in (predicted("models:/churn@champion", **given), foretell("registry", "list", **given)):
            assert code == ran.code, ran.err
            told = ran.out + ran.err
            assert [] == [word for word in (*SECRETS, "correct", "horse", "YWRtaW4") if word in told]


def test_the_command_goes_on_while_the_server_is_down(server: Scripted) -> None:
    """It says loudly what it uses and how old that is; a uri that was never resolved fails."""
    demo = files("foretell") / "demo"
    server.model({path.name: path.read_bytes() for path in (demo / "iris").iterdir()})
    uri, rows = server.uri, (demo / "batch_input.csv").read_bytes()

    def ask(model: str) -> Ran:
        return foretell("models", "predict", "-m", model, "-t", "csv", "--registry", uri, stdin=rows)

    up = ask("models:/m/Production")
    assert 0 == up.code, up.err
    assert "using" not in up.err
    server.answers["mlflow/registered-models/get"] = lambda request: request.reply(b"", 503)
    down = ask("models:/m/Production")
    assert (0, up.out) == (down.code, down.out), down.err
    assert f"warning: {uri} does not answer: HTTP 503; using m version 1 as it was resolved " in down.err
    never = ask("models:/m@best")
    assert (3, "") == (never.code, never.out)
    assert never.err.startswith(f"error: {uri} does not answer: HTTP 503\n")


def test_a_real_server_is_killed_and_started_again(
    newest: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is down the last verified version is used and said; a call made meanwhile succeeds once it is back."""
    cache = Cache(tmp_path / "cache")
    said: list[str] = []

    def ask() -> Found:
        store = RestStore(newest.uri)
        [version] = [version for version in store.versions("churn") if version.stage == "Production"]
        return Found("churn", version.number, *cache.fetch(store, store.location("churn", version.number)))

    def resolved() -> Found:
        return cache.resolved(newest.uri, "models:/churn/Production", ask, said.append)

    model = resolved()
    assert ([], 1) == (said, model.number)
    newest.kill()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    assert model == replace(resolved(), when=None)
    assert 1 == len(said)
    assert said[0].startswith(f"{newest.uri} does not answer: connection refused; using churn version 1 as it was")
    refusal(RegistryDown, ask)

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "100")
    monkeypatch.setattr(connection, "WINDOW", 300.0)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(resolved)
        newest.start()
        newest.wait()
        assert model == answer.result(PATIENCE)
    assert 1 == len(said)
