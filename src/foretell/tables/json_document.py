"""One JSON document ⇄ rows: `data`, MLflow's four forms, and `params`. For request bodies and .json files.

Source of the forms: https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally (3.17). Beyond MLflow's: `data`,
and plain rows under `instances` and `inputs` also where the columns have names.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from foretell.batch import Answers, Batch
from foretell.errors import CellWrong, FormWrong
from foretell.rows import RowDecoder, place_in_json
from foretell.tables.kept import Keep, Kept, Rows

FORMS = ("data", "dataframe_split", "dataframe_records", "instances", "inputs")


class _Document(msgspec.Struct):
    data: msgspec.Raw | UnsetType = UNSET
    dataframe_split: msgspec.Raw | UnsetType = UNSET
    dataframe_records: msgspec.Raw | UnsetType = UNSET
    instances: msgspec.Raw | UnsetType = UNSET
    inputs: msgspec.Raw | UnsetType = UNSET
    params: msgspec.Raw | UnsetType = UNSET


class _Split(msgspec.Struct):
    data: msgspec.Raw
    columns: list[str] | None = None
    index: msgspec.Raw | UnsetType = UNSET

    @property
    def colons(self) -> int:
        """How many it has where no key comes twice; fewer where it holds other keys too."""
        names = 0 if self.columns is None else 1 + sum(name.count(":") for name in self.columns)
        index = 0 if self.index is UNSET else 1 + bytes(self.index).count(b":")
        return 1 + bytes(self.data).count(b":") + names + index


@dataclass(frozen=True)
class Document:
    """What a document says: its rows, its params, and under which form the rows came."""

    rows: Rows
    params: dict[str, Any]
    form: str


_DOCUMENT = msgspec.json.Decoder(_Document)
_SPLIT = msgspec.json.Decoder(_Split)
_ENCODER = msgspec.json.Encoder()
_RECORDS = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_COLUMNS = msgspec.json.Decoder(dict[str, list[msgspec.Raw]])


def read(body: bytes, decoder: RowDecoder, keep: Keep) -> Document:
    """Reads a document. Raises InputError, with the JSON path of the first bad cell."""
    if not body.strip():
        raise FormWrong("the document is empty", _example(decoder))
    document = _envelope(body, decoder)
    given = [form for form in FORMS if getattr(document, form) is not UNSET]
    if len(given) != 1:
        has = f"it has {' and '.join(given)}" if given else "it has none of them"
        raise FormWrong(f"the document needs exactly one of {', '.join(FORMS)}; {has}", _example(decoder))
    form = given[0]
    raw = getattr(document, form)
    try:
        batch = _READERS[form](raw, decoder)
    except CellWrong as error:
        raise _placed(error, form, raw, decoder) from error
    except FormWrong as error:
        raise FormWrong(f"$.{form}: {error.message}", error.hint or _example(decoder)) from error
    return Document(Rows(batch, _kept(form, raw, decoder, keep)), _params(document.params, decoder), form)


def write(answers: Answers) -> bytes:
    """MLflow's answer, {"predictions": […]}."""
    return b'{"predictions": ' + _ENCODER.encode(answers.to_list()) + b"}"


class DocumentSpelling:
    """A {"predictions": […]} that grows: predictions only, in the order of the rows."""

    between = b","

    def lines(self, kept: Kept, answers: Answers, spread: list[int | None] | None) -> tuple[list[str], bytes]:
        rows = answers.to_list()
        if spread is not None:
            rows = [None if row is None else rows[row] for row in spread]
        return [], _ENCODER.encode(rows)[1:-1]

    def opening(self, names: list[str]) -> bytes:
        return b'{"predictions": ['

    def closing(self) -> bytes:
        return b"]}\n"


def place(form: str, raw: bytes, error: CellWrong, decoder: RowDecoder) -> CellWrong:
    """The error with the path of its row or cell in a document."""
    named = raw.lstrip()[1:].lstrip()[:1] == b"{"
    path = "$.dataframe_split.data" if form == "dataframe_split" else f"$.{form}"
    return place_in_json(path, error, decoder.signature, named)


def _envelope(body: bytes, decoder: RowDecoder) -> _Document:
    """The document's parts, undecoded. Whatever msgspec refuses, or may have read over, is looked at strictly."""
    try:
        document = _DOCUMENT.decode(body)
        parts = [part for name in (*FORMS, "params") if (part := getattr(document, name)) is not UNSET]
        body.decode()
        if body.count(b":") == len(parts) + sum(bytes(part).count(b":") for part in parts):
            return document
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    values = decoder.exact(body)
    if not isinstance(values, dict):
        kind = "an array" if isinstance(values, list) else "a bare value"
        raise FormWrong(f"the document is {kind}, and must be an object", _example(decoder))
    return _Document(**{name: _raw(values[name]) for name in (*FORMS, "params") if name in values})


