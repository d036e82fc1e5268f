"""Whether both ways answer alike: every row of the sample, compared bit by bit."""

import math
import struct
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from foretell.compare.measured import Mismatch, Parity

_SHOWN = 5
_WIDTH = 200


def parity(batch: Iterable[bytes], served: Iterable[tuple[int, bytes]]) -> Parity:
    """batch: the job's answers as JSON Lines, a row each. served: for the same rows, in order, the server's status and
    body; where it has fewer, the rest is not compared."""
    rows, equal, largest = 0, 0, 0.0
    mismatches: list[Mismatch] = []
    for line, (status, body) in zip(batch, served, strict=False):
        rows += 1
        found, apart = _differences(rows, line, status, body)
        equal += not found
        largest = max(largest, apart)
        mismatches += found[: _SHOWN - len(mismatches)]
    return Parity(rows, equal, largest, mismatches)


def _differences(row: int, line: bytes, status: int, body: bytes) -> tuple[list[Mismatch], float]:
    """What differs in a row, and by how much at most."""
    cells = list(_cells(msgspec.json.decode(line)))
    try:
        answers = [value for _, value in _cells(msgspec.json.decode(body)["predictions"][0])]
    except (msgspec.DecodeError, KeyError, IndexError, TypeError):
        answers = []
    if status != 200 or len(answers) != len(cells):
        told = body.decode("utf-8", "replace") if status == 200 else f"HTTP {status}: {body.decode('utf-8', 'replace')}"
        return [Mismatch(row, "", _short(line.decode().strip()), _short(told))], 0.0
    pairs = [
        (name, one, other) for (name, one), other in zip(cells, answers, strict=True) if _bits(one) != _bits(other)
    ]
    apart = [abs(one - other) for _, one, other in pairs if _is_number(one) and _is_number(other)]
    return [Mismatch(row, name, _short(repr(one)), _short(repr(other))) for name, one, other in pairs], max(
        (each for each in apart if math.isfinite(each)), default=0.0
    )


def _cells(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every plain value in an answer, in order, each with its column."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _cells(inner, name or key)
    elif isinstance(value, list):
        for inner in value:
            yield from _cells(inner, name)
    else:
        yield name, value


def _bits(value: Any) -> Any:
    return (float, struct.pack("<d", value)) if isinstance(value, float) else (type(value), value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[:_WIDTH]}…"
