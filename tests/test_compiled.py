"""Compiled models: folders of their own, entries of the cache, and what hostile ones of either may not do."""

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sklearn.neighbors import KNeighborsClassifier

import foretell as library
from conftest import COMMAND, PATIENCE, foretell, rows_of, serving
from engines import Ready, compile_, predicted, summary, write_rows
from foretell import predictor, storage
from foretell.compiler import candidates
from foretell.compiler.compile import compile_model
from foretell.errors import ModelError
from foretell.kernels import stored
from foretell.models import requirements

pytestmark = pytest.mark.usefixtures("automatic")

# The compiled folder: a model of its own.


@pytest.fixture
def folder(models: Path, ready: Ready) -> Path:
    made = ready(models / "logistic").compiled("kernel")
    assert made is not None
    return Path(shutil.copytree(made, "compiled"))


def test_a_compiled_folder_is_a_model(models: Path, ready: Ready) -> None:
    """predict and serve take it, inspect shows it, and it answers what the model answers."""
    ready(models / "logistic")
    compile_(models / "logistic", "-o", "folder")
    folder = Path("folder")
    write_rows(models, "logistic")
    expected, _ = predicted(models / "logistic", "--engine", "native", "--proba")
    assert expected == predicted(folder, "--proba")[0]
    body = json.dumps({"data": rows_of(models, "logistic")[1]})
    with serving("-m", models / "logistic", "--engine", "native") as server:
        answer = server.post(body).body
    with serving("-m", folder) as server:
        assert answer == server.post(body).body
    told = json.loads(foretell("models", "inspect", "-m", folder, "--json").out)
    assert ("foretell", "free", "kernel") == (told["flavour"], told["trust"], told["engine"])


