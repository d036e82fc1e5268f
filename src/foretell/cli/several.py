"""Which models a server serves: by -m, repeated and with names, and by a file, each of whose mistakes has its place."""

import re
import tomllib
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from foretell.cli.main import Decorated, option
from foretell.cli.opening import casts
from foretell.config import ENGINES
from foretell.errors import ForetellError, UsageError
from foretell.registry.uri import needs_registry
from foretell.serve.wanted import NAME, Wanted, name_of

_EXAMPLE = '[[models]]\\nname = "churn"\\nuri = "models:/churn/Production"'


def several_options(function: Decorated) -> Decorated:
    """Which models, and as what their columns are read."""
    for one in (
        option("registry"),
        option("schema"),
        option("shadow", metavar="URI"),
        click.option(
            "--cast",
            multiple=True,
            metavar="NAME=TYPE",
            help="Read a column as another type, such as age=double. Repeatable.",
        ),
        option("config", type=click.Path(path_type=str)),
        click.option(
            "-m",
            "--model-uri",
            multiple=True,
            metavar="[NAME=]URI",
            help="models:/NAME/STAGE, models:/NAME/3, a folder or a model file. Repeatable: the first is at "
            "/invocations, each at /models/NAME/invocations.",
        ),
    ):
        function = one(function)
    return function


def wanted_models(given: dict[str, Any]) -> dict[str, Wanted]:
    """The models that the options name, by name, in order. Raises UsageError."""
    shared = {name: given[name] for name in ("registry", "engine", "trust", "follow")}
    models = _read(Path(given["config"]), shared) if given["config"] else []
    given_uris = given["model_uri"]
    # In the environment of a model, its very version is named behind what was asked for.
    pinned = given_uris[-1] if given["digest"] else ""
    for said in given_uris[:1] if pinned else given_uris:
        name, uri = _named(said)
        models.append(
            Wanted(name or name_of(uri), pinned or uri, schema=given["schema"], cast=casts(given["cast"]), **shared)
        )
        models[-1] = replace(models[-1], shadow=given["shadow"] or "")
    if not models:
        raise UsageError("Missing option '-m' / '--model-uri'.", "See: foretell models serve --help")
    if len(models) > 1 and (given["schema"] or given["cast"] or given["shadow"]):
        raise UsageError(
            "--schema, --cast and --shadow are about one model", "Several have theirs in a file: --config FILE"
        )
    found: dict[str, Wanted] = {}
    for one in models:
        if (other := found.get(one.name)) is not None:
            raise UsageError(
                f"two models would be called {one.name!r}: {other.uri} and {one.uri}", f"Name one: -m NAME={one.uri}"
            )
        found[one.name] = one
    return found


def _named(said: str) -> tuple[str, str]:
    """(name or "", uri) of -m's NAME=URI, or of a uri alone."""
    name, equals, uri = said.partition("=")
    return (name, uri) if equals and uri and NAME.fullmatch(name) and not Path(said).exists() else ("", said)


def _read(path: Path, shared: dict[str, Any]) -> list[Wanted]:
    """The file's models, the default first. Raises UsageError with every mistake in it."""
    try:
        text = path.read_text("utf-8")
        stored = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: {error}", f"It is TOML, such as: {_EXAMPLE}") from error
    reading = _Reading(path, text)
    models = reading.models(stored, shared)
    if reading.wrong:
        first, *rest = reading.wrong
        wrong = UsageError(first, f"A model takes {', '.join(_KEYS)}")
        wrong.details = tuple(rest)
        raise wrong
    return models


