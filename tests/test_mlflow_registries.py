"""MLflow's registries on this machine, written by the real mlflow 2 and 3: what a uri means in them, and what a
moved, broken or hostile one does."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import PATIENCE, Ran, foretell, serving
from foretell.cli.main import exit_code
from foretell.errors import ForetellError, ModelNotFound, RegistryDown
from foretell.registry.choose import choose, open_registry
from foretell.registry.resolve import resolve, trust_name
from make_registries import ODD, ODD_IN_SQLITE

KINDS = ["mlflow3/sqlite", "mlflow3/files", "mlflow2/sqlite", "mlflow2/files"]
ROWS = "sepal length (cm),sepal width (cm),petal length (cm),petal width (cm)\n5.1,3.5,1.4,0.2\n6.3,3.3,6.0,2.5\n"
ANSWERS = "prediction\n0\n2\n"


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Which of the registries."""
    return str(request.param)


@pytest.fixture
def root(kind: str, registries: Path) -> Path:
    """The folder that holds one of the registries, as mlflow wrote it."""
    return registries / kind


@pytest.fixture
def copied(root: Path) -> Path:
    """A copy of it, to be changed. Its paths still lead to the original."""
    shutil.copytree(root, "copied", symlinks=True)
    return Path("copied").absolute()


@pytest.fixture
def moved(copied: Path) -> Path:
    """A copy of it whose paths lead nowhere, as on another machine."""
    for path in [copied / "mlflow.db", *copied.rglob("meta.yaml")]:
        if path.is_file():
            edit(path, lambda text: text.replace("registries", "xegistries"))
    return copied


def edit(path: Path, change: Callable[[str], str]) -> None:
    """Changes the locations in a database, or the text of another file."""
    if path.suffix != ".db":
        path.write_text(change(path.read_text()))
        return
    columns = [("model_versions", "source"), ("model_versions", "storage_location"), ("runs", "artifact_uri")]
    columns += [("experiments", "artifact_location"), ("logged_models", "artifact_location")]
    with sqlite3.connect(path) as database:
        database.create_function("changed", 1, lambda value: change(value) if isinstance(value, str) else value)
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
        for table, column in columns:
            if table in tables:
                database.execute(f"UPDATE {table} SET {column} = changed({column})")
    database.close()


def address(root: Path) -> str:
    return f"sqlite:///{root / 'mlflow.db'}" if (root / "mlflow.db").is_file() else str(root / "mlruns")


def version_meta(root: Path, number: int = 1) -> Path:
    return root / "mlruns" / "models" / "churn" / f"version-{number}" / "meta.yaml"


def set_version(root: Path, **values: object) -> None:
    """Lets version 1 of churn hold other values, in whichever registry."""
    if not (root / "mlflow.db").is_file():
        import yaml

        meta = yaml.safe_load(version_meta(root).read_text())
        version_meta(root).write_text(yaml.safe_dump({**meta, **values}))
        return
    with sqlite3.connect(root / "mlflow.db") as database:
        for column, value in values.items():
            database.execute(f"UPDATE model_versions SET {column} = ? WHERE name = 'churn' AND version = 1", (value,))
    database.close()


def refusal(uri: str, registry: str) -> tuple[type[ForetellError], str]:
    """(class, what a person is told) where a uri cannot be resolved."""
    with pytest.raises(ForetellError) as caught:
        resolve(uri, registry)
    assert len(str(caught.value).splitlines()) <= 2
    assert exit_code(caught.value) in (2, 3)
    return type(caught.value), str(caught.value)


def predict(uri: str, *arguments: object, **environment: str) -> Ran:
    return foretell(
        "models", "predict", "-m", uri, "--trust", "-t", "csv", *arguments, stdin=ROWS.encode(), **environment
    )


@pytest.mark.parametrize(
    ("uri", "number"),
    [
        pytest.param("models:/churn/1", 1, id="version"),
        pytest.param("models:/churn/latest", 4, id="latest"),
        pytest.param("models:/churn/LATEST", 4, id="latest-upper"),
        pytest.param("models:/churn/Production", 1, id="stage"),
        pytest.param("models:/churn/production", 1, id="stage-lower"),
        pytest.param("models:/churn/Staging", 3, id="newest-in-the-stage"),
        pytest.param("models:/churn/None", 4, id="newest-in-no-stage"),
        pytest.param("models:/churn@first", 1, id="alias"),
    ],
)
def test_a_uri_means_the_version_that_mlflow_means(uri: str, number: int, root: Path) -> None:
    """Version, latest, stage in any case and alias lead to the version that they name, in each kind of registry."""
    found = resolve(uri, address(root))
    assert ("churn", number, f"churn version {number}") == (found.name, found.version, found.label)
    assert (found.path / "MLmodel").is_file()
    assert found.path.is_relative_to(root)


