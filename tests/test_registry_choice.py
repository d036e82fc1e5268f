"""Which registry is meant: flags, environment and what lies around, in their order; and no password is ever shown."""

import os
from pathlib import Path

import pytest

from conftest import foretell
from foretell.errors import ForetellError, ModelNotFound, UsageError
from foretell.registry.choose import Choice, choose, open_registry, without_secrets
from foretell.registry.local import FOLDER, LocalRegistry

EMPTY_DATABASE = b"SQLite format 3\0" + bytes(84)


def database(path: str) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(EMPTY_DATABASE)
    return f"sqlite:///{Path(path).resolve()}"


def file_store(path: str) -> str:
    (Path(path) / "0").mkdir(parents=True)
    (Path(path) / "0" / "meta.yaml").write_text("name: Default\n")
    return Path(path).resolve().as_uri()


def embedded(path: str) -> str:
    Path(path).mkdir(parents=True)
    return str(Path(path).resolve())


def chosen(given: str | None = None) -> tuple[str, str]:
    choice = choose(given)
    return choice.address, choice.said


def test_a_flag_beats_the_environment_which_beats_what_lies_around(monkeypatch: pytest.MonkeyPatch) -> None:
    """--registry, FORETELL_REGISTRY, MLFLOW_REGISTRY_URI, MLFLOW_TRACKING_URI, the nearest: each hides the rest."""
    near = embedded(str(FOLDER))
    assert (near, "in the working directory") == chosen()
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "FORETELL_REGISTRY"):
        named = database(f"{variable}.db")
        monkeypatch.setenv(variable, named)
        assert (named, variable) == chosen()
    assert (database("flag.db"), "--registry") == chosen("flag.db")
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "FORETELL_REGISTRY"):
        monkeypatch.setenv(variable, " ")
    assert near == choose().address


def test_what_lies_around_is_taken_in_its_order() -> None:
    """In one folder foretell's own, then MLflow's database, then its file store; and a nearer folder comes first."""
    Path("project/notebooks").mkdir(parents=True)
    os.chdir("project/notebooks")
    assert (str(Path.cwd() / FOLDER), "") == chosen()
    store = file_store("../mlruns")
    assert (store, "the nearest above") == chosen()
    kept = database("../mlflow.db")
    assert kept == choose().address
    own = embedded(f"../{FOLDER}")
    assert own == choose().address
    assert (file_store("mlruns"), "in the working directory") == chosen()
    assert database("mlflow.db") == choose().address
    assert embedded(str(FOLDER)) == choose().address


def test_mlruns_without_experiments_is_no_registry() -> None:
    """By MLflow's own rule: with a database, ./mlruns holds artifacts only, and is passed by."""
    Path("mlruns/1/models").mkdir(parents=True)
    assert "" == choose().said
    (Path("mlruns/1") / "meta.yaml").write_text("")
    assert "files" == choose().kind


def test_what_another_user_left_in_a_shared_folder_is_not_taken() -> None:
    """A database in a folder that everybody can write to counts only if it is the user's own or root's."""
    database("shared/mlflow.db")
    Path("shared").chmod(0o777)
    os.chdir("shared")
    assert "sqlite" == choose().kind
    if os.getuid() == 0:
        os.chown("mlflow.db", 4321, 4321)
        assert ("embedded", "") == (choose().kind, choose().said)
        assert "sqlite" == choose("mlflow.db").kind
        embedded(str(FOLDER))
        os.chown(FOLDER.parts[0], 4321, 4321)
        assert "" == choose().said


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        pytest.param("own", "embedded", id="folder"),
        pytest.param("runs", "files", id="file-store"),
        pytest.param("file:{here}/runs", "files", id="file-uri"),
        pytest.param("file://{here}/with%20space", "files", id="file-uri-quoted"),
        pytest.param("some.db", "sqlite", id="database"),
        pytest.param("sqlite:///some.db", "sqlite", id="sqlite-relative"),
        pytest.param("sqlite:///{here}/some.db", "sqlite", id="sqlite-absolute"),
        pytest.param("sqlite+pysqlite:///some.db", "sqlite", id="sqlite-driver"),
        pytest.param("SQLITE:///some.db", "sqlite", id="sqlite-upper"),
        pytest.param("http://localhost:5000/", "server", id="server"),
        pytest.param("https://u:p@mlflow.example/base", "server", id="server-with-password"),
    ],
)
def test_a_registry_is_known_by_its_uri(given: str, kind: str) -> None:
    """A folder, a file and each of MLflow's schemes are told apart, and their address is absolute."""
    embedded("own")
    file_store("runs")
    file_store("with space")
    database("some.db")
    choice = choose(given.format(here=Path.cwd()))
    assert kind == choice.kind
    spelled = {
        "embedded": str(Path("own").absolute()),
        "sqlite": f"sqlite:///{Path('some.db').absolute()}",
        "server": "https://mlflow.example/base" if "example" in given else "http://localhost:5000",
        "files": Path("with space" if "space" in given else "runs").absolute().as_uri(),
    }
    assert spelled[kind] == choice.address
    assert choose(choice.address).address == choice.address


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        pytest.param("nowhere", ModelNotFound, ["--registry nowhere: no such registry"], id="folder"),
        pytest.param("nowhere.db", ModelNotFound, ["no such registry", "sqlite:///"], id="file"),
        pytest.param("sqlite:///nowhere.db", ModelNotFound, ["nowhere.db: no such file"], id="sqlite"),
        pytest.param("file:///nowhere", ModelNotFound, ["/nowhere: no such registry"], id="file-store"),
        pytest.param("project", ModelNotFound, ["project is no registry", "Name that: project/mlflow.db"], id="around"),
        pytest.param("project/mlruns", ModelNotFound, ["Name that: project/mlflow.db"], id="its-artifacts"),
        pytest.param("localhost:5000", UsageError, ["no scheme", "http://localhost:5000"], id="no-scheme"),
        pytest.param("127.0.0.1:5000/ml", UsageError, ["no scheme", "http://127.0.0.1:5000/ml"], id="no-scheme-base"),
        pytest.param("sqlite://", UsageError, ["no sqlite file", "sqlite:////absolute"], id="sqlite-memory"),
        pytest.param("sqlite:///:memory:", UsageError, ["no sqlite file"], id="sqlite-memory-named"),
        pytest.param("databricks", UsageError, ["Databricks", "mlflow artifacts download"], id="databricks"),
        pytest.param("databricks://profile", UsageError, ["Databricks"], id="databricks-profile"),
        pytest.param("databricks-uc", UsageError, ["Databricks"], id="databricks-uc"),
        pytest.param("uc:http://localhost:8080", UsageError, ["Unity Catalog"], id="unity-catalog"),
        pytest.param("s3://bucket/mlruns", UsageError, ["does not read s3: registries"], id="s3"),
    ],
)
def test_a_registry_that_cannot_be_used_is_one_clear_error(
    given: str, kind: type[ForetellError], said: list[str]
) -> None:
    """What is not there is not taken for empty, and what foretell does not read says what to do instead."""
    database("project/mlflow.db")
    Path("project/mlruns").mkdir()
    with pytest.raises(kind) as caught:
        choose(given)
    assert [] == [part for part in said if part not in str(caught.value)], caught.value


