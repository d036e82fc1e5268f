"""Weighed sums of rows in a fixed order, each step rounded: what `machines` makes of a kernel's values, as libsvm does.

numpy's einsum adds so where rows are the slower axis, and in half the time of products that are made first. A trial on
the spot says whether it rounds each step here.
"""

import functools
import itertools

import numpy as np

_LINE = 64
"""Bytes of a line of a processor's cache."""

Stretch = tuple[slice, slice, np.ndarray]
"""Sums, the places that they go on with, and the weights of these, shape (sums, places)."""


def stretches(which: np.ndarray, weights: np.ndarray, count: int) -> tuple[np.ndarray, list[Stretch], list[Stretch]]:
    """Sums as stretches of vectors beside each other, which all sums cut at the same places. Before a stretch that goes
    on with a sum there is room for what was summed so far, of weight 1.

    Gives the vectors that have such room before them; the first stretches, of several sums where they are of the same
    vectors; and the following ones.
    """
    sums = [(places[places < count], each) for places, each in zip(which, weights, strict=True)]
    starts = {int(at) for places, _ in sums for at in places[np.diff(places, prepend=-2) != 1]}
    cuts = [[*np.flatnonzero(np.isin(places, list(starts))).tolist(), len(places)] for places, _ in sums]
    spare = np.array(
        sorted({int(places[at]) for (places, _), cut in zip(sums, cuts, strict=True) for at in cut[1:-1]}), int
    )
    first: list[Stretch] = []
    more: list[Stretch] = []
    for at, ((places, each), cut) in enumerate(zip(sums, cuts, strict=True)):
        for a, b in itertools.pairwise(cut):
            start = int(places[a] + spare.searchsorted(places[a], side="right"))
            here, some = slice(start - (a > 0), start + b - a), each[np.newaxis, a:b]
            if a > 0:
                more.append((slice(at, at + 1), here, np.insert(some, 0, 1.0, axis=1)))
            elif first and first[-1][1] == here:
                first[-1] = (slice(first[-1][0].start, at + 1), here, np.concatenate([first[-1][2], some]))
            else:
                first.append((slice(at, at + 1), here, some))
    return spare, first, more


def weighed(weights: np.ndarray, near: np.ndarray, sums: np.ndarray) -> None:
    """sums = weights @ near, but row after row of near, and rounded after each step. A sum of zeros may be -0."""
    (_at_once if _rounds_each() else _by_terms)(weights, near, sums)


def _at_once(weights: np.ndarray, near: np.ndarray, sums: np.ndarray) -> None:
    np.einsum("jk,kn->jn", weights, near, out=sums)


def _by_terms(weights: np.ndarray, near: np.ndarray, sums: np.ndarray) -> None:
    for some, each in zip(sums, weights, strict=True):
        np.add.reduce(near * each[:, np.newaxis], axis=0, out=some)


@functools.cache
def _rounds_each() -> bool:
    """Whether numpy's einsum multiplies and then adds, and not both in one step, which rounds once."""
    numbers = np.random.default_rng(0)
    weights, near = numbers.normal(size=(3, 40)), numbers.normal(size=(40, 301))
    apart = np.add.accumulate(weights[:, :, np.newaxis] * near, axis=1)[:, -1]
    return np.array_equal(np.einsum("jk,kn->jn", weights, near), apart)


def aligned(array: np.ndarray) -> np.ndarray:
    """The same doubles in C order, from where a line of the cache starts on, as BLAS reads them the most quickly."""
    if array.ctypes.data % _LINE == 0:
        return array
    room = np.empty(array.size + _LINE // 8)
    start = -room.ctypes.data % _LINE // 8
    moved = room[start : start + array.size].reshape(array.shape)
    moved[...] = array
    return moved
