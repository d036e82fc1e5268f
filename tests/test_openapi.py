"""The description of a server: valid, true of what it takes and gives, and fuzzed by schemathesis.

FORETELL_SOAK multiplies how much.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from conftest import HERE, PATIENCE, Server, model_path, serving
from foretell import predictor
from foretell.batch import Call
from foretell.errors import FormWrong, InputError
from foretell.rows import RowDecoder
from foretell.serve import keys
from foretell.serve.head import Head
from foretell.serve.headers import Wishes
from foretell.serve.limits import Limits
from foretell.serve.openapi import Described, document
from foretell.serve.protocols import BodyDecoder
from foretell.serve.service import Service
from foretell.signature import Signature, from_mlflow
from foretell.tables import json_document
from foretell.tables.formats import SPELLINGS
from foretell.tables.json_document import FORMS
from foretell.tables.kept import NONE
from scripted import everything_model

EXAMPLES = 15 * int(os.environ.get("FORETELL_SOAK", "1"))
MODELS = ["pipeline", "onnx", "params", "image", "tensors", "two_outputs"]


@cache
def service(path: Path) -> Service:
    """A model as a server has it, warmed up."""
    made = Service(predictor.open(str(path), trust=True), Limits())
    made.warm_up()
    return made


def described(path: Path, **more: Any) -> dict[str, Any]:
    known = {"keys": False, "named": True, **more}
    return json.loads(json.dumps(document([service(path).described("/invocations")], **known)))


def content(doc: dict[str, Any], path: str = "/invocations") -> dict[str, Any]:
    return doc["paths"][path]["post"]["requestBody"]["content"]


def valid(doc: dict[str, Any], schema: dict[str, Any], value: Any) -> bool:
    return Draft202012Validator({"components": doc["components"], **schema}).is_valid(value)


@pytest.mark.parametrize("name", MODELS)
def test_is_a_valid_description_of_any_model(models: Path, name: str) -> None:
    """The document passes the specification's own checks, with keys and without."""
    for keyed in (False, True):
        doc = described(model_path(models, name), keys=keyed)
        OpenAPIV31SpecValidator(doc).validate()
        assert keyed == ("security" in doc)
        assert keyed == ("401" in doc["paths"]["/invocations"]["post"]["responses"])


@pytest.mark.parametrize("name", MODELS)
def test_its_examples_are_requests(models: Path, name: str) -> None:
    """Every example fits its own schema and is read by the server, in each form of a document and in each text."""
    path = model_path(models, name)
    doc, served = described(path), service(path)
    decoder = BodyDecoder(served.predictor, 1 << 20)
    tried = 0
    for kind, medium in content(doc).items():
        bodies = [each["value"] for each in medium.get("examples", {}).values()]
        for body in bodies or filter(None, [medium.get("example")]):
            assert valid(doc, medium["schema"], body)
            head = Head(b"/invocations")
            head.content_type = kind.encode()
            raw = (body if isinstance(body, str) else json.dumps(body)).encode()
            assert 1 == decoder.read(raw, Wishes().of(head, raw))[0].rows, (kind, body)
            tried += 1
    assert tried > 6


def test_names_every_form_and_type(models: Path) -> None:
    """Whatever a body may be stands there; of columns without names, just what can be."""
    doc = described(model_path(models, "logistic"))
    assert {kind for fmt in SPELLINGS for kind in fmt.content_types} == set(content(doc))
    request = doc["components"]["schemas"]["Request"]
    assert {*FORMS, "params"} == set(request["properties"])
    assert set(FORMS) == {each["required"][0] for each in request["oneOf"]}
    unnamed = described(model_path(models, "image"))
    assert "dataframe_records" not in unnamed["components"]["schemas"]["Request"]["properties"]
    assert "text/csv" not in content(unnamed)


BODIES: dict[str, Any] = {
    "rows": {"data": [[1.5, 2], [3, None]]},
    "records": {"inputs": [{"a": 1, "b": 2, "more": "x"}]},
    "no-optional": {"dataframe_records": [{"a": 1}]},
    "columns": {"instances": {"a": [1, 2], "b": [3, 4]}},
    "split": {"dataframe_split": {"data": [[1, 2]]}},
    "split-named": {"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2]], "index": [7]}},
    "params": {"data": [[1, 2]], "params": {"k": 3}},
    "null-params": {"data": [[1, 2]], "params": None},
    "other-keys": {"data": [[1, 2]], "who": "me"},
    "whole-float": {"data": [[1.0, 2.0]]},
    "no-rows": {"data": []},
    "nothing": {},
    "two-forms": {"data": [[1, 2]], "inputs": [[1, 2]]},
    "two-forms-one-wrong": {"data": [[1, 2]], "inputs": 5},
    "too-short": {"data": [[1]]},
    "too-long": {"data": [[1, 2, 3]]},
    "text": {"data": [["1", 2]]},
    "fraction": {"data": [[1, 2.5]]},
    "too-large": {"data": [[1, 2**31]]},
    "missing": {"inputs": [{"b": 2}]},
    "null": {"inputs": {"a": [1], "b": ["x"]}},
    "unknown-param": {"data": [[1, 2]], "params": {"z": 1}},
    "null-param": {"data": [[1, 2]], "params": {"k": None}},
    "wrong-param": {"data": [[1, 2]], "params": {"k": "x"}},
    "array": [[1, 2]],
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_says_what_fits(tmp_path: Path, body: Any) -> None:
    """What fits the schema is read, and what does not is refused."""
    signature = from_mlflow(
        {
            "inputs": [
                {"type": "double", "name": "a", "required": True},
                {"type": "integer", "name": "b", "required": False},
            ],
            "params": [{"name": "k", "type": "long", "default": 1}],
        },
        "here",
    )
    doc = document([Described("m", "1", signature, [[1.0, 2]])], keys=False, named=False)
    fits = valid(doc, content(doc)["application/json"]["schema"], body)
    assert fits == _read(signature, body)


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"a": [1, 2], "b": [], "more": [3]}, "equally long"),
        ({"a": [], "b": [3], "more": {}}, "equally long"),
        ({"a": 5, "more": [3]}, "equally long"),
        ({"more": [3]}, "none that the model takes"),
    ],
)
def test_columns_that_may_be_left_out_are_checked_too(columns: dict[str, Any], told: str) -> None:
    """Unequal columns beside one that is not known are refused, also where the model can do without the others."""
    names = [{"type": "double", "name": name, "required": False} for name in ("a", "b", "c")]
    with pytest.raises(FormWrong, match=told):
        json_document.read(
            json.dumps({"inputs": columns}).encode(), RowDecoder(from_mlflow({"inputs": names}, "")), NONE
        )


