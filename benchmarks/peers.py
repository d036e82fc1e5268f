"""The servers that foretell is measured beside: two floors, and how others serve the same models.

A peer that pip can install has an environment of its own, made once, in ~/.cache/foretell-benchmarks. In commands PORT
stands for the port, PYTHON and BIN for what is in the environment, NGINX for a configuration file.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

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
UNGUARDED = """
import asyncio, sys, uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from foretell import predictor
from foretell.batch import Batch, Call
from foretell.serve.head import Head
from foretell.serve.headers import Wishes
from foretell.serve.protocols import BodyDecoder, Portion, Shared, encode
model = predictor.open(sys.argv[1], trust=True)
decoder, wish, waiting = BodyDecoder(model, 1 << 26), Wishes().of(Head(b"/"), b""), []
HEAD = b"HTTP/1.1 200 OK\\r\\ncontent-type: application/json\\r\\ncontent-length: %d\\r\\n\\r\\n%b"
def turn():
    batch = Batch.concat([batch for _, batch in waiting])
    shared, at = Shared(model.predict(batch, Call())), 0
    for transport, batch in waiting:
        _, body = encode(Portion(shared, at, at := at + batch.rows), wish.answer)
        transport.write(HEAD % (len(body), body))
    waiting.clear()
class Unguarded(HttpToolsProtocol):
    def on_message_begin(self):
        self.parts = []
    def on_url(self, url):
        self.url = url
    def on_header(self, name, value):
        pass
    def on_headers_complete(self):
        pass
    def on_body(self, body):
        self.parts.append(body)
    def on_message_complete(self):
        waiting.append((self.transport, decoder.read(b"".join(self.parts), wish)[0]))
        if len(waiting) == 1:
            self.loop.call_soon(turn)
async def app(scope, receive, send):
    pass
uvicorn.run(app, port=int(sys.argv[2]), http=Unguarded, loop="uvloop", lifespan="off", log_level="error", backlog=2048)
"""
NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log stderr crit;
events {{ worker_connections 1024; }}
http {{ access_log off; keepalive_requests 100000000; client_body_temp_path {folder}/body;
  server {{ listen 127.0.0.1:{port} backlog=2048; location / {{ return 200 '{{"predictions": [0]}}'; }} }} }}
"""
LOADED = """
import cloudpickle, pandas as pd, sys
model = cloudpickle.load(open(f"{MODEL}.cloudpickle", "rb"))
def answer(body):
    split = body["dataframe_split"]
    return {"predictions": model.predict(pd.DataFrame(split["data"], columns=split["columns"])).tolist()}
"""
FASTAPI = """
import sys, uvicorn
from fastapi import FastAPI
MODEL = sys.argv[1]
LOADED
app = FastAPI()
@app.post("/invocations")
def predict(body: dict):
    return answer(body)
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error", access_log=False)
"""
LITSERVE = """
import sys, litserve
MODEL = sys.argv[1]
class Api(litserve.LitAPI):
    def setup(self, device):
        exec(LOADED_TEXT, globals())
    def decode_request(self, request):
        return request
    def predict(self, body):
        return answer(body)
    def encode_response(self, output):
        return output
if __name__ == "__main__":
    server = litserve.LitServer(Api(api_path="/invocations"), accelerator="cpu", workers_per_device=1)
    where = {"host": "127.0.0.1", "port": int(sys.argv[2])}
    server.run(**where, num_api_servers=1, log_level="error", generate_client_file=False)
"""
BENTOML = """
import os, bentoml
MODEL = os.environ["BENCHMARK_MODEL"]
@bentoml.service
class Model:
    def __init__(self):
        exec(LOADED_TEXT, globals())
    @bentoml.api(route="/invocations")
    def predict(self, dataframe_split: dict) -> dict:
        return answer({"dataframe_split": dataframe_split})
"""
MLSERVER = """
import os
from mlserver import MLModel
from mlserver.handlers import custom_handler
MODEL = os.environ["BENCHMARK_MODEL"]
class Model(MLModel):
    async def load(self):
        exec(LOADED_TEXT, globals())
        return True
    @custom_handler(rest_path="/invocations")
    async def invocations(self, payload: dict) -> dict:
        return answer(payload)
"""
MLSERVER_SETTINGS = (
    '{"parallel_workers": 0, "host": "127.0.0.1", "http_port": %s, "grpc_port": 0, "metrics_endpoint": null}'
)
MLSERVER_MODEL = '{"name": "model", "implementation": "mlserver_model.Model"}'
SHARED = ("cloudpickle", "numpy", "pandas", "scikit-learn", "scipy", "xgboost-cpu")
"""What a model needs, in the very versions that it was trained with."""


