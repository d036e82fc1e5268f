"""Nothing of a model runs before its trust is settled: what is refused, what a yes covers, and what it does not."""

import io
import json
import os
import pickle
import pty
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import joblib
import numpy as np
import pytest
import skops.io
import yaml
from sklearn.datasets import load_iris
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor, HistGradientBoostingClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier

from conftest import COMMAND, PATIENCE, Ran, foretell
from foretell import predictor
from foretell.cli.main import exit_code, main
from foretell.errors import ForetellError, ModelError, ModelUnreadable, ModelUntrusted
from foretell.models.trust import open_store
from foretell.registry.local import FOLDER, LocalRegistry
from foretell.storage import digest_of, sha256

MARKER = "it-ran"
ROWS = b"a,b\n1,2\n3,4\n"


@dataclass
class Payload:
    """Pickles as code that leaves a file behind, in the working folder of whoever loads it, and gives a model."""

    answer: float = 7.0

    def __reduce__(self) -> Any:
        model = DummyRegressor(strategy="constant", constant=self.answer).fit([[0.0, 0.0]], [0.0])
        return eval, (f"[__import__('pathlib').Path({MARKER!r}).touch(), model][1]", {"model": model})


def _pickle(path: Path, answer: float = 7.0) -> Path:
    path.write_bytes(pickle.dumps(Payload(answer)))
    return path


def _joblib(path: Path) -> Path:
    joblib.dump(Payload(), path)
    return path


def mlflow_folder(path: Path = Path("saved"), *, sklearn: dict[str, Any] | None = None, **function: Any) -> Path:
    """A folder in MLflow's format, made by hand: a cloudpickle, its MLmodel, and what the keywords put into that."""
    path.mkdir()
    (path / "model.pkl").write_bytes(cloudpickle.dumps(Payload()))
    columns = [{"type": "double", "name": name, "required": True} for name in "ab"]
    entry = {"pickled_model": "model.pkl", "serialization_format": "cloudpickle", **(sklearn or {})}
    loader = {"loader_module": "mlflow.sklearn", "model_path": "model.pkl", **function}
    described = {
        "flavors": {"python_function": loader, "sklearn": entry},
        "signature": {"inputs": json.dumps(columns)},
    }
    (path / "MLmodel").write_text(yaml.safe_dump(described))
    return path


def _harmless(path: Path = Path("onnx")) -> Path:
    """The demo's model, which runs nothing."""
    shutil.copytree(Path(predictor.__file__).parent / "demo" / "iris", path)
    return path


def _foreign_loader() -> Path:
    made = _harmless()
    described = yaml.safe_load((made / "MLmodel").read_text())
    described["flavors"]["python_function"]["loader_module"] = "evil.loader"
    (made / "MLmodel").write_text(yaml.safe_dump(described))
    return made


def _own_code() -> Path:
    made = _harmless()
    described = yaml.safe_load((made / "MLmodel").read_text())
    described["flavors"]["python_function"]["code"] = "code"
    (made / "MLmodel").write_text(yaml.safe_dump(described))
    (made / "code").mkdir()
    (made / "code" / "own.py").write_text("")
    return made


def _neighbours() -> Path:
    x, y = load_iris(return_X_y=True)
    skops.io.dump(KNeighborsClassifier(algorithm="kd_tree").fit(x[:, :2], y), "model.skops")
    return Path("model.skops")


