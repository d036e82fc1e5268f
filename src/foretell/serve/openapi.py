"""What a server answers to, as an OpenAPI document: every route, form, header and error, from the models' signatures.

https://spec.openapis.org/oas/v3.1.1
"""

import csv
import io
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from foretell import __version__
from foretell.batch import Answers
from foretell.serve import protocols
from foretell.serve.protocols import Portion, Shared
from foretell.serve.schemas import Schema, Schemas
from foretell.signature import Signature
from foretell.tables.formats import ARROW, ARROW_STREAM, CSV, JSON, JSONL, PARQUET, SPELLINGS, Format

_PROBES = {
    "/ping": "Whether requests are welcome",
    "/health": "Whether requests are welcome",
    "/readyz": "Whether requests are welcome",
    "/livez": "Whether the process need not be replaced",
}
_REFUSALS = {
    "400": "The request does not fit; the message says where, as in $.data[0][2].",
    "408": "The request did not arrive in time.",
    "404": "There is no such model.",
    "409": "It could not be done, and what was served is served.",
    "413": "The body is too large, also when it is unpacked.",
    "414": "The target is too long.",
    "415": "The content type or encoding is none that is read.",
    "431": "The head is too large.",
    "500": "The model failed on a row.",
    "503": "The server has more to do than it can, or is stopping.",
    "504": "No answer came within the time that was given.",
}
_OF_PLAIN_ROUTES = ("400", "408", "413", "414", "431")
_ABOUT_PACKING = "It may be packed, said by Content-Encoding: gzip, zstd or deflate."
_BINARY = (PARQUET, ARROW, ARROW_STREAM)


@dataclass(frozen=True)
class Described:
    """A model that is served. path: where its requests are sent. ready: where its health is asked, if it has a place of
    its own. example: a row of JSON values. samples: what it answered to that, without and with probabilities, as far
    as it did. proba: whether it gives those."""

    name: str
    version: str
    signature: Signature
    example: list[list[Any]]
    samples: tuple[Answers, ...] = ()
    proba: bool = False
    path: str = "/invocations"
    ready: str = ""


def document(models: list[Described], *, keys: bool, named: bool, admin: tuple[str, ...] = ()) -> dict[str, Any]:
    """The document. keys: whether requests need one. named: whether the server must be called by its name. admin: the
    routes that change the server, where they are served."""
    first = models[0]
    paths: dict[str, Any] = {}
    schemas: dict[str, Schema] = {"Error": _ERROR}
    refusals = _gate(keys=keys, named=named)
    for number, model in enumerate(models):
        prefix = f"{re.sub(r'[^A-Za-z0-9_-]', '_', model.name)[:40]}.{number}." if len(models) > 1 else ""
        made = Schemas(model.signature, prefix)
        paths[model.path] = {"post": _invocations(model, made, number, refusals)}
        if model.ready:
            paths[model.ready] = {"get": _probe(f"Whether requests to {model.name} are welcome", f"ready_{number}")}
        schemas |= made.components
    for path, about in _PROBES.items():
        paths[path] = {"get": _probe(about, path[1:])}
    for path, (about, kind, schema) in _LOOKS.items():
        paths[path] = {"get": _look(about, path, kind, schema, refusals)}
    for path in admin:
        paths[path] = {"post": _change(path, models, refusals)}
    return {
        "openapi": "3.1.0",
        "info": {"title": first.name, "version": first.version, "description": _about(models)},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "headers": _HEADERS | _EXTRA_HEADERS,
            "responses": {status: _error(status, about) for status, about in {**_REFUSALS, **refusals}.items()},
            **({"securitySchemes": _SECURITY} if keys else {}),
        },
        **({"security": [{"bearer": []}, {"key": []}]} if keys else {}),
    }


