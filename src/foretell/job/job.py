"""One batch prediction over an input: read a block, predict, write, and at the end put the output in place."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from foretell.batch import Answers, Call
from foretell.errors import CellWrong, ForetellError, InputError, UsageError
from foretell.predictor import Predictor
from foretell.tables import formats, json_document
from foretell.tables.csv_reader import CsvOptions
from foretell.tables.files import Block, Text
from foretell.tables.formats import Format, Reader, Writer
from foretell.tables.kept import ALL, Keep, Rows

_MAX_DOCUMENT = 256 << 20
_SLICE = 65_536


class Sink(Protocol):
    """Where predictions go: whole on commit, or not at all."""

    def write(self, data: bytes) -> None: ...

    def commit(self) -> None: ...

    def discard(self) -> None: ...


@dataclass(frozen=True)
class Job:
    """What to do. prediction: the name of the predictions' column."""

    input_format: Format
    output_format: Format
    call: Call = Call()
    keep: Keep = ALL
    prediction: str = "prediction"
    options: CsvOptions = CsvOptions()


@dataclass(frozen=True)
class Progress:
    """How far a job is. read, size: bytes of the input; size is None where unknown. seconds: since its start."""

    rows: int
    read: int
    size: int | None
    seconds: float


def run(job: Job, predictor: Predictor, text: Text, sink: Sink) -> Iterator[Progress]:
    """Runs a job, telling after every block how far it is; the last is the sum. Rows come out in the input's order.

    Raises InputError at the first bad row, with its place; then nothing is committed. Memory holds one block.
    """
    started = time.perf_counter()
    rows = 0
    for chunk in _chunks(job, predictor, text):
        sink.write(chunk.data)
        rows += chunk.rows
        yield Progress(rows, text.position, text.size, time.perf_counter() - started)
    sink.commit()
    yield Progress(rows, text.position, text.size, time.perf_counter() - started)


@dataclass(frozen=True)
class _Chunk:
    data: bytes
    rows: int = 0


def _chunks(job: Job, predictor: Predictor, text: Text) -> Iterator[_Chunk]:
    if job.input_format.streamed:
        reader = formats.reader(job.input_format, text, predictor.decoder, job.keep, job.options)
        writer = _writer(job, predictor, reader.kept)
        yield _Chunk(writer.start())
        for block in text.blocks(reader.cut):
            yield _block(job, predictor, reader, writer, block)
    else:
        body = text.all(_MAX_DOCUMENT)
        try:
            document = json_document.read(body, predictor.decoder, job.keep)
        except InputError as error:
            error.message = f"{text.name}: {error.message}"
            error.hint = "It looks like CSV: -t csv" if formats.sniffed(body) is formats.CSV else error.hint
            raise
        call = job.call
        if document.params:
            call = Call(job.call.proba, predictor.signature.call_params(document.params))
        writer = _writer(job, predictor, document.rows.kept.names)
        yield _Chunk(writer.start())
        for at, piece in enumerate(document.rows.slices(_SLICE)):
            answers = _answers(predictor, piece, call, _InDocument(f"{text.name}: $.{document.form}", at * _SLICE))
            yield _Chunk(writer.rows(piece.kept, answers), piece.batch.rows)
    yield _Chunk(writer.end())


def _block(job: Job, predictor: Predictor, reader: Reader, writer: Writer, block: Block) -> _Chunk:
    rows = reader.parse(block)
    if rows.batch.rows == 0:
        return _Chunk(b"")
    answers = _answers(predictor, rows, job.call, _InBlock(reader, block))
    return _Chunk(writer.rows(rows.kept, answers), rows.batch.rows)


class _Places(Protocol):
    def of(self, row: int, reason: str) -> str: ...


@dataclass(frozen=True)
class _InBlock:
    reader: Reader
    block: Block

    def of(self, row: int, reason: str) -> str:
        return self.reader.place(self.block, CellWrong(row, None, reason)).message


@dataclass(frozen=True)
class _InDocument:
    path: str
    first: int

    def of(self, row: int, reason: str) -> str:
        return f"{self.path}[{self.first + row}]: {reason}"


def _answers(predictor: Predictor, rows: Rows, call: Call, places: _Places) -> Answers:
    """The model's answers; where it fails, the error names the first row that it fails on."""
    try:
        return predictor.predict(rows.batch, call)
    except ForetellError as error:
        if (bad := predictor.first_bad(rows.batch, call, error)) is None:
            raise
        row, own = bad
        own.message = places.of(row, own.message)
        raise own from error


def _writer(job: Job, predictor: Predictor, kept: list[str]) -> Writer:
    """A writer whose columns are known before the first row is read, so that a clash of names is refused early."""
    answers = [name for name, _ in predictor.empty(job.call).columns(job.prediction)]
    for name in answers:
        if name in kept and job.output_format.streamed:
            raise UsageError(
                f"the input has a column {name!r} of its own",
                "Name the predictions otherwise: --prediction-column NAME, or leave it out: --keep none",
            )
    return formats.writer(job.output_format, kept, answers, job.prediction)
