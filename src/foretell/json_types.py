"""A signature's rows as msgspec's types, and what those decoders read over: keys that come twice, shared lines."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from foretell.cells import Column
from foretell.signature import Signature


def json_type(column: Column) -> Any:
    """The msgspec type of one cell."""
    cell = column.cell
    kinds: dict[str, Any] = {"bool": bool, "float": float, "text": str, "datetime": str, "binary": str}
    kind = kinds.get(cell.kind) or Annotated[int, Meta(ge=max(cell.low, -(2**63)), le=min(cell.high, 2**63 - 1))]
    if column.shape:
        for size in reversed(column.shape):
            kind = Annotated[list[kind], Meta(min_length=size, max_length=size)] if size >= 0 else list[kind]  # type: ignore[valid-type]
        return kind
    return kind | None if column.nullable else kind


def record_type(signature: Signature) -> type[msgspec.Struct] | None:
    """A struct whose fields are the columns; None where they have no names, or some that msgspec cannot have."""
    if not signature.named or not all(column.required for column in signature.inputs):
        return None
    fields = [(f"c{at}", json_type(column)) for at, column in enumerate(signature.inputs)]
    try:
        return msgspec.defstruct("Row", fields, rename={f"c{at}": name for at, name in enumerate(signature.names)})
    except ValueError:
        return None


RAW_RECORD = msgspec.json.Decoder(dict[str, msgspec.Raw])
RAW_RECORDS = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


def colons_of(record: dict[str, msgspec.Raw]) -> int:
    """How many colons an object has in which no key comes twice."""
    return len(record) + sum(key.count(":") + bytes(value).count(b":") for key, value in record.items())


def has_colons(records: list[dict[str, msgspec.Raw]], colons: int) -> bool:
    """Whether so many colons are theirs. As many as keys can be nothing but the keys'."""
    return colons == sum(map(len, records)) or colons == sum(map(colons_of, records))


def object_lines(block: bytes) -> int:
    """How many lines hold something, if each begins and ends like an object and all is UTF-8; else 0.

    With as many documents as that, none shares its line or goes on in the next one; msgspec does not insist on it.
    """
    try:
        block.decode()
    except UnicodeDecodeError:
        return 0
    lines = [line.strip() for line in block.split(b"\n")]
    lines = [line for line in lines if line]
    return len(lines) if all(line[:1] == b"{" and line[-1:] == b"}" for line in lines) else 0