_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_ERROR: Schema = {
    "type": "object",
    "description": "What is wrong, where, and what to do.",
    "properties": {
        "error_code": {"type": "string", "examples": ["INVALID_PARAMETER_VALUE"]},
        "message": {"type": "string"},
        "stack_trace": {"type": "string", "description": "With --debug only."},
    },
    "required": ["error_code", "message"],
}
_LOOKS: dict[str, tuple[str, str, Schema]] = {
    "/version": ("The version of foretell, and those of the models", "text/plain", {"type": "string"}),
    "/metrics": ("Counts for Prometheus; OpenMetrics too", "text/plain", {"type": "string"}),
    "/openapi.json": ("This document", "application/json", {"type": "object"}),
    "/docs": ("This document as a page", "text/html", {"type": "string"}),
    "/": ("A page to try the model on", "text/html", {"type": "string"}),
}


def _about(models: list[Described]) -> str:
    served = ", ".join(f"{model.name} {model.version}" for model in models)
    return f"Predictions by {served}, served by foretell {__version__}."


def _gate(*, keys: bool, named: bool) -> dict[str, str]:
    """What a request may be refused with before it is read."""
    found = {"403": "Another site's page, a key of another role, or no certificate where one is needed."}
    if keys:
        found["401"] = "No key, or one that is not known."
    if named:
        found["421"] = "The server is not called by this name."
    return found


def _invocations(model: Described, schemas: Schemas, number: int, refusals: dict[str, str]) -> dict[str, Any]:
    answer = {"description": "The predictions.", "headers": _headers(), "content": _answers(model, schemas)}
    return {
        "operationId": f"predict_{number}" if number else "predict",
        "summary": f"Predict with {model.name}",
        "tags": [model.name],
        "parameters": [*([_PROBA] if model.proba else []), _REQUEST_ID, _PATIENCE],
        "requestBody": {"required": True, "description": _ABOUT_PACKING, "content": _requests(model, schemas)},
        "responses": {"200": answer, **_errors([*(set(_REFUSALS) - {"404", "409"}), *refusals])},
    }


def _requests(model: Described, schemas: Schemas) -> dict[str, Any]:
    """The media types that are read, each with an example where it is text."""
    example, names = model.example, model.signature.names
    record = dict(zip(names, example[0], strict=True)) if model.signature.named else example[0]
    bodies: dict[Format, dict[str, Any]] = {
        JSON: {"schema": schemas.body(), "examples": _forms(model)},
        JSONL: {"schema": {"type": "string"}, "example": json.dumps(record) + "\n"},
    }
    if model.signature.tabular:
        bodies[CSV] = {"schema": {"type": "string"}, "example": _csv([names, *example])}
    bodies |= {fmt: {} for fmt in _BINARY}
    order = (JSON, CSV, JSONL, *_BINARY)
    return {kind: bodies[fmt] for fmt in order if fmt in bodies for kind in fmt.content_types}


def _forms(model: Described) -> dict[str, Any]:
    """A request in each form."""
    rows, names = model.example, model.signature.names
    examples: dict[str, Any] = {"data": {"data": rows}, "instances": {"instances": rows}, "inputs": {"inputs": rows}}
    if model.signature.named:
        records = [dict(zip(names, row, strict=True)) for row in rows]
        examples["dataframe_split"] = {"dataframe_split": {"columns": names, "data": rows}}
        examples["dataframe_records"] = {"dataframe_records": records}
    if model.signature.params:
        params = {param.name: param.default for param in model.signature.params}
        examples["params"] = {"data": rows, "params": params}
    return {name: {"value": value} for name, value in examples.items()}


