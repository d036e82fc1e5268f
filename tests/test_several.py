"""Several models behind one port: by -m and by a file; what of them is there, and what a server says meanwhile."""

import json
import os
import pickle
import subprocess
from pathlib import Path
from typing import Any

import pytest

import foretell as package
from conftest import COMMAND, PATIENCE, Command, Lines, Server, serving
from scripted import PLAIN, data, scripted_model, stored_model
from tracking import free_port

IRIS = Path(package.__file__).parent / "demo" / "iris"
ROW = data([5.1, 3.5, 1.4, 0.2])


def ready(server: Server, name: str) -> int:
    return server.request("GET", f"/models/{name}/ready").status


def test_each_has_its_routes_and_its_name(tmp_path: Path) -> None:
    """The first model is at /invocations too; every answer, count and line of the log is of the model that was asked,
    and each keeps to limits of its own."""
    (tmp_path / "models.toml").write_text(
        f'default = "flower"\n[[models]]\nname = "my two"\nuri = "{scripted_model(tmp_path / "scripted")}"\n'
        f'max_batch_size = 2\n[[models]]\nname = "flower"\nuri = "{IRIS}"\n'
    )
    options = ("--config", tmp_path / "models.toml", "-m", f"third={IRIS}", "--trust", "--access-log", "all")
    with serving(*options, "--access-log-format", "json") as server:

        def ask(path: str, body: str) -> tuple[int, bytes]:
            reply = server.request("POST", path, body, {"Content-Type": "application/json"})
            return reply.status, reply.body

        answers = [
            ask("/invocations", ROW),
            ask("/models/flower/invocations", ROW),
            ask("/models/third/invocations", ROW),
            ask("/models/my%20two/invocations", data(*[[PLAIN, at] for at in range(5)])),
            ask("/models/fourth/invocations", ROW)[:1],
        ]
        probes = [ready(server, name) for name in ("flower", "my%20two", "third", "fourth")]
        wrong = server.request("GET", "/models/my%20two/invocations")
        metrics = server.request("GET", "/metrics").body.decode()
    logged = [json.loads(line) for line in server.lines if line.startswith("{")]
    assert [(200, b'{"predictions": [0]}')] * 3 == answers[:3]
    assert [(200, b'{"predictions": [0.0,2.0,4.0,6.0,8.0]}'), (404,)] == answers[3:]
    assert [200, 200, 200, 404] == probes
    assert (405, True) == (wrong.status, "/models/my%20two/invocations" in wrong.json()["message"])
    assert ["flower", "flower", "third", "my two"] == [line["model"] for line in logged][:4]
    assert (tmp_path / "sizes").read_text().split()[-3:] == ["2", "2", "1"]
    assert [2.0, 1.0, 1.0] == [answered(metrics, name) for name in ("flower", "third", "my two")]
    assert " for models 'flower', 'my two', 'third' on port " in server.first_line


def answered(metrics: str, model: str) -> float:
    lines = [line for line in metrics.splitlines() if f'foretell_requests_total{{model="{model}"' in line]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if 'status="200"' in line)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_cannot_be_loaded_does_not_stop_the_rest(tmp_path: Path, workers: str) -> None:
    """It says why it is not there, counts as not ready, and is served as soon as it can be."""
    broken = tmp_path / "broken"
    with serving("-m", IRIS, "-m", broken, "-w", workers) as server:
        told = server.request("POST", "/models/broken/invocations", ROW, {"Content-Type": "application/json"})
        probe = server.request("GET", "/models/broken/ready")
        statuses = [server.post(ROW).status, server.request("GET", "/readyz").status, ready(server, "iris")]
        broken.symlink_to(IRIS)
        server.lines.until("broken is served now")
        while 200 != ready(server, "broken"):
            pass
    assert (503, 503, [200] * 3) == (told.status, probe.status, statuses)
    assert f"{broken}: no such file or folder" in told.json()["message"]
    assert (probe.json()["message"], "1") == (f"{broken}: no such file or folder", told.headers["retry-after"])
    assert server.lines.until("is not served, and tried again")