def _read(signature: Signature, body: Any) -> bool:
    try:
        read = json_document.read(json.dumps(body).encode(), RowDecoder(signature), NONE)
        signature.call_params(read.params)
    except InputError:
        return False
    return True


def test_params_may_ask_for_answers_of_another_form(models: Path) -> None:
    """What a model answers without params does not bind it with them."""
    served = service(model_path(models, "params"))
    schema = described(model_path(models, "params"))["components"]["schemas"]["Predictions"]["properties"][
        "predictions"
    ]
    usual = served.predictor.signature.call_params({})
    wide = served.predictor.signature.call_params({"return_std": True})
    for params, kind in ((usual, float), (wide, dict)):
        answers = served.predictor.rehearse(Call(False, params)).to_list()
        assert isinstance(answers[0], kind)
        assert valid({"components": {}}, schema, answers)


def test_several_models_have_their_own_schemas(models: Path) -> None:
    """Models on one server are told apart, whatever they are called."""
    each = [service(model_path(models, name)) for name in ("logistic", "image")]
    doc = document([one.described(f"/models/{at}/invocations") for at, one in enumerate(each)], keys=False, named=False)
    OpenAPIV31SpecValidator(doc).validate()
    for at, one in enumerate(each):
        schema = content(doc, f"/models/{at}/invocations")["application/json"]["schema"]
        assert valid(doc, schema, {"data": one.predictor.example_rows()})
        assert not valid(doc, schema, {"data": each[1 - at].predictor.example_rows()})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = everything_model(tmp_path_factory.mktemp("everything") / "counts <b>列")
    with serving("--trust", "-m", folder, "--access-log", "none") as running:
        yield running


def test_answers_are_as_described(server: Server) -> None:
    """A running server tells the same, and its answers fit what it tells."""
    reply = server.request("GET", "/openapi.json")
    assert (200, "application/json") == (reply.status, reply.headers["content-type"])
    doc = reply.json()
    answer = server.post(json.dumps(content(doc)["application/json"]["examples"]["params"]["value"]))
    described = doc["paths"]["/invocations"]["post"]["responses"]["200"]["content"]["application/json"]
    assert valid(doc, described["schema"], answer.json())
    assert described["example"] == answer.json()
    refused = server.post("{}")
    assert valid(doc, {"$ref": "#/components/schemas/Error"}, refused.json())
    assert 405 == server.request("POST", "/openapi.json", "").status
    assert {"/admin/reload", "/admin/rollback"} < set(doc["paths"]), "this machine may change a server on loopback"


def test_keys_are_asked_for_and_said(tmp_path: Path) -> None:
    """With keys the description is for those who have one, and says how to show it; its page asks for one."""
    key = keys.add(tmp_path / "keys", "me", "predict")
    iris = Path(predictor.__file__).parent / "demo" / "iris"
    with serving("-m", iris, "--api-key-file", tmp_path / "keys") as guarded:
        assert 401 == guarded.request("GET", "/openapi.json").status
        assert 401 == guarded.request("GET", "/").status
        page = guarded.request("GET", "/docs")
        assert 200 == page.status
        assert b"iris" not in page.body
        told = guarded.request("GET", "/openapi.json", headers={"Authorization": f"Bearer {key}"}).json()
    OpenAPIV31SpecValidator(told).validate()
    assert {"bearer", "key"} == set(told["components"]["securitySchemes"])


def test_schemathesis_finds_nothing(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fuzzed by its own description, the server never fails, and only ever answers as it says."""
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    checks += "response_schema_conformance,unsupported_method,allow_header_conformance,json_that_fits_is_answered"
    command = [Path(sys.executable).with_name("st"), "run", f"http://localhost:{server.port}/openapi.json"]
    command += ["--checks", checks, "--max-examples", str(EXAMPLES), "--seed", "7", "--continue-on-failure"]
    command += ["--no-color", "--no-shrink", "--warnings", "off", "--suppress-health-check", "all"]
    ran = subprocess.run(
        command,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(HERE)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE * max(2, EXAMPLES / 15),
        check=False,
    )
    found = re.search(r"(\d+) generated", ran.stdout)
    assert found, ran.stdout + ran.stderr
    with capsys.disabled():
        print(f"\nschemathesis: {found[1]} requests", end="")
    assert 0 == ran.returncode, ran.stdout[-6000:]
    assert 400 < int(found[1])
    assert 200 == server.request("GET", "/readyz").status
