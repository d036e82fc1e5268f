"""Who is told of requests: a collector of traces, and the log of predictions. Neither costs a request its answer."""

import base64
import contextlib
import fcntl
import http.client
import json
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import foretell as package
from conftest import HERE, PATIENCE, Lines, Server, foretell, serving
from foretell.errors import UsageError
from foretell.serve import log_files
from foretell.serve.backlog import Backlog
from foretell.serve.counts import Counts
from foretell.serve.log_files import LogFolder
from foretell.serve.spans import Parent
from foretell.serve.tracing import Sampler, parent_of
from scripted import everything_model

IRIS = Path(package.__file__).parent / "demo" / "iris"
ROW = [5.1, 3.5, 1.4, 0.2]
BODY = json.dumps({"data": [ROW]})
TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
COLUMN_NAMES = [f"{kind} 列" for kind in ("boolean", "integer", "long", "float", "double", "string", "binary")]


@contextlib.contextmanager
def collecting(*arguments: str) -> Iterator[tuple[str, Lines]]:
    """A collector as a process: its address, and a line of JSON for each span that it got."""
    command = [sys.executable, str(HERE / "collector.py"), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    lines: Lines = Lines()
    port: queue.Queue[str] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        with process.stdout as stream:
            port.put(next(stream))
            for line in stream:
                lines.take(line)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield f"http://127.0.0.1:{port.get(timeout=PATIENCE).strip()}", lines
    finally:
        process.kill()
        process.wait()
        reader.join(PATIENCE)


def end(server: Server) -> int:
    server.process.send_signal(signal.SIGTERM)
    return server.process.wait(PATIENCE)


def ask_many(server: Server, bodies: list[str]) -> list[tuple[int, str]]:
    """(status, request id) of each, one after the other on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    found = []
    with contextlib.closing(connection):
        for body in bodies:
            connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
            got = connection.getresponse()
            got.read()
            found.append((got.status, got.headers["x-request-id"]))
    return found


# Traces


def test_a_request_is_traced_from_its_caller_to_the_model() -> None:
    """A caller's trace goes on with the request, its wait and the model's call, which lie inside each other in time."""
    with collecting() as (address, lines), serving("-m", IRIS, "--otel-endpoint", address) as server:
        asked = {"traceparent": f"00-{TRACE}-{CALLER}-01", "tracestate": "vendor=1", "X-Request-Id": "mine"}
        assert 200 == server.post(json.dumps({"data": [ROW, ROW]}), **asked).status
        assert 200 == server.post(BODY, traceparent=f"00-{TRACE}-{CALLER}-00").status
        assert 400 == server.post("{}", traceparent=f"00-{TRACE}-{CALLER}-01").status
        assert 200 == server.post(BODY).status
        assert 0 == end(server)
        lines.until('"compute", "trace": "' + TRACE)
        spans = [json.loads(line) for line in lines]
    ours = [span for span in spans if span["attributes"].get("foretell.request.id") == "mine"]
    (request,) = ours
    children = {span["name"]: span for span in spans if span["parent"] == request["span"]}
    assert ("POST /invocations", TRACE, CALLER, 2) == tuple(request[key] for key in ("name", "trace", "parent", "kind"))
    assert {"queue", "compute"} == set(children)
    assert "vendor=1" == request["state"]
    assert {"foretell.batch.rows": 2, "foretell.batch.requests": 1}.items() <= children["compute"]["attributes"].items()
    assert {"http.response.status_code": 200, "foretell.rows": 2, "http.route": "/invocations"}.items() <= request[
        "attributes"
    ].items()
    edges = [request["start"], children["queue"]["start"], children["compute"]["start"], children["compute"]["end"]]
    assert sorted([*edges, request["end"]]) == [*edges, request["end"]]
    assert ("/v1/traces", "foretell") == (request["path"], request["service"])
    refused = [span for span in spans if span["attributes"].get("http.response.status_code") == 400]
    assert ["INVALID_PARAMETER_VALUE"] == [span["attributes"]["error.type"] for span in refused]
    roots = [span for span in spans if span["name"].startswith("POST")]
    assert [TRACE, TRACE] == [span["trace"] for span in roots if span["parent"]]
    assert 1 == len([span for span in roots if not span["parent"]]), "the request without a caller, and no other"


def test_the_standard_environment_says_where_traces_go() -> None:
    """OTEL_ variables name collector, headers, service and sampler, as they do for other programs."""
    with collecting() as (address, lines):
        given = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": address,
            "OTEL_EXPORTER_OTLP_HEADERS": "x-key=secret",
            "OTEL_SERVICE_NAME": "scores",
            "OTEL_TRACES_SAMPLER": "parentbased_always_off",
        }
        with serving("-m", IRIS, "-w", "2", **given) as server:
            assert {200} == {status for status, _ in ask_many(server, [BODY] * 20)}
            assert 200 == server.post(BODY, traceparent=f"00-{TRACE}-{CALLER}-01").status
            assert 0 == end(server)
        lines.until('"compute"')
        spans = [json.loads(line) for line in lines]
    assert 3 == len(spans)
    assert {("secret", "scores", TRACE)} == {(span["key"], span["service"], span["trace"]) for span in spans}


@pytest.mark.parametrize("dead", ["silent", "closed"])
def test_a_dead_collector_costs_no_request_its_answer(dead: str) -> None:
    """Whether it never answers or is not there: requests are answered, the loss is counted and said once."""
    with contextlib.ExitStack() as stack:
        if dead == "silent":
            address = stack.enter_context(collecting("silent"))[0]
        else:
            held = stack.enter_context(socket.socket())
            held.bind(("127.0.0.1", 0))
            address = f"http://127.0.0.1:{held.getsockname()[1]}"
        quick = {"OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
        server = stack.enter_context(serving("-m", IRIS, "--otel-endpoint", address, **quick))
        assert {200} == {status for status, _ in ask_many(server, [BODY] * 300)}
        told = server.lines.until("note: traces")
        assert f"note: traces could not be sent to {address}" in told
        while b'foretell_traces_total{outcome="failed"}' not in server.request("GET", "/metrics").body:
            assert server.process.poll() is None
        assert {200} == {status for status, _ in ask_many(server, [BODY] * 300)}
        assert 0 == end(server)
    assert 1 == sum("traces" in line for line in server.lines)


@pytest.mark.parametrize(
    ("header", "parent"),
    [
        (f"00-{TRACE}-{CALLER}-01", Parent(int(TRACE, 16), int(CALLER, 16), 1)),
        (f"01-{TRACE}-{CALLER}-00-more", Parent(int(TRACE, 16), int(CALLER, 16), 0)),
        (f"00-{TRACE}-{CALLER}-01-more", None),
        (f"ff-{TRACE}-{CALLER}-01", None),
        (f"00-{TRACE.upper()}-{CALLER}-01", None),
        (f"00-{'0' * 32}-{CALLER}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE}-{CALLER}", None),
        ("", None),
        ("\x00" * 50, None),
    ],
)
def test_a_callers_trace_is_read_by_the_letter(header: str, parent: Parent | None) -> None:
    """A header that the standard does not allow begins a trace of its own."""
    assert parent == parent_of(header.encode())


def test_the_sampler_is_the_standards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ratios decide by the trace, so that all its services agree; a wrong name ends the start."""
    yes, no = Parent(1, 1, 1), Parent(2**64 - 1, 1, 0)
    for name, argument, expected in (
        ("", "", (True, True, False)),
        ("always_off", "", (False, False, False)),
        ("always_on", "", (True, True, True)),
        ("parentbased_always_off", "", (False, True, False)),
        ("parentbased_traceidratio", "0", (False, True, False)),
        ("traceidratio", "0.5", (None, True, False)),
    ):
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", name)
        monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)
        sampler = Sampler.from_environment()
        assert expected[1:] == (sampler.wants(yes), sampler.wants(no)), name
        assert expected[0] in (None, sampler.wants(None)), name
    for name, argument in (("jaeger_remote", ""), ("traceidratio", "2"), ("traceidratio", "x")):
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", name)
        monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)
        with pytest.raises(UsageError, match="OTEL_TRACES_SAMPLER"):
            Sampler.from_environment()


