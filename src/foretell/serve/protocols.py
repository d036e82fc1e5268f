"""Bodies ⇄ rows: what a request asks, and how answers are put. Knows bytes, not connections."""

import contextlib
import re
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from foretell.batch import Answers, Batch, Call
from foretell.errors import CellWrong
from foretell.predictor import Predictor
from foretell.rows import RowDecoder
from foretell.serve.headers import Wish
from foretell.serve.unpacking import unpacked
from foretell.tables import formats, json_document
from foretell.tables.csv_header import CsvOptions
from foretell.tables.files import Source
from foretell.tables.formats import CSV, JSON, Format, Reader
from foretell.tables.kept import NONE, Kept

_INFLATES = 8
_PIECE = 64 << 10
_LEAST_EXACT = 1 << 20
_BYTES_A_VALUE = 12
"""Read cell by cell, a body may have a value for so many bytes of the largest one: some have one for every other byte,
and would take forty times their size."""
JSON_TYPE = JSON.content_types[0]
_ENCODER = msgspec.json.Encoder()

Place = Callable[[int, str], str]
"""Puts a row's place before a reason."""


Ask = tuple[Batch, Call, Place]
"""One request for predictions, decoded."""


class Portion(msgspec.Struct, eq=False):
    """A request's part of a batch's answers, which become Python values once for all of them."""

    shared: "Shared"
    start: int
    stop: int

    @property
    def answers(self) -> Answers:
        return self.shared.answers[self.start : self.stop]


class Shared:
    """The answers to a batch. values: its rows as MLflow's `predictions`."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers

    @cached_property
    def values(self) -> list[Any]:
        return self.answers.to_list()

    def bodies(self) -> list[bytes] | None:
        """Each row as an answer of its own, in JSON; None where one cannot be written."""
        with contextlib.suppress(Exception):
            return [b'{"predictions": [%b]}' % row for row in _ENCODER.encode_lines(self.values).splitlines()]
        return None


class BodyDecoder:
    """Reads the bodies of requests to a model. limit: bytes that a body may be when it is unpacked. calls: what a body
    without params asks for, without and with probabilities."""

    def __init__(self, predictor: Predictor, limit: int) -> None:
        self._predictor = predictor
        self._decoder = RowDecoder(predictor.signature, max(_LEAST_EXACT, limit // _BYTES_A_VALUE))
        self._names = predictor.signature.names if predictor.signature.named else None
        self._limit = limit
        self._plain = _plain_rows(self._decoder.row) if predictor.signature.tabular else None
        self._rows = msgspec.json.Decoder(list[self._decoder.row])  # type: ignore[name-defined]
        params = predictor.signature.call_params({})
        self.calls = {proba: Call(proba, params) for proba in (False, True)}

    def read(self, body: bytes, wish: Wish) -> Ask:
        """A request's rows and what it asks of them. Raises InputError, UsageError."""
        if wish.codec:
            body = unpacked(body, wish.codec, self._limit)
        if wish.given is not JSON:
            return self._table(body, wish)
        quick = self._quick(body)
        if quick is not None:
            batch, place = quick
            return batch, self.calls[wish.proba], place
        document = json_document.read(body, self._decoder, NONE)
        call = Call(wish.proba, self._predictor.signature.call_params(document.params))
        return document.rows.batch, call, _PLACES[document.form]

    def _quick(self, body: bytes) -> tuple[Batch, Place] | None:
        """Plain rows under one key, or split from their columns' names, and nothing else, as most requests are; None
        for all that may be otherwise. Another key, or one that comes twice, would cost another colon."""
        if self._plain is None or (colons := body.count(b":")) > 3:
            return None
        try:
            if colons == 1 and len(body) > _PIECE and self._decoder.signature.uniform:
                return self._in_pieces(body)
            found = self._plain.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        rows, place = found.data, _IN_DATA
        if (split := found.dataframe_split) is not UNSET:
            if not (colons == 2 if split.columns is None else colons == 3 and split.columns == self._names):
                return None
            rows, place = split.data, _IN_SPLIT
        elif colons != 1:
            return None
        elif rows is UNSET:
            form = "inputs" if found.instances is UNSET else "instances"
            rows, place = getattr(found, form), _PLACES[form]
        batch = self._decoder.tuples(rows) if rows and rows is not UNSET else None
        return None if batch is None else (batch, place)

    def _in_pieces(self, body: bytes) -> tuple[Batch, Place] | None:
        """Many rows of numbers, some at a time: one long call would hold up every other thread."""
        begins, ends = _BEGINS.match(body), _ENDS.search(body, len(body) - _PIECE)
        if begins is None or ends is None:
            return None
        batches = []
        for piece in _rows_apart(body[begins.end() : ends.start()]):
            batch = self._decoder.tuples(self._rows.decode(piece))
            if batch is None:
                return None
            batches.append(batch.settled())
        return Batch.concat(batches), _PLACES[begins[1].decode()]

    def _table(self, body: bytes, wish: Wish) -> Ask:
        source = Source.of(body, "body")
        options = CsvOptions(columns=None if wish.header else ())
        reader = formats.reader(wish.given, source, self._decoder, NONE, options, self._limit * _INFLATES)
        pieces = [(block, reader.parse(block).batch) for block in reader.blocks()]
        call = self.calls[wish.proba]
        if not any(batch.rows for _, batch in pieces):
            return Batch(0, []), call, lambda row, reason: reason
        for block, batch in pieces:
            if batch.shapes != pieces[0][1].shapes:
                raise reader.place(block, CellWrong(0, None, "the tensor's shape is not that of the first row's"))
        joined = Batch.concat([batch for _, batch in pieces])
        return joined, call, partial(_in_blocks, reader, pieces)


