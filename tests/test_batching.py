"""Who shares a batch, who is dropped before the model sees it, and what a model that hangs does to the others."""

import contextlib
import http.client
import json
import os
import re
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import PATIENCE, Reply, Server, serving
from scripted import (
    PLAIN,
    RAISES,
    WAITS,
    all_at_once,
    answer,
    data,
    held_at_gate,
    scripted_model,
    sent,
    taken_in,
)


@pytest.fixture
def scripted(tmp_path: Path) -> Path:
    return scripted_model(tmp_path / "scripted")


@contextlib.contextmanager
def behind_a_gate(server: Server, scripted: Path) -> Iterator[None]:
    """While it holds, the model is busy with a request of one row."""
    with sent(server.port, data([WAITS, 1])) as running:
        with held_at_gate(scripted):
            yield
        assert running.recv(12) == b"HTTP/1.1 200"


def sizes(scripted: Path) -> list[int]:
    """Of the batches that the model has seen since the server was ready: those after the warm-up."""
    return [int(size) for size in (scripted.parent / "sizes").read_text().split()][3:]


def passed(server: Server, milliseconds: int) -> None:
    """Returns after so long, by the server's own clock: a request that waits behind the gate has been given up."""
    assert 504 == answer(sent(server.port, data([PLAIN, 1]), X_Request_Timeout_Ms=milliseconds))[0]


def whole(connection: socket.socket) -> Reply:
    """The next answer, with its headers."""
    with connection, contextlib.closing(http.client.HTTPResponse(connection)) as response:
        response.begin()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, headers, response.read())


# Dropped before the model sees them


def hang_up(connection: socket.socket) -> None:
    connection.close()


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.parametrize("leave", [hang_up, reset], ids=["hangs-up", "resets"])
def test_nobody_predicts_for_a_client_that_left(scripted: Path, leave: Callable[[socket.socket], None]) -> None:
    """Requests whose clients have gone while they waited never reach the model; those beside them do."""
    with serving("--trust", "-m", scripted) as server:
        with behind_a_gate(server, scripted):
            gone = [sent(server.port, data(*[[PLAIN, 1]] * 7)) for _ in range(5)]
            stays = sent(server.port, data([PLAIN, 21]))
            taken_in(server.port)
            for connection in gone:
                leave(connection)
            passed(server, 600)
        assert (200, b'{"predictions": [42.0]}') == answer(stays)
    assert [1, 1] == sizes(scripted)


def test_a_request_that_is_late_never_reaches_the_model(scripted: Path) -> None:
    """X-Request-Timeout-Ms gives a request less time than the server would; then it is a 504, and not predicted."""
    with serving("--trust", "-m", scripted) as server:
        with behind_a_gate(server, scripted):
            late = sent(server.port, data(*[[PLAIN, 1]] * 7), X_Request_Timeout_Ms=50)
            waits = sent(server.port, data([PLAIN, 3]), X_Request_Timeout_Ms=50_000)
            status, body = answer(late)
        assert (200, b'{"predictions": [6.0]}') == answer(waits)
    assert (504, "DEADLINE_EXCEEDED") == (status, json.loads(body)["error_code"])
    assert "0.05 s" in json.loads(body)["message"]
    assert [1, 1] == sizes(scripted)


@pytest.mark.parametrize("said", ["soon", "-1", "0", "1.5", "9" * 30])
def test_a_deadline_that_is_none_is_refused(troubled: Server, said: str) -> None:
    """Rather than waited for without one."""
    reply = troubled.post(data([PLAIN, 1]), **{"X-Request-Timeout-Ms": said})
    assert 400 == reply.status
    assert "X-Request-Timeout-Ms" in reply.json()["message"]


def test_a_full_queue_refuses_at_once(scripted: Path) -> None:
    """503 with Retry-After while the model is still busy, before the body is read; those who wait are served."""
    with serving("--trust", "-m", scripted, "--max-queue", "4") as server:
        with behind_a_gate(server, scripted):
            waiting = [sent(server.port, data([PLAIN, at])) for at in range(4)]
            taken_in(server.port)
            refused = [whole(sent(server.port, body)) for body in (data([PLAIN, 9]), "{", "no JSON")]
        answers = [answer(connection) for connection in waiting]
    assert [(503, "1")] * 3 == [(reply.status, reply.headers["retry-after"]) for reply in refused]
    assert [(200, b'{"predictions": [%.1f]}' % (2 * at)) for at in range(4)] == answers


