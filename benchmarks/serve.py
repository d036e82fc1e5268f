"""How many requests a second, at what cost: foretell against a bare protocol, nginx and other servers, in one run.

    .venv/bin/python benchmarks/serve.py [seconds a measurement, 3 by default]

Prints requests a second, p50 and p99 in milliseconds, CPU microseconds of the server a request, its memory in MiB and
its seconds to ready, for 1, 32 and 128 connections. The load comes from wrk, which must be installed (apt-get install
wrk); nginx is a floor where it is installed. The bare protocol parses and answers a constant, by the same parser and
event loop. Peers run in the environment of the tests, and those that are not there are skipped with a line.
"""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TRAIN = """
import mlflow, numpy as np, pandas as pd, sklearn.datasets, xgboost
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
flowers = sklearn.datasets.load_iris(as_frame=True)
def save(model, frame, name, save=mlflow.sklearn.save_model, **more):
    save(model, name, signature=mlflow.models.infer_signature(frame, model.predict(frame)), pip_requirements=[], **more)
skops = {"serialization_format": "skops"}
save(LogisticRegression(max_iter=1000).fit(flowers.data, flowers.target), flowers.data, "iris", **skops)
random = np.random.default_rng(7)
wide = pd.DataFrame(random.normal(size=(4000, 30)), columns=[f"x{at}" for at in range(30)])
labels = (wide.sum(axis=1) > 0).astype(int)
save(xgboost.XGBClassifier(n_estimators=500, max_depth=6).fit(wide, labels), wide, "xgb500", mlflow.xgboost.save_model)
mixed = pd.DataFrame({"age": random.normal(40, 9, 4000), "pay": random.lognormal(8, 1, 4000),
                      "city": random.choice(["Oslo", "Rome", "Lima"], 4000)})
prepared = ColumnTransformer([("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["age", "pay"]),
                              ("words", OneHotEncoder(sparse_output=False, handle_unknown="ignore"), ["city"])])
pipeline = make_pipeline(prepared, HistGradientBoostingClassifier()).fit(mixed, mixed.age + mixed.pay / 99 > 70)
save(pipeline, mixed, "mixed", serialization_format="cloudpickle")
"""
BODIES = {
    "iris": {"dataframe_split": {"data": [[5.1, 3.5, 1.4, 0.2]]}},
    "xgb500": {"dataframe_split": {"data": [[at / 10 for at in range(30)]]}},
    "mixed": {"dataframe_split": {"data": [[41.5, 3200.0, "Oslo"]]}},
}
COLUMNS = {
    "iris": [f"{part} {side} (cm)" for part in ("sepal", "petal") for side in ("length", "width")],
    "xgb500": [f"x{at}" for at in range(30)],
    "mixed": ["age", "pay", "city"],
}
BARE = """
import asyncio, sys, httptools, uvloop
ANSWER = b'{"predictions": [0]}'
class Bare(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.parser = transport, httptools.HttpRequestParser(self)
    def data_received(self, data):
        self.parser.feed_data(data)
    def on_message_complete(self):
        head = b"HTTP/1.1 200 OK\\r\\ncontent-type: application/json\\r\\ncontent-length: %d\\r\\n\\r\\n"
        self.transport.write(head % len(ANSWER) + ANSWER)
async def main():
    loop = asyncio.get_running_loop()
    await (await loop.create_server(Bare, "127.0.0.1", int(sys.argv[1]), backlog=2048)).serve_forever()
uvloop.run(main())
"""
NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log stderr crit;
events {{ worker_connections 1024; }}
http {{ access_log off; keepalive_requests 100000000; client_body_temp_path {folder}/body;
  server {{ listen 127.0.0.1:{port} backlog=2048; location / {{ return 200 '{{"predictions": [0]}}'; }} }} }}
