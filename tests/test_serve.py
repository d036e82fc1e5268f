"""`foretell models serve` as its users meet it: a process behind a port, asked over HTTP and ended by signals."""

import contextlib
import http.client
import itertools
import json
import os
import random
import re
import select
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pyarrow as pa
import pytest
from onnx import TensorProto, helper, numpy_helper

from conftest import COMMAND, PATIENCE, Reply, Server, foretell, model_path, serving
from scripted import (
    PLAIN,
    RAISES,
    UNANSWERABLE,
    WAITS,
    all_at_once,
    answer,
    data,
    held_at_gate,
    scripted_model,
    sent,
    stored_model,
    taken_in,
)

ROW = [5.1, 3.5, 1.4, 0.2]
NAMES = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]
RECORD = dict(zip(NAMES, ROW, strict=True))
DATA = json.dumps({"data": [ROW]})
CSV_HEADER = ",".join(NAMES)
ANSWER = b'{"predictions": [0]}'

# The models and the servers


@pytest.fixture
def scripted(tmp_path: Path) -> Path:
    return scripted_model(tmp_path / "scripted")


@pytest.fixture(scope="module")
def forest(models: Path) -> Iterator[Server]:
    """The common server: a forest of numbers, behind named columns."""
    with serving("-m", model_path(models, "forest")) as server:
        yield server


@pytest.fixture(scope="module")
def logistic(models: Path) -> Iterator[Server]:
    """A model that is quick enough to run on the event loop itself."""
    with serving("-m", model_path(models, "logistic")) as server:
        yield server


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the scripted model, for what leaves it as it was."""
    with serving("--trust", "-m", scripted_model(tmp_path_factory.mktemp("troubled") / "scripted")) as server:
        yield server


# Clients


def closed_by_server(connection: socket.socket) -> None:
    """Returns when the server has closed an idle connection, as it does once it stops."""
    assert connection.recv(1) == b""


def complaint(reply: Reply) -> str:
    """An error's message, after a look at the form of its body."""
    assert reply.headers["content-type"] == "application/json"
    assert set(reply.json()) == {"error_code", "message"}
    assert len(reply.body) <= 4096
    assert "Traceback" not in reply.body.decode()
    message: str = reply.json()["message"]
    return message


# Starting


@dataclass(frozen=True)
class Started:
    """A server whose output the test reads itself. said: what was on stderr when it was ready."""

    process: subprocess.Popen[str]
    line: str
    said: list[str]

    @property
    def port(self) -> int:
        return int(self.line.rsplit(" ", 1)[1])

    def rest(self, number: int) -> tuple[int, str, str]:
        """Sends a signal; the exit code, and what came on stdout and stderr after the start."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err


@contextlib.contextmanager
def started(model: Path, *options: object) -> Iterator[Started]:
    """Runs `foretell models serve` until it has said all that it says at the start."""
    command = [*COMMAND, "models", "serve", "-m", str(model), "-p", "0", *map(str, options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            line = process.stdout.readline()
            said = list(itertools.takewhile(lambda said: "A page:" not in said, process.stderr))
            yield Started(process, line, said)
        finally:
            process.kill()


def test_says_the_promised_line_on_stdout_and_nothing_else(models: Path) -> None:
    """stdout holds the one promised line, from when the server accepts; the rest is on stderr."""
    with started(model_path(models, "onnx")) as server:
        status, body = answer(sent(server.port, DATA))
        rest = server.rest(signal.SIGTERM)
    stamp = r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d"
    assert re.fullmatch(rf"{stamp} Starting foretell model server for model 'onnx' on port \d+\n", server.line)
    assert (200, ANSWER) == (status, body)
    assert (0, "", "") == rest


@pytest.mark.parametrize(
    "options",
    [
        pytest.param([], id="default"),
        pytest.param(["-w", "2"], id="workers"),
        pytest.param(["-h", "localhost"], id="localhost"),
        pytest.param(["-h", "127.0.0.2"], id="another-address"),
        pytest.param(["-h", "0.0.0.0", "--insecure"], id="every-address"),
    ],
)
def test_prints_a_curl_line_that_works(models: Path, options: list[str]) -> None:
    """The curl line on stderr can be pasted into a shell, whatever the server listens on, and gets a prediction."""
    with started(model_path(models, "onnx"), *options) as server:
        lines = [line[line.index("curl ") :] for line in server.said if "curl " in line]
        ran = [subprocess.run(["sh", "-c", line], capture_output=True, check=False) for line in lines]
    assert [ANSWER] == [each.stdout for each in ran], server.said


def test_a_large_example_is_no_line(tmp_path: Path) -> None:
    """Of a model of images neither the line to try nor a hint holds a whole image; the page does."""
    with started(wide_model(tmp_path / "wide")) as server:
        status, said = answer(sent(server.port, "{}"))
        lines = [line for line in server.said if "curl " in line]
    assert (400, 1) == (status, len(lines))
    assert "-d @body.json http://" in lines[0]
    assert len(lines[0]) < 200
    assert 300 < len(json.loads(said)["message"]) < 700


def wide_model(folder: Path) -> Path:
    """The network of any size, described as one of 4,000 numbers a row."""
    open_sizes(folder)
    described = (folder / "MLmodel").read_text().replace("[-1, -1]", "[-1, 4000]")
    (folder / "MLmodel").write_text(described)
    return folder


def test_the_first_example_works_to_the_letter(forest: Server) -> None:
    """The example that every text about foretell shows is answered with those very bytes."""
    body = '{"data": [[5.1, 3.5, 1.4, 0.2]]}'
    url = f"http://localhost:{forest.port}/invocations"
    command = ["curl", "-sS", "-X", "POST", "-H", "Content-Type:application/json", "-d", body, url]
    ran = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
    assert ANSWER == ran.stdout


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_listens_on_both_loopback_addresses(forest: Server, address: str) -> None:
    """Whether localhost means IPv4 or IPv6 to a client makes no difference."""
    connection = http.client.HTTPConnection(address, forest.port, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request("POST", "/invocations", DATA)
        assert ANSWER == connection.getresponse().read()


def test_a_busy_port_ends_the_command_with_a_free_one(forest: Server, models: Path) -> None:
    """Exit code 1, and the port that is named can be taken."""
    ran = foretell("models", "serve", "-m", model_path(models, "onnx"), "-p", forest.port)
    assert (1, "") == (ran.code, ran.out)
    assert f"port {forest.port} is in use" in ran.err
    named = re.search(r"-p (\d+)", ran.err)
    assert named, ran.err
    with socket.socket() as free:
        free.bind(("127.0.0.1", int(named[1])))


def test_notes_that_other_machines_can_ask(models: Path) -> None:
    """Listening on every address is possible, and said; the machine's own are not worth a word."""
    with started(model_path(models, "onnx"), "-h", "0.0.0.0", "--insecure") as server:
        assert (200, ANSWER) == answer(sent(server.port, DATA))
    assert ["note: 0.0.0.0 can be reached"] == [line[:28] for line in server.said if "other machines" in line]


