"""One batch prediction: blocks are read, worked on by many, and written in order; what is written is committed, so that
the same job can be gone on with; and at the end the output is put in place."""

import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from foretell.batch import Answers, Call
from foretell.errors import RejectsExceeded
from foretell.job import crew as crews
from foretell.job.account import Account
from foretell.job.crew import Brief, Crew, Processes, Threads
from foretell.job.inputs import Inputs, Tagged
from foretell.job.journal import Commit, End
from foretell.job.outputs import Standing, Target
from foretell.job.pins import pins
from foretell.job.running import Running, Tally
from foretell.job.work import Done, Job, Work
from foretell.predictor import Predictor
from foretell.tables import formats
from foretell.tables.kept import clash_of
from foretell.tables.writer import Part

if TYPE_CHECKING:
    from foretell.compiler.watch import Watch

_PYTHON = "python_function"


def run(
    job: Job,
    predictor: Predictor,
    inputs: Inputs,
    target: Target,
    running: Running = Running(),
    watch: "Watch | None" = None,
) -> Iterator[Tally]:
    """Runs a job, telling after every block how far it is; the last is the sum. Rows come out in the input's order.

    watch: sees to the engine. Raises InputError at the first bad row, with its place, where the job stops at one;
    RejectsExceeded. Whatever ends it, the output is whole or as it was, and what is committed can be gone on with.
    """
    return _Run(job, predictor, inputs, target, running, watch).tallies()


