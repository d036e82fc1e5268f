"""How many requests a second, at what cost: foretell against floors and other servers, in one run.

    .venv/bin/python benchmarks/serve.py [--seconds 3] [--models iris,xgb500,mixed] [--only foretell,mlflow]

Prints good answers a second, p50 and p99 in milliseconds, CPU microseconds of the server a request, its memory in MiB
and its seconds to ready, for 1, 32 and 128 connections; then foretell's latencies at half load, and the ratios to the
floors and to the best peer. The bare protocol and nginx answer a constant; "foretell unguarded" reads, predicts and
writes the same as foretell without its limits, clocks, gates, metrics and ids. nginx: apt-get install nginx.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import models
from peers import Server, servers
from running import Measured, Running, closed_loop, milliseconds, open_loop, request, running

from foretell.compare.load import Generator

CONNECTIONS = (1, 32, 128)
COMPARED = 32
HALF_SECONDS = 4.0

Table = dict[str, dict[str, Measured]]
"""What was measured with 32 connections: by model, by server's label."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--models", default=",".join(models.ROWS))
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    only = set(filter(None, options.only.split(",")))
    with tempfile.TemporaryDirectory() as folder, Generator() as generator:
        os.chdir(folder)
        os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        os.environ.update(FORETELL_CACHE=f"{folder}/cache", MLFLOW_ALLOW_PICKLE_DESERIALIZATION="true")
        models.make(options.models.split(","))
        print(f"{'':<28}{'conns':>6}{'req/s':>9}{'p50 ms':>9}{'p99 ms':>9}{'CPU us':>8}{'MiB':>6}{'ready s':>9}")
        table: Table = {}
        for name in options.models.split(","):
            table[name] = {}
            for server in servers(name):
                if not only or server.label in only:
                    compare(generator, name, server, options.seconds, table[name])
        for name, found in table.items():
            told(name, found)


def compare(generator: Generator, name: str, server: Server, seconds: float, found: dict[str, Measured]) -> None:
    if server.command is None:
        print(f"{name}, {server.label}: not installed; skipped", flush=True)
        return
    asked = request(models.body(name))
    try:
        with running(server, asked, {"BENCHMARK_MODEL": name}) as under:
            for connections in CONNECTIONS:
                got = closed_loop(generator, under, asked, connections, seconds)
                label = f"{name}, {server.label}"
                print(f"{label:<28}{connections:>6}{got!s}{under.ready:>9.1f}", flush=True)
                if connections == COMPARED:
                    found[server.label] = got
            if server.label == "foretell":
                half(generator, name, under, asked, found["foretell"].rate / 2)
    except RuntimeError as error:
        print(f"{name}, {server.label}: {error}; skipped", flush=True)


def half(generator: Generator, name: str, under: Running, asked: bytes, rate: float) -> None:
    """Requests at random moments, half as many as the server could answer; and how evenly this machine answers them at
    all, by the bare protocol under the same."""
    spread(generator, f"{name}, foretell at half load", under, asked, rate)
    bare = next(server for server in servers(name) if server.label == "bare protocol")
    with running(bare, asked) as floor:
        spread(generator, f"{name}, bare protocol at the same", floor, asked, rate)


def spread(generator: Generator, label: str, under: Running, asked: bytes, rate: float) -> None:
    sent = open_loop(generator, under, asked, rate, HALF_SECONDS)
    p50, p99 = milliseconds(sent.latency, 50), milliseconds(sent.latency, 99)
    print(f"{label}: {rate:.0f}/s, p50 {p50:.2f} ms, p99 {p99:.2f} ms, {p99 / p50:.1f} x", flush=True)


def told(name: str, found: dict[str, Measured]) -> None:
    """What foretell reached, as ratios of requests a second and of CPU time, to each of the others."""
    if "foretell" not in found:
        return
    ours = found["foretell"]
    others = {label: got for label, got in found.items() if not label.startswith("foretell")}
    for label, got in [("foretell unguarded", found.get("foretell unguarded")), *others.items()]:
        if got is not None:
            said = f"{ours.rate / got.rate:.2f} x its requests, {got.cpu / ours.cpu:.2f} x its economy"
            print(f"{name}, foretell against {label} at {COMPARED} connections: {said}", flush=True)


if __name__ == "__main__":
    main()