"""
FASTAPI = """
import sys, mlflow, pandas as pd, uvicorn
from fastapi import FastAPI
model, app = mlflow.pyfunc.load_model(sys.argv[1]).get_raw_model(), FastAPI()
@app.post("/invocations")
def predict(body: dict):
    split = body["dataframe_split"]
    return {"predictions": model.predict(pd.DataFrame(split["data"], columns=split["columns"])).tolist()}
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error", access_log=False)
"""


@dataclass(frozen=True)
class Running:
    """A server. ready: seconds from its start to its first answer."""

    port: int
    pid: int
    ready: float


def main() -> None:
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    if not shutil.which("wrk"):
        sys.exit("wrk is not installed: apt-get install wrk")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        os.environ.update(FORETELL_CACHE=f"{folder}/cache", MLFLOW_ALLOW_PICKLE_DESERIALIZATION="true")
        subprocess.run([sys.executable, "-W", "ignore", "-c", TRAIN], check=True, capture_output=True)
        print(f"{'':<24}{'conns':>6}{'req/s':>9}{'p50 ms':>9}{'p99 ms':>9}{'CPU us':>8}{'MiB':>6}{'ready s':>9}")
        for name in BODIES:
            compiled = [sys.executable, "-m", "foretell", "models", "compile", "--trust", "-m", name]
            subprocess.run(compiled, check=False, capture_output=True)
            body = json.dumps(with_columns(name))
            for label, command in servers(name).items():
                if command is None:
                    print(f"{name}: {label} is not installed; skipped")
                    continue
                compare(f"{name}, {label}", command, body, seconds)


def with_columns(name: str) -> dict[str, object]:
    split = BODIES[name]["dataframe_split"]
    return {"dataframe_split": {"columns": COLUMNS[name], **split}}


def servers(name: str) -> dict[str, list[str] | None]:
    """By label, the command, in which PORT stands for the port; None for one that is not there."""
    foretell = [sys.executable, "-m", "foretell", "models", "serve", "--trust", "-m", name, "-p", "PORT"]
    mlflow = [sys.executable, "-m", "mlflow", "models", "serve", "-m", name, "-p", "PORT", "--env-manager", "local"]
    floors: dict[str, list[str] | None] = {
        "bare protocol": [sys.executable, "-c", BARE, "PORT"],
        "nginx": ["nginx", "-c", "NGINX"] if shutil.which("nginx") else None,
    }
    return {
        **floors,
        "foretell": foretell,
        "foretell -w 2": [*foretell, "-w", "2"],
        "mlflow": mlflow,
        "FastAPI": [sys.executable, "-W", "ignore", "-c", FASTAPI, name, "PORT"],
    }


def compare(label: str, command: list[str], body: str, seconds: int) -> None:
    try:
        with running(command, body) as server:
            for connections in (1, 32, 128):
                said = measured(server, body, connections, seconds)
                print(f"{label:<24}{connections:>6}{said}{server.ready:>9.1f}", flush=True)
    except (RuntimeError, subprocess.CalledProcessError) as error:
        print(f"{label}: {error}; skipped")


@contextlib.contextmanager
def running(command: list[str], body: str) -> Iterator[Running]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    Path("nginx.conf").write_text(NGINX.format(folder=Path.cwd(), port=port))
    places = {"PORT": str(port), "NGINX": str(Path.cwd() / "nginx.conf")}
    started = time.monotonic()
    process = subprocess.Popen(
        [places.get(part, part) for part in command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while not answers(port, body):
            if process.poll() is not None or time.monotonic() - started > 90:
                raise RuntimeError("it did not start")
            time.sleep(0.02)
        yield Running(port, process.pid, time.monotonic() - started)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def answers(port: int, body: str) -> bool:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        try:
            connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False


def measured(server: Running, body: str, connections: int, seconds: int) -> str:
    """A closed loop of so many connections, after a second to warm up."""
    Path("post.lua").write_text(
        f"wrk.method = 'POST'\nwrk.body = [==[{body}]==]\nwrk.headers['Content-Type'] = 'application/json'\n"
    )
    url = f"http://127.0.0.1:{server.port}/invocations"
    load = ["wrk", "-t1", f"-c{connections}", "--latency", "-s", "post.lua", url]
    subprocess.run([*load, "-d1s"], check=True, capture_output=True)
    family = [server.pid, *children(server.pid)]
    before = sum(map(cpu, family))
    out = subprocess.run([*load, f"-d{seconds}s"], check=True, capture_output=True, text=True).stdout
    used = sum(map(cpu, family)) - before
    count = int(re.search(r"(\d+) requests in", out)[1])  # type: ignore[index]
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])  # type: ignore[index]
    p50, p99 = (milliseconds(out, part) for part in ("50%", "99%"))
    wrong = " with errors" if "Non-2xx" in out else ""
    memory = sum(map(resident, family))
    return f"{rate:>9.0f}{p50:>9.2f}{p99:>9.2f}{used / max(count, 1) * 1e6:>8.1f}{memory:>6.0f}{wrong}"


def milliseconds(out: str, part: str) -> float:
    number, unit = re.search(rf"{part}\s+([\d.]+)(us|ms|s)", out).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def children(pid: int) -> list[int]:
    found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*found, *(inner for child in found for inner in children(child))]


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    """MiB of memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