# Bodies and answers

SHUFFLED = [1.4, "Oslo", 0.2, 5.1, 3.5]
BODIES = {
    "data": ("application/json", DATA),
    "plain-rows-as-instances": ("application/json", json.dumps({"instances": [ROW]})),
    "plain-rows-as-inputs": ("application/json", json.dumps({"inputs": [ROW]})),
    "data-of-records": ("application/json", json.dumps({"data": [RECORD]})),
    "split": ("application/json", json.dumps({"dataframe_split": {"columns": NAMES, "data": [ROW]}})),
    "split-without-columns": ("application/json", json.dumps({"dataframe_split": {"data": [ROW]}})),
    "split-with-index": (
        "application/json",
        json.dumps({"dataframe_split": {"index": [7], "columns": NAMES, "data": [ROW]}}),
    ),
    "split-shuffled-and-extra": (
        "application/json",
        json.dumps({"dataframe_split": {"columns": [NAMES[2], "city", NAMES[3], *NAMES[:2]], "data": [SHUFFLED]}}),
    ),
    "records": ("application/json", json.dumps({"dataframe_records": [RECORD]})),
    "records-shuffled-and-extra": (
        "application/json",
        json.dumps({"dataframe_records": [{"city": "Oslo", **dict(reversed(RECORD.items()))}]}),
    ),
    "instances-of-records": ("application/json", json.dumps({"instances": [RECORD]})),
    "inputs-of-records": ("application/json", json.dumps({"inputs": [RECORD]})),
    "inputs-of-columns": ("application/json", json.dumps({"inputs": {k: [v] for k, v in RECORD.items()}})),
    "inputs-of-columns-and-extra": (
        "application/json",
        json.dumps({"inputs": {"city": ["Oslo"], **{k: [v] for k, v in RECORD.items()}}}),
    ),
    "unknown-sibling": ("application/json", json.dumps({"data": [ROW], "signature_name": "x"})),
    "empty-params": ("application/json", json.dumps({"data": [ROW], "params": {}})),
    "whole-numbers": ("application/json", json.dumps({"data": [[5, 3, 1, 0]]})),
    "csv": ("text/csv", f"{CSV_HEADER}\n5.1,3.5,1.4,0.2\n"),
    "csv-without-last-newline": ("text/csv", f"{CSV_HEADER}\n5.1,3.5,1.4,0.2"),
    "csv-windows-newlines": ("text/csv; charset=utf-8", f"{CSV_HEADER}\r\n5.1,3.5,1.4,0.2\r\n"),
    "csv-shuffled-and-extra": ("text/csv", f"city,{','.join(reversed(NAMES))}\nOslo,0.2,1.4,3.5,5.1\n"),
    "jsonl-of-records": ("application/jsonl", json.dumps(RECORD) + "\n"),
    "jsonl-of-rows": ("application/jsonl", json.dumps(ROW)),
    "jsonlines": ("application/jsonlines", json.dumps(RECORD)),
    "semicolon": ("application/json;", DATA),
    "upper-case": ("APPLICATION/JSON", DATA),
    "utf-8": ("application/json; charset=utf-8", DATA),
    "utf-8-in-quotes": ('application/json; charset="UTF-8"', DATA),
}


