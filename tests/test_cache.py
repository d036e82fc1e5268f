"""The cache of fetched models: what is used again, what is noticed, and what a crash or a neighbour leaves alone."""

import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from conftest import PATIENCE
from foretell.errors import ModelUnreadable, OutputError, RegistryDown, UsageError
from foretell.registry.cache import Cache, Found, open_cache
from foretell.registry.rest import RestStore
from tracking import ROOT, Request, Scripted, scripted

LOCATION = f"mlflow-artifacts:/{ROOT}"
FETCH = """
import sys
from foretell.registry.cache import open_cache
from foretell.registry.rest import RestStore
print(*open_cache().fetch(RestStore(sys.argv[1]), sys.argv[2]))
"""


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted() as running:
        yield running


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    monkeypatch.setenv("FORETELL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return open_cache()


def fetcher(server: Scripted, location: str = LOCATION) -> subprocess.Popen[str]:
    """A process that fetches a model into the cache of FORETELL_CACHE."""
    command = [sys.executable, "-c", FETCH, server.uri, location]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def downloads(server: Scripted) -> list[str]:
    return [path for path, _ in server.asked if f"/artifacts/{ROOT}" in path]


def contents(path: Path) -> dict[str, bytes]:
    return {found.relative_to(path).as_posix(): found.read_bytes() for found in path.rglob("*") if found.is_file()}


def left_in(cache: Cache, room: str) -> list[str]:
    return sorted(path.name for path in (cache.root / room).iterdir())


def held_half_way(server: Scripted) -> tuple[threading.Event, threading.Event]:
    """(half, go): half is set once half of the weights are sent; the rest waits for go."""
    half, go = threading.Event(), threading.Event()

    def answer(request: Request) -> None:
        request.head(**{"Content-Length": "1000"})
        request.wfile.write(b"w" * 500)
        request.wfile.flush()
        half.set()
        go.wait(PATIENCE)
        request.wfile.write(b"w" * 500)

    server.answers["file data/weights"] = answer
    return half, go


def test_a_model_lies_under_its_content_and_is_fetched_once(cache: Cache, server: Scripted) -> None:
    """The second use asks for the listing and downloads nothing; the folder's name is the digest of the files."""
    with_progress: list[tuple[int, int]] = []
    digest, path = cache.fetch(RestStore(server.uri), LOCATION, lambda *told: with_progress.append(told))
    assert {"MLmodel": b"flavors: {}\n", "data/weights": b"w" * 1000} == contents(path)
    assert cache.root / "models" / digest.removeprefix("sha256:") / "files" == path
    assert (1012, 1012) == with_progress[-1]
    assert 2 == len(downloads(server))
    assert (digest, path) == cache.fetch(RestStore(server.uri), LOCATION)
    assert 2 == len(downloads(server))
    assert [] == left_in(cache, "drafts")


def test_only_the_owner_can_change_the_cache(cache: Cache, server: Scripted) -> None:
    """Folders are the owner's alone, and files can only be read."""
    _, path = cache.fetch(RestStore(server.uri), LOCATION)
    assert {0o444} == {stat.S_IMODE(found.stat().st_mode) for found in path.rglob("*") if found.is_file()}
    assert 0o700 == stat.S_IMODE(cache.root.stat().st_mode)


def test_a_bare_file_is_a_model(cache: Cache, server: Scripted) -> None:
    """An address that is one file gives that file, whatever the storage lists below a file."""
    _, path = cache.fetch(RestStore(server.uri), f"{LOCATION}/data/weights")
    assert ("weights", b"w" * 1000) == (path.name, path.read_bytes())


def test_files_that_mlflow_adds_on_download_are_no_part_of_a_model(cache: Cache, server: Scripted) -> None:
    """`registered_model_meta` is neither fetched nor written."""
    server.model({"MLmodel": b"x", "weights": b"y", "registered_model_meta": b"z"})
    _, path = cache.fetch(RestStore(server.uri), LOCATION)
    assert ["MLmodel", "weights"] == sorted(contents(path))


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({"MLmodel": b"flavors: {}\n", "data/weights": b"w" * 1001}, id="another-size"),
        pytest.param({"MLmodel": b"flavors: {}\n", "data/heavier": b"w" * 1000}, id="another-name"),
    ],
)
def test_artifacts_that_were_written_over_are_fetched_again(
    files: dict[str, bytes], cache: Cache, server: Scripted
) -> None:
    """Another name or size in the listing is another model."""
    first, _ = cache.fetch(RestStore(server.uri), LOCATION)
    server.model(files)
    digest, path = cache.fetch(RestStore(server.uri), LOCATION)
    assert first != digest
    assert files == contents(path)


