"""A model beside the one that serves, which gets the same rows: its answers are compared and counted, and no client
ever sees them. What there is no time for is dropped; nobody waits for it."""

import threading
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from foretell.batch import Answers, Batch, Call
from foretell.errors import ForetellError
from foretell.predictor import Found, Predictor
from foretell.serve.absent import Absent
from foretell.serve.backlog import FAILED, Backlog
from foretell.serve.exchange import Exchange, Reply
from foretell.serve.swapper import check_signature
from foretell.serve.wanted import Wanted, why

if TYPE_CHECKING:
    from foretell.serve.counts import Counts
    from foretell.signature import Signature

EQUAL, DIFFERENT = "equal", "different"
_MOST_WAITING = 20_000
_AT_A_TIME = 16
_EVERY_SECONDS = 0.5
_GOODBYE_SECONDS = 1.0
_MOST_PAIRS = 100
_LONGEST = 60


class _Item(NamedTuple):
    batch: Batch
    call: Call
    answers: Answers
    signature: "Signature"


class Shadow:
    """A witness. wanted: the model, under the name that it stands beside. find: finds it."""

    def __init__(self, wanted: Wanted, find: Callable[[], Found], say: Callable[[str], None]) -> None:
        self._wanted = wanted
        self._find = find
        self._say = say
        self._predictor: Predictor | None = None
        self._lock = threading.Lock()
        self._largest = 0.0
        self._pairs: Counter[tuple[str, str]] = Counter()
        self._backlog = Backlog(
            f"the shadow of {wanted.name}",
            "foretell_shadow_rows",
            self._compare,
            most=_MOST_WAITING,
            enough=_AT_A_TIME,
            every=_EVERY_SECONDS,
            labels=(wanted.name,),
        )

    def take(self, client: tuple[str, int] | None, exchange: Exchange, reply: Reply, seconds: float) -> None:
        trail, service = exchange.trail, exchange.service
        if isinstance(service, Absent) or service.meter.model != self._wanted.name:
            return
        if trail is None or trail.portion is None or trail.batch is None or not trail.rows:
            return
        item = _Item(trail.batch, trail.call, trail.portion.answers, service.predictor.signature)
        self._backlog.put(item, trail.rows, trail.rows)

    def look(self, counts: "Counts") -> None:
        self._backlog.look(counts)
        with self._lock:
            pairs, self._pairs = self._pairs, Counter()
        for pair, count in pairs.items():
            counts.count("foretell_shadow_disagreements", self._wanted.name, *pair, by=count)
        if self._largest:
            counts.count("foretell_shadow_largest_difference", self._wanted.name, by=self._largest)

    def close(self) -> None:
        self._backlog.close(_GOODBYE_SECONDS)

    def _compare(self, items: list[_Item]) -> dict[str, int]:
        became: Counter[str] = Counter()
        for item in items:
            try:
                answers = self._opened(item.signature).predict(item.batch, item.call)
                same = self._same(item.answers, answers)
            except ForetellError as error:
                self._backlog.complain(f"the shadow of {self._wanted.name}: {why(error)}")
                became[FAILED] += item.batch.rows
                continue
            became[EQUAL] += int(same.sum())
            became[DIFFERENT] += int((~same).sum())
        return became

    def _opened(self, signature: "Signature") -> Predictor:
        """The model, loaded when it is first needed. Raises ForetellError."""
        if self._predictor is None:
            opened = self._wanted.load(self._find())
            self._say(f"{opened.resolved.label} is the shadow of {self._wanted.name}")
            self._predictor = opened
        check_signature(signature, self._predictor.signature)
        return self._predictor

    def _same(self, served: Answers, shadow: Answers) -> np.ndarray:
        """Whether each row's answers are the same to the bit; where not, how far they are apart."""
        same = np.ones(len(served), bool)
        ours, others = served.columns(), shadow.columns()
        if [name for name, _ in ours] != [name for name, _ in others]:
            return ~same
        for (_, one), (_, other) in zip(ours, others, strict=True):
            equal = _equal(one, other)
            same &= equal
            if not equal.all():
                self._note(one[~equal], other[~equal])
        return same

    def _note(self, one: np.ndarray, other: np.ndarray) -> None:
        if one.dtype.kind == "f" and other.dtype.kind == "f":
            apart = np.abs(one.astype(float) - other.astype(float))
            if np.isfinite(apart).any():
                self._largest = max(self._largest, float(apart[np.isfinite(apart)].max()))
            return
        with self._lock:
            for pair in zip(map(_shown, one.tolist()), map(_shown, other.tolist()), strict=True):
                self._pairs[pair if pair in self._pairs or len(self._pairs) < _MOST_PAIRS else ("other", "other")] += 1


def _equal(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """By row, to the bit: NaN is equal to itself, and -0.0 not to 0.0."""
    if one.shape != other.shape or one.dtype.kind != other.dtype.kind:
        return np.zeros(len(one), bool)
    if one.dtype.kind == "f" and one.dtype != other.dtype:
        return np.zeros(len(one), bool)
    if one.dtype.kind == "f":
        width = one.dtype.itemsize * int(np.prod(one.shape[1:], dtype=int))
        raw = [np.ascontiguousarray(each).view(np.uint8).reshape(-1, width) for each in (one, other)]
        return np.asarray((raw[0] == raw[1]).all(axis=1))
    found = np.asarray(one == other)
    return found if found.ndim == 1 else np.asarray(found.reshape(len(one), -1).all(axis=1))


def _shown(value: object) -> str:
    return ascii(value)[:_LONGEST].strip("'")
