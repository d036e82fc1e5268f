"""Whether another engine answers as the model's own library does: to the bit, for a row alone, in 32 and in 4,096, and
with the same rows refused."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from foretell.batch import Answers, Batch, Call, Output
from foretell.compiler.draw import ROWS, Rows
from foretell.errors import ForetellError, InputError
from foretell.models.proven import SIZES, Verified
from foretell.predictor import Predictor

ANSWERED, REFUSED, FAILED = 0, 1, 2

_PIECE = 64
_MOST_REFUSED = 60
_FEWEST = 200
"""Rows that are answered, from which on more may be mixed of them."""


@dataclass(frozen=True)
class Reference:
    """What the library answers. rows: those that it answers, with their answers to each call; bad: rows of one each
    that it refuses or fails on, and which of the two. kinds: rows by how they were made."""

    rows: Batch
    answers: dict[Call, Answers]
    bad: list[tuple[Batch, int]]
    kinds: dict[str, int]


def reference(native: Predictor, rows: Rows, calls: Sequence[Call]) -> Reference:
    """Asks the library. Of rows that it refuses a number is enough for each kind; others are mixed in their place, of
    the cells of those that it answers."""
    asked = _Asked(native, calls[0])
    for kind, batch in rows.kinds.items():
        asked.ask(kind, batch)
    answered = asked.answered
    if _FEWEST <= answered.rows < rows.enough:
        asked.ask("mixed", _mixed(answered, rows.enough - answered.rows))
        answered = asked.answered
    answers = {call: native.predict(answered, call) for call in calls} if answered.rows else {}
    return Reference(answered, answers, asked.bad, asked.kinds)


@dataclass
class _Asked:
    """What came of rows so far: answered ones, rows of one each that are not and how, and how many of each kind."""

    native: Predictor
    call: Call
    good: list[Batch] = field(default_factory=list)
    bad: list[tuple[Batch, int]] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)

    @property
    def answered(self) -> Batch:
        return Batch.concat([batch for batch in self.good if batch.rows] or self.good[:1])

    def ask(self, kind: str, batch: Batch) -> None:
        """Asks for rows of a kind, until enough of them are refused."""
        refused, size = 0, _PIECE if kind in _DOUBTFUL else batch.rows
        for start in range(0, batch.rows, size):
            piece = batch[start : start + size]
            codes = outcomes(self.native, piece, self.call, _MOST_REFUSED - refused)
            piece = piece[: len(codes)]
            self.bad += [(piece[at : at + 1], int(codes[at])) for at in np.flatnonzero(codes)]
            self.good.append(picked(piece, codes == ANSWERED))
            self.kinds[kind] = self.kinds.get(kind, 0) + piece.rows
            refused += int((codes != ANSWERED).sum())
            if refused >= _MOST_REFUSED:
                break


def _mixed(rows: Batch, count: int) -> Batch:
    """count rows, each cell from another row. What a library refuses is mostly one cell, so it answers them."""
    chance = np.random.default_rng(21)
    return Batch(count, [column[chance.integers(0, rows.rows, count)] for column in rows.columns])


_DOUBTFUL = ("nulls", "extremes", "unseen words")
"""Kinds of which the library may refuse many: they are asked for in pieces."""


def outcomes(predictor: Predictor, batch: Batch, call: Call, most: int | None = None) -> np.ndarray:
    """ANSWERED, REFUSED or FAILED for each row, found by halving; fewer rows than were asked for where most of them
    were not answered before the end."""
    found = np.zeros(batch.rows, "int8")
    done = bad = 0
    waiting = [(0, batch.rows)]
    while waiting:
        start, stop = waiting.pop()
        try:
            predictor.predict(batch[start:stop], call)
        except ForetellError as error:
            if stop - start > 1:
                middle = (start + stop) // 2
                waiting += [(middle, stop), (start, middle)]
                continue
            found[start] = REFUSED if isinstance(error, InputError) else FAILED
            bad += 1
        done = stop
        if most is not None and bad >= most:
            break
    return found[:done]


def verified(candidate: Predictor, expected: Reference, native: Predictor) -> Verified:
    """Compares a candidate with what the library answered."""
    count = expected.rows.rows
    so_far = Verified(count, len(expected.bad), expected.kinds, exact=True)
    if count < (ROWS if native.signature.tabular else 1):
        told = f"{count:,} of the rows that were made up, and below {ROWS:,} nothing counts as proven"
        return _not(so_far, f"the library answers {told}")
    if candidate.engine.proba != native.engine.proba:
        return _not(so_far, "only one of the two has class probabilities")
    largest, changed, why = 0.0, 0, ""
    for _ in range(_WARM_UPS):
        candidate.predict(expected.rows[:1], next(iter(expected.answers)))
    for call, answers in expected.answers.items():
        for size in SIZES:
            step = 1 if size > 1 else max(1, int(count * candidate.cost.of(1) / _SECONDS_ALONE))
            others = 0
            for start in range(0, count, size * step):
                part = slice(start, min(start + size, count))
                try:
                    got = candidate.predict(expected.rows[part], call)
                except ForetellError as error:
                    return _not(so_far, f"does not answer a row that the library answers: {error.message}")
                difference = compared(got, answers[part])
                if difference is not None:
                    largest, others = max(largest, difference.largest), others + difference.changed
                    why = why or f"{difference.why} ({part.stop - part.start} rows at a time)"
            changed = max(changed, others)
    for row, outcome in expected.bad:
        got_codes = outcomes(candidate, row, next(iter(expected.answers)))
        if got_codes[0] != outcome:
            return _not(so_far, "does not refuse a row that the library refuses")
    return so_far if not why else _not(so_far, why, largest, changed)


_WARM_UPS, _SECONDS_ALONE = 5, 10.0
"""Of a slow engine not every row is asked for alone."""


def screened(candidate: Predictor, expected: Reference) -> Verified | None:
    """The comparison with a few rows, where they differ already; None where they do not."""
    few = expected.rows[:_FEW]
    call, answers = next(iter(expected.answers.items()))
    difference = compared(candidate.predict(few, call), answers[:_FEW])
    if difference is None:
        return None
    return Verified(few.rows, 0, {}, False, difference.largest, difference.changed, difference.why)


_FEW = 512


def _not(found: Verified, why: str, largest: float = 0.0, changed: int = 0) -> Verified:
    return msgspec.structs.replace(found, exact=False, largest=largest, changed=changed, why=why)


@dataclass(frozen=True)
class Difference:
    """largest: between numbers. changed: rows with another label. why: the first one, for people."""

    largest: float
    changed: int
    why: str


def compared(got: Answers, expected: Answers) -> Difference | None:
    """The difference of two engines' answers to the same rows; None where they are equal to the bit."""
    if len(got.outputs) != len(expected.outputs):
        return Difference(0.0, len(expected), f"{len(got.outputs)} outputs and not {len(expected.outputs)}")
    found = [one for pair in zip(got.outputs, expected.outputs, strict=True) if (one := _difference(*pair)) is not None]
    if not found:
        return None
    return Difference(max(one.largest for one in found), max(one.changed for one in found), found[0].why)


