"""A server that is asked for more than it can do: what it still answers, what it refuses, and how soon.

    .venv/bin/python benchmarks/overload.py [--seconds 4] [--model iris]

First the most that the server can do is found, as clients that wait for their answers see it; then requests come at
0.5, 1, 2, 5 and 10 times that rate whether or not others were answered (an open loop). Prints for each good answers a
second and their share of the best, the slowest refusal, and p50, p99 of what was answered.
"""

import argparse
import os
import sys
import tempfile

import models
import numpy as np
from peers import Server
from running import Running, closed_loop, milliseconds, open_loop, request, running

from foretell.compare.load import Generator, Sent

TIMES = (0.5, 1, 2, 5, 10)
CLIENTS = 128
"""As many connections as wait at a time."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--model", default="iris", choices=models.ROWS)
    parser.add_argument("--engine", default="auto", help="native makes the model slow, and so not the sockets decide")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Generator() as generator:
        os.chdir(folder)
        os.environ.update(FORETELL_CACHE=f"{folder}/cache")
        models.make([options.model])
        model = ["-m", options.model, "--trust", "--engine", options.engine, "--access-log", "none"]
        command = [sys.executable, "-m", "foretell", "models", "serve", *model, "-p", "PORT", "--max-queue", "64"]
        asked = request(models.body(options.model))
        with running(Server("foretell", command), asked) as under:
            capacity = closed_loop(generator, under, asked, CLIENTS, options.seconds).rate
            print(f"capacity: {capacity:.0f} requests a second, to {CLIENTS} clients that wait for their answers")
            best = capacity
            for times in TIMES:
                best = max(best, row(generator, under, asked, times, capacity, best, options.seconds))


def row(
    generator: Generator, under: Running, asked: bytes, times: float, capacity: float, best: float, seconds: float
) -> float:
    sent = open_loop(generator, under, asked, times * capacity, seconds)
    good = sent.status == 200
    rate = float(good.sum()) / max(sent.seconds, seconds)
    statuses = dict(zip(*(part.tolist() for part in np.unique(sent.status, return_counts=True)), strict=True))
    print(
        f"{times:>4} x: {rate:>7.0f} good a second, {rate / max(best, rate):>5.0%} of the best, {statuses}; "
        f"{refusals(sent)}; answered p50 {milliseconds(sent.service[good], 50):.1f} ms, "
        f"p99 {milliseconds(sent.service[good], 99):.1f} ms",
        flush=True,
    )
    return rate


def refusals(sent: Sent) -> str:
    """From when a request was sent; what waits for a free connection is the generator's."""
    refused = sent.service[sent.status == 503]
    if not len(refused):
        return "none refused"
    return f"refused within {milliseconds(refused, 50):.1f} ms p50, {milliseconds(refused, 99):.1f} ms p99"


if __name__ == "__main__":
    main()
