"""Models of trees as a user meets them: compiled, chosen, and where foretell was built without a compiler."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import foretell
from engines import Ready, compile_, predicted, write_rows

pytestmark = pytest.mark.usefixtures("automatic")

ROOT = Path(__file__).parent.parent


def test_a_forest_is_proven_in_the_kernel(models: Path) -> None:
    """On rows an ulp around every threshold it has the library's bits; so ONNX Runtime is not even made."""
    told = compile_(models / "forest")
    tried = {one["engine"]: one for one in told["record"]["tried"]}
    assert ("kernel", True) == (told["engine"], tried["kernel"]["verified"]["exact"])
    assert tried["kernel"]["verified"]["kinds"]["one ulp around thresholds"] > 300
    assert "onnx" not in tried


def test_a_compiled_forest_needs_no_library(models: Path, ready: Ready) -> None:
    """Not even scikit-learn's to be imported."""
    write_rows(models, "forest")
    expected, _ = predicted(models / "forest", "--engine", "native", "--proba")
    folder = ready(models / "forest").compiled("kernel")
    program = (
        "import sys; sys.modules['sklearn'] = sys.modules['pandas'] = None\n"
        "from foretell.cli.main import process\n"
        "sys.argv = ['foretell', 'models', 'predict', '-i', 'in.csv', '-o', 'o.csv', '--proba', '-m', sys.argv[1]]\n"
        "process()"
    )
    ran = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=False)
    assert (0, expected) == (ran.returncode, Path("o.csv").read_bytes()), ran.stderr


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """foretell as it installs where the compiler fails."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("bare")
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("*.egg-info"))
    command = [str(Path(sys.executable).with_name("uv")), "pip", "install", "--quiet", "--python", sys.executable]
    ran = subprocess.run(
        [*command, "--target", str(target), "--no-deps", "--no-build-isolation", str(source)],
        env={**os.environ, "CC": "/bin/false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == ran.returncode, ran.stderr
    assert not list((target / "foretell" / "trees").glob("_walk*.so"))
    return target


def test_without_a_compiler_trees_use_the_next_engine(models: Path, bare: Path) -> None:
    """foretell installs and works; compile and inspect say why the kernel is not there, and predict says nothing."""
    write_rows(models, "forest")
    expected, _ = predicted(models / "forest", "--engine", "native")

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "foretell", "models", *map(str, arguments)]
        path = {**os.environ, "PYTHONPATH": str(bare)}
        return subprocess.run(command, env=path, capture_output=True, text=True, check=False)

    compiled = run("compile", "-m", models / "forest", "--json")
    assert 0 == compiled.returncode, compiled.stderr
    told = json.loads(compiled.stdout)
    why = {one["engine"]: one.get("why", "") for one in told["record"]["tried"]}["kernel"]
    assert (True, True) == ("without its compiled part" in why, told["engine"] != "kernel")
    ran = run("predict", "-m", models / "forest", "-i", "in.csv", "-o", "o.csv")
    assert (0, expected) == (ran.returncode, Path("o.csv").read_bytes()), ran.stderr


def test_without_a_compiler_a_compiled_forest_is_refused(models: Path, ready: Ready, bare: Path) -> None:
    """With a line that says what is missing, and what to do."""
    folder = ready(models / "forest").compiled("kernel")
    command = [sys.executable, "-m", "foretell", "models", "predict", "-m", str(folder), "-t", "csv", "-i", "-"]
    path = {**os.environ, "PYTHONPATH": str(bare)}
    ran = subprocess.run(command, env=path, input="a\n1\n", capture_output=True, text=True, check=False)
    assert (3, True, True) == (ran.returncode, "compiled part" in ran.stderr, len(ran.stderr.splitlines()) <= 2)


def test_a_hostile_table_is_refused(models: Path, ready: Ready) -> None:
    """A compiled folder whose sums were made to fit, but whose trees lead astray, ends with 3 and no harm."""
    import hashlib

    import numpy as np

    folder = Path(shutil.copytree(ready(models / "forest").compiled("kernel"), "folder"))
    arrays = {path: np.load(path) for path in sorted((folder / "kernel").glob("*.npy"))}
    path, nodes = next((path, array) for path, array in arrays.items() if array.ndim == 2 and array.shape[1] == 3)
    nodes[0, 2] = len(nodes)
    np.save(path, nodes)
    lines = [line.split("  ", 1)[1] for line in (folder / "SHA256SUMS").read_text().splitlines()[:-1]]
    body = "".join(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in lines)
    (folder / "SHA256SUMS").write_text(f"{body}{hashlib.sha256(body.encode()).hexdigest()}  SHA256SUMS\n")
    ran = foretell("models", "predict", "-m", folder, "-t", "csv", stdin=b"a\n1\n")
    assert (3, True) == (ran.code, "leads to where it must not" in ran.err), ran.err
