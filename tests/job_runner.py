"""Runs the `foretell` command again and again, each time in a process of its own that dies, or is failed by its system,
at an event that is named beforehand: python tests/job_runner.py, a JSON request a line.

Everything is loaded once and then forked, before any model has predicted. An event is a call of the system by which a
job changes its files; the process is killed before it, after it, or when half of a write is done.
"""

import contextlib
import errno
import json
import os
import resource
import signal
import sqlite3  # noqa: F401
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy  # noqa: F401
import onnxruntime  # noqa: F401
import pyarrow.csv
import pyarrow.parquet  # noqa: F401
import yaml.cyaml  # noqa: F401

import foretell.cli.models
import foretell.cli.predict
import foretell.models.onnx  # noqa: F401
from foretell.cli import destination
from foretell.cli.main import main
from foretell.job import job as jobs
from foretell.job import outputs, parts
from foretell.tables import csv_reader, json_lines, table_writer, text


class Events:
    """Counts the events of this process and does at one of them what was asked. log: where each is told."""

    def __init__(self, log: int, at: int, do: str) -> None:
        self._log, self._at, self._do = log, at, do
        self._count = 0
        self._names: dict[int, str] = {}

    def watch(self) -> None:
        pwrite, opened = os.pwrite, os.open

        def write(file: int, data: Any, at: int) -> int:
            half = lambda: pwrite(file, bytes(data)[: max(1, len(data) // 2)], at)  # noqa: E731
            return self._happens(f"write {self._names.get(file, '')}", lambda: pwrite(file, data, at), half)

        def create(path: Any, flags: int, mode: int = 0o777) -> int:
            if not flags & os.O_CREAT or Path(path).exists():
                file = opened(path, flags, mode)
            else:
                file = self._happens(f"create {_kind(path)}", lambda: opened(path, flags, mode))
            self._names[file] = _kind(path)
            return file

        os.pwrite, os.open = write, create  # type: ignore[assignment]
        for module, name in ((os, "ftruncate"), (os, "fdatasync"), (os, "fsync")):
            setattr(module, name, self._on_file(name, getattr(module, name)))
        for name in ("replace", "unlink"):
            setattr(Path, name, self._on_path(name, getattr(Path, name)))
        parts.swap = self._on_path("swap", parts.swap)

    def _on_file(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(file: int, *more: Any) -> Any:
            return self._happens(f"{name} {self._names.get(file, '')}", lambda: call(file, *more))

        return watched

    def _on_path(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(path: Path, *more: Any) -> Any:
            return (
                self._happens(f"{name} {_kind(path)}", lambda: call(path, *more))
                if path.exists()
                else call(path, *more)
            )

        return watched

    def _happens(self, name: str, call: Callable[[], Any], half: Callable[[], Any] | None = None) -> Any:
        here, self._count = self._count == self._at, self._count + 1
        os.write(self._log, f"{name}\n".encode())
        if not here:
            return call()
        if self._do.startswith("E"):
            raise OSError(getattr(errno, self._do), os.strerror(getattr(errno, self._do)))
        if self._do.startswith("SIG"):
            for name in self._do.split():
                os.kill(os.getpid(), getattr(signal, name))
            return call()
        if self._do == "torn" and half is not None:
            half()
        if self._do == "after":
            call()
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("still alive")


def _kind(path: Any) -> str:
    """A file's part in a job, by its name."""
    name = f"draft {Path(path).name}" if Path(path).parent.suffix == ".parts" else Path(path).name
    return next((kind for kind in ("journal", "rejects", "packed", "draft") if kind in name), "output")


def _child(request: dict[str, Any], log: int) -> int:
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    os.chdir(request["folder"])
    os.environ.update(request["environment"])
    block = request["block"]
    csv_reader._BLOCK = json_lines._BLOCK = block
    text._SMALL = 256
    table_writer._GROUP_ROWS = block // 40
    outputs._COMMIT_BYTES = 1
    destination._MB = block // 4
    if request["file_size"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_size"], resource.RLIM_INFINITY))
    Events(log, request["at"], request["do"]).watch()
    sys.argv = ["foretell", *request["arguments"]]
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    return 99


def serve() -> None:
    assert jobs.run
    for line in sys.stdin:
        request = json.loads(line)
        read, write = os.pipe()
        if not (child := os.fork()):
            os.close(read)
            code = 98
            with contextlib.suppress(BaseException):
                code = _child(request, write)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        os.close(write)
        with os.fdopen(read) as log:
            events = log.read().splitlines()
        _, status = os.waitpid(child, 0)
        print(json.dumps({"code": os.waitstatus_to_exitcode(status), "events": events}), flush=True)


if __name__ == "__main__":
    serve()
