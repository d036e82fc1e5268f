"""What comes from outside is hostile: a test for each class of fault that MLflow's own advisories have published.

More of each: test_trust.py (what runs code, what a description may name), test_tracking_server.py (what a server may
say), test_environments.py (what reaches an installer), test_cache.py (who may write), test_hostile_registries.py.
"""

import io
import json
import os
import pickle
import shutil
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import numpy as np
import pytest
import torch
import yaml
from onnx import TensorProto, helper

import foretell as library
from conftest import Ran, foretell
from foretell.errors import InputTooLarge, ModelError, ModelUnreadable
from foretell.models.mlmodel import read
from foretell.registry import places
from foretell.tables.arrow_ipc import ArrowTable
from foretell.tables.files import Source
from tracking import ROOT, Request, Scripted, scripted

SECRET = np.array([1, 2, 3, 4], "float32").tobytes()


@dataclass(frozen=True)
class Weights:
    """Where an ONNX model says that its weights lie. place: puts them there. loads: whether that is inside."""

    location: str
    place: Callable[[Path, Path], object]
    offset: str = "0"
    length: str = str(len(SECRET))
    loads: bool = False


def _inside(folder: Path, secret: Path) -> None:
    (folder / "w.bin").write_bytes(SECRET)


WEIGHTS = {
    "inside": Weights("w.bin", _inside, loads=True),
    "above": Weights("../secret.bin", lambda folder, secret: None),
    "above, by way of a folder": Weights("sub/../../secret.bin", lambda folder, secret: (folder / "sub").mkdir()),
    "absolute": Weights("/proc/self/environ", lambda folder, secret: None),
    "a device": Weights("/dev/zero", lambda folder, secret: None),
    "a symbolic link": Weights("w.bin", lambda folder, secret: (folder / "w.bin").symlink_to(secret)),
    "a hard link to another's file": Weights("w.bin", lambda folder, secret: os.link(secret, folder / "w.bin")),
    "before the file": Weights("w.bin", _inside, offset="-16"),
    "past the file": Weights("w.bin", _inside, length="99999999"),
    "an address in memory": Weights("*/_ORT_MEM_ADDR_/*", lambda folder, secret: None, offset="140000000"),
}


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
def test_onnx_weights_are_read_from_the_models_folder_only(weights: Weights, tmp_path: Path) -> None:
    """External data stays inside: no way up, no link, no device, no address. (Path traversal read, CVE-2023-1177.)"""
    secret = tmp_path / "secret.bin"
    secret.write_bytes(SECRET)
    os.chown(secret, 12345, 12345)
    folder = _onnx(tmp_path / "model", weights)
    weights.place(folder, secret)
    if weights.loads:
        assert [[1.0], [4.0]] == library.load(str(folder)).predict([[1, 0, 0, 0], [0, 0, 0, 1]])[:, None].tolist()
        return
    with pytest.raises(ModelUnreadable):
        library.load(str(folder))