def encode(portion: Portion, fmt: Format) -> tuple[str, bytes]:
    """Answers as a body, after its content type."""
    if fmt is JSON:
        return JSON_TYPE, b'{"predictions": %b}' % _ENCODER.encode(portion.shared.values[portion.start : portion.stop])
    answers, writer = portion.answers, formats.writer(fmt)
    body = writer.rows(Kept(records=[{} for _ in range(len(answers))]), answers) + writer.end()
    return "text/csv; charset=utf-8" if fmt is CSV else fmt.content_types[0], body


_FORMS = ("data", "instances", "inputs")
_BEGINS = re.compile(rb'\s*{\s*"(data|instances|inputs)"\s*:\s*\['.replace(rb"\s", rb"[ \t\n\r]"))
_ENDS = re.compile(rb"\]\s*}\s*\Z".replace(rb"\s", rb"[ \t\n\r]"))


def _plain_rows(row: Any) -> "msgspec.json.Decoder[Any]":
    split = msgspec.defstruct(
        "Split", [("data", list[row]), ("columns", list[str] | None, None)], forbid_unknown_fields=True
    )
    fields = [*((name, list[row] | UnsetType, UNSET) for name in _FORMS), ("dataframe_split", split | UnsetType, UNSET)]
    return msgspec.json.Decoder(msgspec.defstruct("Plain", fields, forbid_unknown_fields=True))


def _rows_apart(rows: bytes) -> Iterator[bytes]:
    """Arrays of numbers with commas between them, as JSON documents of some of them each; what is wrong stays wrong."""
    at = 0
    while True:
        end = rows.find(b"]", at + _PIECE) + 1 or len(rows)
        yield b"[%b]" % rows[at:end]
        if not rows[end : end + _PIECE].strip(b" \t\n\r") and end + _PIECE >= len(rows):
            return
        at = rows.find(b",", end, end + _PIECE) + 1
        if not at or rows[end : at - 1].strip(b" \t\n\r"):
            yield rows[end:]
            return


def _in_blocks(reader: Reader[Any], pieces: list[tuple[Any, Batch]], row: int, reason: str) -> str:
    for block, batch in pieces:
        if row < batch.rows:
            return reader.place(block, CellWrong(row, None, reason)).message
        row -= batch.rows
    return reason


def _in_document(form: str, row: int, reason: str) -> str:
    path = "$.dataframe_split.data" if form == "dataframe_split" else f"$.{form}"
    return f"{path}[{row}]: {reason}"


_PLACES: dict[str, Place] = {form: partial(_in_document, form) for form in json_document.FORMS}
_IN_DATA, _IN_SPLIT = _PLACES["data"], _PLACES["dataframe_split"]
