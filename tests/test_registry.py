"""The embedded registry: what a model uri means, what stays unchanged, and what a crash leaves behind."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import PATIENCE, Ran, foretell
from foretell.cli.main import exit_code
from foretell.errors import ForetellError, ModelNotFound, UsageError
from foretell.registry.choose import choose
from foretell.registry.local import FOLDER, LocalRegistry
from foretell.registry.resolve import resolve

LARGE = 200 << 20


def bare(text: str, path: str = "model.onnx") -> Path:
    """A model that is one file; the registry never looks inside."""
    Path(path).write_text(text)
    return Path(path)


def folder(text: str = "one") -> Path:
    """A model in MLflow's format, as far as the registry cares."""
    made = Path("exported")
    (made / "data").mkdir(parents=True, exist_ok=True)
    (made / "MLmodel").write_text("flavors: {onnx: {data: data/model.onnx}}\n")
    (made / "data" / "model.onnx").write_text(text)
    return made


def here() -> LocalRegistry:
    return LocalRegistry(Path.cwd() / FOLDER)


def assert_refused(ran: Ran, code: int, *said: str) -> None:
    """That a person sees one or two lines, which say all of that."""
    assert (code, "") == (ran.code, ran.out), ran.err
    assert ran.err.startswith("error: ")
    assert len(ran.err.splitlines()) <= 2
    assert [] == [text for text in said if text not in ran.err], ran.err


def refusal(uri: str) -> tuple[int, str]:
    """(exit code, what a person is told) where a uri cannot be resolved."""
    with pytest.raises(ForetellError) as caught:
        resolve(uri)
    assert len(str(caught.value).splitlines()) <= 2
    return exit_code(caught.value), str(caught.value)


@pytest.fixture
def versions() -> LocalRegistry:
    """my-model: 1 in Production, 2 in the stage shadow and @champion, 3 with nothing."""
    registry = here()
    registry.add("my-model", bare("one"), "Production", None)
    registry.add("my-model", bare("two"), "shadow", "champion")
    registry.add("my-model", bare("three"), None, None)
    return registry


def test_a_model_lives_its_life_on_the_command_line() -> None:
    """Add, list, show, stage, alias and remove say what they did, and what to type next."""
    root = Path.cwd() / FOLDER
    added = foretell("registry", "add", "churn", folder(), "--stage", "production", "--alias", "best")
    assert Ran(0, f"Added churn version 1 to {root}\n", "Use it as models:/churn/Production\n") == added
    assert f"Added churn version 2 to {root}\n" == foretell("registry", "add", "churn", folder("two")).out
    assert "churn  versions 1 to 2, Production is 1, @best is 1\n" == foretell("registry", "list").out

    staged = foretell("registry", "stage", "churn", "2", "Production")
    assert Ran(0, "churn version 2 is now in stage Production\n", "") == staged
    named = foretell("registry", "alias", "churn", "2", "best")
    assert Ran(0, "models:/churn@best is now version 2\n", "") == named

    shown = foretell("registry", "show", "churn").out.splitlines()
    digest = here().version("churn", 2).digest
    assert ["version 1", "version 2  Production @best"] == [line for line in shown if line.startswith("version")]
    assert f"  digest {digest}" in shown
    assert 2 == shown.count("  files  MLmodel, data/model.onnx")
    assert all(f" from {Path.cwd() / 'exported'}" in line for line in shown if line.startswith("  added"))

    assert Ran(0, "Removed churn version 1\n", "") == foretell("registry", "remove", "churn", "1")
    assert "churn  version 2, Production is 2, @best is 2\n" == foretell("registry", "list").out
    assert Ran(0, "Removed churn\n", "") == foretell("registry", "remove", "churn", "--yes")
    emptied = foretell("registry", "list")
    assert Ran(0, "", f"The registry {root} is empty. Try: foretell demo\n") == emptied