@pytest.mark.parametrize(
    "name", ["nul", "COM1.txt", "aux.onnx", "a\\b", "c:\\m.onnx", "~/m.onnx", "\x1b[2J", "a\u202eb", "x" * 251]
)
def test_a_name_that_means_something_else_on_some_system_is_refused(name: str, tmp_path: Path) -> None:
    """Devices, drives, homes, backslashes (CVE-2023-2780) and what a terminal would act on."""
    folder = _onnx(tmp_path / "model", WEIGHTS["inside"])
    _describe(folder, name)
    ran = foretell("models", "predict", "-m", folder, "-i", os.devnull)
    assert 3 == ran.code
    assert "Traceback" not in ran.err
    assert "\x1b[2J" not in ran.err


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Scripted]:
    """A tracking server that says what it is told to, asked once, and a cache that lies beside the working folder."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with scripted() as running:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", running.uri)
        yield running


DEMO = Path(library.__file__).parent / "demo"
FLOWERS = b"sepal_length,sepal_width,petal_length,petal_width\n5.1,3.5,1.4,0.2\n"


def _predict(uri: object, *more: object, **variables: str) -> Ran:
    return foretell("models", "predict", "-m", uri, "-t", "csv", *more, stdin=FLOWERS, **variables)


def _refused(ran: Ran, *codes: int) -> str:
    """What was said on stderr, by a command that ended with one of the codes, and as people are told things."""
    assert ran.code in (codes or (3,)), ran.err
    assert "Traceback" not in ran.err
    assert ran.err.replace("\n", "").isprintable()
    return ran.err


@pytest.mark.parametrize(
    "name", ["../../evil", "/{tmp}/evil", "..\\evil", "a/../../../evil", "%2e%2e/evil", "evil\0.txt"]
)
def test_a_servers_file_names_lead_nowhere_else(name: str, server: Scripted, tmp_path: Path) -> None:
    """Nothing is written but in the cache and the ledger. (Path traversal write, remote file name: CVE-2023-6018,
    CVE-2024-0520, CVE-2025-11201.)"""
    listed = name.replace("/{tmp}", str(tmp_path))
    entry = {"path": listed, "is_dir": False, "file_size": 4}
    server.answers["list "] = {"files": [{"path": "MLmodel", "is_dir": False, "file_size": 12}, entry]}
    server.answers["file MLmodel"] = server.answers[f"file {listed}"] = b"evil"
    before = sorted(tmp_path.rglob("*"))
    assert "cannot be a file's name here" in _refused(_predict("models:/m/1"))
    made = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path not in before and path.is_file()}
    places = (Path("cache"), Path("home/.local/state/foretell"))
    assert made
    assert all(any(path.is_relative_to(place) for place in places) for path in made)
    assert [] == [path for path in tmp_path.rglob("*") if "evil" in path.name]


@dataclass
class Canary:
    """A pickle as code that leaves a file."""

    path: str

    def __reduce__(self) -> Any:
        return open, (self.path, "w")


def _canaries(base: Path, canary: Path) -> dict[str, Path]:
    """A model of every flavour that has pickles or code of its own, in MLflow's format."""
    pickled = pickle.dumps(Canary(str(canary)))
    code = f"open({str(canary)!r}, 'w')\n".encode()
    function = "python_function"
    made: dict[str, tuple[dict[str, Any], str, bytes]] = {
        "sklearn": ({"sklearn": {"pickled_model": "f"}}, "f", pickled),
        "lightgbm": ({"lightgbm": {"data": "f", "model_class": "lightgbm.sklearn.LGBMClassifier"}}, "f", pickled),
        "statsmodels": ({"statsmodels": {"data": "f"}}, "f", pickled),
        "pytorch": ({"pytorch": {"model_data": "data"}}, "data/model.pth", b""),
        "python function": ({function: {"loader_module": "mlflow.pyfunc.model", "python_model": "f"}}, "f", pickled),
        "from code": ({function: {"loader_module": "mlflow.pyfunc.model", "model_code_path": "f.py"}}, "f.py", code),
        "loader": ({function: {"loader_module": "evil", "code": "code"}}, "code/evil.py", code),
        "several": ({"xgboost": {"data": "f"}, function: {"loader_module": "evil", "code": "c"}}, "c/evil.py", code),
    }
    for name, (flavours, file, content) in made.items():
        path = base / name / file
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        if name == "pytorch":
            torch.save(Canary(str(canary)), path)
        (base / name / "MLmodel").write_text(yaml.safe_dump({"flavors": flavours}))
    return {name: base / name for name in made}