@pytest.mark.parametrize("name", [*ODD, *ODD_IN_SQLITE])
def test_a_name_may_hold_what_mlflow_allows(name: str, root: Path) -> None:
    """Spaces, quotes, signs and other alphabets are found as they were registered, by version and by latest."""
    if name in ODD_IN_SQLITE and root.name == "files":
        assert ModelNotFound == refusal(f"models:/{name}/1", address(root))[0]
        return
    assert (name, 1) == (
        resolve(f"models:/{name}/1", address(root)).name,
        resolve(f"models:/{name}/1", address(root)).version,
    )
    assert 1 == resolve(f"models:/{name}/latest", address(root)).version
    assert (choose(address(root)).address, name) == trust_name(f"models:/{name}", address(root)) or "@" in name


def test_a_logged_model_and_a_run_s_model_are_found_without_a_name(root: Path) -> None:
    """models:/m-… and runs:/…/model lead to the same files as the version that was registered from them."""
    facts = json.loads((root / "facts.json").read_text())
    registered = resolve("models:/churn/1", address(root))
    uris = [f"runs:/{facts['run']}/model"] + [f"models:/{facts['model']}"] * (facts["model"] is not None)
    assert 2 - root.parts[-2].endswith("2") == len(uris)
    for uri in uris:
        found = resolve(uri, address(root))
        assert (registered.path, registered.digest) == (found.path, found.digest)
        assert (None, None, uri) == (found.version, found.registry, found.label)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        pytest.param("models:/churn", ["names no version", "Try: models:/churn/Production"], id="no-version"),
        pytest.param("models:/churn/9", ["no version 9 of model 'churn'", "versions 1 to 4"], id="version"),
        pytest.param("models:/churn/5", ["no version 5 of model 'churn'", "versions 1 to 4"], id="deleted-version"),
        pytest.param("models:/churn/Archived", ["no stage 'Archived'", "Production is 1, Staging is 3"], id="stage"),
        pytest.param("models:/churn/Prod", ["no stage 'Prod'", "Try: models:/churn/Production"], id="no-such-stage"),
        pytest.param("models:/churn@last", ["no alias 'last'", "@first is 1"], id="alias"),
        pytest.param("models:/chrn/1", ["no model 'chrn'", "Try: models:/churn/Production"], id="model"),
        pytest.param("models:/../1", ["no model '..'"], id="dots"),
        pytest.param(f"models:/m-{'0' * 32}", [f"no logged model m-{'0' * 32}"], id="logged-model"),
        pytest.param(f"runs:/{'0' * 32}/model", [f"no run {'0' * 32}"], id="run"),
        pytest.param("runs:/models/churn", ["no run models"], id="run-that-is-a-folder"),
        pytest.param("runs:/abc/../../x", ["not a proper runs:/ uri"], id="run-dots"),
        pytest.param(
            "mlflow-artifacts:/1/x", ["behind a tracking server", "MLFLOW_TRACKING_URI=http://"], id="artifact"
        ),
        pytest.param("mlflow-artifacts://h:5/1/x", ["MLFLOW_TRACKING_URI=http://h:5"], id="artifact-of-a-server"),
    ],
)
def test_what_is_not_found_is_answered_with_what_there_is(uri: str, said: list[str], root: Path) -> None:
    """A uri that leads nowhere is answered as in the embedded registry: what is there, and what to type."""
    text = refusal(uri, address(root))[1]
    assert [] == [part for part in said if part not in text], text


def test_a_model_predicts_from_a_registry_that_is_only_named_in_the_environment(root: Path, kind: str) -> None:
    """The real command answers from each kind of registry, and says once which one it took, and why."""
    ran = predict("models:/churn/Production", MLFLOW_TRACKING_URI=address(root))
    assert (0, ANSWERS) == (ran.code, ran.out), ran.err
    said = [line for line in ran.err.splitlines() if line.startswith("registry: ")]
    assert [f"registry: {choose(address(root)).address} (MLFLOW_TRACKING_URI)"] == said
    named = predict("models:/churn/Production", "--registry", address(root))
    assert (0, ANSWERS) == (named.code, named.out), named.err
    assert "registry:" not in named.err


