"""From a stored model to an engine: which flavour it is, whether it may be loaded, and its signature."""

import contextlib
import importlib
import importlib.util
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from foretell.cells import show
from foretell.errors import LibraryMissing, ModelUnreadable, UsageError
from foretell.models import mlmodel, requirements, trust
from foretell.models.engine import Engine
from foretell.models.mlmodel import StoredModel
from foretell.signature import Signature


@dataclass(frozen=True)
class Known:
    """A flavour that foretell loads.

    module: of ours, with runs_code and load. extra: of foretell's, which brings its library. libraries: what the extra
    brings, by the names that are imported. suffixes: of bare files. free, trusted: what of it loads freely, and what
    needs trust; for people.
    """

    module: str
    extra: str
    libraries: tuple[str, ...]
    suffixes: tuple[str, ...]
    free: str
    trusted: str


COMPILED = "foretell"
"""The flavour of what foretell compiled."""

FLAVOURS = {
    COMPILED: Known("foretell.models.compiled", "", (), (), "models that foretell compiled", ""),
    "sklearn": Known(
        "foretell.models.sklearn",
        "sklearn",
        ("sklearn", "skops", "joblib", "cloudpickle", "pandas"),
        (".skops", ".pkl", ".pickle", ".joblib", ".cloudpickle"),
        "skops files with reviewed types only",
        "pickle, joblib and cloudpickle files; skops files with other types",
    ),
    "onnx": Known("foretell.models.onnx", "", ("onnxruntime",), (".onnx",), "ONNX models", ""),
    "xgboost": Known(
        "foretell.models.xgboost",
        "xgboost",
        ("xgboost",),
        (".ubj", ".json", ".xgb"),
        "XGBoost's own UBJSON and JSON, without scikit-learn",
        "",
    ),
    "lightgbm": Known(
        "foretell.models.lightgbm",
        "lightgbm",
        ("lightgbm",),
        (".txt", ".lgb"),
        "LightGBM's own text, without scikit-learn; skops files with LightGBM's models, which need scikit-learn",
        "pickle and cloudpickle files; skops files with other types",
    ),
    "catboost": Known(
        "foretell.models.catboost",
        "catboost",
        ("catboost",),
        (".cbm", ".cb"),
        "CatBoost's own binary, without scikit-learn",
        "binaries with tables for categories or text, and JSON, which cannot be checked",
    ),
    "statsmodels": Known(
        "foretell.models.statsmodels",
        "statsmodels",
        ("statsmodels", "pandas"),
        (),
        "",
        "pickled results",
    ),
    "pytorch": Known(
        "foretell.models.torch",
        "torch",
        ("torch",),
        (".pt2", ".pt", ".pth"),
        "exported programs (.pt2) of reviewed operators",
        "pickled modules; TorchScript; other exported programs",
    ),
    "python_function": Known(
        "foretell.models.pyfunc",
        "mlflow",
        ("mlflow", "pandas"),
        (),
        "",
        "Python models, models from code, and every other flavour, by mlflow itself",
    ),
}
"""By MLflow's flavour names, the better first."""

SUFFIXES = {suffix: name for name, known in FLAVOURS.items() for suffix in known.suffixes}
"""Bare files: the flavour by suffix."""


class Flavour(Protocol):
    """What a flavour's module offers."""

    def runs_code(self, model: StoredModel) -> list[str]:
        """What loading would run beyond reviewed code: one line a file; empty where it loads freely."""
        ...

    def load(self, model: StoredModel, trusted: bool) -> "Loaded":
        """Loads it. Raises ModelUnreadable, LibraryMissing."""
        ...


@dataclass(frozen=True)
class Loaded:
    """An engine, and what the model itself knows of its columns.

    signature: its inputs, where it knows all about them. names: the order in which the engine wants named columns.
    notes: what a person should be told. digest: of the model that a compiled one was made of. seconds: it took, its
    library's import with it.
    """

    engine: Engine
    signature: Signature | None
    names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    digest: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Settled:
    """A stored model whose flavour is known and whose trust is settled; nothing of it has been loaded. seconds: that
    took, which may be its library's import."""

    model: StoredModel
    flavour: str
    trusted: bool
    seconds: float = 0.0


def settle(path: Path, origin: trust.Origin, trusted: bool, *, installs: bool = False) -> Settled:
    """Reads the description and settles trust. Raises ModelUnreadable, ModelUntrusted, LibraryMissing.

    installs: what the model requires will be installed, which runs code of others as loading may.
    """
    started = time.perf_counter()
    model = mlmodel.read(path)
    name = flavour_of(model)
    reasons = [f"{requirements.FILE} (packages to install)"] if installs else []
    try:
        reasons += runs_code(model, name)
    except LibraryMissing:
        if not installs:
            raise
        reasons += foreign_code(model)
    return Settled(model, name, trust.settle(reasons, origin, trusted), time.perf_counter() - started)


