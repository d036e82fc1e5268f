"""One batch prediction over an input: read a block, predict, write, and at the end put the output in place."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from foretell.batch import Answers, Call
from foretell.errors import CellWrong, ForetellError, InputError
from foretell.predictor import Predictor
from foretell.tables import formats, json_document
from foretell.tables.csv_reader import CsvOptions
from foretell.tables.files import Source, Text
from foretell.tables.formats import Format, Reader
from foretell.tables.kept import ALL, Keep, Kept, Rows, clash_of
from foretell.tables.outputs import Sink

if TYPE_CHECKING:
    from foretell.compiler.watch import Watch

_MAX_DOCUMENT = 256 << 20
_SLICE = 65_536


@dataclass(frozen=True)
class Job:
    """What to do. params: as given, not yet checked. prediction: the name of the predictions' column."""

    input_format: Format
    output_format: Format
    proba: bool = False
    params: dict[str, Any] = field(default_factory=dict)
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


def run(job: Job, predictor: Predictor, source: Source, sink: Sink, watch: "Watch | None" = None) -> Iterator[Progress]:
    """Runs a job, telling after every block how far it is; the last is the sum. Rows come out in the input's order.

    watch: sees to the engine. Raises InputError at the first bad row, with its place; then nothing is committed. Memory
    holds one block.
    """
    started = time.perf_counter()
    rows = 0
    for chunk in _chunks(job, predictor, source, watch):
        sink.write(chunk.data)
        rows += chunk.rows
        yield Progress(rows, source.position, source.size, time.perf_counter() - started)
    sink.commit()
    yield Progress(rows, source.position, source.size, time.perf_counter() - started)


@dataclass(frozen=True)
class _Chunk:
    data: bytes
    rows: int = 0


def _chunks(job: Job, predictor: Predictor, source: Source, watch: "Watch | None") -> Iterator[_Chunk]:
    writer = formats.writer(job.output_format, job.prediction)
    predicted = _streamed if job.input_format.streamed else _whole
    for kept, answers in predicted(job, predictor, source, watch):
        yield _Chunk(writer.rows(kept, answers), len(answers))
    yield _Chunk(writer.end())


def _streamed(job: Job, predictor: Predictor, source: Source, watch: "Watch | None") -> Iterator[tuple[Kept, Answers]]:
    """Block by block; an input without rows gives its columns and no answers."""
    call = Call(job.proba, predictor.signature.call_params(job.params))
    reader = formats.reader(job.input_format, source, predictor.decoder, job.keep, job.options)
    none = _check_names(job, predictor, reader.no_rows.names, call)
    seen = 0
    for block in reader.blocks():
        rows = reader.parse(block)
        if not (count := rows.batch.rows):
            continue
        ahead = _ahead(seen + count, source)
        if watch is not None and not seen:
            watch.before(rows.batch, call, ahead)
        seen += count
        yield rows.kept, _answers(predictor, rows, call, _InBlock(reader, block))
        if watch is not None:
            watch.after(count, ahead)
    if not seen:
        yield reader.no_rows, none


def _ahead(rows: int, source: Source) -> int | None:
    """How many rows are still to come, by the bytes; None where nobody knows."""
    if source.size is None or not source.position:
        return None
    return int(rows * max(0, source.size - source.position) / source.position)


def _whole(job: Job, predictor: Predictor, source: Source, watch: "Watch | None") -> Iterator[tuple[Kept, Answers]]:
    """A document, in pieces."""
    body = Text(source, job.options.encoding).all(_MAX_DOCUMENT)
    try:
        document = json_document.read(body, predictor.decoder, job.keep)
    except InputError as error:
        error.message = f"{source.name}: {error.message}"
        if body.strip() and formats.sniffed(body) is not formats.JSON:
            error.hint = f"It looks like {formats.sniffed(body).name}: -t {formats.sniffed(body).name}"
        raise
    call = Call(job.proba, predictor.signature.call_params({**job.params, **document.params}))
    none = _check_names(job, predictor, document.rows.kept.names, call)
    for at, piece in enumerate(document.rows.slices(_SLICE)):
        if watch is not None and not at and piece.batch.rows:
            watch.before(piece.batch, call, document.rows.batch.rows - piece.batch.rows)
        yield (
            piece.kept,
            _answers(predictor, piece, call, _InDocument(f"{source.name}: $.{document.form}", at * _SLICE)),
        )
    if not document.rows.batch.rows:
        yield document.rows.kept, none


def _check_names(job: Job, predictor: Predictor, kept: list[str], call: Call) -> Answers:
    """Refuses a carried column that is named like a prediction before a row is read. Returns answers to no rows."""
    none = predictor.empty(call)
    for name, _ in none.columns(job.prediction):
        if name in kept and job.output_format.streamed:
            raise clash_of(name)
    return none


class _Places(Protocol):
    def of(self, row: int, reason: str) -> str: ...


@dataclass(frozen=True)
class _InBlock:
    reader: Reader[Any]
    block: Any

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
