"""MLflow's registries as an attacker, an accident or another program may leave them: one clear line, and no harm."""

import os
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import foretell
from foretell.errors import ForetellError, ModelNotFound, ModelUnreadable
from foretell.registry.resolve import resolve
from test_mlflow_registries import address, refusal, set_version, version_meta

CIRCLE = "models:/churn/1"


@pytest.fixture(params=["sqlite", "files"])
def copied(request: pytest.FixtureRequest, registries: Path) -> Path:
    """A copy of one of mlflow's registries, to be changed."""
    shutil.copytree(registries / "mlflow3" / request.param, "copied")
    return Path("copied").absolute()


@pytest.fixture
def database(registries: Path) -> Path:
    shutil.copytree(registries / "mlflow3/sqlite", "copied")
    return Path("copied/mlflow.db").absolute()


@pytest.fixture
def store(registries: Path) -> Path:
    shutil.copytree(registries / "mlflow3/files", "copied")
    return Path("copied").absolute()


@pytest.mark.parametrize(
    ("source", "kind", "said"),
    [
        pytest.param("/tmp/../etc", ModelUnreadable, "is no plain path", id="dots"),
        pytest.param("mlruns/../../x", ModelUnreadable, "is no plain path", id="relative-dots"),
        pytest.param("file:///tmp/%2e%2e/etc", ModelUnreadable, "is no plain path", id="quoted-dots"),
        pytest.param("/a\nb", ModelUnreadable, "is no plain path", id="newline"),
        pytest.param("/a\x1b[31mb", ModelUnreadable, "is no plain path", id="escape"),
        pytest.param("/x" * 500, ModelUnreadable, "is no plain path", id="deep"),
        pytest.param("/" + "x" * 5000, ModelUnreadable, "that is none", id="long"),
        pytest.param("/" + "x" * 2000, ForetellError, "", id="long-name"),
        pytest.param("/etc", ModelUnreadable, "holds no MLmodel file", id="folder-of-another-kind"),
        pytest.param("/dev/zero", ModelNotFound, "is not there", id="device"),
        pytest.param("/gone", ModelNotFound, "is not there", id="gone"),
        pytest.param("file://other.example/x", ModelNotFound, "on another machine", id="other-machine"),
        pytest.param("s3://bucket/x", ModelNotFound, "at a s3: address", id="s3"),
        pytest.param("dbfs:/x", ModelNotFound, "Point at the tracking server", id="dbfs"),
        pytest.param("mlflow-artifacts:/1/x", ModelNotFound, "MLFLOW_TRACKING_URI=http://HOST:5000", id="artifacts"),
        pytest.param("mlflow-artifacts://h:7/1/x", ModelNotFound, "MLFLOW_TRACKING_URI=http://h:7", id="of-a-server"),
        pytest.param(CIRCLE, ModelUnreadable, "leads in a circle", id="circle"),
        pytest.param("models:/nobody/1", ModelNotFound, "no model 'nobody'", id="other-model"),
        pytest.param("models:/", ModelUnreadable, "no proper uri", id="improper"),
        pytest.param("runs:/a/../b", ModelUnreadable, "no proper uri", id="improper-run"),
        pytest.param(7, ModelUnreadable, "7", id="number"),
        pytest.param("", ModelUnreadable, "that is none", id="empty"),
    ],
)
def test_an_address_that_leads_elsewhere_is_refused(
    source: object, kind: type[ForetellError], said: str, copied: Path
) -> None:
    """Whatever stands in a registry as a model's place: a plain folder with a model, or one line that says why not."""
    set_version(copied, storage_location="", source=source)
    if source == 7 and (copied / "mlflow.db").is_file():
        kind, said = ModelNotFound, "is not there"
    got, text = refusal("models:/churn/1", address(copied))
    assert issubclass(got, kind)
    assert said in text
    assert text.replace("\n", "").isprintable()


def test_a_version_that_is_not_ready_is_refused(copied: Path) -> None:
    """MLflow says READY once all files are there; anything else is no version to predict with."""
    set_version(copied, status="PENDING_REGISTRATION")
    kind, text = refusal("models:/churn/1", address(copied))
    assert ModelNotFound == kind
    assert "is not ready: its status is PENDING_REGISTRATION" in text
    assert 2 == resolve("models:/churn/2", address(copied)).version


