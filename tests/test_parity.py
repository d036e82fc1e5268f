"""The product's promise: the same rows give the same answers, to the bit, through every way in, and what one way
refuses, every way refuses.

The table is data: MODELS × WAYS. A format or a flavour that is registered without a row here fails the test.
"""

import contextlib
import csv
import functools
import io
import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import foretell as library
from conftest import Server, foretell, model_path, rows_of, serving
from engines import Ready
from foretell.config import ENGINES
from foretell.models.load import FLAVOURS
from foretell.registry.choose import KINDS, choose
from foretell.registry.local import LocalRegistry
from foretell.registry.resolve import resolve
from foretell.serve import protocols
from foretell.tables.formats import FORMATS
from tracking import Tracking

Table = tuple[list[str], list[list[Any]]]


@dataclass(frozen=True)
class Case:
    """A model of conftest's makers. flavour: the one that loads it. proba: whether it is asked for probabilities too.
    ways: those that it is tried through; without any, all. files: whether files and pipes are among all. engine: what
    computes it; what is expected is the library's all the same. of, made: the model that it was compiled of, and the
    engine that it was compiled for."""

    name: str
    flavour: str
    proba: bool = False
    params: str = "{}"
    columns: int = 1
    ways: tuple[str, ...] = ()
    files: bool = True
    engine: str = "native"
    of: str = ""
    made: str = "kernel"

    @property
    def everywhere(self) -> bool:
        """Whether it goes through all ways."""
        return self.files and not self.ways

    @property
    def id(self) -> str:
        return f"{self.name}-{self.engine}".replace("/", "-").removesuffix("-native")


CORE = ("python lists", "pandas", "pipe csv", "http data")
"""Ways enough for a model whose flavour goes through all of them with another one."""

PARAMS = (*CORE, "file csv to jsonl", "pipe json", "http one by one", "http dataframe_records", "http data for csv")
"""Those, and whatever has a place for params of its own."""

MODELS = [
    Case("logistic", "sklearn", proba=True, columns=4, files=False),
    Case("pipeline", "sklearn", proba=True, columns=3),
    Case("forest", "sklearn", proba=True, columns=4, files=False),
    Case("onnx", "onnx", proba=True, columns=4),
    Case("nosignature", "sklearn", files=False),
    Case("two_outputs", "sklearn", columns=2, files=False),
    Case("params", "sklearn", params='{"return_std": true}', columns=2, ways=PARAMS),
    Case("image", "onnx", columns=10),
    Case("tensors", "onnx", columns=7),
    Case("mlflow3/xgb_classifier", "xgboost", proba=True, columns=4, files=False),
    Case("mlflow3/xgb_booster", "xgboost", columns=3, ways=("pandas", "http data")),
    Case("mlflow3/bare.ubj", "xgboost", proba=True, columns=3, ways=("pandas", "file csv to jsonl")),
    Case("mlflow2/xgb_early", "xgboost", proba=True, columns=3, ways=CORE),
    Case("mlflow3/lgb_classifier", "lightgbm", proba=True, columns=4, ways=(*CORE, "http one by one")),
    Case("mlflow2/lgb_booster", "lightgbm", columns=3, ways=CORE),
    Case("mlflow2/lgb_ranker", "lightgbm", ways=("pandas", "http data")),
    Case("mlflow3/bare.txt", "lightgbm", ways=("pandas", "file csv to jsonl")),
    Case("mlflow3/cb_classifier", "catboost", proba=True, columns=4, ways=(*CORE, "http one by one")),
    Case("mlflow2/cb_regressor", "catboost", ways=("pandas", "file csv to jsonl")),
    Case("mlflow3/bare.cbm", "catboost", proba=True, columns=4, ways=("pandas", "file csv to jsonl")),
    Case("mlflow2/sklearn", "sklearn", proba=True, columns=4, ways=CORE),
    Case("mlflow2/onnx", "onnx", proba=True, columns=4, ways=CORE),
    Case("mlflow3/statsmodels", "statsmodels", ways=CORE),
    Case("mlflow2/formula", "statsmodels", ways=(*CORE, "pipe jsonl", "http csv")),
    Case("mlflow3/torch_exported", "pytorch", columns=3, ways=CORE),
    Case("mlflow2/torch_pickle", "pytorch", columns=3, ways=CORE),
    Case("mlflow3/python_params", "python_function", params='{"by": 0.5}', ways=CORE),
    Case("mlflow3/python_frame", "python_function", columns=3, ways=(*CORE, "pipe jsonl", "http dataframe_records")),
    Case("mlflow2/from_code", "python_function", ways=CORE),
    Case("pipeline", "sklearn", proba=True, columns=3, engine="kernel"),
    Case("logistic", "sklearn", proba=True, columns=4, ways=(*CORE, "http one by one"), engine="kernel"),
    Case("nosignature", "sklearn", ways=("python lists", "http data"), engine="kernel"),
    Case("two_outputs", "sklearn", columns=2, ways=CORE, engine="kernel"),
    Case("params", "sklearn", params='{"return_std": true}', columns=2, ways=("pandas", "http data"), engine="kernel"),
    Case("forest", "sklearn", proba=True, columns=4, engine="kernel"),
    Case("forest", "sklearn", proba=True, columns=4, engine="onnx"),
    Case("mlflow3/xgb_classifier", "xgboost", proba=True, columns=4, engine="kernel"),
    Case("mlflow2/xgb_early", "xgboost", proba=True, columns=3, ways=CORE, engine="kernel"),
    Case("mlflow3/lgb_classifier", "lightgbm", proba=True, columns=4, engine="kernel"),
    Case("mlflow3/bare.cbm", "catboost", proba=True, columns=4, engine="kernel"),
    Case("mlflow3/lgb_classifier", "lightgbm", proba=True, columns=4, engine="booster"),
    Case("mlflow3/compiled", "foretell", proba=True, columns=4, of="mlflow3/sklearn"),
    Case("mlflow2/compiled", "foretell", proba=True, columns=4, ways=CORE, of="mlflow2/sklearn"),
    Case("mlflow3/compiled_forest", "foretell", proba=True, columns=4, of="forest"),
    Case("mlflow3/compiled_onnx", "foretell", proba=True, columns=4, of="forest", made="onnx"),
    Case("mlflow3/compiled_booster", "foretell", proba=True, columns=4, of="mlflow3/lgb_classifier", made="booster"),
]