@pytest.mark.parametrize("change", ["bytes", "missing", "added", "link", "meta"])
def test_a_changed_cache_is_noticed(change: str, cache: Cache, server: Scripted) -> None:
    """A file that is not what was fetched is fetched again, and is not used while the server is down."""
    store = RestStore(server.uri)
    digest, path = cache.fetch(store, LOCATION)
    weights = path / "data" / "weights"
    if change == "bytes":
        weights.chmod(0o600)
        weights.write_bytes(b"v" * 1000)
    elif change == "missing":
        weights.unlink()
    elif change == "link":
        (path / "MLmodel").rename(path.parent / "MLmodel")
        (path / "MLmodel").symlink_to(path.parent / "MLmodel")
    else:
        (path / ("registered_model_meta" if change == "meta" else "evil.py")).write_bytes(b"x")
    assert None is cache.verified(digest)
    assert (digest, path) == cache.fetch(store, LOCATION)
    assert {"MLmodel": b"flavors: {}\n", "data/weights": b"w" * 1000} == contents(path)


@pytest.mark.parametrize("record", [b"", b"{}", b"[" * 100_000, b'{"digest": "../../.."}'], ids=range(4))
def test_a_broken_record_counts_for_nothing(record: bytes, cache: Cache, server: Scripted) -> None:
    """A record that cannot be read, or names no digest, means that the model is fetched again."""
    digest, _ = cache.fetch(RestStore(server.uri), LOCATION)
    for path in (cache.root / "fetched").iterdir():
        path.write_bytes(record)
    assert digest == cache.fetch(RestStore(server.uri), LOCATION)[0]
    assert 4 == len(downloads(server))


def test_two_processes_fetch_the_same_model_at_once(cache: Cache, server: Scripted) -> None:
    """Both are half-way before either ends; both get the model, and one copy of it stays."""
    together = threading.Barrier(2)

    def answer(request: Request) -> None:
        request.head(**{"Content-Length": "1000"})
        request.wfile.write(b"w" * 500)
        together.wait(PATIENCE)
        request.wfile.write(b"w" * 500)

    server.answers["file data/weights"] = answer
    ran = [process.communicate(timeout=PATIENCE) for process in [fetcher(server), fetcher(server)]]
    assert ran[0] == ran[1]
    digest, path = ran[0][0].split()
    assert Path(path) == cache.verified(digest)
    assert [digest.removeprefix("sha256:")] == left_in(cache, "models")
    assert [] == left_in(cache, "drafts")


def test_a_killed_download_leaves_no_model_and_its_draft_is_cleared(cache: Cache, server: Scripted) -> None:
    """After SIGKILL in the middle of a file nothing is visible; the next fetch is whole and clears the rest away."""
    half, go = held_half_way(server)
    process = fetcher(server)
    assert half.wait(PATIENCE)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    go.set()
    assert ([], 1) == (left_in(cache, "models"), len(left_in(cache, "drafts")))
    assert [] == left_in(cache, "fetched")
    server.model({"MLmodel": b"flavors: {}\n", "data/weights": b"w" * 1000})
    digest, path = cache.fetch(RestStore(server.uri), LOCATION)
    assert path == cache.verified(digest)
    assert [] == left_in(cache, "drafts")


def test_a_draft_in_use_is_left_alone(cache: Cache, server: Scripted) -> None:
    """A fetch that clears drafts away spares the one that another process is writing."""
    half, go = held_half_way(server)
    process = fetcher(server)
    assert half.wait(PATIENCE)
    cache.fetch(RestStore(server.uri), f"{LOCATION}/MLmodel")
    assert 1 == len(left_in(cache, "drafts"))
    go.set()
    out, err = process.communicate(timeout=PATIENCE)
    assert ("", 0) == (err, process.returncode)
    assert Path(out.split()[1]) == cache.verified(out.split()[0])


def test_a_failed_download_leaves_nothing(cache: Cache, server: Scripted) -> None:
    """A file that is not as listed ends the fetch without a model, a record or a draft."""
    server.answers["file data/weights"] = b"w" * 999
    with pytest.raises(ModelUnreadable, match="has 999 bytes where the server lists 1,000"):
        cache.fetch(RestStore(server.uri), LOCATION)
    assert [[], [], []] == [left_in(cache, room) for room in ("models", "drafts", "fetched")]


def found(cache: Cache, server: Scripted, number: int | None = 3) -> Found:
    return Found("churn", number, *cache.fetch(RestStore(server.uri), LOCATION))


def down() -> Found:
    raise RegistryDown("http://there does not answer: connection refused")


@pytest.mark.parametrize(
    ("ago", "age"),
    [
        pytest.param(timedelta(seconds=5), "5 s", id="seconds"),
        pytest.param(timedelta(minutes=3), "3 min", id="minutes"),
        pytest.param(timedelta(hours=2), "2 h", id="hours"),
        pytest.param(timedelta(days=20), "20 days", id="days"),
        pytest.param(timedelta(days=-1), "0 s", id="clock-set-back"),
    ],
)
def test_a_registry_that_is_down_gives_the_last_verified_version(
    ago: timedelta, age: str, cache: Cache, server: Scripted
) -> None:
    """What a uri meant last is used, and said with its age."""
    said: list[str] = []
    now = datetime.now(UTC)
    model = found(cache, server)
    assert model == cache.resolved(server.uri, "models:/churn/Production", lambda: model, said.append, now=now - ago)
    assert [] == said
    resolved = cache.resolved(server.uri, "models:/churn/Production", down, said.append, now=now)
    assert resolved.when is not None
    assert model == replace(resolved, when=None)
    text = f"http://there does not answer: connection refused; using churn version 3 as it was resolved {age} ago"
    assert [text] == said