@pytest.fixture
def trust(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """`foretell models trust …` in this very process: the same from its arguments to its exit code."""

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["foretell", "models", "trust", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return Ran(ended.value.code if isinstance(ended.value.code, int) else 0, *capfd.readouterr())

    return run


def ran_code() -> bool:
    """Whether a payload ran, here or in a command."""
    return Path(MARKER).exists()


def assert_refused(ran: Ran, *said: str) -> None:
    """That the command ended with 3 and two lines that say all of that, and ran nothing."""
    assert (3, "") == (ran.code, ran.out), ran.err
    assert ran.err.startswith("error: ")
    assert len(ran.err.splitlines()) <= 2
    assert [] == [text for text in said if text not in ran.err], ran.err
    assert not ran_code()


def predict(model: object, *more: object, rows: bytes = ROWS, **environment: str) -> Ran:
    return foretell("models", "predict", "-m", model, *more, stdin=rows, **environment)


def answered(ran: Ran, answer: float = 7.0) -> bool:
    """Whether the payload's model predicted."""
    assert f"prediction\n{answer}\n{answer}\n" == ran.out, ran.err
    assert ran_code()
    return ran.code == 0


def untrusted(uri: str) -> ModelUntrusted:
    with pytest.raises(ModelUntrusted) as caught:
        predictor.find(uri)
    assert not ran_code()
    return caught.value


def registered(name: str = "my-model", answer: float = 7.0, root: Path = FOLDER) -> LocalRegistry:
    """The registry, with one more version of a pickle."""
    registry = LocalRegistry(root.absolute())
    registry.add(name, _pickle(Path("export.pkl"), answer), None, None)
    return registry


RUNS_CODE = {
    "pickle": lambda: _pickle(Path("model.pkl")),
    "pickle-suffix": lambda: _pickle(Path("model.pickle")),
    "joblib": lambda: _joblib(Path("model.joblib")),
    "cloudpickle-in-mlflow-folder": mlflow_folder,
    "pickle-that-calls-itself-skops": lambda: mlflow_folder(sklearn={"serialization_format": "skops"}),
    "loader-outside-mlflow": _foreign_loader,
    "code-folder": _own_code,
    "unreviewed-type-in-skops": _neighbours,
}


@pytest.mark.parametrize("make", RUNS_CODE.values(), ids=RUNS_CODE.keys())
def test_a_model_that_runs_code_is_refused_before_anything_of_it_is_loaded(make: Callable[[], Path]) -> None:
    """The refusal names the file and gives the line that would trust it; nothing was unpickled."""
    model = make()
    error = untrusted(str(model))
    assert 3 == exit_code(error)
    assert f"Loading {model} would run code" in error.message
    assert f"foretell models trust {model}" in error.hint
    assert "--trust" in error.hint
    assert error.file in error.message


@pytest.mark.parametrize("make", [RUNS_CODE["pickle"], mlflow_folder, registered], ids=["file", "folder", "registry"])
def test_both_doors_refuse_what_runs_code(make: Callable[[], Any]) -> None:
    """predict and serve end with 3 and the line to run, on two lines, and no port is opened."""
    made = make()
    model, what = (made, made) if isinstance(made, Path) else ("models:/my-model/latest", "models:/my-model")
    for verb in ("predict", "serve"):
        ran = foretell("models", verb, "-m", model)
        assert_refused(ran, f"Loading {model} would run code", f"foretell models trust {what}", "--trust")


def test_both_doors_load_a_model_that_is_trusted_for_once() -> None:
    """--trust loads this very model and is not remembered."""
    model = mlflow_folder()
    assert answered(predict(model, "--trust"))
    Path(MARKER).unlink()
    assert_refused(predict(model))


@pytest.mark.parametrize("make", RUNS_CODE.values(), ids=RUNS_CODE.keys())
def test_a_trusted_model_loads(make: Callable[[], Path]) -> None:
    """What is refused without trust is loaded with it."""
    model = str(make())
    opened = predictor.open(model, trust=True)
    assert len(opened.signature.inputs) == len(opened.example_rows()[0])
    assert ("pickle" in model or "joblib" in model or "pkl" in model or model == "saved") == ran_code()


@pytest.mark.parametrize("name", ["model.pkl", "my model.pkl", "it's a model.pkl"], ids=["plain", "space", "quote"])
def test_the_line_to_run_works_as_it_is_printed(name: str) -> None:
    """Whoever pastes the line of the refusal into a shell can predict afterwards."""
    model = _pickle(Path(name))
    paste(predict(model).err)
    assert not ran_code()
    assert answered(predict(model))


@pytest.mark.parametrize("how", ["flag", "environment", "nearest"])
def test_the_line_to_run_works_for_a_registry_elsewhere(how: str) -> None:
    """The line also names the registry, where it was named."""
    registered(root=FOLDER if how == "nearest" else Path("elsewhere"))
    flags = ["--registry", "elsewhere"] if how == "flag" else []
    environment = {"FORETELL_REGISTRY": "elsewhere"} if how == "environment" else {}
    paste(predict("models:/my-model/1", *flags, **environment).err, **environment)
    assert answered(predict("models:/my-model/1", *flags, **environment))


def paste(told: str, **environment: str) -> None:
    """Runs the line that a refusal gives."""
    line = told.splitlines()[1].partition("foretell ")[2].partition("   (")[0]
    ran = foretell(*shlex.split(line), **environment)
    assert 0 == ran.code, ran.err


def test_trust_for_a_name_covers_later_versions_and_nothing_else(trust: Callable[..., Ran]) -> None:
    """A retrained version needs no new yes; another name, another registry and a bare copy of the file do."""
    registered()
    trusted = trust("models:/my-model")
    assert (0, "") == (trusted.code, trusted.err)
    assert f"Trusted: every version of 'my-model' in {Path.cwd() / FOLDER}\n" == trusted.out
    registered(answer=8.0)
    assert answered(predict("models:/my-model/latest"), 8.0)
    Path(MARKER).unlink()

    registered("other", answer=9.0)
    registered(answer=9.0, root=Path("elsewhere"))
    untrusted("models:/other/1")
    untrusted("export.pkl")
    with pytest.raises(ModelUntrusted):
        predictor.find("models:/my-model/1", registry="elsewhere")


@pytest.mark.parametrize("uri", ["models:/my-model/1", "models:/my-model/latest", "export.pkl"])
def test_trust_for_a_version_covers_these_very_files(uri: str, trust: Callable[..., Ran]) -> None:
    """Trust by digest holds for the same bytes wherever they lie, and not for the next version."""
    registered()
    assert 0 == trust(uri).code
    assert predictor.find("models:/my-model/1").settled.trusted
    registered(answer=8.0)
    untrusted("models:/my-model/2")
    untrusted("export.pkl")


def test_a_name_that_is_not_there_cannot_be_trusted(trust: Callable[..., Ran]) -> None:
    """A misspelt name is answered with what there is, and nothing is noted."""
    registered()
    ran = trust("models:/my-modle")
    assert_refused(ran, "no model 'my-modle'", "models:/my-model/latest")
    assert not open_store().path.exists()


def _other_pickle(model: Path) -> None:
    _pickle(model / "model.pkl", 8.0)


def _other_file(model: Path) -> None:
    (model / "more.py").write_text("")


def _other_description(model: Path) -> None:
    (model / "MLmodel").write_text((model / "MLmodel").read_text() + "run_id: x\n")


@pytest.mark.parametrize("change", [_other_pickle, _other_file, _other_description], ids=lambda f: f.__name__[1:])
def test_trust_by_digest_does_not_cover_changed_files(
    change: Callable[[Path], None], trust: Callable[..., Ran]
) -> None:
    """A yes to these files is none to what they become."""
    model = mlflow_folder()
    assert 0 == trust(model).code
    assert predictor.find(str(model)).settled.trusted
    change(model)
    untrusted(str(model))


def test_no_file_that_is_loaded_is_left_out_of_the_digest(trust: Callable[..., Ran]) -> None:
    """registered_model_meta does not count in the digest, so a model that names it as its pickle is never covered."""
    model = mlflow_folder(sklearn={"pickled_model": "registered_model_meta"})
    (model / "model.pkl").rename(model / "registered_model_meta")
    trust(model)
    _pickle(model / "registered_model_meta", 8.0)
    with pytest.raises(ModelError):
        predictor.find(str(model))


def test_a_registry_cannot_claim_a_digest_that_is_trusted(trust: Callable[..., Ran]) -> None:
    """The digest comes from the files: a record that was written to look like a trusted model's is refused."""
    registry = registered()
    version = registry.version("my-model", 1)
    assert 0 == trust("models:/my-model/1").code
    _pickle(version.path, 8.0)
    record = json.loads((version.folder / "version.json").read_text())
    record["files"] = {name: sha256(version.folder / "files" / name) for name in record["files"]}
    assert record["digest"] != digest_of(record["files"])
    (version.folder / "version.json").write_text(json.dumps(record))
    with pytest.raises(ModelError):
        predictor.find("models:/my-model/1")


@pytest.mark.parametrize(
    ("said", "trusted"),
    [
        pytest.param("1", True, id="everything"),
        pytest.param("{digest}", True, id="digest"),
        pytest.param("sha256:00,{digest}", True, id="one-of-several"),
        pytest.param(" {digest} , sha256:00", True, id="spaces"),
        pytest.param("0", False, id="zero"),
        pytest.param("", False, id="empty"),
        pytest.param("sha256:", False, id="no-digest"),
        pytest.param("{short}", False, id="half-a-digest"),
    ],
)
def test_trust_from_the_environment(said: str, trusted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """FORETELL_TRUST trusts everything with 1, or the digests that it names in full."""
    model = str(mlflow_folder())
    digest = untrusted(model).digest
    monkeypatch.setenv("FORETELL_TRUST", said.format(digest=digest, short=digest[:19]))
    if trusted:
        assert predictor.find(model).settled.trusted
    else:
        untrusted(model)


def test_trust_from_the_environment_reaches_the_commands() -> None:
    """A job that cannot ask is told by FORETELL_TRUST."""
    model = mlflow_folder()
    digest = untrusted(str(model)).digest
    assert_refused(predict(model, FORETELL_TRUST="0"))
    assert answered(predict(model, FORETELL_TRUST=digest))


def test_what_is_trusted_is_listed_and_taken_back(trust: Callable[..., Ran]) -> None:
    """--list shows names and digests; --remove takes each back, after which the model is refused again."""
    empty = trust("--list")
    assert Ran(0, "", "Nothing is trusted yet.\n") == empty
    registered()
    digest = untrusted("models:/my-model/1").digest
    for uri in ("models:/my-model", "models:/my-model/1"):
        assert 0 == trust(uri).code
    named = f"models:/my-model   every version, in {Path.cwd() / FOLDER}"
    assert [named, digest] == trust("--list").out.splitlines()
    for uri in ("models:/my-model", "models:/my-model/1"):
        removed = trust("--remove", uri)
        assert 0 == removed.code
        assert removed.out.startswith("No longer trusted: ")
    assert empty == trust("--list")
    untrusted("models:/my-model/1")


def test_a_digest_can_be_trusted_and_taken_back_as_it_is_listed(trust: Callable[..., Ran]) -> None:
    """A model that is gone can still be taken back, by the digest that --list shows."""
    model = mlflow_folder()
    digest = untrusted(str(model)).digest
    assert 0 == trust(digest).code
    assert predictor.find(str(model)).settled.trusted
    assert 0 == trust("--remove", digest).code
    untrusted(str(model))


def test_the_file_of_trust_is_the_users_alone(trust: Callable[..., Ran]) -> None:
    """What was trusted is noted where only the user can write."""
    registered()
    assert 0 == trust("models:/my-model").code
    path = open_store().path
    assert [Path(os.environ["XDG_CONFIG_HOME"]) / "foretell" / "trust.json", 0o600, 0o700] == [
        path,
        path.stat().st_mode & 0o777,
        path.parent.stat().st_mode & 0o777,
    ]


@pytest.mark.parametrize("mode", [0o602, 0o620, 0o666], ids=oct)
def test_a_file_of_trust_that_others_can_write_says_nothing(mode: int, trust: Callable[..., Ran]) -> None:
    """Somebody else could have put the yes there: it is refused, with how to mend it."""
    registered()
    assert 0 == trust("models:/my-model").code
    path = open_store().path
    path.chmod(mode)
    ran = predict("models:/my-model/1")
    assert (2, "") == (ran.code, ran.out)
    assert [f"error: {path} can be written by others, so it says nothing", f"  chmod 600 {path}"] == (
        ran.err.splitlines()
    )
    assert not ran_code()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"digests": 1, "names": []}', '{"digests": [], "names": [1]}'],
    ids=["empty", "torn", "list", "number", "no-pairs"],
)  # fmt: skip
def test_a_broken_file_of_trust_is_one_clear_error(text: str) -> None:
    """A damaged file is named and trusts nothing."""
    path = open_store().path
    path.parent.mkdir(parents=True)
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ForetellError) as caught:
        predictor.find(str(_pickle(Path("model.pkl"))))
    assert 2 == exit_code(caught.value)
    assert str(path) in str(caught.value)
    assert not ran_code()