def test_a_whole_model_is_removed_only_after_a_yes(versions: LocalRegistry) -> None:
    """Removing a model asks first; without an answer, or with a no, everything stays."""
    assert 0 != foretell("registry", "remove", "my-model").code
    assert 0 != foretell("registry", "remove", "my-model", stdin=b"n\n").code
    assert [1, 2, 3] == versions.versions("my-model")
    asked = foretell("registry", "remove", "my-model", stdin=b"y\n")
    assert (0, "Removed my-model\n") == (asked.code, asked.out)
    assert "3 versions" in asked.err
    assert [] == versions.models()


@pytest.mark.parametrize(
    ("uri", "number"),
    [
        pytest.param("models:/my-model/1", 1, id="version"),
        pytest.param("models:/my-model/0003", 3, id="version-with-zeros"),
        pytest.param("models:/my-model/latest", 3, id="latest"),
        pytest.param("models:/my-model/LATEST", 3, id="latest-upper"),
        pytest.param("models:/my-model/Production", 1, id="stage"),
        pytest.param("models:/my-model/production", 1, id="stage-lower"),
        pytest.param("models:/my-model/PRODUCTION", 1, id="stage-upper"),
        pytest.param("models:/my-model/shadow", 2, id="own-stage"),
        pytest.param("models:/my-model/Shadow", 2, id="own-stage-other-case"),
        pytest.param("models:/my-model/None", 3, id="newest-without-a-stage"),
        pytest.param("models:/my-model@champion", 2, id="alias"),
    ],
)
def test_a_uri_means_one_version(uri: str, number: int, versions: LocalRegistry) -> None:
    """Version, latest, stage in any case, and alias all lead to the version that they name."""
    found = resolve(uri)
    assert (number, "my-model") == (found.version, found.name)
    assert versions.version("my-model", number).path == found.path
    assert versions.version("my-model", number).digest == found.digest


