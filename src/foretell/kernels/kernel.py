"""A whole model as a kernel: how rows come in, the steps, and the head."""

from contextvars import Context
from dataclasses import dataclass

import numpy as np

from foretell.batch import Answers, Batch, Call
from foretell.kernels.node import Head, Step
from foretell.kernels.rows import Frame, Rows

_CELLS = 1 << 19
"""So many numbers at once stay in a processor's cache, from the step that widens rows to the next one."""
_LEAST = 256

_QUIET = Context()
"""Where numpy says nothing of what overflows. To run in a copy of it costs a tenth of np.errstate."""
_QUIET.run(np.seterr, all="ignore")


@dataclass(frozen=True)
class Kernel:
    """A kernel of a model. frame: whether its first step takes columns of their own dtypes, and not one matrix."""

    steps: tuple[Step, ...]
    head: Head
    frame: bool = False


class KernelEngine:
    """numpy alone, in the training library's own order of operations."""

    name = "compiled kernel"
    block: int | None = None

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.proba = kernel.head.proba
        self._apart = not kernel.steps and getattr(kernel.head, "apart", False)
        widest = max((getattr(step, "width", 1) for step in kernel.steps), default=1)
        self._stretch = max(_CELLS // widest, _LEAST)

    def predict(self, batch: Batch, call: Call) -> Answers:
        quiet = _QUIET.copy()
        if batch.rows <= self._stretch:
            return quiet.run(self._answers, batch, call)
        stretches = range(0, batch.rows, self._stretch)
        return Answers.concat([quiet.run(self._answers, batch[at : at + self._stretch], call) for at in stretches])

    def _answers(self, batch: Batch, call: Call) -> Answers:
        rows = self._rows(batch)
        for step in self._kernel.steps:
            rows = step.transform(rows)
        return Answers(self._kernel.head.answer(rows, call))

    def _rows(self, batch: Batch) -> Rows:
        if self._kernel.frame:
            return Frame(tuple(batch.columns))
        if batch.uniform:
            return batch.matrix
        columns = batch.columns
        if columns[0].ndim > 1:
            return columns[0]
        if any(column.dtype == object for column in columns):
            return Frame(tuple(columns), objects=True)
        return Frame(tuple(columns)) if self._apart else batch.matrix