def test_nothing_is_unpickled_or_imported_before_trust(tmp_path: Path) -> None:
    """Of no flavour, by no door. (Deserialisation: CVE-2024-37052 to CVE-2024-37060.)"""
    canary = tmp_path / "canary"
    models = _canaries(tmp_path / "models", canary)
    doors: list[tuple[str, ...]] = [("predict", "-t", "csv"), ("serve", "-p", "0")]
    asked = [(name, path, door) for name, path in models.items() for door in doors]
    # Trust is settled in one place for all flavours, so a few are enough for the second door.
    asked = [one for one in asked if one[2][0] == "predict" or one[0] in ("sklearn", "from code")]

    def ask(one: tuple[str, Path, tuple[str, ...]]) -> Ran:
        return foretell("models", one[2][0], "-m", one[1], *one[2][1:], stdin=FLOWERS)

    with ThreadPoolExecutor(4) as pool:
        for (name, _, door), ran in zip(asked, pool.map(ask, asked), strict=True):
            assert "would run code" in _refused(ran), (name, door)
    assert not canary.exists()


FIELDS = {
    "requirements": ("requirements.txt", "numpy; {run}\n"),
    "requirement option": ("requirements.txt", "--find-links=http://127.0.0.1:9/$({run})\nnumpy\n"),
    "requirement path": ("requirements.txt", "./evil `{run}`\n"),
    "python_env": ("python_env.yaml", "python: 3.11.0; {run}\nbuild_dependencies: [pip; {run}]\n"),
    "conda": ("conda.yaml", "name: $({run})\ndependencies: [python; {run}, pip: [-r `{run}`]]\n"),
}


