"""What a stored model's input example tells: a signature where the model has none, and a row to warm up with."""

from foretell.cells import Column
from foretell.errors import InputError
from foretell.models.mlmodel import StoredModel
from foretell.rows import RowDecoder
from foretell.signature import Signature


def signature_of(stored: StoredModel) -> Signature | None:
    """A signature from the input example: every number a double, as nothing says that whole ones stay whole."""
    frame = (stored.example or {}).get("dataframe_split")
    if not isinstance(frame, dict) or not isinstance(frame.get("data"), list) or not frame["data"]:
        return None
    rows = frame["data"]
    kinds = [_kind([row[at] for row in rows]) for at in range(len(rows[0]))]
    names = frame.get("columns") or [None] * len(kinds)
    return Signature(tuple(Column(n if n is None else str(n), k) for n, k in zip(names, kinds, strict=True)))


def _kind(values: list[object]) -> str:
    present = [value for value in values if value is not None]
    if any(isinstance(value, str) for value in present):
        return "string"
    return "boolean" if present and all(isinstance(value, bool) for value in present) else "double"


def row_of(stored: StoredModel, decoder: RowDecoder) -> list[list[object]] | None:
    """The input example's first row, where it fits the signature."""
    body = stored.example or {}
    frame = body.get("dataframe_split")
    try:
        if isinstance(frame, dict):
            names = frame.get("columns") or decoder.signature.names
            row = dict(zip(map(str, names), frame["data"][0], strict=True))
            rows: list[list[object]] = [[row[name] for name in decoder.signature.names]]
        elif isinstance(body.get("inputs"), list):
            rows = [list(body["inputs"][0])]
        else:
            return None
        decoder.values(rows)
    except (InputError, KeyError, IndexError, TypeError, ValueError):
        return None
    return rows