def test_nothing_of_it_is_imported_when_it_is_off() -> None:
    """A server without traces and log loads neither OpenTelemetry nor what it brings."""
    code = "import sys, foretell.cli.serve as s; print(sorted(m for m in sys.modules if m.split('.')[0] in "
    code += "('opentelemetry', 'requests', 'google')))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "[]\n" == ran.stdout


@pytest.mark.parametrize(
    ("option", "environment", "said"),
    [
        (["--otel-endpoint", "localhost:4318"], {}, "For example: http://localhost:4318"),
        ([], {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "not by grpc"),
        (["--log-predictions", "/dev/null/x"], {}, "--log-predictions /dev/null/x: Not a directory"),
        (["--log-predictions", "x", "--log-sample", "0"], {}, "log-sample"),
    ],
)
def test_a_wrong_setting_ends_the_start(option: list[str], environment: dict[str, str], said: str) -> None:
    """It is said what is wrong with it, and there is no server."""
    ran = foretell("models", "serve", "-m", IRIS, "-p", "0", *option, **environment)
    assert 2 == ran.code
    assert said in ran.err
    assert "Traceback" not in ran.err


# The log of predictions


def rows_of_everything(count: int) -> list[list[Any]]:
    """Rows for the model of all types, each with another answer, and nulls now and then."""
    return [
        [
            at % 2 == 0,
            -at,
            2**53 + at,
            None if at % 5 == 0 else at / 7,
            None if at % 9 == 8 else at / 3,
            None if at % 4 == 0 else f"text, {at} \x00\n列",
            base64.b64encode(f"{at}".encode()).decode(),
            None if at % 3 else 2**40 + at,
            None,
        ]
        for at in range(count)
    ]


def logged(folder: Path) -> pa.Table:
    files = sorted(folder.glob("*/*.parquet"))
    assert files, list(folder.rglob("*"))
    schemas = [pq.read_schema(file).remove_metadata() for file in files]
    assert all(schema == schemas[0] for schema in schemas)
    return pa.concat_tables([pq.read_table(file) for file in files])


def test_a_batch_job_gives_what_was_logged(tmp_path: Path) -> None:
    """Two workers keep all that they were asked; `models predict` on the log's rows gives its answers, to the bit, in
    the same columns. Nothing unfinished is left."""
    model, log, sent = everything_model(tmp_path / "model"), tmp_path / "log", rows_of_everything(300)
    bodies = [json.dumps({"data": sent[3 * at : 3 * at + 1 + at % 3]}) for at in range(100)]
    asked = sum(1 + at % 3 for at in range(100))
    with serving("--trust", "-m", model, "-w", "2", "--log-predictions", log) as server:
        with ThreadPoolExecutor(4) as pool:
            answered = list(pool.map(lambda at: ask_many(server, bodies[at::4]), range(4)))
        assert {200} == {status for one in answered for status, _ in one}
        assert 400 == server.post("{}").status
        assert 200 == server.post(json.dumps({"data": []})).status
        params = server.post(json.dumps({"data": sent[:1], "params": {"scale": 2.5}}))
        assert 0 == end(server)
    table = logged(log)
    assert [] == [path for path in log.rglob("*") if path.name.startswith(".")]
    assert asked + 1 == table.num_rows
    ids = {pair for one in answered for pair in one}
    plain = table.filter(pa.compute.not_equal(table["foretell_request_id"], params.headers["x-request-id"]))
    assert {name for _, name in ids} == set(plain["foretell_request_id"].to_pylist())
    whole = tmp_path / "whole.parquet"
    pq.write_table(plain, whole)
    keep = "foretell_request_id,foretell_row"
    ran = foretell(
        "models", "predict", "--trust", "-m", model, "-i", whole, "-o", tmp_path / "o.parquet", "--keep", keep
    )
    assert 0 == ran.code, ran.err
    batch = pq.read_table(tmp_path / "o.parquet")
    assert plain.schema.field("prediction").type == batch.schema.field("prediction").type
    assert plain["prediction"].is_null().to_pylist() == batch["prediction"].is_null().to_pylist()
    bits = [pa.compute.fill_null(one["prediction"], 0.0).to_numpy().view(np.int64) for one in (plain, batch)]
    assert (bits[0] == bits[1]).all()
    assert len(set(bits[0].tolist())) > 100
    expected = {tuple(row) for row in json.loads(json.dumps(sent))}
    names = [*COLUMN_NAMES, "maybe long", "maybe string"]
    for row in plain.select(names).to_pylist():
        row["binary 列"] = base64.b64encode(row["binary 列"]).decode()
        given = next(each for each in expected if each[1] == row["integer 列"])
        assert [cell if at != 3 or cell is None else np.float32(cell) for at, cell in enumerate(given)] == list(
            row.values()
        )


def test_what_was_asked_is_logged_with_it(tmp_path: Path) -> None:
    """Version, time, latency, id, row number and params of each request; probabilities where they were asked for."""
    log = tmp_path / "log"
    with serving("-m", IRIS, "--log-predictions", log) as server:
        replies = [
            server.post(json.dumps({"data": [ROW, ROW]}), query="?proba=true", **{"X-Request-Id": "first"}),
            server.post(BODY, **{"X-Request-Id": "second"}),
        ]
        assert 0 == end(server)
    rows = logged(log).to_pylist()
    assert [("first", 0), ("first", 1), ("second", 0)] == [
        (row["foretell_request_id"], row["foretell_row"]) for row in rows
    ]
    assert {replies[0].headers["x-model-version"]} == {row["foretell_version"] for row in rows}
    assert [ROW] * 3 == [list(row.values())[:4] for row in rows]
    said = replies[0].json()["predictions"][0]
    assert said == pytest.approx({name: rows[0][name] for name in said}, rel=1e-6)
    assert [False, False, True] == [row["probability_0"] is None for row in rows]
    assert all(row["foretell_latency_ms"] > 0 for row in rows)
    assert rows[0]["foretell_time"] <= rows[2]["foretell_time"]
    (file,) = log.glob("iris/*.parquet")
    assert 0o600 == file.stat().st_mode & 0o777
    assert pq.read_schema(file).metadata[b"foretell.digest"].startswith(b"sha256:")


def test_only_a_share_is_logged(tmp_path: Path) -> None:
    """--log-sample keeps about that share of the requests."""
    with serving("-m", IRIS, "--log-predictions", tmp_path / "log", "--log-sample", "0.2") as server:
        ask_many(server, [BODY] * 400)
        assert 0 == end(server)
    assert 20 < logged(tmp_path / "log").num_rows < 200


def test_a_log_that_cannot_be_written_costs_no_request_its_answer(tmp_path: Path) -> None:
    """Where the folder cannot take a file, requests are answered, and what is lost is said."""
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "iris").write_text("in the way")
    with serving("-m", IRIS, "--log-predictions", tmp_path / "log") as server:
        assert {200} == {status for status, _ in ask_many(server, [BODY] * 50)}
        assert 0 == end(server)
        server.lines.until("note: the log of predictions could not be written")


