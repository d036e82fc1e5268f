"""A comparison's figures made by hand, for what reads them: advice, pages, changes."""

import math
from typing import Any

import msgspec
import numpy as np

from foretell.compare.measured import (
    Machine,
    Measured,
    Mismatch,
    Model,
    Offline,
    Parity,
    Quantiles,
    Server,
    Single,
    Step,
)
from foretell.compare.quantiles import BUCKETS


def quantiles(p99: float, requests: int = 5000) -> Quantiles:
    """Latencies whose p99 is this, known to a tenth."""
    latencies = np.random.default_rng(1).lognormal(math.log(p99 / 5), math.log(5) / 2.33, requests)
    counts = np.bincount(np.searchsorted(BUCKETS, latencies), minlength=len(BUCKETS) + 1).tolist()
    return Quantiles(
        requests, p99 / 4, p99 / 5, p99 / 2, p99 / 1.5, p99, p99 * 2, p99 * 0.9, p99 * 1.1, p99 * 3, counts
    )


def step(rate: float, p99: float, *, within: bool = True, requests: int = 5000) -> Step:
    done = rate if within else rate * 0.9
    return Step(rate, done, 5.0, quantiles(p99, requests), 0, 20e-6, False, True, within, 0.5)


def measured(
    *,
    start: float = 1.0,
    rows_per_s: float = 100_000.0,
    capacity: float = 1000.0,
    slo: float = 0.02,
    name: str = "churn",
    equal: bool = True,
) -> Measured:
    """A machine of two cores whose server's p99 grows from 2 ms to the SLO at its capacity."""
    shares = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.2)
    curve = [
        step(capacity * share, slo * (0.1 + 0.9 * share**4), within=share <= 1) for share in shares if capacity > 0
    ]
    search = [step(capacity, slo * 0.95), step(capacity * 1.06, slo * 1.3, within=False)] if capacity > 0 else []
    return Measured(
        model=Model(f"models:/{name}/3", f"{name} version 3", "3", "sha256:" + "ab" * 32, "sklearn", "kernel"),
        machine=Machine(2, 8 << 30, "A processor", "Linux 6.1", "3.11.2", "0.1.0", {"numpy": "2.4.0"}),
        input="batch_input.csv",
        input_rows=150,
        seed=7,
        command=f"foretell models compare -m models:/{name}/3 -i batch_input.csv --seed 7",
        at="2026-11-30T12:00:00Z",
        took_s=58.0,
        offline=Offline(
            rows=int(rows_per_s * 10),
            loops=100,
            seconds=10.0,
            start_s=start,
            first_row_s=start + 0.1,
            rows_per_s=rows_per_s,
            windows=[rows_per_s * 0.98, rows_per_s, rows_per_s * 1.02],
            stable=True,
            cpu_s=19.0,
            cpu_s_start=0.9,
            peak=200 << 20,
            stages={"reading": 4.0, "predicting": 12.0, "writing": 3.0},
        ),
        single=Single(quantiles(slo * 0.08), 900.0),
        server=Server(
            ready_s=1.2,
            idle=90 << 20,
            peak=120 << 20,
            slo_p99=slo,
            slo_given=True,
            quantile=0.99,
            capacity=capacity,
            at_least=False,
            search=search,
            curve=curve,
            stages={"http": 0.0002, "queue": 0.0001, "compute": 0.0004},
        ),
        parity=Parity(150, 150 if equal else 148, 0.0 if equal else 2e-16, [] if equal else MISMATCHES),
    )


MISMATCHES = [
    Mismatch(3, "prediction", "0.1", "0.10000000000000002"),
    Mismatch(9, "<script>alert(1)</script>", "1", "2"),
]


def with_server(found: Measured, **changed: Any) -> Measured:
    """The same with another server."""
    return msgspec.structs.replace(found, server=msgspec.structs.replace(found.server, **changed))


def with_offline(found: Measured, **changed: Any) -> Measured:
    """The same with another job."""
    return msgspec.structs.replace(found, offline=msgspec.structs.replace(found.offline, **changed))
