"""A server whose registry gets other versions of its model while clients go on asking: what serves, and what is said.

FORETELL_SOAK multiplies how often versions change under load, up to 10 times.
"""

import asyncio
import json
import os
import pickle
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import foretell as package
from conftest import PATIENCE, Server, foretell, serving
from foretell import machine
from foretell.registry.local import LocalRegistry
from load import Connection
from scripted import data, stored_model
from test_lifecycle import children
from tracking import scripted

SOAK = int(os.environ.get("FORETELL_SOAK", "1"))
CLIENTS = 8
QUICK = ("--poll-seconds", "0.1")
PRODUCTION = "models:/m/Production"
IRIS = Path(package.__file__).parent / "demo" / "iris"


@pytest.fixture(autouse=True)
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """All versions may run code."""
    monkeypatch.setenv("FORETELL_TRUST", "1")


class Registry:
    """The embedded registry of the test's folder, with one model, m. Each version adds its factor to a row's cell."""

    def __init__(self, folder: Path) -> None:
        self.local = LocalRegistry(folder / "registry")
        self._folder = folder

    def add(
        self,
        pickled: bytes,
        columns: tuple[str, ...] = ("a", "b"),
        *,
        code: dict[str, str] | None = None,
        spoil: Callable[[Path], Any] | None = None,
    ) -> int:
        """Another version in Production; what is spoilt was before it gets there."""
        number = len(list(self._folder.glob("model-*"))) + 1
        folder = self._folder / f"model-{number}"
        folder.mkdir()
        stored_model(folder, pickled, list(columns))
        if code:
            described = json.loads((folder / "MLmodel").read_text())
            described["flavors"]["sklearn"]["code"] = "code"
            (folder / "MLmodel").write_text(json.dumps(described))
            (folder / "code").mkdir()
        for name, text in (code or {}).items():
            (folder / "code" / name).write_text(text)
        self.local.add("m", folder, None, None)
        if spoil is not None:
            spoil(self.local.root / "m" / "versions" / str(number) / "files" / "model.pkl")
        self.local.point("m", number, stage="Production")
        return number

    def adds(self, number: int) -> int:
        """Another version, whose answers begin with this number."""
        return self.add(plus(number * 1000))


def plus(more: int) -> bytes:
    class Plus:
        def __init__(self, more: int) -> None:
            self.more = more

        def predict(self, rows: Any) -> Any:
            return rows[:, 0] + self.more

    return cloudpickle.dumps(Plus(more))


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    made = Registry(tmp_path)
    made.adds(1)
    return made


def on(registry: Registry, *options: object, uri: str = PRODUCTION) -> Any:
    return serving("-m", uri, "--registry", registry.local.root, *QUICK, *options)


def told(server: Server) -> dict[str, Any]:
    models = server.request("GET", "/version", headers={"Accept": "application/json"}).json()["models"]
    found: dict[str, Any] = models["m"]
    return found


def served(server: Server) -> tuple[str, bytes]:
    """The version that answers, and what."""
    reply = server.post(data([1, 0]))
    assert 200 == reply.status, reply.body
    return reply.headers["x-model-version"], reply.body


def admin(server: Server, verb: str, query: str = "") -> tuple[int, Any]:
    reply = server.request("POST", f"/admin/{verb}{query}")
    return reply.status, reply.json()


def metric(server: Server, line: str) -> float:
    text = server.request("GET", "/metrics").body.decode()
    return next((float(one.rsplit(" ", 1)[1]) for one in text.splitlines() if one.startswith(line)), 0.0)


def answer(number: int) -> tuple[str, bytes]:
    return str(number), b'{"predictions": [%d.0]}' % (number * 1000 + 1)


# Without --follow


