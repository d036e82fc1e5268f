"""A model that does what its rows tell it to, and clients on bare sockets that watch what a server makes of it."""

import asyncio
import contextlib
import http.client
import json
import os
import queue
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle

from conftest import PATIENCE

PLAIN, RAISES, WAITS, UNANSWERABLE = range(4)
"""What a row's first cell makes the scripted model do."""


def scripted_model(folder: Path, pause: float = 0.002) -> Path:
    """A model that doubles a row's second cell and multiplies it by the param scale, unless the first asks for trouble.
    Each call takes pause seconds. Beside the model lie the sizes of its batches, and the gate it waits at."""

    class Scripted:
        def __init__(self, gate: str, sizes: str) -> None:
            self.gate = gate
            self.sizes = sizes
            self.pause = pause

        def predict(self, rows: Any, scale: float = 1.0) -> Any:
            import time
            from pathlib import Path

            import numpy as np

            time.sleep(self.pause)
            with Path(self.sizes).open("a") as sizes:
                sizes.write(f"{len(rows)}\n")
            if (rows[:, 0] == 1).any():
                raise RuntimeError("the secret of the marked row")
            if (rows[:, 0] == 2).any():
                Path(self.gate).read_bytes()
            if (rows[:, 0] == 3).any():
                return np.array([object()] * len(rows), object)
            return rows[:, 1] * 2 * scale

    folder.mkdir()
    os.mkfifo(folder.parent / "gate")
    model = Scripted(str(folder.parent / "gate"), str(folder.parent / "sizes"))
    params = [{"name": "scale", "type": "double", "default": 1.0, "shape": None}]
    return stored_model(folder, cloudpickle.dumps(model), ["kind", "value"], params)


TYPES = ("boolean", "integer", "long", "float", "double", "string", "binary")


def everything_model(folder: Path) -> Path:
    """A model that takes columns of every type, needed and optional ones, and params, and never refuses a row. Its
    answer is the row's double, if there is one, by a third, times the param scale."""

    class Thirds:
        def predict(self, rows: Any, scale: float = 1.0, tags: Any = ("a",)) -> Any:
            return rows[:, 4].astype("float64") / 3 * scale

    folder.mkdir()
    columns = [{"type": kind, "name": f"{kind} 列", "required": True} for kind in TYPES]
    columns += [{"type": kind, "name": f"maybe {kind}", "required": False} for kind in ("long", "string")]
    params = [
        {"name": "scale", "type": "double", "default": 1.0, "shape": None},
        {"name": "tags", "type": "string", "default": ["a"], "shape": [-1]},
    ]
    signature = {"inputs": json.dumps(columns), "params": json.dumps(params)}
    flavors = {"sklearn": {"pickled_model": "model.pkl", "serialization_format": "cloudpickle"}}
    (folder / "MLmodel").write_text(json.dumps({"flavors": flavors, "signature": signature}))
    (folder / "model.pkl").write_bytes(cloudpickle.dumps(Thirds()))
    return folder


def stored_model(folder: Path, pickled: bytes, columns: list[str], params: list[dict[str, Any]] | None = None) -> Path:
    """A model in MLflow's format; an MLmodel file may be written as JSON."""
    inputs = [{"type": "double", "name": name, "required": True} for name in columns]
    described = {
        "flavors": {"sklearn": {"pickled_model": "model.pkl", "serialization_format": "cloudpickle"}},
        "signature": {"inputs": json.dumps(inputs), **({"params": json.dumps(params)} if params else {})},
    }
    (folder / "MLmodel").write_text(json.dumps(described))
    (folder / "model.pkl").write_bytes(pickled)
    return folder


@contextlib.contextmanager
def held_at_gate(scripted: Path) -> Iterator[None]:
    """From when the model is inside of a call that waits, until it is let go."""
    opened: queue.Queue[Any] = queue.Queue()
    opener = threading.Thread(target=lambda: opened.put((scripted.parent / "gate").open("wb")), daemon=True)
    opener.start()
    with opened.get(timeout=PATIENCE):
        yield


def data(*rows: list[Any]) -> str:
    return json.dumps({"data": rows})


def sent(port: int, body: str, path: str = "/invocations", **headers: object) -> socket.socket:
    """A connection on which a request was written, and no answer read."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    raw = body.encode()
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{lines}Content-Length: {len(raw)}\r\n\r\n"
    connection.sendall(head.encode() + raw)
    return connection


def answer(connection: socket.socket) -> tuple[int, bytes]:
    """The status and body of the next answer on a connection, which is then closed."""
    with connection, contextlib.closing(http.client.HTTPResponse(connection)) as response:
        response.begin()
        return response.status, response.read()


def taken_in(port: int) -> None:
    """Returns when the server has read what was sent before: it answers a connection after those that came earlier."""
    for _ in range(2):
        assert 404 == answer(sent(port, "", "/barrier"))[0]


def all_at_once(port: int, target: str, bodies: list[str]) -> list[tuple[int, bytes]]:
    """Answers to requests that are all under way together, each on its own connection."""

    async def ask(body: str) -> tuple[int, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        raw = body.encode()
        head = f"POST {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(raw)}\r\n\r\n"
        writer.write(head.encode() + raw)
        got = await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()
        head_part, _, body_part = got.partition(b"\r\n\r\n")
        return int(head_part.split()[1]), body_part

    async def everyone() -> list[tuple[int, bytes]]:
        return await asyncio.gather(*map(ask, bodies))

    return asyncio.run(everyone())
