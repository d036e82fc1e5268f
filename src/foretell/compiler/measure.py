"""What a call to an engine costs at the sizes that matter, measured."""

import time
from collections.abc import Sequence
from statistics import median

from foretell.batch import Batch, Call
from foretell.errors import ForetellError
from foretell.models.proven import NATIVE, SIZES, Tried
from foretell.predictor import Predictor

_TURNS, _TURN_SECONDS, _MOST = 5, 0.03, 500


def timed(predictors: Sequence[Predictor], rows: Batch, call: Call) -> list[dict[int, float]]:
    """Seconds of a call by its rows, for each predictor. They take turns, so that what else goes on hits them alike,
    and each calls many times in a turn, as a server does."""
    found: list[dict[int, float]] = [{} for _ in predictors]
    for size in SIZES:
        batch = _of_size(rows, size)
        seconds: list[list[float]] = [[] for _ in predictors]
        for _ in range(_TURNS):
            for taken, predictor in zip(seconds, predictors, strict=True):
                taken += _turn(predictor, batch, call)
        for times, taken in zip(found, seconds, strict=True):
            if taken:
                times[size] = median(taken)
    return found


def _turn(predictor: Predictor, batch: Batch, call: Call) -> list[float]:
    """Seconds of each call in one turn; none where the rows cannot be answered."""
    seconds: list[float] = []
    until = time.perf_counter() + _TURN_SECONDS
    while len(seconds) < _MOST and (not seconds or time.perf_counter() < until):
        started = time.perf_counter()
        try:
            predictor.predict(batch, call)
        except ForetellError:
            return []
        seconds.append(time.perf_counter() - started)
    return seconds


def _of_size(rows: Batch, size: int) -> Batch:
    """The rows over and over, up to size."""
    repeated = Batch.concat([rows] * -(-size // rows.rows))
    return repeated[:size]


def score(tried: Tried, native: Tried) -> float:
    """How long an engine takes as a share of what the library takes: the geometric mean over the sizes."""
    product = 1.0
    for size in SIZES:
        product *= tried.seconds.get(size, float("inf")) / native.seconds.get(size, float("inf"))
    return 1.0 if tried.engine == NATIVE else product ** (1 / len(SIZES))
