"""A comparison as a file: every raw number, the seed, the needs and the advice; written as JSON and read again."""

from pathlib import Path
from typing import Any

import msgspec

from foretell.compare.advice import Advice
from foretell.compare.measured import Measured
from foretell.errors import InputUnreadable

KIND = "foretell comparison"
VERSION = 1
_MOST = 64 << 20
_LARGEST = 1e15


class Report(msgspec.Struct, frozen=True):
    """kind, version: what file this is, and of which shape."""

    measured: Measured
    advice: Advice
    kind: str = KIND
    version: int = VERSION


def encoded(report: Report) -> bytes:
    """As indented JSON, with a newline at its end."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def read(path: Path) -> Report:
    """A report that foretell wrote.

    Raises InputUnreadable where it is none, or of another shape.
    """
    try:
        if path.stat().st_size > _MOST:
            raise InputUnreadable(f"{path}: more than 64 MiB, which no report is")
        data = path.read_bytes()
    except OSError as error:
        raise InputUnreadable(f"{path}: {error.strerror}") from error
    hint = "Give what foretell models compare --json PATH wrote"
    try:
        report = msgspec.json.decode(data, type=Report)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise InputUnreadable(f"{path}: not a report: {error}", hint) from error
    if (report.kind, report.version) != (KIND, VERSION):
        raise InputUnreadable(f"{path}: a {report.kind!r} of version {report.version}; expected {VERSION}", hint)
    if wrong := _wrong(report.measured):
        raise InputUnreadable(f"{path}: not a report: {wrong}", hint)
    return report


def _wrong(measured: Measured) -> str:
    """What no measurement finds; empty where all may be."""
    for name, value in (
        ("rows_per_s", measured.offline.rows_per_s),
        ("start_s", measured.offline.start_s),
        ("slo_p99", measured.server.slo_p99),
        *(("asked", step.asked) for step in (*measured.server.curve, *measured.server.search)),
    ):
        if value <= 0:
            return f"{name} is {value}"
    numbers: list[Any] = [msgspec.to_builtins(measured)]
    for one in numbers:
        if isinstance(one, dict | list):
            numbers.extend(one.values() if isinstance(one, dict) else one)
        elif isinstance(one, int | float) and not 0 <= one <= _LARGEST:
            return f"it has the number {one}"
    return ""