def test_what_a_crash_left_is_cleared_away(tmp_path: Path) -> None:
    """Drafts that nobody holds go at the next start, which says so; those of a living server stay."""
    log = tmp_path / "log"
    (log / "iris").mkdir(parents=True)
    for name in (".left.parquet.draft", ".held.parquet.draft"):
        (log / "iris" / name).write_bytes(b"PAR1")
    (log / "iris" / "mine.parquet").write_bytes(b"somebody's own")
    with (log / "iris" / ".held.parquet.draft").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with serving("-m", IRIS, "--log-predictions", log) as server:
            told = server.lines.until("unfinished")
            assert 0 == end(server)
    assert "1 unfinished file of a server that ended early" in told
    assert {".held.parquet.draft", "mine.parquet"} == {path.name for path in log.rglob("*") if path.is_file()}


def test_the_folder_stays_within_its_bound(tmp_path: Path) -> None:
    """The oldest files go; what is not of the log stays."""
    folder = LogFolder(tmp_path / "log", 1000)
    assert [] == folder.open()
    stays = tmp_path / "log" / "m" / "report.parquet"
    first = folder.write("m", "1", b"x" * 400)
    stays.write_bytes(b"y" * 5000)
    others = [folder.write("m", "1", b"x" * 400) for _ in range(3)]
    assert [False, False, True, True] == [path.exists() for path in (first, *others)]
    assert stays.exists()