def test_nothing_to_serve_ends_the_start(tmp_path: Path) -> None:
    """Where no model at all can be loaded, the server says why of the first, and ends."""
    command = [*COMMAND, "models", "serve", "-m", str(tmp_path / "a"), "-m", str(tmp_path / "b"), "-p", "0"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (3, "") == (ran.returncode, ran.stdout)
    assert f"error: {tmp_path / 'a'}: no such file or folder" in ran.stderr


class Slow:
    """A model whose unpickling waits for a file to be written."""

    def __init__(self, gate: str) -> None:
        self.gate = gate

    def __reduce__(self) -> Any:
        return eval, (f"open({self.gate!r}).close() or __import__('sklearn.dummy').dummy.DummyRegressor()",)


def test_is_alive_while_it_loads(tmp_path: Path) -> None:
    """Probes are answered from before the model is there; SIGTERM ends a server that still loads, too."""
    (tmp_path / "slow").mkdir()
    os.mkfifo(tmp_path / "gate")
    model = stored_model(tmp_path / "slow", pickle.dumps(Slow(str(tmp_path / "gate"))), ["a"])
    port = free_port()
    command = [*COMMAND, "models", "serve", "--trust", "-m", str(model), "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        server = Server(process, port, "", Lines())
        statuses = []
        while not statuses:
            try:
                statuses = [server.request("GET", path).status for path in ("/livez", "/readyz", "/models/slow/ready")]
            except ConnectionRefusedError:
                continue
        refused = server.post(data([1]))
        process.terminate()
        out, _ = process.communicate(timeout=PATIENCE)
    assert ([200, 503, 503], 503, 0, "") == (statuses, refused.status, process.returncode, out)
    assert "the model is being loaded" in refused.json()["message"]


# What is said of mistakes

SOUND = '[[models]]\nname = "a"\nuri = "x"\n'
MISTAKES = {
    "no-toml": ("models = ]", ["Invalid value", "line 1"]),
    "nothing": ("", ["line 1: no models"]),
    "no-tables": ('models = "x"', ["line 1: no models"]),
    "top-level": (f"defualt = 1\n{SOUND}", ["line 1: defualt: no such setting; did you mean default?"]),
    "default": (f'\ndefault = "b"\n{SOUND}', ["line 2: default: there is no model 'b'"]),
    "no-uri": ('[[models]]\nname = "a"\n', ["line 1: a model without its uri"]),
    "unknown": (f"{SOUND}time_out = 3\n", ["line 4: time_out: no such setting of a model; did you mean timeout?"]),
    "kinds": (
        '#\n[[models]]\nname = "a/b"\nuri = 3\ntimeout = -1\nmax_queue = 1.5\ncast = ["x"]\nengine = "fast"\n',
        ["line 3: name: 'a/b'", "line 4: uri: 3", "line 5: timeout: -1", "line 6", "line 7: cast", "line 8: engine"],
    ),
    "second": (f'{SOUND}\n[[models]]\nname = "b"\nuri = "y"\nmax_queue = 0\n', ["line 8: max_queue: 0 is no whole"]),
    "twice": (f"{SOUND}{SOUND}", ["line 5: name: there are two models 'a'"]),
    "improper": ('[[models]]\nuri = "models:/a/b/c"\n', ["line 2: uri: models:/a/b/c is not a proper"]),
}


@pytest.mark.parametrize(("text", "said"), MISTAKES.values(), ids=MISTAKES.keys())
def test_says_what_is_wrong_with_a_file(tmp_path: Path, command: Command, text: str, said: list[str]) -> None:
    """Every mistake is said at once, with its line."""
    (tmp_path / "foretell.toml").write_text(text)
    ran = command("models", "serve", "--config", tmp_path / "foretell.toml")
    assert 2 == ran.code
    assert [] == [part for part in said if part not in ran.err], ran.err
    assert "Traceback" not in ran.err


OPTIONS = {
    "none": ([], "Missing option '-m'"),
    "clash": (["-m", "models:/a/1", "-m", "a=models:/b/2"], "two models would be called 'a'"),
    "schema": (["-m", "a", "-m", "b", "--schema", "x"], "--schema, --cast and --shadow are about one model"),
    "uv": (["-m", "a", "-m", "b", "--env-manager", "uv", "-p", "0"], "--env-manager uv makes an environment for one"),
    "no-file": (["--config", "none.toml"], "none.toml: No such file"),
}


@pytest.mark.parametrize(("options", "said"), OPTIONS.values(), ids=OPTIONS.keys())
def test_says_what_is_wrong_with_options(command: Command, options: list[str], said: str) -> None:
    """Names that clash, and what several models cannot share."""
    ran = command("models", "serve", *options)
    assert 2 == ran.code
    assert said in ran.err


def test_a_uri_may_hold_an_equals_sign(tmp_path: Path) -> None:
    """What is there as it was written is a path, and not a name with a uri."""
    (tmp_path / "a=b").symlink_to(IRIS)
    os.chdir(tmp_path)
    with serving("-m", "a=b") as server:
        assert 200 == ready(server, "iris")
