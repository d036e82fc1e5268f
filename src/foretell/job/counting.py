"""Counts the values of one block's columns: what is null, and how predictions are distributed. Called in any thread,
for every block, so that it has to cost a few nanoseconds a row."""

from collections import Counter
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from foretell.job.distribution import CLASSES, SHIFT, Distribution, finite, first_classes, narrowed

_LABEL = 200
_SAMPLE = 2000
_RANGE = 1 << 16


def distribution(values: np.ndarray) -> Distribution:
    """Of one block's column, of shape (rows,): numbers, words, texts or times."""
    kind = values.dtype.kind
    if kind == "f":
        return _floats(values)
    if kind in "iu":
        return _integers(values)
    if kind == "b":
        rows = int(np.count_nonzero(values))
        return _of_classes({"true": rows, "false": len(values) - rows}, numeric=False)
    if kind in "US":
        return _of_classes(_fixed(values), numeric=False)
    if kind == "O":
        return _objects(values)
    return Distribution(nulls=int(np.isnat(values).sum()), numeric=False, others=int((~np.isnat(values)).sum()))


def null_rows(values: np.ndarray) -> int:
    """Rows of an input's column, of shape (rows, *cell shape), that are null: NaN, NaT or None; of tensors none."""
    if values.ndim > 1 or not len(values):
        return 0
    kind = values.dtype.kind
    if kind == "f":
        return int(np.count_nonzero(np.isnan(values))) if np.isnan(np.min(values)) else 0
    if kind == "M":
        return int(np.count_nonzero(np.isnat(values)))
    return int(np.count_nonzero(pointers(values) == id(None))) if kind == "O" else 0


def pointers(values: np.ndarray) -> np.ndarray:
    """Where an array's objects are, of shape (rows,): whether they are the same, told in a hundredth of the time that
    comparing them takes. Good as long as the array is there."""
    return np.asarray(_Addresses(values))


class _Addresses:
    def __init__(self, values: np.ndarray) -> None:
        told = dict(np.ascontiguousarray(values).__array_interface__)
        self._values = values
        self.__array_interface__ = {**told, "typestr": np.dtype(np.intp).str, "descr": [("", np.dtype(np.intp).str)]}


def _floats(values: np.ndarray) -> Distribution:
    values = values.astype(np.float64, copy=False)
    low, high = (float(np.min(values)), float(np.max(values))) if len(values) else (0.0, 0.0)
    nulls = infinite = 0
    if not np.isfinite(low) or not np.isfinite(high):
        there = np.isfinite(values)
        nulls = int(np.isnan(values).sum())
        infinite = len(values) - nulls - int(np.count_nonzero(there))
        values = values[there]
        low, high = (float(np.min(values)), float(np.max(values))) if len(values) else (0.0, 0.0)
    if not len(values):
        return Distribution(nulls, infinite=infinite)
    known = Distribution(nulls, infinite=infinite, low=low, high=high, total=finite(float(np.sum(values))))
    if len(set(values[:_SAMPLE].tolist())) <= CLASSES:
        found = pc.value_counts(pa.array(values))
        if len(found) <= CLASSES:
            labels = found.field("values").to_pylist()
            return _with_classes(known, dict(zip(labels, found.field("counts").to_pylist(), strict=True)))
    return _with_buckets(known, values)


def _integers(values: np.ndarray) -> Distribution:
    if not len(values):
        return Distribution()
    low, high = int(values.min()), int(values.max())
    known = Distribution(low=float(low), high=float(high), total=float(np.sum(values, dtype=np.float64)))
    if high - low < _RANGE:
        wide = values if values.dtype.kind == "u" else values.astype(np.int64)
        rows = np.bincount((wide - wide.dtype.type(low)).astype(np.intp))
        there = np.flatnonzero(rows)
        if len(there) <= CLASSES:
            return _with_classes(known, {low + int(at): int(rows[at]) for at in there})
    return _with_buckets(known, values.astype(np.float64))


def _with_classes(known: Distribution, rows: dict[Any, int]) -> Distribution:
    return msgspec.structs.replace(known, classes={_label(value): count for value, count in rows.items()})


def _with_buckets(known: Distribution, values: np.ndarray) -> Distribution:
    places = np.ascontiguousarray(values).view(np.int64) >> SHIFT
    least = int(places.min())
    if int(places.max()) - least < _RANGE:
        rows = np.bincount(places - least)
        there = np.flatnonzero(rows)
        counts = dict(zip((there + least).tolist(), rows[there].tolist(), strict=True))
    else:
        found = pc.value_counts(pa.array(places))
        counts = dict(zip(found.field("values").to_pylist(), found.field("counts").to_pylist(), strict=True))
    buckets, shift = narrowed(counts, SHIFT)
    return msgspec.structs.replace(known, classes=None, buckets=buckets, shift=shift)


def _objects(values: np.ndarray) -> Distribution:
    """Texts, mostly the same few objects again and again; or whatever a model gives."""
    found = pc.value_counts(pa.array(pointers(values)))
    if len(found) > CLASSES:
        rows = Counter(map(_text, values.tolist()))
    else:
        at = pointers(values)
        rows = Counter()
        for place, count in zip(found.field("values").to_pylist(), found.field("counts").to_pylist(), strict=True):
            rows[_text(values[int(np.argmax(at == place))])] += count
    nulls = rows.pop(None, 0)
    return msgspec.structs.replace(_of_classes(rows, numeric=False), nulls=nulls)


def _text(value: Any) -> Any:
    if value is None or value != value:
        return None
    return _label(value)


def _fixed(values: np.ndarray) -> dict[Any, int]:
    """Texts of one length: counted as bytes."""
    values = np.ascontiguousarray(values)
    size = values.dtype.itemsize
    if not size:
        return {"": len(values)}
    raw = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(size), len(values), [None, pa.py_buffer(values.view(np.uint8))]
    )
    found = pc.value_counts(raw)
    labels = np.frombuffer(b"".join(found.field("values").to_pylist()), values.dtype).tolist()
    return dict(zip(labels, found.field("counts").to_pylist(), strict=True))


def _of_classes(rows: dict[Any, int], *, numeric: bool) -> Distribution:
    labelled: Counter[str] = Counter()
    for value, count in rows.items():
        if count:
            labelled[_label(value)] += count
    known = Distribution(numeric=numeric)
    if len(labelled) > CLASSES:
        return first_classes(known, labelled)
    return msgspec.structs.replace(known, classes=dict(labelled))


def _label(value: Any) -> str:
    """A value as text that JSON takes."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return text[:_LABEL].encode(errors="replace").decode()