def _linked_folder(artifacts: Path) -> None:
    artifacts.rename("outside")
    artifacts.symlink_to(Path("outside").absolute())


def _linked_file(artifacts: Path) -> None:
    (artifacts / "model.onnx").rename("outside.onnx")
    (artifacts / "model.onnx").symlink_to(Path("outside.onnx").absolute())


def _fifo(artifacts: Path) -> None:
    os.mkfifo(artifacts / "odd")


@pytest.mark.parametrize("change", [_linked_folder, _linked_file, _fifo], ids=lambda f: f.__name__[1:])
def test_links_and_special_files_among_artifacts_are_refused(change: Callable[[Path], None], copied: Path) -> None:
    """A model's folder is a real one and holds plain files only, so that nothing outside of it is taken for a model."""
    shutil.copytree(resolve("models:/churn/2", address(copied)).path, copied / "given")
    set_version(copied, storage_location="", source=str(copied / "given"))
    assert copied / "given" == resolve("models:/churn/1", address(copied)).path
    change(copied / "given")
    kind, text = refusal("models:/churn/1", address(copied))
    assert ModelUnreadable == kind
    assert "link" in text


def test_a_link_beside_a_moved_registry_is_not_followed_out_of_it(copied: Path) -> None:
    """What is looked up beside a registry lies inside its folder, also where a link there leads elsewhere."""
    outside = Path("outside").absolute()
    shutil.copytree(resolve("models:/churn/2", address(copied)).path, outside / "a" / "b")
    (copied / "a").symlink_to(outside / "a")
    set_version(copied, storage_location="", source="/gone/a/b")
    assert ModelNotFound == refusal("models:/churn/1", address(copied))[0]


def changed(database: Path, statement: str, *values: object) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(statement, values)
    connection.close()


UPDATE = "UPDATE model_versions SET {} = ? WHERE name = 'churn' AND version = 1"


@pytest.mark.parametrize(
    ("statement", "value"),
    [
        pytest.param(UPDATE.format("version"), "no number", id="version-text"),
        pytest.param(UPDATE.format("version"), -1, id="version-negative"),
        pytest.param(UPDATE.format("version"), 1 << 62, id="version-huge"),
        pytest.param(UPDATE.format("storage_location"), b"\xff\0", id="bytes"),
        pytest.param(UPDATE.format("storage_location"), "/a\0b", id="nul"),
        pytest.param(UPDATE.format("description"), "x" * (3 << 20), id="huge-text"),
        pytest.param(UPDATE.format("current_stage"), b"\xff", id="stage-blob"),
        pytest.param("UPDATE registered_model_aliases SET alias = ?", b"\xff", id="alias-bytes"),
        pytest.param("UPDATE registered_model_aliases SET version = ?", "x", id="alias-of-no-number"),
    ],
)
def test_a_value_of_the_wrong_kind_is_one_clear_line(statement: str, value: object, database: Path) -> None:
    """sqlite keeps anything in any column; what is no text or number of a fitting size is refused or does not match."""
    changed(database, statement, value)
    kind, text = refusal("models:/churn/1", str(database))
    assert issubclass(kind, ModelUnreadable | ModelNotFound)
    assert str(database) in text
    assert len(text) < 1000


def _text(database: Path) -> None:
    database.write_text("no database")


def _empty(database: Path) -> None:
    database.write_bytes(b"")


def _cut(database: Path) -> None:
    database.write_bytes(database.read_bytes()[: 40 << 10])


def _noise(database: Path) -> None:
    database.write_bytes(database.read_bytes()[:100] + os.urandom(64 << 10))


def _foreign(database: Path) -> None:
    database.unlink()
    changed(database, "CREATE TABLE cats (name)")


def _older(database: Path) -> None:
    changed(database, "DROP TABLE model_versions")


