"""How well a comparison measures: its load generator against wrk, two comparisons after each other, and a server that
is slowed on purpose, in one run.

    .venv/bin/python benchmarks/trials.py [seconds a comparison, 60 by default]

Prints requests a second of one server under wrk and under foretell's generator, in turns, for 1, 32 and 128
connections; then what two comparisons of a light model (the demo's) and of a heavy one (a forest of 300 trees by
scikit-learn) found, and the larger of each two figures over the smaller; then the light one behind a model that pauses
5 ms a call. Beside them stands the pace of the machine meanwhile, by a fixed piece of work: where it changes from one
comparison to the next, as on a machine with other guests, no figure can agree better. wrk is left out where it is not
installed (apt-get install wrk).
"""

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from foretell.compare.asked import Asked, settled
from foretell.compare.load import Generator, Load
from foretell.compare.measure import measure
from foretell.compare.served import HOST, Served, served

TRAIN = """
import cloudpickle, json, pathlib, sklearn.datasets, sklearn.ensemble
flowers = sklearn.datasets.load_iris()
names = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
columns = [{"type": "double", "name": name, "required": True} for name in names]
class Slow:
    def __init__(self, model): self.model = model
    def predict(self, rows):
        import time
        time.sleep(0.005)
        return self.model.predict(rows)
forest = sklearn.ensemble.RandomForestClassifier(300).fit(flowers.data, flowers.target)
small = sklearn.ensemble.RandomForestClassifier(1).fit(flowers.data, flowers.target)
for name, model in (("heavy", forest), ("slowed", Slow(small))):
    folder = pathlib.Path(name)
    folder.mkdir()
    (folder / "model.pkl").write_bytes(cloudpickle.dumps(model))
    flavour = {"pickled_model": "model.pkl", "serialization_format": "cloudpickle"}
    told = {"flavors": {"sklearn": flavour}, "signature": {"inputs": json.dumps(columns)}}
    (folder / "MLmodel").write_text(json.dumps(told))
"""
BODY = b'{"data": [[5.1, 3.5, 1.4, 0.2]]}'
TURNS, SECONDS = 3, 2
REPEATS, LOOP = 100, 200_000
WIDTHS = (12, 12, 12, 9, 9)
SLO = 0.2
"""Seconds: far longer than a machine with other guests stands still now and then, which would decide the capacity."""


def main() -> None:
    budget = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["FORETELL_CACHE"] = f"{folder}/cache"
        subprocess.run([sys.executable, "-W", "ignore", "-c", TRAIN], check=True)
        subprocess.run([sys.executable, "-m", "foretell", "demo"], check=True, capture_output=True)
        light = "models:/my-model/Production"
        against_wrk(light)
        print(f"{'':<10}{'rows/s':>12}{'requests/s':>12}{'one client':>12}{'p50 ms':>9}{'machine':>9}{'seconds':>9}")
        for name, model in (("light", light), ("heavy", "heavy")):
            one, two = (compared(name, model, budget) for _ in range(2))
            ratios = [max(pair) / max(min(pair), 1e-9) for pair in zip(one, two, strict=True)]
            print(
                f"{'ratio':<10}{''.join(f'{ratio:>{width}.2f}' for ratio, width in zip(ratios, WIDTHS, strict=True))}"
            )
        compared("slowed", "slowed", budget)


def compared(name: str, model: str, budget: float) -> list[float]:
    before = pace()
    found = measure(Asked(model, "batch_input.csv", trust=True, budget=budget, slo_p99=SLO))
    machine = (before + pace()) / 2
    rows, requests, alone = found.offline.rows_per_s, found.server.capacity, found.single
    p50 = 1000 * (alone.latency.p50 or 0.0)
    told = f"{rows:>12,.0f}{requests:>12,.0f}{alone.rps:>12,.0f}{p50:>9.2f}{machine:>9.1f}{found.took_s:>9.1f}"
    print(f"{name:<10}{told}", flush=True)
    for note in found.notes:
        print(f"          {note}")
    return [rows, requests, alone.rps, p50, machine]


def pace() -> float:
    """Times a second that a fixed piece of work is done: by the interpreter, which whoever shares a processor and its
    caches slows more than arithmetic."""
    took = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        sum(value * value for value in range(LOOP))
        took.append(time.perf_counter() - began)
    return 1 / statistics.fmean(took)


def against_wrk(model: str) -> None:
    if not shutil.which("wrk"):
        print("wrk is not installed; skipped")
        return
    asked = Asked(model, "")
    settings = settled(asked, asked.find(), str(Path("state").absolute()))
    with served(settings, 1, time.perf_counter() + 60) as server, Generator() as generator:
        print(f"{'conns':<10}{'wrk':>12}{'foretell':>12}{'ratio':>12}   requests/s, best of {TURNS} turns")
        for connections in (1, 32, 128):
            found = [(wrk(server, connections), ours(generator, server, connections)) for _ in range(TURNS)]
            theirs, own = (max(each) for each in zip(*found, strict=True))
            middle = statistics.median(mine / other for other, mine in found)
            print(f"{connections:<10}{theirs:>12,.0f}{own:>12,.0f}{middle:>12.2f}", flush=True)


def wrk(server: Served, connections: int) -> float:
    script = f"wrk.method = 'POST'\nwrk.body = [==[{BODY.decode()}]==]\n"
    Path("post.lua").write_text(f"{script}wrk.headers['Content-Type'] = 'application/json'\n")
    url = f"http://{HOST}:{server.port}/invocations"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "-s", "post.lua", url]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])  # type: ignore[index]


def ours(generator: Generator, server: Served, connections: int) -> float:
    head = f"POST /invocations HTTP/1.1\r\nHost: {HOST}:{server.port}\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY
    load = Load([request], np.zeros(1, np.int32), SECONDS, connections=connections)
    sent = generator.run(HOST, server.port, load)
    return float((sent.status == 200).sum()) / sent.seconds


if __name__ == "__main__":
    main()