# Who shares a batch


def test_requests_of_other_params_share_no_batch(scripted: Path) -> None:
    """Each gets the answer to its own params; those of the same params are predicted together."""
    scales = [1.0, 2.0, 0.5]
    bodies = [json.dumps({"data": [[PLAIN, at]], "params": {"scale": scales[at % 3]}}) for at in range(30)]
    with serving("--trust", "-m", scripted) as server:
        with behind_a_gate(server, scripted):
            connections = [sent(server.port, body) for body in bodies]
            taken_in(server.port)
        answers = [answer(connection) for connection in connections]
    assert [(200, b'{"predictions": [%.1f]}' % (2 * at * scales[at % 3])) for at in range(30)] == answers
    assert [1, 10, 10, 10] == sizes(scripted)


def test_a_batch_has_at_most_so_many_rows(scripted: Path) -> None:
    """--max-batch-size counts rows, and not requests."""
    with serving("--trust", "-m", scripted, "--max-batch-size", "8") as server:
        with behind_a_gate(server, scripted):
            connections = [sent(server.port, data(*[[PLAIN, at]] * (at % 4 + 1))) for at in range(24)]
            taken_in(server.port)
        answers = [json.loads(answer(connection)[1])["predictions"] for connection in connections]
    assert [[2.0 * at] * (at % 4 + 1) for at in range(24)] == answers
    assert 60 + 1 == sum(sizes(scripted))
    assert 8 == max(sizes(scripted))


def test_small_requests_go_between_the_pieces_of_a_large_one(scripted: Path) -> None:
    """A request of many batches is predicted piece by piece, and one that came after it has its answer first."""
    values = list(range(20_000))
    with serving("--trust", "-m", scripted, "--max-batch-size", "256") as server:
        with behind_a_gate(server, scripted):
            large = sent(server.port, data(*[[PLAIN, value] for value in values]))
            taken_in(server.port)
            small = sent(server.port, data([PLAIN, 4]))
            taken_in(server.port)
        first = select.select([large, small], [], [], PATIENCE)[0]
        answers = [answer(connection) for connection in (small, large)]
    assert [small] == first
    assert (200, b'{"predictions": [8.0]}') == answers[0]
    assert [2.0 * value for value in values] == json.loads(answers[1][1])["predictions"]
    assert 256 == max(sizes(scripted))


def test_a_bad_row_of_a_large_request_is_found_by_its_number(scripted: Path) -> None:
    """Also where the request was cut into pieces, and its neighbours get their answers."""
    rows = [[RAISES if at == 700 else PLAIN, at] for at in range(1000)]
    with serving("--trust", "-m", scripted, "--max-batch-size", "256") as server:
        with behind_a_gate(server, scripted):
            large, small = sent(server.port, data(*rows)), sent(server.port, data([PLAIN, 4]))
            taken_in(server.port)
        status, body = answer(large)
        assert (200, b'{"predictions": [8.0]}') == answer(small)
    assert 500 == status
    assert "$.data[700]" in json.loads(body)["message"]


def test_a_batch_may_wait_for_more(scripted: Path) -> None:
    """With --max-queue-delay-ms a request on its own waits that long for others."""
    with serving("--trust", "-m", scripted, "--max-queue-delay-ms", "400") as server:
        answers = all_at_once(server.port, "/invocations", [data([PLAIN, at]) for at in range(12)])
    assert [(200, b'{"predictions": [%.1f]}' % (2 * at)) for at in range(12)] == answers
    assert [12] == sizes(scripted)


# A model that hangs


