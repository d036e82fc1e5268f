"""The offline trial: the real job, as a process, on the user's input made long enough; each pass of it is a window."""

import re
import shlex
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from foretell.compare.asked import Model
from foretell.compare.child import Ended, OutOfTime, ran
from foretell.compare.looped import Looped, of_rows
from foretell.compare.measured import Offline
from foretell.compare.quantiles import stable
from foretell.compare.sample import Sample
from foretell.errors import ForetellError, InputError
from foretell.job.report import decoded
from foretell.tables.compression import SUFFIXES

PASSES = 3
_WORK = 0.35
"""Of the time, for the rows; where a start takes long there are fewer passes rather than short ones."""
_MARGIN = 0.5
"""Of a pass: room for one that takes longer than the last one promised."""
_ALIKE = 1.5
"""Passes are windows of one measurement where they have about as many rows: a longer one begins another, as few rows
are done at another rate than many."""
_FASTER = 4
_HALF = 0.5
"""Of what the model alone does, a first pass expects."""
_CLEARLY = 3
_MOST_FIXED = 0.75
_SHORT, _LONG = 0.15, 8.0
"""Seconds of a pass: after longer ones a disk still writes what came before."""
_ROOMY = 10
_TICK = 1e-4


@dataclass(frozen=True)
class Pass:
    """One job. seconds: from its first byte to the output in place; start: all others. peak: bytes of memory."""

    rows: int
    seconds: float
    start: float
    peak: int
    ended: Ended
    stages: dict[str, float]


