"""Models of statsmodels, PyTorch and Python, as mlflow wrote them: its own answers, nothing run before trust, and
nothing left behind."""

import csv
import datetime
import io
import json
import logging
import pickle
import warnings
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

import foretell as library
from conftest import foretell, rows_of, serving
from foretell.errors import ForetellError, ModelError, ModelUnreadable, ModelUntrusted, PredictionError
from foretell.models.pyfunc_outputs import outputs_of

MARKER = "it-ran"
NAMES = [
    "statsmodels",
    "formula",
    "torch_pickle",
    "torch_tensor",
    "torch_pictures",
    "python_params",
    "python_frame",
    "python_text",
    "python_tensor",
    "from_code",
    "own_loader",
]
BOTH = [(version, name) for version in ("mlflow3", "mlflow2") for name in NAMES] + [("mlflow3", "torch_exported")]


def _theirs(folder: Path, columns: list[str], rows: list[Any]) -> Any:
    """What mlflow's own pyfunc makes of the rows."""
    import mlflow

    logging.disable(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = mlflow.pyfunc.load_model(str(folder), suppress_warnings=True)
        schema = loaded.metadata.get_input_schema()
        if schema.is_tensor_spec():
            return loaded.predict(np.array(rows, schema.inputs[0].type))
        frame = pd.DataFrame(rows, columns=columns)
        present = [spec for spec in schema.inputs if spec.required]
        kinds = {spec.name: object if str(spec.type).endswith("string") else spec.type.to_numpy() for spec in present}
        frame = frame[list(kinds)].astype(kinds)
        return loaded.predict(frame)


@pytest.mark.parametrize(("version", "name"), BOTH, ids=lambda part: part)
def test_answers_are_mlflows(version: str, name: str, flavours: Path) -> None:
    """The same rows through mlflow.pyfunc, in blocks as the engine has them, give the same bits."""
    folder = flavours / version / name
    columns, rows = rows_of(flavours, f"{version}/{name}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opened = library.load(str(folder), trust=True)
    block = opened._predictor.engine.block or len(rows)
    ours, theirs = [], []
    for start in range(0, len(rows), block):
        piece = rows[start : start + block]
        padded = piece + [piece[-1]] * (block - len(piece))
        theirs += np.asarray(_theirs(folder, columns, padded)).tolist()[: len(piece)]
    ours = np.asarray(opened.predict(rows)).tolist()
    assert len(rows) == len(ours)
    assert repr(theirs) == repr(ours)


def test_params_reach_the_model(flavours: Path) -> None:
    """A param that the signature has goes to predict; its default does without one."""
    opened = library.load(str(flavours / "mlflow3" / "python_params"), trust=True)
    row = [[1.0, 2.0, 3.0, 4.0]]
    assert [20.0] == opened.predict(row).tolist()
    assert [5.0] == opened.predict(row, {"by": 0.5}).tolist()


def test_an_optional_column_is_absent_or_whole_numbers(flavours: Path) -> None:
    """Where nobody gives it, the model's frame lacks it; where somebody does, it is what the signature says."""
    columns, rows = rows_of(flavours, "mlflow3/python_frame")
    opened = library.load(str(flavours / "mlflow3" / "python_frame"), trust=True)
    frame = pd.DataFrame(rows, columns=columns)
    without = opened.predict(frame.drop(columns="extra"))
    given = opened.predict(frame.assign(extra=7))
    assert "float64/int64/int32/float32/bool/object" == without.iloc[0, 2]
    assert "float64/int64/int32/float32/bool/object/int64" == given.iloc[0, 2]


def test_missing_cells_have_one_answer_a_row(flavours: Path) -> None:
    """A formula that drops rows with missing values still answers every row, with null."""
    _, rows = rows_of(flavours, "mlflow3/formula")
    rows[3][2] = rows[40][2] = None
    answers = library.load(str(flavours / "mlflow3" / "formula"), trust=True).predict(rows)
    assert [3, 40] == np.flatnonzero(np.isnan(answers)).tolist()


def test_a_formula_refuses_an_unknown_word_alone(flavours: Path) -> None:
    """A category that it was not fitted on is a bad row, not a failure of the model."""
    opened = library.load(str(flavours / "mlflow3" / "formula"), trust=True)
    with pytest.raises(ForetellError, match="formula refused the row") as refused:
        opened.predict([["west", 1.0, 2.0, 3.0]])
    assert "BAD_REQUEST" == refused.value.code


def test_a_formula_knows_its_columns(flavours: Path, tmp_path: Path) -> None:
    """Without a signature the fitted frame says which columns the formula takes, and what they hold."""
    folder = tmp_path / "bare"
    folder.mkdir()
    source = flavours / "mlflow3" / "formula"
    (folder / "model.statsmodels").write_bytes((source / "model.statsmodels").read_bytes())
    (folder / "MLmodel").write_text(yaml.safe_dump({"flavors": {"statsmodels": {"data": "model.statsmodels"}}}))
    signature = library.load(str(folder), trust=True)._predictor.signature
    assert {("place", "string"), ("a", "double"), ("b", "double"), ("c", "double")} == {
        (column.name, column.type) for column in signature.inputs
    }


def test_a_time_series_is_refused_in_words(tmp_path: Path) -> None:
    """What forecasts spans does not predict rows."""
    from statsmodels.tsa.ar_model import AutoReg

    folder = tmp_path / "series"
    folder.mkdir()
    AutoReg(np.random.default_rng(0).normal(size=50), 1).fit().save(str(folder / "model.statsmodels"))
    (folder / "MLmodel").write_text(yaml.safe_dump({"flavors": {"statsmodels": {"data": "model.statsmodels"}}}))
    with pytest.raises(ModelUnreadable, match="time series"):
        library.load(str(folder), trust=True)


class Payload:
    """Pickles as code that leaves a file behind."""

    def __reduce__(self) -> Any:
        return eval, (f"__import__('pathlib').Path({MARKER!r}).touch()",)


def _folder(path: Path, flavors: dict[str, Any], **files: bytes) -> Path:
    for name, data in {"MLmodel": yaml.safe_dump({"flavors": flavors}).encode(), **files}.items():
        target = path / name.replace("__", "/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return path


TOUCH = f"__import__('pathlib').Path({MARKER!r}).touch()".encode()
PICKLED = pickle.dumps(Payload())
CODE: list[tuple[str, dict[str, Any], dict[str, bytes], str]] = [
    (
        "python model",
        {"python_function": {"loader_module": "mlflow.pyfunc.model", "python_model": "python_model.pkl"}},
        {"python_model.pkl": PICKLED},
        "python_model.pkl (a pickle)",
    ),
    (
        "model from code",
        {"python_function": {"loader_module": "mlflow.pyfunc.loaders.code_model", "model_code_path": "/home/a/m.py"}},
        {"m.py": TOUCH},
        "m.py (Python code)",
    ),
    (
        "own loader",
        {"python_function": {"loader_module": "own", "code": "code", "data": "data"}},
        {"code__own.py": TOUCH, "data": b""},
        'code/ (Python code); MLmodel (the loader "own")',
    ),
    (
        "another flavour",
        {"prophet": {}, "python_function": {"loader_module": "mlflow.prophet", "data": "model.pr"}},
        {"model.pr": PICKLED},
        '"model.pr", loaded by "mlflow.prophet"',
    ),
    (
        "statsmodels",
        {"statsmodels": {"data": "model.statsmodels"}},
        {"model.statsmodels": PICKLED},
        "model.statsmodels (a pickle)",
    ),
    (
        "torch",
        {"pytorch": {"model_data": "data"}},
        {"data__model.pth": PICKLED, "data__pickle_module_info.txt": b"antigravity"},
        "model.pth (a pickle)",
    ),
]


@pytest.mark.parametrize(("flavors", "files", "reason"), [row[1:] for row in CODE], ids=[row[0] for row in CODE])
def test_nothing_runs_before_trust(flavors: dict[str, Any], files: dict[str, bytes], reason: str) -> None:
    """Every kind of Python model is refused with the name of what would run, and it did not run."""
    folder = _folder(Path("model"), flavors, **files)
    with pytest.raises(ModelUntrusted) as refused:
        library.load(str(folder))
    assert reason in refused.value.file
    assert not Path(MARKER).exists()


FUNCTION = {"loader_module": "mlflow.pyfunc.model", "python_model": "python_model.pkl"}


@pytest.mark.parametrize(
    "entry",
    [
        {**FUNCTION, "python_model": "../secret"},
        {**FUNCTION, "python_model": ["a"]},
        {**FUNCTION, "python_model": "/etc/passwd"},
        {**FUNCTION, "model_code_path": ["m.py"]},
        {**FUNCTION, "model_code_path": "/x/.."},
        {**FUNCTION, "code": "../elsewhere"},
        {**FUNCTION, "code": {"a": 1}},
        {**FUNCTION, "data": "/etc"},
        {**FUNCTION, "loader_module": ["os"]},
        {},
    ],
    ids=str,
)
@pytest.mark.parametrize("trust", [False, True])
def test_hostile_descriptions_are_refused(entry: dict[str, Any], trust: bool) -> None:
    """Whatever MLmodel says of Python code, the answer is a refusal in words, and no path leads out of the folder."""
    folder = _folder(Path("model"), {"python_function": entry}, **{"python_model.pkl": pickle.dumps(7)})
    with pytest.raises(ModelError) as refused:
        library.load(str(folder), trust=trust)
    assert "\n" not in refused.value.message


def _csv(columns: list[str], rows: list[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([columns, *rows])
    return text.getvalue().encode()


def test_prints_stay_out_of_the_predictions(flavours: Path) -> None:
    """What a model prints while it predicts goes to stderr; stdout holds the predictions alone."""
    columns, rows = rows_of(flavours, "mlflow3/python_text")
    ran = foretell(
        *("models", "predict", "-m", flavours / "mlflow3" / "python_text", "--trust", "-t", "csv", "--keep", "none"),
        stdin=_csv(columns, rows),
    )
    assert (0, ["prediction", *(f"TEXT {at}!" for at in range(len(rows)))]) == (ran.code, ran.out.split("\n")[:-1])
    assert "a model speaks" in ran.err


def test_a_server_of_a_talkative_model(flavours: Path) -> None:
    """Its first line on stdout is the server's own, and the answers are JSON."""
    with serving("-m", flavours / "mlflow3" / "python_text", "--trust") as server:
        reply = server.post(json.dumps({"dataframe_records": [{"text": "a"}, {"text": "b"}]}))
    assert {"predictions": ["A!", "B!"]} == reply.json()


@pytest.mark.parametrize("name", ["from_code", "own_loader"])
def test_nothing_is_left_behind(name: str, flavours: Path) -> None:
    """A model's folder is as it was, its bytecode is not kept, and nothing appears in the working folder."""
    folder = flavours / "mlflow3" / name
    before = sorted(folder.rglob("*"))
    columns, rows = rows_of(flavours, f"mlflow3/{name}")
    ran = foretell("models", "predict", "-m", folder, "--trust", "-t", "csv", stdin=_csv(columns, rows))
    assert ran.code == 0, ran.err
    assert "whether a row's answer depends on the rows beside it was not checked" in ran.err
    assert before == sorted(folder.rglob("*"))
    assert [] == sorted(Path.cwd().iterdir())


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (pd.Series([1, None], dtype="Int64"), [1, None]),
        (pd.Series([True, False], dtype="boolean"), [True, False]),
        (pd.Series(["a", None], dtype="string"), ["a", None]),
        (pd.Series(["a", "b"], dtype="category"), ["a", "b"]),
        (pd.Series(pd.to_datetime(["2026-01-02T03:04:05+02:00"])), [np.datetime64("2026-01-02T01:04:05")]),
        (np.array([[1.5], [2.5]]), [1.5, 2.5]),
        (np.array(["a", "b"]), ["a", "b"]),
        ([1, 2.5], [1.0, 2.5]),
        ([[1, 2], [3, 4]], [[1, 2], [3, 4]]),
        ([[1], [2, 3]], [[1], [2, 3]]),
        ([{"a": np.int64(1), "b": float("nan")}], [{"a": 1, "b": None}]),
        ([datetime.date(2026, 1, 2), b"ab", Decimal("1.5")], ["2026-01-02", "YWI=", 1.5]),
        ([], []),
    ],
    ids=repr,
)
def test_every_kind_of_answer(answer: Any, expected: list[Any]) -> None:
    """Frames, arrays and lists of whatever type become one value a row, which JSON has."""
    (output,) = outputs_of(answer)
    values = output.values
    assert expected == (list(values.astype("datetime64[s]")) if values.dtype.kind == "M" else values.tolist())


def test_several_columns_are_several_outputs() -> None:
    """A frame's columns and a mapping's entries keep their names."""
    frame = pd.DataFrame({"a": [1, 2], 5: ["x", "y"]})
    assert ["a", "5"] == [output.name for output in outputs_of(frame)]
    assert ["a", "b"] == [output.name for output in outputs_of({"a": [1], "b": np.ones((1, 2))})]


@pytest.mark.parametrize(
    "answer",
    [None, "text", 7, iter([1]), [object()], np.array(3.0), {}, [np.timedelta64(1, "s")], [1 + 2j]],
    ids=lambda answer: type(answer).__name__,
)
def test_an_answer_that_cannot_be_shown_is_said(answer: Any) -> None:
    """What is not one value a row, or has no form in a table, is an error that names it."""
    with pytest.raises(PredictionError, match=r"the model (answered|gave)"):
        outputs_of(answer)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return [1]", "1 answers for 3 rows"),
        ("raise LookupError('first line\\nsecond')", "the model raised LookupError: first line"),
    ],
)
def test_a_model_that_fails_is_told_in_one_line(body: str, message: str) -> None:
    """The model's own words, or how many answers came; never a traceback."""
    code = (
        "import mlflow\n"
        "class M(mlflow.pyfunc.PythonModel):\n"
        f"    def predict(self, context, model_input):\n        {body}\n"
        "mlflow.models.set_model(M())\n"
    )
    entry = {"loader_module": "mlflow.pyfunc.loaders.code_model", "model_code_path": "m.py"}
    folder = _folder(Path("model"), {"python_function": entry}, **{"m.py": code.encode()})
    Path("schema.json").write_text(json.dumps([{"name": "x", "type": "double"}]))
    Path("in.csv").write_text("x\n1\n2\n3\n")
    flags = ("--trust", "--schema", "schema.json", "-i", "in.csv", "-o", "out.csv")
    ran = foretell("models", "predict", "-m", folder, *flags)
    assert 0 != ran.code
    assert message in ran.err
    assert "Traceback" not in ran.err
    assert not Path("out.csv").exists()


def test_type_hints_are_a_signature(tmp_path: Path) -> None:
    """predict(self, model_input: list[str]) is given a list, by a model from code whose MLmodel says so."""
    code = (
        "import mlflow\n"
        "class M(mlflow.pyfunc.PythonModel):\n"
        "    def predict(self, model_input: list[str]) -> list[str]:\n"
        "        return [text.upper() for text in model_input]\n"
        "mlflow.models.set_model(M())\n"
    )
    entry = {"loader_module": "mlflow.pyfunc.loaders.code_model", "model_code_path": "m.py"}
    folder = _folder(tmp_path / "model", {"python_function": entry}, **{"m.py": code.encode()})
    described = yaml.safe_load((folder / "MLmodel").read_text())
    described["signature"] = {"inputs": json.dumps([{"type": "string", "required": True}])}
    described["is_signature_from_type_hint"] = True
    (folder / "MLmodel").write_text(yaml.safe_dump(described))
    assert ["A", "B"] == library.load(str(folder), trust=True).predict([["a"], ["b"]]).tolist()