@pytest.fixture(scope="module")
def compiled(flavours: Path, ready: Ready, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Case], Path]:
    """The cache of a model that was compiled for its engine; a compiled model's folder is put beside the others."""

    @functools.cache
    def made(case: Case) -> Path:
        cache = tmp_path_factory.mktemp("cache")
        if case.engine == "native" and not case.of:
            return cache
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FORETELL_CACHE", str(cache))
            engine = case.made if case.of else case.engine
            folder = ready(model_path(flavours, case.of or case.name), engine=engine).compiled(engine)
        assert folder is not None
        if case.of and not (flavours / case.name).exists():
            shutil.copytree(folder, flavours / case.name)
            shutil.copy(flavours / f"{case.of}.json", flavours / f"{case.name}.json")
        return cache

    return made


@pytest.fixture(scope="module")
def servers(flavours: Path) -> Iterator[Callable[[Case], Server]]:
    """The running server of a model; it goes on until the next model's is asked for."""
    with contextlib.ExitStack() as running:
        up: dict[str, Server] = {}

        def server(case: Case) -> Server:
            if case.id not in up:
                up.clear()
                running.close()
                up[case.id] = running.enter_context(serving("-m", model_path(flavours, case.name), "--trust"))
            return up[case.id]

        yield server


@pytest.fixture(scope="module")
def expected(flavours: Path) -> Callable[[Case], list[list[Any]]]:
    """The answers of one Python call with plain lists, flattened to a table."""

    @functools.cache
    def answers(case: Case) -> list[list[Any]]:
        _, rows = rows_of(flavours, case.name)
        opened = library.load(str(model_path(flavours, case.of or case.name)), trust=True, engine="native")
        plain = _flat(opened.predict(rows, json.loads(case.params)))
        return plain if not case.proba else _beside(plain, opened.predict_proba(rows))

    return answers


def from_python(make: Callable[[Table], Any]) -> Callable[..., list[list[Any]]]:
    def way(case: Case, path: Path, rows: Table, server: Server | None) -> list[list[Any]]:
        opened = library.load(str(path), trust=True, engine=case.engine)
        params = json.loads(case.params)
        answers = _flat(opened.predict(make(rows), params))
        return answers if not case.proba else _beside(answers, opened.predict_proba(make(rows)))

    return way