def test_a_newer_version_is_told_and_not_served(registry: Registry) -> None:
    """Log, metrics and /version tell of it; /admin/reload and SIGHUP serve it, /admin/rollback goes back."""
    with on(registry) as server:
        first = served(server), told(server)["newer"], metric(server, "foretell_newer_version")
        registry.adds(2)
        said = server.lines.until("is version 2 now, and version 1 serves; --follow or POST /admin/reload serves it")
        newer = told(server)["newer"], metric(server, 'foretell_newer_version{model="m"}'), served(server)
        text = server.request("GET", "/version").body.decode()
        reloaded = admin(server, "reload"), served(server)
        again = admin(server, "reload")
        back = admin(server, "rollback"), served(server)
        registry.adds(3)
        server.lines.until("is version 3 now, and version 1 serves")
        server.process.send_signal(signal.SIGHUP)
        server.lines.until("m is served by version 3 now, and was by 1")
        third = served(server), metric(server, 'foretell_reloads_total{model="m",outcome="swapped"}')
        wrong = admin(server, "reload", "?model=other")[0], server.request("GET", "/admin/reload").status
    assert ((answer(1), None, 0.0), ("2", 2.0, answer(1))) == (first, newer)
    assert PRODUCTION in said
    assert "m: 1; version 2 is there\n" in text
    assert (200, "swapped", "2", "1") == (
        reloaded[0][0],
        *(reloaded[0][1]["models"]["m"][name] for name in ("outcome", "version", "previous")),
    )
    assert (answer(2), "unchanged") == (reloaded[1], again[1]["models"]["m"]["outcome"])
    assert (200, "rolled_back", answer(1)) == (back[0][0], back[0][1]["models"]["m"]["outcome"], back[1])
    assert (answer(3), 2.0) == third
    assert (404, 405) == wrong
    assert [] == [line for line in server.lines if "Traceback" in line]


def test_a_fixed_version_is_not_looked_after(registry: Registry) -> None:
    """Nothing newer is told of models:/m/1, and there is nothing to go back to."""
    with on(registry, "--follow", uri="models:/m/1") as server:
        registry.adds(2)
        reload, rollback = admin(server, "reload"), admin(server, "rollback")
        stands = told(server), metric(server, "foretell_registry_confirmed_time_seconds")
    assert (200, "unchanged") == (reload[0], reload[1]["models"]["m"]["outcome"])
    assert (409, "no other version has been served") == (rollback[0], rollback[1]["message"][3:35])
    assert (None, 0.0) == (stands[0]["newer"], stands[1])


# With it


class Asking:
    """Clients whose requests have two rows, and who look at every answer's version. wrong: what did not fit."""

    def __init__(self, port: int) -> None:
        self.versions: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.ended = False
        self._port = port

    async def client(self) -> None:
        connection = await Connection.open(self._port)
        number = 0
        while not self.ended:
            number = (number + 1) % 900
            try:
                status, body, kept = await connection.ask(data([number, 0], [number + 1, 0]).encode())
            except (OSError, EOFError) as error:
                self.wrong.append(f"lost: {error!r}")
                return
            version = connection.headers["x-model-version"]
            self.versions[version] += 1
            right = b'{"predictions": [%d.0,%d.0]}' % (
                int(version) * 1000 + number,
                int(version) * 1000 + number + 1,
            )
            if (status, body) != (200, right):
                self.wrong.append(f"{version}: {status} {body[:200]!r}")
            if not kept:
                connection.close()
                connection = await Connection.open(self._port)
        connection.close()

    async def until(self, versions: int, more: int) -> None:
        """Waits until so many versions have answered, and the last so many times."""
        deadline = time.monotonic() + PATIENCE
        while len(self.versions) < versions or self.versions[str(versions)] < more:
            assert time.monotonic() < deadline, (self.versions, self.wrong[:3])
            await asyncio.sleep(0.01)


WAYS = {"one-process": (), "workers": ("-w", "2")}