class Jobs:
    """Runs jobs of one model. end: when all must be over."""

    def __init__(self, model: Model, sample: Sample, given: str, folder: Path, end: float) -> None:
        self._model = model
        self._sample = sample
        self._given = given
        self._folder = folder
        self._end = end
        self._count = 0

    def of_rows(self, rows: int) -> Pass:
        """A job on an input of about so many rows."""
        self._count += 1
        folder = self._folder / f"input-{self._count}"
        looped = of_rows(self._sample, self._given, rows, folder)
        try:
            return self._run(looped, self._folder / f"output{_suffix(self._sample)}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def answers(self, rows: int, output: Path) -> Pass:
        """A job on the beginning of the input, whose predictions alone are kept, as JSON Lines."""
        self._count += 1
        folder = self._folder / f"input-{self._count}"
        looped = of_rows(self._sample, self._given, min(rows, self._sample.rows), folder)
        try:
            return self._run(looped, output, "--keep", "none", keep=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _run(self, looped: Looped, output: Path, *options: str, keep: bool = False) -> Pass:
        told = self._folder / "report.json"
        command = ["models", "predict", *self._model.flags, *self._model.reading.flags]
        named = ["-i", looped.path, "-o", str(output), "--resume", "never", "--report", str(told), "--no-hashes"]
        try:
            ended = ran([*command, *named, *options], self._model.environment, self._end)
        except InputError as error:
            raise self._of_input(error, command) from error
        finally:
            if not keep:
                output.unlink(missing_ok=True)
        report = decoded(told.read_bytes())
        if report is None:
            raise ForetellError("a job's report cannot be read")
        times = report.times
        seconds = max(times.job, _TICK)
        stages = {"reading": times.reading, "predicting": times.predicting, "writing": times.writing}
        peak = max(report.memory.peak, ended.peak)
        return Pass(report.counts.rows, seconds, max(0.0, ended.seconds - seconds), peak, ended, stages)

    def _of_input(self, error: InputError, command: list[str]) -> InputError:
        """What is wrong with the input, said of the user's own and not of a copy. A line is not: it is the copy's."""
        copy = re.compile(rf"{re.escape(str(self._folder))}/[^,:]*(, line \d+)?")

        def named(text: str) -> str:
            return copy.sub(lambda _: self._given, text)

        found = type(error)(named(error.message), error.hint)
        found.details = tuple(map(named, error.details))
        if copy.search(error.message):
            where = shlex.join(["foretell", *command, "-i", self._given, "-o", f"OUT{self._sample.suffix}"])
            found.hint = f"Only good rows can be compared; which are bad tells: {where} --on-error reject"
        return found


def offline(jobs: Jobs, sample: Sample, known: Pass, until: float) -> Offline:
    """The trial. known: a job on some rows, which tells how many can be done at least, and stands for one on a single
    row where a start takes too long. until: when it should be over."""
    roomy = until - time.perf_counter() > _ROOMY * known.ended.seconds
    first = jobs.of_rows(1) if roomy else known
    passes: list[Pass] = []
    shorter, last, rows = [first, known], known, 0
    rate = max(_rate(first, known), _HALF / sample.row_s)
    while not passes or _goes_on(passes, until):
        left = until - time.perf_counter()
        more = min(PASSES - len(passes), int((1 - _WORK) * left / max(last.start, _TICK)))
        span = min(left / (max(1, more) + _MARGIN) - last.start, _LONG)
        if not rows or last.seconds < span / 2:
            rows = max(1, round(rate * max(span, _SHORT)))
        try:
            before, last = last, jobs.of_rows(rows)
        except OutOfTime:
            if not passes:
                raise
            break
        rate = _rate(before, last)
        if passes and last.rows > _ALIKE * passes[-1].rows:
            shorter += passes
            passes = []
        passes.append(last)
    return _told(first, passes[-PASSES:], shorter, sample)


def _rate(before: Pass, last: Pass) -> float:
    """Rows a second that a longer job is expected to do: by what more rows cost more, as every job costs something."""
    mean = last.rows / last.seconds
    rows, seconds = last.rows - before.rows, last.seconds - before.seconds
    return min(max(mean, rows / seconds), _FASTER * mean) if rows > 0 and seconds > 0 else mean


def _goes_on(passes: list[Pass], until: float) -> bool:
    """Whether another pass is of use, and there is time for one like the last."""
    if len(passes) >= PASSES and stable([one.rows / one.seconds for one in passes]):
        return False
    return time.perf_counter() + passes[-1].ended.seconds < until


def _told(first: Pass, passes: list[Pass], shorter: list[Pass], sample: Sample) -> Offline:
    """What a job takes is a fixed part and one that grows with its rows, told apart by shorter jobs: besides the start,
    the first call of a library takes its time too."""
    rows = sum(one.rows for one in passes)
    count = len(passes)
    fixed = _fixed(passes, shorter, lambda one: one.seconds)
    fixed_cpu = _fixed(passes, shorter, lambda one: one.ended.cpu_s)
    seconds = [one.seconds - fixed for one in passes]
    windows = [one.rows / each for one, each in zip(passes, seconds, strict=True)]
    stages = {name: sum(one.stages[name] for one in passes) for name in passes[0].stages}
    return Offline(
        rows=rows,
        loops=max(1, round(rows / sample.rows)),
        seconds=sum(seconds),
        start_s=median(one.start for one in passes) + fixed,
        first_row_s=first.ended.seconds,
        rows_per_s=max(windows),
        windows=windows,
        stable=stable(windows),
        cpu_s=max(0.0, sum(one.ended.cpu_s for one in passes) - count * fixed_cpu),
        cpu_s_start=fixed_cpu,
        peak=max(one.peak for one in passes),
        stages=stages,
    )


def _fixed(passes: list[Pass], shorter: list[Pass], of: Callable[[Pass], float]) -> float:
    """What such a job takes whatever its rows, by the clearly shorter one that tells the least: whatever else a short
    job takes for a row, as its blocks are small, is none of it."""
    rows, whole = passes[0].rows, median(map(of, passes))
    found = [
        of(one) - (whole - of(one)) * one.rows / (rows - one.rows) for one in shorter if one.rows * _CLEARLY <= rows
    ]
    return min(max(0.0, min(found, default=0.0)), min(map(of, passes)) * _MOST_FIXED)


def _suffix(sample: Sample) -> str:
    """An output's: its format and how it is packed are the input's."""
    packed = Path(sample.paths[0]).suffix
    return sample.suffix + (packed if packed in SUFFIXES else "")
