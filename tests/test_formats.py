"""Files and bodies in Parquet and Arrow, packed text, tensors: what comes through, what is carried, what is refused."""

import gzip
import io
import json
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import foretell as library
from conftest import Server, foretell, serving
from foretell.batch import Answers, Output
from foretell.cells import Column
from foretell.errors import ForetellError, InputError
from foretell.rows import RowDecoder
from foretell.signature import Signature
from foretell.tables import formats
from foretell.tables.compression import packed
from foretell.tables.csv_header import CsvOptions
from foretell.tables.files import Source
from foretell.tables.formats import ARROW, ARROW_STREAM, CSV, JSONL, PARQUET, Format
from foretell.tables.kept import ALL, NONE, Keep, Kept, Rows

X = Signature((Column("x", "double"), Column("s", "string")))
TABLE = pa.table({"x": np.arange(100.0), "s": [f"word {at % 7}" for at in range(100)]})
LIMIT = 64 << 20


def parquet(table: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    return sink.getvalue().to_pybytes()


def arrow(table: pa.Table, *, stream: bool = False, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    opened = pa.ipc.new_stream if stream else pa.ipc.new_file
    with opened(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def by_polars(table: pa.Table, *, coded: bool = False) -> bytes:
    """Its files begin with no message of the schema, and its text is views."""

    frame, sink = pl.DataFrame(table), io.BytesIO()
    frame.with_columns(pl.col("s").cast(pl.Categorical)).write_ipc(sink) if coded else frame.write_ipc(sink)
    return sink.getvalue()


def read(
    body: bytes, fmt: Format, signature: Signature = X, keep: Keep = NONE, limit: int | None = LIMIT
) -> list[Rows]:
    source = Source.of(body, "rows")
    reader = formats.reader(fmt, source, RowDecoder(signature), keep, CsvOptions(), limit)
    return [reader.parse(block) for block in reader.blocks()]


GOOD: dict[str, tuple[bytes, Format]] = {
    "parquet": (parquet(TABLE, row_group_size=30), PARQUET),
    "parquet zstd": (parquet(TABLE, compression="zstd"), PARQUET),
    "parquet plain": (parquet(TABLE, use_dictionary=False, compression="none"), PARQUET),
    "arrow file": (arrow(TABLE), ARROW),
    "arrow stream": (arrow(TABLE, stream=True), ARROW),
    "arrow zstd": (arrow(TABLE, compression="zstd"), ARROW),
    "arrow lz4 stream": (arrow(TABLE, stream=True, compression="lz4"), ARROW),
    "arrow polars": (by_polars(TABLE), ARROW),
    "arrow polars coded": (by_polars(TABLE, coded=True), ARROW),
    "arrow coded": (arrow(TABLE.set_column(1, "s", TABLE["s"].dictionary_encode())), ARROW),
}


@pytest.mark.parametrize("body", GOOD.values(), ids=GOOD)
def test_tables_are_read(body: tuple[bytes, Format]) -> None:
    """Row groups, batches, codecs and codes make no difference."""
    pieces = read(*body)
    assert TABLE["x"].to_pylist() == [x for piece in pieces for x in piece.batch.columns[0].tolist()]
    assert TABLE["s"].to_pylist() == [s for piece in pieces for s in piece.batch.columns[1].tolist()]


@pytest.mark.parametrize("body", GOOD.values(), ids=GOOD)
def test_a_table_that_is_cut_or_damaged_is_refused_or_read(body: tuple[bytes, Format]) -> None:
    """Cut short anywhere, it is refused; with any byte changed, it is refused by an error of ours or read: no crash."""
    data, fmt = body
    for length in range(0, len(data), 31):
        with pytest.raises(InputError, match="rows"):
            read(data[:length], fmt)
    for at in range(0, len(data), 11):
        try:
            read(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :], fmt)
        except ForetellError as error:
            assert "\n" not in error.message


def _bomb(make: Callable[..., bytes]) -> bytes:
    """A body of some kilobytes that takes 128 MB in memory."""
    rows = 8 << 20
    return make(pa.table({"x": np.zeros(rows), "s": pa.nulls(rows, pa.string())}), compression="zstd")


def _shared_cell() -> pa.Table:
    """A long cell that many rows share by its code."""
    codes = pa.array(np.zeros(60_000, "int32"))
    return pa.table({"x": np.zeros(60_000), "s": pa.DictionaryArray.from_arrays(codes, pa.array(["a" * 1_000_000]))})


def _coded_wrong() -> pa.Table:
    words = pa.DictionaryArray.from_arrays(pa.array([0, 5]), pa.array(["a", "b"]), safe=False)
    return pa.table({"x": [1.0, 2.0], "s": words})


def _no_utf8() -> pa.Array:
    offsets = pa.py_buffer(struct.pack("<ii", 0, 2))
    return pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(b"\xff\xfe")])


