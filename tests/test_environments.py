"""What a model requires: how it is read, what is said where it is missing, and the environment that uv makes of it."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn
import yaml
from sklearn.linear_model import LinearRegression

from conftest import COMMAND, OLDER, Ran, foretell, serving
from foretell.environment import find_uv
from foretell.errors import ModelUnreadable
from foretell.models import requirements
from foretell.models.load import Settled, load
from foretell.models.mlmodel import read
from foretell.models.requirements import parse
from foretell.registry.local import FOLDER, LocalRegistry

ROWS = b"a,b\n1,2\n3,-4\n"
HERE = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
SKLEARN = str(sklearn.__version__)
PACKAGE = "toolz==1.0.0"
DEMO = Path(requirements.foretell.__file__).parent / "demo" / "iris"
FLOWERS = b"sepal_length,sepal_width,petal_length,petal_width\n5.1,3.5,1.4,0.2\n6.3,3.3,6,2.5\n"

MAKE = """
import pickle, sys
import numpy as np, toolz
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
x = np.random.default_rng(3).normal(size=(60, 2))
model = make_pipeline(FunctionTransformer(toolz.compose(np.log1p, np.abs)), LinearRegression()).fit(x, x @ [1.0, 2.0])
pickle.dump(model, open(sys.argv[1], "wb"))
print(*map(repr, model.predict(np.array([[1.0, 2.0], [3.0, -4.0]])).tolist()))
"""
"""A model with a class of a package that is not installed beside foretell."""


def folder(
    path: Path,
    lines: str | bytes | None,
    *,
    entry: dict[str, Any] | None = None,
    function: dict[str, Any] | None = None,
) -> Path:
    """A scikit-learn model in MLflow's format, made by hand, with these requirements."""
    path.mkdir()
    rows = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 5.0]])
    (path / "model.pkl").write_bytes(pickle.dumps(LinearRegression().fit(rows, rows @ [1.0, 2.0])))
    columns = [{"type": "double", "name": name, "required": True} for name in "ab"]
    described = {
        "flavors": {
            "python_function": {"loader_module": "mlflow.sklearn", "model_path": "model.pkl", **(function or {})},
            "sklearn": {"pickled_model": "model.pkl", "serialization_format": "cloudpickle", **(entry or {})},
        },
        "signature": {"inputs": json.dumps(columns)},
    }
    (path / "MLmodel").write_text(yaml.safe_dump(described))
    if lines is not None:
        (path / "requirements.txt").write_bytes(lines if isinstance(lines, bytes) else lines.encode())
    return path


def _iris(path: Path) -> Path:
    """The demo's model, which loads freely, with a requirement."""
    shutil.copytree(DEMO, path)
    (path / "requirements.txt").write_text(f"mlflow==3.17.2\n{PACKAGE}\n")
    return path