def check_types(flavour: str, label: str, schema: str | None, cast: dict[str, str] | None) -> None:
    """That a compiled model is read as the types that it was compiled for. Raises UsageError."""
    if flavour == COMPILED and (schema or cast):
        raise UsageError(f"{label} was compiled for the types of its columns", "Compile it again, with those")


def runs_code(model: StoredModel, flavour: str) -> list[str]:
    """What loading would run beyond reviewed code, file by file. Raises ModelUnreadable, LibraryMissing."""
    with _libraries(model, flavour):
        return foreign_code(model) + _module(flavour).runs_code(model)


def load(settled: Settled) -> Loaded:
    """Loads a settled model. Raises ModelUnreadable, LibraryMissing."""
    model, flavour = settled.model, settled.flavour
    started = time.perf_counter()
    with _libraries(model, flavour):
        loaded = _module(flavour).load(model, settled.trusted)
    notes = (*requirements.notes(model, flavour), *loaded.notes)
    return replace(loaded, notes=notes, seconds=settled.seconds + time.perf_counter() - started)


@contextlib.contextmanager
def _libraries(model: StoredModel, flavour: str) -> Iterator[None]:
    """Says how to install a library that is not there, or that is there in another version than the model's."""
    try:
        yield
    except ModelUnreadable as error:
        error.hint = error.hint or requirements.fix(model, flavour)
        raise
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing != error.name and importlib.util.find_spec(missing) is not None:
            message = f"{model.path} needs the module {error.name}, which the installed {missing} does not have"
            raise ModelUnreadable(message, requirements.fix(model, flavour)) from error
        if (named := requirements.missing(model, flavour, missing)) is not None:
            raise LibraryMissing(f"{model.path} needs {named[0]}, which is not installed", named[1]) from error
        extra = next((known.extra for known in FLAVOURS.values() if missing in known.libraries), "")
        fix = f"pip install 'foretell[{extra}]'" if extra else f"pip install {missing}"
        raise LibraryMissing(f"{model.path} needs {missing}, which is not installed", fix) from error


def flavour_of(model: StoredModel) -> str:
    """The flavour to load a model by. Raises ModelUnreadable."""
    if model.path.is_file():
        flavour = SUFFIXES.get(model.path.suffix.lower())
        if flavour is None:
            known = ", ".join(SUFFIXES)
            raise ModelUnreadable(
                f"{model.path} is no model file that foretell reads",
                f"It reads {known}, and MLflow's folders",
            )
        return flavour
    for name in FLAVOURS:
        if name in model.flavours:
            return name
    raise ModelUnreadable(
        f"{model.path} has the flavours {', '.join(model.flavours)}; foretell reads {', '.join(FLAVOURS)}"
    )


def foreign_code(model: StoredModel) -> list[str]:
    """What in an MLflow folder names code of its own: a `code` folder, or a loader outside mlflow."""
    function: Mapping[str, Any] = model.flavours.get("python_function", {})
    found = []
    code = model.code()
    if code is not None and any(code.rglob("*")):
        found.append(f"{code.name}/ (Python code)")
    loader = function.get("loader_module", "mlflow.")
    if not isinstance(loader, str) or not loader.startswith("mlflow."):
        found.append(f"MLmodel (the loader {show(loader)})")
    return found


def import_code(model: StoredModel) -> None:
    """Puts a trusted model's own code folder where its pickle will look for it. Python then leaves no bytecode behind,
    which would lie in the model's folder and change its digest."""
    code = model.code()
    if code is not None:
        sys.dont_write_bytecode = True
        _check_modules(code.resolve())
        if str(code.resolve()) not in sys.path:
            sys.path.append(str(code.resolve()))


def _check_modules(code: Path) -> None:
    """That no module which the model brings has come with another model: Python would take that one for it."""
    for path in code.iterdir():
        loaded = sys.modules.get(path.stem if path.suffix == ".py" else path.name)
        place = getattr(loaded, "__file__", None)
        if place is None or Path(place).resolve().is_relative_to(code):
            continue
        if any((folder.parent / "MLmodel").is_file() for folder in Path(place).resolve().parents):
            raise ModelUnreadable(
                f"{path} is not loaded: another model brought a module of that name to this process",
                "Serve it with --follow or -w 2, by processes of its own, or each model by a server",
            )


def _module(name: str) -> Flavour:
    module: Any = importlib.import_module(FLAVOURS[name].module)
    return module  # type: ignore[no-any-return]
