"""A kernel against the library that trained its model: which rows are refused, and every bit of the others' answers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foretell.batch import Answers, Batch, Call
from foretell.errors import ForetellError
from foretell.kernels import lower, stored
from foretell.kernels.kernel import Kernel, KernelEngine
from foretell.kernels.node import Making
from foretell.kernels.product import SHAPES
from foretell.models.engine import Engine
from foretell.models.load import Loaded, Settled
from foretell.models.mlmodel import StoredModel
from foretell.models.sklearn import SklearnEngine, _names
from foretell.models.trust import Origin
from foretell.predictor import Found, Predictor
from foretell.registry.resolve import Resolved
from foretell.signature import Signature

ROWS = 4096

Said = tuple[Any, ...] | str
"""What was answered, as values that are equal where every bit is; or the name of the error."""


@dataclass(frozen=True)
class Reference:
    """What the library says. special: rows, and what it says of each alone. bulk: 4,096 rows that it answers, the
    special ones that it does first, and what it says of them."""

    estimator: Any
    signature: Signature
    native: SklearnEngine
    call: Call
    special: Batch
    alone: list[Said]
    bulk: Batch
    together: Said


def reference(estimator: Any, signature: Signature, special: Batch, ordinary: Batch, call: Call) -> Reference:
    """Asks the library, through the predictor's blocks."""
    native = SklearnEngine(estimator)
    if not native.proba:
        call = Call(params=call.params)
    predictor = behind(native, _names(estimator), signature)
    alone = apart(predictor, special, call)
    good = [at for at, what in enumerate(alone) if not isinstance(what, str)]
    rows = Batch.concat([*(special[at : at + 1] for at in good), ordinary])
    bulk = (Batch.concat([rows] * (ROWS // rows.rows + 1)))[:ROWS]
    together = said(predictor, bulk, call)
    assert not isinstance(together, str), "the library refuses an ordinary row, so nothing is compared"
    return Reference(estimator, signature, native, call, special, alone, bulk, together)


def kernels(found: Reference) -> Iterator[Kernel]:
    """The kernel in every shape that a compiler tries."""
    names = _names(found.estimator)
    params = tuple(name for name, _ in found.call.params if name in found.native.takes)
    for shape in SHAPES:
        yield lower.lower(found.estimator, Making(shape, names, params), frame=found.native.framed)


def equal(found: Reference, folder: Path) -> Predictor:
    """A predictor with the first kernel that gives the library's bits in bulk, after it was written and read. The rows
    cannot be written from now on, and a kernel that tried would fail."""
    for batch in (found.special, found.bulk):
        for array in [batch.matrix] if batch.uniform else batch.columns:
            array.setflags(write=False)
    for kernel in kernels(found):
        predictor = behind(KernelEngine(kernel), _names(found.estimator), found.signature)
        if said(predictor, found.bulk, found.call) == found.together:
            stored.write(kernel, folder)
            return behind(KernelEngine(stored.read(folder)), _names(found.estimator), found.signature)
    assert found.together == said(predictor, found.bulk, found.call), "no shape gives the library's bits"
    raise AssertionError


def behind(engine: Engine, names: tuple[str, ...] | None, signature: Signature) -> Predictor:
    """An engine behind the real predictor."""
    settled = Settled(StoredModel(Path("model"), signature=signature), "sklearn", trusted=True)
    found = Found(Resolved("model", "model", Path("model"), "sha256:"), Origin("model", "sha256:"), True, False, None)
    return Predictor(found, settled, Loaded(engine, signature, names), signature)


def said(predictor: Predictor, batch: Batch, call: Call) -> Said:
    """What a predictor says of a batch."""
    try:
        return bits(predictor.predict(batch, call))
    except ForetellError as error:
        return type(error).__name__


def apart(predictor: Predictor, batch: Batch, call: Call) -> list[Said]:
    """What a predictor says of each row of a batch, found by halving where it refuses some."""
    edges = list(range(1, batch.rows + 1))
    return [
        bits(got) if isinstance(got, Answers) else type(got).__name__
        for got in predictor.predict_apart(batch, edges, call)
    ]


def bits(answers: Answers) -> tuple[Any, ...]:
    return tuple(
        (output.name, output.labels, output.proba, output.values.dtype, output.values.shape, _bits(output.values))
        for output in answers.outputs
    )


def _bits(values: np.ndarray) -> Any:
    return values.tolist() if values.dtype == object else values.tobytes()


def cut(whole: Said, rows: Sequence[int], total: int) -> Said:
    """What was said of some rows of a batch."""
    assert not isinstance(whole, str)
    cut_outputs = []
    for name, labels, proba, dtype, shape, raw in whole:
        values = np.array(raw, object).reshape(shape) if dtype.kind == "O" else np.frombuffer(raw, dtype).reshape(shape)
        chosen = values[list(rows)]
        cut_outputs.append((name, labels, proba, dtype, chosen.shape, _bits(chosen)))
    return tuple(cut_outputs)
