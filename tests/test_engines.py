"""Engines: proven equal before they are used, the same in both ways, and given up by both when a row says otherwise."""

import csv
import functools
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import foretell as library
from conftest import COMMAND, PATIENCE, Lines, _reader, foretell, model_path, rows_of, serving
from foretell import predictor
from foretell.batch import Answers, Batch, Call, Output
from foretell.compiler import candidates, verify
from foretell.compiler.candidates import MAKERS, Artifact, Maker
from foretell.compiler.compile import calls_of, compile_model
from foretell.compiler.draw import ROWS, draw
from foretell.compiler.watch import Watch
from foretell.config import ENGINES
from foretell.errors import ModelError, RowRefused
from foretell.kernels import stored
from foretell.models import compiled, mlmodel, proven, requirements
from foretell.models.load import Loaded, Settled
from foretell.predictor import Predictor


@pytest.fixture(autouse=True)
def _automatic(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FORETELL_ENGINE")
    monkeypatch.setenv("FORETELL_CACHE", str(tmp_path / "cache"))


def compile_(model: Path, *arguments: object) -> dict[str, Any]:
    """The command, and what it tells."""
    ran = foretell("models", "compile", "-m", model, "--json", *arguments)
    assert 0 == ran.code, ran.err
    told: dict[str, Any] = json.loads(ran.out)
    return told


@pytest.fixture(scope="module")
def ready(flavours: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., proven.Entry]:
    """Puts a model that was compiled into the test's cache; each is compiled once, in this process."""
    caches = tmp_path_factory.mktemp("caches")

    @functools.cache
    def made(model: Path) -> Path:
        cache = caches / model.name
        before, os.environ["FORETELL_CACHE"] = os.environ["FORETELL_CACHE"], str(cache)
        try:
            compile_model(predictor.find(str(model), trust=True, engine="native"))
        finally:
            os.environ["FORETELL_CACHE"] = before
        return cache

    def copied(model: Path, *, seen: bool = True) -> proven.Entry:
        shutil.copytree(made(model), os.environ["FORETELL_CACHE"], dirs_exist_ok=True)
        place = place_of(model)
        if seen:
            place.saw(1)
        return place

    return copied


Ready = Callable[..., proven.Entry]


def place_of(model: Path) -> proven.Entry:
    return proven.entry(predictor.find(str(model), trust=True, engine="native").resolved.digest)


def write_rows(models: Path, name: str, path: str = "in.csv", times: int = 1) -> None:
    columns, rows = rows_of(models, name)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows([columns, *rows * times])
    Path(path).write_text(text.getvalue())


def predicted(model: object, *arguments: object) -> tuple[bytes, str]:
    """The output's bytes, and what was said."""
    ran = foretell("models", "predict", "-m", model, "-i", "in.csv", "-o", "out.csv", *arguments)
    assert 0 == ran.code, ran.err
    return Path("out.csv").read_bytes(), ran.err


def test_every_engine_can_be_asked_for() -> None:
    """What --engine takes is what can be made, and the two ways to choose."""
    assert set(ENGINES) == {"auto", "native", *MAKERS}


def test_compiling_proves_and_measures(models: Path) -> None:
    """A compiled model tells on how many rows of which kinds it was proven equal, and what each engine takes."""
    told = compile_(models / "logistic")
    native, kernel = told["record"]["tried"]
    proof = kernel["verified"]
    assert ("kernel", "native") == (told["engine"], native["engine"])
    assert (True, 0.0, 0) == (proof["exact"], proof["largest"], proof["changed"])
    assert proof["rows"] >= ROWS
    assert {"example", "drawn", "nulls", "extremes", "one ulp around the boundary"} == set(proof["kinds"])
    assert proof["refused"] > 0
    assert {"1", "32", "4096"} == set(kernel["seconds"]) == set(native["seconds"])
    assert told["record"]["made"]["scikit-learn"]


def test_compiling_again_counts_what_is_there(models: Path) -> None:
    """A second compilation tells the first one's record, and --again makes another."""
    first = compile_(models / "logistic")
    assert first["record"] == compile_(models / "logistic")["record"]
    assert first["record"]["seconds"] != compile_(models / "logistic", "--again")["record"]["seconds"]


@pytest.mark.parametrize("name", ["logistic", "two_outputs", "params", "nosignature"])
def test_a_compiled_model_predicts_the_same_bytes(models: Path, ready: Ready, name: str) -> None:
    """Batch output is the library's to the byte, and the engine is named."""
    model = model_path(models, name)
    write_rows(models, name)
    expected, said = predicted(model)
    assert "scikit-learn" in said
    ready(model)
    got, said = predicted(model)
    assert "numpy kernel" in said
    assert expected == got


def test_a_model_that_nothing_covers_stays_with_its_library(models: Path) -> None:
    """What cannot be compiled is told, and predicts as before."""
    told = compile_(models / "onnx")
    assert ("native", "foretell has no other engine for ONNX Runtime models") == (told["engine"], told["why"])
    refused = foretell("models", "compile", "-m", models / "onnx", "-o", "compiled")
    assert (3, True) == (refused.code, "has no engine to compile to" in refused.err)
    assert not Path("compiled").exists()


def test_a_forest_is_proven_in_onnx_runtime(models: Path) -> None:
    """Where no kernel is exact ONNX Runtime may be, on rows an ulp around every threshold."""
    told = compile_(models / "forest")
    tried = {one["engine"]: one for one in told["record"]["tried"]}
    assert "does not cover RandomForestClassifier" == tried["kernel"]["why"]
    assert ("onnx", True) == (told["engine"], tried["onnx"]["verified"]["exact"])
    assert tried["onnx"]["verified"]["kinds"]["one ulp around thresholds"] > 300


def test_an_engine_that_rounds_is_used_by_its_name_only(models: Path) -> None:
    """ONNX Runtime's last bits of a probability are not scikit-learn's: that is said, and auto takes the kernel."""
    write_rows(models, "logistic")
    _, said = predicted(models / "logistic", "--engine", "onnx", "--proba")
    assert "ONNX Runtime does not answer as scikit-learn does" in said
    assert "numbers differ by" in said
    assert "ONNX Runtime" in said.splitlines()[-1]
    told = compile_(models / "logistic")
    assert {"native", "kernel", "onnx"} == {one["engine"] for one in told["record"]["tried"]}
    assert "kernel" == told["engine"]


# Wrong engines: verification must find each.


class Wrong:
    """An engine that answers as the library does, but for what wrong makes of it."""

    name, block = "wrong", None

    def __init__(self, native: Predictor, wrong: Callable[["Wrong", Batch, Call], Answers]) -> None:
        self.right, self.proba = native.predict, native.engine.proba
        self._wrong = wrong
        self.fired = 0

    def predict(self, batch: Batch, call: Call) -> Answers:
        return self._wrong(self, batch, call)


ODD = 4321
"""One row in 10,000: the one whose first cell is the drawn rows' 4,321st."""


def changed(change: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[[float], Callable[..., Answers]]:
    """Changes an output's values in the rows where the first cell is the odd one."""

    def make(odd: float) -> Callable[..., Answers]:
        def wrong(engine: Wrong, batch: Batch, call: Call) -> Answers:
            rows = batch.columns[0] == odd
            answers = engine.right(batch, call)
            if not rows.any():
                return answers
            engine.fired += 1
            first, *rest = answers.outputs
            return Answers((Output(first.name, change(first.values, rows), first.labels), *rest))

        return wrong

    return make


def unrefused(odd: float) -> Callable[..., Answers]:
    """Answers one row that the library refuses."""

    def wrong(engine: Wrong, batch: Batch, call: Call) -> Answers:
        if batch.rows == 1 and np.isnan(batch.columns[0][0]):
            engine.fired += 1
            if engine.fired == 1:
                return engine.right(Batch(1, [np.zeros(1) for _ in batch.columns]), call)
        return engine.right(batch, call)

    return wrong


def too_strict(odd: float) -> Callable[..., Answers]:
    """Refuses one row that the library answers."""

    def wrong(engine: Wrong, batch: Batch, call: Call) -> Answers:
        if (batch.columns[0] == odd).any():
            engine.fired += 1
            raise RowRefused("not this one")
        return engine.right(batch, call)

    return wrong


def in_company(odd: float) -> Callable[..., Answers]:
    """Drifts by one ulp when there are other rows."""

    def wrong(engine: Wrong, batch: Batch, call: Call) -> Answers:
        answers = engine.right(batch, call)
        if batch.rows != 32:
            return answers
        engine.fired += 1
        return Answers((replace(answers.outputs[0], values=np.nextafter(answers.outputs[0].values, np.inf)),))

    return wrong


WRONG: dict[str, tuple[str, Callable[[float], Callable[..., Answers]]]] = {
    "flips a label": ("nosignature", changed(lambda v, rows: np.where(rows, (v + 1) % 3, v))),
    "drifts by an ulp": ("params", changed(lambda v, rows: np.where(rows, np.nextafter(v, np.inf), v))),
    "answers what is refused": ("params", unrefused),
    "refuses what is answered": ("params", too_strict),
    "drifts in company": ("params", in_company),
    "another zero": ("params", changed(lambda v, rows: np.where(rows, -0.0 * np.sign(v), v))),
    "another dtype": ("params", changed(lambda v, rows: v.astype("float32"))),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_engine_is_found(kind: str, models: Path) -> None:
    """An engine that is wrong in one row of 10,000, by one bit or one refusal, is not exact, and the reason is told."""
    name, make = WRONG[kind]
    native = predictor.open(str(model_path(models, name)))
    calls = calls_of(native)[-1:]
    rows = draw(native, verify.labeller(native, calls[0]))
    wrong = Wrong(native, make(float(rows.kinds["drawn"].columns[0][ODD])))
    expected = verify.reference(native, rows, calls)
    proof = verify.verified(behind(wrong, native), expected, native)
    assert wrong.fired > 0
    assert (False, True) == (proof.exact, bool(proof.why))
    right = Wrong(native, lambda engine, batch, call: engine.right(batch, call))
    assert verify.verified(behind(right, native), expected, native).exact


def behind(engine: Wrong, native: Predictor) -> Predictor:
    """A predictor with another engine than the model's."""
    loaded = Loaded(engine, native.signature, native.names)
    return Predictor(native.found, Settled(native.stored, "sklearn", trusted=False), loaded, native.signature)


def wrong_kernel(native: Predictor) -> Any:
    """The kernel of a model with one weight off by one ulp."""
    for artifact in candidates._kernels(native):

        def files(folder: Path, artifact: Artifact = artifact) -> None:
            artifact.files(folder)
            weights = np.load(folder / "kernel" / "0.npy")
            weights.flat[0] = np.nextafter(weights.flat[0], np.inf)
            np.save(folder / "kernel" / "0.npy", weights)

        yield Artifact(files)


def test_a_wrong_engine_is_not_chosen(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no engine is proven, the library predicts, and the record says why."""
    monkeypatch.setitem(MAKERS, "kernel", Maker("numpy kernel", ("sklearn",), wrong_kernel))
    record = compile_model(predictor.find(str(models / "params"), engine="native"))
    tried = record.of_engine("kernel")
    assert "native" == record.chosen
    assert tried is not None and tried.verified is not None and not tried.verified.exact
    assert tried.why in record.why
    write_rows(models, "params")
    assert "scikit-learn" in predicted(models / "params")[1]


def planted(model: Path, ready: Ready) -> proven.Entry:
    """A cache in which a wrong kernel stands as proven."""
    place = ready(model, seen=False)
    folder = place.compiled("kernel")
    assert folder is not None
    described = compiled.describe(mlmodel.read(folder))
    record = compiled.record(folder)
    assert record is not None
    native = predictor.load(predictor.find(str(model), engine="native"))
    shutil.rmtree(folder)
    folder.mkdir()
    compiled.write(folder, described, next(wrong_kernel(native)).files, record, None)
    return place


def test_real_data_is_checked_and_demotes_for_both_ways(models: Path, ready: Ready) -> None:
    """The first rows of a job are held against the library: a difference is said, the output is the library's, and
    neither way uses the engine again."""
    model = models / "params"
    write_rows(models, "params")
    expected, _ = predicted(model, "--engine", "native")
    place = planted(model, ready)
    got, said = predicted(model)
    assert expected == got
    assert "does not answer these rows as scikit-learn does" in said
    assert "scikit-learn" in said.splitlines()[-1]
    assert "does not answer" in (place.demoted() or "")
    assert "native" == json.loads(foretell("models", "inspect", "-m", model, "--json").out)["engine"]
    assert "in spite of what was compiled" in " ".join(foretell("models", "inspect", "-m", model).out.split())
    got, said = predicted(model)
    assert (expected, False) == (got, "does not answer" in said)
    assert "kernel" == compile_(model, "--again")["engine"]
    assert None is place.demoted()


def test_a_running_server_gives_a_demoted_engine_up(models: Path, ready: Ready) -> None:
    """A server goes back to the library when a job finds that the engine answers otherwise."""
    model = models / "params"
    _, rows = rows_of(models, "params")
    body = json.dumps({"data": rows})
    with serving("-m", model, "--engine", "native") as server:
        expected = server.post(body).body
    planted(model, ready)
    write_rows(models, "params")
    with serving("-m", model) as server:
        assert expected != server.post(body).body
        predicted(model)
        server.lines.until("back to scikit-learn")
        assert expected == server.post(body).body


def test_a_server_swaps_the_proven_engine_in(models: Path) -> None:
    """A server answers at once by the library, then by the engine that was proven meanwhile; no answer differs."""
    _, rows = rows_of(models, "logistic")
    body = json.dumps({"data": rows[:5]})
    with serving("-m", models / "logistic") as server:
        expected = server.post(body, query="?proba=true").body
        stop, different, asked = threading.Event(), list[bytes](), [0]

        def ask() -> None:
            while not stop.wait(0.02):
                reply = server.post(body, query="?proba=true")
                asked[0] += 1
                if (200, expected) != (reply.status, reply.body):
                    different.append(reply.body)

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            server.lines.until("now predicting with the numpy kernel")
            after = asked[0]
            assert expected == server.post(body, query="?proba=true").body
        finally:
            stop.set()
            asking.join(PATIENCE)
        assert [] == different
        assert after > 0
    with serving("-m", models / "logistic", "-w", "2") as server:
        assert expected == server.post(body, query="?proba=true").body


def test_a_job_compiles_where_the_rows_ahead_pay(models: Path) -> None:
    """With many rows ahead an engine is made on the way and takes over, with the same answers; with few it is not."""
    opened = predictor.open(str(models / "pipeline"), trust=True)
    batch = opened.decoder.values(rows_of(models, "pipeline")[1])
    call, said = Call(True), list[str]()
    expected = opened.predict(batch, call)
    watch = Watch(opened, say=said.append)
    watch.before(batch, call, 10**7)
    watch.after(batch.rows, 10_000)
    assert ([], "scikit-learn") == (said, opened.engine.name)
    watch.after(batch.rows, 10**7)
    assert "from here on the numpy kernel predicts" in said[-1]
    assert "numpy kernel" == opened.engine.name
    assert None is verify.compared(opened.predict(batch, call), expected)
    assert place_of(models / "pipeline").seen() == batch.rows


def test_a_short_job_makes_nothing(models: Path) -> None:
    """Few rows are predicted by the library, and nothing is said or left in the cache."""
    write_rows(models, "pipeline")
    assert 1 == len(predicted(models / "pipeline", "--trust")[1].splitlines())
    assert not Path(os.environ["FORETELL_CACHE"]).exists()


ENGINE_MODELS = ["logistic", "forest", "onnx", "two_outputs", "params", "pipeline", "mlflow3/lgb_classifier"]


@pytest.mark.parametrize("engine", ["native", "auto"])
@pytest.mark.parametrize("name", ENGINE_MODELS)
def test_the_number_of_rows_changes_no_answer(name: str, engine: str, flavours: Path, ready: Ready) -> None:
    """With every engine a row has the same bits alone, in 32 and in 4,096."""
    if engine == "auto":
        ready(flavours / name)
    opened = predictor.load(predictor.find(str(flavours / name), trust=True, engine=engine))
    rows = rows_of(flavours, name)[1]
    batch = opened.decoder.values((rows * 40)[:4096])
    call = Call(opened.engine.proba, opened.signature.call_params({}))
    whole = opened.predict(batch, call)
    for size in (1, 32):
        for start in range(0, 200 * size, size * 7):
            part = slice(start % 4064, start % 4064 + size)
            for one, all_ in zip(opened.predict(batch[part], call).outputs, whole.outputs, strict=True):
                assert one.values.dtype == all_.values.dtype
                assert verify.same_bits(one.values, all_.values[part]).all()


# The compiled folder: a model of its own.


@pytest.fixture
def folder(models: Path, ready: Ready) -> Path:
    made = ready(models / "logistic").compiled("kernel")
    assert made is not None
    return Path(shutil.copytree(made, "compiled"))


def test_a_compiled_folder_is_a_model(models: Path) -> None:
    """predict and serve take it, inspect shows it, and it answers what the model answers."""
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
    assert 2 == foretell("models", "compile", "-m", folder).code


# The cache.


def test_what_it_depends_on_must_be_the_same(models: Path, ready: Ready) -> None:
    """A proof for another numpy, processor or library does not count here."""
    place = ready(models / "logistic")
    record = place.record()
    assert record is not None
    for name in record.made:
        place.keep(msgspec.structs.replace(record, made={**record.made, name: "another"}))
        assert (None, None) == (place.record(), place.chosen())
    place.keep(record)
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
    shutil.rmtree(one.folder / "kernel")
    shutil.copytree(other.folder / "kernel", one.folder / "kernel")
    write_rows(models, "logistic")
    _, said = predicted(models / "logistic")
    assert "was not compiled of" in said
    assert "scikit-learn" in said.splitlines()[-1]


def test_nothing_of_a_compiled_pickle_runs(models: Path, flavours: Path) -> None:
    """Once a trusted pickle was compiled, predicting needs no trust, as nothing of it is loaded; its library does."""
    model = flavours / "mlflow2" / "sklearn"
    write_rows(flavours, "mlflow2/sklearn")
    refused = foretell("models", "compile", "-m", model)
    assert (3, True) == (refused.code, "would run code" in refused.err)
    compile_(model, "--trust")
    assert "numpy kernel" in predicted(model)[1]
    assert 3 == foretell("models", "predict", "-m", model, "--engine", "native", "-i", "in.csv").code


def test_two_may_compile_at_once(models: Path) -> None:
    """One works and the other waits for it; both tell the same record."""
    command = [*COMMAND, "models", "compile", "-m", str(models / "two_outputs"), "--json"]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    ended = [process.communicate(timeout=PATIENCE) for process in running]
    assert [0, 0] == [process.returncode for process in running]
    first, second = (json.loads(out)["record"] for out, _ in ended)
    assert first == second


def test_a_killed_compilation_leaves_nothing_in_use(models: Path) -> None:
    """After SIGKILL in the middle the library predicts, and compiling again works."""
    command = [*COMMAND, "models", "compile", "-m", str(models / "logistic")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    lines = Lines()
    reader = _reader(process.stderr, lines.take)
    lines.until("comparing with scikit-learn")
    process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE)
    reader.join(PATIENCE)
    assert None is place_of(models / "logistic").record()
    write_rows(models, "logistic")
    assert "scikit-learn" in predicted(models / "logistic")[1]
    assert "kernel" == compile_(models / "logistic")["engine"]


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


def test_an_engine_by_name_is_made_and_used(models: Path) -> None:
    """--engine NAME makes the engine where it is not there; one that cannot be made ends with 3 and says why."""
    write_rows(models, "logistic")
    assert "numpy kernel" in predicted(models / "logistic", "--engine", "kernel")[1]
    refused = foretell("models", "predict", "-m", models / "forest", "--engine", "kernel", "-i", "in.csv")
    assert (3, True) == (refused.code, "does not cover RandomForestClassifier" in refused.err)
    refused = foretell("models", "predict", "-m", models / "onnx", "--engine", "kernel", "-i", "in.csv")
    assert (3, True) == (refused.code, "there is no engine 'kernel'" in refused.err)
    with pytest.raises(ModelError, match="does not cover"):
        library.load(str(models / "forest"), engine="kernel")
    assert "numpy kernel" in repr(library.load(str(models / "logistic"), engine="kernel"))


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


def test_an_untrusted_pickle_is_compiled_in_the_sandbox_only(flavours: Path) -> None:
    """With --sandbox its library computes where nothing can be harmed, and then it predicts without trust."""
    model = flavours / "mlflow2" / "sklearn"
    write_rows(flavours, "mlflow2/sklearn")
    expected, _ = predicted(model, "--trust", "--engine", "native")
    told = compile_(model, "--sandbox")
    assert ("needed", "kernel") == (told["trust"], told["engine"])
    got, said = predicted(model)
    assert (expected, True) == (got, "numpy kernel" in said)


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
