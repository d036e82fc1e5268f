"""What a Python model answered, of whatever type, as outputs of one value a row."""

import base64
import dataclasses
import math
from datetime import date, time
from decimal import Decimal
from typing import Any

import numpy as np

from foretell.batch import Output
from foretell.errors import PredictionError

_MAX_DEPTH = 50


def outputs_of(answer: Any) -> tuple[Output, ...]:
    """Frames and mappings give an output a column; all else gives one. Raises PredictionError."""
    if isinstance(answer, dict):
        named = list(answer.items())
    elif _is(answer, "pandas", "DataFrame"):
        named = [(name, answer.iloc[:, at]) for at, name in enumerate(answer.columns)]
    else:
        return (Output("", _values(answer)),)
    if not named:
        raise PredictionError("the model answered without a single column")
    single = len(named) == 1
    return tuple(Output("" if single else str(name), _values(values)) for name, values in named)


def _is(value: Any, library: str, name: str) -> bool:
    kind = type(value)
    return kind.__name__ == name and kind.__module__.partition(".")[0] == library


def _values(answer: Any) -> np.ndarray:
    """An array of shape (rows, …), of numbers, or of Python values that JSON has."""
    if hasattr(answer, "detach"):
        answer = answer.detach().cpu()
    if _is(answer, "pandas", "Series") or _is(answer, "pandas", "Index"):
        array = _from_pandas(answer)
    elif isinstance(answer, list | tuple):
        array = _from_list(list(answer))
    elif hasattr(answer, "toarray"):
        array = np.asarray(answer.toarray())
    elif isinstance(answer, np.ndarray) or hasattr(answer, "__array__"):
        array = np.asarray(answer)
    else:
        raise PredictionError(
            f"the model answered with a {type(answer).__name__}; foretell needs one answer a row, in a frame, an array "
            "or a list"
        )
    if array.ndim == 0:
        raise PredictionError("the model gave a single value for all rows; foretell needs one a row")
    if array.dtype.kind not in "biufM":
        array = _objects([_cell(value) for value in array.tolist()])
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def _from_pandas(series: Any) -> np.ndarray:
    dtype = series.dtype
    if isinstance(dtype, np.dtype):
        return np.asarray(series)
    if getattr(dtype, "tz", None) is not None:
        return np.asarray(series.dt.tz_convert("UTC").dt.tz_localize(None))
    plain = getattr(dtype, "numpy_dtype", None)
    if isinstance(plain, np.dtype) and plain.kind in "biuf" and not series.hasnans:
        return np.asarray(series.to_numpy(plain))
    return _objects([_cell(value) for value in series.astype(object)])


def _from_list(values: list[Any]) -> np.ndarray:
    """Numbers, and lists of as many numbers each, as an array of numbers."""
    cells = [_cell(value) for value in values]
    if cells and all(isinstance(cell, bool) for cell in cells):
        return np.array(cells, bool)
    numbers = all(_is_number(cell) for cell in cells)
    lists = all(isinstance(cell, list) and cell and all(map(_is_number, cell)) for cell in cells)
    if cells and (numbers or (lists and len({len(cell) for cell in cells}) == 1)):
        array = np.array(cells)
        return array if array.dtype.kind in "iuf" else _objects(cells)
    return _objects(cells)


def _is_number(cell: Any) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def _objects(cells: list[Any]) -> np.ndarray:
    array = np.empty(len(cells), object)
    for at, cell in enumerate(cells):
        array[at] = cell
    return array


def _cell(value: Any, depth: int = 0) -> Any:
    """A value as JSON has it: dates as text, bytes as base64, what is missing as None."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) or depth == 0 else None
    if depth > _MAX_DEPTH:
        raise PredictionError(f"the model answered with a value nested over {_MAX_DEPTH} deep")
    if isinstance(value, dict):
        return {str(key): _cell(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | np.ndarray):
        return [_cell(item, depth + 1) for item in value]
    return _other(value, depth)


def _other(value: Any, depth: int) -> Any:
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Decimal):
        return _cell(float(value), depth)
    if hasattr(value, "model_dump"):
        return _cell(value.model_dump(), depth + 1)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _cell(dataclasses.asdict(value), depth + 1)
    raise PredictionError(f"the model answered with a {type(value).__name__}, which has no form in a table or in JSON")
