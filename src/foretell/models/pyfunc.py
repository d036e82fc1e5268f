"""Python models, models from code, and every flavour without a module of its own here: all by mlflow itself.

Such a model is code, so its answers are its own affair: one row's may depend on the rows beside it.
"""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from foretell.batch import Answers, Batch, Call, Output
from foretell.cells import show
from foretell.errors import ModelUnreadable, PredictionError, RowRefused
from foretell.models.load import Loaded
from foretell.models.mlmodel import StoredModel

_NOTE = "its own Python code answers: whether a row's answer depends on the rows beside it was not checked"


def runs_code(model: StoredModel) -> list[str]:
    """Always: this names what would run first."""
    entry = _entry(model)
    if entry.get("model_code_path"):
        return [f"{_code_file(model, entry).name} (Python code)"]
    if entry.get("python_model"):
        return [f"{model.file(entry['python_model']).name} (a pickle)"]
    data = f"{show(entry['data'])}, loaded " if isinstance(entry.get("data"), str) else ""
    return [f"MLmodel ({data}by {show(entry.get('loader_module'))})"]


def load(model: StoredModel, trusted: bool) -> Loaded:
    """Loads it with mlflow, from its folder and nowhere else. Raises ModelUnreadable."""
    if not trusted:
        raise ModelUnreadable(f"{model.path} is Python code and was not trusted")
    for named in ("data", "code"):
        if _entry(model).get(named):
            model.inside(_entry(model)[named])
    sys.dont_write_bytecode = True
    mlflow = _mlflow()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = mlflow.pyfunc.load_model(str(model.path.resolve()), suppress_warnings=True)
    except ModuleNotFoundError:
        raise
    except Exception as error:
        raise ModelUnreadable(f"{model.path} cannot be loaded: {_said(error)}") from error
    return Loaded(PythonEngine(loaded), None, notes=(_NOTE,))
