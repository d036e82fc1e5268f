"""The log of predictions: rows as the model saw them and what it answered, in the columns of a batch job's output, so
that the two can be compared. A share of the requests, on a thread of its own."""

import random
import time
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from foretell.batch import Answers, Batch, Output
from foretell.serve import log_rows
from foretell.serve.absent import Absent
from foretell.serve.backlog import FAILED, Backlog
from foretell.serve.exchange import Exchange, Reply
from foretell.serve.log_files import LogFolder
from foretell.serve.log_rows import Logged, LogRows
from foretell.serve.log_table import LogTable

if TYPE_CHECKING:
    from foretell.serve.counts import Counts

WRITTEN = "written"
_MOST_WAITING = 64 << 20
_AT_A_TIME = 1024
_EVERY_SECONDS = 1.0
_GOODBYE_SECONDS = 30.0
_FILE_ROWS = 65_536
_FILE_BYTES = 32 << 20
_FILE_SECONDS = 60.0
_MOST_TABLES = 16
_MOST_HELD = 64 << 20
_EACH_BYTES = 500
_CELL_BYTES = 50


class PredictionLog:
    """A witness. sample: the share of requests that it keeps."""

    def __init__(self, folder: LogFolder, sample: float) -> None:
        self._folder = folder
        self._sample = sample
        self._tables: list[LogTable] = []
        self._backlog = Backlog(
            "the log of predictions",
            "foretell_logged_rows",
            self._keep,
            most=_MOST_WAITING,
            enough=_AT_A_TIME,
            every=_EVERY_SECONDS,
            last=self._write_all,
        )

    def take(self, client: tuple[str, int] | None, exchange: Exchange, reply: Reply, seconds: float) -> None:
        trail, service = exchange.trail, exchange.service
        if (
            isinstance(service, Absent)
            or trail is None
            or trail.portion is None
            or not trail.rows
            or trail.batch is None
        ):
            return
        if self._sample < 1 and random.random() >= self._sample:
            return
        ended = time.time()
        answers = _own(trail.portion.answers)
        logged = Logged(service, exchange.request_id, ended - seconds, seconds, trail.call, trail.batch, answers)
        self._backlog.put(logged, _weight(trail.batch, answers), trail.rows)

    def look(self, counts: "Counts") -> None:
        self._backlog.look(counts)

    def close(self) -> None:
        self._backlog.close(_GOODBYE_SECONDS)

    def _keep(self, items: list[Logged]) -> dict[str, int]:
        became: dict[str, int] = {}
        for rows in log_rows.batches(items):
            try:
                self._table(rows).add(rows)
            except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
                self._backlog.complain(f"rows of {rows.model} could not be logged: {str(error).splitlines()[0][:200]}")
                became[FAILED] = became.get(FAILED, 0) + rows.batch.num_rows
        held = sum(table.bytes for table in self._tables)
        due = self._tables if held > _MOST_HELD or len(self._tables) > _MOST_TABLES else filter(_due, self._tables)
        return self._write(list(due), became)

    def _table(self, rows: LogRows) -> LogTable:
        """Where these rows fit in."""
        for table in self._tables:
            if table.fits(rows):
                return table
        self._tables.append(LogTable(rows))
        return self._tables[-1]

    def _write_all(self) -> dict[str, int]:
        return self._write(list(self._tables), {})

    def _write(self, tables: list[LogTable], became: dict[str, int]) -> dict[str, int]:
        for table in tables:
            self._tables.remove(table)
            outcome = WRITTEN
            try:
                self._folder.write(table.model, table.version, table.packed())
            except (OSError, pa.ArrowException) as error:
                outcome = FAILED
                self._backlog.complain(f"the log of predictions could not be written: {error}")
            became[outcome] = became.get(outcome, 0) + table.rows
        return became


def _due(table: LogTable) -> bool:
    return table.rows >= _FILE_ROWS or table.bytes >= _FILE_BYTES or monotonic() - table.since >= _FILE_SECONDS


def _own(answers: Answers) -> Answers:
    """A request's answers by themselves, which do not keep those of the whole batch."""
    return Answers(tuple(Output(o.name, o.values.copy(), o.labels, o.proba) for o in answers.outputs))


def _weight(batch: Batch, answers: Answers) -> int:
    """About how many bytes they take."""
    answered = sum(_size(output.values) for output in answers.outputs)
    if batch.uniform:
        return _EACH_BYTES + answered + batch.matrix.nbytes
    return _EACH_BYTES + answered + sum(map(_size, batch.columns))


def _size(values: np.ndarray) -> int:
    if values.dtype.kind != "O":
        return values.nbytes
    return sum(len(cell) + _CELL_BYTES if isinstance(cell, str | bytes) else _CELL_BYTES for cell in values.flat)