def _no_rows_but_a_number() -> pa.Table:
    return pa.table([pa.Array.from_buffers(pa.null(), 2**31 - 1, [None])] * 2, names=["x", "s"])


GROUPS = parquet(TABLE)
HOSTILE: dict[str, tuple[Callable[[], bytes], Format, str]] = {
    "no parquet": (lambda: b"PAR1" + bytes(range(256)) + b"PAR1", PARQUET, "cannot be read as Parquet"),
    "empty parquet": (lambda: b"", PARQUET, "cannot be read as Parquet"),
    "footer too long": (lambda: GROUPS[:-8] + b"\xff\xff\xff\x7fPAR1", PARQUET, "cannot be read as Parquet"),
    "footer of nothing": (lambda: GROUPS[:-8] + b"\0\0\0\0PAR1", PARQUET, "cannot be read as Parquet"),
    "no arrow": (lambda: b"PNG1" + bytes(64), ARROW, "it begins otherwise"),
    "no arrow but its mark": (lambda: b"ARROW1\0\0" + bytes(64), ARROW, "does not end"),
    "old feather": (lambda: b"FEA1" + bytes(64), ARROW, "it begins otherwise"),
    "empty arrow": (lambda: b"", ARROW, "is cut short"),
    "message without end": (lambda: b"\xff\xff\xff\xff\xff\xff\xff\x0f", ARROW, "is cut short"),
    "negative message": (lambda: b"\xff\xff\xff\xff\xf8\xff\xff\xff", ARROW, "begins with no length"),
    "two streams": (lambda: arrow(TABLE, stream=True) * 2, ARROW, "goes on after the end"),
    "parquet bomb": (lambda: _bomb(parquet), PARQUET, "holds more than 64 MiB"),
    "arrow bomb": (lambda: _bomb(arrow), ARROW, "holds more than 64 MiB"),
    "rows of nothing": (lambda: arrow(_no_rows_but_a_number()), ARROW, "holds more than 64 MiB"),
    "code out of range": (lambda: arrow(_coded_wrong()), ARROW, "out of bounds"),
    "no utf-8 in arrow": (lambda: arrow(pa.table({"x": [1.0], "s": _no_utf8()})), ARROW, "UTF8"),
    "no utf-8 in parquet": (lambda: parquet(pa.table({"x": [1.0], "s": _no_utf8()})), PARQUET, "UTF8"),
    "wide body": (lambda: parquet(pa.table({str(at): [1.0] for at in range(25_000)})), PARQUET, "size limit"),
}