def _difference(got: Output, expected: Output) -> Difference | None:
    one, other = got.values, expected.values
    alike = (got.name, got.labels, got.proba, one.dtype.kind, one.shape)
    if alike != (expected.name, expected.labels, expected.proba, other.dtype.kind, other.shape):
        return Difference(0.0, len(other), f"an output of another form: {one.dtype}{list(one.shape)}")
    same = same_bits(one, other)
    if same.all() and one.dtype == other.dtype:
        return None
    if same.all():
        return Difference(0.0, 0, f"{one.dtype} and not {other.dtype}")
    at = tuple(int(i) for i in np.argwhere(~same)[0])
    told = f"{one[at]!s} and not {other[at]!s}"
    if one.dtype.kind != "f":
        return Difference(0.0, int((~same).reshape(len(same), -1).any(axis=1).sum()), told)
    with np.errstate(all="ignore"):
        apart = np.abs(one.astype("float64") - other.astype("float64"))
    return Difference(float(np.nanmax(apart, initial=0.0)), 0, told)


def same_bits(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Where two arrays of one shape are equal: floats to the bit, 0 and -0 apart, any NaN like any other."""
    same: np.ndarray = np.asarray(one == other)
    if one.dtype.kind == "f" and one.dtype == other.dtype:
        same = (same & (np.signbit(one) == np.signbit(other))) | (np.isnan(one) & np.isnan(other))
    return same


def picked(batch: Batch, mask: np.ndarray) -> Batch:
    """The rows of a batch for which mask is true."""
    if mask.all():
        return batch
    return Batch(int(mask.sum()), [column[mask] for column in batch.columns])


def labeller(native: Predictor, call: Call) -> Callable[[Batch], np.ndarray]:
    """Which answer a row gets from the library, as a number; -1 where it is refused, or after many that were."""
    known: dict[object, int] = {}

    def label(batch: Batch) -> np.ndarray:
        codes = outcomes(native, batch, call, _MOST_UNLABELLED)
        found = np.full(batch.rows, -1)
        good = np.flatnonzero(codes == ANSWERED)
        if len(good):
            values = native.predict(picked(batch[: len(codes)], codes == ANSWERED), call).outputs[0].values
            rows = values.reshape(len(values), -1).tolist()
            found[good] = [known.setdefault(tuple(row), len(known)) for row in rows]
        return found

    return label


_MOST_UNLABELLED = 20