@dataclass(frozen=True)
class Server:
    """A way to serve. command: None where it is not there. files: written beside it first, by name. floor: whether it
    predicts nothing, or is foretell without what protects it."""

    label: str
    command: list[str] | None
    files: dict[str, str] | None = None
    floor: bool = False


def servers(name: str) -> list[Server]:
    """name: of a model in the current folder."""
    foretell = [sys.executable, "-m", "foretell", "models", "serve", "--trust", "-m", name, "-p", "PORT"]
    mlflow = [sys.executable, "-m", "mlflow", "models", "serve", "-m", name, "-p", "PORT", "--env-manager", "local"]
    nginx = ["nginx", "-c", "NGINX"] if shutil.which("nginx") else None
    held = f"LOADED_TEXT = '''{LOADED}'''\n"
    fastapi = FASTAPI.replace("LOADED", LOADED)
    return [
        Server("bare protocol", [sys.executable, "-c", BARE, "PORT"], floor=True),
        Server("nginx", nginx, floor=True),
        Server("foretell unguarded", [sys.executable, "-c", UNGUARDED, name, "PORT"], floor=True),
        Server("foretell", foretell),
        Server("foretell -w 2", [*foretell, "-w", "2"]),
        Server("mlflow", mlflow),
        Server("FastAPI", [sys.executable, "-W", "ignore", "-c", fastapi, name, "PORT"]),
        _installed(
            "LitServe", "litserve", ["PYTHON", "litserve_app.py", name, "PORT"], {"litserve_app.py": held + LITSERVE}
        ),
        _installed(
            "BentoML",
            "bentoml",
            ["PYTHON", "-m", "bentoml", "serve", "bentoml_app:Model", "-p", "PORT", "--host", "127.0.0.1"],
            {"bentoml_app.py": held + BENTOML},
        ),
        _installed(
            "MLServer",
            "mlserver",
            ["BIN/mlserver", "start", "."],
            {
                "mlserver_model.py": held + MLSERVER,
                "model-settings.json": MLSERVER_MODEL,
                "settings.json": MLSERVER_SETTINGS % "PORT",
            },
        ),
    ]


def _installed(label: str, package: str, command: list[str], files: dict[str, str]) -> Server:
    """In an environment of its own; without a command where that cannot be made."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "foretell-benchmarks" / package
    python = folder / "bin" / "python"
    done = folder / "complete"
    if not done.exists():
        uv = [sys.executable, "-m", "uv"]
        wanted = [f"{each}=={metadata.version(each)}" for each in SHARED]
        install = [*uv, "pip", "install", "--compile-bytecode", "--python", str(python), package, *wanted]
        for step in ([*uv, "venv", "--clear", "--python", sys.executable, str(folder)], install):
            ran = subprocess.run(step, capture_output=True, text=True, check=False)
            if ran.returncode:
                print(f"{label}: {ran.stderr.strip().splitlines()[-1][:150]}")
                return Server(label, None)
        done.touch()
    started = [part.replace("PYTHON", str(python)).replace("BIN/", f"{python.parent}/") for part in command]
    return Server(label, started, files)
