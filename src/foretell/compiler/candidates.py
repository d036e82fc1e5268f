"""What could predict in a library's place: the engines that may be made of a loaded model, each as files of its own."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from foretell.errors import ForetellError
from foretell.kernels import catboost, lightgbm, xgboost
from foretell.kernels.kernel import Kernel
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
    that is exact counts; raises NotCovered, ForetellError. last: whether it is made only where no other engine is
    exact, or by its name: since it needs more to be made, and is seldom exact. installed: what must be, to make it.
    """

    label: str
    flavours: tuple[str, ...]
    make: Callable[[Predictor], Iterator[Artifact]]
    last: bool = False
    installed: str = ""

    def makes(self, flavour: str) -> bool:
        """Whether it may be made of a model of that flavour, here."""
        return flavour in self.flavours and (not self.installed or find_spec(self.installed) is not None)


def _kernels(native: Predictor) -> Iterator[Artifact]:
    """The kernel, in every way to make it."""
    if not native.signature.tabular:
        raise NotCovered("tensors")
    for kernel in _KERNELS[native.flavour](native):
        yield Artifact(compiled.kernel_files(kernel))


def _of_sklearn(native: Predictor) -> Iterator[Kernel]:
    """With its products shaped in several ways."""
    engine: Any = native.engine
    params = tuple(param.name for param in native.signature.params if param.name in engine.takes)
    for shape in SHAPES:
        yield lower(engine.model, Making(shape, native.names, params), frame=engine.framed)


def _of_lightgbm(native: Predictor) -> Iterator[Kernel]:
    engine: Any = native.engine
    yield Kernel((), lightgbm.model(engine.model))


def _of_catboost(native: Predictor) -> Iterator[Kernel]:
    engine: Any = native.engine
    yield Kernel((), catboost.model(engine.model))


def _of_xgboost(native: Predictor) -> Iterator[Kernel]:
    engine: Any = native.engine
    data = bytes(engine.model.save_raw("ubj"))
    classes = engine.classes if engine.proba else 0
    yield xgboost.booster(data, classes=classes, rounds=engine.rounds, in_place=engine.in_place)


_KERNELS: dict[str, Callable[[Predictor], Iterator[Kernel]]] = {
    "catboost": _of_catboost,
    "lightgbm": _of_lightgbm,
    "sklearn": _of_sklearn,
    "xgboost": _of_xgboost,
}
"""By flavour."""


def _boosters(native: Predictor) -> Iterator[Artifact]:
    """An estimator's booster in the library's own text, which loads without scikit-learn."""
    engine: Any = native.engine
    if native.flavour != "lightgbm" or not engine.framed:
        raise NotCovered(
            f"{engine.name} models" if native.flavour != "lightgbm" else "what needs no scikit-learn anyway"
        )
    text = engine.booster.model_to_string()
    classes = None if engine.classes is None else compiled.plain_classes(engine.classes)

    def files(folder: Path) -> None:
        (folder / "model.txt").write_text(text)

    yield Artifact(files, {"classes": classes})


def _converted(native: Predictor) -> Iterator[Artifact]:
    """The model as ONNX."""
    from foretell.conversion.convert import convert

    made = convert(native.engine, native.signature, native.names)

    def files(folder: Path) -> None:
        (folder / "model.onnx").write_bytes(made.data)

    more = msgspec.to_builtins(replace(made, data=b""))
    yield Artifact(files, more)


MAKERS: dict[str, Maker] = {
    "kernel": Maker("compiled kernel", tuple(_KERNELS), _kernels),
    "booster": Maker("LightGBM booster", ("lightgbm",), _boosters),
    "onnx": Maker("ONNX Runtime", ("sklearn", "xgboost", "lightgbm"), _converted, last=True, installed="onnx"),
}
"""By the engine's name."""


def coverable(native: Predictor, *, at_once: bool) -> bool:
    """Whether an engine that may be exact could be made; what fails otherwise is for the compilation to tell. at_once:
    not counting those that take long to make."""
    for maker in MAKERS.values():
        try:
            if not maker.makes(native.flavour):
                continue
            if maker.last and not at_once:
                return True
            if not maker.last and next(maker.make(native), None) is not None:
                return True
        except (NotCovered, ForetellError):
            continue
        except Exception:
            return True
    return False
