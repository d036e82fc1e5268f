"""scikit-learn's imputer and encoders as a graph, for numbers and text: with their missing values, unknown categories
and grouped ones."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from foretell.conversion.graph import Graph, Piece, Table, cannot
from foretell.models.onnx_converted import MISSING_TEXT

_EXACT = 2**53


def impute(graph: Graph, estimator: Any, table: Table, where: str) -> Table:
    """SimpleImputer: its statistics in place of missing cells; columns that had none of theirs are left out."""
    columns = list(_columns(graph, table))
    absent, fills = estimator.missing_values, estimator.statistics_
    made = [
        _filled(graph, column, fill, absent, where)
        for column, fill in zip(columns, fills, strict=True)
        if estimator.keep_empty_features or not _is_nan(fill)
    ]
    if estimator.indicator_ is None:
        return _merged(graph, made)
    flags = [_absent(graph, columns[at], absent, where) for at in estimator.indicator_.features_]
    return _merged(graph, made + [Piece(graph.cast(flag, "float64"), 1, gaps=False) for flag in flags])


def _filled(graph: Graph, column: Piece, fill: Any, absent: Any, where: str) -> Piece:
    flags = _absent(graph, column, absent, where)
    if column.text != isinstance(fill, str):
        raise cannot(f"{where} fills {'text' if column.text else 'numbers'} with {fill!r}")
    other = graph.constant([[fill]], "object" if column.text else "float64")
    value = graph.add("Where", flags, other, column.value)
    return Piece(value, 1, column.text, gaps=False, source=column.source)


def _absent(graph: Graph, column: Piece, absent: Any, where: str) -> str:
    """Which cells count as missing. Where those are not the missing ones, rows with these are refused."""
    if not column.text:
        graph.refuse_from(column, np.inf)
    if _is_nan(absent):
        return graph.missing(column)
    if isinstance(absent, str) != column.text or absent is None:
        raise cannot(f"{where} takes {absent!r} for missing")
    if column.gaps:
        graph.refuse(graph.missing(column), "missing")
    return graph.add("Equal", column.value, graph.constant([[absent]], "object" if column.text else "float64"))


def one_hot(graph: Graph, estimator: Any, table: Table, where: str) -> Table:
    """OneHotEncoder: a column of 0 and 1 for each category; none of them is 1 for an unknown one."""
    made = []
    dropped = estimator._drop_idx_after_grouping
    for at, column in enumerate(_checked(graph, estimator, table, where)):
        groups = _groups(estimator, at)
        if estimator.handle_unknown not in ("error", "ignore", "infrequent_if_exist"):
            raise cannot(f"{where} handles unknown categories by {estimator.handle_unknown!r}")
        grouped = len(groups) > groups.max(initial=-1) + 1
        unknown = groups.max() if grouped and estimator.handle_unknown == "infrequent_if_exist" else -1
        numbers = _numbers(graph, column, estimator.categories_[at], groups, float(unknown), where)
        if estimator.handle_unknown == "error":
            graph.refuse(graph.add("Less", numbers, graph.constant(0.0)), "unknown")
        kept = np.arange(groups.max(initial=-1) + 1, dtype="float64")
        if dropped is not None and dropped[at] is not None:
            kept = np.delete(kept, dropped[at])
        flags = graph.add("Equal", numbers, graph.constant(kept[None, :]))
        made.append(Piece(graph.cast(flags, "float64"), len(kept), gaps=False))
    return _merged(graph, made)


def ordinal(graph: Graph, estimator: Any, table: Table, where: str) -> Table:
    """OrdinalEncoder: each category's number; NaN, or a number of its own, for a missing cell."""
    made = []
    for at, column in enumerate(_checked(graph, estimator, table, where)):
        groups = _groups(estimator, at).astype("float64")
        categories = estimator.categories_[at]
        nan = np.array([_is_nan(category) for category in categories], bool)
        if nan.any():
            groups[nan] = estimator.encoded_missing_value
        error = estimator.handle_unknown == "error"
        numbers = _numbers(graph, column, categories, groups, np.inf if error else estimator.unknown_value, where)
        if error:
            graph.refuse(graph.add("IsInf", numbers), "unknown")
        made.append(Piece(numbers, 1))
    return _merged(graph, made)


def _checked(graph: Graph, estimator: Any, table: Table, where: str) -> Iterator[Piece]:
    columns = list(_columns(graph, table))
    if len(columns) != len(estimator.categories_):
        raise cannot(f"{where} takes {len(estimator.categories_)} columns, and would get {len(columns)}")
    for column in columns:
        if not column.text:
            graph.refuse_from(column, np.inf)
        yield column


def _groups(estimator: Any, at: int) -> np.ndarray:
    """The number of each category of a column; rare ones may share one."""
    count = len(estimator.categories_[at])
    mapping = estimator._default_to_infrequent_mappings[at] if estimator._infrequent_enabled else None
    if mapping is None:
        return np.arange(count)
    return np.concatenate([mapping, np.full(count - len(mapping), -1)])


def _numbers(graph: Graph, column: Piece, categories: Any, values: np.ndarray, unknown: float, where: str) -> str:
    """The value of each cell's category, as doubles of shape (rows, 1)."""
    if column.text:
        words = [MISSING_TEXT if _is_nan(category) else category for category in categories]
        if not all(isinstance(word, str) for word in words):
            raise cannot(f"{where} knows categories that are not text in a column of text")
        graph.known.setdefault(column.source, words[0])
        keys = np.array(words, object)
    else:
        keys = _as_numbers(categories, where)
    return _looked_up(graph, column, keys, np.asarray(values, "float64"), unknown)


def _as_numbers(categories: Any, where: str) -> np.ndarray:
    try:
        keys = np.asarray(categories, "float64")
    except (TypeError, ValueError) as error:
        raise cannot(f"{where} knows categories that are not numbers in a column of numbers") from error
    if (np.abs(keys) > _EXACT).any():
        raise cannot(f"{where} knows categories that a double cannot tell apart")
    return keys


def _looked_up(graph: Graph, column: Piece, keys: np.ndarray, values: np.ndarray, unknown: float) -> str:
    tensors = {"keys_tensor": keys, "values_tensor": values, "default_tensor": np.array([unknown], "float64")}
    return graph.add("LabelEncoder", column.value, domain="ai.onnx.ml", **tensors)


def _columns(graph: Graph, table: Table) -> Iterator[Piece]:
    for piece in table:
        for at in range(piece.width):
            yield graph.pick(piece, [at])


def _merged(graph: Graph, pieces: list[Piece]) -> Table:
    """The same columns in as few pieces as their order allows."""
    made: list[Piece] = []
    run: list[Piece] = []
    for piece in [*pieces, None]:
        if piece is not None and not piece.text:
            run.append(piece)
            continue
        made += [graph.numbers(tuple(run), "")] if run else []
        made += [piece] if piece is not None else []
        run = []
    return tuple(made)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float | np.floating) and bool(np.isnan(value))
