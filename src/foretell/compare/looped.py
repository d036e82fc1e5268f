"""The user's input made as long as a trial needs it: the same files over and over, or the beginning of them. What a job
makes of it is what it would make of a longer input of the same kind, so it comes in as many blocks, for all cores."""

import codecs
import itertools
import math
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from foretell import machine
from foretell.compare.sample import Sample
from foretell.errors import InputUnreadable
from foretell.tables.compression import packed, split
from foretell.tables.csv_records import Records
from foretell.tables.files import BLOCK, open_input
from foretell.tables.formats import ARROW_STREAM, CSV, JSON, PARQUET, Format
from foretell.tables.text import Cut, Text

_BLOCKS_A_CORE = 4
_SEVERAL = 2 * BLOCK
_UNIT = 64 << 20
_LARGEST = 512 << 20
_MOST_FILES = 10_000
_NEAR = 1.5


@dataclass(frozen=True)
class Looped:
    """path: as a job is given it. rows: about so many."""

    path: str
    rows: float


def of_rows(sample: Sample, given: str, rows: int, folder: Path) -> Looped:
    """An input of about so many rows. given: what the user named. folder: for the files; there is none yet."""
    if sample.rows / _NEAR <= rows < sample.rows * _NEAR:
        return Looped(given, sample.rows)
    folder.mkdir()
    fmt = sample.format
    if rows == 1 and fmt is JSON:
        (folder / "00000.json").write_bytes(_encoded(sample.requests[0], sample.encoding))
        return Looped(str(folder), 1)
    size = sample.rows * sample.row_bytes
    few = len(sample.paths) > 1 and rows < sample.rows
    if fmt is JSON or (rows > sample.rows and (size > _SEVERAL or len(sample.paths) > 1)):
        return _linked(sample, rows, folder)
    if few and (share := rows * len(sample.paths) / sample.rows) > 1:
        return _linked(sample, rows, folder, round(share))
    most = (_UNIT if rows > sample.rows else _LARGEST) / sample.row_bytes
    wanted = max(1, round(rows / math.ceil(rows / most)))
    made = _texts(sample, wanted, folder) if fmt.text else _tables(sample, wanted, folder)
    for loop in range(1, round(min(rows / wanted, _MOST_FILES / len(made)))):
        for file in made:
            (folder / f"{loop:05}-{file.name}").symlink_to(file)
    return Looped(str(folder), wanted * max(1, round(rows / wanted)))


def _linked(sample: Sample, rows: int, folder: Path, files: int | None = None) -> Looped:
    """The user's files over and over, or the first of them."""
    paths = sample.paths[:files]
    share = len(paths) / len(sample.paths)
    loops = max(1, min(round(rows / (sample.rows * share)), _MOST_FILES // len(paths)))
    for loop in range(loops):
        for at, path in enumerate(paths):
            (folder / f"{loop:05}-{at:05}{_ending(path)}").symlink_to(Path(path).absolute())
    return Looped(str(folder), sample.rows * share * loops)


def _texts(sample: Sample, rows: int, folder: Path) -> list[Path]:
    """Files of whole records, each with the header, if there is one."""
    path = sample.paths[0]
    need = round(rows * sample.row_bytes) if rows < sample.rows else _LARGEST
    records = Records(sample.delimiter) if sample.format is CSV else None
    first, last = (_first_line, _last_line) if records is None else (records.first, records.last)
    with open_input(path) as source:
        text = Text(source, sample.encoding)
        header = _header(text, sample.head)
        read = bytearray()
        for block in text.blocks(last):
            read += block.data
            if len(read) >= need:
                break
    body = bytes(read).lstrip(b"\r\n")
    body = body[: (0 if rows == 1 else last(body[:need])) or first(body)]
    body *= max(1, round(rows * sample.row_bytes / len(body)))
    codec, files = split(path)[1], list[Path]()
    for part in _parts(body, last, 1 if rows == 1 else _files(len(body))):
        files.append(folder / f"{len(files):05}{_ending(path)}")
        data = _encoded(header + part, sample.encoding)
        files[-1].write_bytes(packed(data, codec) if codec else data)
    return files


def _header(text: Text, end: int) -> bytes:
    """What comes before the first record. end: where that begins."""
    text.peek()
    size = end - text.at
    block = text.record(lambda data: size if len(data) >= size else 0) if size > 0 else None
    return b"" if block is None else block.data


def _encoded(text: bytes, encoding: str) -> bytes:
    """UTF-8 as the input is written; a mark of the encoding is put before each file of its own."""
    if codecs.lookup(encoding).name == "utf-8":
        return text
    try:
        return text.decode().encode(encoding)
    except UnicodeError as error:
        raise InputUnreadable(f"what was read as {encoding} cannot be written so again: {error}") from error


def _parts(body: bytes, last: Cut, count: int) -> list[bytes]:
    found, at = [], 0
    for number in range(1, count + 1):
        end = len(body) if number == count else at + last(body[at : len(body) * number // count])
        if end > at:
            found.append(body[at:end])
            at = end
    return found


def _first_line(data: bytes) -> int:
    return data.find(b"\n") + 1


def _last_line(data: bytes) -> int:
    return data.rfind(b"\n") + 1


def _tables(sample: Sample, rows: int, folder: Path) -> list[Path]:
    path = sample.paths[0]
    table = _table(path, sample.format, min(rows, sample.rows))
    table = pa.concat_tables([table] * max(1, round(rows / table.num_rows)))
    count = min(_files(round(table.num_rows * sample.row_bytes)), table.num_rows)
    edges = [table.num_rows * at // count for at in range(count + 1)]
    files = []
    for at, (start, stop) in enumerate(itertools.pairwise(edges)):
        files.append(folder / f"{at:05}{_ending(path)}")
        _write(table.slice(start, stop - start), sample.format, files[-1])
    return files


def _table(path: str, fmt: Format, rows: int) -> pa.Table:
    """The first rows of a file."""
    if fmt is PARQUET:
        import pyarrow.parquet as pq

        opened = pq.ParquetFile(path)
        batches, schema = opened.iter_batches(), opened.schema_arrow
    else:
        try:
            file = pa.ipc.open_file(path)
            batches, schema = (file.get_batch(at) for at in range(file.num_record_batches)), file.schema
        except pa.ArrowInvalid:
            stream = pa.ipc.open_stream(path)
            batches, schema = iter(stream), stream.schema
    taken: list[pa.RecordBatch] = []
    for batch in batches:
        taken.append(batch)
        if sum(one.num_rows for one in taken) >= rows:
            break
    return pa.Table.from_batches(taken, schema).slice(0, rows)


def _write(table: pa.Table, fmt: Format, path: Path) -> None:
    if fmt is PARQUET:
        import pyarrow.parquet as pq

        pq.write_table(table, path)
        return
    opener = pa.ipc.new_stream if fmt is ARROW_STREAM else pa.ipc.new_file
    with opener(str(path), table.schema) as writer:
        writer.write_table(table)


def _files(size: int) -> int:
    """In how many files so many bytes of rows are to come, so that every core has some to do."""
    wanted = _BLOCKS_A_CORE * machine.cores() + 1
    return 1 if size > wanted * BLOCK else wanted


def _ending(path: str) -> str:
    """What a file's name ends with: .csv.gz."""
    return "".join(Path(path).suffixes[-2:]) if split(path)[1] else Path(path).suffix