@pytest.mark.parametrize(("make", "fmt", "says"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_table_is_refused(make: Callable[[], bytes], fmt: Format, says: str) -> None:
    """One clear line for each, before memory is spent on it."""
    before = pa.total_allocated_bytes()
    body = make()
    with pytest.raises(InputError, match=says) as caught:
        read(body, fmt)
    assert "\n" not in caught.value.message
    assert pa.total_allocated_bytes() - before < LIMIT


@pytest.mark.parametrize("fmt", [PARQUET, ARROW], ids=["parquet", "arrow"])
def test_a_shared_cell_is_there_once(fmt: Format) -> None:
    """A long cell behind many codes is read once for all rows, and not carried where it would fill memory."""
    body = (parquet if fmt is PARQUET else arrow)(_shared_cell(), compression="zstd")
    words = read(body, fmt)[0].batch.columns[1]
    assert (60_000, 1) == (len(words), len(set(map(id, words))))
    with pytest.raises(InputError, match=r"column 's': the cells of one block are over 1024 MiB"):
        read(body, fmt, Signature((Column("x", "double"),)), ALL)


def test_a_wide_or_deep_file_is_read() -> None:
    """Of many columns only those that are needed are looked at; depth in others is of no matter."""
    deep = pa.float64()
    for _ in range(50):
        deep = pa.list_(deep)
    columns = {"x": [1.0], "s": ["a"], "deep": pa.nulls(1, deep), **{str(at): [1.0] for at in range(3000)}}
    for body, fmt in ((parquet(pa.table(columns)), PARQUET), (arrow(pa.table(columns)), ARROW)):
        assert [1.0] == read(body, fmt)[0].batch.columns[0].tolist()


STAMP = "1970-01-01T00:00:00.001"
CARRIED: dict[str, tuple[pa.Array, str, str]] = {
    "int": (pa.array([7], pa.int16()), "7", "7"),
    "uint64": (pa.array([2**64 - 1], pa.uint64()), "18446744073709551615", "18446744073709551615"),
    "double": (pa.array([0.1]), "0.1", "0.1"),
    "nan": (pa.array([float("nan")]), "", "null"),
    "half": (pa.array([0.5], pa.float16()), "0.5", "0.5"),
    "bool": (pa.array([True]), "true", "true"),
    "null": (pa.array([None], pa.string()), "", "null"),
    "no type": (pa.nulls(1), "", "null"),
    "words": (pa.array(["5, or 6"]), '"5, or 6"', '"5, or 6"'),
    "coded": (pa.array(["a"]).dictionary_encode(), "a", '"a"'),
    "view": (pa.array(["a"], pa.string_view()), "a", '"a"'),
    "decimal": (pa.array(["12345678901234567.10"]).cast(pa.decimal128(30, 2)), *["12345678901234567.10"] * 2),
    "date": (pa.array([20_000], pa.date32()), "2024-10-04", '"2024-10-04"'),
    "time": (pa.array([1], pa.time32("ms")), "00:00:00.001", '"00:00:00.001"'),
    "stamp": (pa.array([1], pa.timestamp("ms")), STAMP, f'"{STAMP}"'),
    "zone": (pa.array([1], pa.timestamp("ms", "Europe/Oslo")), f"{STAMP}Z", f'"{STAMP}Z"'),
    "duration": (pa.array([1500], pa.duration("ms")), "1500", "1500"),
    "bytes": (pa.array([b"\xff\x00"]), "/wA=", '"/wA="'),
    "list": (pa.array([[1, None]]), '"[1,null]"', "[1,null]"),
    "struct": (pa.array([{"a": 1, "b": None}]), '"{""a"":1,""b"":null}"', '{"a":1,"b":null}'),
    "map": (
        pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int8())),
        '"[{""key"":""k"",""value"":1}]"',
        '[{"key":"k","value":1}]',
    ),
}


def test_categories_of_polars_are_carried_as_words() -> None:
    """They come as codes of views, for which Arrow has few functions."""
    table = pa.table({"x": [1.0, 2.0], "s": ["a", "b"], "id": ["c", None]})

    sink = io.BytesIO()
    pl.DataFrame(table).with_columns(pl.col("id").cast(pl.Categorical)).write_ipc(sink)
    kept = read(sink.getvalue(), ARROW, keep=ALL)[0].kept
    assert ["c", None] == kept.columns[0].to_pylist()


@pytest.mark.parametrize(("column", "text", "value"), CARRIED.values(), ids=CARRIED)
def test_carried_columns_of_every_type(column: pa.Array, text: str, value: str) -> None:
    """A carried column keeps its type in Parquet and Arrow; in CSV and JSON it is spelled by clear rules."""
    table = pa.table({"x": [1.0], "s": ["a"], "id": column})
    answers = Answers((Output("", np.array([1.0])),))
    for body in ((parquet(table), PARQUET), (arrow(table), ARROW)):
        kept = read(*body, keep=ALL)[0].kept
        assert f"id,prediction\n{text},1.0\n" == formats.writer(CSV).rows(kept, answers).decode()
        assert f'{{"id":{value},"prediction":1.0}}\n' == formats.writer(JSONL).rows(kept, answers).decode()
    for fmt in (PARQUET, ARROW, ARROW_STREAM):
        made = written(fmt, kept, answers)
        assert (kept.columns[0].type, ["id", "prediction"]) == (made["id"].type, made.column_names)
        assert str(kept.columns[0].to_pylist()) == str(made["id"].to_pylist())