def test_several_processes_serve_the_version_that_was_found(registries: Path) -> None:
    """`serve -w 2` resolves an alias once, says the registry once, and every process serves that version."""
    root = registries / "mlflow3/sqlite"
    os.chdir(root)
    with serving("-m", "models:/churn@first", "-w", "2") as server:
        assert " model 'churn' " in server.first_line
        assert "0" in server.post('{"data": [[5.1, 3.5, 1.4, 0.2]]}').body.decode()
    assert 1 == len([line for line in server.lines if line.startswith("registry: ")]), server.lines


def test_prompts_and_deleted_versions_are_no_models(root: Path) -> None:
    """A listing holds models that can be predicted with: no prompts, and no version that was deleted."""
    listed = foretell("registry", "list", "--registry", address(root)).out.splitlines()
    names = sorted([*ODD, "churn", "pickled", *(ODD_IN_SQLITE if root.name == "sqlite" else ())])
    assert names == open_registry(choose(address(root))).models()
    assert len(names) == len(listed)
    assert "versions 1 to 4, Production is 1, Staging is 3, @first is 1" in "\n".join(listed)


def test_show_tells_where_a_version_lies(root: Path) -> None:
    """`registry show` lists versions with their stage, aliases, status and place, and nothing is read of the files."""
    ran = foretell("registry", "show", "churn", "--registry", address(root))
    lines = ran.out.splitlines()
    assert ["version 1  Production @first", "version 2  Staging", "version 3  Staging", "version 4"] == lines[::3]
    assert ["  status READY"] * 4 == lines[2::3]


@pytest.mark.parametrize(
    "command",
    [("add", "churn", "model"), ("stage", "churn", "1", "Staging"), ("alias", "churn", "1", "x"), ("remove", "churn")],
    ids=lambda command: command[0],
)
def test_what_would_change_mlflow_s_registry_is_refused(command: tuple[str, ...], registries: Path) -> None:
    """foretell only reads MLflow's registries, and says how MLflow does it."""
    ran = foretell("registry", *command, "--registry", registries / "mlflow3/sqlite/mlflow.db")
    assert_refused(ran, 2, "only reads", "In MLflow: ")


def assert_refused(ran: Ran, code: int, *said: str) -> None:
    """That a person sees one or two lines, which say all of that."""
    assert (code, "") == (ran.code, ran.out), ran.err
    assert ran.err.startswith("error: ")
    assert len(ran.err.splitlines()) <= 2
    assert [] == [text for text in said if text not in ran.err], ran.err


def test_a_registry_that_was_moved_finds_its_artifacts_beside_it(moved: Path) -> None:
    """Absolute paths that are gone are looked up by their end, beside the database or the file store."""
    found = resolve("models:/churn/1", address(moved))
    assert found.path.is_relative_to(moved)


def test_a_model_of_another_run_is_never_taken_for_one_that_is_gone(moved: Path) -> None:
    """Where a version's files are gone, a like-named folder beside the registry is not its model."""
    artifacts = resolve("models:/churn/1", address(moved)).path
    shutil.copytree(artifacts, moved / artifacts.name)
    shutil.copytree(artifacts, moved / "artifacts" / artifacts.name)
    shutil.rmtree(artifacts)
    kind, text = refusal("models:/churn/1", address(moved))
    assert ModelNotFound == kind
    assert "Copy the registry's artifacts along" in text


def test_files_that_were_changed_are_other_files(copied: Path) -> None:
    """The digest is of the files as they are now, so that trust for the old ones does not cover new ones."""
    set_version(copied, storage_location="", source=str(copied / "elsewhere"))
    shutil.copytree(resolve("models:/churn/2", address(copied)).path, copied / "elsewhere")
    before = resolve("models:/churn/1", address(copied))
    assert copied / "elsewhere" == before.path
    edit(copied / "elsewhere" / "MLmodel", lambda text: f"{text}\n")
    assert before.digest != resolve("models:/churn/1", address(copied)).digest


def test_trust_is_given_to_a_name_in_a_registry_however_it_is_spelled(registries: Path) -> None:
    """Trust for models:/NAME holds by a relative path, an absolute one and a uri, and in no other registry."""
    root = registries / "mlflow2/sqlite"
    os.chdir(root)
    trusted = foretell("models", "trust", "models:/pickled", "--registry", "mlflow.db")
    assert f"Trusted: every version of 'pickled' in sqlite:///{root}/mlflow.db\n" == trusted.out
    arguments = ("models", "predict", "-m", "models:/pickled/1", "-t", "csv")
    for registry in (
        "./mlflow.db",
        "sqlite:///mlflow.db",
        f"sqlite:///{root}/mlflow.db",
    ):
        ran = foretell(*arguments, "--registry", registry, stdin=ROWS.encode())
        assert (0, ANSWERS) == (ran.code, ran.out), ran.err
    other = foretell(*arguments, "--registry", registries / "mlflow2/files/mlruns", stdin=ROWS.encode())
    assert_refused(other, 3, "would run code")