@pytest.mark.parametrize(
    ("answer", "trusted"),
    [pytest.param("y", True, id="yes"), pytest.param("n", False, id="no"), pytest.param("", False, id="enter")],
)
def test_a_terminal_is_asked_once(answer: str, trusted: bool) -> None:
    """A person sees file, digest and origin before deciding; a yes is remembered, anything else refuses."""
    model = _pickle(Path("model.pkl"))
    digest = untrusted("model.pkl").digest
    Path("rows.csv").write_bytes(ROWS)
    code, shown = at_terminal(answer)
    for said in ("file:   model.pkl", f"digest: {digest}", "origin: model.pkl", "Do you trust where it came from?"):
        assert said in shown
    assert (0 if trusted else 3, trusted, trusted) == (code, Path("out.csv").exists(), ran_code())
    assert ({digest} if trusted else set()) == open_store().digests
    if trusted:
        assert answered(predict(model))
    else:
        assert "foretell models trust model.pkl" in shown


def at_terminal(answer: str) -> tuple[int, str]:
    """Predicts on a terminal, answers the question; (exit code, all that was shown)."""
    command = [*COMMAND, "models", "predict", "-m", "model.pkl", "-i", "rows.csv", "-o", "out.csv"]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    shown = b""
    asked = False
    while chunk := _read(ours):
        shown += chunk
        if not asked and b"[y/N]" in shown:
            asked = True
            os.write(ours, answer.encode() + b"\n")
    os.close(ours)
    return process.wait(PATIENCE), shown.decode()


