"""What is trained on and asked of XGBoost's kernels: rows around the thresholds of trees, and the comparison."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foretell.batch import Batch, Call
from foretell.kernels import stored
from foretell.kernels.kernel import Kernel, KernelEngine
from foretell.predictor import Predictor
from foretell.signature import Signature
from kernel_reference import apart, behind, said

MANY, COLUMNS = 100_000, 6
SIGNATURE = Signature.unnamed(COLUMNS)
ODD = (
    *(np.nan, np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-45, 1e-39, -1.0, -0.5, 0.5, 2.9, 31, 32, 63, 64, 95, 96),
    *(1e6, 16777215, 16777216, 2.0**31, 2.0**32, 3.4e38, -3.4e38),
)
"""Not thresholds, and of categories those that no tree has seen."""


@dataclass(frozen=True)
class Data:
    """Six columns, the last two of few whole numbers, some cells missing; and what is learnt of them."""

    x: np.ndarray
    number: np.ndarray


def _data() -> Data:
    numbers = np.random.default_rng(0)
    x = numbers.normal(size=(500, COLUMNS)).astype("float32")
    x[:, 4], x[:, 5] = numbers.integers(0, 70, 500), numbers.integers(0, 5, 500)
    number = x[:, 0] + x[:, 1] * x[:, 2] + (x[:, 4] % 7) / 3 + (x[:, 5] == 2)
    x[numbers.random(x.shape) < 0.1] = np.nan
    return Data(x, number)


DATA = _data()
Target = Callable[[np.ndarray], Any]


def number(y: np.ndarray) -> Any:
    return y


def positive(y: np.ndarray) -> Any:
    return np.abs(y) + 0.1


def two(y: np.ndarray) -> Any:
    return (y > 0.5).astype("int64")


def four(y: np.ndarray) -> Any:
    return np.digitize(y, [-1.0, 0.0, 1.0])


def three_numbers(y: np.ndarray) -> Any:
    return np.stack([y, y**2, -y], axis=1)


def three_flags(y: np.ndarray) -> Any:
    return (three_numbers(y) > 0).astype("int64")


def thresholds(booster: Any) -> np.ndarray:
    """Those of all trees, which the library's own dump tells."""
    gradient = json.loads(booster.save_raw("json"))["learner"]["gradient_booster"]
    trees = gradient.get("gbtree", gradient)["model"]["trees"]
    split = [np.array(tree["split_conditions"], "f4")[np.array(tree["left_children"]) >= 0] for tree in trees]
    return np.concatenate(split)


def rows_for(booster: Any, *, finite: bool) -> np.ndarray:
    """Rows that were trained on, half of whose cells are thresholds, their neighbours and odd numbers."""
    numbers = np.random.default_rng(1)
    near = thresholds(booster)
    near = near[np.isfinite(near)]
    around = [near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))]
    rows = DATA.x[numbers.integers(0, len(DATA.x), MANY)]
    changed = numbers.random(rows.shape) < 0.5
    rows[changed] = numbers.choice(np.concatenate([*around, np.array(ODD, "f4")]), int(changed.sum()))
    if finite:
        rows[np.isinf(rows)] = 3.0
    return rows


def same(native: Predictor, kernel: Kernel, rows: np.ndarray, folder: Path) -> None:
    """What the library says, in bulk, in 32 and alone; the kernel was written and read before."""
    stored.write(kernel, folder)
    made = behind(KernelEngine(stored.read(folder)), native.names, native.signature)
    call = Call(proba=native.engine.proba)
    batch = Batch.of(rows)
    for piece in (batch, *(batch[at : at + 32] for at in range(0, 640, 32))):
        expected = said(native, piece, call)
        assert not isinstance(expected, str)
        assert expected == said(made, piece, call)
    assert apart(native, batch[:100], call) == apart(made, batch[:100], call)