class _Reading:
    """A file as it is read. wrong: its mistakes, a line each."""

    def __init__(self, path: Path, text: str) -> None:
        self.wrong: list[str] = []
        self._path = path
        self._lines = text.splitlines()
        self._tables = [at for at, line in enumerate(self._lines) if re.match(r"\s*\[\[\s*models\s*\]\]", line)]

    def models(self, stored: dict[str, Any], shared: dict[str, Any]) -> list[Wanted]:
        for key in stored:
            if key not in ("models", "default"):
                self._say(self._line(key, 0), f"{key}: no such setting{_near(key, ('models', 'default'))}")
        tables, default = stored.get("models"), stored.get("default")
        if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
            self._say(self._line("models", 0), f"no models: expected {_EXAMPLE}")
            return []
        found = [self._model(at, table, shared) for at, table in enumerate(tables)]
        models = [model for model in found if model is not None]
        for at, model in enumerate(models):
            if model.name in [other.name for other in models[:at]]:
                self._say(self._line("name", self._begin(at)), f"name: there are two models {model.name!r}")
        if default is None:
            return models
        if default not in [table.get("name") for table in tables]:
            self._say(self._line("default", 0), f"default: there is no model {default!r} in this file")
        return sorted(models, key=lambda model: model.name != default)

    def _model(self, at: int, table: dict[str, Any], shared: dict[str, Any]) -> Wanted | None:
        begin = self._begin(at)
        read: dict[str, Any] = {}
        for key, value in table.items():
            line = self._line(key, begin)
            if key not in _KEYS:
                self._say(line, f"{key}: no such setting of a model{_near(key, tuple(_KEYS))}")
            elif wrong := _KEYS[key](value):
                self._say(line, f"{key}: {value!r} is {wrong}")
            else:
                read[key] = value
        if "uri" not in table:
            self._say(begin, "a model without its uri")
        if "uri" not in read or set(table) - set(read):
            return None
        for key in ("uri", "schema", "shadow"):
            if key in read and not needs_registry(read[key]) and ":" not in read[key]:
                read[key] = str(self._path.parent / read[key])
        try:
            read.setdefault("name", name_of(read["uri"]))
        except ForetellError as error:
            self._say(self._line("uri", begin), f"uri: {error.message}")
            return None
        return replace(Wanted(read["name"], read["uri"], **shared), **read)

    def _begin(self, at: int) -> int:
        """The line where a model's table begins, from 0."""
        return self._tables[at] if at < len(self._tables) else 0

    def _line(self, key: str, begin: int) -> int:
        """The line of a table's key; that of the table where the key is not on a line of its own."""
        for at in range(begin + bool(begin or self._tables[:1] == [0]), len(self._lines)):
            if re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]", self._lines[at]):
                return at
            if self._lines[at].lstrip().startswith("[["):
                break
        return begin

    def _say(self, line: int, message: str) -> None:
        self.wrong.append(f"{self._path}, line {line + 1}: {message}")


def _near(key: str, known: tuple[str, ...]) -> str:
    near = get_close_matches(key, known, 1)
    return f"; did you mean {near[0]}?" if near else ""


def _text(value: object) -> str:
    return "" if isinstance(value, str) and value and value.isprintable() else "no text"


def _number(least: float, *, whole: bool) -> Any:
    def check(value: object) -> str:
        kind = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        return "" if kind and least <= value < float("inf") else f"no {'whole ' * whole}number from {least:g}"  # type: ignore[operator]

    return check


def _cast(value: object) -> str:
    sound = isinstance(value, dict) and all(isinstance(kind, str) for kind in value.values())
    return "" if sound else 'no table of columns and their types: {age = "double"}'


def _name(value: object) -> str:
    return "" if isinstance(value, str) and NAME.fullmatch(value) else "no name: letters, digits, spaces and . @ + - _"


_KEYS = {
    "name": _name,
    "uri": _text,
    "registry": _text,
    "engine": lambda value: "" if value in ENGINES else f"none of {', '.join(ENGINES)}",
    "schema": _text,
    "shadow": _text,
    "cast": _cast,
    "timeout": _number(0.001, whole=False),
    "max_batch_size": _number(1, whole=True),
    "max_queue_delay_ms": _number(0, whole=False),
    "max_queue": _number(1, whole=True),
    "follow": lambda value: "" if isinstance(value, bool) else "neither true nor false",
}
"""What a model may have in the file, and what tells what is wrong with it."""
