"""What a call to an engine costs at the sizes that matter, measured."""

import time
from collections.abc import Sequence
from statistics import median

from foretell.batch import Batch, Call
from foretell.errors import ForetellError
from foretell.models.proven import NATIVE, SIZES, Tried
from foretell.predictor import Predictor

_BUDGET = 0.15
_REPEATS = (3, 200)


def timed(predictors: Sequence[Predictor], rows: Batch, call: Call) -> list[dict[int, float]]:
    """Seconds of a call by its rows, for each predictor; they take turns, so that what else goes on hits them alike."""
    found: list[dict[int, float]] = [{} for _ in predictors]
    for size in SIZES:
        batch = _of_size(rows, size)
        seconds = _turns(predictors, batch, call)
        for times, taken in zip(found, seconds, strict=True):
            if taken:
                times[size] = median(taken)
    return found


def _turns(predictors: Sequence[Predictor], batch: Batch, call: Call) -> list[list[float]]:
    seconds: list[list[float]] = [[] for _ in predictors]
    spent = [0.0] * len(predictors)
    for turn in range(_REPEATS[1]):
        if all(one > _BUDGET for one in spent) and turn >= _REPEATS[0]:
            break
        for at, predictor in enumerate(predictors):
            if spent[at] > _BUDGET and turn >= _REPEATS[0]:
                continue
            started = time.perf_counter()
            try:
                predictor.predict(batch, call)
            except ForetellError:
                continue
            taken = time.perf_counter() - started
            seconds[at].append(taken)
            spent[at] += taken
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