@pytest.mark.parametrize(("kind", "body"), BODIES.values(), ids=BODIES.keys())
def test_takes_every_form_of_a_body(forest: Server, kind: str, body: str) -> None:
    """The same row under any form and content type gets the same answer."""
    reply = forest.post(body, kind)
    assert (200, "application/json", ANSWER) == (reply.status, reply.headers["content-type"], reply.body)


def test_a_body_without_content_type_is_json(forest: Server) -> None:
    """Clients that forget the header are served."""
    assert ANSWER == forest.request("POST", "/invocations", DATA).body


@pytest.mark.parametrize(
    ("accept", "kind", "body"),
    [
        pytest.param("text/csv", "text/csv; charset=utf-8", b"prediction\n0\n", id="csv"),
        pytest.param("application/jsonl", "application/jsonl", b'{"prediction":0}\n', id="jsonl"),
        pytest.param("application/jsonlines", "application/jsonl", b'{"prediction":0}\n', id="jsonlines"),
        pytest.param("*/*", "application/json", ANSWER, id="anything"),
        pytest.param("text/html, image/png", "application/json", ANSWER, id="nothing-of-ours"),
        pytest.param("application/json;q=0.3, text/csv;q=0.9", "text/csv; charset=utf-8", None, id="weights"),
        pytest.param("TEXT/CSV", "text/csv; charset=utf-8", None, id="upper-case"),
    ],
)
def test_answers_in_the_format_that_is_accepted(forest: Server, accept: str, kind: str, body: bytes | None) -> None:
    """Accept chooses CSV or JSON Lines; JSON otherwise."""
    reply = forest.post(DATA, Accept=accept)
    assert (200, kind) == (reply.status, reply.headers["content-type"])
    assert (body or b"prediction\n0\n") == reply.body


@pytest.mark.parametrize(
    ("kind", "body", "accept", "expected"),
    [
        pytest.param("application/json", '{"data": []}', "application/json", b'{"predictions": []}', id="data"),
        pytest.param("application/json", '{"dataframe_records": []}', "", b'{"predictions": []}', id="records"),
        pytest.param(
            "application/json",
            json.dumps({"inputs": {name: [] for name in NAMES}}),
            "",
            b'{"predictions": []}',
            id="columns",
        ),
        pytest.param("text/csv", f"{CSV_HEADER}\n", "text/csv", b"prediction\n", id="csv"),
        pytest.param("application/jsonl", "", "application/jsonl", b"", id="jsonl"),
    ],
)
def test_no_rows_get_no_answers(forest: Server, kind: str, body: str, accept: str, expected: bytes) -> None:
    """Zero rows are no mistake."""
    reply = forest.post(body, kind, Accept=accept)
    assert (200, expected) == (reply.status, reply.body)


def test_gives_class_probabilities_when_asked(forest: Server) -> None:
    """?proba=true adds a probability a class, in JSON and in CSV."""
    reply = forest.post(DATA, query="?proba=true")
    expected = {"prediction": 0, "probability_0": 1.0, "probability_1": 0.0, "probability_2": 0.0}
    assert {"predictions": [expected]} == reply.json()
    table = forest.post(DATA, query="?proba=true", Accept="text/csv").body
    assert b"prediction,probability_0,probability_1,probability_2\n0,1.0,0.0,0.0\n" == table


def test_params_reach_the_model(models: Path) -> None:
    """params of the signature change the answer; one of a wrong type is refused by name."""
    row = [3.5, 1.4, 0.2]
    with serving("-m", model_path(models, "params")) as server:
        plain = server.post(json.dumps({"data": [row]})).json()["predictions"][0]
        spread = server.post(json.dumps({"data": [row], "params": {"return_std": True}})).json()["predictions"][0]
        wrong = server.post(json.dumps({"data": [row], "params": {"return_std": "yes"}}))
    assert isinstance(plain, float)
    assert 2 == len(spread)
    assert plain in spread.values()
    assert 400 == wrong.status
    assert "return_std" in complaint(wrong)


# Mistakes of the client

