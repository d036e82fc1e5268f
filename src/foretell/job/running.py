"""How a job is to run, and how far it is: what its caller says and is told."""

from collections.abc import Callable
from dataclasses import dataclass

from foretell.job.guard import Guard
from foretell.job.outputs import AUTO
from foretell.job.report import Report
from foretell.predictor import Predictor

_PATIENCE = 10.0


@dataclass(frozen=True)
class Limit:
    """How many bad rows are too many: more than so many, or more than this share of all rows, known at the end. Without
    either, only when none is good."""

    rows: int | None = None
    share: float | None = None

    def exceeded(self, rows: int, rejected: int, *, ended: bool) -> bool:
        if self.rows is not None:
            return rejected > self.rows
        if self.share is not None:
            return ended and rejected > self.share * rows
        return ended and rows > 0 and rejected == rows

    @property
    def set(self) -> bool:
        return self.rows is not None or self.share is not None

    def __str__(self) -> str:
        return f"{self.rows}" if self.rows is not None else f"{(self.share or 0) * 100:g}%"


@dataclass
class Stop:
    """Set by a signal: what was begun is finished, the rest is left for a later run. code: what to exit with."""

    code: int | None = None


@dataclass(frozen=True)
class Running:
    """How a job is to run; nothing of its output depends on it. threads: 0 for as many as there are cores. again: loads
    the model in another process. patience: seconds of work ahead that are worth to start processes. name, began, start:
    the job's name for its report, when its process began (seconds, as time.time), and how long that took to get here.
    digests: whether the report tells those of inputs and outputs. guard: what the output has to be like.
    """

    threads: int = 0
    resume: str = AUTO
    limit: Limit = Limit()
    stop: Stop | None = None
    again: Callable[[], Predictor] | None = None
    patience: float = _PATIENCE
    say: Callable[[str], None] = lambda _: None
    name: str = ""
    began: float = 0.0
    start: float = 0.0
    digests: bool = False
    guard: Guard | None = None


@dataclass(frozen=True)
class Tally:
    """How far a job is, or came. rows: that were read; resumed: of these, by an earlier run. read, size: bytes of the
    input; skipped: of these, by an earlier run; size is None where unknown. seconds: since the job's start; start: of
    the process, until then; reading, predicting, writing: of all threads together. report: in the end; jumps: why the
    output was held then."""

    rows: int = 0
    rejected: int = 0
    resumed: int = 0
    read: int = 0
    skipped: int = 0
    size: int | None = None
    seconds: float = 0.0
    start: float = 0.0
    reading: float = 0.0
    predicting: float = 0.0
    writing: float = 0.0
    engine: str = ""
    finished: bool = False
    report: Report | None = None
    jumps: tuple[str, ...] = ()

    @property
    def predicted(self) -> int:
        return self.rows - self.rejected
