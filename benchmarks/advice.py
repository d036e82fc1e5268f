"""The advice of `foretell models compare`, checked by experiment: what it says is run at the volume that it is said
for, and the cost and p99 that it foretold stand beside those that came: python benchmarks/advice.py [BUDGET]

Two models, a light and a heavy one. Each has a case that batch wins, a night's rows, and one that real time wins, new
rows that cannot wait. Costs are machine-seconds a day. What is run has the engine that was measured, and answers have
far longer than this machine itself may stand still.
"""

import json
import math
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from foretell.compare.advice import Advice, advise
from foretell.compare.costs import JOBS, SERVERS
from foretell.compare.load import Generator, Load
from foretell.compare.measured import Measured
from foretell.compare.needs import Needs
from foretell.compare.quantiles import quantile
from foretell.compare.report import read
from foretell.compare.units import DAY

COMMAND = [sys.executable, "-P", "-m", "foretell", "models"]
RUN_S = 15.0
SERVE_S = 40.0
STRETCHES = 5
WARM_S = 3.0
TRAIN = """
import numpy as np, pandas as pd, skops.io
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.pipeline import make_pipeline
random = np.random.default_rng(8)
rows = pd.DataFrame(random.normal(size=(5000, 12)), columns=[f"x{at}" for at in range(12)]).round(4)
labels = (rows.sum(axis=1) + random.normal(size=5000) > 0).astype(int)
skops.io.dump(make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, labels), "light.skops")
skops.io.dump(RandomForestClassifier(300, max_depth=12, random_state=1).fit(rows, labels), "heavy.skops")
rows.to_csv("rows.csv", index=False)
"""


def main() -> None:
    budget = sys.argv[1] if len(sys.argv) > 1 else "180s"
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ.update(FORETELL_CACHE=f"{folder}/cache", FORETELL_STATE=f"{folder}/state")
        subprocess.run([sys.executable, "-W", "ignore", "-c", TRAIN], check=True)
        for name in ("light", "heavy"):
            measured = compared(name, budget)
            server, offline = measured.server, measured.offline
            rates = f"{offline.rows_per_s:,.0f} rows/s after {offline.start_s:.2f} s; {server.capacity:,.0f} requests/s"
            print(f"\n{name}: {rates}")
            for note in measured.notes:
                print(f"  note: {note}")
            night(name, measured)
            at_once(name, measured)


def compared(name: str, budget: str) -> Measured:
    """Measured by the command itself, with the budget that it asks for where the given one is too short."""
    command = [*COMMAND, "compare", "-m", f"{name}.skops", "-i", "rows.csv", "--json", f"{name}.json"]
    command += ["--slo", "p99=200ms", "--budget"]
    ran = subprocess.run([*command, budget], capture_output=True, text=True, check=False)
    if longer := re.search(r"Give it more: --budget (\w+)", ran.stderr):
        ran = subprocess.run([*command, longer[1]], capture_output=True, text=True, check=False)
    if ran.returncode:
        sys.exit(ran.stderr)
    return read(Path(f"{name}.json")).measured


def night(name: str, measured: Measured) -> None:
    """A day's rows in one job, as many as take RUN_S, or twice a start; its cost is its time from start to end."""
    made = measured.offline
    rows = int(max(RUN_S - made.start_s, made.start_s) * made.rows_per_s)
    advice = advise(measured, Needs(rows_per_day=rows, refresh=DAY, max_age=1.5 * DAY, known=1.0))
    told(advice)
    way = advice.way(JOBS)
    assert way is not None
    head, *lines = Path("rows.csv").read_text().splitlines(keepends=True)
    with Path("night.csv").open("w") as file:
        file.write(head)
        for at in range(0, rows, len(lines)):
            file.writelines(lines[: rows - at])
    command = [*COMMAND, "predict", *model(name, measured), "-i", "night.csv", "-o", "night_out.csv"]
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    took = time.perf_counter() - began
    verdict(f"{rows:,} rows as a job", "cost", way.cost, took, abs(took / way.cost - 1) <= 0.15, "s")


def at_once(name: str, measured: Measured) -> None:
    """New rows, which come at random, a third of what a server was measured to answer within its bound. p99 is the
    median of stretches of time: in some the whole machine stands still."""
    peak = max(1.0, measured.server.capacity / 3)
    needs = Needs(slo=measured.server.slo_p99, rows_per_day=peak / 3 * DAY, peak=peak, max_age=1.0, known=0.0)
    advice = advise(measured, needs)
    told(advice)
    way = advice.way(SERVERS)
    assert way is not None
    assert way.rps is not None
    found = served(model(name, measured), way.rps)
    kept = found <= needs.slo
    cost = way.machines * DAY if kept else math.inf
    title = f"{way.rps:,.0f} req/s to each of {way.machines}"
    verdict(title, "cost", way.cost, cost, abs(cost / way.cost - 1) <= 0.15, "s")
    if way.p99 is not None and way.p99_low is not None and way.p99_high is not None:
        inside = way.p99_low <= found <= way.p99_high
        span = f"{way.p99_low * 1000:.2f} … {way.p99_high * 1000:.2f} ms"
        verdict(title, f"p99 ({span})", way.p99 * 1000, found * 1000, inside, "ms")


def model(name: str, measured: Measured) -> list[str]:
    return ["-m", f"{name}.skops", "--engine", "auto" if "compiled" in measured.model.engine else "native"]


def served(flags: list[str], rate: float) -> float:
    """p99 of a server of its own at a rate, by other rows and at other moments than were compared with."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    head, *lines = Path("rows.csv").read_text().splitlines()
    rows = [dict(zip(head.split(","), map(float, line.split(",")), strict=True)) for line in lines[-1000:]]
    bodies = [json.dumps({"data": [list(row.values())]}).encode() for row in rows]
    requests = [
        b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        for body in bodies
    ]
    random = np.random.default_rng(99)
    due = np.cumsum(random.exponential(1 / rate, int(rate * (WARM_S + SERVE_S) * 1.2) + 100))
    due = due[due < WARM_S + SERVE_S]
    which = random.integers(0, len(requests), len(due), dtype=np.int32)
    command = [*COMMAND, "serve", *flags, "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert server.stdout is not None
        assert re.search(rb"Starting", server.stdout.readline())
        with Generator() as generator:
            sent = generator.run("127.0.0.1", port, Load(requests, which, WARM_S + SERVE_S, due, connections=256))
        stretches = np.array_split(sent.latency[sent.due >= WARM_S], STRETCHES)
        return float(np.median([quantile(stretch, 0.99) for stretch in stretches]))
    finally:
        server.terminate()
        server.wait()


def told(advice: Advice) -> None:
    print(f"  {advice.verdict}: {advice.sentence} ({advice.confidence.level} confidence)")


def verdict(what: str, name: str, foretold: float, came: float, good: bool, unit: str) -> None:
    word = "ok" if good else "NOT AS FORETOLD"
    came_told = f"came {came:,.2f} {unit} ({came / foretold - 1:+.1%})"
    print(f"    {what}: {name} foretold {foretold:,.2f} {unit}, {came_told} {word}")


if __name__ == "__main__":
    main()