EXAMPLE = 'For example: {"data": [['
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
MISTAKES: dict[str, tuple[str, str | bytes, int, tuple[str, ...]]] = {
    "shell-quotes": (JSON, f"'{DATA}'", 400, ("starts with '", "shell")),
    "two-forms": (JSON, '{"data": [[1,2,3,4]], "inputs": [[1,2,3,4]]}', 400, ("data and inputs", EXAMPLE)),
    "no-form": (JSON, '{"rows": [[1,2,3,4]]}', 400, ("exactly one of data, dataframe_split", EXAMPLE)),
    "bare-list": (JSON, "[[5.1, 3.5, 1.4, 0.2]]", 400, ("an array", EXAMPLE)),
    "bare-scalar": (JSON, "3", 400, ("a bare value", EXAMPLE)),
    "empty": (JSON, "", 400, ("empty", EXAMPLE)),
    "cut-off": (JSON, DATA[:-1], 400, ("not valid JSON", f"byte {len(DATA) - 1}")),
    "python-quotes": (JSON, "{'data': []}", 400, ("not valid JSON", "byte 1", "double quotes")),
    "text-behind": (JSON, DATA + " x", 400, ("not valid JSON", f"byte {len(DATA) + 1}")),
    "not-utf-8": (JSON, b'{"data": [["\xff"]]}', 400, ("not valid UTF-8", "byte 12")),
    "form-key-twice": (JSON, '{"data": [[1,2,3,4]], "data": []}', 400, ('"data" comes twice',)),
    "key-twice": (
        JSON,
        json.dumps({"dataframe_records": [RECORD]}).replace('{"sepal l', '{"sepal length (cm)": 1, "sepal l'),
        400,
        ('"sepal length (cm)" comes twice',),
    ),
    "nan": (JSON, '{"data": [[NaN, 1, 1, 1]]}', 400, ("NaN", "null")),
    "overflow": (JSON, '{"data": [[5, 1e400, 1, 1]]}', 400, ("$.data[0][1]", "range")),
    "5000-digits": (JSON, '{"data": [[%s, 1, 1, 1]]}' % ("9" * 5000), 400, ("digits",)),
    "deep": (JSON, '{"data": %s}' % ("[" * 100_000 + "]" * 100_000), 400, ("nested too deeply",)),
    "deep-elsewhere": (JSON, '{"x": %s}' % ("[" * 100_000 + "]" * 100_000), 400, ("nested too deeply",)),
    "surrogate": (JSON, r'{"data": [[1, "\ud800", 1, 1]]}', 400, ("$.data[0][1]", "not a number")),
    "surrogate-key": (JSON, r'{"dataframe_records": [{"\ud800": 1}]}', 400, ("$.dataframe_records[0]", "missing")),
    "surrogate-form": (JSON, r'{"\ud800": 1}', 400, ("exactly one of",)),
    "surrogate-param": (JSON, r'{"data": [[1,1,1,1]], "params": {"\ud800": 1}}', 400, ("params",)),
    "surrogate-column": (JSON, r'{"dataframe_split": {"columns": ["\ud800"], "data": [[1]]}}', 400, ("missing",)),
    "surrogate-jsonl": ("application/jsonl", r'{"\ud800": 1}', 400, ("line 1",)),
    "gzip": (JSON, b"\x1f\x8b\x08\x00\x00\x00", 400, ("not valid UTF-8",)),
    "too-few-cells": (JSON, '{"data": [[5.1, 3.5, 1.4, 0.2], [1, 2, 3]]}', 400, ("$.data[1]", "takes 4")),
    "flat-row": (JSON, '{"data": [5.1, 3.5, 1.4, 0.2]}', 400, ("$.data[0]", "takes 4")),
    "text-cell": (JSON, '{"data": [[5.1, 3.5, "1.4", 0.2]]}', 400, ("$.data[0][2]", NAMES[2], "not a number")),
    "boolean-cell": (JSON, '{"data": [[5.1, 3.5, true, 0.2]]}', 400, ("$.data[0][2]", NAMES[2], "true")),
    "record-cell": (
        JSON,
        json.dumps({"dataframe_records": [RECORD, {**RECORD, NAMES[1]: "x"}]}),
        400,
        ('$.dataframe_records[1]["sepal width (cm)"]',),
    ),
    "split-cell": (
        JSON,
        json.dumps({"dataframe_split": {"columns": NAMES, "data": [ROW, [1, 2, "x", 3]]}}),
        400,
        ("$.dataframe_split.data[1][2]",),
    ),
    "column-cell": (
        JSON,
        json.dumps({"inputs": {**{name: [1, 1] for name in NAMES}, NAMES[3]: [1, "x"]}}),
        400,
        ('$.inputs["petal width (cm)"][1]',),
    ),
    "missing-column": (
        JSON,
        json.dumps({"dataframe_split": {"columns": NAMES[:3], "data": [ROW[:3]]}}),
        400,
        ("$.dataframe_split", NAMES[3], "missing"),
    ),
    "unequal-columns": (
        JSON,
        json.dumps({"inputs": {**{name: [1] for name in NAMES}, NAMES[3]: []}}),
        400,
        ("$.inputs", "equally long"),
    ),
    "split-a-list": (JSON, '{"dataframe_split": []}', 400, ("$.dataframe_split", EXAMPLE)),
    "params-a-list": (JSON, '{"data": [[1,1,1,1]], "params": []}', 400, ("$.params", "object")),
    "refused-by-the-library": (
        JSON,
        '{"data": [[5.1, 3.5, 1.4, 0.2], [1e39, 1, 1, 1]]}',
        400,
        ("$.data[1]", "refused", "too large"),
    ),
    "csv-cell": ("text/csv", f"{CSV_HEADER}\n1,1,1,1\n1,x,1,1\n", 400, ("line 3", NAMES[1], "not a number")),
    "csv-refused": ("text/csv", f"{CSV_HEADER}\n1,1,1,1\n1e39,1,1,1\n", 400, ("line 3", "refused")),
    "csv-columns": ("text/csv", "a,b\n1,2\n", 400, (NAMES[0], "missing", "a, b")),
    "csv-empty": ("text/csv", "", 400, ("empty", "header")),
    "jsonl-cell": ("application/jsonl", "[1,1,1,1]\n[1,1,1]\n", 400, ("line 2", "takes 4")),
    "jsonl-torn": ("application/jsonl", '[1,1,1,1]\n{"a": \n', 400, ("line 2", "not valid JSON")),
    "charset": (f"{JSON}; charset=latin-1", DATA, 415, ("UTF-8",)),
    "plain-text": ("text/plain", DATA, 415, ("text/plain", "application/json", "text/csv")),
    "form-encoded": (FORM, DATA, 415, ("-H 'Content-Type: application/json'",)),
}


