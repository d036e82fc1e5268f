"""The house's plan, held: floors, one seam for each foreign library, no import cycles, modules of a readable size."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "foretell"
MAX_LINES = 320

FLOORS = [
    {"cli"},
    {"compare"},
    {"job", "serve", "frames"},
    {"compiler"},
    {"predictor", "environment", "conversion"},
    {"models", "registry", "tables"},
    {"rows", "strict_json", "json_types", "ledger"},
    {"signature", "storage", "safe_yaml", "tensors", "sandbox"},
    {"columns", "kernels"},
    {"trees"},
    {"cells", "batch"},
    {"metrics", "config", "errors", "imports", "machine", "parent"},
]
"""From the top. A room may import from floors below its own, and from its own room."""

SHARED = {
    ("rows", "strict_json"),
    ("rows", "json_types"),
    ("signature", "columns"),
}
"""Neighbours on one floor that may know each other."""

SEAMS = {
    "catboost": {"models/catboost"},
    "click": {"cli"},
    "httptools": {"serve/head", "serve/http"},
    "joblib": {"models/sklearn_files"},
    "lightgbm": {"models/lightgbm"},
    "mlflow": {"models/pyfunc"},
    "onnx": {"conversion/graph"},
    "onnxruntime": {"models/onnx"},
    "packaging": {"models/requirements"},
    "prometheus_client": {"serve/exposition"},
    "opentelemetry": {"serve/spans"},
    "pandas": {
        "frames",
        "models/lightgbm",
        "models/pyfunc",
        "models/pyfunc_outputs",
        "models/sklearn",
        "models/statsmodels",
    },
    "polars": {"frames"},
    "rich": {"cli/bar", "cli/comparison", "cli/inspect"},
    "scipy": {"models/xgboost"},
    "skl2onnx": {"conversion/sklearn"},
    "skops": {"models/sklearn_files"},
    "statsmodels": {"models/statsmodels"},
    "torch": {"models/torch", "models/torch_files", "models/torch_program"},
    "uv": {"environment"},
    "uvicorn": {"serve/http", "serve/line", "serve/server"},
    "xgboost": {"models/xgboost"},
    "yaml": {"safe_yaml"},
}
"""Foreign libraries, and the only modules or rooms that may import them."""

EVERYWHERE = {"msgspec", "numpy", "pyarrow"}


@dataclass(frozen=True)
class Import:
    """One import statement. lazy: it stands inside a function."""

    module: str
    target: str
    lazy: bool


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(SOURCE.rglob("*.py")):
        yield path.relative_to(SOURCE).with_suffix("").as_posix(), ast.parse(path.read_text())


def imports() -> list[Import]:
    found = []
    for name, tree in modules():
        top = {id(node) for node in tree.body}
        for node in ast.walk(tree):
            lazy = id(node) not in top
            if isinstance(node, ast.Import):
                found += [Import(name, alias.name, lazy) for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                found += [Import(name, f"{node.module}.{alias.name}", lazy) for alias in node.names]
    return found


def room(module: str) -> str:
    return module.split("/")[0]


def ours(target: str) -> str | None:
    """The module of ours that an import names, as "room/module"; None for a foreign one, and for the package itself."""
    parts = target.split(".")
    if parts[0] != "foretell" or len(parts) < 2:
        return None
    for length in (3, 2):
        path = SOURCE.joinpath(*parts[1:length])
        if path.with_suffix(".py").is_file() and parts[1:length]:
            return "/".join(parts[1:length])
    return parts[1] if (SOURCE / parts[1]).is_dir() else None


def floor(name: str) -> int | None:
    return next((at for at, rooms in enumerate(FLOORS) if name in rooms), None)


def test_every_room_has_a_floor() -> None:
    """A new room is drawn into the plan before it is built."""
    rooms = {room(name) for name, _ in modules()} - {"__init__", "__main__", "demo"}
    assert {name for rooms_ in FLOORS for name in rooms_} == rooms


def test_rooms_import_downward_only() -> None:
    """Calls go down the floors: nobody imports from above, nor from a neighbour."""
    wrong = []
    for found in imports():
        target = ours(found.target)
        if target is None or room(found.module) in ("__init__", "__main__") or room(target) == room(found.module):
            continue
        here, there = floor(room(found.module)), floor(room(target))
        pair = (room(found.module), room(target))
        if here is not None and there is not None and here >= there and pair not in SHARED:
            wrong.append(f"{found.module} imports {target}")
    assert [] == sorted(set(wrong))


def test_foreign_libraries_enter_at_their_seams() -> None:
    """A library outside the core is imported where the plan says, and nowhere else."""
    wrong = []
    for found in imports():
        library = found.target.split(".")[0]
        if library in sys.stdlib_module_names or library == "foretell" or library in EVERYWHERE:
            continue
        allowed = SEAMS.get(library, set())
        if found.module not in allowed and room(found.module) not in allowed:
            wrong.append(f"{found.module} imports {library}")
    assert [] == sorted(set(wrong))


@pytest.mark.parametrize(
    "library",
    [
        "catboost",
        "joblib",
        "lightgbm",
        "mlflow",
        "onnx",
        "onnxruntime",
        "pandas",
        "polars",
        "skl2onnx",
        "skops",
        "statsmodels",
        "torch",
        "xgboost",
    ],
)
def test_heavy_libraries_are_imported_when_used(library: str) -> None:
    """What a model needs is loaded with that model, not with foretell."""
    eager = [found.module for found in imports() if found.target.split(".")[0] == library and not found.lazy]
    assert [] == eager


def test_there_are_no_import_cycles() -> None:
    """Every module can be imported first."""
    graph: dict[str, set[str]] = {name: set() for name, _ in modules()}
    for found in imports():
        target = ours(found.target)
        if target is not None and target != found.module and not found.lazy:
            graph[found.module].add(target)
    order: list[str] = []
    while leaves := [name for name, targets in graph.items() if not targets - set(order) and name not in order]:
        order += leaves
    assert set() == set(graph) - set(order)


def test_modules_are_of_a_readable_size() -> None:
    """A module answers one question; one that grows past the limit answers two."""
    long = {name: len((SOURCE / f"{name}.py").read_text().splitlines()) for name, _ in modules()}
    assert {name: lines for name, lines in long.items() if lines > MAX_LINES} == {}


def test_every_module_says_what_it_is_for() -> None:
    """A module opens with the question that it answers."""
    silent = [name for name, tree in modules() if tree.body and not ast.get_docstring(tree)]
    assert [] == silent
