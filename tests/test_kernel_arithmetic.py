"""What kernels are made of: sums and products to the bit, whichever way is the quickest for so many rows."""

import math
import warnings
from collections.abc import Callable

import numpy as np
import pytest

from foretell.batch import Batch, Call
from foretell.kernels.clusters import SplitMeans
from foretell.kernels.kernel import Kernel, KernelEngine
from foretell.kernels.linear import LinearRegressor
from foretell.kernels.machines import Machine
from foretell.kernels.product import Shape, multiplied
from foretell.kernels.rows import check_finite
from foretell.kernels.sums import _at_once, _by_terms, _rounds_each, aligned

NUMBERS = np.random.default_rng(0)

Weigh = Callable[[np.ndarray, np.ndarray, np.ndarray], None]

WAYS = [
    pytest.param(_at_once, id="at once", marks=pytest.mark.skipif(not _rounds_each(), reason="rounds once for two")),
    pytest.param(_by_terms, id="by terms"),
]


@pytest.mark.parametrize("weigh", WAYS)
@pytest.mark.parametrize(("sums", "terms", "rows"), [(1, 40, 301), (9, 17, 5), (3, 1, 64), (2, 300, 7)])
def test_sums_go_term_after_term(weigh: Weigh, sums: int, terms: int, rows: int) -> None:
    """Each product and each sum is rounded, in the order of terms, as a loop of Python's does."""
    weights, near = NUMBERS.normal(size=(sums, terms)), NUMBERS.normal(size=(terms, rows))
    found = np.empty((sums, rows))
    weigh(weights, near, found)
    assert [[looped(each, column) for column in near.T.tolist()] for each in weights.tolist()] == found.tolist()


def looped(weights: list[float], values: list[float]) -> float:
    total = 0.0
    for weight, value in zip(weights, values, strict=True):
        total += weight * value
    return total


SETS = {
    "pairs of classes": [[0, 1, 2, 3, 4], [0, 1, 5, 6], [2, 3, 4, 5, 6]],
    "all in one": [[0, 1, 2, 3, 4, 5, 6]],
    "with gaps": [[0, 2, 3, 6], [1], [3, 4, 6]],
    "with none": [[1, 2], [], [5]],
}


@pytest.mark.parametrize("sets", SETS.values(), ids=SETS)
def test_a_machine_sums_what_each_sum_has(sets: list[list[int]]) -> None:
    """Whichever vectors a sum has, it adds them in order, for few rows as for many."""
    longest = max(map(len, sets))
    which = np.array([places + [7] * (longest - len(places)) for places in sets])
    weights = np.where(which < 7, NUMBERS.normal(size=which.shape), 0.0)
    machine = Machine(
        NUMBERS.normal(size=(7, 3)), "linear", 1.0, 3, 0.0, which, weights, NUMBERS.normal(size=len(sets))
    )
    rows = NUMBERS.normal(size=(600, 3))
    near = np.vecdot(rows[:, np.newaxis], machine.vectors).tolist()
    expected = [
        [
            looped(each[: len(places)], [of[at] for at in places]) + plus
            for places, each, plus in zip(sets, weights.tolist(), machine.plus.tolist(), strict=True)
        ]
        for of in near
    ]
    assert expected == machine.decisions(rows).tolist()
    assert expected[:3] == machine.decisions(rows[:3]).tolist()


@pytest.mark.parametrize("outputs", [(), (1,), (5,)], ids=str)
@pytest.mark.parametrize("columns", [1, 2, 64])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_a_row_alone_is_multiplied_as_in_a_block(dtype: str, columns: int, outputs: tuple[int, ...]) -> None:
    """Few rows go another way to BLAS, and get the same bits; zeros keep their sign."""
    weights = NUMBERS.normal(size=(columns, *outputs)).astype(dtype)
    rows = NUMBERS.normal(size=(8, columns)).astype(dtype)
    rows[0], rows[1] = 0.0, -0.0
    whole = multiplied(rows, weights, Shape(8))
    alone = [multiplied(rows[at : at + 1], weights, Shape(8)).tobytes() for at in range(8)]
    assert [row.tobytes() for row in whole] == alone


@pytest.mark.parametrize("rows", [1, 1000])
@pytest.mark.parametrize("number", [1e200, -1.7e308, 5e-324])
def test_large_numbers_are_finite(rows: int, number: float) -> None:
    """Though their sum, or the sum of their squares, is not."""
    with np.errstate(over="ignore"):
        check_finite(np.full((rows, 4), number))


def test_halvings_that_lead_back_are_refused() -> None:
    """A tree of clusters ends somewhere, whatever was written."""
    with pytest.raises(ValueError, match="lead back"):
        SplitMeans(np.zeros((2, 2, 3)), np.zeros((2, 2)), np.array([[1, -1], [0, -2]], "int32"), 8)


def test_a_kernel_is_quiet_and_leaves_numpy_as_it_was() -> None:
    """What overflows is infinite, nothing is said of it, and others' numpy warns as before."""
    engine = KernelEngine(Kernel((), LinearRegressor(np.array([1e308, 1e308]), np.array(0.0), 8, "C")))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answers = engine.predict(Batch.of(np.array([[1e10, 1.0]])), Call())
        assert [math.inf] == answers.outputs[0].values.tolist()
        with pytest.raises(RuntimeWarning):
            np.float64(1e308) * 10


def test_aligned_numbers_are_the_same() -> None:
    """They only lie elsewhere."""
    for start in range(8):
        part = np.arange(40.0)[start : start + 30].reshape(5, 6)
        moved = aligned(part)
        assert (0, part.tolist()) == (moved.ctypes.data % 64, moved.tolist())