def test_a_column_that_no_output_holds_is_named() -> None:
    """What cannot be carried along is refused with its name, before a row is read."""
    table = pa.table({"x": [1.0], "s": ["a"], "span": pa.nulls(1, pa.month_day_nano_interval())})
    with pytest.raises(InputError, match=r"rows, column 'span': .* cannot be carried along"):
        read(arrow(table), ARROW, keep=ALL)


def written(fmt: Format, kept: Kept, *answers: Answers) -> pa.Table:
    writer = formats.writer(fmt)
    body = b"".join(writer.rows(kept, part) for part in answers) + writer.end()
    if fmt is PARQUET:
        return pq.read_table(pa.BufferReader(body))
    return (pa.ipc.open_file if fmt is ARROW else pa.ipc.open_stream)(pa.BufferReader(body)).read_all()


ANSWERED: dict[str, tuple[np.ndarray, pa.DataType, list[Any]]] = {
    "double": (np.array([1.5, np.nan, np.inf]), pa.float64(), [1.5, None, None]),
    "float": (np.array([0.1, np.nan], "float32"), pa.float32(), [float(np.float32(0.1)), None]),
    "long": (np.array([1, -1]), pa.int64(), [1, -1]),
    "uint8": (np.array([255], "uint8"), pa.uint8(), [255]),
    "bool": (np.array([True, False]), pa.bool_(), [True, False]),
    "text": (np.array(["a", None], object), pa.string(), ["a", None]),
    "fixed text": (np.array(["a", "bc"]), pa.string(), ["a", "bc"]),
    "whole objects": (np.array([1, None], object), pa.int64(), [1, None]),
    "mixed objects": (np.array([1, "a"], object), pa.string(), ["1", '"a"']),
    "no objects": (np.array([], object), pa.string(), []),
    "stamp": (np.array(["2026-01-01", "NaT"], "datetime64[s]"), pa.timestamp("ns"), ["2026-01-01 00:00:00", None]),
    "tensor": (
        np.array([[[1.0, np.nan]]]),
        pa.list_(pa.list_(pa.float64(), 2), 1),
        [[[1.0, None]]],
    ),
    "many": (np.zeros((1, 65)), pa.list_(pa.float64(), 65), [[0.0] * 65]),
}


@pytest.mark.parametrize(("values", "kind", "cells"), ANSWERED.values(), ids=ANSWERED)
def test_answers_keep_their_type(values: np.ndarray, kind: pa.DataType, cells: list[Any]) -> None:
    """A prediction's column has the type of the model's answer; what is not finite is null."""
    for fmt in (PARQUET, ARROW, ARROW_STREAM):
        column = written(fmt, Kept(), Answers((Output("", values),)))["prediction"]
        got = [str(cell) if pa.types.is_timestamp(kind) and cell is not None else cell for cell in column.to_pylist()]
        assert (str(kind).replace("element", "item"), cells) == (str(column.type).replace("element", "item"), got)


def test_csv_holds_tensors_up_to_a_bound() -> None:
    """A row's values are a column each in CSV while they are few; else the error names the formats that hold them."""
    image = Answers((Output("", np.arange(128.0).reshape(2, 8, 8)),))
    lines = formats.writer(CSV).rows(Kept(), image).decode().splitlines()
    assert (3, "prediction_0,prediction_1", "64.0,65.0") == (len(lines), lines[0][:25], lines[2][:9])
    with pytest.raises(InputError, match="1024 values a row, and CSV takes 1000"):
        formats.writer(CSV).rows(Kept(), Answers((Output("", np.zeros((1, 1024))),)))


def test_row_groups_have_a_fit_size() -> None:
    """Small blocks are gathered into one row group; many rows make several."""
    writer = formats.writer(PARQUET)
    blocks = [writer.rows(Kept(), Answers((Output("", np.zeros(50_000)),))) for _ in range(6)]
    opened = pq.ParquetFile(pa.BufferReader(b"".join(blocks) + writer.end()))
    assert [150_000] * 2 == [opened.metadata.row_group(at).num_rows for at in range(opened.num_row_groups)]
    assert "SNAPPY" == opened.metadata.row_group(0).column(0).compression


