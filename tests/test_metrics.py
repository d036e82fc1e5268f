"""What a server tells of itself: at /metrics, and line by line in its access log."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import openmetrics, parser
from prometheus_client.openmetrics import parser as openmetrics_parser  # noqa: F401 - loads the module

import foretell as package
from conftest import Server, serving
from scripted import PLAIN, RAISES, answer, data, held_at_gate, scripted_model, sent
from test_serve import children

MODEL = Path(package.__file__).parent / "demo" / "iris"
ROW = [5.1, 3.5, 1.4, 0.2]
OPENMETRICS = "application/openmetrics-text; version=1.0.0"

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scraped(server: Server) -> Samples:
    """All samples, by name and labels but for the version's."""
    families = parser.text_string_to_metric_families(server.request("GET", "/metrics").body.decode())
    return by_labels(families)


def by_labels(families: Any) -> Samples:
    return {
        (
            one.name,
            frozenset((name, value) for name, value in one.labels.items() if name not in ("version", "model")),
        ): (one.value)
        for family in families
        for one in family.samples
    }


def at(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((name, frozenset(labels.items())), 0.0)


def answered(samples: Samples) -> float:
    return sum(value for (name, _), value in samples.items() if name == "foretell_requests_total")


def test_counts_what_was_asked(tmp_path: Path) -> None:
    """Requests by status, refusals by reason, rows, batches and durations are as the clients know them."""
    model = scripted_model(tmp_path / "scripted")
    with serving("--trust", "-m", model, "--max-queue", "1") as server:
        for _ in range(5):
            server.post(data([PLAIN, 1], [PLAIN, 2], [PLAIN, 3]))
        server.post(data([PLAIN, "x"]))
        server.post(data([RAISES, 1]))
        server.post("{}", "text/html")
        server.request("GET", "/version")
        server.request("GET", "/none")
        waiting = [sent(server.port, data([2, 1]))]
        with held_at_gate(model):
            waiting += [sent(server.port, data([PLAIN, 1])) for _ in range(2)]
            while not at(held := scraped(server), "foretell_rejections_total", reason="queue_full"):
                pass
        for connection in waiting:
            answer(connection)
        seen = scraped(server)
        reply = server.request("GET", "/metrics", headers={"Accept": OPENMETRICS})
    told = by_labels(openmetrics.parser.text_string_to_metric_families(reply.body.decode()))
    statuses = {
        status: at(seen, "foretell_requests_total", protocol="invocations", status=status) for status in STATUSES
    }
    assert STATUSES == statuses
    assert {"queued": 1.0, "in_flight": 2.0, "ready": 1.0} == {
        name: at(held, f"foretell_{full}")
        for name, full in {
            "queued": "requests_queued",
            "in_flight": "requests_in_flight",
            "ready": "model_ready",
        }.items()
    }
    reasons = ("invalid_parameter_value", "internal_error", "unsupported_media_type", "queue_full")
    assert [1.0] * 4 == [at(seen, "foretell_rejections_total", reason=reason) for reason in reasons]
    assert 18.0 == at(seen, "foretell_rows_total") == at(seen, "foretell_batch_rows_sum")
    assert [3.0, 8.0] == [at(seen, "foretell_batch_rows_bucket", le=edge) for edge in ("2.0", "4.0")]
    assert 8.0 == at(seen, "foretell_queue_seconds_count") == at(seen, "foretell_compute_seconds_count")
    assert 11.0 == at(seen, "foretell_request_seconds_count")
    assert 8 * 0.002 < at(seen, "foretell_compute_seconds_sum") < at(seen, "foretell_request_seconds_sum")
    assert [1.0, 1.0] == [at(seen, "foretell_http_requests_total", path=path, status=status) for path, status in COLD]
    assert at(seen, "process_resident_memory_bytes") > 1 << 20 < at(seen, "process_start_time_seconds")
    assert "application/openmetrics-text; version=1.0.0; charset=utf-8" == reply.headers["content-type"]
    assert {name for name, _ in seen} - {name for name, _ in told} == set()


STATUSES = {"200": 7.0, "400": 1.0, "415": 1.0, "500": 1.0, "503": 1.0}
COLD = (("/version", "200"), ("other", "404"))


@pytest.mark.parametrize("kills", [3])
def test_any_worker_tells_of_all_and_nothing_is_forgotten(kills: int) -> None:
    """With two workers every scrape has the sum; it never becomes less when workers are killed, and goes on behind."""
    count, last = 0, 0.0
    with serving("-m", MODEL, "-w", "2") as server:
        for turn in range(kills + 1):
            for _ in range(10):
                assert 200 == server.post(json.dumps({"data": [ROW]})).status
                count += 1
            while last < count:
                now = answered(scraped(server))
                assert last <= now <= count
                last = now
            told = [answered(scraped(server)) for _ in range(6)]
            assert [float(count)] * 6 == told
            if turn < kills:
                victim = children(server.process)[0]
                os.kill(victim, signal.SIGKILL)
                while (
                    victim in children(server.process) or at(scraped(server), "foretell_worker_starts_total") < turn + 3
                ):
                    assert answered(scraped(server)) == last
        seen = scraped(server)
    assert (2.0 + kills, 2.0) == (at(seen, "foretell_worker_starts_total"), at(seen, "foretell_model_ready"))
    assert count == at(seen, "foretell_batch_rows_count") == at(seen, "foretell_rows_total")


def test_the_log_as_json_tells_rows_and_times() -> None:
    """Each line is one JSON object, whatever the client wrote; times add up, and a request without rows has none."""
    options = ("--access-log", "all", "--access-log-format", "json")
    with serving("-m", MODEL, *options) as server:
        server.post(json.dumps({"data": [ROW] * 3}), **{"X-Request-Id": 'mine"\\'})
        server.post("{}")
        server.request("GET", "/a%0d%0aforged%1b[31m%22")
        server.lines.until("forged")
    good, bad, cold = [json.loads(line) for line in server.lines if line.startswith("{")]
    assert ["time", "client", "id", "method", "path", "model", "version", "status", "error", "rows", "bytes"] == list(
        good
    )[:11]
    assert ("127.0.0.1", 'mine"\\', "POST", "/invocations", "iris", 200, None, 3, 24) == tuple(
        good[name] for name in ("client", "id", "method", "path", "model", "status", "error", "rows", "bytes")
    )
    assert 0 < good["queue_ms"] + good["compute_ms"] < good["total_ms"] < 60_000
    assert (400, "INVALID_PARAMETER_VALUE", None, None) == tuple(
        bad[n] for n in ("status", "error", "rows", "queue_ms")
    )
    assert (404, "GET", '/a\\r\\nforged\\x1b[31m"') == tuple(cold[name] for name in ("status", "method", "path"))
    assert good["time"] <= bad["time"] <= cold["time"] and good["time"].endswith("Z")
