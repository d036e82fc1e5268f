"""Errors as replies: which status a class of errors has, and MLflow's form of an error's body, at most 4 KiB."""

import traceback

import msgspec

from foretell.errors import (
    DeadlineExceeded,
    ForetellError,
    FormatUnknown,
    InputError,
    InputTooLarge,
    ModelError,
    ModelNotFound,
    OutputError,
    Overloaded,
    PredictionError,
    ServerError,
    UsageError,
)
from foretell.serve.exchange import Reply

STATUS: dict[type[ForetellError], int] = {
    ForetellError: 500,
    DeadlineExceeded: 504,
    FormatUnknown: 415,
    InputError: 400,
    InputTooLarge: 413,
    ModelError: 500,
    ModelNotFound: 404,
    OutputError: 500,
    PredictionError: 500,
    ServerError: 503,
    UsageError: 400,
}
"""HTTP's status by class, the nearest in the class's own ancestry."""

_MAX_MESSAGE = 3000
_MAX_ERROR = 4096
_JSON = "application/json"


def status(error: ForetellError) -> int:
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def refusal(error: ForetellError, *, debug: bool = False) -> Reply:
    """The reply that says what is wrong; with a traceback only when asked for."""
    note = error.full if isinstance(error, Overloaded) and error.full else error.code
    return Reply(status(error), _JSON, error_body(error, debug=debug), note)


def problem(number: int, code: str, message: str) -> Reply:
    """A reply that only HTTP knows the reason for."""
    error = ForetellError(message)
    error.code = code
    return Reply(number, _JSON, error_body(error), code)


def error_body(error: ForetellError, *, debug: bool = False) -> bytes:
    """MLflow's error, {"error_code", "message"}, at most 4 KiB; a traceback only when asked for."""
    message = str(error)[:_MAX_MESSAGE].encode("utf-8", "backslashreplace").decode()
    while len(body := msgspec.json.encode({"error_code": error.code, "message": message})) > _MAX_ERROR:
        message = message[: len(message) // 2]
    if debug:
        trace = "".join(traceback.format_exception(error))[-50_000:]
        body = msgspec.json.encode({"error_code": error.code, "message": message, "stack_trace": trace})
    return body


def too_large(limit: int) -> InputTooLarge:
    """What to say of a body of more than limit bytes."""
    return InputTooLarge(
        f"the body is over {limit / 2**20:g} MiB",
        "Send fewer rows at a time, use foretell models predict, or raise --max-body-mb",
    )


def head_too_large(limit: int) -> Reply:
    """What to say of a head of more than limit bytes."""
    return problem(431, "HEADER_TOO_LARGE", f"the request's head is over {limit >> 10} KiB")