def _read(terminal: int) -> bytes:
    """What the terminal shows next; nothing once the last process has left it."""
    try:
        return os.read(terminal, 1 << 16)
    except OSError:
        return b""


Outside = Callable[[Path], str]


def _up(model: Path) -> str:
    return "../outside.pkl"


def _up_and_back(model: Path) -> str:
    return f"../{model.name}/../outside.pkl"


def _absolute(model: Path) -> str:
    return str(Path("outside.pkl").absolute())


def _linked(model: Path) -> str:
    (model / "link.pkl").symlink_to(Path("outside.pkl").absolute())
    return "link.pkl"


def _linked_folder(model: Path) -> str:
    (model / "link").symlink_to(Path.cwd(), target_is_directory=True)
    return "link/outside.pkl"


def _missing(model: Path) -> str:
    return "nowhere.pkl"


def _nothing(model: Path) -> str:
    return ""


def _null_byte(model: Path) -> str:
    return "model\0.pkl"


def _the_folder(model: Path) -> str:
    return "."


def _over_long(model: Path) -> str:
    return "a" * 5_000


@pytest.mark.parametrize(
    "named",
    [_up, _up_and_back, _absolute, _linked, _linked_folder, _missing, _nothing, _null_byte, _the_folder, _over_long],
    ids=lambda f: f.__name__[1:],
)
def test_a_model_cannot_name_a_file_outside_its_folder(named: Outside) -> None:
    """Even trusted, a description that leads out of its folder, or nowhere, is refused in two short lines."""
    _pickle(Path("outside.pkl"))
    model = mlflow_folder()
    described = yaml.safe_load((model / "MLmodel").read_text())
    described["flavors"]["sklearn"]["pickled_model"] = described["flavors"]["python_function"]["model_path"] = named(
        model
    )
    (model / "MLmodel").write_text(yaml.safe_dump(described))
    with pytest.raises(ForetellError) as caught:
        predictor.open(str(model), trust=True)
    assert 3 == exit_code(caught.value)
    assert len(str(caught.value).splitlines()) <= 2
    assert len(str(caught.value)) < 4_000
    assert not ran_code()


