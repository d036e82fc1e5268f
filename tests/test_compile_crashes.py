"""A compilation that is killed, or overtaken by another: one whole proof counts at any moment, and nothing stays."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from conftest import COMMAND, foretell
from engines import Ready, compile_, place_of, predicted, summary, write_rows
from foretell import predictor
from foretell.models.proven import Entry, Record

pytestmark = pytest.mark.usefixtures("automatic")

KEEPS = """
import os, signal, sys
from pathlib import Path
import msgspec
from foretell.models.proven import Entry, Record
at, entry, record, *drafts = sys.argv[1:]
moves = 0
def counted(move):
    def moved(self, target):
        global moves
        if (moves := moves + 1) == int(at):
            os.kill(os.getpid(), signal.SIGKILL)
        move(self, target)
        if moves == -int(at):
            os.kill(os.getpid(), signal.SIGKILL)
    return moved
Path.rename, Path.replace = counted(Path.rename), counted(Path.replace)
drafts = {Path(draft).name: Path(draft) for draft in drafts}
Entry(Path(entry)).keep(msgspec.json.decode(record, type=Record), drafts)
"""
"""Keeps a proof, and is killed before its at-th file or folder is in place; after that where at is below 0."""


def another(record: Record) -> Record:
    return msgspec.structs.replace(record, when="another time")


@pytest.mark.parametrize(
    ("at", "counts"),
    [
        pytest.param(1, "the old", id="before the first engine"),
        pytest.param(2, "the old", id="between two engines"),
        pytest.param(3, "the old", id="between engine and record"),
        pytest.param(-3, "the new", id="after the record"),
    ],
)
def test_a_crash_while_a_proof_is_put_in_place(at: int, counts: str, models: Path, ready: Ready) -> None:
    """Until the new record is there the old one counts, with its own engine; the next compilation sweeps the other."""
    place = ready(models / "logistic")
    old, folder = place.record(), place.chosen()
    assert old is not None
    assert folder is not None
    draft = place.folder / "draft-abcdefgh"
    drafts = [shutil.copytree(folder, draft / name) for name in ("kernel", "onnx")]
    record = msgspec.json.encode(another(old)).decode()
    command = [sys.executable, "-c", KEEPS, str(at), str(place.folder), record, *map(str, drafts)]
    assert -signal.SIGKILL == subprocess.run(command, check=False).returncode
    found = place.chosen()
    assert found is not None
    assert (counts == "the old") == (found == folder)
    assert (old if counts == "the old" else another(old)) == place.record()
    write_rows(models, "logistic")
    assert "compiled kernel" in summary(predicted(models / "logistic")[1])
    with place.locked(print):
        pass
    id_ = found.name.rpartition("-")[2]
    left = {"kernel"} if counts == "the old" else {"kernel", "onnx"}
    assert {".lock", "record.json", f"seen-{id_}.json", *(f"{name}-{id_}" for name in left)} == names(place)


def names(place: Entry) -> set[str]:
    return {path.name for path in place.folder.iterdir()}


COMPILES = """
import os, signal, sys
from foretell.models import compiled
def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)
compiled.open_engine = killed
from foretell.cli.main import process
process()
"""
"""The command, which is killed when it opens the first engine that it wrote."""


def test_a_killed_compilation_leaves_nothing_in_use(models: Path) -> None:
    """After SIGKILL in the middle the library predicts; the next compilation works and sweeps what is ours alone."""
    command = [sys.executable, "-c", COMPILES, "models", "compile", "-m", str(models / "logistic")]
    assert -signal.SIGKILL == subprocess.run(command, capture_output=True, check=False).returncode
    place = place_of(models / "logistic")
    assert (None, 1) == (place.record(), len([name for name in names(place) if name.startswith("draft-")]))
    locked = next(place.folder.glob("draft-*")) / "kernel"
    locked.chmod(0o500)
    (place.folder / "draft-of mine").write_text("mine")
    write_rows(models, "logistic")
    assert "scikit-learn" in predicted(models / "logistic")[1]
    assert "kernel" == compile_(models / "logistic")["engine"]
    chosen = place.chosen()
    assert chosen is not None
    assert {".lock", "record.json", chosen.name, "draft-of mine"} == names(place)


def test_a_model_that_is_compiled_anew_meanwhile(models: Path, ready: Ready) -> None:
    """Who found a proof that another process replaced predicts by the new one; what is found wrong with the old one is
    no word against the new."""
    place = ready(models / "logistic")
    found, record = predictor.find(str(models / "logistic")), place.record()
    assert found.compiled is not None
    assert record is not None
    with place.locked(print), place.draft() as draft:
        place.keep(another(record), {"kernel": Path(shutil.copytree(found.compiled, Path(draft) / "kernel"))})
    assert predictor.load(found).found == found
    with place.locked(print):
        assert not found.compiled.exists()
    opened = predictor.load(found)
    assert ("compiled kernel", (), place.chosen()) == (opened.engine.name, opened.notes, opened.found.compiled)
    place.demote("it was wrong", found.compiled)
    assert ("it was wrong", None) == (place.demoted(found.compiled), place.demoted())
    place.demote("it is wrong")
    assert ("native", "it is wrong") == tuple(
        json.loads(foretell("models", "inspect", "-m", models / "logistic", "--json").out)[name]
        for name in ("engine", "why")
    )


def test_two_may_compile_at_once(models: Path) -> None:
    """One works and the other waits for it; both tell the same record."""
    command = [*COMMAND, "models", "compile", "-m", str(models / "two_outputs"), "--json"]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    ended = [process.communicate(timeout=60) for process in running]
    assert [0, 0] == [process.returncode for process in running]
    first, second = (json.loads(out)["record"] for out, _ in ended)
    assert first == second
