"""Bodies ⇄ rows: what a request asks, and how answers and errors are put. Knows bytes and headers, not connections."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from foretell.batch import Answers, Batch, Call
from foretell.errors import (
    CellWrong,
    DeadlineExceeded,
    ForetellError,
    FormatUnknown,
    FormWrong,
    InputError,
    InputTooLarge,
    ModelError,
    ModelNotFound,
    OutputError,
    PredictionError,
    ServerError,
    UsageError,
)
from foretell.predictor import Predictor
from foretell.tables import formats, json_document
from foretell.tables.csv_reader import CsvOptions
from foretell.tables.files import Source
from foretell.tables.formats import CSV, JSON, Format, Reader
from foretell.tables.kept import NONE, Kept

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
_TRUE, _FALSE = ("true", "1", ""), ("false", "0")
_ENCODINGS = {"gzip": "gzip", "x-gzip": "gzip", "zstd": "zstd", "identity": None, "": None}
_INFLATES = 8
_PIECE = 1 << 20
_FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Ask:
    """One request for predictions, decoded. place: puts a row's place before a reason."""

    batch: Batch
    call: Call
    answer: Format
    place: Callable[[int, str], str]


def decode(
    predictor: Predictor, body: bytes, content_type: str, accept: str, query: str, encoding: str, limit: int
) -> Ask:
    """Reads a request to /invocations. encoding: how its body is packed. limit: bytes that it may be then, and a
    fraction of what a table may take in memory. Raises InputError, UsageError."""
    proba = _proba(query)
    if encoding:
        body = _unpacked(body, encoding, limit)
    given = _format(content_type, body)
    answer = _accepted(accept)
    if given is JSON:
        return _document(predictor, body, proba, answer)
    source = Source.of(body, "body")
    reader = formats.reader(given, source, predictor.decoder, NONE, CsvOptions(), limit * _INFLATES)
    pieces = [(block, reader.parse(block).batch) for block in reader.blocks()]
    call = Call(proba, predictor.signature.call_params({}))
    if not any(batch.rows for _, batch in pieces):
        return Ask(Batch(0, []), call, answer, lambda row, reason: reason)
    for block, batch in pieces:
        if batch.shapes != pieces[0][1].shapes:
            raise reader.place(block, CellWrong(0, None, "the tensor's shape is not that of the first row's"))
    return Ask(Batch.concat([batch for _, batch in pieces]), call, answer, partial(_in_pieces, reader, pieces))


def encode(answers: Answers, fmt: Format) -> bytes:
    """Answers as a body."""
    if fmt is JSON:
        return json_document.write(answers)
    writer = formats.writer(fmt)
    return writer.rows(Kept(records=[{} for _ in range(len(answers))]), answers) + writer.end()


def content_type(fmt: Format) -> str:
    return "text/csv; charset=utf-8" if fmt is CSV else fmt.content_types[0]


def status(error: ForetellError) -> int:
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def error_body(error: ForetellError, *, debug: bool = False) -> bytes:
    """MLflow's error, {"error_code", "message"}, at most 4 KiB; a traceback only when asked for."""
    message = str(error)[:_MAX_MESSAGE].encode("utf-8", "backslashreplace").decode()
    while len(body := msgspec.json.encode({"error_code": error.code, "message": message})) > _MAX_ERROR:
        message = message[: len(message) // 2]
    if debug:
        trace = "".join(traceback.format_exception(error))[-50_000:]
        body = msgspec.json.encode({"error_code": error.code, "message": message, "stack_trace": trace})
    return body


def _document(predictor: Predictor, body: bytes, proba: bool, answer: Format) -> Ask:
    document = json_document.read(body, predictor.decoder, NONE)
    call = Call(proba, predictor.signature.call_params(document.params))
    return Ask(document.rows.batch, call, answer, partial(_in_document, document.form))


def _unpacked(body: bytes, encoding: str, limit: int) -> bytes:
    """The body as it was before it was packed. Raises FormatUnknown, InputUnreadable, InputTooLarge."""
    codec = _ENCODINGS.get(encoding.strip().lower(), "")
    if codec is None:
        return body
    if not codec:
        raise FormatUnknown(
            f"foretell does not unpack the content encoding {encoding.strip()[:60]}", "Send gzip, zstd or none"
        )
    source, pieces, size = Source.of(body, "body", codec), [], 0
    while piece := source.read1(_PIECE):
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise too_large(limit)
    return b"".join(pieces)


def too_large(limit: int) -> InputTooLarge:
    """What to say of a body of more than limit bytes."""
    return InputTooLarge(
        f"the body is over {limit / 2**20:g} MiB",
        "Send fewer rows at a time, use foretell models predict, or raise --max-body-mb",
    )


def _in_pieces(reader: Reader[Any], pieces: list[tuple[Any, Batch]], row: int, reason: str) -> str:
    for block, batch in pieces:
        if row < batch.rows:
            return reader.place(block, CellWrong(row, None, reason)).message
        row -= batch.rows
    return reason


def _in_document(form: str, row: int, reason: str) -> str:
    path = "$.dataframe_split.data" if form == "dataframe_split" else f"$.{form}"
    return f"{path}[{row}]: {reason}"


def _format(said: str, body: bytes) -> Format:
    """The body's format by its content type; JSON without one."""
    kind, _, parameters = said.lower().partition(";")
    kind = kind.strip()
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip(' "') not in ("utf-8", "utf8"):
            raise FormatUnknown("the body must be UTF-8", "Send charset=utf-8, or no charset")
    if not kind:
        return JSON
    fmt = formats.by_content_type(kind)
    if fmt is None:
        known = ", ".join(formats.content_types())
        if kind == _FORM and body.lstrip()[:1] in (b"{", b"'"):
            raise FormatUnknown(
                "the body is sent as a form, which curl does when it is told no type",
                "Add: -H 'Content-Type: application/json'",
            )
        raise FormatUnknown(f"foretell does not read {kind[:60]}", f"Content types: {known}")
    return fmt


def _accepted(accept: str) -> Format:
    """The answer's format: the first of ours that the client likes best, else JSON."""
    ranked: list[tuple[float, int, Format]] = []
    for part in accept.lower().split(","):
        kind, _, parameters = part.partition(";")
        fmt = formats.by_content_type(kind.strip())
        if fmt is not None:
            weight = parameters.partition("q=")[2].partition(";")[0].strip()
            ranked.append((-_weight(weight), len(ranked), fmt))
    return min(ranked)[2] if ranked else JSON


def _weight(text: str) -> float:
    try:
        return float(text) if text else 1.0
    except ValueError:
        return 0.0


def _proba(query: str) -> bool:
    if not query:
        return False
    said = dict(parse_qsl(query, keep_blank_values=True)).get("proba", "false").lower()
    if said not in _TRUE + _FALSE:
        raise FormWrong(f"proba={said[:20]}: expected true or false")
    return said in _TRUE