def _laughs(levels: int, width: int) -> str:
    """Lists of lists of lists, each level naming the one below several times."""
    lines = ["l0: &l0 [x, x]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * width)}]" for n in range(1, levels)]
    return "\n".join(lines)


BAD_DESCRIPTIONS = {
    "bomb": f"{_laughs(10, 9)}\nflavors: {{sklearn: {{pickled_model: *l9}}}}",
    "bomb-with-few-names": f"{_laughs(20, 2)}\nflavors: {{sklearn: {{pickled_model: *l19}}}}",
    "bomb-in-a-loader": f"{_laughs(20, 2)}\nflavors: {{sklearn: {{}}, python_function: {{loader_module: *l19}}}}",
    "over-sized": "flavors: {}\n" + "# \n" * 400_000,
    "list": "- flavors",
    "text": "flavors",
    "empty": "",
    "binary": "\0\1\2",
    "not-utf-8": b"flavors: \xff",
    "tab": "flavors:\n\tsklearn: {}",
    "open-quote": 'flavors: "',
    "python-object": "flavors: !!python/object/apply:os.system ['touch it-ran']",
    "no-flavors": "run_id: x",
    "flavors-a-list": "flavors: [sklearn]",
    "flavor-a-text": "flavors: {sklearn: yes}",
    "flavor-named-by-a-number": "flavors: {1: {}}",
    "flavor-named-null": "flavors: {null: {}}",
    "unknown-flavor": "flavors: {prophet: {}}",
    "no-pickle-named": "flavors: {sklearn: {}}",
    "pickle-a-mapping": "flavors: {sklearn: {pickled_model: {a: b}}}",
    "code-a-number": "flavors: {sklearn: {pickled_model: model.pkl, code: 5}}",
    "signature-not-json": "flavors: {sklearn: {pickled_model: model.pkl}}\nsignature: {inputs: '{'}",
    "signature-of-numbers": "flavors: {sklearn: {pickled_model: model.pkl}}\nsignature: {inputs: '[1]'}",
    "signature-deep": f"flavors: {{sklearn: {{pickled_model: model.pkl}}}}\nsignature: {{inputs: '{'[' * 20_000}'}}",
    "unhashable-key": "flavors: {[a]: b}",
    "huge-number": f"flavors: {'9' * 5000}",
    "deep": "flavors: " + "[" * 1_000 + "]" * 1_000,
    "deep-mappings": "flavors: " + "{a: " * 1_000 + "1" + "}" * 1_000,
}


