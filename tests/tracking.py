"""Tracking servers for the tests: mlflow's own as a process, and one that says what it is told to say."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

START = 240.0
API = "/api/2.0/"
ROOT = "1/m/artifacts"


@dataclass
class Tracking:
    """An `mlflow server`, in a folder of its own; start it again after kill, on the same port."""

    python: str
    folder: Path
    port: int
    auth: bool = False
    process: subprocess.Popen[bytes] | None = None
    made: dict[str, Any] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self, **more: str) -> dict[str, str]:
        """None of the caller's settings, and no job runners: eight processes that have nothing to do with models."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "FORETELL_"))}
        path = f"{Path(self.python).parent}:{os.environ['PATH']}"
        without = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        return {**kept, "PATH": path, **without, **more}

    def start(self) -> None:
        """Starts it; `wait` waits until it answers."""
        command = [self.python, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        command += ["--serve-artifacts", "--artifacts-destination", str(self.folder / "artifacts"), "--workers", "1"]
        command += ["--host", "127.0.0.1", "--port", str(self.port), *(["--app-name", "basic-auth"] * self.auth)]
        secrets = {"MLFLOW_FLASK_SERVER_SECRET_KEY": "k", "MLFLOW_AUTH_ADMIN_PASSWORD": "correct horse"}
        with (self.folder / f"server-{self.port}.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                env=self.environment(**secrets if self.auth else {}),
                start_new_session=True,
            )

    def wait(self) -> None:
        until = time.monotonic() + START
        while time.monotonic() < until:
            assert self.process is not None
            log = self.folder / f"server-{self.port}.log"
            assert self.process.poll() is None, log.read_text()
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                    return
            except urllib.error.HTTPError:
                return
            except OSError:
                time.sleep(0.1)
        raise AssertionError(f"mlflow server did not start: {log.read_text()}")

    def kill(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


def free_port() -> int:
    with contextlib.closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class Request(BaseHTTPRequestHandler):
    """One request to a scripted server."""

    protocol_version = "HTTP/1.1"
    server: "Scripted"

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.path, dict(self.headers)))
        answer = self.server.answer(self.path)
        if callable(answer):
            answer(self)
        elif answer is None:
            self.reply(b'{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "gone"}', 404)
        else:
            self.reply(answer if isinstance(answer, bytes) else json.dumps(answer).encode())
        assert body is not None

    do_POST = do_GET

    def reply(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.head(status, **{"Content-Length": str(len(body)), **headers})
        self.wfile.write(body)

    def head(self, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keeps the test's output clean."""


Answer = Callable[[Request], None] | dict[str, Any] | bytes | None


class Scripted(ThreadingHTTPServer):
    """Answers like MLflow for one model, m version 1, except where it was told otherwise.

    answers: what to say, by the path below /api/2.0/, by "list FOLDER" and by "file PATH" below the model's folder.
    asked: (path, headers) of every request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.answers: dict[str, Answer] = {}
        self.model({"MLmodel": b"flavors: {}\n", "data/weights": b"w" * 1000})
        self.register(f"mlflow-artifacts:/{ROOT}")

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is what is tested."""

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def register(self, location: str) -> None:
        version = {"name": "m", "version": "1", "current_stage": "Production", "source": location, "status": "READY"}
        self.answers["mlflow/registered-models/search"] = {"registered_models": [{"name": "m"}]}
        self.answers["mlflow/registered-models/get"] = {
            "registered_model": {"name": "m", "aliases": [{"alias": "best", "version": "1"}]}
        }
        self.answers["mlflow/model-versions/search"] = {"model_versions": [version]}
        self.answers["mlflow/model-versions/get-download-uri"] = {"artifact_uri": location}

    def model(self, files: dict[str, bytes]) -> None:
        """The model's files, each list and file an answer that can be replaced."""
        for key in [key for key in self.answers if key.startswith(("list ", "file "))]:
            del self.answers[key]
        folders: dict[str, dict[str, dict[str, Any]]] = {"": {}}
        for name, content in files.items():
            self.answers[f"file {name}"] = content
            parts = name.split("/")
            for depth, part in enumerate(parts):
                entries = folders.setdefault("/".join(parts[:depth]), {})
                last = depth == len(parts) - 1
                entries[part] = {"path": part, "is_dir": not last, **({"file_size": len(content)} if last else {})}
        for folder, entries in folders.items():
            self.answers[f"list {folder}"] = {"files": list(entries.values())}

    def answer(self, path: str) -> Answer:
        parts = urlsplit(path)
        below = unquote(parts.path.removeprefix(API))
        route = "mlflow-artifacts/artifacts"
        if below == route:
            wanted = parse_qs(parts.query)["path"][0]
            if wanted == ROOT or wanted.startswith(f"{ROOT}/"):
                return self.answers.get(f"list {wanted[len(ROOT) + 1 :]}", {})
            return {}
        if below.startswith(f"{route}/"):
            return self.answers.get(f"file {below.removeprefix(f'{route}/{ROOT}/')}")
        return self.answers.get(below)


@contextlib.contextmanager
def scripted() -> Iterator[Scripted]:
    with Scripted() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