def _view(database: Path) -> None:
    changed(database, "DROP TABLE model_versions")
    changed(
        database,
        "CREATE VIEW model_versions AS WITH RECURSIVE t(name) AS (SELECT 'churn' UNION ALL SELECT name FROM t) "
        "SELECT name, 1 AS version FROM t",
    )


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        pytest.param(_text, "is no sqlite database", id="text"),
        pytest.param(_empty, "is no sqlite database", id="empty"),
        pytest.param(_cut, "cannot be read", id="cut"),
        pytest.param(_noise, "", id="noise"),
        pytest.param(_foreign, "is no database of MLflow's", id="another-program-s"),
        pytest.param(_older, "mlflow db upgrade", id="older"),
        pytest.param(_view, "has no table model_versions", id="endless-view"),
    ],
)
def test_a_file_that_is_no_sound_database_is_one_clear_line(
    break_it: Callable[[Path], None], said: str, database: Path
) -> None:
    """Another file, a torn one, another program's and an old MLflow's are told apart, and named."""
    break_it(database)
    kind, text = refusal("models:/churn/1", str(database))
    assert ModelUnreadable == kind
    assert said in text
    assert str(database) in text


def test_a_name_cannot_write_on_the_terminal(database: Path) -> None:
    """A name with control characters is listed escaped."""
    changed(database, "INSERT INTO registered_models (name, workspace) VALUES (?, 'default')", "a\x1b[31m\nb")
    ran = foretell("registry", "list", "--registry", database)
    assert 0 == ran.code, ran.err
    assert "a\\x1b[31m\\nb no version" in re.sub(" +", " ", ran.out)
    assert "\x1b" not in ran.out


BOMB = "a: &a [x, x]\n" + "".join(f"b{n}: &b{n} [*a, *a, *a, *a]\n" for n in range(30))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(BOMB, "YAML aliases", id="aliases"),
        pytest.param("a: " + "[" * 3000 + "]" * 3000, "nested more than", id="deep"),
        pytest.param("a: " + "x" * (2 << 20), "is over 1 MiB", id="large"),
        pytest.param("- a\n- b\n", "is not a YAML mapping", id="list"),
        pytest.param("", "is not a YAML mapping", id="empty"),
        pytest.param("a: !!python/object/apply:os.system ['touch ran']", "cannot be read", id="code"),
        pytest.param("a: [", "cannot be read", id="torn"),
        pytest.param("version: 7\nsource: /etc\n", "another version's", id="another-version"),
    ],
)
def test_a_description_that_is_a_trap_is_one_clear_line(text: str, said: str, store: Path) -> None:
    """Bombs, torn files and code in a file store's YAML end in a line that names the file, and run nothing."""
    version_meta(store).write_text(text)
    kind, told = refusal("models:/churn/1", address(store))
    assert ModelUnreadable == kind
    assert said in told
    assert str(version_meta(store)) in told
    assert not Path("ran").exists()


def _meta_link(meta: Path) -> None:
    meta.rename("elsewhere.yaml")
    meta.symlink_to(Path("elsewhere.yaml").absolute())


def _meta_fifo(meta: Path) -> None:
    meta.unlink()
    os.mkfifo(meta)


def _meta_gone(meta: Path) -> None:
    meta.unlink()


@pytest.mark.parametrize("change", [_meta_link, _meta_fifo, _meta_gone], ids=lambda f: f.__name__[1:])
def test_a_description_that_is_no_plain_file_is_refused(change: Callable[[Path], None], store: Path) -> None:
    """Links are not followed and pipes not waited for."""
    change(version_meta(store))
    kind, told = refusal("models:/churn/1", address(store))
    assert ModelUnreadable == kind
    assert "is missing, or is no plain file" in told


def test_folders_with_other_names_are_no_versions(store: Path) -> None:
    """Of a model's folder only version-NUMBER counts, and no link."""
    folder = version_meta(store).parent.parent
    for name in ("version-", "version-x", "version-07", "version-1e9", "version-99999999999"):
        shutil.copytree(folder / "version-1", folder / name)
    (folder / "version-8").symlink_to(folder / "version-1")
    assert 4 == resolve("models:/churn/latest", address(store)).version


def test_an_alias_that_holds_no_number_is_named(store: Path) -> None:
    """A file among the aliases with something else in it makes the model unreadable, and is named."""
    (version_meta(store).parent.parent / "aliases" / "odd").write_text("../../etc")
    kind, told = refusal("models:/churn@first", address(store))
    assert (ModelUnreadable, True) == (kind, "aliases/odd is no alias" in told)
