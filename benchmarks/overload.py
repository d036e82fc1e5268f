"""A server that is asked for more than it can do: what it still answers, what it refuses, and how soon.

    .venv/bin/python benchmarks/overload.py [--seconds 4] [--model iris]

First the most that the server can do is found, as clients that wait for their answers see it: a hundred of them, and
as many as the load has connections, which costs more for each; then requests come at 0.5, 1, 2, 5 and 10 times the
latter rate whether or not others were answered (an open loop). Prints for each good answers a second, refusals, and
p50, p99 of what was answered; -1 stands for what found every connection busy for ten seconds.
"""

import argparse
import os
import sys
import tempfile

import models
import numpy as np
from peers import Server
from running import Running, closed_loop, milliseconds, open_loop, request, running

from foretell.compare.load import CONNECTIONS, Generator, Sent

TIMES = (0.5, 1, 2, 5, 10)
FEW = 128


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--model", default="iris", choices=models.ROWS)
    parser.add_argument("--engine", default="auto", help="native makes the model slow, and so not the sockets decide")
    parser.add_argument(
        "--queue", default="1024", help="--max-queue; below the 1,024 connections of the load some are refused"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Generator() as generator:
        os.chdir(folder)
        os.environ.update(FORETELL_CACHE=f"{folder}/cache")
        models.make([options.model])
        flags = ["-m", options.model, "--trust", "--engine", options.engine, "--max-queue", options.queue]
        serve = [sys.executable, "-m", "foretell", "models", "serve", "-p", "PORT", "--access-log", "none"]
        asked = request(models.body(options.model))
        with running(Server("foretell", [*serve, *flags]), asked) as under:
            for clients in (FEW, CONNECTIONS):
                capacity = closed_loop(generator, under, asked, clients, options.seconds).rate
                print(f"capacity: {capacity:.0f} requests a second, to {clients} clients that wait for their answers")
            good = [row(generator, under, asked, times, capacity, options.seconds) for times in TIMES]
            print(f"at {TIMES[-1]} x: {good[-1] / max(good):.0%} of the peak")


def row(generator: Generator, under: Running, asked: bytes, times: float, capacity: float, seconds: float) -> float:
    sent = open_loop(generator, under, asked, times * capacity, seconds)
    good = sent.status == 200
    rate = float(good.sum()) / max(sent.seconds, seconds)
    statuses = dict(zip(*(part.tolist() for part in np.unique(sent.status, return_counts=True)), strict=True))
    print(
        f"{times:>4} x: {rate:>7.0f} good a second, {statuses}; "
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
