"""Columns whose cells are tensors: arrays of shape (rows, *cell shape) from Arrow's lists, from numpy, from checked
cells. Every reader asks here, so that the same tensor is refused everywhere for the same reason."""

import math
from typing import Any

import numpy as np
import pyarrow as pa

from foretell.cells import Column
from foretell.columns import from_arrow, to_numpy
from foretell.errors import CellWrong
from foretell.imports import Lazily

pc = Lazily("pyarrow.compute")

NULL_INSIDE = "a null inside a tensor"


def stacked(cells: list[Any], column: Column, at: int) -> np.ndarray:
    """Checked cells, each nested lists, as one array. Raises CellWrong where their shapes differ."""
    if not cells:
        return empty(column)
    try:
        with np.errstate(over="ignore"):
            array = np.array(cells, column.cell.dtype)
        if array.ndim == len(column.shape) + 1:
            return array
    except ValueError:
        pass
    shapes = [_shape(cell) for cell in cells]
    row = next((row for row, shape in enumerate(shapes) if shape != shapes[0] or len(shape) < len(column.shape)), 0)
    raise CellWrong(row, at, f"the tensor's shape is not that of the first row's {_shown(column)}")


def empty(column: Column) -> np.ndarray:
    """A column of no rows."""
    return np.empty((0, *(max(size, 0) for size in column.shape)), column.cell.dtype)


def from_numpy(array: np.ndarray, column: Column, at: int) -> np.ndarray:
    """An array of shape (rows, *shape), checked; itself where its dtype is the column's. Raises CellWrong."""
    _fit(array.shape[1:], column, at)
    flat = _leaves(pa.array(np.ascontiguousarray(array).reshape(-1)), column, at, array.size // max(len(array), 1))
    return flat.reshape(array.shape)


def from_lists(values: pa.Array, column: Column, at: int) -> np.ndarray:
    """A column of nested lists, or of Arrow's fixed-shape tensors. A flat list holds the cells in C order.

    Raises CellWrong: a null, a wrong length, a leaf that the cell grammar refuses.
    """
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks() if values.num_chunks != 1 else values.chunk(0)
    shape: tuple[int, ...] = ()
    axes: tuple[int, ...] = ()
    if isinstance(values, pa.ExtensionArray):
        shape = tuple(getattr(values.type, "shape", ()))
        axes = tuple(getattr(values.type, "permutation", None) or ())
        values = values.storage
    rows = len(values)
    if not rows:
        return empty(column)
    wanted, sizes, each = _lengths(values.type, column), list[int](), 1
    while _is_list(values.type):
        values, size = _unnested(values, column, at, each, wanted[len(sizes)] if len(sizes) < len(wanted) else -1)
        sizes.append(size)
        each *= size
    dims = shape or (_unflattened(sizes[0], column) if len(sizes) == 1 else tuple(sizes))
    if not axes:
        _fit(dims, column, at)
    array = _leaves(values, column, at, each).reshape(rows, *dims)
    if axes:
        array = array.transpose(0, *(axis + 1 for axis in axes))
        _fit(array.shape[1:], column, at)
    return array


def _leaves(values: pa.Array, column: Column, at: int, each: int) -> np.ndarray:
    """The innermost cells in one row, each as the grammar has it. each: how many belong to a row."""
    if pa.types.is_null(values.type) or pa.types.is_run_end_encoded(values.type):
        raise CellWrong(0, at, NULL_INSIDE if pa.types.is_null(values.type) else f"a tensor of {values.type}")
    if values.null_count:
        raise CellWrong(int(to_numpy(values.is_null()).argmax()) // each, at, NULL_INSIDE)
    try:
        return from_arrow(values, Column(column.name, column.type), at)
    except CellWrong as error:
        raise CellWrong(error.row // max(each, 1), at, error.reason, error.hint) from error


def _unnested(values: pa.Array, column: Column, at: int, each: int, wanted: int) -> tuple[pa.Array, int]:
    """The lists' items, and how many each list has. wanted: their length; -1 for that of the first."""
    if values.null_count:
        raise CellWrong(int(to_numpy(values.is_null()).argmax()) // each, at, NULL_INSIDE)
    lengths = to_numpy(pc.list_value_length(values).cast(pa.int64()))
    size = wanted if wanted >= 0 else int(lengths[0]) if len(lengths) else 0
    wrong = lengths != size
    if wrong.any():
        first = int(wrong.argmax())
        expected = "as many values as in the first row" if wanted < 0 else f"{wanted} values"
        raise CellWrong(first // each, at, f"expected {expected}, got {lengths[first]} {_shown(column)}")
    return values.flatten(), size


def _lengths(kind: pa.DataType, column: Column) -> tuple[int, ...]:
    """The length of the lists at each depth, as the signature has it; -1 where it leaves it open."""
    depth = 0
    while _is_list(kind):
        kind, depth = kind.value_type, depth + 1
    flat = depth == 1 and len(column.shape) > 1
    return column.shape if not flat else (-1 if min(column.shape) < 0 else math.prod(column.shape),)


def _unflattened(size: int, column: Column) -> tuple[int, ...]:
    """A flat list's shape, where the signature leaves at most one dimension open."""
    known = math.prod(length for length in column.shape if length >= 0)
    if column.shape.count(-1) > 1 or not known or size % known:
        return (size,)
    return tuple(length if length >= 0 else size // known for length in column.shape)


def _fit(dims: tuple[int, ...], column: Column, at: int) -> None:
    same = len(dims) == len(column.shape)
    if not same or any(want not in (-1, has) for has, want in zip(dims, column.shape, strict=True)):
        raise CellWrong(0, at, f"the tensor has the shape {list(dims)}, expected {list(column.shape)}")


def _shape(cell: Any) -> tuple[int, ...]:
    """A nested list's shape; () for a ragged one."""
    try:
        return np.shape(cell)
    except ValueError:
        return ()


def _shown(column: Column) -> str:
    return f"(shape {list(column.shape)})"


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