@pytest.mark.parametrize("text", BAD_DESCRIPTIONS.values(), ids=BAD_DESCRIPTIONS.keys())
def test_a_bad_description_is_one_clear_error(text: str | bytes) -> None:
    """Whatever stands in an MLmodel file, the answer is one or two short lines that name the model."""
    model = mlflow_folder()
    (model / "MLmodel").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ForetellError) as caught:
        predictor.open(str(model))
    assert 3 == exit_code(caught.value)
    assert "saved" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2
    assert len(str(caught.value)) < 2_000
    assert not ran_code()


def test_a_description_that_is_nested_without_end_is_refused_at_once() -> None:
    """A description of a megabyte of brackets costs a moment, not minutes."""
    model = mlflow_folder()
    (model / "MLmodel").write_text("[" * 1_000_000)
    ran = subprocess.run(
        [*COMMAND, "models", "predict", "-m", str(model)], capture_output=True, text=True, timeout=10, check=False
    )
    assert_refused(Ran(ran.returncode, ran.stdout, ran.stderr), "saved")


def _child_outside(tables: "Tables") -> None:
    tables.change("left_child", 1_000_000)


def _child_behind(tables: "Tables") -> None:
    tables.change("right_child", 0)


def _column_outside(tables: "Tables") -> None:
    tables.change("feature", 1_000_000_000)


def _column_negative(tables: "Tables") -> None:
    tables.change("feature", -1_000_000_000)


def _count_negative(tables: "Tables") -> None:
    tables.node_count(-1)


def _next_outside(tables: "Tables") -> None:
    tables.change("left", 1_000_000)


def _bin_column_outside(tables: "Tables") -> None:
    tables.change("feature_idx", 1_000_000_000)


@pytest.mark.parametrize(
    ("kind", "tamper"),
    [
        pytest.param("tree", _child_outside, id="child-outside"),
        pytest.param("tree", _child_behind, id="child-behind-itself"),
        pytest.param("tree", _column_outside, id="column-outside"),
        pytest.param("tree", _column_negative, id="column-negative"),
        pytest.param("tree", _count_negative, id="count-negative"),
        pytest.param("boosted", _child_outside, id="boosted-child-outside"),
        pytest.param("binned", _next_outside, id="binned-child-outside"),
        pytest.param("binned", _bin_column_outside, id="binned-column-outside"),
    ],
)
def test_a_tree_whose_nodes_lead_outside_is_refused(kind: str, tamper: Callable[["Tables"], None]) -> None:
    """A skops file with indices that C code would follow out of its arrays is refused as it is loaded."""
    x, y = load_iris(return_X_y=True)
    estimators = {
        "tree": DecisionTreeClassifier(max_depth=2),
        "boosted": GradientBoostingClassifier(n_estimators=2),
        "binned": HistGradientBoostingClassifier(max_iter=2),
    }
    skops.io.dump(estimators[kind].fit(x, y), "model.skops")
    tables = Tables(Path("model.skops"))
    tamper(tables)
    tables.save()
    with pytest.raises(ModelUnreadable, match=r"model\.skops"):
        predictor.open("model.skops")