@pytest.mark.parametrize(("file", "text"), FIELDS.values(), ids=FIELDS)
def test_no_field_of_a_model_reaches_a_shell(file: str, text: str, tmp_path: Path) -> None:
    """Neither when it predicts nor when it makes an environment. (Command injection: CVE-2023-4033, CVE-2025-15379,
    CVE-2026-0596.)"""
    canary = tmp_path / "canary"
    run = f"touch {canary}"
    model = tmp_path / f"model; $({run.replace('/', ' ')}) `x`"
    shutil.copytree(DEMO / "iris", model)
    described = yaml.safe_load((model / "MLmodel").read_text())
    described["flavors"]["onnx"]["onnx_version"] = f"1.0; {run}"
    described["flavors"]["python_function"].update(python_version=f"3.11; {run}", env=f"$({run})")
    (model / "MLmodel").write_text(yaml.safe_dump(described))
    (model / "requirements.txt").write_text("a-package-that-nobody-has==1\n")
    (model / file).write_text(text.replace("{run}", run))
    offline = {"UV_OFFLINE": "1", "UV_CACHE_DIR": str(tmp_path / "uv"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert 0 == _predict(model, "--env-manager", "local").code
    _refused(_predict(model, "--env-manager", "uv", "--trust", **offline))
    _refused(_predict(f"models:/$({run.replace('/', ' ')})/1"))
    assert [] == [path for path in (*tmp_path.rglob("canary"), *Path().rglob("*")) if "canary" in path.name]


def _iris() -> dict[str, bytes]:
    root = DEMO / "iris"
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_nobody_else_can_write_where_a_model_lies(server: Scripted, tmp_path: Path) -> None:
    """Whatever the umask, and a folder that others can write to is not used. (World-writable temporary folders:
    CVE-2025-10279, CVE-2026-4137.)"""
    server.model(_iris())
    (tmp_path / "temp").mkdir(mode=0o700)
    variables = {"TMPDIR": str(tmp_path / "temp"), "XDG_CACHE_HOME": str(tmp_path / "new" / "cache")}
    before = os.umask(0)
    try:
        assert 0 == _predict("models:/m/1", **variables).code
    finally:
        os.umask(before)
    cache = tmp_path / "new" / "cache" / "foretell"
    made = [path for root in ("new", "temp") for path in (tmp_path / root, *(tmp_path / root).rglob("*"))]
    assert (cache / "models").exists()
    assert [] == [path for path in made if path.stat().st_mode & 0o022]
    assert [] == list((tmp_path / "temp").iterdir())
    cache.chmod(0o777)
    assert "can be written by others" in _refused(_predict("models:/m/1", **variables), 2)
    uv = ("--env-manager", "uv", "--trust", "--registry", server.uri)
    cache.chmod(0o700)
    (cache / "environments").mkdir()
    (cache / "environments").chmod(0o777)
    server.model({**_iris(), "requirements.txt": b"numpy\n"})
    assert "can be written by others" in _refused(_predict("models:/m/1", *uv, **variables), 2)


@pytest.mark.parametrize("kind", ["artifacts", "proxy", "redirect", "listing", "file"])
def test_a_server_cannot_send_us_to_another(kind: str, server: Scripted, tmp_path: Path) -> None:
    """Another port of this machine is never connected to. (Requests to internal addresses: CVE-2023-6974,
    CVE-2025-52967.)"""
    with socket.create_server(("127.0.0.1", 0)) as internal:
        host = f"127.0.0.1:{internal.getsockname()[1]}"

        def sent_on(request: Request) -> None:
            request.reply(b"", 307, Location=f"http://{host}/latest/meta-data")

        if kind == "artifacts":
            server.register(f"http://{host}/api/2.0/mlflow-artifacts/artifacts/{ROOT}")
        elif kind == "proxy":
            server.register(f"mlflow-artifacts://{host}/{ROOT}")
        else:
            route = {"redirect": "mlflow/registered-models/get", "listing": "list ", "file": "file MLmodel"}[kind]
            server.answers[route] = sent_on
        _refused(_predict("models:/m/1"))
        internal.settimeout(0)
        with pytest.raises(BlockingIOError):
            internal.accept()


URIS = [
    "models:/%2e%2e%2f%2e%2e%2fsecret/1",
    "models:/..%2fsecret/1",
    "models:/m#/../../secret/1",
    "models:/m?path=../../secret/1",
    "models:/m%2f..%2f..%2fsecret@best",
    "runs:/0123456789abcdef0123456789abcdef/%2e%2e%2f%2e%2e%2fsecret",
    "runs:/0123456789abcdef0123456789abcdef/model#/../../secret",
    "mlflow-artifacts:/1/%252e%252e%252f%252e%252e/secret",
    "mlflow-artifacts:/1/m%2f..%2f..%2fsecret",
    "mlflow-artifacts:/1/m#../../secret",
    "mlflow-artifacts:/1/m?path=../../secret",
]


def test_what_is_quoted_twice_is_read_once(server: Scripted, tmp_path: Path) -> None:
    """A name means itself: no `%2e%2e`, `#` or `?` in it becomes a way up, for us or for the server. (Double decoding,
    fragments: CVE-2024-1560, CVE-2024-2928, CVE-2024-3848.)"""
    shutil.copytree(DEMO / "iris", tmp_path / "secret")
    server.answers["mlflow/runs/get"] = {"run": {"info": {"artifact_uri": f"mlflow-artifacts:/{ROOT}"}}}
    with ThreadPoolExecutor(4) as pool:
        for uri, ran in zip(URIS, pool.map(_predict, URIS), strict=True):
            assert "" == ran.out, uri
            _refused(ran, 2, 3)
    ways_up = [part for path, _ in server.asked for part in _once(path) if part == ".."]
    assert [] == ways_up
    (tmp_path / "mlruns").mkdir()
    for tail in ("%2e%2e/secret", "%252e%252e/secret", "m#/../../secret", "m?/../../secret", "..%2fsecret"):
        with pytest.raises(ModelError):
            places.folder(f"{(tmp_path / 'mlruns').as_uri()}/{tail}", (tmp_path / "mlruns",), "r")


def _once(target: str) -> list[str]:
    """What a server sees of a request's target, decoded once: the path's parts, and those of the path that is asked."""
    parts = urlsplit(target)
    asked = [value for name, value in parse_qsl(parts.query) if name == "path"]
    return [part for path in (unquote(parts.path), *asked) for part in path.split("/")]


HOSTILE = {
    "merges": "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 30)),
    "nested keys": "? " * 20_000 + "x\n",
    "escapes": "a: !%1B[2J x\n",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_description_that_is_a_trap_ends_at_once(text: str, tmp_path: Path) -> None:
    """YAML that grows without end, nests without end, or would write on the terminal is refused in a line."""
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "MLmodel").write_text(text)
    _refused(_predict(tmp_path / "m"))


@pytest.mark.parametrize("name", ["./registered_model_meta", "registered_model_meta/."])
def test_what_does_not_count_in_the_digest_is_never_loaded(name: str, tmp_path: Path) -> None:
    """The file that MLflow adds on a download is not a model's own, however it is spelled, and holds a name only."""
    model = tmp_path / "m"
    model.mkdir()
    (model / "MLmodel").write_text(yaml.safe_dump({"flavors": {"sklearn": {"pickled_model": name}}}))
    (model / "registered_model_meta").write_text("model_name: x\nmodel_version: '1'\n")
    assert "none of its own files" in _refused(_predict(model, "--trust"))
    (model / "registered_model_meta").write_bytes(pickle.dumps(Canary(str(tmp_path / "canary"))))
    assert "not what MLflow writes" in _refused(_predict(model, "--trust"))


def _onnx(folder: Path, weights: Weights) -> Path:
    """A model y = x @ w in MLflow's format, whose w lies outside of the .onnx file."""
    folder.mkdir()
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 1], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": weights.location, "offset": weights.offset, "length": weights.length}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])],
        [tensor],
    )
    opset = [helper.make_opsetid("", 18)]
    (folder / "model.onnx").write_bytes(helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString())
    _describe(folder, "model.onnx")
    return folder


