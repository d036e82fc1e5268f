"""Engines: proven equal before they are used, the same in both ways, and given up by both when a row says otherwise."""

import functools
import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from conftest import PATIENCE, foretell, model_path, rows_of, serving
from engines import Ready, compile_, predicted, summary, write_rows
from foretell import predictor
from foretell.batch import Answers, Batch, Call, Output
from foretell.compiler import candidates, verify
from foretell.compiler.candidates import MAKERS, Artifact, Maker
from foretell.compiler.compile import calls_of, compile_model
from foretell.compiler.draw import ROWS, draw
from foretell.config import ENGINES
from foretell.errors import RowRefused
from foretell.models import compiled, mlmodel, proven
from foretell.models.load import Loaded, Settled
from foretell.predictor import Predictor

pytestmark = pytest.mark.usefixtures("automatic")


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
    assert proof["answered"] >= ROWS
    assert proof["answered"] + proof["refused"] == sum(proof["kinds"].values())
    assert {"example", "drawn", "nulls", "extremes", "one ulp around the boundary"} == set(proof["kinds"])
    assert proof["refused"] > 0
    assert {"1", "32", "4096"} == set(kernel["seconds"]) == set(native["seconds"])
    assert told["record"]["made"]["scikit-learn"]


def test_compiling_again_counts_what_is_there(models: Path, ready: Ready) -> None:
    """A second compilation tells the first one's record."""
    first = ready(models / "logistic").record()
    assert msgspec.to_builtins(first, str_keys=True) == compile_(models / "logistic")["record"]


@pytest.mark.parametrize("name", ["logistic", "two_outputs", "params", "nosignature"])
def test_a_compiled_model_predicts_the_same_bytes(models: Path, ready: Ready, name: str) -> None:
    """Batch output is the library's to the byte, and the engine is named."""
    model = model_path(models, name)
    write_rows(models, name)
    expected, said = predicted(model)
    assert "scikit-learn" in said
    ready(model)
    got, said = predicted(model)
    assert "compiled kernel" in said
    assert expected == got


def test_a_model_that_nothing_covers_stays_with_its_library(models: Path) -> None:
    """What cannot be compiled is told, and predicts as before."""
    told = compile_(models / "onnx")
    assert ("native", "foretell has no other engine for ONNX Runtime models") == (told["engine"], told["why"])
    refused = foretell("models", "compile", "-m", models / "onnx", "-o", "compiled")
    assert (3, True) == (refused.code, "has no engine to compile to" in refused.err)
    assert not Path("compiled").exists()


def test_an_engine_that_rounds_is_used_by_its_name_only(models: Path) -> None:
    """ONNX Runtime's last bits of a probability are not scikit-learn's: that is said, by a folder that was compiled for
    it too, and auto takes the kernel."""
    write_rows(models, "logistic")
    _, said = predicted(models / "logistic", "--engine", "onnx", "--proba")
    assert "ONNX Runtime does not answer as scikit-learn does" in said
    assert "numbers differ by" in said
    assert "ONNX Runtime" in summary(said)
    told = compile_(models / "logistic")
    assert {"native", "kernel", "onnx"} == {one["engine"] for one in told["record"]["tried"]}
    assert "kernel" == told["engine"]
    compile_(models / "logistic", "--engine", "onnx", "-o", "folder")
    told = json.loads(foretell("models", "inspect", "-m", "folder", "--json").out)
    assert ("onnx", "asked for, and not proven equal to the library") == (told["engine"], told["why"])
    assert "was not proven equal to its library" in predicted("folder")[1]


# Wrong engines: verification must find each.


class Wrong:
    """An engine that answers as an exact one does, but for what wrong makes of it."""

    name, block = "wrong", None

    def __init__(self, exact: Predictor, wrong: Callable[["Wrong", Batch, Call], Answers]) -> None:
        self.right, self.proba = exact.predict, exact.engine.proba
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


@dataclass(frozen=True)
class Proving:
    """A model by its library, an exact engine of it, the odd cell of its rows, and what the library answers to them."""

    native: Predictor
    exact: Predictor
    odd: float
    expected: verify.Reference


@pytest.fixture(scope="module")
def proving(models: Path, ready: Ready, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Proving]:
    """What verification needs of a model, once."""

    @functools.cache
    def of(name: str) -> Proving:
        model = model_path(models, name)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FORETELL_CACHE", str(tmp_path_factory.mktemp("proving")))
            ready(model)
            native, exact = predictor.load(predictor.find(str(model), engine="native")), predictor.open(str(model))
        calls = calls_of(native)[-1:]
        rows = draw(native, verify.labeller(native, calls[0]))
        expected = verify.reference(native, rows, calls)
        right = Wrong(exact, lambda engine, batch, call: engine.right(batch, call))
        assert verify.verified(behind(right, native), expected, native).exact
        return Proving(native, exact, float(rows.kinds["drawn"].columns[0][ODD]), expected)

    return of


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_engine_is_found(kind: str, proving: Callable[[str], Proving]) -> None:
    """An engine that is wrong in one row of 10,000, by one bit or one refusal, is not exact, and the reason is told."""
    name, make = WRONG[kind]
    of = proving(name)
    wrong = Wrong(of.exact, make(of.odd))
    proof = verify.verified(behind(wrong, of.native), of.expected, of.native)
    assert wrong.fired > 0
    assert (False, True) == (proof.exact, bool(proof.why))


@pytest.mark.filterwarnings("ignore")
def test_too_few_answers_prove_nothing(proving: Callable[[str], Proving]) -> None:
    """Below 10,000 rows that the library answers nothing counts, however many it refuses besides."""
    of = proving("params")
    few = replace(of.expected, rows=of.expected.rows[: ROWS - 1])
    proof = verify.verified(of.exact, few, of.native)
    assert (False, ROWS - 1, len(of.expected.bad)) == (proof.exact, proof.answered, proof.refused)
    assert "below 10,000 nothing counts as proven" in proof.why
    assert proof.refused > 0


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
    monkeypatch.setitem(MAKERS, "kernel", Maker("compiled kernel", ("sklearn",), wrong_kernel))
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
    assert "scikit-learn" in summary(said)
    assert "does not answer" in (place.demoted() or "")
    assert "in spite of what was compiled" in " ".join(foretell("models", "inspect", "-m", model).out.split())
    got, said = predicted(model)
    assert (expected, False) == (got, "does not answer" in said)
    assert "kernel" == compile_model(predictor.find(str(model), engine="native"), again=True).chosen
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
            server.lines.until("now predicting with the compiled kernel")
            after = asked[0]
            assert expected == server.post(body, query="?proba=true").body
        finally:
            stop.set()
            asking.join(PATIENCE)
        assert [] == different
        assert after > 0
    with serving("-m", models / "logistic", "-w", "2") as server:
        assert expected == server.post(body, query="?proba=true").body


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