def test_a_workspace_has_names_of_its_own(registries: Path) -> None:
    """Of a database with workspaces, MLFLOW_WORKSPACE's is read, else the default; trust does not cross over."""
    shutil.copytree(registries / "mlflow3/sqlite", "copied")
    with sqlite3.connect("copied/mlflow.db") as database:
        for table in ("registered_models", "model_versions"):
            database.execute(f"UPDATE {table} SET workspace = 'team' WHERE name = 'my model'")
    database.close()
    registry = "sqlite:///copied/mlflow.db"
    assert ModelNotFound == refusal("models:/my model/1", registry)[0]
    team = resolve("models:/my model/1", f"{registry}?workspace=team")
    assert f"sqlite:///{Path.cwd()}/copied/mlflow.db?workspace=team" == team.registry
    listed = foretell("registry", "list", MLFLOW_WORKSPACE="team", FORETELL_REGISTRY=registry)
    assert "my model  version 1\n" == listed.out


def test_a_database_with_a_writer_is_read(registries: Path) -> None:
    """A server that writes at the same time delays a reader, and a writer that never ends is said in one line."""
    shutil.copytree(registries / "mlflow3/sqlite", "copied")
    writer = sqlite3.connect("copied/mlflow.db", isolation_level=None, check_same_thread=False)
    writer.execute("BEGIN EXCLUSIVE")
    timer = threading.Timer(1.0, lambda: writer.execute("COMMIT"))
    timer.start()
    assert 1 == resolve("models:/churn/1", "copied/mlflow.db").version
    timer.join()
    writer.execute("BEGIN EXCLUSIVE")
    kind, text = refusal("models:/churn/1", "copied/mlflow.db")
    assert RegistryDown == kind
    assert "locked by another program" in text
    writer.close()


def test_a_database_in_wal_mode_is_read_without_a_trace(registries: Path) -> None:
    """Reading makes no -wal or -shm file beside the database; where a server has them, its last change is seen."""
    shutil.copytree(registries / "mlflow3/sqlite", "copied")
    server = sqlite3.connect("copied/mlflow.db", isolation_level=None)
    assert ("wal",) == server.execute("PRAGMA journal_mode = wal").fetchone()
    server.close()
    before = sorted(path.name for path in Path("copied").iterdir())
    assert 1 == resolve("models:/churn@first", "copied/mlflow.db").version
    assert before == sorted(path.name for path in Path("copied").iterdir())
    server = sqlite3.connect("copied/mlflow.db", isolation_level=None)
    server.execute("UPDATE registered_model_aliases SET version = 2")
    assert Path("copied/mlflow.db-wal").stat().st_size
    assert 2 == resolve("models:/churn@first", "copied/mlflow.db").version
    server.close()


_READ_ONLY = """
set -e
mount --bind "$1" "$1"
mount -o remount,ro,bind "$1"
if touch "$1/written" 2>/dev/null; then echo "not read-only"; exit 99; fi
cd "$1"
shift
exec "$@"
"""


as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can mount a folder read-only")


@as_root
def test_a_registry_on_a_read_only_disk_is_used_and_never_written_to(moved: Path) -> None:
    """From a read-only mount a model predicts, and not a byte or a file more is there afterwards."""
    assert_predicts_read_only(moved)


@as_root
def test_a_database_in_wal_mode_on_a_read_only_disk_is_read(registries: Path) -> None:
    """In WAL mode sqlite would write even to read; foretell does not, with the -wal file of a server or without."""
    shutil.copytree(registries / "mlflow3/sqlite", "copied")
    root = Path("copied").absolute()
    server = sqlite3.connect("copied/mlflow.db", isolation_level=None)
    server.execute("PRAGMA journal_mode = wal")
    server.execute("UPDATE registered_model_aliases SET version = 2")
    assert_predicts_read_only(root)
    server.close()
    assert not Path("copied/mlflow.db-wal").exists()
    assert_predicts_read_only(root)


def assert_predicts_read_only(root: Path) -> None:
    before = everything(root)
    command = [sys.executable, "-m", "foretell", "models", "predict", "-m", "models:/churn/1", "-t", "csv", "--trust"]
    ran = subprocess.run(
        ["unshare", "-m", "sh", "-c", _READ_ONLY, "sh", str(root), *command],
        input=ROWS,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (0, ANSWERS) == (ran.returncode, ran.stdout), ran.stderr
    assert str(root) in ran.stderr
    assert before == everything(root)


def everything(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