SECRETS = {
    "postgresql": "postgresql://me:s3cr/et@host/db?sslpassword=s3cret",
    "postgresql-driver": "postgresql+psycopg2://me:s3cret@host/db",
    "mysql": "mysql+pymysql://me:s3cret@host:3306/db",
    "mssql": "mssql+pyodbc://me:s3cret@host/db?driver=x",
    "other": "redis://:s3cret@host/0",
}


@pytest.mark.parametrize("uri", SECRETS.values(), ids=SECRETS.keys())
def test_a_database_s_password_is_never_shown(uri: str) -> None:
    """A database that foretell does not read is named without its user, password and host, with what to do."""
    ran = foretell("models", "predict", "-m", "models:/churn/1", MLFLOW_TRACKING_URI=uri)
    assert (2, "") == (ran.code, ran.out)
    assert 2 == len(ran.err.splitlines())
    assert "MLFLOW_TRACKING_URI" in ran.err
    assert "s3cr" not in ran.err and "host" not in ran.err
    if not uri.startswith("redis"):
        assert "MLFLOW_TRACKING_URI=http://HOST:5000" in ran.err


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        pytest.param("https://me:s3cret@host:5000/base?token=s3cret#x", "https://host:5000/base", id="https"),
        pytest.param("http://me:s3c@r/et@host", "http://host", id="odd-password"),
        pytest.param("http://host:5000", "http://host:5000", id="none"),
        pytest.param("postgresql://me:s3cret@host/db", "postgresql://…", id="database"),
        pytest.param("folder/of@mine", "folder/of@mine", id="folder"),
    ],
)
def test_an_address_is_shown_without_secrets(uri: str, shown: str) -> None:
    """Users, passwords and queries are cut from what is shown, and from a Choice's own repr."""
    assert shown == without_secrets(uri)
    assert "s3c" not in repr(Choice("server", without_secrets(uri), "", uri=uri))


def test_a_mistyped_folder_is_not_taken_for_an_empty_registry_but_add_makes_one() -> None:
    """Reading from a folder that is not there fails; `registry add` and `demo` make it."""
    Path("model.onnx").write_text("one")
    listed = foretell("registry", "list", "--registry", "new")
    assert (3, "") == (listed.code, listed.out)
    assert not Path("new").exists()
    assert 0 == foretell("registry", "add", "churn", "model.onnx", "--registry", "new").code
    assert "churn  version 1\n" == foretell("registry", "list", "--registry", "new").out
    assert 0 == foretell("demo", FORETELL_REGISTRY="other").code
    assert ["my-model"] == LocalRegistry(Path("other")).models()


def test_the_demo_works_where_the_environment_names_a_server() -> None:
    """With MLFLOW_TRACKING_URI set, the demo's lines name the demo's own registry."""
    shown = foretell("demo", MLFLOW_TRACKING_URI="http://localhost:1")
    line = next(line for line in shown.out.splitlines() if " predict " in line)
    assert line.endswith(f" --registry {FOLDER}")
    ran = foretell(*line.split()[1:], MLFLOW_TRACKING_URI="http://localhost:1")
    assert 0 == ran.code, ran.err


def test_a_folder_in_mlflow_s_variables_is_a_file_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLFLOW_TRACKING_URI=FOLDER means MLflow's file store there, also an empty one."""
    Path("runs").mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "runs")
    assert (Path("runs").absolute().as_uri(), "MLFLOW_TRACKING_URI") == chosen()
    assert [] == open_registry(choose()).models()


def test_the_choice_is_said_for_a_uri_that_needs_it_and_only_then() -> None:
    """predict says which registry it took for models:/…, and nothing for a path."""
    assert 0 == foretell("demo").code
    ran = foretell("models", "predict", "-m", "models:/my-model/Production", "-i", "batch_input.csv")
    assert f"registry: {Path.cwd() / FOLDER} (in the working directory)" == ran.err.splitlines()[0]
    folder = next(FOLDER.glob("my-model/versions/1/files"))
    assert "registry:" not in foretell("models", "predict", "-m", folder, "-i", "batch_input.csv").err
