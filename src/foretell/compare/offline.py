"""The offline trial: the real job, as a process, on the user's input made long enough; each pass of it is a window."""

import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from foretell.compare.asked import Model
from foretell.compare.child import Ended, OutOfTime, ran
from foretell.compare.looped import Looped, of_rows
from foretell.compare.measured import Offline
from foretell.compare.quantiles import stable
from foretell.compare.sample import Sample
from foretell.errors import ForetellError

PASSES = 3
_GROWTH = 20
_FILL = 0.85
"""Of the time that is left, this share is planned: no pass takes just as long as the last one promised."""
_SHORT = 0.15
_TICK = 0.01
_SAID = re.compile(r"^([\d,]+) rows? in ([\d.]+) s \(", re.MULTILINE)


@dataclass(frozen=True)
class Pass:
    """One job. seconds: that it worked; start: until it did."""

    rows: int
    seconds: float
    start: float
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
            return self._run(looped, self._folder / f"output{_suffix(self._sample.paths[0])}")
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
        command = ["models", "predict", *self._model.flags, "-i", looped.path, "-o", str(output), "--resume", "never"]
        try:
            ended = ran([*command, *options], self._model.environment, self._end)
        finally:
            if not keep:
                output.unlink(missing_ok=True)
        told = _SAID.search(ended.said)
        if told is None:
            raise ForetellError(f"a job did not say how long it took: {ended.said[-200:]}")
        seconds = max(float(told[2]), _TICK)
        return Pass(int(told[1].replace(",", "")), seconds, max(0.0, ended.seconds - seconds), ended, {})


def offline(jobs: Jobs, sample: Sample, known: Pass, until: float) -> Offline:
    """The trial. known: a job on some rows, which tells how many can be done. until: when it should be over."""
    first = jobs.of_rows(1)
    passes: list[Pass] = []
    last = known
    while not passes or _goes_on(passes, until):
        todo = max(1, PASSES - len(passes))
        span = (until - time.perf_counter()) / todo * _FILL - last.start
        wanted = round(last.rows / last.seconds * max(span, _SHORT))
        rows = max(1, min(wanted, _GROWTH * last.rows))
        try:
            last = jobs.of_rows(rows)
        except OutOfTime:
            if not passes:
                raise
            break
        warming = not passes and rows < wanted and last.seconds < span / PASSES
        passes += [] if warming and until - time.perf_counter() > PASSES * last.ended.seconds else [last]
    return _told(first, passes[-PASSES:], sample)


def _goes_on(passes: list[Pass], until: float) -> bool:
    """Whether another pass is of use, and there is time for one like the last."""
    if len(passes) >= PASSES and stable([one.rows / one.seconds for one in passes]):
        return False
    return time.perf_counter() + min(passes[-1].ended.seconds, passes[-1].start * 2 + _SHORT) < until


def _told(first: Pass, passes: list[Pass], sample: Sample) -> Offline:
    rows, seconds = sum(one.rows for one in passes), sum(one.seconds for one in passes)
    windows = [one.rows / one.seconds for one in passes]
    cpu_s = sum(max(0.0, one.ended.cpu_s - first.ended.cpu_s) for one in passes)
    stages = {name: sum(one.stages.get(name, 0.0) for one in passes) for name in passes[0].stages}
    return Offline(
        rows=rows,
        loops=max(1, round(rows / sample.rows)),
        seconds=seconds,
        start_s=median(one.start for one in passes),
        first_row_s=first.ended.seconds,
        rows_per_s=rows / seconds,
        windows=windows,
        stable=stable(windows),
        cpu_s=cpu_s,
        cpu_s_start=first.ended.cpu_s,
        peak=max(one.ended.peak for one in passes),
        stages=stages,
    )


def _suffix(path: str) -> str:
    name = Path(path)
    return "".join(name.suffixes[-2:]) if name.suffix in (".gz", ".zst") else name.suffix
