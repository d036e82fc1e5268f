"""What the tests of engines share: models that are compiled once, their rows, and the commands."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conftest import foretell, rows_of
from foretell import predictor
from foretell.models import proven


def compile_(model: Path, *arguments: object) -> dict[str, Any]:
    """The command, and what it tells."""
    ran = foretell("models", "compile", "-m", model, "--json", *arguments)
    assert 0 == ran.code, ran.err
    told: dict[str, Any] = json.loads(ran.out)
    return told


Ready = Callable[..., proven.Entry]


def place_of(model: Path) -> proven.Entry:
    return proven.entry(predictor.find(str(model), trust=True, engine="native").resolved.digest)


def write_rows(models: Path, name: str, path: str = "in.csv", times: int = 1) -> None:
    columns, rows = rows_of(models, name)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows([columns, *rows * times])
    Path(path).write_text(text.getvalue())


def summary(said: str) -> str:
    """The line of what a job said that tells its rows, its model and its engine."""
    return next(line for line in said.splitlines() if "rows/s" in line)


def predicted(model: object, *arguments: object) -> tuple[bytes, str]:
    """The output's bytes, and what was said."""
    ran = foretell("models", "predict", "-m", model, "-i", "in.csv", "-o", "out.csv", *arguments)
    assert 0 == ran.code, ran.err
    return Path("out.csv").read_bytes(), ran.err