@pytest.fixture(scope="module")
def uv(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables for uv: its own cache, and the versions that are installed here, so that little is fetched again."""
    known = tmp_path_factory.mktemp("uv") / "constraints.txt"
    libraries = (library for library in distributions() if library.name not in ("foretell", "toolz"))
    known.write_text("".join(sorted({f"{library.name}=={library.version}\n" for library in libraries})))
    cache = subprocess.run([find_uv(), "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()
    return {"UV_CACHE_DIR": cache, "UV_CONSTRAINT": str(known)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, uv: dict[str, str]) -> tuple[Path, list[str]]:
    """(a model that needs a package that is not installed here, its answers to ROWS where it was trained)"""
    base = tmp_path_factory.mktemp("made")
    path = folder(base / "model", f"mlflow==3.17.2\nscikit-learn=={SKLEARN}\nnumpy=={np.__version__}\n{PACKAGE}\n")
    libraries = str(base / "libraries")
    subprocess.run(
        [find_uv(), "pip", "install", "-q", "--target", libraries, PACKAGE], env={**os.environ, **uv}, check=True
    )
    variables = {**os.environ, "PYTHONPATH": libraries}
    command = [sys.executable, "-c", MAKE, str(path / "model.pkl")]
    ran = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    return path, ran.stdout.split()


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the environments of this module lie."""
    return tmp_path_factory.mktemp("caches")


@pytest.fixture
def cache(caches: Path, uv: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of environments, shared by the tests that ask for it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(caches))
    for name, said in uv.items():
        monkeypatch.setenv(name, said)
    return caches / "foretell" / "environments"


def _predict(model: object, *more: object, stdin: bytes = ROWS, **variables: str) -> Ran:
    return foretell(
        "models", "predict", "-m", model, "-t", "csv", "--keep", "none", "--env-manager", "uv", *more,
        stdin=stdin, **variables,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["pickle", "free"])
def test_nothing_is_installed_before_trust(kind: str, tmp_path: Path) -> None:
    """A model's packages run code when they are installed, so every model needs trust for that."""
    model = _iris(Path("m")) if kind == "free" else folder(Path("m"), PACKAGE)
    ran = _predict(model, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert (3, "") == (ran.code, ran.out)
    assert "requirements.txt (packages to install)" in ran.err
    assert not (tmp_path / "cache").exists()


def test_a_model_runs_in_the_environment_that_it_requires(
    made: tuple[Path, list[str]], cache: Path, tmp_path: Path
) -> None:
    """Answers are those of where it was trained; a second run needs no uv, and without the option it does not load."""
    LocalRegistry(Path(FOLDER)).add("logs", made[0], "Production", None)
    first = _predict("models:/logs/Production", "--trust")
    assert (0, ["prediction", *made[1]]) == (first.code, first.out.split()), first.err
    assert "note: Making an environment for this model (3 packages) …\n" in first.err
    nowhere = tmp_path / "file"
    nowhere.touch()
    again = _predict("models:/logs/Production", "--trust", UV_CACHE_DIR=str(nowhere / "cache"))
    assert (0, first.out) == (again.code, again.out), again.err
    assert "Making" not in again.err
    assert 0o700 == cache.stat().st_mode & 0o777
    local = foretell("models", "predict", "-m", "models:/logs/1", "--trust", "-t", "csv", stdin=ROWS)
    assert 3 == local.code
    assert "needs toolz 1.0.0, which is not installed\n  pip install toolz==1.0.0, or --env-manager uv\n" in local.err


@pytest.mark.parametrize("workers", [1, 2])
def test_a_model_is_served_from_its_environment(made: tuple[Path, list[str]], cache: Path, workers: int) -> None:
    """Server processes run there too, and end as any other."""
    with serving("-m", made[0], "--trust", "--env-manager", "uv", "-w", workers) as server:
        reply = server.post(json.dumps({"data": [[1.0, 2.0], [3.0, -4.0]]}))
        assert (200, [float(said) for said in made[1]]) == (reply.status, reply.json()["predictions"])
        server.process.send_signal(signal.SIGTERM)
        assert 0 == server.process.wait(60)


def test_a_build_that_is_killed_counts_for_nothing(uv: dict[str, str], tmp_path: Path) -> None:
    """What a killed build left is no environment; of two next ones one makes it, and the other waits and uses it."""
    model, home = _iris(Path("m")), tmp_path / "cache"
    variables = {**os.environ, "XDG_CACHE_HOME": str(home), **uv}
    command = [*COMMAND, "models", "predict", "-m", str(model), "-t", "csv", "--keep", "none", "--trust"]
    command += ["--env-manager", "uv"]

    def start() -> subprocess.Popen[bytes]:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, env=variables, start_new_session=True, **pipes)

    environments = home / "foretell" / "environments"
    killed = start()
    while killed.poll() is None and not list(environments.glob(".*.draft/lib/python*/site-packages/*")):
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    assert -signal.SIGKILL == killed.returncode
    assert ([], 1) == (list(environments.glob("[!.]*")), len(list(environments.glob(".*.draft"))))
    ended = [process.communicate(FLOWERS) for process in [start(), start()]]
    assert [b"prediction\n0\n2\n"] * 2 == [out for out, _ in ended], ended
    assert 1 == sum(err.count(b"Making an environment") for _, err in ended)
    assert 1 == sum(err.count(b"waiting for it") for _, err in ended)
    assert (1, []) == (len(list(environments.glob("[!.]*"))), list(environments.glob(".*.draft")))


INDEX = "--index" + "-url"
"""The option that would let a model choose where packages come from."""

HOSTILE = {
    "index-url": f"{INDEX} https://evil.example/simple",
    "extra-index-url": f"numpy==2.0.0 --extra-{INDEX[2:]} https://evil.example/simple",
    "find-links": "-f /tmp/wheels",
    "requirements": "-r /etc/passwd",
    "constraints-elsewhere": "-c ../constraints.txt",
    "editable": "-e .",
    "url": "numpy @ https://evil.example/numpy.whl",
    "vcs": "git+https://evil.example/numpy.git",
    "path": "./numpy-2.0.0.tar.gz",
    "file": "/tmp/numpy.whl",
    "command": "numpy==2.0.0; rm -rf /",
    "substitution": "numpy==$(touch ran)",
    "backticks": "numpy==`touch ran`",
    "arbitrary-equality": "numpy===2.0.0-anything",
    "variable": "${HOME}==1",
    "kelvin": "\u212aeras==1.0",
    "full-width": "numpy\uff1d\uff1d2.0.0",
    "right-to-left": "numpy==2.0.0 \u202e# x",
    "null": "numpy\0==2.0.0",
    "control": "numpy\x1b[2J==2.0.0",
    "line-separator": f"numpy==2.0.0\u2028{INDEX}=x",
    "form-feed": f"numpy==2.0.0\f{INDEX}=x",
    "brackets": "numpy; " + "(" * 900 + "python_version > '3'",
    "unknown-marker": "numpy; danger == 'yes'",
    "long-line": "numpy" + "," * (1 << 20),
    "many-lines": "numpy==2.0.0\n" * 3000,
    "no-text": b"numpy\xff\xfe==2.0.0",
}


@pytest.mark.parametrize("line", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_plain_requirement_never_reaches_an_installer(line: str | bytes, tmp_path: Path) -> None:
    """Options, urls, paths and tricks are refused in two lines, also for a trusted model, before anything is made."""
    text = line if isinstance(line, bytes) else f"{PACKAGE}\n{line}\n".encode()
    model = folder(Path("m"), text)
    ran = _predict(model, "--trust", XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert (3, "", 2) == (ran.code, ran.out, len(ran.err.splitlines()))
    assert "is no plain requirement" in ran.err
    assert len(ran.err) < 600 and ran.err.replace("\n", "").isprintable()
    assert not (tmp_path / "cache").exists() and not Path("ran").exists()


def test_a_model_without_requirements_has_no_environment(tmp_path: Path) -> None:
    """Where nobody knows what a model requires, that is said."""
    ran = _predict(folder(Path("m"), None), "--trust", XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert (3, True) == (ran.code, "has no requirements.txt" in ran.err)


def test_requirements_that_cannot_be_had_together_are_refused(cache: Path) -> None:
    """uv's own reason is shown, and nothing is left."""
    before = sorted(cache.glob("*"))
    ran = _predict(folder(Path("m"), "numpy==2.0.1\nnumpy==2.0.2\n"), "--trust")
    assert (3, "") == (ran.code, ran.out)
    assert "error: uv could not make the model's environment: " in ran.err and "numpy" in ran.err
    assert before == [path for path in sorted(cache.glob("*")) if path.suffix != ".lock" or path in before]


def test_a_folder_that_others_can_write_to_is_not_used(tmp_path: Path) -> None:
    """Nobody else can put an environment where ours are."""
    environments = tmp_path / "cache" / "foretell" / "environments"
    environments.mkdir(parents=True)
    environments.chmod(0o777)
    ran = _predict(folder(Path("m"), PACKAGE), "--trust", XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert (2, True) == (ran.code, "can be written by others, so nothing in it is run" in ran.err)
    assert [] == list(environments.iterdir())


def test_a_missing_uv_is_named(tmp_path: Path) -> None:
    """Without uv, the line says how to get it."""
    model = folder(Path("m"), PACKAGE)
    absent = "import sys; sys.modules['uv'] = None; sys.executable = '/nowhere/python'; "
    absent += "from foretell.cli.main import main; main()"
    arguments = ["models", "predict", "-m", str(model), "--trust", "--env-manager", "uv"]
    variables = {**os.environ, "PATH": "/nowhere", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    ran = subprocess.run([sys.executable, "-c", absent, *arguments], env=variables, capture_output=True, text=True)
    assert 3 == ran.returncode
    assert "error: --env-manager uv needs uv, which is not installed\n  pip install 'foretell[uv]'\n" == ran.stderr


def test_files_that_changed_meanwhile_are_refused() -> None:
    """The command goes on with the very files that were trusted, or not at all."""
    model = folder(Path("m"), PACKAGE)
    ran = foretell("models", "predict", "-m", model, "--trust", "--digest", "sha256:0", "-t", "csv", stdin=ROWS)
    assert (3, True) == (ran.code, "was changed while its environment was made" in ran.err)


PLAIN = {
    "pin": ("Scikit_Learn==1.5.2", "scikit-learn==1.5.2", "1.5.2"),
    "extras": ("uvicorn[standard, a] >=0.30,<1", "uvicorn[a,standard]<1,>=0.30", None),
    "bare": ("numpy", "numpy", None),
    "wildcard": ("numpy==2.*", "numpy==2.*", None),
    "archive-name": ("evil.zip", "evil-zip", None),
    "marker": ("numpy==2.0.0; python_version > '3'", "numpy==2.0.0", "2.0.0"),
}


@pytest.mark.parametrize(("line", "asked", "pin"), PLAIN.values(), ids=PLAIN)
def test_plain_requirements_are_read(line: str, asked: str, pin: str | None) -> None:
    """A package's name and versions, in one canonical form."""
    found = parse(line)
    assert found is not None
    assert (asked, pin, True) == (found.asked, found.pin, found.here)


def test_comments_hashes_markers_and_continued_lines_are_read() -> None:
    """What pip writes and reads, foretell reads; hashes go along to the installer."""
    digest = "a" * 64
    text = f"\ufeff# a comment\r\nnumpy==2.0.0 \\\r\n  --hash=sha256:{digest}  # why\r\npip; python_version < '3'\n"
    found = requirements.of(read(folder(Path("m"), text)), "sklearn")
    assert ((), True) == (found.refused, found.there)
    hashed = f"numpy==2.0.0 --hash=sha256:{digest}"
    assert [(hashed, True), ('pip; python_version < "3"', False)] == [(p.line, p.here) for p in found.packages]


SAVE = """
import sys
from pathlib import Path
import mlflow
from sklearn.linear_model import LinearRegression
Path("bounds.txt").write_text("scipy<99\\n")
asked = ["scikit-learn==1.5.2", "xgboost==3.2.0", "xgboost-cpu==3.2.0", "-c bounds.txt"]
mlflow.sklearn.save_model(LinearRegression().fit([[1.0], [2.0]], [1.0, 2.0]), sys.argv[1], pip_requirements=asked)
"""


@pytest.mark.parametrize("python", [sys.executable, str(OLDER)], ids=["mlflow3", "mlflow2"])
def test_what_mlflow_writes_is_read(python: str) -> None:
    """mlflow's own requirements and constraints, without mlflow itself and without a second package of one library."""
    subprocess.run([python, "-W", "ignore", "-c", SAVE, "m"], check=True, capture_output=True)
    assert "-c constraints.txt" in Path("m/requirements.txt").read_text()
    found = requirements.of(read(Path("m")), "sklearn")
    assert (["scikit-learn==1.5.2", "xgboost-cpu==3.2.0"], ()) == ([p.asked for p in found.packages], found.refused)
    assert ["scipy<99"] == [package.line for package in found.constraints]
    assert "mlflow" in {package.name for package in requirements.of(read(Path("m")), "python_function").packages}
    assert SKLEARN == requirements.saved_with(read(Path("m")), "sklearn")


FIX = "pip install scikit-learn==1.5.2"
OTHER = f"saved with scikit-learn 1.5.2, and {SKLEARN} is installed here; answers may differ: {FIX}"
SAID = {
    "same": ("", {"sklearn_version": SKLEARN}, {}, []),
    "same-but-local": ("", {"sklearn_version": f"{SKLEARN}+cpu"}, {}, []),
    "other": ("", {"sklearn_version": "1.5.2"}, {}, [f"{OTHER}, or --env-manager uv"]),
    "other-in-requirements": ("scikit-learn==1.5.2", {}, {}, [f"{OTHER}, or --env-manager uv"]),
    "no-requirements": (None, {"sklearn_version": "1.5.2"}, {}, [OTHER]),
    "odd-requirements": ("-r x", {"sklearn_version": "1.5.2"}, {}, [OTHER]),
    "nothing-known": ("numpy", {}, {}, []),
    "no-version": ("", {"sklearn_version": "$(touch x)"}, {}, []),
    "stable-format": ("", {"sklearn_version": "1.5.2"}, {"model_path": "model.ubj"}, []),
}


@pytest.mark.parametrize(("lines", "entry", "function", "expected"), SAID.values(), ids=SAID)
def test_another_version_is_worth_one_line_where_it_may_matter(
    lines: str | None, entry: dict[str, Any], function: dict[str, Any], expected: list[str]
) -> None:
    """A pickle is bound to its library's version; formats that libraries keep readable are not."""
    model = read(folder(Path("m"), lines, entry=entry, function=function))
    assert expected == list(requirements.notes(model, "sklearn"))


def test_the_note_stands_before_the_predictions() -> None:
    """A model of another version is predicted with, and the one line is said once."""
    model = folder(Path("m"), "", entry={"sklearn_version": "1.5.2"})
    ran = foretell("models", "predict", "-m", model, "--trust", "-t", "csv", stdin=ROWS)
    assert (0, 1) == (ran.code, ran.err.count("note: ")), ran.err
    assert f"note: {OTHER}, or --env-manager uv\n" in ran.err


def test_a_bare_file_of_another_version_says_so_itself() -> None:
    """scikit-learn's pickles hold their version; without a description, that one is shown."""
    state = LinearRegression().fit([[1.0, 2.0], [3.0, 5.0]], [1.0, 2.0]).__getstate__()
    Path("m.pkl").write_bytes(pickle.dumps(_Older({**state, "_sklearn_version": "1.5.2"})))
    ran = foretell("models", "predict", "-m", "m.pkl", "--trust", "-t", "csv", stdin=ROWS)
    assert (0, 1) == (ran.code, ran.err.count("note: ")), ran.err
    assert f"note: {OTHER}\n" in ran.err


class _Older:
    """Pickles as an estimator that an older scikit-learn wrote."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    def __reduce__(self) -> Any:
        return LinearRegression, (), self.state


PYTHONS = {"same": (HERE, []), "minor": ("3.8.1", ["3.8.1"]), "patch": (HERE.rsplit(".", 1)[0] + ".99", [])}


@pytest.mark.parametrize(("python", "expected"), PYTHONS.values(), ids=PYTHONS)
def test_a_python_function_of_another_python_says_so(python: str, expected: list[str]) -> None:
    """Functions are pickled as bytecode, which every minor version has its own of."""
    model = read(folder(Path("m"), "", function={"python_version": python}))
    said = requirements.notes(model, "python_function")
    assert [f"saved with Python {p}, and this is {HERE}; it may not load: --env-manager uv" for p in expected] == [
        *said
    ]


BROKEN = {
    "moved-module": b"csklearn.linear_model.base_of_old\nLinear\n.",
    "moved-class": b"csklearn.linear_model\nLinearOfOld\n.",
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_a_model_of_another_version_that_does_not_load_is_mended_by_its_own(data: bytes) -> None:
    """Where loading fails and versions differ, the hint is the command that installs the model's own."""
    path = folder(Path("m"), "mlflow==1.0\nscikit-learn==1.5.2\nnumpy==1.26.4\n")
    (path / "model.pkl").write_bytes(data)
    with pytest.raises(ModelUnreadable) as caught:
        load(Settled(read(path), "sklearn", True))
    assert f": {FIX} numpy==1.26.4, or --env-manager uv" in caught.value.hint
    assert caught.value.hint.startswith(f"saved with scikit-learn 1.5.2, and {SKLEARN} is installed here")


MISSING = {
    "pinned": ("mlflow==1.0\nscikit-learn==1.5.2\ntoolz==1.0.0\n", "scikit-learn 1.5.2", f"{FIX} toolz==1.0.0"),
    "range": ("scikit-learn<2\n", "scikit-learn<2", "pip install 'scikit-learn<2'"),
    "not-named": ("numpy\n", "sklearn", "pip install 'foretell[sklearn]'"),
}


@pytest.mark.parametrize(("lines", "named", "command"), MISSING.values(), ids=MISSING)
def test_a_missing_library_is_installed_as_the_model_requires(lines: str, named: str, command: str) -> None:
    """One command installs what the model was saved with, and all else of its requirements that is not there."""
    model = folder(Path("m"), lines)
    absent = "import sys; sys.modules['sklearn'] = None; from foretell.cli.main import main; main()"
    arguments = ["models", "predict", "-m", str(model), "--trust", "-t", "csv"]
    ran = subprocess.run([sys.executable, "-c", absent, *arguments], input="a,b\n", capture_output=True, text=True)
    assert 3 == ran.returncode
    assert f"needs {named}, which is not installed\n  {command}" in ran.stderr
    assert 2 == len(ran.stderr.splitlines())
