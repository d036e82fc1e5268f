"""The server's page: what the model takes, a request to try, its curl line, and when to use which way."""

import json
import shlex
from html import escape
from string import Template
from urllib.parse import quote

from foretell.cells import Column
from foretell.config import WHEN
from foretell.predictor import Predictor
from foretell.serve.pages import html

_MAX_LINE = 8192


def example(predictor: Predictor) -> str:
    """A request body that fits the model."""
    return json.dumps({"data": predictor.example_rows()})


def curl(predictor: Predictor, address: str, path: str = "/invocations") -> str:
    """The example request as a line for a shell. address: such as http://localhost:1234. A body too large for a line,
    as an image's is, stands for itself as a file."""
    body = shlex.quote(example(predictor))
    if len(body) > _MAX_LINE:
        body = "@body.json"
    return f"curl -X POST -H 'Content-Type: application/json' -d {body} {address}{quote(path)}"


def page(predictor: Predictor, address: str) -> str:
    """The page, as HTML."""
    resolved, signature = predictor.resolved, predictor.signature
    about = f"{resolved.uri} · {predictor.engine.name}"
    if resolved.version is not None:
        about = f"version {resolved.version} · {about}"
    params = ", ".join(f"{p.name}: {p.type} = {json.dumps(p.default, default=str)}" for p in signature.params)
    return Template(html("console").text).substitute(
        name=escape(resolved.name),
        about=escape(about),
        example=escape(example(predictor)),
        curl=escape(curl(predictor, address)),
        columns="".join(map(_row, signature.names, signature.inputs)),
        params=f"<p>params: <code>{escape(params)}</code></p>" if params else "",
        when="".join(f"<li>{_emphasised(line)}</li>" for line in WHEN),
    )


def _row(name: str, column: Column) -> str:
    shape = f" {list(column.shape)}" if column.shape else ""
    note = "" if column.required else "optional"
    return f"<tr><td>{escape(name)}</td><td>{escape(column.type + shape)}</td><td>{note}</td></tr>"


def _emphasised(line: str) -> str:
    head, colon, rest = line.partition(":")
    return f"<b>{escape(head)}</b>{colon}{escape(rest)}" if colon and " " not in head else escape(line)