@pytest.mark.parametrize(("kind", "body", "status", "parts"), MISTAKES.values(), ids=MISTAKES.keys())
def test_says_what_is_wrong_with_a_request(
    forest: Server, kind: str, body: str | bytes, status: int, parts: tuple[str, ...]
) -> None:
    """A mistake is answered with what, where and what to do, as a small JSON document."""
    reply = forest.post(body, kind)
    assert status == reply.status, reply.body[:500]
    message = complaint(reply)
    assert [] == [part for part in parts if part not in message], message


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        pytest.param(JSON, '{"data": [["%s", 1, 1, 1]]}', id="cell"),
        pytest.param(JSON, '{"data": "%s"}', id="rows"),
        pytest.param(JSON, '{"%s": 1}', id="form"),
        pytest.param(JSON, '{"%s": 1, "%s": 1}', id="key-twice"),
        pytest.param(JSON, '{"data": [{"%s": 1}]}', id="record-key"),
        pytest.param(JSON, '{"inputs": {"%s": [1]}}', id="column-key"),
        pytest.param(JSON, '{"dataframe_split": {"columns": ["%s"], "data": [[1]]}}', id="split-column"),
        pytest.param(JSON, '{"data": [[1,1,1,1]], "params": {"%s": 1}}', id="param"),
        pytest.param(JSON, "%s", id="no-json"),
        pytest.param("text/csv", CSV_HEADER + "\n%s,1,1,1\n", id="csv-cell"),
        pytest.param("text/csv", "%s\n1\n", id="csv-header"),
        pytest.param("application/jsonl", '{"%s": 1}\n', id="jsonl"),
    ],
)
@pytest.mark.parametrize("mark", ["Ж", "😀", "\\u0001"], ids=["letters", "emoji", "escapes"])
def test_never_echoes_the_input_at_length(forest: Server, kind: str, body: str, mark: str) -> None:
    """A megabyte of nonsense is named by its beginning: an error stays under 4 KiB, whatever it is made of."""
    reply = forest.post(body.replace("%s", mark * (1_000_000 // len(mark.encode()))).encode(), kind)
    assert 400 == reply.status
    shown = complaint(reply).encode("unicode_escape")
    assert shown.count(mark.encode("unicode_escape").replace(b"\\\\u00", b"\\x")) <= 200


@pytest.mark.parametrize(
    ("query", "status"),
    [
        pytest.param("?proba=false", 200, id="false"),
        pytest.param("?other=1", 200, id="unknown"),
        pytest.param("?proba=maybe", 400, id="neither"),
        pytest.param("?proba=%ff%00", 400, id="bytes"),
    ],
)
def test_reads_the_query(forest: Server, query: str, status: int) -> None:
    """proba is true or false; what is not known is passed over."""
    assert status == forest.post(DATA, query=query).status


def test_the_library_refusing_a_missing_value_is_the_clients_mistake(logistic: Server) -> None:
    """A null that a logistic regression cannot take is a 400 which names the row, in its place in any form."""
    rows = [ROW, [None, 1, 1, 1]]
    replies = {
        "$.data[1]": logistic.post(data(*rows)),
        "$.dataframe_split.data[1]": logistic.post(json.dumps({"dataframe_split": {"columns": NAMES, "data": rows}})),
        "line 3": logistic.post(f"{CSV_HEADER}\n5.1,3.5,1.4,0.2\n,1,1,1\n", "text/csv"),
        "line 2": logistic.post("[5.1,3.5,1.4,0.2]\n[null,1,1,1]\n", "application/jsonl"),
    }
    assert [400] * 4 == [reply.status for reply in replies.values()]
    for place, reply in replies.items():
        assert place in complaint(reply)
        assert "NaN" in complaint(reply)


# Routes


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/ping", "/health", "/livez", "/readyz", "/version", "/", "/ping?x=1"])
def test_probes_answer(forest: Server, method: str, path: str) -> None:
    """Health, version and the page answer GET, and HEAD without a body but with its length."""
    reply = forest.request(method, path)
    assert 200 == reply.status
    assert (method == "GET") == bool(reply.body)
    assert int(reply.headers["content-length"]) == len(forest.request("GET", path).body)


def test_an_unknown_path_is_told_what_there_is(forest: Server) -> None:
    """404 lists the routes, and shows only the beginning of what was asked."""
    reply = forest.request("GET", "/" + "predict" * 1000)
    assert 404 == reply.status
    message = complaint(reply)
    assert "/invocations" in message and "/ping" in message
    assert len(message) < 300


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        pytest.param("GET", "/invocations", "POST", id="get-invocations"),
        pytest.param("PUT", "/invocations", "POST", id="put-invocations"),
        pytest.param("POST", "/ping", "GET, HEAD", id="post-ping"),
        pytest.param("DELETE", "/", "GET, HEAD", id="delete-page"),
    ],
)
def test_a_wrong_verb_is_told_the_right_one(forest: Server, method: str, path: str, allow: str) -> None:
    """405 with Allow."""
    reply = forest.request(method, path)
    assert (405, allow) == (reply.status, reply.headers["allow"])
    assert "METHOD_NOT_ALLOWED" == reply.json()["error_code"]
    complaint(reply)


def test_a_look_at_invocations_shows_the_example(forest: Server) -> None:
    """Whoever opens /invocations in a browser sees a curl line that works."""
    message = complaint(forest.request("GET", "/invocations"))
    line = message[message.index("curl ") :]
    ran = subprocess.run(["sh", "-c", line], capture_output=True, timeout=PATIENCE, check=False)
    assert b'{"predictions": [' == ran.stdout[:17]


# Limits


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
def test_too_large_a_body_is_answered_and_not_cut_off(models: Path, chunked: bool) -> None:
    """The client that sends it all before it reads gets the 413; the server goes on."""
    body = data(*[ROW] * 200_000).encode()
    with serving("-m", model_path(models, "onnx"), "--max-body-mb", "1") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        with contextlib.closing(connection):
            pieces = iter(body[at : at + 65536] for at in range(0, len(body), 65536))
            connection.request("POST", "/invocations", pieces if chunked else body, encode_chunked=chunked)
            got = connection.getresponse()
            reply = Reply(got.status, {k.lower(): v for k, v in got.getheaders()}, got.read())
        assert ANSWER == server.post(DATA).body
    assert 4_000_000 < len(body)
    assert 413 == reply.status
    assert "1 MiB" in complaint(reply) and "--max-body-mb" in complaint(reply)


def test_a_slow_model_is_given_up_and_the_server_goes_on(scripted: Path) -> None:
    """After -t seconds the client gets a 504, others that wait behind it too; the next request is served."""
    with serving("--trust", "-m", scripted, "-t", "0.3") as server:
        slow = sent(server.port, data([WAITS, 1]))
        with held_at_gate(scripted):
            behind = sent(server.port, data([PLAIN, 1]))
            assert 200 == server.request("GET", "/ping").status
            statuses = [answer(slow), answer(behind)]
        after = server.post(data([PLAIN, 21]))
    assert [504, 504] == [status for status, _ in statuses]
    assert "0.3 s" in json.loads(statuses[0][1])["message"]
    assert b'{"predictions": [42.0]}' == after.body


# Faults of the model


@pytest.mark.parametrize(
    ("kind", "body", "place"),
    [
        pytest.param(JSON, data([PLAIN, 1], [RAISES, 1]), "$.data[1]", id="data"),
        pytest.param(
            JSON,
            json.dumps({"dataframe_records": [{"kind": PLAIN, "value": 1}, {"kind": RAISES, "value": 1}]}),
            "$.dataframe_records[1]",
            id="records",
        ),
        pytest.param("text/csv", f"kind,value\n{PLAIN},1\n{RAISES},1\n", "line 3", id="csv"),
        pytest.param("application/jsonl", f"[{PLAIN}, 1]\n[{RAISES}, 1]\n", "line 2", id="jsonl"),
    ],
)
def test_a_model_that_raises_is_the_servers_fault(troubled: Server, kind: str, body: str, place: str) -> None:
    """500 with the row's place and no traceback."""
    reply = troubled.post(body, kind)
    assert (500, "INTERNAL_ERROR") == (reply.status, reply.json()["error_code"])
    assert place in complaint(reply)
    assert "RuntimeError" in complaint(reply)


def test_a_traceback_is_shown_only_with_debug(scripted: Path) -> None:
    """--debug puts the model's own traceback into the reply."""
    with serving("--trust", "--debug", "-m", scripted) as server:
        reply = server.post(data([RAISES, 1]))
    assert 500 == reply.status
    assert "the secret of the marked row" in reply.json()["stack_trace"]
    assert "Traceback" in reply.json()["stack_trace"]


def test_an_answer_that_cannot_be_written_is_a_fault_and_no_silence(troubled: Server) -> None:
    """A model that gives objects without a JSON form gets its client a 500, and not an endless wait."""
    connection = sent(troubled.port, data([UNANSWERABLE, 1]))
    connection.settimeout(5)
    status, body = answer(connection)
    assert 500 == status
    assert "INTERNAL_ERROR" == json.loads(body)["error_code"]
    assert b'{"predictions": [2.0]}' == troubled.post(data([PLAIN, 1])).body


def test_a_bad_request_does_not_fail_its_neighbours(scripted: Path) -> None:
    """Of requests that were gathered into one batch, the bad one fails and the others get their answers."""
    with serving("--trust", "-m", scripted) as server:
        first = sent(server.port, data([WAITS, 1]))
        with held_at_gate(scripted):
            bodies = [data([RAISES if at == 5 else PLAIN, at]) for at in range(12)]
            others = [sent(server.port, body) for body in bodies]
            taken_in(server.port)
        answers = [answer(connection) for connection in (first, *others)]
    assert (200, b'{"predictions": [2.0]}') == answers.pop(0)
    assert 500 == answers[5][0]
    assert "$.data[0]" in json.loads(answers.pop(5)[1])["message"]
    right = [b'{"predictions": [%.1f]}' % (at * 2) for at in range(12) if at != 5]
    assert [(200, body) for body in right] == answers
    assert "12" in (scripted.parent / "sizes").read_text().split(), "they were not gathered"


def test_an_unanswerable_request_does_not_fail_its_neighbours(scripted: Path) -> None:
    """Nor does one whose answer cannot be written."""
    with serving("--trust", "-m", scripted) as server:
        first = sent(server.port, data([WAITS, 1]))
        with held_at_gate(scripted):
            others = [sent(server.port, data([UNANSWERABLE if at == 0 else PLAIN, at])) for at in range(3)]
            taken_in(server.port)
        statuses = []
        for connection in (first, *others):
            connection.settimeout(5)
            with contextlib.suppress(TimeoutError):
                statuses.append(answer(connection)[0])
    assert [200, 500] == statuses[:2]
    assert 4 == len(statuses)


@pytest.mark.parametrize("name", ["forest", "logistic"], ids=["beside-the-loop", "on-the-loop"])
def test_everyone_gets_their_own_answer(request: pytest.FixtureRequest, name: str) -> None:
    """300 requests at once, each with a row of its own, get the very bytes that each gets alone."""
    server: Server = request.getfixturevalue(name)
    numbers = random.Random(7)
    bodies = [data([round(numbers.uniform(0.1, 8), 3) for _ in NAMES]) for _ in range(300)]
    alone = [(reply.status, reply.body) for reply in (server.post(body, query="?proba=true") for body in bodies)]
    together = all_at_once(server.port, "/invocations?proba=true", bodies)
    assert len({body for _, body in alone}) > 30
    assert alone == together


def test_requests_of_other_shapes_do_not_fail_each_other(tmp_path: Path) -> None:
    """Where the signature leaves a size open, every request at once gets the answer of its own shape."""
    model = open_sizes(tmp_path / "open")
    bodies = [json.dumps({"inputs": [[1.0] * (at % 5 + 1)] * (at % 3 + 1)}) for at in range(120)]
    with serving("-m", model) as server:
        together = all_at_once(server.port, "/invocations", bodies)
        mixed = server.post(batches_of_other_shapes(), "application/vnd.apache.arrow.stream")
    expected = [{"predictions": [at % 5 + 1.0] * (at % 3 + 1)} for at in range(120)]
    assert [(200, answer) for answer in expected] == [(status, json.loads(body)) for status, body in together]
    assert 400 == mixed.status
    assert "row 2: the tensor's shape is not that of the first row's" in complaint(mixed)


def open_sizes(folder: Path) -> Path:
    """A network that sums the numbers of a row, of which there may be any number."""
    sums = helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "size"])
    answered = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])
    axes = numpy_helper.from_array(np.array([1]), "axes")
    graph = helper.make_graph([sums], "open", [given], [answered], [axes])
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    spec = [{"name": "x", "type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, -1]}}]
    folder.mkdir()
    (folder / "model.onnx").write_bytes(network.SerializeToString())
    described = {"flavors": {"onnx": {"data": "model.onnx"}}, "signature": {"inputs": json.dumps(spec)}}
    (folder / "MLmodel").write_text(json.dumps(described))
    return folder


def batches_of_other_shapes() -> bytes:
    """An Arrow stream whose second batch holds shorter lists than its first."""
    sink = pa.BufferOutputStream()
    batches = [pa.record_batch({"x": [[1.0] * size]}) for size in (3, 2)]
    with pa.ipc.new_stream(sink, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


# The access log


@pytest.mark.parametrize(
    ("options", "logged"),
    [
        pytest.param([], ['"POST /invocations" 400', '"GET /nope" 404'], id="default"),
        pytest.param(
            ["--access-log", "all"],
            ['"POST /invocations" 200', '"GET /ping" 200', '"POST /invocations" 400', '"GET /nope" 404'],
            id="all",
        ),
        pytest.param(["--access-log", "none"], [], id="none"),
    ],
)
def test_logs_what_was_asked_for(models: Path, options: list[str], logged: list[str]) -> None:
    """By default errors are logged, and predictions and probes that went well are not."""
    with serving("-m", model_path(models, "onnx"), *options) as server:
        assert 200 == server.post(DATA).status
        assert 200 == server.request("GET", "/ping").status
        assert 400 == server.post("{}").status
        assert 404 == server.request("GET", "/nope").status
    lines = [line for line in server.lines if "127.0.0.1 " in line]
    assert logged == [re.sub(r".* 127\.0\.0\.1 (\S+ \S+ \d+) .*\n", r"\1", line) for line in lines]
    assert all(re.match(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d ", line) for line in lines)


def test_no_request_can_write_lines_of_its_own_into_the_log(models: Path) -> None:
    """A path with newlines or escape sequences is shown escaped."""
    with serving("-m", model_path(models, "onnx")) as server:
        assert 404 == server.request("GET", "/a%0d%0aforged%1b[31m").status
    assert [] == [line for line in server.lines if line.startswith("forged") or "\x1b" in line]
    assert 1 == sum("forged" in line for line in server.lines)


def test_goes_on_when_nobody_reads_its_log(scripted: Path) -> None:
    """A log whose reader has gone costs no answers: not the one to be logged, nor its neighbours, nor the next."""
    with started(scripted, "--trust") as server:
        assert server.process.stderr is not None
        server.process.stderr.close()
        connections = [sent(server.port, data([WAITS, 1]))]
        with held_at_gate(scripted):
            connections += [sent(server.port, data([kind, 1])) for kind in (RAISES, PLAIN)]
            for connection in connections:
                connection.settimeout(5)
        answers = [answer(connection)[0] for connection in connections]
        with sent(server.port, "{}") as connection:
            connection.sendall(b"GET /ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            got = b"".join(iter(lambda: connection.recv(4096), b""))
    assert [200, 500, 200] == answers
    assert [b"400", b"200"] == re.findall(rb"HTTP/1.1 (\d+)", got)


# Ending


def test_sigterm_finishes_what_is_in_flight(scripted: Path) -> None:
    """A request that was being answered, and one that waited, get their answers; then the exit code is 0."""
    with serving("--trust", "-m", scripted) as server:
        running = sent(server.port, data([WAITS, 1]))
        with held_at_gate(scripted):
            waiting = sent(server.port, data([PLAIN, 2]))
            idle = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
            taken_in(server.port)
            server.process.terminate()
            with idle:
                closed_by_server(idle)
        answers = [answer(running), answer(waiting)]
        assert 0 == server.process.wait(PATIENCE)
    assert [(200, b'{"predictions": [2.0]}'), (200, b'{"predictions": [4.0]}')] == answers


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_ends_it_quietly(models: Path, workers: int) -> None:
    """Exit code 0, and not a word about it."""
    with started(model_path(models, "onnx"), "-w", workers) as server:
        assert (200, ANSWER) == answer(sent(server.port, DATA))
        rest = server.rest(signal.SIGINT)
    assert (0, "", "") == rest


# Several workers


def children(process: subprocess.Popen[str]) -> list[int]:
    """The process's children, by the kernel's account."""
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Holds a process still."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def test_all_workers_serve_and_a_killed_one_is_replaced(models: Path) -> None:
    """Each of two workers answers while the other stands still; so does the one that comes for one that was killed."""
    with serving("-m", model_path(models, "onnx"), "-w", "2") as server:
        first, second = children(server.process)
        for still in (first, second):
            with stopped(still):
                assert 200 == server.post(DATA).status
        os.kill(first, signal.SIGKILL)
        with stopped(second):
            assert 200 == server.post(DATA).status
        now = children(server.process)
        server.process.terminate()
        assert 0 == server.process.wait(PATIENCE)
    assert second in now and first not in now
    assert 2 == len(now)
    assert any("signal 9" in line for line in server.lines)


@pytest.mark.parametrize(
    ("number", "code"),
    [pytest.param(signal.SIGTERM, 0, id="SIGTERM"), pytest.param(signal.SIGKILL, -9, id="SIGKILL")],
)
def test_no_worker_outlives_the_command(models: Path, number: signal.Signals, code: int) -> None:
    """However the parent ends, its workers end too."""
    with serving("-m", model_path(models, "onnx"), "-w", "2") as server:
        workers = [os.pidfd_open(pid) for pid in children(server.process)]
        server.process.send_signal(number)
        assert code == server.process.wait(PATIENCE)
        ended = [bool(select.select([worker], [], [], PATIENCE)[0]) for worker in workers]
        for worker in workers:
            os.close(worker)
    assert [True, True] == ended


def test_workers_finish_what_is_in_flight(scripted: Path) -> None:
    """SIGTERM to the parent lets a worker answer what it was asked."""
    with serving("--trust", "-m", scripted, "-w", "2") as server:
        workers = [os.pidfd_open(pid) for pid in children(server.process)]
        running = sent(server.port, data([WAITS, 1]))
        with held_at_gate(scripted):
            server.process.terminate()
            assert select.select(workers, [], [], PATIENCE)[0], "the idle worker did not end"
        assert (200, b'{"predictions": [2.0]}') == answer(running)
        assert 0 == server.process.wait(PATIENCE)
        for worker in workers:
            os.close(worker)


def test_a_worker_that_cannot_load_ends_the_command(tmp_path: Path) -> None:
    """With its error and exit code 3, and nothing on stdout."""

    class Broken:
        def __reduce__(self) -> tuple[Any, ...]:
            return int, ("no number",)

    folder = tmp_path / "broken"
    folder.mkdir()
    stored_model(folder, cloudpickle.dumps(Broken()), ["a"])
    ran = foretell("models", "serve", "--trust", "-m", folder, "-p", "0", "-w", "2")
    assert (3, "") == (ran.code, ran.out)
    assert "cannot be unpickled" in ran.err
    assert "Traceback" not in ran.err
