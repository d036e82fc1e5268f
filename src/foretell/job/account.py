"""What a run adds up for the report of its job: figures of its rows, what its processes held, and digests."""

from dataclasses import dataclass, field

from foretell.job.digests import Digests
from foretell.job.figures import Figures
from foretell.job.inputs import Inputs
from foretell.job.one_file import Sealed
from foretell.job.report import (
    Counts,
    FileTold,
    Memory,
    Report,
    Throughput,
    model_told,
    nulls_told,
    peak,
    times_told,
)
from foretell.job.running import Running, Tally
from foretell.job.work import Done, Job
from foretell.predictor import Predictor


@dataclass
class Account:
    """Of one run. output, input: what hashes them, where that is wanted. peaks: bytes by process."""

    running: Running
    figures: Figures = field(default_factory=Figures)
    peaks: dict[int, int] = field(default_factory=dict)
    output: Digests | None = None
    input: Digests | None = None

    def __post_init__(self) -> None:
        if self.running.digests:
            self.output, self.input = Digests(), Digests()

    def add(self, done: Done) -> None:
        self.figures += done.figures
        if done.process is not None:
            number, held = done.process
            self.peaks[number] = held

    def jumps(self, tally: Tally) -> list[str]:
        """What is not as in the job before, if that is to be guarded."""
        guard = self.running.guard
        return guard.jumps(_counts(tally), self.figures) if guard is not None else []

    def report(self, job: Job, predictor: Predictor, inputs: Inputs, tally: Tally, sealed: list[Sealed]) -> Report:
        """tally: of all rows, with the seconds until now. Waits for digests."""
        files = inputs.told()
        output = [FileTold(one.name, one.size, one.followed.digest() if one.followed else None) for one in sealed]
        main, workers = peak(), sorted(self.peaks.values())
        rows, read = tally.rows - tally.resumed, sum(file.bytes or 0 for file in files) - tally.skipped
        return Report(
            self.running.name,
            model_told(predictor),
            predictor.engine.name,
            files,
            job.input_format.name,
            output,
            job.output_format.name,
            _counts(tally),
            nulls_told([*predictor.signature.names, *inputs.reader.no_rows.names], self.figures),
            {name: found.told() for name, found in self.figures.predictions.items()},
            times_told(
                self.running.began, self.running.start, tally.seconds, (tally.reading, tally.predicting, tally.writing)
            ),
            Throughput(round(rows / tally.seconds, 1), round(read / tally.seconds / 1e6, 3)),
            Memory(main + sum(workers), main, workers),
        )

    def close(self) -> None:
        for digests in (self.output, self.input):
            if digests is not None:
                digests.close()


def _counts(tally: Tally) -> Counts:
    return Counts(tally.rows, tally.predicted, tally.rejected, tally.resumed)