def _raw(value: Any) -> msgspec.Raw:
    """JSON again; half a surrogate pair, which msgspec refuses as a whole, is left for its cell to be refused."""
    return msgspec.Raw(json.dumps(value).encode())


def _split(raw: msgspec.Raw, decoder: RowDecoder) -> Batch:
    try:
        split = _SPLIT.decode(raw)
    except msgspec.ValidationError as error:
        raise FormWrong(f"it must hold data, and may hold columns and index: {error}") from error
    except msgspec.DecodeError:
        values = decoder.exact(bytes(raw))
        split = _Split(_raw(values.get("data")), values.get("columns"))
    if bytes(raw).count(b":") != split.colons:
        decoder.exact(bytes(raw))
    if split.columns is None:
        return decoder.rows(split.data)
    return decoder.ordered(split.data, split.columns)


def _rows_or_columns(raw: msgspec.Raw, decoder: RowDecoder) -> Batch:
    data = bytes(raw)
    return decoder.columns(data) if data.lstrip()[:1] == b"{" else decoder.rows(data)


def _records(raw: msgspec.Raw, decoder: RowDecoder) -> Batch:
    data = bytes(raw)
    if data.lstrip()[:1] != b"[" or data.lstrip()[1:].lstrip()[:1] not in (b"{", b"]"):
        raise FormWrong("expected an array of objects, one a row")
    return decoder.rows(data)


def _rows(raw: msgspec.Raw, decoder: RowDecoder) -> Batch:
    return decoder.rows(raw)


_READERS: dict[str, Callable[[msgspec.Raw, RowDecoder], Batch]] = {
    "data": _rows,
    "dataframe_split": _split,
    "dataframe_records": _records,
    "instances": _rows_or_columns,
    "inputs": _rows_or_columns,
}


def _placed(error: CellWrong, form: str, raw: msgspec.Raw, decoder: RowDecoder) -> CellWrong:
    data = bytes(raw)
    if form in ("instances", "inputs") and data.lstrip()[:1] == b"{" and error.column is not None:
        name = decoder.signature.names[error.column]
        return error.at(f"$.{form}.{name}[{error.row}]" if name.isidentifier() else f'$.{form}["{name}"][{error.row}]')
    if form == "dataframe_split" and error.column is not None:
        names = _SPLIT.decode(data).columns or decoder.signature.names
        name = decoder.signature.names[error.column]
        at = names.index(name) if name in names else error.column
        return error.at(f"$.dataframe_split.data[{error.row}][{at}] ({name})")
    return place(form, data, error, decoder)


def _params(raw: msgspec.Raw | UnsetType, decoder: RowDecoder) -> dict[str, Any]:
    if raw is UNSET:
        return {}
    values = decoder.exact(bytes(raw))
    if values is not None and not isinstance(values, dict):
        raise FormWrong("$.params: expected an object")
    return values or {}


def _kept(form: str, raw: msgspec.Raw, decoder: RowDecoder, keep: Keep) -> Kept:
    """Columns of records and of a split frame that the model does not take."""
    if keep.names == ():
        return Kept()
    records = _as_records(form, raw)
    if not records:
        return Kept()
    names = keep.choose(list(records[0]), decoder.signature) if decoder.signature.named else []
    if keep.names is None:
        taken = set(decoder.signature.names)
        return Kept(names, [], [{name: cell for name, cell in row.items() if name not in taken} for row in records])
    return Kept(names, [], [{name: row[name] for name in names if name in row} for row in records])


def _as_records(form: str, raw: msgspec.Raw) -> list[dict[str, msgspec.Raw]]:
    try:
        if bytes(raw).lstrip()[:1] == b"{" and form != "dataframe_split":
            columns = _COLUMNS.decode(raw)
            return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        if form != "dataframe_split":
            return _RECORDS.decode(raw)
        split = _SPLIT.decode(raw)
        rows = msgspec.json.decode(split.data, type=list[list[msgspec.Raw]])
        return [dict(zip(split.columns or [], row, strict=False)) for row in rows]
    except (msgspec.DecodeError, ValueError):
        return []


def _example(decoder: RowDecoder) -> str:
    return f"For example: {decoder.signature.shown_example()}"
