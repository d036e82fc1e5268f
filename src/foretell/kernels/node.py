"""What a kernel is made of: steps that transform rows, and a head that answers.

Each is a frozen dataclass of arrays and plain values, which `stored` writes and reads; `lower` makes it from a fitted
estimator.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from foretell.batch import Call, Output
from foretell.kernels.product import Shape, as_in
from foretell.kernels.rows import Rows

BLOCK = 256
"""So many rows the library is given at a time, where it is given a matrix."""


class Step(Protocol):
    """A transformer."""

    def transform(self, rows: Rows) -> Rows:
        """The rows, in order, as the next step takes them. Raises RowRefused where the library refuses one."""
        ...


class Head(Protocol):
    """A predictor. proba: whether it has class probabilities."""

    @property
    def proba(self) -> bool: ...

    def answer(self, rows: Rows, call: Call) -> tuple[Output, ...]:
        """What the library answers: predictions, and class probabilities if asked for. Raises RowRefused."""
        ...


class NotCovered(Exception):
    """No kernel computes this estimator: the message says which part of it."""


@dataclass(frozen=True)
class Making:
    """How a kernel is made. shape: of its products. names: of the columns that come in, where they have names. params:
    what the model's predict is given besides rows. plain: whether the library has rows as one matrix in C order, in its
    blocks of BLOCK."""

    shape: Shape = Shape()
    names: tuple[str, ...] | None = None
    params: tuple[str, ...] = ()
    plain: bool = True

    def shape_for(self, weights: np.ndarray) -> Shape:
        """The shape of a product with weights, (columns, outputs) or (columns,). Where it is known how rows lie, it is
        the library's own, or a smaller one that rounds alike: a trial on rows would not see the bits of a model that
        only tells labels."""
        return as_in(BLOCK, weights, ("C", "F")) if self.plain else self.shape


def classes_of(estimator: Any) -> Any:
    """An estimator's class labels. Raises NotCovered for several outputs' lists of them."""
    classes = estimator.classes_
    if isinstance(classes, list):
        raise NotCovered(f"{type(estimator).__name__} with several outputs")
    return classes