def from_file(input_format: str, output_format: str, *, stdin: bool = False) -> Callable[..., list[list[Any]]]:
    def way(case: Case, path: Path, rows: Table, server: Server | None) -> list[list[Any]]:
        source, target = Path(f"in.{input_format}"), Path(f"out.{output_format}")
        source.write_bytes(BODIES[input_format](rows))
        flags = ["-m", path, "--trust", "--params", case.params, *(["--proba"] if case.proba else [])]
        ends = ["-t", input_format] if stdin else ["-i", source, "-o", target]
        ran = foretell("models", "predict", *flags, *ends, stdin=source.read_bytes() if stdin else None)
        assert ran.code == 0, ran.err
        return ANSWERS[output_format](ran.raw if stdin else target.read_bytes())

    return way


def from_request(form: str, accept: str) -> Callable[..., list[list[Any]]]:
    def way(case: Case, path: Path, rows: Table, server: Server | None) -> list[list[Any]]:
        body, kind = _request(form, rows, case.params)
        reply = server.post(body, kind, "?proba=true" if case.proba else "", Accept=_content_type(accept))
        assert reply.status == 200, reply.body
        return ANSWERS[accept](reply.body)

    return way


def one_by_one(case: Case, path: Path, rows: Table, server: Server | None) -> list[list[Any]]:
    """Every row as a request of its own."""
    query = "?proba=true" if case.proba else ""
    answers = []
    for row in rows[1]:
        body = json.dumps({"data": [row], "params": json.loads(case.params)})
        answers += ANSWERS["json"](server.post(body, query=query).body)
    return answers


DOCUMENTS: dict[str, Callable[[Table], Any]] = {
    "data": lambda rows: rows[1],
    "dataframe_split": lambda rows: {"columns": rows[0][::-1], "data": [row[::-1] for row in rows[1]]},
    "dataframe_records": lambda rows: _records(rows),
    "instances": lambda rows: _records(rows),
    "inputs": lambda rows: {name: [row[at] for row in rows[1]] for at, name in enumerate(rows[0])},
}

BODIES: dict[str, Callable[[Table], bytes]] = {
    "csv": lambda rows: _csv(rows),
    "jsonl": lambda rows: "\n".join(map(json.dumps, _records(rows))).encode(),
    "json": lambda rows: json.dumps({"dataframe_records": _records(rows)}).encode(),
    "parquet": lambda rows: _parquet(rows),
    "arrow": lambda rows: _arrow(rows),
}

DIALECTS: dict[str, Callable[[Table], tuple[bytes, str]]] = {
    "csv;": lambda rows: (_csv(rows, ";"), "text/csv"),
    "csv-": lambda rows: (_csv(rows).partition(b"\n")[2], "text/csv; header=absent"),
}

ANSWERS: dict[str, Callable[[bytes], list[list[Any]]]] = {
    "csv": lambda body: [list(map(_cell, row)) for row in list(csv.reader(io.StringIO(body.decode())))[1:]],
    "jsonl": lambda body: _flat([json.loads(line) for line in body.splitlines()]),
    "json": lambda body: _flat(json.loads(body)["predictions"]),
    "parquet": lambda body: _flat(pq.read_table(pa.BufferReader(body)).to_pylist()),
    "arrow": lambda body: _flat(_read_arrow(body).to_pylist()),
}

WAYS: dict[str, Callable[..., list[list[Any]]]] = {
    "python lists": from_python(lambda rows: rows[1]),
    "python dicts": from_python(lambda rows: _records(rows)),
    "pandas": from_python(lambda rows: pd.DataFrame(rows[1], columns=rows[0])),
    "polars": from_python(lambda rows: pl.DataFrame(rows[1], schema=rows[0], orient="row", infer_schema_length=None)),
    "arrow": from_python(lambda rows: pa.Table.from_pylist(_records(rows))),
    "numpy": from_python(lambda rows: _numpy(rows)),
    **{f"file {i} to {o}": from_file(i, o) for i, o in itertools.pairwise([*FORMATS, *FORMATS][: len(FORMATS) + 1])},
    **{f"pipe {i}": from_file(i, i, stdin=True) for i in FORMATS},
    **{f"http {form}": from_request(form, "json") for form in (*DOCUMENTS, *(f for f in FORMATS if f != "json"))},
    **{f"http data for {accept}": from_request("data", accept) for accept in FORMATS},
    "http csv by semicolons": from_request("csv;", "csv"),
    "http csv without a header": from_request("csv-", "jsonl"),
    "http one by one": one_by_one,
}


BY_NAME = {
    "python dicts",
    *(f"file {i} to {o}" for i in ("jsonl", "json") for o in FORMATS),
    "pipe jsonl",
    "pipe json",
    *(f"http {form}" for form in ("dataframe_split", "dataframe_records", "instances", "inputs", "jsonl")),
}
"""Ways that give cells by name, which a model whose columns have none refuses."""

