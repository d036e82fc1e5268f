"""What a model was saved with: its requirements.txt, read as hostile text, and held against what is installed here.

Nothing is imported or installed here. `load` asks for notes and for how to mend what is missing; `environment` asks for
the lines that may be given to an installer.
"""

import re
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import foretell
from foretell.cells import show
from foretell.models.mlmodel import StoredModel

if TYPE_CHECKING:
    from packaging.version import Version

FILE = "requirements.txt"
CONSTRAINTS = "constraints.txt"
_MAX_BYTES = 64 << 10
_MAX_LINES = 1000
_MAX_LINE = 1000

_PLAIN = re.compile(r"""[A-Za-z0-9][A-Za-z0-9 \t._,<>=!~*+()\[\]'";-]*""")
"""What a plain requirement is written with: no url, path, variable, option or command fits."""

_HASH = re.compile(r"\s--hash=(sha256:[0-9a-f]{64})(?=\s|$)")
_COMMENT = re.compile(r"(?:^|\s)#.*")
_CONTINUED = re.compile(r"\\\r?\n")


@dataclass(frozen=True)
class Library:
    """What a flavour is computed with. name: as pip calls it. key: where MLmodel says which version saved the model."""

    name: str
    key: str


LIBRARIES = {
    "catboost": Library("catboost", "catboost_version"),
    "lightgbm": Library("lightgbm", "lgb_version"),
    "python_function": Library("cloudpickle", "cloudpickle_version"),
    "pytorch": Library("torch", "pytorch_version"),
    "sklearn": Library("scikit-learn", "sklearn_version"),
    "statsmodels": Library("statsmodels", "statsmodels_version"),
    "xgboost": Library("xgboost", "xgb_version"),
}
"""By MLflow's flavour names."""

STABLE = frozenset((".cb", ".cbm", ".json", ".lgb", ".onnx", ".pt2", ".txt", ".ubj", ".xgb"))
"""Files in a format that its library keeps readable: another version is worth no line. Pickles and skops files hold the
library's own attributes, so there any other version is."""

_PIP_NAMES = {"sklearn": "scikit-learn", "yaml": "pyyaml", "PIL": "pillow", "cv2": "opencv-python"}
"""By the names that are imported, where they differ."""

TWINS = {"xgboost": "xgboost-cpu", "xgboost-cpu": "xgboost"}
"""Two packages with one library, of which one is enough."""


@dataclass(frozen=True)
class Package:
    """A plain requirement. name: canonical. asked: "name[extra]==1.0". line: with marker and hashes. here: whether its
    marker holds for this Python."""

    name: str
    asked: str
    line: str
    here: bool

    @property
    def pin(self) -> str | None:
        """The version, where exactly one is asked for."""
        found = re.fullmatch(r"[^=<>!~,]+==([^=<>!~,*]+)", self.asked)
        return found[1] if found else None

    def met(self) -> bool:
        """Whether a version that fits is installed here."""
        from packaging.requirements import Requirement

        found = installed(self.name)
        return found is not None and Requirement(self.asked).specifier.contains(found, prereleases=True)


@dataclass(frozen=True)
class Requirements:
    """A model's requirements.txt. constraints: those of mlflow's constraints.txt. refused: what is no plain requirement
    of a package, as lines for people. there: whether the model has the file."""

    packages: tuple[Package, ...] = ()
    constraints: tuple[Package, ...] = ()
    refused: tuple[str, ...] = ()
    there: bool = False


def of(model: StoredModel, flavour: str) -> Requirements:
    """What loading the model by this flavour takes. Never raises: what cannot be read is among `refused`.

    mlflow names itself in every model's requirements, and brings a hundred packages; only a python_function is loaded
    by it, so for others it is left out.
    """
    folder = model.path
    if not (folder / FILE).is_file():
        return Requirements()
    packages: list[Package] = []
    refused: list[str] = []
    constraints: list[Package] = []
    for line in _lines(folder / FILE, refused):
        if re.fullmatch(rf"(-c|--constraint)\s+{re.escape(CONSTRAINTS)}", line):
            for bound in _lines(folder / CONSTRAINTS, refused):
                _sort(bound, constraints, refused)
        else:
            _sort(line, packages, refused)
    spare = {"xgboost" if sys.platform == "linux" else "xgboost-cpu"}
    needless = {name for name in spare if TWINS[name] in {package.name for package in packages}}
    needless |= set() if flavour == "python_function" else {"mlflow", "mlflow-skinny"}
    left = tuple(package for package in packages if package.name not in needless)
    return Requirements(left, tuple(constraints), tuple(refused), there=True)


