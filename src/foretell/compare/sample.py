"""The user's first rows, as requests: read in a process of its own, so that the model is loaded where it does no harm
to what is measured."""

import base64
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from foretell import predictor
from foretell.batch import Batch, Call, plain
from foretell.compare.asked import Model, Reading
from foretell.compare.child import ran
from foretell.errors import ForetellError, InputUnreadable, UsageError
from foretell.job.inputs import expand, format_of
from foretell.strict_json import strict_json
from foretell.tables import formats
from foretell.tables.arrow_rows import TableBlock
from foretell.tables.csv_header import CsvOptions
from foretell.tables.files import STDIN, Source, open_input
from foretell.tables.formats import JSON, PARQUET, Format, Reader
from foretell.tables.kept import NONE
from foretell.tables.text import Text

ENOUGH = 1000
_MOST = 4096
_MORE, _SLOW, _LARGE = (16, 256, 4096), 0.5, 1 << 24


class Sample(msgspec.Struct, frozen=True):
    """requests: bodies of one row each, the first rows of the input, in order. flavour, engine: that answered.

    paths: the input's files. rows: that it has, or about so many. row_bytes: of each. head: where a text's first record
    begins, in bytes unpacked, as row_bytes are then too; of other formats they are bytes as stored. delimiter: of CSV.
    row_s: seconds that the model takes for a row, roughly, among many. suffix: of a file of the input's format.
    encoding: of its text.
    """

    requests: list[bytes]
    flavour: str
    engine: str
    paths: list[str]
    rows: int
    row_bytes: float
    head: int
    delimiter: str
    row_s: float
    suffix: str = ".csv"
    encoding: str = "utf-8"

    @property
    def format(self) -> Format:
        return formats.by_suffix(f"rows{self.suffix}", "input")


class _Order(msgspec.Struct, frozen=True):
    model: Model
    input: str
    told: str


def take(model: Model, given: str, folder: Path, until: float) -> Sample:
    """The sample of an input. Raises the errors of a model that cannot be loaded and of an input that cannot be read,
    and OutOfTime."""
    if given == STDIN:
        raise UsageError("a comparison reads its input many times", "Give a file: -i batch_input.csv")
    told, order = folder / "sample", folder / "order"
    order.write_bytes(msgspec.msgpack.encode(_Order(model, given, str(told))))
    ran([str(order)], model.environment, until, module="foretell.compare.sample")
    return msgspec.msgpack.decode(told.read_bytes(), type=Sample)


def _obey(order: _Order) -> None:
    model = order.model
    read_as = predictor.variant(model.schema, model.cast)
    found = predictor.find(model.uri, registry=model.registry, engine=model.engine, variant=read_as)
    opened = predictor.load(found, schema=model.schema, cast=model.cast)
    if not opened.rowwise:
        wants = f"{found.resolved.label} takes exactly {opened.signature.rows} rows at a time"
        raise UsageError(wants, "A comparison asks for a row at a time")
    Path(order.told).write_bytes(msgspec.msgpack.encode(_sample(order.input, opened, model.reading)))


def _sample(given: str, opened: predictor.Predictor, reading: Reading = Reading()) -> Sample:  # noqa: B008
    paths, options = expand(given), reading.options
    fmt = format_of(paths, reading.format)
    asked = strict_json(reading.params.encode())
    call = Call(reading.proba, opened.signature.call_params(asked))
    with open_input(paths[0]) as source:
        start = source.peek()
        if fmt.text:
            start = Text(Source.of(start, source.name), options.encoding).peek()
        unpacked = len(start) / max(source.position, 1)
        reader = formats.reader(fmt, source, opened.decoder, NONE, options)
        if own := getattr(reader, "params", {}):
            asked = asked | own
            call = Call(reading.proba, opened.signature.call_params(asked))
        blocks = reader.blocks()
        pieces, batches = _first(reader, blocks)
        rows = sum(batch.rows for batch in batches)
        if not rows:
            raise InputUnreadable(f"{paths[0]} has no rows", "A comparison needs some")
        size = sum(Path(path).stat().st_size for path in paths)
        if fmt.text and fmt is not JSON:
            head, last = pieces[0].at, pieces[-1]
            row_bytes = (last.at + len(last.data) - head) / rows
            count = max(rows, round((size * unpacked - head * len(paths)) / row_bytes))
        else:
            whole = _rows_of(fmt, rows, blocks, paths[0])
            head, count = 0, round(whole * size / Path(paths[0]).stat().st_size)
            row_bytes = size / count
    return Sample(
        [request for batch in batches for request in _requests(batch, asked)][:_MOST],
        opened.flavour,
        opened.engine.name,
        paths,
        count,
        row_bytes,
        head,
        getattr(reader, "options", CsvOptions()).delimiter or "",
        _row_s(opened, batches[0], row_bytes, call),
        fmt.suffixes[0],
        options.encoding,
    )


def _row_s(opened: predictor.Predictor, batch: Batch, row_bytes: float, call: Call) -> float:
    """By ever more rows, as each call costs something too, while that is quick. The first is only to warm up."""
    took = 0.0
    for rows in (1, *_MORE):
        if rows > 1 and (rows * took > _SLOW or rows * row_bytes > _LARGE):
            break
        many = Batch.concat([batch] * math.ceil(rows / batch.rows))[:rows]
        began = time.perf_counter()
        answered = len(opened.predict(many, call))
        took = (time.perf_counter() - began) / answered
    return took


def _first(reader: Reader[Any], blocks: Iterator[Any]) -> tuple[list[Any], list[Batch]]:
    """The first pieces of an input, and their rows: enough of them, if there are. They are of the first blocks."""
    pieces: list[Any] = []
    batches: list[Batch] = []
    while sum(batch.rows for batch in batches) < ENOUGH and (block := next(blocks, None)) is not None:
        for piece in reader.pieces(block):
            pieces.append(piece)
            batches.append(reader.parse(piece).batch)
            if sum(batch.rows for batch in batches) >= ENOUGH and not isinstance(piece, TableBlock):
                break
    return pieces, batches


def _rows_of(fmt: Format, read: int, blocks: Iterator[Any], path: str) -> int:
    """How many rows a table's file has. read: of its first blocks; blocks: the others."""
    if fmt is PARQUET:
        import pyarrow.parquet as pq

        return int(pq.read_metadata(path).num_rows)
    return read + sum(int(block.rows.batch.rows if fmt is JSON else block.batch.num_rows) for block in blocks)


def _requests(batch: Batch, params: dict[str, Any]) -> list[bytes]:
    """Bodies of a row each."""
    columns = [_values(column) for column in batch.columns]
    more = {"params": msgspec.Raw(json.dumps(params).encode())} if params else {}
    return [msgspec.json.encode({"data": [row], **more}) for row in zip(*columns, strict=True)]


def _values(column: Any) -> list[Any]:
    if column.dtype == object:
        return [base64.b64encode(cell).decode() if isinstance(cell, bytes) else cell for cell in column.tolist()]
    return plain(column)


def _main() -> int:
    try:
        _obey(msgspec.msgpack.decode(Path(sys.argv[1]).read_bytes(), type=_Order))
    except ForetellError as error:
        for line in (f"error: {error.message}", *(f"  {more}" for more in (*error.details, error.hint) if more)):
            print(line, file=sys.stderr, flush=True)
        return 2 if isinstance(error, UsageError) else 3
    return 0


if __name__ == "__main__":
    os._exit(_main())  # at once: a library that still starts threads would abort it