class _Run:
    def __init__(
        self,
        job: Job,
        predictor: Predictor,
        inputs: Inputs,
        target: Target,
        running: Running,
        watch: "Watch | None",
    ) -> None:
        job = crews.found_in(inputs.reader, job)
        self._job, self._predictor, self._inputs = job, predictor, inputs
        self._target, self._running, self._watch = target, running, watch
        self._started = time.perf_counter()
        asked = getattr(inputs.reader, "params", {})
        self._call = Call(job.proba, predictor.signature.call_params({**job.params, **asked}))
        self._none = _check_names(job, predictor, inputs.reader.no_rows.names, self._call)
        self._writer = formats.writer(job.output_format, job.prediction, job.codec)
        self._work = Work(job, predictor, self._writer, self._call, self._none)
        self._tally = Tally(size=inputs.size, start=running.start, engine=predictor.engine.name)
        self._account = Account(running)
        self._end: End | None = None
        self._marks = 0
        self._position: list[int] = []
        self._rejects: list[bytes] = []
        self._point = self._commit_of()

    def tallies(self) -> Iterator[Tally]:
        try:
            yield from self._tallies()
        finally:
            self._account.close()

    def _tallies(self) -> Iterator[Tally]:
        standing = self._begin()
        if standing is None or standing.end is None:
            for tagged, done in self._blocks():
                self._add(tagged, done)
                yield self._tally
                if self._running.limit.exceeded(self._tally.rows, self._tally.rejected, ended=False):
                    self._leave()
                    raise self._too_many()
                if self._running.stop is not None and self._running.stop.code is not None:
                    self._leave()
                    return
            self._finish()
        elif standing.end is not None:
            self._end = standing.end
        seconds = time.perf_counter() - self._started
        report, jumps = (self._end.report, tuple(self._end.jumps)) if self._end is not None else (None, ())
        self._tally = replace(self._tally, finished=True, seconds=seconds, report=report, jumps=jumps)
        yield self._tally

    def _begin(self) -> Standing | None:
        """Goes to where an earlier run came to."""
        pinned = pins(self._inputs.identities, self._predictor, _options(self._job))
        standing = self._target.begin(pinned, self._running.resume, self._running.say, self._account.output)
        if self._account.input is not None and (standing is None or standing.end is None):
            self._inputs.hash_by(self._account.input)
        if standing is None:
            return None
        last = standing.commit
        self._writer.resume(standing.marks, last.output)
        self._marks, self._position, self._point = len(standing.marks), last.position, last
        self._account.figures = last.figures
        tally = replace(self._tally, rows=last.rows, rejected=last.rejected, read=last.read)
        self._tally = replace(tally, resumed=last.rows, skipped=last.read)
        self._running.say(
            "it was complete already, and is in place now"
            if standing.end is not None
            else f"going on after {last.rows:,} rows that are done already"
        )
        return standing

    def _blocks(self) -> Iterator[tuple[Tagged, Done]]:
        """Every block with what was made of it. The first is worked on here: many inputs have no other."""
        blocks = self._inputs.blocks(self._position, tolerant=self._job.on_error != "stop")
        if (first := next(blocks, None)) is None:
            return
        started = time.perf_counter()
        yield first, self._first(first)
        if (second := next(blocks, None)) is None:
            return
        crew = self._crew(first, time.perf_counter() - started)
        try:
            yield from crews.ordered(_before(second, blocks), crew)
        except BrokenExecutor as error:
            raise crews.lost(error) from error
        finally:
            crew.close()

    def _first(self, tagged: Tagged) -> Done:
        started = time.perf_counter()
        rows, apart = self._work.read(tagged.reader, tagged.block, tagged.name)
        if self._watch is not None and rows.batch.rows:
            self._watch.before(rows.batch, self._call, self._ahead(rows.batch.rows, tagged.read))
            self._tally = replace(self._tally, engine=self._predictor.engine.name)
        reading = time.perf_counter() - started
        return self._work.predicted(tagged.reader, tagged.block, tagged.name, rows, apart, reading)

    def _crew(self, first: Tagged, seconds: float) -> Crew:
        """Threads; or processes, where the model's code keeps threads waiting and there is enough to do for them."""
        size = self._running.threads or crews.cores()
        if not self._predictor.rowwise:
            size = 1
        if self._predictor.flavour != _PYTHON:
            return Threads(self._work, size)
        ahead = seconds * ((self._inputs.size or 0) - first.read) / max(first.read, 1)
        if size == 1 or self._running.again is None or not self._inputs.paths or ahead < self._running.patience:
            return Threads(self._work, 1)
        brief = Brief(self._job, self._running.again, tuple(self._inputs.paths), self._call, self._none)
        return Processes(brief, size)

    def _add(self, tagged: Tagged, done: Done) -> None:
        if done.part is not None:
            self._target.write(self._writer.add(done.part))
        self._rejects.append(done.rejects)
        self._account.add(done)
        self._inputs.hash_to(tagged.file, tagged.read)
        was, (reading, predicting, writing) = self._tally, done.seconds
        self._tally = replace(
            was,
            rows=was.rows + done.rows,
            rejected=was.rejected + done.rejected,
            read=tagged.read,
            seconds=time.perf_counter() - self._started,
            reading=was.reading + reading,
            predicting=was.predicting + predicting,
            writing=was.writing + writing,
            engine=self._predictor.engine.name,
        )
        self._position = list(tagged.after)
        if self._watch is not None:
            self._watch.after(done.rows, self._ahead(self._tally.rows - was.resumed, tagged.read))
        if not self._writer.held:
            self._settle()
            if self._target.full:
                self._turn()
            elif self._target.due:
                self._commit()

    def _settle(self) -> None:
        """All rows so far have come out of the writer: here the job can be gone on with."""
        self._target.reject(b"".join(self._rejects))
        self._rejects = []
        self._point = self._commit_of()

    def _commit_of(self) -> Commit:
        tally, found = self._tally, self._predictor.found
        marks = self._writer.marks[self._marks :]
        native = found.compiled is None
        engine = self._predictor.engine.name
        return Commit(
            self._position,
            tally.rows,
            tally.rejected,
            0,
            0,
            marks,
            engine,
            native,
            [],
            self._account.figures,
            tally.read,
        )

    def _commit(self) -> None:
        self._target.commit(self._point)
        self._marks += len(self._point.marks)
        self._point = self._commit_of()

    def _turn(self) -> None:
        """Ends a part of the output; another begins."""
        self._target.write(self._writer.end())
        self._writer, self._marks = self._writer.following(), 0
        self._target.turn(self._commit_of())
        self._marks = len(self._writer.marks)
        self._point = self._commit_of()

    def _leave(self) -> None:
        """Keeps what is done, as far as it can be gone on with."""
        if self._inputs.paths and self._point.rows > self._tally.resumed:
            self._target.commit(self._point)

    def _finish(self) -> None:
        if not self._writer.marks:
            self._target.write(self._writer.add(self._empty()))
        if self._running.limit.exceeded(self._tally.rows, self._tally.rejected, ended=True):
            self._leave()
            raise self._too_many()
        self._target.write(self._writer.end())
        self._settle()
        sealed = self._target.seal()
        tally = replace(self._tally, seconds=time.perf_counter() - self._started)
        report = self._account.report(self._job, self._predictor, self._inputs, tally, sealed)
        self._end = End(self._point, report, self._account.jumps(tally))
        self._target.finish(self._end)

    def _empty(self) -> Part:
        return self._writer.part(self._inputs.reader.no_rows, self._none)

    def _too_many(self) -> RejectsExceeded:
        tally, limit = self._tally, self._running.limit
        told = f"{tally.rejected:,} of {tally.rows:,} rows are bad"
        return RejectsExceeded(f"{told}, {f'more than --max-rejects {limit} allows' if limit.set else 'which is all'}")

    def _ahead(self, rows: int, read: int) -> int | None:
        """How many rows are still to come, by the bytes; None where nobody knows."""
        if self._inputs.size is None or not read:
            return None
        return int(rows * max(0, self._inputs.size - read) / read)


def _before(first: Tagged, rest: Iterator[Tagged]) -> Iterator[Tagged]:
    yield first
    yield from rest


def _options(job: Job) -> dict[str, Any]:
    """What of the job its output depends on, by the options' names."""
    return {
        "content_type": job.input_format.name,
        "output_format": [*job.output_format.suffixes, job.codec],
        "part_mb": job.part,
        "proba": job.proba,
        "params": job.params,
        "keep": None if job.keep.names is None else list(job.keep.names),
        "prediction_column": job.prediction,
        "null_values": list(job.options.rules.nulls),
        "decimal": job.options.rules.decimal,
        "delimiter": job.options.delimiter,
        "encoding": job.options.encoding,
        "no_header": job.options.columns is not None,
        "columns": list(job.options.columns or ()),
        "on_error": job.on_error,
    }


def _check_names(job: Job, predictor: Predictor, kept: list[str], call: Call) -> Answers:
    """Refuses a carried column that is named like a prediction before a row is read. Returns answers to no rows."""
    none = predictor.empty(call)
    for name, _ in none.columns(job.prediction):
        if name in kept and job.output_format.streamed:
            raise clash_of(name)
    return none