CSV_BODIES = {"http csv", "http csv by semicolons", "http csv without a header"}
WITHOUT_PARAMS = {*(f"http {form}" for form in FORMATS if form != "json"), *CSV_BODIES}
"""Bodies that have no place for params."""

WITHOUT_TENSORS = {*(f"file csv to {o}" for o in FORMATS), "pipe csv", *CSV_BODIES}
"""Ways in that hold no tensors."""

UNNAMED, TENSORS = {"onnx", "image"}, {"image", "tensors"}
"""Models whose columns have no names; models that take tensors."""


def refused(case: Case, way: str) -> bool:
    """Whether a way cannot hold what a model takes."""
    by_name = case.name in UNNAMED and way in BY_NAME
    return (
        by_name or (case.params != "{}" and way in WITHOUT_PARAMS) or (case.name in TENSORS and way in WITHOUT_TENSORS)
    )


REGISTRIES = ("embedded", *(f"{kind} of mlflow{two}" for kind in ("sqlite", "files", "server") for two in (2, 3)))
"""Where the same model stands under the same name."""


def pairs() -> Iterator[Any]:
    for case in MODELS:
        for way in case.ways or [way for way in WAYS if case.files or not way.startswith(("file", "pipe"))]:
            if not refused(case, way):
                yield pytest.param(case, way, id=f"{case.id}:{way.replace(' ', '-')}")


@pytest.mark.parametrize(("case", "way"), pairs())
def test_every_way_gives_the_same_answers(
    case: Case,
    way: str,
    flavours: Path,
    servers: Callable[[Case], Server],
    expected: Callable[[Case], list[list[Any]]],
    compiled: Callable[[Case], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A row's answer does not depend on how it came, on which rows came with it, nor on what computed it."""
    monkeypatch.setenv("FORETELL_CACHE", str(compiled(case)))
    monkeypatch.setenv("FORETELL_ENGINE", case.engine)
    path, rows = model_path(flavours, case.name), rows_of(flavours, case.name)
    got = WAYS[way](case, path, rows, servers(case) if way.startswith("http") else None)
    assert case.columns == len(got[0])
    assert expected(case) == got


def test_every_format_and_flavour_has_a_row() -> None:
    """What is registered is in the table: formats as file, body and answer, JSON's forms, flavours by either mlflow,
    engines in every way."""
    assert set(FORMATS) == set(BODIES) == set(ANSWERS)
    assert set(protocols.json_document.FORMS) == set(DOCUMENTS)
    assert set(FLAVOURS) == {case.flavour for case in MODELS}
    written = {(case.flavour, "mlflow2" if case.name.startswith("mlflow2/") else "mlflow3") for case in MODELS}
    assert set(itertools.product(FLAVOURS, ("mlflow2", "mlflow3"))) == written
    assert {name for name in ENGINES if name != "auto"} == {case.engine for case in MODELS if case.everywhere}
    assert set(KINDS) == {where.partition(" of ")[0] for where in REGISTRIES}


@pytest.mark.parametrize("where", REGISTRIES)
def test_every_registry_gives_the_same_answers(
    where: str, models: Path, registries: Path, trackers: dict[str, Tracking]
) -> None:
    """A model answers the same by its name in a registry, of any kind, and by the path where its files lie."""
    kind, _, writer = where.partition(" of ")
    address = _registered(kind, writer, models, registries, trackers)
    rows, uri = rows_of(models, "logistic"), "models:/churn/Production"
    path = resolve(uri, address).path
    expected = _flat(library.load(str(path), trust=True).predict(pd.DataFrame(rows[1], columns=rows[0])))
    Path("in.csv").write_bytes(_csv(rows))
    ran = foretell("models", "predict", "-m", uri, "-i", "in.csv", "-o", "out.jsonl", "--trust", "--registry", address)
    assert ran.code == 0, ran.err
    assert kind == choose(address).kind
    assert expected == [[row[-1]] for row in ANSWERS["jsonl"](Path("out.jsonl").read_bytes())]
    with serving("-m", uri, "--trust", "--registry", address) as server:
        assert expected == ANSWERS["json"](server.post(json.dumps({"data": rows[1]})).body)


def _registered(kind: str, writer: str, models: Path, registries: Path, trackers: dict[str, Tracking]) -> str:
    """The address of a registry in which churn has a version in Production."""
    if kind == "embedded":
        Path("own").mkdir()
        LocalRegistry(Path("own")).add("churn", models / "logistic", "Production", None)
        return "own"
    if kind == "server":
        return trackers["newest" if writer == "mlflow3" else "older"].uri
    return str(registries / writer / kind / {"sqlite": "mlflow.db", "files": "mlruns"}[kind])


def test_answers_are_the_librarys(models: Path) -> None:
    """The labels, and up to rounding the probabilities, are those of the training library called directly."""
    import skops.io

    columns, rows = rows_of(models, "logistic")
    estimator = skops.io.load(models / "logistic" / "model.skops")
    opened = library.load(str(models / "logistic"))
    frame = pd.DataFrame(rows, columns=columns)
    assert estimator.predict(frame).tolist() == opened.predict(frame).tolist()
    np.testing.assert_allclose(opened.predict_proba(frame).to_numpy(), estimator.predict_proba(frame), rtol=1e-12)


def test_a_pandas_index_is_kept(models: Path) -> None:
    """What goes in with an index comes out with it."""
    columns, rows = rows_of(models, "logistic")
    frame = pd.DataFrame(rows, columns=columns).sample(frac=1, random_state=1)
    opened = library.load(str(models / "logistic"))
    assert frame.index.tolist() == opened.predict(frame).index.tolist()
    assert frame.index.tolist() == opened.predict_proba(frame).index.tolist()


def _request(form: str, rows: Table, params: str) -> tuple[bytes, str]:
    if form in DOCUMENTS:
        return json.dumps({form: DOCUMENTS[form](rows), "params": json.loads(params)}).encode(), "application/json"
    if form in DIALECTS:
        return DIALECTS[form](rows)
    return BODIES[form](rows), _content_type(form)


def _content_type(name: str) -> str:
    return FORMATS[name].content_types[0]


def _records(rows: Table) -> list[dict[str, Any]]:
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1]]