def test_a_member_of_an_ensemble_cannot_claim_more_columns_than_the_ensemble_takes() -> None:
    """The library checks the first member's columns only, so a later one's nodes may not lead outside either."""
    x, y = load_iris(return_X_y=True)
    skops.io.dump(GradientBoostingClassifier(n_estimators=2).fit(x, y), "model.skops")
    tables = Tables(Path("model.skops"))
    assert 5 == tables.widen_later_members(columns=2_000_000_000, to=1_000_000_000)
    tables.save()
    with pytest.raises(ModelUnreadable, match=r"model\.skops"):
        predictor.open("model.skops")


def test_stages_of_more_trees_than_there_are_sums_are_refused() -> None:
    """C code adds each tree of a stage to a sum of its own, and would write past the last one."""
    x, y = load_iris(return_X_y=True)
    boosted = GradientBoostingRegressor(n_estimators=2).fit(x, y)
    boosted.estimators_ = boosted.estimators_.repeat(3, axis=1)
    skops.io.dump(boosted, "model.skops")
    with pytest.raises(ModelUnreadable, match="do not fit their sums"):
        predictor.open("model.skops")


class Tables:
    """The arrays and the description of a skops file, to be changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with zipfile.ZipFile(path) as archive:
            self._members = {name: archive.read(name) for name in archive.namelist()}

    def change(self, field: str, value: int) -> None:
        """Puts a value into the root of every tree."""
        for name, array in self._arrays().items():
            if field in (array.dtype.names or ()) and len(array) > 1:
                array[field][0] = value
                self._put(name, array)

    def node_count(self, count: int) -> None:
        described = json.loads(self._members["schema.json"])
        for entry in _entries(described, "node_count"):
            entry["content"] = str(count)
        self._members["schema.json"] = json.dumps(described).encode()

    def widen_later_members(self, *, columns: int, to: int) -> int:
        """Lets all trees but the first say that they take so many columns, and look at one; how many those are."""
        described = json.loads(self._members["schema.json"])
        later = [e for tree in _trees(described) for e in _entries(tree, "n_features_in_")][1:]
        for own, entry in enumerate(later, 1_000_000):
            entry.update(content=str(columns), __id__=own)
        self._members["schema.json"] = json.dumps(described).encode()
        named = dict.fromkeys(re.findall(r"\d+\.npy", self._members["schema.json"].decode()))
        nodes = [name for name in named if "feature" in (self._arrays()[name].dtype.names or ())]
        for name in nodes[1:]:
            array = self._arrays()[name]
            array["feature"][0] = to
            self._put(name, array)
        return len(later)

    def save(self) -> None:
        """Writes the file anew, which must differ by now."""
        before = self.path.read_bytes()
        with zipfile.ZipFile(self.path, "w") as archive:
            for name, data in self._members.items():
                archive.writestr(name, data)
        assert before != self.path.read_bytes()

    def _put(self, name: str, array: np.ndarray) -> None:
        data = io.BytesIO()
        np.save(data, array)
        self._members[name] = data.getvalue()

    def _arrays(self) -> dict[str, np.ndarray]:
        names = [name for name in self._members if name.endswith(".npy")]
        return {name: np.load(io.BytesIO(self._members[name])) for name in names}


def _entries(node: Any, name: str) -> Iterator[dict[str, Any]]:
    """The description's entries of that name, in order."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == name:
                yield value
            yield from _entries(value, name)
    elif isinstance(node, list):
        for value in node:
            yield from _entries(value, name)


def _trees(node: Any) -> Iterator[dict[str, Any]]:
    """The description's trees, in order."""
    if isinstance(node, dict) and node.get("__class__") == "DecisionTreeRegressor":
        yield node
    elif isinstance(node, dict | list):
        for value in node.values() if isinstance(node, dict) else node:
            yield from _trees(value)
