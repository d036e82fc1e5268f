"""Shared fixtures: the real models, the `foretell` command, and running servers."""

import contextlib
import fcntl
import functools
import http.client
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tracking import Tracking, free_port

HERE = Path(__file__).parent
COMMAND = [sys.executable, "-m", "foretell"]
PATIENCE = 60.0

os.environ.update(OMP_WAIT_POLICY="passive", OPENBLAS_THREAD_TIMEOUT="4")
"""Threads of the libraries that have nothing to do leave the processors to the other test process: they would spin."""


class _Grouped(LoadScopeScheduling):
    """What shares a server stays in one of several test processes: a file, in the parity table a model."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        if "every_registry" in test:
            return "tests/test_tracking_server.py"
        return f"{file} {test.partition(':')[0]}" if file.endswith("test_parity.py") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Grouped:
    return _Grouped(config, log)


@pytest.fixture(autouse=True)
def _own_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every test has its own working folder and configuration, and none of the caller's settings. Servers make no
    engine in the background, but where a test says so."""
    for name in [name for name in os.environ if name.startswith(("FORETELL_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("FORETELL_ENGINE", "native")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Callable[[str, list[tuple[str, str, str]]], Path]:
    """A folder by its name, which scripts fill: (python, script, folder in it) each. Test processes share it."""
    base = _shared(tmp_path_factory, worker_id)

    def folder(name: str, scripts: list[tuple[str, str, str]]) -> Path:
        def fill(target: Path) -> None:
            with ThreadPoolExecutor(2) as pool:
                runs = [pool.submit(_run, python, script, target / inner) for python, script, inner in scripts]
            for run in runs:
                run.result()

        return _once(base / name, fill)

    return folder


def _shared(factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The folder of all test processes."""
    return factory.getbasetemp() if worker_id == "master" else factory.getbasetemp().parent


def _once(target: Path, fill: Callable[[Path], None]) -> Path:
    """A folder that the first test process which wants it makes and fills."""
    done = target.with_name(f"{target.name}.made")
    with target.with_name(f"{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            target.mkdir(exist_ok=True)
            fill(target)
            done.touch()
    return target


def _run(python: str, script: str, target: Path) -> None:
    target.mkdir(exist_ok=True)
    command = [python, "-W", "ignore", str(HERE / script), str(target)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=target, check=False)
    assert ran.returncode == 0, ran.stderr


OLDER = Path(sys.prefix) / "mlflow2" / "bin" / "python"
"""The Python beside whose mlflow is the newest 2.x."""

PYTHONS = ((sys.executable, "mlflow3"), (str(OLDER), "mlflow2"))
MAKERS = ("make_boosters.py", "make_python_models.py")
"""Scripts that take a folder and write models of other flavours into it, by either mlflow."""


@pytest.fixture(scope="session")
def models(made: Callable[..., Path]) -> Path:
    """A folder of models that the real mlflow wrote; see make_models.py."""
    return made("models", [(sys.executable, "make_models.py", "")])


@pytest.fixture(scope="session")
def flavours(made: Callable[..., Path], models: Path) -> Path:
    """The same folder, with models of the other flavours in mlflow3/NAME and in mlflow2/NAME, each by that mlflow."""
    folder = made("flavours", [(python, script, name) for script in MAKERS for python, name in PYTHONS])
    for name in ("mlflow3", "mlflow2"):
        with contextlib.suppress(FileExistsError):
            (models / name).symlink_to(folder / name)
    return models


@pytest.fixture(scope="session")
def registries(made: Callable[..., Path]) -> Path:
    """A folder with mlflow3/sqlite, mlflow3/files, mlflow2/sqlite and mlflow2/files; see make_registries.py."""
    return made("registries", [(python, "make_registries.py", name) for python, name in PYTHONS])


@pytest.fixture(scope="session")
def trackers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Tracking]]:
    """Real servers with models that the real client of the same version logged; `basic-auth` guards the newest's."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("newest", "older")}
    newest = Tracking(sys.executable, folders["newest"], free_port())
    older = Tracking(str(OLDER), folders["older"], free_port())
    guarded = Tracking(sys.executable, folders["newest"], free_port(), auth=True)

    def filled(server: Tracking) -> None:
        server.start()
        server.wait()
        command = [server.python, "-W", "ignore", str(HERE / "make_registry.py"), server.uri]
        ran = subprocess.run(
            command, capture_output=True, text=True, cwd=server.folder, env=server.environment(), check=False
        )
        assert 0 == ran.returncode, ran.stderr
        server.made = json.loads(next(line for line in ran.stdout.splitlines() if line.startswith("{")))

    try:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(filled, (newest, older)))
        guarded.start()
        guarded.wait()
        yield {"newest": newest, "older": older, "guarded": guarded}
    finally:
        for server in (newest, older, guarded):
            server.kill()


def model_path(models: Path, name: str) -> Path:
    """Where a model of that folder lies."""
    return models / (f"{name}.skops" if name == "nosignature" else name)


def rows_of(models: Path, name: str) -> tuple[list[str], list[list[Any]]]:
    """(columns, rows) for a model of that folder."""
    stored = json.loads((models / f"{name}.json").read_text())
    return stored["columns"], stored["rows"]


@dataclass(frozen=True)
class Ran:
    """How a command ended. raw: its stdout as bytes."""

    code: int
    out: str
    err: str
    raw: bytes = field(default=b"", compare=False)


def foretell(*arguments: object, stdin: bytes | None = None, **environment: str) -> Ran:
    """Runs the real command in the current folder."""
    ran = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        env={**os.environ, **environment},
        timeout=PATIENCE,
        check=False,
    )
    return Ran(ran.returncode, ran.stdout.decode("utf-8", "replace"), ran.stderr.decode(), ran.stdout)


class Lines(list[str]):
    """What a process wrote so far, line by line."""

    def __init__(self) -> None:
        super().__init__()
        self._more = threading.Condition()

    def take(self, line: str) -> None:
        with self._more:
            self.append(line)
            self._more.notify_all()

    def until(self, part: str) -> str:
        """Waits for a line that holds part, and returns it."""
        with self._more:
            assert self._more.wait_for(lambda: any(part in line for line in self), PATIENCE), self
        return next(line for line in self if part in line)


@dataclass
class Server:
    """A running `foretell models serve`. lines: what it wrote on stderr so far."""

    process: subprocess.Popen[str]
    port: int
    first_line: str
    lines: Lines = field(default_factory=Lines)

    def request(
        self, method: str, path: str, body: bytes | str | None = None, headers: dict[str, str] | None = None
    ) -> "Reply":
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            got = connection.getresponse()
            return Reply(got.status, {k.lower(): v for k, v in got.getheaders()}, got.read())

    def post(self, body: bytes | str, kind: str = "application/json", query: str = "", **headers: str) -> "Reply":
        return self.request("POST", f"/invocations{query}", body, {"Content-Type": kind, **headers})


@dataclass(frozen=True)
class Reply:
    """An HTTP response."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@contextlib.contextmanager
def serving(*arguments: object, **environment: str) -> Iterator[Server]:
    """Runs `foretell models serve` on a free port, as a process, until it accepts; ends it afterwards."""
    process = subprocess.Popen(
        [*COMMAND, "models", "serve", "-p", "0", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    lines = Lines()
    said: queue.Queue[str] = queue.Queue()
    readers = [_reader(process.stdout, said.put), _reader(process.stderr, lines.take)]
    try:
        first = said.get(timeout=PATIENCE)
        assert " on port " in first, f"{first}{''.join(lines)}"
        yield Server(process, int(first.rsplit(" ", 1)[1]), first, lines)
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for reader in readers:
            reader.join(PATIENCE)


def _reader(stream: Any, take: Callable[[str], Any]) -> threading.Thread:
    def read() -> None:
        with stream:
            for line in stream:
                take(line)
        take("")

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


Command = Callable[..., Ran]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """`foretell …` in this very process: the same from its arguments to its exit code, without the start."""
    from foretell.cli.main import main

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["foretell", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return Ran(ended.value.code if isinstance(ended.value.code, int) else 0, *capfd.readouterr())

    handler = signal.getsignal(signal.SIGTERM)
    yield run
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def automatic(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Engines are chosen as they are for a user, from an empty cache of the test's own."""
    monkeypatch.delenv("FORETELL_ENGINE")
    monkeypatch.setenv("FORETELL_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def ready(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Callable[..., Any]:
    """Puts a model that was compiled into the test's cache; each is compiled once, for all test processes."""
    from engines import place_of
    from foretell import predictor
    from foretell.compiler.compile import compile_model

    def fill(model: Path, engine: str, cache: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FORETELL_CACHE", str(cache))
            compile_model(predictor.find(str(model), trust=True, engine="native"), engine=engine)

    def copied(model: Path, *, seen: bool = True, engine: str = "auto") -> Any:
        name = f"{engine} engines of {model.parent.name} {model.name}"
        made = _once(_shared(tmp_path_factory, worker_id) / name, functools.partial(fill, model, engine))
        shutil.copytree(made, os.environ["FORETELL_CACHE"], dirs_exist_ok=True)
        place = place_of(model)
        if seen:
            place.saw(1)
        return place

    return copied
