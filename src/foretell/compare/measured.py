"""What a comparison measured: plain numbers, as the trials found them and as the report's .json keeps them. Whoever
advises, draws or compares two reports reads these, and nothing else.

Seconds are floats, memory is in bytes. Latencies are counted from the moment at which a request was due."""

import msgspec


class Model(msgspec.Struct, frozen=True):
    """What was compared. engine: that answered both ways."""

    uri: str
    label: str
    version: str
    digest: str
    flavour: str
    engine: str


class Machine(msgspec.Struct, frozen=True):
    """Where, and with what. cores: that may be used. versions: of the libraries, by name."""

    cores: float
    memory: int
    processor: str
    system: str
    python: str
    foretell: str
    versions: dict[str, str]


class Quantiles(msgspec.Struct, frozen=True):
    """Latencies in seconds. A quantile that so few requests cannot tell is None: p50 needs 7, p90 44, p95 90, p99 459,
    p99.9 4,603 (at 99 % confidence, none beyond it; MLPerf's early stopping).

    p99_low, p99_high: a 95 % bootstrap interval. counts: of requests by bucket, for the histogram; the buckets' upper
    ends are `quantiles.BUCKETS`, and one more holds what is beyond. Requests that were refused are left out; those that
    were given up count for the time that they took so far.
    """

    requests: int
    mean: float
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    p999: float | None
    p99_low: float | None
    p99_high: float | None
    most: float
    counts: list[int]


class Offline(msgspec.Struct, frozen=True):
    """The job, on the user's file, looped to be long enough: some passes, each a job of its own.

    rows, loops, seconds: of those passes together. A job of n rows takes start_s + n / rows_per_s: start_s is what it
    takes whatever its rows, from its process's start, and does not count in seconds, nor cpu_s_start, a job's, in
    cpu_s. first_row_s: from a process's start until a file of one row is predicted. windows: rows a second in the last
    three passes; rows_per_s: the fastest. stages: seconds of all threads by reading, predicting, writing. peak:
    resident memory.
    """

    rows: int
    loops: int
    seconds: float
    start_s: float
    first_row_s: float
    rows_per_s: float
    windows: list[float]
    stable: bool
    cpu_s: float
    cpu_s_start: float
    peak: int
    stages: dict[str, float]


class Single(msgspec.Struct, frozen=True):
    """One client that asks when it was answered, a row at a time."""

    latency: Quantiles
    rps: float


class Step(msgspec.Struct, frozen=True):
    """Poisson arrivals at one rate, in requests of one row a second.

    asked, done: the rate that was due, and that was answered with 200. lag: by how much the generator itself was late,
    its p99 in seconds. limited: whether that, not the server, made the figures. within: whether p99 kept the SLO (by
    early stopping; failed requests count as late, the generator's own lag does not count) and about as many
    were answered as arrived. cpu_s: of the server a second.
    """

    asked: float
    done: float
    seconds: float
    latency: Quantiles
    failed: int
    lag: float
    limited: bool
    stable: bool
    within: bool
    cpu_s: float


class Server(msgspec.Struct, frozen=True):
    """The server, under open-loop load.

    slo_p99: the bound in seconds that the search kept to; slo_given: whether it was asked for, or derived from what a
    row takes alone. quantile: 0.99, or 0.95 or 0.9 where the time was too short for so many requests as 0.99 needs.
    capacity: the highest rate that kept it, in requests a second, 0 if none did; at_least: whether more might have been
    had, the generator being the limit. curve: steps at 10 … 120 % of it. ready_s: from the start to ready; idle, peak:
    resident memory of all its processes. stages: seconds a request by http, queue and compute, from the server's own
    metrics at half of capacity. workers: how many processes it is.
    """

    ready_s: float
    idle: int
    peak: int
    slo_p99: float
    slo_given: bool
    quantile: float
    capacity: float
    at_least: bool
    search: list[Step]
    curve: list[Step]
    stages: dict[str, float]
    workers: int = 1


class Mismatch(msgspec.Struct, frozen=True):
    """A row that both ways answered otherwise. row: from 1."""

    row: int
    column: str
    batch: str
    served: str


class Parity(msgspec.Struct, frozen=True):
    """Every row of the sample through both ways. equal: to the bit. largest: difference of numbers."""

    rows: int
    equal: int
    largest: float
    mismatches: list[Mismatch]


class Measured(msgspec.Struct, frozen=True):
    """One comparison. input: its name; input_rows: how many rows it has, estimated where only its beginning was read.
    command: what makes it again. at: UTC, ISO. notes: what a reader must know of how it was measured, a line each.
    asked: how the input was read, and what was asked of the model besides, as options."""

    model: Model
    machine: Machine
    input: str
    input_rows: int
    seed: int
    command: str
    at: str
    took_s: float
    offline: Offline
    single: Single
    server: Server
    parity: Parity
    notes: list[str] = []
    asked: str = ""