def test_a_compiled_folder_needs_only_the_core(folder: Path, models: Path, tmp_path: Path) -> None:
    """In a fresh environment with nothing but the core installed it predicts and serves the same."""
    write_rows(models, "logistic")
    expected, _ = predicted(models / "logistic", "--engine", "native", "--proba")
    fresh = tmp_path / "fresh"
    uv = [str(Path(sys.executable).with_name("uv"))]
    bounds = Path(__file__).parent.parent / "requirements" / "run.txt"
    _run([*uv, "venv", "--quiet", "--python", sys.executable, str(fresh)])
    python = str(fresh / "bin" / "python")
    core = [package.line for package in requirements.own("")]
    _run([*uv, "pip", "install", "--quiet", "--python", python, "--constraints", str(bounds), *core])
    package = Path(library.__file__).parent
    shutil.copytree(package, next(fresh.glob("lib/python*/site-packages")) / "foretell")
    there = subprocess.run(
        [
            python,
            "-c",
            "import importlib.util as u; print([n for n in ('sklearn', 'pandas', 'skops') if u.find_spec(n)])",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "[]" == there.stdout.strip()
    _run(
        [python, "-m", "foretell", "models", "predict", "-m", str(folder), "-i", "in.csv", "-o", "there.csv", "--proba"]
    )
    assert expected == Path("there.csv").read_bytes()


def _run(command: list[str]) -> None:
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert 0 == ran.returncode, ran.stderr


FILES = ["MLmodel", "record.json", "SHA256SUMS", "example.json", "kernel/kernel.json", "kernel/0.npy"]


@pytest.mark.parametrize("name", FILES)
def test_one_changed_byte_is_refused(folder: Path, name: str) -> None:
    """A compiled model is whole or not used: a byte changed in any file ends with 3 and names it."""
    path = folder / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    ran = foretell("models", "predict", "-m", folder, "-t", "csv", stdin=b"a\n1\n")
    assert (3, "") == (ran.code, ran.out)
    assert 1 <= len(ran.err.splitlines()) <= 2, ran.err


@pytest.mark.parametrize("name", ["more", "kernel/7.npy"])
def test_a_file_more_or_less_is_refused(folder: Path, name: str) -> None:
    """So is a file that was added, and one that is gone."""
    (folder / name).write_bytes(b"more")
    ran = foretell("models", "predict", "-m", folder, "-t", "csv", stdin=b"a\n1\n")
    assert (3, True) == (ran.code, name in ran.err)
    (folder / name).unlink()
    (folder / "kernel" / "0.npy").unlink()
    ran = foretell("models", "predict", "-m", folder, "-t", "csv", stdin=b"a\n1\n")
    assert (3, True) == (ran.code, "is missing" in ran.err)


def test_a_compiled_folder_is_not_cast(folder: Path) -> None:
    """Other types than it was proven for are refused, and so is another engine."""
    for flags in (["--cast", "sepal length (cm)=float"], ["--engine", "onnx"]):
        ran = foretell("models", "predict", "-m", folder, *flags, "-t", "csv", stdin=b"a\n1\n")
        assert (2, 2) == (ran.code, len(ran.err.splitlines())), ran.err
    assert 2 == foretell("models", "inspect", "-m", folder, "--cast", "sepal length (cm)=float").code
    assert 2 == foretell("models", "compile", "-m", folder).code


# The cache.


def test_what_it_depends_on_must_be_the_same(models: Path, ready: Ready) -> None:
    """A proof for another numpy, processor or library does not count here."""
    place = ready(models / "logistic")
    record = place.record()
    assert record is not None
    whole = json.loads((place.folder / "record.json").read_bytes())
    for name in record.made:
        made = {**record.made, name: "another"}
        (place.folder / "record.json").write_text(json.dumps({**whole, "record": {**whole["record"], "made": made}}))
        assert (None, None) == (place.record(), place.chosen())
    (place.folder / "record.json").write_text(json.dumps(whole))
    assert place.chosen() is not None


def test_a_damaged_cache_is_not_used(models: Path, ready: Ready) -> None:
    """A cached engine that was changed is said and not used; the library predicts."""
    write_rows(models, "logistic")
    expected, _ = predicted(models / "logistic", "--engine", "native")
    folder = ready(models / "logistic").compiled("kernel")
    assert folder is not None
    (folder / "kernel" / "0.npy").write_bytes(b"")
    got, said = predicted(models / "logistic")
    assert expected == got
    assert "0.npy was changed or added since the model was compiled; it is not used" in said


def test_a_cache_that_others_can_write_to_is_not_used(models: Path, ready: Ready) -> None:
    """What somebody else may have put there is no proof."""
    write_rows(models, "logistic")
    ready(models / "logistic").folder.parent.chmod(0o777)
    assert "scikit-learn" in predicted(models / "logistic")[1]
    refused = foretell("models", "compile", "-m", models / "logistic")
    assert (2, True) == (refused.code, "can be written by others" in refused.err)


def test_an_engine_of_another_model_is_not_used(models: Path, ready: Ready) -> None:
    """A compiled model names the digest of the one that it was made of, and stands for no other."""
    one, other = ready(models / "logistic"), ready(models / "nosignature.skops")
    folder, others = one.chosen(), other.chosen()
    assert folder is not None
    assert others is not None
    shutil.rmtree(folder)
    shutil.copytree(others, folder)
    write_rows(models, "logistic")
    _, said = predicted(models / "logistic")
    assert "was not compiled of" in said
    assert "scikit-learn" in summary(said)


def test_nothing_of_a_compiled_pickle_runs(models: Path, flavours: Path) -> None:
    """Once a trusted pickle was compiled, predicting needs no trust, as nothing of it is loaded; its library does."""
    model = flavours / "mlflow2" / "sklearn"
    write_rows(flavours, "mlflow2/sklearn")
    refused = foretell("models", "compile", "-m", model)
    assert (3, True) == (refused.code, "would run code" in refused.err)
    compile_(model, "--trust")
    assert "compiled kernel" in predicted(model)[1]
    assert 3 == foretell("models", "predict", "-m", model, "--engine", "native", "-i", "in.csv").code


def test_inspect_tells_what_is_known_without_loading(models: Path) -> None:
    """A model that was not compiled shows its columns, its trust, and what to do."""
    told = json.loads(foretell("models", "inspect", "-m", models / "pipeline", "--json").out)
    assert ("sklearn", "needed", "native", "not compiled yet") == (
        told["flavour"],
        told["trust"],
        told["engine"],
        told["why"],
    )
    page = " ".join(foretell("models", "inspect", "-m", models / "pipeline").out.split())
    for part in ("model.pkl (a pickle)", "6 columns: age double, city string", "foretell models compile"):
        assert part in page
    assert 3 == foretell("models", "inspect", "-m", "nowhere").code


def test_what_was_compiled_with_a_cast_is_shown_with_it(models: Path) -> None:
    """--cast and --schema name another entry of the cache: inspect takes them as compile does, as text and as JSON."""
    model, cast = models / "logistic", "sepal length (cm)=float"
    compile_model(predictor.find(str(model), engine="native"), cast={"sepal length (cm)": "float"})
    told = json.loads(foretell("models", "inspect", "-m", model, "--cast", cast, "--json").out)
    assert ("float", "kernel") == (told["signature"]["inputs"][0]["type"], told["engine"])
    page = " ".join(foretell("models", "inspect", "-m", model, "--cast", cast).out.split())
    proof = told["record"]["tried"][1]["verified"]
    sorts = f"{proof['answered']:,} that the library answers, {proof['refused']:,} that it refuses"
    for part in (
        "sepal length (cm) float",
        "engine compiled kernel",
        sorts,
        f"equal to the bit on {proof['answered']:,}",
    ):
        assert part in page
    told = json.loads(foretell("models", "inspect", "-m", model, "--schema", _schema(), "--json").out)
    assert (["a"], "not compiled yet") == ([column["name"] for column in told["signature"]["inputs"]], told["why"])
    refused = foretell("models", "inspect", "-m", model, "--cast", "height=float")
    assert (2, True) == (refused.code, "has no column 'height'" in refused.err)


def test_an_engine_by_name_is_used(models: Path, ready: Ready) -> None:
    """--engine NAME takes that engine; one that cannot be made ends with 3 and says why."""
    ready(models / "logistic")
    write_rows(models, "logistic")
    assert "compiled kernel" in predicted(models / "logistic", "--engine", "kernel")[1]
    near = KNeighborsClassifier(1).fit([[0.0], [1.0]], [0, 1])
    Path("near.pkl").write_bytes(pickle.dumps(near))
    refused = foretell("models", "predict", "-m", "near.pkl", "--trust", "--engine", "kernel", "-i", "in.csv")
    assert (3, True) == (refused.code, "does not cover KNeighborsClassifier" in refused.err)
    refused = foretell("models", "predict", "-m", models / "onnx", "--engine", "kernel", "-i", "in.csv")
    assert (3, True) == (refused.code, "there is no engine 'kernel'" in refused.err)
    with pytest.raises(ModelError, match="does not cover"):
        library.load("near.pkl", engine="kernel", trust=True)
    assert "compiled kernel" in repr(library.load(str(models / "logistic"), engine="kernel"))


def test_hostile_kernels_are_refused(models: Path, tmp_path: Path) -> None:
    """A kernel's file holds nodes of the table and plain arrays, or it is refused."""
    native = predictor.open(str(models / "logistic"))
    next(candidates._kernels(native)).files(tmp_path)
    whole = json.loads((tmp_path / "kernel" / "kernel.json").read_bytes())
    for change in ({"format": 99}, {"kernel": {"node": "os.system", "fields": {}}}, {"arrays": 0}, {"kernel": [1]}):
        (tmp_path / "kernel" / "kernel.json").write_text(json.dumps({**whole, **change}))
        with pytest.raises(ModelError):
            stored.read(tmp_path / "kernel")


HOSTILE_PICKLE = """
import pathlib, pickle, socket, sys
class Model:
    def __reduce__(self):
        return exec, (CODE,)
pathlib.Path(sys.argv[1]).write_bytes(pickle.dumps(Model()))
"""


def pickle_that(folder: Path, code: str) -> Path:
    """A pickle which runs code when it is loaded."""
    path = folder / "model.pkl"
    _run([sys.executable, "-c", HOSTILE_PICKLE.replace("CODE", repr(code)), str(path)])
    return path


USERS: dict[str, list[str]] = {
    "whoever this is": [],
    "an ordinary user": ["unshare", "--user", "--map-user=1000", "--map-group=1000"],
}
"""What a command begins with to run as them; an ordinary user has no rights but to what is theirs."""


@pytest.mark.parametrize("user", USERS)
def test_an_untrusted_pickle_is_compiled_in_the_sandbox_only(user: str, models: Path) -> None:
    """With --sandbox its library computes where nothing can be harmed, and then it predicts without trust."""
    model = models / "pipeline"
    write_rows(models, "pipeline")
    expected, _ = predicted(model, "--trust", "--engine", "native")
    command = [*USERS[user], *COMMAND, "models", "compile", "-m", str(model), "--sandbox", "--json"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert 0 == ran.returncode, ran.stderr
    told = json.loads(ran.stdout)
    assert ("needed", "kernel") == (told["trust"], told["engine"])
    got, said = predicted(model)
    assert (expected, True) == (got, "compiled kernel" in said)


LEAVES: dict[str, tuple[str, str]] = {
    "nothing": ("import os; os._exit(0)", "cannot be read"),
    "an error": ("raise SystemExit('no')", "could not be compiled in the sandbox"),
    "a link": (
        "import os, pathlib; at = pathlib.Path(os.environ['FORETELL_CACHE']) / 'engines'; "
        "at = next(at.iterdir()); (at / 'record.json').symlink_to('/etc/hostname'); os._exit(0)",
        "cannot be read",
    ),
    "a pipe": (
        "import os, pathlib; at = pathlib.Path(os.environ['FORETELL_CACHE']) / 'engines'; "
        "at = next(at.iterdir()); os.mkfifo(at / 'record.json'); os._exit(0)",
        "no plain file",
    ),
    "another's record": (
        "import os, pathlib; at = pathlib.Path(os.environ['FORETELL_CACHE']) / 'engines'; "
        "at = next(at.iterdir()); (at / 'record.json').write_text('{}'); os._exit(0)",
        "cannot be read",
    ),
}


@pytest.mark.parametrize("kind", LEAVES)
def test_what_a_sandbox_leaves_is_a_strangers(kind: str, tmp_path: Path) -> None:
    """What hostile code leaves there is refused in a line, and nothing of it is in use."""
    code, said = LEAVES[kind]
    model = pickle_that(tmp_path, code)
    ran = foretell("models", "compile", "-m", model, "--sandbox", "--schema", _schema())
    assert ran.code != 0
    assert said in ran.err
    assert 2 >= len([line for line in ran.err.splitlines() if not line.startswith("note:")])
    folder = next(Path(os.environ["FORETELL_CACHE"], "engines").iterdir())
    assert [".lock"] >= [path.name for path in folder.iterdir()]


def test_the_sandbox_hides_what_is_outside(tmp_path: Path) -> None:
    """Code in a model sees no home and changes nothing of ours."""
    secret = Path.home() / "secret"
    secret.write_text("mine")
    code = (
        f"import os, pathlib; seen = pathlib.Path({str(secret)!r}).exists(); "
        f"pathlib.Path({str(secret)!r}).write_text('theirs') if seen else None; raise SystemExit(f'saw {{seen}}')"
    )
    ran = foretell("models", "compile", "-m", pickle_that(tmp_path, code), "--sandbox", "--schema", _schema())
    assert "could not be compiled" in ran.err
    assert "mine" == secret.read_text()


def _schema() -> str:
    Path("schema.json").write_text('[{"name": "a", "type": "double"}]')
    return "schema.json"


def test_a_lightgbm_estimator_can_be_asked_beside_its_kernel(flavours: Path, ready: Ready) -> None:
    """A job that computes by the kernel can still ask the estimator, and does not demote what is equal; the booster
    alone predicts by its name."""
    model = flavours / "mlflow3" / "lgb_classifier"
    place = ready(model, seen=False)
    write_rows(flavours, "mlflow3/lgb_classifier")
    _, said = predicted(model)
    assert "compiled kernel" in summary(said)
    assert (None, True) == (place.demoted(), place.seen() > 0)
    assert "LightGBM booster" in summary(predicted(model, "--engine", "booster")[1])


def test_a_demoted_model_is_compiled_anew(models: Path, ready: Ready) -> None:
    """A compilation does not count what real data has refuted."""
    place = ready(models / "logistic")
    first = place.record()
    place.demote("it was wrong")
    compile_(models / "logistic", "-o", "folder")
    assert None is place.demoted()
    assert first != place.record()


def test_what_is_there_is_kept(models: Path, ready: Ready) -> None:
    """Compiling to a folder leaves everything beside it alone, and says at once where that cannot be."""
    ready(models / "logistic")
    Path(".folder.draft").mkdir()
    compile_(models / "logistic", "-o", "folder")
    assert {"folder", ".folder.draft"} == {path.name for path in Path.cwd().iterdir()}
    for target in ("folder", "no/such/folder"):
        ran = foretell("models", "compile", "-m", models / "logistic", "-o", target)
        assert ran.code in (1, 2)
        assert "" == ran.out


def rewritten(folder: Path, name: str, change: Callable[[Any], Any]) -> None:
    """A stranger's folder: one of its JSON files changed, and sums that fit."""
    described = json.loads((folder / name).read_bytes())
    change(described)
    (folder / name).write_text(json.dumps(described))
    (folder / "SHA256SUMS").unlink()
    lines = "".join(f"{storage.sha256(path)}  {file}\n" for file, path in storage.files_under(folder))
    (folder / "SHA256SUMS").write_text(f"{lines}{hashlib.sha256(lines.encode()).hexdigest()}  SHA256SUMS\n")


def _own(described: Any) -> Any:
    return described["flavors"]["foretell"]


STRANGE: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "another engine": ("MLmodel", lambda d: _own(d).update(engine="../../x")),
    "huge cells": ("MLmodel", lambda d: _own(d)["signature"]["inputs"][0].update(shape=[10**30])),
    "huge rows": ("MLmodel", lambda d: _own(d)["signature"].update(rows=10**12)),
    "no such type": ("MLmodel", lambda d: _own(d)["signature"]["inputs"][0].update(type="os.system")),
    "names twice": ("MLmodel", lambda d: _own(d).update(names=["a", "a", "a", "a"])),
    "no names": ("MLmodel", lambda d: _own(d).update(names=[])),
    "a huge block": ("kernel/kernel.json", lambda d: d["kernel"]["fields"]["head"]["fields"].update(block=10**10)),
    "no block": ("kernel/kernel.json", lambda d: d["kernel"]["fields"]["head"]["fields"].update(block=0)),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_a_strangers_folder_is_refused_in_a_line(kind: str, folder: Path) -> None:
    """What does not hold together is refused before a row is read, whatever its sums say."""
    rewritten(folder, *STRANGE[kind])
    ran = foretell("models", "predict", "-m", folder, "-t", "csv", stdin=b"a\n1\n")
    assert (3, "") == (ran.code, ran.out)
    assert 1 <= len(ran.err.splitlines()) <= 2, ran.err


def test_a_strangers_words_are_only_shown(folder: Path) -> None:
    """Names that look like markup or that a terminal would obey are printed as they are, or spelled out."""
    rewritten(folder, "MLmodel", lambda d: _own(d)["signature"]["inputs"][0].update(name="k[/b]\x1b[2J"))
    rewritten(folder, "MLmodel", lambda d: _own(d).update(names=None))
    rewritten(folder, "record.json", lambda d: d["tried"][0].update(label="[/x]"))
    ran = foretell("models", "inspect", "-m", folder)
    assert 0 == ran.code, ran.err
    assert "k[/b]\\x1b[2J" in ran.out
    assert "[/x]" in ran.out


def test_a_record_that_cannot_be_is_none(folder: Path) -> None:
    """Times of nothing are no measurement, and what is left of the model is still shown."""
    rewritten(folder, "record.json", lambda d: d["tried"][0]["seconds"].update({"1": 0}))
    ran = foretell("models", "inspect", "-m", folder)
    assert (0, True) == (ran.code, "not proven equal" in " ".join(ran.out.split())), ran.err


def test_a_cache_that_cannot_be_written_is_said(models: Path, ready: Ready) -> None:
    """What stands in the way of a compilation is one line."""
    place = ready(models / "logistic")
    (place.folder / ".lock").unlink()
    (place.folder / ".lock").mkdir()
    ran = foretell("models", "compile", "-m", models / "logistic", "--again")
    assert (1, True) == (ran.code, "cannot be written" in ran.err)
    assert 2 >= len(ran.err.splitlines())
