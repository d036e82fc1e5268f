"""What schemathesis, which fuzzes a server by its own description, is told besides: how to send bodies that are not
JSON, and what is no failure."""

import json
from typing import Any

import schemathesis

RAW = (
    "text/csv",
    "application/csv",
    "application/jsonl",
    "application/jsonlines",
    "application/x-ndjson",
    "application/x-jsonlines",
    "application/vnd.apache.parquet",
    "application/x-parquet",
    "application/vnd.apache.arrow.file",
    "application/vnd.apache.arrow.stream",
)
LONG_MS = 60_000


def as_it_is(ctx: Any, value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else json.dumps(value).encode()


for kind in RAW:
    schemathesis.serializer(kind)(as_it_is)


@schemathesis.hook
def before_call(ctx: Any, case: Any, kwargs: Any) -> None:
    """A client that gives a request a millisecond gets the 504 that it asked for."""
    if case.headers and str(case.headers.get("X-Request-Timeout-Ms", "")).isdigit():
        case.headers["X-Request-Timeout-Ms"] = str(LONG_MS)


@schemathesis.check
def json_that_fits_is_answered(ctx: Any, response: Any, case: Any) -> None:
    """What the description allows, the server takes. That columns are equally long it cannot say."""
    if case.meta.generation.mode.is_positive and case.media_type == "application/json" and response.status_code == 400:
        assert "not equally long" in response.text, response.text