def test_a_quick_model_that_hangs_holds_up_nobody_but_its_callers(tmp_path: Path) -> None:
    """However quick it was: other routes answer, its callers get a 504, then everybody a 503 at once and the server is
    not ready, and when the model comes back, so does the server."""
    scripted = scripted_model(tmp_path / "quick", pause=0.0)
    with serving("--trust", "-m", scripted, "-t", "0.3") as server:
        assert {200} == {server.post(data([PLAIN, 1])).status for _ in range(30)}
        hanging = sent(server.port, data([WAITS, 1]))
        with held_at_gate(scripted):
            assert 200 == server.request("GET", "/ping").status
            assert 504 == answer(hanging)[0]
            while 200 == server.request("GET", "/readyz").status:
                pass
            refused = whole(sent(server.port, data([PLAIN, 1])))
            live = server.request("GET", "/livez").status
        while 200 != server.request("GET", "/readyz").status:
            pass
        after = server.post(data([PLAIN, 21]))
    assert (503, "1", 200) == (refused.status, refused.headers["retry-after"], live)
    assert (200, b'{"predictions": [42.0]}') == (after.status, after.body)


def test_a_worker_whose_model_hangs_is_replaced(tmp_path: Path) -> None:
    """Another process takes its place, without anybody's doing."""
    scripted = scripted_model(tmp_path / "quick", pause=0.0)
    opened = threading.Thread(target=lambda: os.open(scripted.parent / "gate", os.O_WRONLY), daemon=True)
    with serving("--trust", "-m", scripted, "-t", "0.2", "-w", "2") as server:
        opened.start()
        assert 504 == server.post(data([WAITS, 1])).status
        server.lines.until("starting another")
        replies = {server.post(data([PLAIN, 21])).status for _ in range(20)}
    assert {200} == replies


# What every response says


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the scripted model, for what leaves it as it was."""
    with serving("--trust", "-m", scripted_model(tmp_path_factory.mktemp("troubled") / "scripted")) as server:
        yield server


REQUESTS = {
    "prediction": ("POST", "/invocations", data([PLAIN, 1])),
    "mistake": ("POST", "/invocations", "{}"),
    "fault": ("POST", "/invocations", data([RAISES, 1])),
    "probe": ("GET", "/ping", ""),
    "nothing-there": ("GET", "/nope", ""),
}


@pytest.mark.parametrize(("method", "path", "body"), REQUESTS.values(), ids=REQUESTS.keys())
def test_every_response_names_the_model_and_itself(troubled: Server, method: str, path: str, body: str) -> None:
    """X-Model-Version is one and the same; X-Request-Id is the client's, or one that no other response has."""
    replies = [troubled.request(method, path, body) for _ in range(5)]
    own = troubled.request(method, path, body, {"X-Request-Id": "order-7"})
    assert 1 == len({reply.headers["x-model-version"] for reply in replies})
    assert re.fullmatch("[0-9a-f]{12}", own.headers["x-model-version"])
    assert 5 == len({reply.headers["x-request-id"] for reply in replies})
    assert "order-7" == own.headers["x-request-id"]


@pytest.mark.parametrize("given", ["a b", "x" * 129, "\xff", ""], ids=["space", "long", "bytes", "empty"])
def test_a_request_id_that_is_none_is_not_echoed(troubled: Server, given: str) -> None:
    """What could break a log or a header gets an id of ours instead."""
    reply = troubled.post(data([PLAIN, 1]), **{"X-Request-Id": given})
    assert re.fullmatch(r"[0-9a-f]{12}-[0-9a-f]+", reply.headers["x-request-id"])


def test_a_model_of_a_fixed_number_of_rows_takes_turns(tmp_path: Path) -> None:
    """It answers whoever asks for probabilities too, though nobody else waits."""
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression().fit([[0.0, 0.0], [1.0, 1.0]], [0, 1])
    form = [("x", FloatTensorType([2, 2]))]
    graph = convert_sklearn(model, initial_types=form, options={id(model): {"zipmap": False}})
    path = tmp_path / "pairs.onnx"
    path.write_bytes(graph.SerializeToString())
    with serving("-m", path) as server:
        for proba in ("false", "true", "false", "true"):
            reply = server.post(b'{"inputs": [[0, 0], [1, 1]]}', query=f"?proba={proba}")
            assert (200, 2) == (reply.status, len(reply.json()["predictions"]))