@pytest.mark.parametrize("options", WAYS.values(), ids=WAYS.keys())
def test_follows_under_load_without_losing_or_mixing(
    registry: Registry, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """While versions change, every request is answered, by one version, which is the one that its answer says."""
    changes = min(10, 2 * SOAK)

    async def drive(port: int) -> Asking:
        asking = Asking(port)
        clients = [asyncio.ensure_future(asking.client()) for _ in range(CLIENTS)]
        await asking.until(1, 100)
        for number in range(2, changes + 2):
            registry.adds(number)
            await asking.until(number, 100)
        asking.ended = True
        await asyncio.wait_for(asyncio.gather(*clients), PATIENCE)
        return asking

    with on(registry, "--follow", *options) as server:
        asking = asyncio.run(drive(server.port))
        deadline = time.monotonic() + PATIENCE
        while changes != (swapped := metric(server, 'foretell_reloads_total{model="m",outcome="swapped"}')):
            assert time.monotonic() < deadline, swapped
    with capsys.disabled():
        print(f"\n{changes} hot swaps: {asking.versions.total()} answered, {len(asking.wrong)} wrong", end="")
    assert [] == asking.wrong[:5]
    assert [] == [line for line in server.lines if "Traceback" in line]


class Hangs:
    """A model whose unpickling does not come back."""

    def __reduce__(self) -> Any:
        return eval, ("__import__('threading').Event().wait()",)


class Breaks:
    """A model whose unpickling raises."""

    def __reduce__(self) -> Any:
        return eval, ("1 / 0",)


FAILURES = {
    "missing-file": (lambda registry: registry.add(plus(1), spoil=Path.unlink), "is missing from the registry"),
    "bad-digest": (
        lambda registry: registry.add(plus(1), spoil=lambda file: file.write_bytes(plus(7))),
        "is not the file that was registered",
    ),
    "load-error": (lambda registry: registry.add(pickle.dumps(Breaks())), "division by zero"),
    "hang": (lambda registry: registry.add(pickle.dumps(Hangs())), "it was not loaded within 6 s"),
    "signature": (
        lambda registry: registry.add(plus(2000), ("a", "c")),
        "its signature differs from the one before in the column 'b', double",
    ),
    "columns": (lambda registry: registry.add(plus(2000), ("a",)), "differs from the one before in 2 columns"),
}


def test_keeps_what_serves_when_another_version_fails(tmp_path: Path) -> None:
    """Each kind of failure is told, once, and not tried again; the version before answers on, and a good one after it
    serves."""
    registry = Registry(tmp_path)
    registry.adds(1)
    with on(registry, "--follow", "--load-timeout", "6") as server:
        for at, (spoil, said) in enumerate(FAILURES.values()):
            spoil(registry)
            line = server.lines.until(said)
            stays = f"m stays with version {2 * at + 1}; {2 * at + 2}: "
            assert stays in line
            assert said in told(server)["problem"]
            assert answer(2 * at + 1) == served(server)
            registry.adds(2 * at + 3)
            server.lines.until(f"m is served by version {2 * at + 3} now")
            assert answer(2 * at + 3) == served(server)
        failed = metric(server, 'foretell_reloads_total{model="m",outcome="failed"}')
    print(f"{len(FAILURES)} kinds of failures")
    assert len(FAILURES) == failed
    assert len(FAILURES) == len([line for line in server.lines if "stays with version" in line])


class Coded:
    """A model whose class comes from its own code folder."""

    def __reduce__(self) -> Any:
        return eval, ("__import__('mine').Model()",)


def coded(number: int) -> dict[str, str]:
    return {"mine.py": f"class Model:\n    def predict(self, rows):\n        return rows[:, 0] + {number * 1000}\n"}


def test_code_of_its_own_is_followed_in_another_process(tmp_path: Path) -> None:
    """A module that two versions bring in different forms is each version's own; one process serves at a time, and a
    version that fails there (make soak: or hangs) leaves the one before."""
    registry = Registry(tmp_path)
    registry.add(pickle.dumps(Coded()), code=coded(1))
    with on(registry, "--follow", "--load-timeout", "20" if SOAK > 1 else "60") as server:
        first = served(server)
        registry.add(pickle.dumps(Coded()), code=coded(2))
        server.lines.until("m is served by version 2 now, and was by 1")
        second = served(server)
        while {"2": 1} != told(server)["workers"]:
            pass
        registry.add(pickle.dumps(Coded()), code={"other.py": ""})
        broken = server.lines.until("m stays with version 2; 3: ")
        if SOAK > 1:
            registry.add(pickle.dumps(Hangs()))
            server.lines.until("m stays with version 2; 4: it was not loaded within 20 s")
        kept = served(server)
        back = admin(server, "rollback"), served(server)
    assert (answer(1), answer(2), answer(2)) == (first, second, kept)
    assert "mine" in broken
    assert (200, answer(1)) == (back[0][0], back[1])


def test_a_process_takes_code_of_one_version_only(tmp_path: Path) -> None:
    """Without --follow one process serves: another version's code would not be loaded, and is refused."""
    registry = Registry(tmp_path)
    registry.add(pickle.dumps(Coded()), code=coded(1))
    with on(registry) as server:
        registry.add(pickle.dumps(Coded()), code=coded(2))
        status, said = admin(server, "reload")
        kept = served(server)
    assert (409, answer(1)) == (status, kept)
    assert "--follow" in said["message"]


def test_workers_that_die_start_with_what_serves(registry: Registry) -> None:
    """After a change, a worker that is killed comes back with the version that serves now, whatever the uri means."""
    with on(registry, "-w", "2") as server:
        registry.adds(2)
        server.lines.until("is version 2 now")
        reloaded = admin(server, "reload"), served(server)
        registry.adds(3)
        server.lines.until("is version 3 now")
        while {"2": 2} != told(server)["workers"]:
            pass
        os.kill(children(server.process)[0], signal.SIGKILL)
        server.lines.until("starting another")
        while {"2": 2} != told(server)["workers"]:
            pass
        stands = told(server)
        back = admin(server, "rollback"), served(server)
    assert (200, answer(2)) == (reloaded[0][0], reloaded[1])
    assert ("2", "3", "1") == (stands["version"], stands["newer"], stands["previous"])
    assert (200, answer(1)) == (back[0][0], back[1])


def test_trust_is_not_for_what_comes_later(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """--trust is for the files at the start: another version runs no code, until its name is trusted."""
    monkeypatch.delenv("FORETELL_TRUST")
    with on(registry, "--follow", "--trust") as server:
        registry.adds(2)
        refused = server.lines.until("would run code")
        before = served(server)
        trusted = foretell("models", "trust", "models:/m", "--registry", registry.local.root)
        reloaded = admin(server, "reload"), served(server)
    assert "m stays with version 1; 2: Loading" in refused
    assert (answer(1), 0, 200, answer(2)) == (before, trusted.code, reloaded[0][0], reloaded[1])


def test_another_signature_may_be_allowed(registry: Registry) -> None:
    """With --allow-signature-change a version may take other columns."""
    with on(registry, "--follow", "--allow-signature-change") as server:
        registry.add(plus(2000), ("c", "d"))
        server.lines.until("m is served by version 2 now")
        assert 200 == server.post(data([1, 2])).status


def test_a_version_that_was_rolled_back_is_not_followed_again(registry: Registry) -> None:
    """It stays away until it is asked for; what comes after it is followed."""
    with on(registry, "--follow") as server:
        registry.adds(2)
        server.lines.until("m is served by version 2 now")
        back = admin(server, "rollback")[0], served(server), told(server)["newer"]
        registry.adds(3)
        server.lines.until("m is served by version 3 now, and was by 1")
    assert (200, answer(1), "2") == back
    assert 1 == len([line for line in server.lines if "by version 2 now" in line])


# Memory


def test_free_memory_is_what_the_container_leaves(tmp_path: Path) -> None:
    """By the limit of version 2 and of version 1, less what is used and cannot be given back."""
    for name, files in {
        "two": {"memory.max": "1000000", "memory.current": "700000", "memory.stat": "anon 5\ninactive_file 100000\n"},
        "one/memory": {"memory.limit_in_bytes": "500000", "memory.usage_in_bytes": "450000"},
        "none": {"memory.max": "max", "memory.current": "7"},
    }.items():
        (tmp_path / name).mkdir(parents=True)
        for file, text in files.items():
            (tmp_path / name / file).write_text(text)
    (tmp_path / "own2").write_text("0::/\n")
    (tmp_path / "own1").write_text("5:memory:/\n")
    (tmp_path / "told").write_text("MemTotal: 9 kB\nMemAvailable: 700 kB\n")
    free = [
        machine.free_memory(tmp_path / name, tmp_path / own, tmp_path / "told")
        for name, own in (("two", "own2"), ("one", "own1"), ("none", "own2"))
    ]
    assert [400_000, 50_000, 700 << 10] == free


# A registry that is down


def test_serves_what_it_knew_while_the_registry_is_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a tracking server is down at the start, the last verified version serves, and its age is told; what the
    server says when it is back is followed."""
    monkeypatch.setenv("FORETELL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    seen = 'foretell_registry_confirmed_time_seconds{model="m"}'
    row = data([5.1, 3.5, 1.4, 0.2])
    with scripted() as tracking:
        tracking.model({path.name: path.read_bytes() for path in IRIS.iterdir()})
        options = ("-m", PRODUCTION, "--registry", tracking.uri, *QUICK, "--follow")
        with serving(*options) as server:
            assert ("1", 200) == (told(server)["version"], server.post(row).status)
        known = tracking.answers["mlflow/registered-models/get"]
        tracking.answers["mlflow/registered-models/get"] = lambda request: request.reply(b"", 503)
        began = time.time()
        with serving(*options) as server:
            server.lines.until("cannot look for newer versions")
            old = server.post(row).headers["x-model-version"], metric(server, seen)
            version = {"name": "m", "version": "2", "current_stage": "Production", "status": "READY"}
            tracking.answers["mlflow/model-versions/search"] = {"model_versions": [version]}
            tracking.answers["mlflow/registered-models/get"] = known
            server.lines.until("m is served by version 2 now, and was by 1")
            new = server.post(row).headers["x-model-version"], metric(server, seen)
    assert "using m version 1 as it was resolved" in "".join(server.lines)
    assert 1 == len([line for line in server.lines if "cannot look" in line and "503" in line])
    assert ("1", "2") == (old[0], new[0])
    assert 0 < old[1] < began < new[1]


# Shadows


def test_a_shadow_is_compared_and_never_seen(tmp_path: Path) -> None:
    """Clients get the model's answers alone; /version and /metrics tell how the shadow's differ."""
    registry = Registry(tmp_path)
    registry.adds(1)
    registry.add(half_right())
    options = ("--shadow", "models:/m/2", "--shadow", "models:/m/2")
    with on(registry, *options, uri="models:/m/1") as server:
        for number in (1, 2, 3):
            assert (200, b'{"predictions": [%d.0]}' % (1000 + number)) == asked(server, [number, 0])
        assert (200, b'{"predictions": [1004.0,1005.0]}') == asked(server, [4, 0], [5, 0])
        while 5 != sum(count for name, count in told(server).get("shadow", {}).items() if name != "largest_difference"):
            pass
        stands = told(server)["shadow"]
        served_rows = metric(server, 'foretell_rows_total{model="m",version="1"}')
        different = metric(server, 'foretell_shadow_rows_total{model="m",outcome="different"}')
    assert {"equal": 2, "different": 3, "largest_difference": 0.5} == stands
    assert (5.0, 3.0) == (served_rows, different)
    assert [] == [line for line in server.lines if "Traceback" in line]


def test_a_shadow_that_fails_costs_nothing(registry: Registry) -> None:
    """One with another signature answers nothing, which is counted and said."""
    registry.add(plus(1), ("a", "c"))
    with on(registry, "--shadow", "models:/m/2", uri="models:/m/1") as server:
        assert answer(1) == served(server)
        said = server.lines.until("the shadow of m")
        while {"failed": 1} != told(server).get("shadow"):
            pass
    assert "its signature differs" in server.lines.until("its signature differs")
    assert said


def test_disagreements_are_counted_by_class(tmp_path: Path) -> None:
    """Of classes it is told which the shadow took for which."""
    registry = Registry(tmp_path)
    registry.add(classes("yes", "no"))
    registry.add(classes("yes", "maybe"))
    with on(registry, "--shadow", "models:/m/2", uri="models:/m/1") as server:
        assert (200, b'{"predictions": ["yes","no","no"]}') == asked(server, [1, 0], [0, 0], [0, 0])
        line = 'foretell_shadow_disagreements_total{model="m",served="no",shadow="maybe"}'
        while 2.0 != metric(server, line):
            pass
        assert {"equal": 1, "different": 2} == told(server)["shadow"]


def asked(server: Server, *rows: list[float]) -> tuple[int, bytes]:
    reply = server.post(data(*rows))
    return reply.status, reply.body


def half_right() -> bytes:
    """A model that is off by a half for odd rows."""

    class Half:
        def predict(self, rows: Any) -> Any:
            return rows[:, 0] + 1000 + (rows[:, 0] % 2) / 2

    return cloudpickle.dumps(Half())


def classes(one: str, other: str) -> bytes:
    class Classes:
        def __init__(self, one: str, other: str) -> None:
            self.one, self.other = one, other

        def predict(self, rows: Any) -> Any:
            import numpy as np

            return np.where(rows[:, 0] > 0, self.one, self.other)

    return cloudpickle.dumps(Classes(one, other))