@pytest.mark.parametrize("name", ["../../etc", "..", ".hidden", "a/b", "a\x00b", "x" * 300, "列", ""])
def test_a_models_name_is_no_path(tmp_path: Path, name: str) -> None:
    """Whatever a model is called, its files lie one folder down, and another name has another one."""
    folder = LogFolder(tmp_path / "log", 1 << 20)
    folder.open()
    path = folder.write(name, name, b"x")
    assert tmp_path / "log" == path.parent.parent
    assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._~-]{0,100}", path.parent.name)
    assert log_files._fit(name) != log_files._fit(name + "_")


def test_too_much_work_is_dropped_and_counted() -> None:
    """What there is no room for is gone at once; the rest is done in order, also at the end."""
    go, done, counts = threading.Event(), [], Counts()

    def work(items: list[int]) -> dict[str, int]:
        assert not items or go.wait(PATIENCE)
        done.extend(items)
        return {"sent": len(items)}

    backlog = Backlog("work", "foretell_traces", work, most=10, enough=1, every=PATIENCE)
    for number in range(25):
        backlog.put(number)
    go.set()
    assert backlog.close(PATIENCE)
    backlog.look(counts)
    assert list(range(len(done))) == done
    assert 10 <= len(done) < 25
    assert {"sent": len(done), "dropped": 25 - len(done)} == {
        labels[0]: value for (name, labels), value in counts._said.items() if name == "foretell_traces"
    }


def test_work_that_fails_is_counted_and_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    """An error of the work is said once, and the next items are done all the same."""

    def work(items: list[int]) -> dict[str, int]:
        return {"sent": sum(10 // item for item in items)}

    backlog, counts = Backlog("work", "foretell_traces", work, most=10, enough=1, every=0.01), Counts()
    for number in (0, 10, 0, 10):
        backlog.put(number)
    assert backlog.close(PATIENCE)
    backlog.look(counts)
    assert (2, 2) == tuple(counts._said["foretell_traces", (outcome,)] for outcome in ("sent", "failed"))
    assert 1 == capsys.readouterr().err.count("ZeroDivisionError")