@pytest.mark.parametrize(
    "form",
    [
        pytest.param("{relative}", id="relative"),
        pytest.param("{path}", id="absolute"),
        pytest.param("file://{quoted}", id="file-uri"),
        pytest.param("file:{quoted}", id="file-uri-short"),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_model_outside_a_registry_is_found_by_its_path(kind: str, form: str) -> None:
    """A folder in MLflow's format and a bare file are found by path and by file uri, spaces and all."""
    made = folder() if kind == "folder" else bare("one")
    moved = made.rename(f"my é model{made.suffix}").absolute()
    quoted = str(moved).replace(" ", "%20").replace("é", "%C3%A9")
    found = resolve(form.format(relative=moved.name, path=moved, quoted=quoted))
    assert (None, None) == (found.version, found.registry)
    assert moved == found.path.absolute()
    assert "my é model" == found.name


@pytest.mark.parametrize(
    ("uri", "code", "said"),
    [
        pytest.param("models:/my-model", 2, ["names no version", "models:/my-model/Production"], id="no-version"),
        pytest.param("models:/my-model/", 2, ["proper", "models:/NAME/3"], id="empty-version"),
        pytest.param("models:/my-model/1/2", 2, ["proper", "models:/NAME/3"], id="too-deep"),
        pytest.param("models:my-model/1", 2, ["proper", "models:/NAME/3"], id="no-slash"),
        pytest.param("models://my-model/1", 2, ["proper", "models:/NAME/3"], id="two-slashes"),
        pytest.param(
            "models:/my-model/9",
            3,
            ["no version 9 of model 'my-model'", "versions 1 to 3", "models:/my-model/Production"],
            id="unknown-version",
        ),
        pytest.param(
            "models:/my-model/Staging",
            3,
            ["no stage 'Staging'", "Production is 1", "shadow is 2", "Try: models:/my-model/Production"],
            id="unknown-stage",
        ),
        pytest.param(
            "models:/my-model@old",
            3,
            ["no alias 'old'", "@champion is 2", "Try: models:/my-model/Production"],
            id="unknown-alias",
        ),
        pytest.param(
            "models:/my-modle/1",
            3,
            ["no model 'my-modle'", "my-model (versions 1 to 3", "Try: models:/my-model/Production"],
            id="unknown-model",
        ),
        pytest.param("nowhere.onnx", 3, ["nowhere.onnx: no such file or folder", "models:/NAME/STAGE"], id="no-file"),
        pytest.param("empty", 3, ["without an MLmodel file"], id="folder-without-mlmodel"),
        pytest.param("s3://bucket/model", 3, ["does not read s3: addresses", "registry add"], id="other-scheme"),
    ],
)
def test_what_is_not_found_is_answered_with_what_there_is(
    uri: str, code: int, said: list[str], versions: LocalRegistry
) -> None:
    """A uri that leads nowhere is answered in two lines: where was looked, what is there, and what to type."""
    Path("empty").mkdir()
    got, text = refusal(uri)
    assert code == got
    assert [] == [part for part in said if part not in text], text


def test_both_doors_refuse_a_uri_that_leads_nowhere(versions: LocalRegistry) -> None:
    """predict and serve end with 3 and the two lines, before they read a row or open a port."""
    for verb in ("predict", "serve"):
        ran = foretell("models", verb, "-m", "models:/my-model/Staging")
        assert_refused(ran, 3, str(versions.root), "no stage 'Staging'", "Try: models:/my-model/Production")


def test_the_uri_to_type_is_of_the_name_that_was_probably_meant() -> None:
    """Of several models, the suggestion is the one whose name is nearest."""
    for name in ("churn", "fraud", "iris-forest"):
        here().add(name, bare(name), None, None)
    with pytest.raises(ModelNotFound) as caught:
        resolve("models:/iris_forest/Production")
    assert caught.value.hint.endswith("Try: models:/iris-forest/latest")
    assert [] == [name for name in ("churn (", "fraud (", "iris-forest (") if name not in caught.value.hint]


@pytest.mark.parametrize(
    "command", [("models", "predict", "-m", "models:/a/1"), ("registry", "show", "a")], ids=" ".join
)
def test_an_empty_registry_suggests_the_demo(command: tuple[str, ...]) -> None:
    """Where there is nothing yet, the answer is how to get something."""
    ran = foretell(*command)
    assert ran.code in (2, 3)
    assert "Try: foretell demo" in ran.err
    assert [] == list(Path.cwd().iterdir())


def test_a_stage_is_held_by_one_version_and_a_version_holds_one_stage(versions: LocalRegistry) -> None:
    """A stage given away leaves its last holder; None takes a version out of its stage."""
    versions.point("my-model", 3, stage="PRODUCTION")
    assert {"Production": 3, "shadow": 2} == versions.names("my-model").stages
    versions.point("my-model", 3, stage="Archived")
    assert {"shadow": 2, "Archived": 3} == versions.names("my-model").stages
    versions.point("my-model", 2, stage="none")
    assert {"Archived": 3} == versions.names("my-model").stages
    versions.point("my-model", 1, alias="champion")
    assert {"champion": 1} == versions.names("my-model").aliases


@pytest.mark.parametrize(
    ("command", "code"),
    [
        pytest.param(("stage", "my-model", "9", "Production"), 3, id="stage-of-no-version"),
        pytest.param(("stage", "nobody", "1", "Production"), 3, id="stage-of-no-model"),
        pytest.param(("alias", "nobody", "1", "best"), 3, id="alias-of-no-model"),
        pytest.param(("stage", "my-model", "1", "latest"), 2, id="stage-latest"),
        pytest.param(("stage", "my-model", "1", "7"), 2, id="stage-a-number"),
        pytest.param(("stage", "my-model", "1", "a/b"), 2, id="stage-with-slash"),
        pytest.param(("stage", "my-model", "1", " "), 2, id="stage-blank"),
        pytest.param(("alias", "my-model", "1", "latest"), 2, id="alias-latest"),
        pytest.param(("alias", "my-model", "1", "7"), 2, id="alias-a-number"),
        pytest.param(("alias", "my-model", "1", "a@b"), 2, id="alias-with-at"),
        pytest.param(("alias", "my-model", "1", ""), 2, id="alias-empty"),
        pytest.param(("remove", "my-model", "9"), 3, id="remove-no-version"),
        pytest.param(("remove", "nobody"), 2, id="remove-no-model"),
        pytest.param(("add", "my-model", "nowhere.onnx"), 3, id="add-nothing"),
        pytest.param(("add", "my-model", "model.onnx", "--stage", "latest"), 2, id="add-to-stage-latest"),
    ],
)
def test_a_command_that_cannot_be_done_changes_nothing(
    command: tuple[str, ...], code: int, versions: LocalRegistry
) -> None:
    """Impossible stages, aliases, versions and paths are refused, and the registry is as before."""
    before = everything(versions.root)
    assert_refused(foretell("registry", *command), code)
    assert before == everything(versions.root)


def test_numbers_are_not_given_out_again(versions: LocalRegistry) -> None:
    """The number of a removed version is never another version's, even where it was the last."""
    versions.remove("my-model", 3)
    assert 4 == versions.add("my-model", bare("four"), None, None).number
    for number in (1, 2, 4):
        versions.remove("my-model", number)
    assert [] == versions.models()
    assert 5 == versions.add("my-model", bare("five"), None, None).number


def test_a_removed_version_takes_its_stage_and_aliases_along(versions: LocalRegistry) -> None:
    """Nothing points to what is gone."""
    versions.remove("my-model", 2)
    assert {"Production": 1} == versions.names("my-model").stages
    assert {} == versions.names("my-model").aliases


def test_the_source_may_change_and_go(versions: LocalRegistry) -> None:
    """A version is a copy of its own: later changes of what was added do not reach it."""
    version = versions.add("my-model", folder("first"), None, None)
    shutil.rmtree("exported")
    assert "first" == (resolve("models:/my-model/4").path / "data" / "model.onnx").read_text()
    assert version.digest == resolve("models:/my-model/4").digest


def _change(files: Path) -> None:
    (files / "data" / "model.onnx").write_text("two")


def _truncate(files: Path) -> None:
    (files / "data" / "model.onnx").write_text("")


def _remove(files: Path) -> None:
    (files / "data" / "model.onnx").unlink()


def _add(files: Path) -> None:
    (files / "data" / "more.py").write_text("")


def _link(files: Path) -> None:
    outside = Path("outside.onnx")
    (files / "data" / "model.onnx").rename(outside)
    (files / "data" / "model.onnx").symlink_to(outside.absolute())


def _empty(files: Path) -> None:
    shutil.rmtree(files)


@pytest.mark.parametrize("tamper", [_change, _truncate, _remove, _add, _link, _empty], ids=lambda f: f.__name__[1:])
def test_a_version_that_is_not_as_it_was_registered_is_refused(tamper: Callable[[Path], None]) -> None:
    """A changed, missing, additional or linked file makes a version unreadable, and the message names the file."""
    version = here().add("my-model", folder(), "Production", None)
    assert 1 == resolve("models:/my-model/Production").version
    tamper(version.folder / "files")
    code, text = refusal("models:/my-model/Production")
    assert 3 == code
    assert str(version.folder / "files") in text


def test_both_doors_refuse_a_version_that_was_changed() -> None:
    """predict and serve end with 3 for a model whose bytes are not those that were registered."""
    version = here().add("my-model", folder(), "Production", None)
    _change(version.folder / "files")
    for verb in ("predict", "serve"):
        ran = foretell("models", verb, "-m", "models:/my-model/Production")
        assert_refused(ran, 3, "data/model.onnx is not the file that was registered")


@pytest.mark.parametrize("name", ["version.json", "../../model.json"])
@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1}', "null"], ids=["empty", "torn", "list", "other", "null"])
def test_a_broken_record_is_one_clear_error(name: str, text: str) -> None:
    """A record that was damaged is named, whatever stands in it."""
    version = here().add("my-model", bare("one"), "Production", None)
    record = (version.folder / name).resolve()
    record.write_text(text)
    code, said = refusal("models:/my-model/Production")
    assert 3 == code
    assert f"{record} cannot be read" in said


def test_the_nearest_registry_above_is_used(versions: LocalRegistry) -> None:
    """From a sub-folder, the registry of the project is found; a nearer one comes first."""
    Path("project/notebooks").mkdir(parents=True)
    os.chdir("project/notebooks")
    assert versions.root == choose().path
    assert "my-model" in foretell("registry", "list").out
    near = LocalRegistry(Path.cwd().parent / FOLDER)
    near.add("other", bare("one"), None, None)
    assert near.root == choose().path
    assert "other  version 1\n" == foretell("registry", "list").out


def test_a_flag_comes_before_the_environment_which_comes_before_the_nearest() -> None:
    """--registry beats FORETELL_REGISTRY beats the folder's own registry."""
    named = {"flag": Path("a"), "environment": Path("b"), "nearest": FOLDER}
    for name, root in named.items():
        LocalRegistry(root.absolute()).add(name, bare(name), None, None)
    listed = [
        foretell("registry", "list", "--registry", "a", FORETELL_REGISTRY="b").out,
        foretell("registry", "list", FORETELL_REGISTRY="b").out,
        foretell("registry", "list").out,
    ]
    assert [f"{name}  version 1\n" for name in named] == listed


def test_a_registry_that_is_a_file_is_refused() -> None:
    """A file in the registry's place is named, not taken for an empty registry and not overwritten."""
    Path("taken").write_text("precious")
    added = foretell("registry", "add", "my-model", bare("one"), "--registry", "taken")
    assert_refused(added, 2, "taken", "only reads")
    assert "precious" == Path("taken").read_text()


KEPT_NAMES = {
    "space": "my model",
    "unicode": "São-Paulo-模型",
    "hidden": ".hidden",
    "dot": ".",
    "dots": "..",
    "single-quote": "it's",
    "double-quote": 'say "hi"',
    "percent": "%2E%2E%2F",
    "backslash": "..\\x",
    "dollar": "$(touch x)",
    "at": "me@home",
    "number": "3",
    "lock": ".lock",
    "longest": "é" * 40,
}
REFUSED_NAMES = {
    "empty": "",
    "blank": " ",
    "slash": "a/b",
    "up": "../up",
    "root": "/tmp/up",
    "colon": "a:b",
    "newline": "a\nb",
    "escape": "a\x1b[31m",
    "reversed": "a\u202eb",
    "space-at-the-end": "a ",
    "over-long": "a" * 81,
    "over-long-in-bytes": "é" * 41,
    "torn-utf-8": os.fsdecode(b"a\xff"),
}


@pytest.mark.parametrize("name", KEPT_NAMES.values(), ids=KEPT_NAMES.keys())
def test_an_odd_name_stays_inside_the_registry(name: str) -> None:
    """A name that is allowed comes back as it was given, and nothing appears outside of the registry's folder."""
    bare("one")
    before = everything(Path.cwd().parent)
    registry = here()
    registry.add(name, Path("model.onnx"), "Production", "best")
    assert [name] == registry.models()
    assert 1 == resolve(f"models:/{name}/1").version
    assert 1 == resolve(registry.uri(name)).version
    assert name == resolve(f"models:/{name}@best").name
    new = everything(Path.cwd().parent).keys() - before.keys()
    assert all(path.startswith(f"work/{FOLDER.parts[0]}") for path in new)
    registry.remove(name, None)
    assert [] == registry.models()
    assert [".lock"] == [path.name for path in registry.root.iterdir()]


@pytest.mark.parametrize("name", REFUSED_NAMES.values(), ids=REFUSED_NAMES.keys())
def test_a_name_that_cannot_be_one_is_refused(name: str) -> None:
    """Names that would lead elsewhere or cannot be typed are refused at add, and nothing is written."""
    bare("one")
    before = everything(Path.cwd().parent)
    with pytest.raises(UsageError, match="cannot be a model's name"):
        here().add(name, Path("model.onnx"), None, None)
    assert before == everything(Path.cwd().parent)


def _symlink(path: Path) -> None:
    path.symlink_to(Path("/etc/hostname"))


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def _folder_link(path: Path) -> None:
    path.symlink_to("data", target_is_directory=True)


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.parametrize("kind", [_symlink, _dangling, _folder_link, _fifo, _socket], ids=lambda f: f.__name__[1:])
def test_what_is_no_plain_file_is_refused_at_add(kind: Callable[[Path], None]) -> None:
    """A model holds plain files only: links and special files are named, and nothing is registered."""
    made = folder()
    kind(made / "odd")
    assert_refused(foretell("registry", "add", "my-model", made), 3, str(made / "odd"))
    assert [] == here().models()


def test_a_special_file_alone_is_no_model() -> None:
    """A fifo in a model's place is refused and not waited for."""
    os.mkfifo("model.onnx")
    assert_refused(foretell("registry", "add", "my-model", "model.onnx"), 3, "model.onnx")


def test_an_empty_folder_is_no_model() -> None:
    """There must be something to register."""
    Path("nothing").mkdir()
    assert_refused(foretell("registry", "add", "my-model", "nothing"), 3, "nothing is an empty folder")


def test_a_file_name_that_is_no_text_is_one_clear_error() -> None:
    """A file whose name is not UTF-8 is refused, or kept; never a traceback, and nothing half registered."""
    made = folder()
    (made / os.fsdecode(b"caf\xe9.txt")).write_text("one")
    ran = foretell("registry", "add", "my-model", made)
    assert "Traceback" not in ran.err
    assert [1] * (ran.code == 0) == here().versions("my-model")
    assert ran.code in (0, 2, 3)


_ADD_FIVE = """
import sys
from pathlib import Path
from foretell.registry.choose import choose
from foretell.registry.local import LocalRegistry

registry, who = LocalRegistry(Path(sys.argv[1])), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for turn in range(5):
    model = Path(f"{who}.onnx")
    model.write_text(f"{who} {turn}")
    registry.add("my-model", model, "Production", f"{who}-{turn}")
"""


def test_processes_that_add_at_once_lose_nothing() -> None:
    """Versions added by two processes at the same time all get a number, their alias and their own bytes."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _ADD_FIVE, str(here().root), who],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for who in ("a", "b")
    ]
    for process in running:
        assert "ready\n" == process.stdout.readline()
    for process in running:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in running:
        process.communicate(timeout=PATIENCE)
    assert [0, 0] == [process.returncode for process in running]
    assert list(range(1, 11)) == here().versions("my-model")
    held = {alias: resolve(f"models:/my-model@{alias}").path.read_text() for alias in here().names("my-model").aliases}
    assert {f"{who}-{turn}": f"{who} {turn}" for who in "ab" for turn in range(5)} == held
    assert 10 == here().names("my-model").stages["Production"]


def test_a_kill_while_a_large_model_is_copied_leaves_no_half_version() -> None:
    """Killed at any point of the copy, an add leaves the registry as it was, and the next add works."""
    registry = here()
    registry.add("my-model", bare("one"), "Production", None)
    with Path("large.onnx").open("wb") as sparse:
        sparse.truncate(LARGE)
    killed_at = []
    for moment in (0, 1, LARGE // 10, LARGE // 2, LARGE - (2 << 20)):
        add = [sys.executable, "-m", "foretell", "registry", "add", "my-model", "large.onnx", "--stage", "Production"]
        size = _killed_when(add, registry.root, moment)
        assert [1] == registry.versions("my-model")
        assert 1 == resolve("models:/my-model/Production").version
        killed_at.append(size)
        for draft in registry.root.glob("my-model/versions/.draft-*"):
            shutil.rmtree(draft)
    assert [] == [size for size in killed_at if not 0 <= size <= LARGE]
    assert 2 <= len([size for size in killed_at if 0 < size < LARGE]), killed_at
    added = foretell("registry", "add", "my-model", bare("two"), "--stage", "Production")
    assert 0 == added.code
    assert "two" == resolve("models:/my-model/Production").path.read_text()


def _killed_when(command: list[str], root: Path, copied: int) -> int:
    """SIGKILLs the command once its draft holds so many bytes; how many it held when it was dead."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + PATIENCE
    while _draft_size(root) < copied:
        with contextlib.suppress(subprocess.TimeoutExpired):
            raise AssertionError(f"it ended by itself, with {process.wait(timeout=0.0005)}, before it was killed")
        assert time.monotonic() < until
    process.kill()
    assert -signal.SIGKILL == process.wait(PATIENCE)
    return _draft_size(root)


def _draft_size(root: Path) -> int:
    """How much of the model was copied; -1 before the draft is there."""
    sizes = [path.stat().st_size for path in root.glob("my-model/versions/.draft-*/files/*")]
    return sum(sizes) if sizes else -1


_KILLED_AT_EACH_STEP = """
import json, os, shutil, signal, sys
from pathlib import Path
from foretell.registry.choose import choose
from foretell.registry.local import LocalRegistry
from foretell.registry.resolve import resolve

STEPS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.scandir", "fcntl.flock", "shutil.rmtree")
what = sys.argv[1]
told = []

def run(root, kill_at):
    registry, left = LocalRegistry(root), kill_at
    def hook(event, _):
        nonlocal left
        if event in STEPS:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    if what == "add":
        registry.add("my-model", Path("exported"), "Production", "new")
    elif what == "stage":
        registry.point("my-model", 1, stage="Production")
    elif what == "remove-version":
        registry.remove("my-model", 2)
    else:
        registry.remove("my-model", None)

for step in range(1, 1000):
    root = Path(f"registry-{step}").absolute()
    shutil.copytree("prepared", root)
    child = os.fork()
    if child == 0:
        run(root, step)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    told.append([str(root), os.WIFSIGNALED(status)])
    if not os.WIFSIGNALED(status):
        break
print(json.dumps(told))
"""


@pytest.mark.parametrize(
    ("what", "least", "numbers", "stages"),
    [
        pytest.param("add", 12, [1, 2, 3], {"Production": 3}, id="add"),
        pytest.param("stage", 4, [1, 2], {"Production": 1}, id="stage"),
        pytest.param("remove-version", 6, [1], {}, id="remove-version"),
        pytest.param("remove", 6, [], {}, id="remove"),
    ],
)
def test_a_kill_at_any_step_leaves_a_whole_registry(
    what: str, least: int, numbers: list[int], stages: dict[str, int]
) -> None:
    """Killed before any of its steps on disk, a change is done or not: what is listed loads, what points somewhere
    points to what is there, and the next version gets a number of its own."""
    prepared = LocalRegistry(Path("prepared").absolute())
    prepared.add("my-model", bare("one"), None, None)
    prepared.add("my-model", bare("two"), "Production", None)
    folder()
    told = json.loads(_python(_KILLED_AT_EACH_STEP, what))
    assert [True] * (len(told) - 1) + [False] == [killed for _, killed in told]
    assert least <= len(told) - 1
    whole = LocalRegistry(Path(told[-1][0]))
    assert (numbers, stages) == (whole.versions("my-model"), whole.names("my-model").stages)
    for root, _ in told:
        registry = LocalRegistry(Path(root))
        listed = registry.versions("my-model")
        assert listed == [resolve(f"models:/my-model/{number}", root).version for number in listed]
        held = set(registry.names("my-model").stages.values())
        assert held <= set(listed)
        assert registry.add("my-model", Path("exported"), None, None).number > max([0, *listed])


def _python(script: str, *arguments: str) -> str:
    """What a Python process prints that runs the script."""
    ran = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert 0 == ran.returncode, ran.stderr
    return ran.stdout


def everything(root: Path) -> dict[str, bytes | None]:
    """All under root: the bytes of every file, None for a folder."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes() if path.is_file() else None
        for path in root.rglob("*")
        if path.name != ".lock"
    }