def _describe(folder: Path, data: str) -> None:
    flavours = {"onnx": {"data": data}, "python_function": {"loader_module": "mlflow.onnx", "data": data}}
    (folder / "MLmodel").write_text(yaml.safe_dump({"flavors": flavours}))


def _xgboost(change: Callable[[dict[str, Any]], None]) -> bytes:
    import xgboost

    rows = np.random.default_rng(0).random((50, 4))
    table = xgboost.DMatrix(rows, label=rows[:, 0])
    stored = json.loads(xgboost.train({"max_depth": 2}, table, 3).save_raw("json").decode())
    change(stored["learner"])
    return json.dumps(stored, separators=(",", ":")).encode()


def _one_number(learner: dict[str, Any]) -> None:
    for tree in learner["gradient_booster"]["model"]["trees"]:
        tree["id"] = 0


def _many_groups(learner: dict[str, Any]) -> None:
    learner["learner_model_param"]["num_target"] = "600000"
    learner["gradient_booster"]["model"]["tree_info"] = [500_000] * 3


def _attribute(name: str, value: str) -> Callable[[dict[str, Any]], None]:
    return lambda learner: learner["attributes"].update(
        {"scikit_learn": '{"_estimator_type":"regressor"}', name: value}
    )


def _lightgbm(line: str) -> bytes:
    import lightgbm

    rows = np.random.default_rng(0).random((200, 4))
    data = lightgbm.Dataset(rows, label=rows[:, 0])
    text = str(lightgbm.train({"verbosity": -1, "num_leaves": 4}, data, 3).model_to_string())
    return text.replace("\nobjective=regression\n", f"\nobjective=regression\n{line}\n", 1).encode()


def _skops(model: Any) -> bytes:
    from skops.io import dumps

    return bytes(dumps(model))


def _categories() -> bytes:
    from sklearn.ensemble import HistGradientBoostingClassifier

    rows = np.random.default_rng(0).random((200, 4))
    model = HistGradientBoostingClassifier(max_iter=2).fit(rows, rows[:, 0] > 0.5)
    for [tree] in model._predictors:
        splits = ~tree.nodes["is_leaf"].astype(bool)
        tree.nodes["is_categorical"][splits] = 1
        tree.nodes["bitset_idx"][splits] = 400_000_000
    return _skops(model)


def _machine(change: Callable[[Any], None]) -> bytes:
    from sklearn.svm import SVC

    rows = np.random.default_rng(0).random((60, 4))
    model = SVC().fit(rows, rows[:, 0] > 0.5)
    change(model)
    return _skops(model)