def _csv(table: Iterable[list[Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([_spelled(cell) for cell in row] for row in table)
    return out.getvalue()


def _spelled(cell: Any) -> Any:
    return str(cell).lower() if isinstance(cell, bool) else cell


def _answers(model: Described, schemas: Schemas) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for fmt in SPELLINGS:
        kind = fmt.content_types[0]
        content[kind] = {} if fmt in _BINARY else {"schema": {"type": "string"}}
    content[JSON.content_types[0]] = {"schema": schemas.predictions(list(model.samples))}
    if model.samples:
        answers = model.samples[0]
        portion = Portion(Shared(answers), 0, len(answers))
        content[JSON.content_types[0]]["example"] = json.loads(protocols.encode(portion, JSON)[1])
        for fmt in (CSV, JSONL) if all(output.values.ndim < 3 for output in answers.outputs) else ():
            content[fmt.content_types[0]]["example"] = protocols.encode(portion, fmt)[1].decode()
    return {JSON.content_types[0]: content.pop(JSON.content_types[0]), **content}


def _probe(about: str, name: str) -> dict[str, Any]:
    """Health, which needs no key. Its body is a line break, as MLflow's is."""
    return {
        "operationId": name,
        "summary": about,
        "tags": ["health"],
        "security": [],
        "responses": {
            "200": {"description": "Yes.", "headers": _headers(), "content": {"application/json": {}}},
            **_errors([*_OF_PLAIN_ROUTES, "503"]),
        },
    }


def _look(about: str, path: str, kind: str, schema: Schema, refusals: dict[str, str]) -> dict[str, Any]:
    return {
        "operationId": path.strip("/").replace(".", "_") or "page",
        "summary": about,
        "tags": ["server"],
        "responses": {
            "200": {"description": f"{about}.", "headers": _headers(), "content": {kind: {"schema": schema}}},
            **_errors([*_OF_PLAIN_ROUTES, *refusals]),
        },
    }


def _change(path: str, models: list[Described], refusals: dict[str, str]) -> dict[str, Any]:
    """A route that changes which version is served."""
    verb = path.rpartition("/")[2]
    told: Schema = {"type": "object", "required": ["models"], "properties": {"models": {"type": "object"}}}
    which = {"name": "model", "in": "query", "schema": {"enum": sorted({model.name for model in models})}}
    answer = {"description": "It is done.", "headers": _headers(), "content": {"application/json": {"schema": told}}}
    return {
        "operationId": verb,
        "summary": {"reload": "Serve what the registry has now", "rollback": "Serve the version before"}.get(
            verb, verb
        ),
        "tags": ["administration"],
        "parameters": [which],
        "responses": {"200": answer, **_errors([*_OF_PLAIN_ROUTES, "404", "409", "503", *refusals])},
    }


def _header(about: str, schema: Schema) -> dict[str, Any]:
    return {"description": about, "required": True, "schema": schema}


_HEADERS = {
    "X-Model-Version": _header("The version that answered.", {"type": "string"}),
    "X-Request-Id": _header("The request's own, or one that no other has.", {"type": "string"}),
}
_EXTRA_HEADERS = {
    "WWW-Authenticate": _header("How to show a key.", {"type": "string"}),
    "Retry-After": _header("Seconds after which to ask again.", {"type": "integer", "minimum": 0}),
}
_EXTRA = {"401": ["WWW-Authenticate"], "503": ["Retry-After"]}
_PROBA = {
    "name": "proba",
    "in": "query",
    "description": "Class probabilities too.",
    "schema": {"type": "boolean", "default": False},
}
_REQUEST_ID = {
    "name": "X-Request-Id",
    "in": "header",
    "description": "Comes back with the answer, and stands in logs. Another text than this is passed over.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
}
_PATIENCE = {
    "name": "X-Request-Timeout-Ms",
    "in": "header",
    "description": "Milliseconds after which the answer is of no use; the server's own limit, if that is less.",
    "schema": {"type": "integer", "minimum": 1, "maximum": 99_999_999_999},
}


def _headers(*more: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (*_HEADERS, *more)}


def _error(status: str, about: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {"description": about, "headers": _headers(*_EXTRA.get(status, ())), "content": content}


def _errors(statuses: Iterable[str]) -> dict[str, Any]:
    return {status: {"$ref": f"#/components/responses/{status}"} for status in sorted(statuses)}
