"""Arrow IPC that grows batch by batch, as a stream or as a file, whose footer says where each batch stands.

Source of the layout: https://arrow.apache.org/docs/format/Columnar.html and its File.fbs.
"""

import struct

import pyarrow as pa

from foretell.tables.arrow_ipc import batch_places

_MAGIC = b"ARROW1"
_END = b"\xff\xff\xff\xff\0\0\0\0"
_BLOCK = struct.Struct("<qi4xq")


class ArrowStream:
    """A stream: the schema, batches, an end."""

    def opening(self, schema: pa.Schema) -> bytes:
        message: bytes = schema.serialize().to_pybytes()
        return message

    def group(self, table: pa.Table, at: int) -> tuple[bytes, bytes]:
        """The mark holds the batch's place and the sizes of its metadata and body."""
        (batch,) = table.to_batches()
        message: bytes = batch.serialize().to_pybytes()
        metadata = 8 + int.from_bytes(message[4:8], "little")
        return message, _BLOCK.pack(at, metadata, len(message) - metadata)

    def closing(self, schema: pa.Schema, marks: list[bytes], at: int) -> bytes:
        return _END


class ArrowFile(ArrowStream):
    """A file: a stream between marks, and a footer."""

    def opening(self, schema: pa.Schema) -> bytes:
        return _MAGIC + bytes(2) + super().opening(schema)

    def closing(self, schema: pa.Schema, marks: list[bytes], at: int) -> bytes:
        """Arrow writes the footer of as many empty batches, and what it says of them is written over."""
        out = pa.BufferOutputStream()
        with pa.ipc.new_file(out, schema) as writer:
            for _ in marks:
                writer.write_batch(
                    pa.RecordBatch.from_arrays([pa.nulls(0, kind) for kind in schema.types], schema=schema)
                )
        made: bytes = out.getvalue().to_pybytes()
        size = int.from_bytes(made[-10:-6], "little")
        footer = bytearray(made[-10 - size : -10])
        for place, mark in zip(batch_places(bytes(footer)), marks, strict=True):
            footer[place : place + len(mark)] = mark
        return _END + bytes(footer) + made[-10:]