def _more_counts(model: Any) -> None:
    model._n_support = np.array([len(model.support_), 10**9, -(10**9)], "int32")


def _fewer_coefficients(model: Any) -> None:
    model._dual_coef_ = model._dual_coef_[:, :1].copy()


CRASHES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "xgboost trees of one number": ("m.json", lambda: _xgboost(_one_number)),
    "xgboost key in two spellings": (
        "m.json",
        lambda: _xgboost(_many_groups).replace(b'"num_target"', b'"num_t\\u0061rget"', 1),
    ),
    "xgboost attribute without end": ("m.json", lambda: _xgboost(_attribute("scikit_learn", "[" * 200_000))),
    "xgboost iteration before the first": ("m.json", lambda: _xgboost(_attribute("best_iteration", "-5"))),
    "xgboost iteration after the last": ("m.json", lambda: _xgboost(_attribute("best_iteration", "4294967296"))),
    "lightgbm line without a name": ("m.txt", lambda: _lightgbm("=objective=multiclass num_class:4000000")),
    "lightgbm other name": ("m.txt", lambda: _lightgbm("=num_class=4000000")),
    "categories of a tree": ("m.skops", _categories),
    "counts of a machine": ("m.skops", lambda: _machine(_more_counts)),
    "coefficients of a machine": ("m.skops", lambda: _machine(_fewer_coefficients)),
}


@pytest.mark.parametrize(("name", "made"), CRASHES.values(), ids=CRASHES)
def test_a_file_that_would_lead_a_library_astray_is_refused(
    name: str, made: Callable[[], bytes], tmp_path: Path
) -> None:
    """What a library would follow out of its memory, or stop at without words, is refused before it predicts."""
    (tmp_path / name).write_bytes(made())
    _refused(foretell("models", "predict", "-m", tmp_path / name, "-t", "csv", stdin=b"a,b,c,d\n1,2,3,4\n"))


def test_machines_as_they_are_trained_load(tmp_path: Path) -> None:
    """The check of support vector machines lets those of the library pass: of classes, numbers, one class, a kernel."""
    from sklearn.svm import SVC, SVR, NuSVC, OneClassSVM

    rows = np.random.default_rng(0).random((60, 4))
    three = np.arange(60) % 3
    machines = [SVC().fit(rows, three), NuSVC().fit(rows, three), SVR().fit(rows, rows[:, 0])]
    machines += [OneClassSVM().fit(rows), SVC(kernel="precomputed").fit(rows @ rows.T, three)]
    for at, machine in enumerate(machines):
        path = tmp_path / f"{at}.skops"
        path.write_bytes(_skops(machine))
        given = rows @ rows.T if at == 4 else rows
        assert machine.predict(given).tolist() == library.load(str(path)).predict(given.tolist()).tolist()


def test_views_that_show_the_same_bytes_again_are_bounded() -> None:
    """Two kilobytes of Arrow that say to hold ten terabytes of text are refused at once."""
    import pyarrow as pa

    rows, long = 1_000_000, 10_000_000
    views = pa.py_buffer(np.tile(np.array([long, 0x78787878, 0, 0], "<i4"), rows))
    array = pa.Array.from_buffers(pa.string_view(), rows, [None, views, pa.py_buffer(b"x" * long)])
    sink = io.BytesIO()
    batch = pa.record_batch([array], names=["a"])
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(batch)
    table = ArrowTable(Source.of(sink.getvalue(), "body"), 512 << 20)
    with pytest.raises(InputTooLarge):
        list(table.batches([0], rows))


@pytest.mark.parametrize("frame", [{"columns": 5, "data": [1]}, {"data": [[1, 2], [3]]}, {"data": [{"a": 1}]}])
def test_an_example_that_does_not_hold_together_is_none(frame: dict[str, Any], tmp_path: Path) -> None:
    """A broken input example describes no columns, and is no reason to fail."""
    for name, content in _iris().items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "input_example.json").write_text(json.dumps(frame))
    assert read(tmp_path).example is None
    assert 0 == _predict(tmp_path).code
