"""What a job says of itself when it is done: for the file that --report writes, for the ledger, and for the job after
it, which is compared with it."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

import foretell
from foretell.job.figures import Figures
from foretell.predictor import Predictor
from foretell.registry.choose import without_secrets


class FileTold(msgspec.Struct, frozen=True):
    """A file. sha256: in hex; None where it was not asked for, or could not be told."""

    path: str
    bytes: int | None
    sha256: str | None = None


class ModelTold(msgspec.Struct, frozen=True):
    uri: str
    label: str
    version: int | None
    digest: str
    flavour: str


class Counts(msgspec.Struct, frozen=True):
    """rows = predicted + rejected. resumed: of these rows, done by earlier runs."""

    rows: int
    predicted: int
    rejected: int
    resumed: int


class Times(msgspec.Struct, frozen=True):
    """Of the run that ended the job, in seconds. start: of the process, until the first row is read; job: from there
    until the output is complete. reading, predicting, writing: of all threads or processes together."""

    began: str
    ended: str
    start: float
    job: float
    reading: float
    predicting: float
    writing: float


class Throughput(msgspec.Struct, frozen=True):
    """Of the rows that this run did. mb_per_s: of the input as it is stored, in 1,000,000 bytes."""

    rows_per_s: float
    mb_per_s: float


class Memory(msgspec.Struct, frozen=True):
    """Resident bytes at their most, each process by itself. peak: the sum."""

    peak: int
    main: int
    workers: list[int]


class Report(msgspec.Struct, frozen=True):
    """A job that is done. nulls: rows by input column. predictions: by output column; see `Distribution.told`."""

    name: str
    model: ModelTold
    engine: str
    input: list[FileTold]
    input_format: str
    output: list[FileTold]
    output_format: str
    counts: Counts
    nulls: dict[str, int]
    predictions: dict[str, dict[str, Any]]
    times: Times
    throughput: Throughput
    memory: Memory
    foretell: str = foretell.__version__
    schema: int = 1

    def encoded(self) -> bytes:
        """As JSON, for people too."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def decoded(data: bytes) -> Report | None:
    """A report as it was kept; None where it is none of this version's."""
    try:
        return msgspec.json.decode(data, type=Report)
    except msgspec.DecodeError:
        return None


def model_told(predictor: Predictor) -> ModelTold:
    found = predictor.resolved
    return ModelTold(without_secrets(found.uri), found.label, found.version, found.digest, predictor.flavour)


def nulls_told(columns: list[str], figures: Figures) -> dict[str, int]:
    """All columns, also those without a null."""
    return {**dict.fromkeys(columns, 0), **figures.nulls}


def times_told(began: float, start: float, job: float, stages: tuple[float, float, float]) -> Times:
    """began: the process's start, seconds as time.time. stages: reading, predicting and writing."""
    first, last = (datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds") for at in (began, time.time()))
    return Times(first, last, round(start, 3), round(job, 3), *(round(seconds, 3) for seconds in stages))


def peak() -> int:
    """Bytes that this process held at its most; 0 where the system does not tell. Not by getrusage, which takes over
    the peak of whoever started the process."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:")), 0)
    except (OSError, ValueError):
        return 0