def _csv(rows: Table, delimiter: str = ",") -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerows([rows[0], *rows[1]])
    return text.getvalue().encode()


def _table(rows: Table) -> pa.Table:
    return pa.table({name: [row[at] for row in rows[1]] for at, name in enumerate(rows[0])})


def _parquet(rows: Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(_table(rows), sink, row_group_size=150)
    return sink.getvalue().to_pybytes()


def _arrow(rows: Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, _table(rows).schema) as writer:
        writer.write_table(_table(rows), 150)
    return sink.getvalue().to_pybytes()


def _read_arrow(body: bytes) -> pa.Table:
    opened = pa.ipc.open_file if body[:6] == b"ARROW1" else pa.ipc.open_stream
    return opened(pa.BufferReader(body)).read_all()


def _numpy(rows: Table) -> Any:
    """One array; of tensors the only one, or a dict of several."""
    if not isinstance(rows[1][0][0], list):
        return np.array(rows[1], object if _mixed(rows) else float)
    arrays = {name: np.array([row[at] for row in rows[1]]) for at, name in enumerate(rows[0])}
    return arrays if len(arrays) > 1 else next(iter(arrays.values()))


def _mixed(rows: Table) -> bool:
    return any(isinstance(cell, str | bool) for row in rows[1] for cell in row)


def _flat(answers: Any) -> list[list[Any]]:
    """Any kind of answers as a table of Python values, a tensor's in C order."""
    if isinstance(answers, dict):
        answers = pa.table({name: v if v.ndim == 1 else v.tolist() for name, v in answers.items()})
    if isinstance(answers, pa.Table):
        answers = answers.to_pylist()
    if isinstance(answers, pa.Array):
        answers = answers.to_pylist()
    if isinstance(answers, pl.DataFrame):
        answers = answers.rows()
    if isinstance(answers, pl.Series):
        answers = answers.to_list()
    if hasattr(answers, "to_numpy"):
        answers = answers.astype(object).to_numpy()
    if isinstance(answers, np.ndarray):
        answers = answers.tolist()
    return [_cells(answer) for answer in answers]


def _cells(answer: Any) -> list[Any]:
    if isinstance(answer, np.ndarray):
        answer = answer.tolist()
    if isinstance(answer, dict):
        answer = list(answer.values())
    return [cell for part in answer for cell in _cells(part)] if isinstance(answer, list | tuple) else [answer]


def _beside(answers: list[list[Any]], probabilities: Any) -> list[list[Any]]:
    return [[*a, *p] for a, p in zip(answers, _flat(probabilities), strict=True)]


def _cell(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