GRID = Signature((Column(None, "float", (2, 2)),))
OPEN = Signature((Column("t", "long", (-1,)),), tensor="t")
VECTOR = Signature(tuple(Column(None, "float") for _ in range(3)), tensor="v")
CELLS = [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]]
FLAT = [[*first, *second] for first, second in CELLS]
LISTED = pa.list_(pa.list_(pa.float32()))
SHAPED = pa.array(CELLS, LISTED)
TENSORS: dict[str, tuple[Signature, pa.Array, Any]] = {
    "lists": (GRID, SHAPED, CELLS),
    "large lists": (GRID, pa.array(CELLS, pa.large_list(pa.large_list(pa.float64()))), CELLS),
    "fixed lists": (GRID, pa.array(CELLS, pa.list_(pa.list_(pa.int8(), 2), 2)), CELLS),
    "flat": (GRID, pa.array(FLAT, pa.list_(pa.float32(), 4)), CELLS),
    "arrow's tensors": (GRID, pa.FixedShapeTensorArray.from_numpy_ndarray(np.array(CELLS, "float32")), CELLS),
    "sliced": (GRID, pa.concat_arrays([pa.nulls(1, LISTED), SHAPED])[1:], CELLS),
    "open": (OPEN, pa.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    "vector": (VECTOR, pa.array([[1, 2, 3]], pa.list_(pa.float64(), 3)), [[1, 2, 3]]),
}


@pytest.mark.parametrize(("signature", "column", "cells"), TENSORS.values(), ids=TENSORS)
def test_tensors_come_in_lists_of_any_kind(signature: Signature, column: pa.Array, cells: Any) -> None:
    """However lists spell a tensor, the model gets one array of shape (rows, *shape)."""
    table = pa.table({"t": column})
    bodies = [(arrow(table), ARROW), (arrow(table, stream=True), ARROW)]
    for body in bodies if "tensor" in str(column.type) else [*bodies, (parquet(table), PARQUET)]:
        batch = read(*body, signature)[0].batch
        array = batch.matrix if signature is VECTOR else batch.columns[0]
        assert (signature.inputs[0].cell.dtype, cells) == (array.dtype, array.tolist())


BAD_TENSORS: dict[str, tuple[Signature, list[Any], pa.DataType, str]] = {
    "too short": (GRID, [CELLS[0], [[1.0], [2.0, 3.0]]], LISTED, "row 2, column 't': expected 2 values, got 1"),
    "too many": (GRID, [CELLS[0], CELLS[0] + [[1.0, 1.0]]], LISTED, "row 2, column 't': expected 2 values, got 3"),
    "not nested": (GRID, [[1.0] * 3], pa.list_(pa.float32()), "row 1, column 't': expected 4 values, got 3"),
    "no list": (GRID, [1.0], pa.float32(), r"row 1, column 't': the tensor has the shape \[\]"),
    "null tensor": (GRID, [CELLS[0], None], LISTED, "row 2, column 't': a null inside"),
    "null inside": (GRID, [CELLS[0], [[1.0, None], [1.0, 1.0]]], LISTED, "row 2, column 't': a null inside"),
    "overflow": (GRID, [CELLS[0], [[1.0, 1e39]] * 2], pa.list_(pa.list_(pa.float64())), "row 2, .* out of the range"),
    "words": (GRID, [[["a", "b"]] * 2], pa.list_(pa.list_(pa.string())), "row 1, .* is not a number"),
    "ragged": (OPEN, [[1, 2], [3]], pa.list_(pa.int64()), "row 2, .* as many values as in the first row, got 1"),
    "fraction": (OPEN, [[1.0], [1.5]], pa.list_(pa.float64()), "row 2, .* 1.5 is not a whole number"),
}


@pytest.mark.parametrize(("signature", "cells", "kind", "says"), BAD_TENSORS.values(), ids=BAD_TENSORS)
def test_a_bad_tensor_is_refused_with_its_row(
    signature: Signature, cells: list[Any], kind: pa.DataType, says: str
) -> None:
    """A wrong length, a null, a leaf that does not fit: refused with its row, and in JSON too."""
    table = pa.table({"t": pa.array(cells, kind)})
    for body, fmt in ((arrow(table), ARROW), (parquet(table), PARQUET)):
        with pytest.raises(InputError, match=f"rows, {says}"):
            read(body, fmt, signature)
    with pytest.raises(InputError):
        RowDecoder(signature).rows(json.dumps(cells).encode())


def test_json_tensors_by_both_roads() -> None:
    """A tensor is a row by itself or wrapped in one, and whole numbers are floats; both roads make the same array."""
    decoder = RowDecoder(GRID)
    for body in (CELLS, [[cell] for cell in CELLS], json.loads(json.dumps(CELLS).replace(".0", ""))):
        fast, exact = decoder.rows(json.dumps(body).encode()), decoder.values(body)
        assert (CELLS, CELLS) == (fast.columns[0].tolist(), exact.columns[0].tolist())
        assert ("float32", "float32") == (fast.columns[0].dtype, exact.columns[0].dtype)


@pytest.fixture(scope="module")
def iris() -> Path:
    """The demo's model, which is up at once."""
    return Path(str(files("foretell") / "demo" / "iris"))


@pytest.fixture(scope="module")
def server(iris: Path) -> Iterator[Server]:
    with serving("-m", iris, "--max-body-mb", "1") as running:
        yield running


FLOWERS = pa.table(
    {name: [5.1, 6.2, 7.7] for name in ("sepal_length", "sepal_width", "petal_length", "petal_width")}
    | {"id": ["a", None, "c"]}
)
TEXT = b"sepal_length,sepal_width,petal_length,petal_width,id\n" + b"".join(
    b"%.1f,%.1f,%.1f,%.1f,%s\n" % (x, x, x, x, word) for x, word in ((5.1, b"a"), (6.2, b""), (7.7, b"c"))
)


def zstd(data: bytes) -> bytes:
    return packed(data, "zstd")


PACKED: dict[str, tuple[str, bytes]] = {
    "gzip": ("in.csv.gz", gzip.compress(TEXT)),
    "two members": ("in.csv.gz", gzip.compress(TEXT[:100]) + gzip.compress(TEXT[100:]) + bytes(512)),
    "zstd": ("in.csv.zst", zstd(TEXT)),
    "two frames": ("in.csv.zst", zstd(TEXT[:100]) + zstd(TEXT[100:])),
    "a name that lies": ("in.csv", gzip.compress(TEXT)),
}


def test_packed_text_in_and_out(iris: Path) -> None:
    """Packed text is read like text, from a file or a pipe, and written so that the same rows give the same bytes."""
    made = set()
    for name, body in PACKED.values():
        Path(name).write_bytes(body)
        for target in ("out.csv.gz", "out.csv.zst"):
            ran = foretell("models", "predict", "-m", iris, "-i", name, "-o", target)
            assert 0 == ran.code, ran.err
        made.add((Path("out.csv.gz").read_bytes(), Path("out.csv.zst").read_bytes()))
    ((members, framed),) = made
    piped = foretell("models", "predict", "-m", iris, stdin=PACKED["zstd"][1]).out
    assert gzip.decompress(members) == pa.input_stream(pa.BufferReader(framed), compression="zstd").read()
    assert (gzip.decompress(members).decode(), bytes(4)) == (piped, members[4:8])
    assert "id,prediction\na,2\n" == piped[: len("id,prediction\na,2\n")]


TORN: dict[str, tuple[str, bytes, str]] = {
    "gzip cut": ("in.csv.gz", gzip.compress(TEXT)[:-9], "is cut short: its gzip data does not end"),
    "gzip without sum": ("in.csv.gz", gzip.compress(TEXT)[:-4], "is cut short: its gzip data does not end"),
    "second member cut": ("in.csv.gz", gzip.compress(TEXT) * 2 + gzip.compress(TEXT)[:5], "is cut short"),
    "wrong sum": ("in.csv.gz", gzip.compress(TEXT)[:-8] + bytes(8), "is damaged"),
    "no gzip": ("in.csv.gz", TEXT, "is not packed with gzip, as its name says"),
    "other codec": ("in.csv.zst", gzip.compress(TEXT), "is not packed with zstd, as its name says"),
    "garbage after": ("in.csv.gz", gzip.compress(TEXT) + b"xyz", "is damaged"),
    "zstd cut": ("in.csv.zst", zstd(TEXT)[:-3], "is cut short: its zstd data does not end"),
    "zstd garbage": ("in.csv.zst", zstd(TEXT) + b"xyz123", "is damaged"),
    "bad cell": ("in.csv.gz", gzip.compress(TEXT + b"1,1,x,1,d\n"), "in.csv.gz, line 5, column 'petal_length'"),
}


@pytest.mark.parametrize(("name", "body", "says"), TORN.values(), ids=TORN)
def test_torn_packs_are_errors(name: str, body: bytes, says: str) -> None:
    """What is cut short is never silently short, and lines are counted in the text."""
    signature = Signature(tuple(Column(name, "double") for name in FLOWERS.column_names[:4]))
    Path(name).write_bytes(body)
    with pytest.raises(InputError) as caught, Path(name).open("rb") as raw:
        source = Source(raw, name)
        reader = formats.reader(CSV, source, RowDecoder(signature), NONE, CsvOptions())
        [reader.parse(block) for block in reader.blocks()]
    assert says in caught.value.message


def test_parquet_is_not_packed_again(iris: Path) -> None:
    """The name of a packed Parquet file is refused with what to do."""
    ran = foretell("models", "predict", "-m", iris, "-i", "rows.parquet.gz", "-o", "out.parquet.zst")
    assert (2, True) == (ran.code, "parquet is compressed inside, not as a whole" in ran.err)


def test_a_job_over_tables(iris: Path) -> None:
    """Carried columns and predictions keep their types, an error names row and column, and leaves no output."""
    pq.write_table(FLOWERS, "in.parquet")
    assert 0 == foretell("models", "predict", "-m", iris, "-i", "in.parquet", "-o", "out.arrow").code
    made = pa.ipc.open_file("out.arrow").read_all()
    assert [("id", pa.string()), ("prediction", pa.int64())] == [(field.name, field.type) for field in made.schema]
    assert FLOWERS["id"].to_pylist() == made["id"].to_pylist()
    bad = FLOWERS.set_column(2, "petal_length", pa.array(["1", "2", "three"]))
    with pa.ipc.new_file("bad.arrow", bad.schema) as writer:
        writer.write_table(bad)
    ran = foretell("models", "predict", "-m", iris, "-i", "bad.arrow", "-o", "none.parquet")
    assert (3, False) == (ran.code, Path("none.parquet").exists())
    assert "bad.arrow, row 1, column 'petal_length': \"1\" is not a number (double)" in ran.err


@pytest.mark.parametrize("target", ["out.parquet", "out.arrow", "out.arrows"])
def test_no_rows_give_a_table_without_rows(target: str, iris: Path) -> None:
    """The columns and types of an empty output are those that rows would have had."""
    pq.write_table(FLOWERS[:0], "in.parquet")
    ran = foretell("models", "predict", "-m", iris, "-i", "in.parquet", "-o", target)
    assert 0 == ran.code, ran.err
    opened = {"out.parquet": pq.read_table, "out.arrow": pa.ipc.open_file, "out.arrows": pa.ipc.open_stream}[target](
        target
    )
    assert [("id", pa.string()), ("prediction", pa.int64())] == [(f.name, f.type) for f in opened.schema]


def test_accept_chooses_how_arrow_is_written(server: Server) -> None:
    """A client says whether it wants Arrow as a file or as a stream, and q-values rank them."""
    body, kind = parquet(FLOWERS), "application/x-parquet"
    stream = server.post(body, kind, Accept="text/csv;q=0.1, application/vnd.apache.arrow.stream")
    file = server.post(body, kind, Accept="application/vnd.apache.arrow.file")
    assert "application/vnd.apache.arrow.stream" == stream.headers["content-type"]
    assert (200, 200) == (stream.status, file.status)
    assert pa.ipc.open_stream(stream.body).read_all() == pa.ipc.open_file(file.body).read_all()
    assert "application/vnd.apache.parquet" in server.post(b"", "text/html").json()["message"]


ROWS = json.dumps({"data": [[5.1, 5.1, 5.1, 5.1]]}).encode()
ENCODED: dict[str, tuple[bytes, str, int, str]] = {
    "gzip": (gzip.compress(ROWS), "gzip", 200, "2"),
    "zstd": (zstd(ROWS), "zstd", 200, "2"),
    "identity": (ROWS, "identity", 200, "2"),
    "brotli": (ROWS, "br", 415, "Send gzip, zstd, deflate or none"),
    "not packed": (ROWS, "gzip", 400, "body is damaged"),
    "cut": (gzip.compress(ROWS)[:-9], "gzip", 400, "body is cut short"),
    "bomb": (gzip.compress(bytes(64 << 20)), "gzip", 413, "the body is over 1 MiB"),
    "zstd bomb": (zstd(bytes(64 << 20)), "zstd", 413, "the body is over 1 MiB"),
}


@pytest.mark.parametrize(("body", "encoding", "status", "says"), ENCODED.values(), ids=ENCODED)
def test_content_encoding(body: bytes, encoding: str, status: int, says: str, server: Server) -> None:
    """A packed body is unpacked, up to the limit of any body; other encodings are refused by name."""
    reply = server.post(body, **{"Content-Encoding": encoding})
    assert (status, True) == (reply.status, says in reply.body.decode())


def test_a_bomb_in_a_body_is_refused(server: Server) -> None:
    """A small table that unpacks to far more than a body may be is refused, and the server goes on."""
    rows = 2_000_000
    flowers = pa.table({name: np.zeros(rows) for name in FLOWERS.column_names[:4]})
    for body, kind in (
        (parquet(flowers, compression="zstd"), "application/vnd.apache.parquet"),
        (arrow(flowers, compression="zstd"), "application/vnd.apache.arrow.file"),
    ):
        assert len(body) < 1 << 20
        assert (413, "REQUEST_LIMIT_EXCEEDED") == _refusal(server.post(body, kind))
    assert 200 == server.post(ROWS).status


def _refusal(reply: Any) -> tuple[int, str]:
    return reply.status, reply.json()["error_code"]


PEAK = """
import re, sys
from pathlib import Path
from foretell.cli.main import main
try:
    main()
finally:
    print("peak", int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) >> 10, file=sys.stderr)
"""


@pytest.mark.parametrize("make", [parquet, arrow], ids=["parquet", "arrow"])
def test_a_huge_input_takes_bounded_memory(make: Callable[..., bytes], iris: Path) -> None:
    """Of one row group of 200 MB no more is in memory than some batches, and the output has every row."""
    rows = 800_000
    columns = {name: np.round(np.linspace(4, 8, rows), 1) for name in FLOWERS.column_names[:4]}
    table = pa.table({**columns, **{f"more {at}": np.arange(rows, dtype="float64") for at in range(28)}})
    options = {"row_group_size": rows} if make is parquet else {"compression": "zstd"}
    Path("in.parquet").write_bytes(make(table, **options)) if make is parquet else _batches("in.parquet", table)
    del table
    command = [sys.executable, "-c", PEAK, "models", "predict", "-m", str(iris), "--keep", "none", "-o", "out.parquet"]
    pq.write_table(FLOWERS, "few.parquet")
    kind = "parquet" if make is parquet else "arrow"
    peaks = []
    for ends in (["-i", "few.parquet"], ["-i", "in.parquet", "-t", kind]):
        ran = subprocess.run([*command, *ends], capture_output=True, text=True, check=False)
        assert 0 == ran.returncode, ran.stderr
        peaks.append(int(ran.stderr.rpartition("peak ")[2]))
    assert rows == pq.ParquetFile("out.parquet").metadata.num_rows
    assert peaks[1] - peaks[0] < 160


def _batches(path: str, table: pa.Table) -> None:
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table, 50_000)


def test_python_takes_tensors_of_every_kind(models: Path) -> None:
    """numpy arrays and frames with lists or arrays in their cells give the same answers."""
    import pandas as pd

    opened = library.load(str(models / "image"))
    stored = np.array(json.loads((models / "image.json").read_text())["rows"], "float32")[:, 0]
    expected = opened.predict(stored).tolist()
    lists = [image.tolist() for image in stored]
    assert expected == opened.predict(stored.astype("float64")).tolist()
    assert expected == opened.predict(list(stored)).tolist()
    assert expected == opened.predict(pd.DataFrame({"image": list(stored)})).to_numpy().tolist()
    assert expected == opened.predict(pd.DataFrame({"image": lists})).to_numpy().tolist()
    series = pl.Series("image", lists, pl.Array(pl.Float32, (8, 8)))
    assert expected == [list(row) for row in opened.predict(pl.DataFrame([series])).rows()]
    with pytest.raises(InputError, match=r"row 0, .* the shape \[8, 7\], expected \[8, 8\]"):
        opened.predict(stored[:, :, :7])