def _lines(path: Path, refused: list[str]) -> list[str]:
    """A requirements file's lines, without comments; none, and a line in refused, where it is no such file."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if path.is_symlink() or len(data) > _MAX_BYTES:
            raise ValueError(f"over {_MAX_BYTES >> 10} KiB")
        lines = re.split(r"\r\n|\r|\n", _CONTINUED.sub("", data.decode("utf-8-sig")))
        if len(lines) > _MAX_LINES:
            raise ValueError(f"over {_MAX_LINES:,} lines")
    except (OSError, ValueError) as error:
        reason = "no text" if isinstance(error, UnicodeDecodeError) else error
        refused.append(f"{path.name} cannot be read ({getattr(error, 'strerror', None) or reason})")
        return []
    return [bare for line in lines if (bare := _COMMENT.sub("", line).strip())]


def _sort(line: str, packages: list[Package], refused: list[str]) -> None:
    package = parse(line)
    if package is None:
        refused.append(show(line))
    else:
        packages.append(package)


def parse(line: str, extra: str = "") -> Package | None:
    """A plain requirement; None for anything else: an option, a url, a path, what no package's name or version is.

    extra: for which markers are evaluated.
    """
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    hashes = _HASH.findall(line)
    text = _HASH.sub("", line).strip()
    if len(text) > _MAX_LINE or not _PLAIN.fullmatch(text):
        return None
    try:
        read = Requirement(text)
        here = read.marker is None or read.marker.evaluate({"extra": extra})
    except (InvalidRequirement, RecursionError, ValueError, TypeError, KeyError):
        return None
    if read.url or any(bound.operator == "===" for bound in read.specifier):
        return None
    name = canonicalize_name(read.name)
    asked = f"{name}[{','.join(sorted(read.extras))}]" if read.extras else name
    asked += str(read.specifier)
    marker = f"; {read.marker}" if read.marker and not extra else ""
    return Package(name, asked, asked + marker + "".join(f" --hash={found}" for found in hashes), here)


def own(extra: str) -> tuple[Package, ...]:
    """What foretell itself needs, with one of its extras or "" for none."""
    import importlib.metadata
    import tomllib

    checkout = Path(foretell.__file__).parents[2] / "pyproject.toml"
    if checkout.is_file():
        project = tomllib.loads(checkout.read_text())["project"]
        lines = [*project["dependencies"], *project["optional-dependencies"].get(extra, [])]
    else:
        lines = importlib.metadata.requires("foretell") or []
    found = (parse(line, extra or "none") for line in lines)
    return tuple(package for package in found if package is not None and package.here)


def installed(name: str) -> str | None:
    """The version of a package that is installed here, or of its twin; None where it is not."""
    import importlib.metadata

    for known in (name, TWINS.get(name)):
        try:
            if known is not None:
                return importlib.metadata.version(known)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def saved_with(model: StoredModel, flavour: str) -> str | None:
    """The version of the flavour's library that saved the model, as MLmodel or else requirements.txt has it."""
    library = LIBRARIES.get(flavour)
    if library is None:
        return None
    said = model.flavours.get(flavour, {}).get(library.key)
    names = (library.name, TWINS.get(library.name))
    pins = [package.pin for package in of(model, flavour).packages if package.name in names]
    return next((public for text in (said, *pins) if (public := _public(text))), None)


def notes(model: StoredModel, flavour: str) -> tuple[str, ...]:
    """A line where the model was saved with another version, and that may matter to its answers."""
    function = model.flavours.get("python_function", {})
    if flavour not in LIBRARIES or Path(str(function.get("data") or function.get("model_path"))).suffix in STABLE:
        return ()
    saved, library = saved_with(model, flavour), LIBRARIES[flavour].name
    if flavour != "python_function":
        return () if saved is None else note(model, library, saved)
    here = installed(library)
    python = str(function.get("python_version", ""))
    # Functions and classes are pickled as bytecode, which every minor version of Python has its own of.
    if re.fullmatch(r"\d{1,2}\.\d{1,3}(\.\d{1,3})?", python) and python.split(".")[:2] != _python().split(".")[:2]:
        return (f"saved with Python {python}, and this is {_python()}; it may not load: --env-manager uv",)
    return note(model, library, saved) if saved and here and saved.split(".")[0] != here.split(".")[0] else ()


def note(model: StoredModel, library: str, saved: str) -> tuple[str, ...]:
    """A line where another version of a library is installed than the model was saved with."""
    difference = _difference(library, saved)
    return (f"{difference}; answers may differ: {install([f'{library}=={saved}'], model)}",) if difference else ()


def fix(model: StoredModel, flavour: str) -> str:
    """How to mend a model that does not load, where versions differ; else empty."""
    saved, library = saved_with(model, flavour), LIBRARIES[flavour].name if flavour in LIBRARIES else ""
    difference = _difference(library, saved) if saved else None
    asked = [package.asked for package in of(model, flavour).packages if package.here and not package.met()]
    if difference is None and not asked:
        return ""
    if saved and difference and not any(line.startswith(library) for line in asked):
        asked.insert(0, f"{library}=={saved}")
    return f"{difference or 'It was saved with other versions'}: {install(asked, model)}"


def missing(model: StoredModel, flavour: str, module: str) -> tuple[str, str] | None:
    """(library with its version, how to install all that is missing) where the model's requirements name the library of
    a module that cannot be imported; else None."""
    name = _PIP_NAMES.get(module, module.lower().replace("_", "-"))
    packages = [package for package in of(model, flavour).packages if package.here]
    found = next((package for package in packages if package.name in (name, TWINS.get(name))), None)
    if found is None:
        return None
    absent = [package.asked for package in packages if installed(package.name) is None and package is not found]
    library = f"{found.name} {found.pin}" if found.pin else found.asked
    return library, install([found.asked, *absent], model)


def install(asked: Iterable[str], model: StoredModel) -> str:
    """The command, and the other way where there is one."""
    line = f"pip install {' '.join(map(shlex.quote, asked))}"
    found = of(model, "")
    return f"{line}, or --env-manager uv" if found.there and not found.refused else line


def _difference(library: str, saved: str) -> str | None:
    here = installed(library)
    if here is None or _public(here) == saved:
        return None
    return f"saved with {library} {saved}, and {here} is installed here"


def _public(text: object) -> str | None:
    """A version without its local part ("2.13.0+cpu" is 2.13.0); None for what is no version."""
    version = _version(text)
    return None if version is None else version.public


def _version(text: object) -> "Version | None":
    from packaging.version import InvalidVersion, Version

    try:
        return Version(text) if isinstance(text, str) and len(text) < 50 and text.isascii() else None
    except InvalidVersion:
        return None


def _python() -> str:
    return ".".join(map(str, sys.version_info[:3]))
