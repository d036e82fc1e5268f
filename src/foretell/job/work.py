"""What is done with a block: it is read, predicted and written, all but its place in the output. In any thread or
process."""

import contextlib
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from foretell.batch import Answers, Batch, Call
from foretell.errors import CellWrong, ForetellError, InputUnreadable
from foretell.job import rejects
from foretell.job.figures import Figures, figures
from foretell.job.rejects import NULL, STOP, Place
from foretell.predictor import Predictor
from foretell.tables.apart import NOWHERE, Apart, Bad
from foretell.tables.csv_header import CsvOptions
from foretell.tables.formats import Format, Reader
from foretell.tables.kept import ALL, Keep, Kept, Rows
from foretell.tables.writer import Part, Writer


@dataclass(frozen=True)
class Job:
    """What to do. params: as given, not yet checked. prediction: the name of the predictions' column. on_error: what
    happens to a bad row: "stop", "reject" or "null". part: bytes of a part, where the output is a folder of them."""

    input_format: Format
    output_format: Format
    proba: bool = False
    params: dict[str, Any] = field(default_factory=dict)
    keep: Keep = ALL
    prediction: str = "prediction"
    options: CsvOptions = CsvOptions()
    codec: str | None = None
    on_error: str = STOP
    part: int | None = None


@dataclass(frozen=True)
class Done:
    """A block's share of the output. part: None where no row is left. rows: that were read. rejects: JSON Lines of
    those that were not predicted, rejected of them. seconds: for reading, predicting and writing. process: of another
    process its number, and how many bytes it held at most."""

    part: Part | None
    rows: int
    rejected: int = 0
    rejects: bytes = b""
    seconds: tuple[float, float, float] = (0.0, 0.0, 0.0)
    figures: Figures = Figures()
    process: tuple[int, int] | None = None


class Work:
    """Works on blocks of one job; any thread."""

    def __init__(self, job: Job, predictor: Predictor, writer: Writer, call: Call, none: Answers) -> None:
        self._job = job
        self._predictor = predictor
        self._writer = writer
        self._call = call
        self._none = none
        self._table = not job.input_format.text

    def on(self, reader: Reader[Any], block: Any, name: str) -> Done:
        """Raises InputError at the block's first bad row, unless bad rows are to be passed over."""
        started = time.perf_counter()
        rows, apart = self.read(reader, block, name)
        return self.predicted(reader, block, name, rows, apart, time.perf_counter() - started)

    def read(self, reader: Reader[Any], block: Any, name: str) -> tuple[Rows, Apart | None]:
        """The good rows; and how they stand among the bad ones, where there are some."""
        if self._job.on_error == STOP:
            try:
                return reader.parse(block), None
            except (CellWrong, InputUnreadable) as error:
                self._tell(error, reader, block)
                raise
        apart = rejects.parted(reader, block)
        return Rows(apart.batch, apart.kept), apart if apart.bad else None

    def predicted(
        self, reader: Reader[Any], block: Any, name: str, rows: Rows, apart: Apart | None, reading: float
    ) -> Done:
        began = time.perf_counter()
        answers, failed = self._answers(reader, block, rows, apart)
        middle = time.perf_counter()
        if apart is None and not failed:
            part = self._writer.part(rows.kept, answers) if rows.batch.rows else None
            seconds = (reading, middle - began, time.perf_counter() - middle)
            return Done(part, rows.batch.rows, seconds=seconds, figures=self._figures(rows.batch, rows.kept, answers))
        apart = apart or rejects.whole(reader, block, rows)
        good = apart.good
        bad = sorted(
            (
                *apart.bad,
                *(
                    Bad(int(good[row]), None, error.message, apart.spot(int(good[row])))
                    for row, error in failed.items()
                ),
            ),
            key=lambda one: one.row,
        )
        left = np.delete(good, list(failed))
        part = self._part(apart, left, answers)
        written = rejects.lines(bad, Place(name, self._table))
        seconds = (reading, middle - began, time.perf_counter() - middle)
        batch = rows.batch.but(list(failed)) if failed else rows.batch
        told = self._figures(batch, apart.kept, answers, left)
        return Done(part, apart.count, len(bad), written, seconds, told)

    def _figures(self, batch: Batch, kept: Kept, answers: Answers, rows: np.ndarray | None = None) -> Figures:
        return figures(self._predictor.signature.names, batch, kept, answers, self._job.prediction, rows)

    def _part(self, apart: Apart, good: np.ndarray, answers: Answers) -> Part | None:
        if self._job.on_error == NULL:
            at = dict(zip(good.tolist(), range(len(good)), strict=True))
            return self._writer.part(apart.kept, answers, [at.get(row) for row in range(apart.count)])
        return self._writer.part(apart.kept.at(good), answers) if len(good) else None

    def _answers(
        self, reader: Reader[Any], block: Any, rows: Rows, apart: Apart | None
    ) -> tuple[Answers, dict[int, ForetellError]]:
        if not rows.batch.rows:
            return self._none, {}
        try:
            return self._predictor.predict(rows.batch, self._call), {}
        except ForetellError as error:
            if self._job.on_error == STOP:
                raise self._first(reader, block, rows, error) from error
        answers, failed = rejects.answered(self._predictor, rows.batch, self._call)
        return Answers.concat(answers) if answers else self._none, failed

    def _first(self, reader: Reader[Any], block: Any, rows: Rows, error: ForetellError) -> ForetellError:
        """The error of the first row that the model fails on, with its place, and others of its block."""
        if (bad := self._predictor.first_bad(rows.batch, self._call, error)) is None:
            return error
        row, own = bad
        failed, all_known = rejects.failing(self._predictor, rows.batch, self._call)
        told = [
            Bad(at, None, one.message, reader.spot(block, at) if shown < rejects.EXAMPLES else NOWHERE)
            for shown, (at, one) in enumerate(failed.items())
        ]
        own.details = rejects.examples(told, Place("", self._table), all_known=all_known)
        own.message = reader.place(block, CellWrong(row, None, own.message)).message
        own.row_wrong = True
        return own

    def _tell(self, error: CellWrong | InputUnreadable, reader: Reader[Any], block: Any) -> None:
        """Says in the error what else is wrong in its block."""
        error.row_wrong = True
        with contextlib.suppress(ForetellError):
            error.details = rejects.examples(rejects.parted(reader, block).bad, Place("", self._table))
