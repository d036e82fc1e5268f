"""What could predict in a library's place: the engines that may be made of a loaded model, each as files of its own."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foretell.errors import ForetellError
from foretell.kernels.lower import lower
from foretell.kernels.node import Making, NotCovered
from foretell.kernels.product import SHAPES
from foretell.models import compiled
from foretell.predictor import Predictor


@dataclass(frozen=True)
class Artifact:
    """One way to make an engine. files: writes what it needs into an empty folder. more: what it needs besides."""

    files: Callable[[Path], None]
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Maker:
    """An engine that can be made.

    label: for people. flavours: of the models that it may be made of. make: ways to make it, of which the first one
    that is exact counts; raises NotCovered, ForetellError. asked: whether it is made only by its name, since it is
    known to round otherwise.
    """

    label: str
    flavours: tuple[str, ...]
    make: Callable[[Predictor], Iterator[Artifact]]
    asked: bool = False


def _kernels(native: Predictor) -> Iterator[Artifact]:
    """The kernel, with its products shaped in several ways."""
    engine: Any = native.engine
    if not native.signature.tabular:
        raise NotCovered("tensors")
    params = tuple(param.name for param in native.signature.params if param.name in engine.takes)
    for shape in SHAPES:
        kernel = lower(engine.model, Making(shape, native.names, params), frame=engine.framed)
        yield Artifact(compiled.kernel_files(kernel))


def _boosters(native: Predictor) -> Iterator[Artifact]:
    """An estimator's booster in the library's own text, which loads without scikit-learn."""
    engine: Any = native.engine
    if native.flavour != "lightgbm" or not engine.framed:
        raise NotCovered(
            f"{engine.name} models" if native.flavour != "lightgbm" else "what needs no scikit-learn anyway"
        )
    from foretell.models.lightgbm import booster_text

    text = booster_text(engine.model)
    classes = compiled.plain_classes(engine.model.classes_) if engine.proba else None

    def files(folder: Path) -> None:
        (folder / "model.txt").write_text(text)

    yield Artifact(files, {"classes": classes})


MAKERS: dict[str, Maker] = {
    "kernel": Maker("numpy kernel", ("sklearn",), _kernels),
    "booster": Maker("LightGBM booster", ("lightgbm",), _boosters),
}
"""By the engine's name."""


def coverable(native: Predictor) -> bool:
    """Whether an engine that may be exact could be made, without making it."""
    for maker in MAKERS.values():
        try:
            if native.flavour in maker.flavours and not maker.asked and next(maker.make(native), None) is not None:
                return True
        except (NotCovered, ForetellError):
            continue
    return False