@pytest.mark.parametrize("case", ["never-resolved", "another-uri", "another-registry", "changed-files"])
def test_a_registry_that_is_down_gives_nothing_else(case: str, cache: Cache, server: Scripted) -> None:
    """Another uri's, another registry's or a changed version is no answer; the registry's error stays."""
    model = found(cache, server)
    if case != "never-resolved":
        cache.resolved(server.uri, "models:/churn/Production", lambda: model, print)
    if case == "changed-files":
        (model.path / "more").write_bytes(b"")
    address = "http://other" if case == "another-registry" else server.uri
    uri = "models:/churn/Staging" if case == "another-uri" else "models:/churn/Production"
    with pytest.raises(RegistryDown):
        cache.resolved(address, uri, down, print)


def test_other_errors_are_no_reason_for_an_old_version(cache: Cache, server: Scripted) -> None:
    """Only a registry that does not answer is stood in for; one that says no has answered."""
    model = found(cache, server)
    cache.resolved(server.uri, "models:/churn@best", lambda: model, print)

    def refused() -> Found:
        raise ModelUnreadable("no")

    with pytest.raises(ModelUnreadable):
        cache.resolved(server.uri, "models:/churn@best", refused, print)


@pytest.mark.parametrize(
    "mode", [pytest.param(0o777, id="everybody"), pytest.param(0o770, id="group"), pytest.param(0o1777, id="sticky")]
)
def test_a_cache_that_others_can_write_to_is_refused(mode: int, tmp_path: Path) -> None:
    """Whoever can write there could put a model in."""
    root = tmp_path / "shared"
    root.mkdir()
    root.chmod(mode)
    with pytest.raises(UsageError, match="can be written by others"):
        Cache(root)


def test_a_cache_in_an_open_folder_is_refused(tmp_path: Path) -> None:
    """In a folder where everybody may rename, the cache could be exchanged as a whole."""
    above = tmp_path / "open"
    above.mkdir()
    above.chmod(0o777)
    with pytest.raises(UsageError, match="can be written by everybody"):
        Cache(above / "cache")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_cache_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """A folder that was there first, under the expected name, is not taken."""
    (tmp_path / "cache").mkdir(mode=0o700)
    os.chown(tmp_path / "cache", 12345, 12345)
    with pytest.raises(UsageError, match="belongs to somebody else"):
        Cache(tmp_path / "cache")


def test_a_cache_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    """A file in the way is an error that names it and the setting."""
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="FORETELL_CACHE"):
        Cache(tmp_path / "file" / "cache")


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        pytest.param({}, "home/.cache/foretell", id="home"),
        pytest.param({"XDG_CACHE_HOME": "{0}/xdg"}, "xdg/foretell", id="xdg"),
        pytest.param({"XDG_CACHE_HOME": "relative"}, "home/.cache/foretell", id="xdg-must-be-absolute"),
        pytest.param({"XDG_CACHE_HOME": "{0}/xdg", "FORETELL_CACHE": "{0}/own"}, "own", id="own"),
        pytest.param({"FORETELL_CACHE": "own"}, "work/own", id="own-relative"),
    ],
)
def test_where_the_cache_lies(
    environment: dict[str, str], place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FORETELL_CACHE, else the user's cache folder; never a shared one."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(tmp_path))
    assert tmp_path / place == open_cache().root


def test_a_model_over_the_limit_is_refused(server: Scripted, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """FORETELL_MAX_MODEL_GB bounds a model's bytes before any of them is fetched."""
    monkeypatch.setenv("FORETELL_MAX_MODEL_GB", "1")
    server.answers["list data"] = {"files": [{"path": "weights", "is_dir": False, "file_size": 2 << 30}]}
    with pytest.raises(ModelUnreadable, match=r"2\.0 GiB, more than the 1\.0 GiB"):
        open_cache().fetch(RestStore(server.uri), LOCATION)
    assert [] == downloads(server)
    monkeypatch.setenv("FORETELL_MAX_MODEL_GB", "lots")
    with pytest.raises(UsageError, match="FORETELL_MAX_MODEL_GB='lots'"):
        open_cache()


def test_a_model_larger_than_the_disk_is_refused(server: Scripted, tmp_path: Path) -> None:
    """What cannot fit is not begun."""
    server.answers["list data"] = {"files": [{"path": "weights", "is_dir": False, "file_size": 1 << 60}]}
    with pytest.raises(OutputError, match="MiB free"):
        Cache(tmp_path / "cache", 1 << 62).fetch(RestStore(server.uri), LOCATION)
    assert [] == downloads(server)
