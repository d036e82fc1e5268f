"""A comparison: both ways measured on the user's model and rows, one trial after another, within a time that is given.

Every trial runs the real commands as processes. What is short of time is left out in a fixed order, and said.
"""

import contextlib
import math
import shlex
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import msgspec

from foretell import predictor
from foretell.compare import fingerprint, search
from foretell.compare.asked import Asked, Model, Say, settled
from foretell.compare.child import OutOfTime, end_all, ran
from foretell.compare.load import Generator, check_built
from foretell.compare.measured import Measured, Offline, Parity, Server, Single
from foretell.compare.measured import Model as ModelTold
from foretell.compare.offline import PASSES, Jobs, offline
from foretell.compare.parity import parity
from foretell.compare.sample import Sample, take
from foretell.compare.served import Served, served
from foretell.compare.steps import Loading
from foretell.errors import ForetellError, UsageError
from foretell.models import proven
from foretell.predictor import Found

WEIGHTS = {"offline": 36, "single": 7, "search": 30, "curve": 21, "parity": 6}
"""How the time that is left is shared among the trials that are left."""

_COMPILING = 0.2
_STARTS = 4
"""Times that the model is loaded at least: for the sample, its answers, a pass, and the server."""
_SPARE = 1.5
_ANSWERS = 0.05
"""Of the time, for the answers that the server's are compared with."""
_ENDING = 0.02
"""Of the time, for the end of the server and the report."""
_LEAST_SHARE = 0.25
_BUSY = 0.1
_ASKED = 0.99
_LEAST_PASS = 0.5


class Clock:
    """What time there is. Seconds by perf_counter."""

    def __init__(self, budget: float) -> None:
        self.began = time.perf_counter()
        self.budget = budget
        self.end = self.began + (1 - _ENDING) * budget
        self._left = dict(WEIGHTS)

    @property
    def gone(self) -> float:
        """The share of the time that is gone."""
        return (time.perf_counter() - self.began) / self.budget

    def until(self, trial: str, reserved: float = 0.0) -> float:
        """When a trial should be over. reserved: seconds that are needed for something else afterwards."""
        now = time.perf_counter()
        whole = sum(self._left.values())
        return now + max(0.0, self.end - reserved - now) * self._left.pop(trial) / whole


def measure(asked: Asked, say: Say = lambda what, share: None) -> Measured:
    """Measures both ways. say: told what is being done, and the share of the time that is gone.

    Raises the errors of the commands as they are (ModelError, InputError, …), and UsageError where the time is too
    short. Whatever happens, no process is left behind.
    """
    check_built()
    clock = Clock(asked.budget)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    before = fingerprint.busy()
    with _tidy() as folder:
        found, model = _settled(asked, folder, clock, say)
        say("reading the input", clock.gone)
        began, start = time.perf_counter(), 0.0
        try:
            sample = take(model, asked.input, folder, clock.end)
            start = time.perf_counter() - began
            if start * (_STARTS - 1) > (1 - _LEAST_SHARE) * (clock.end - time.perf_counter()):
                raise OutOfTime(f"to load the model takes {start:.1f} s, and it is loaded {_STARTS} times")
            jobs = Jobs(model, sample, asked.input, folder, clock.end)
            batch = _offline(jobs, sample, folder, clock, start, say)
            single, server, same = _server(asked, model, sample, folder, clock, say)
        except OutOfTime as error:
            raise UsageError(
                f"{asked.budget:g} s are too short to compare: {error.message}",
                f"Give it more: --budget {math.ceil(max(2 * asked.budget, 2 * _STARTS * start))}s",
            ) from error
    resolved = found.resolved
    return Measured(
        model=ModelTold(
            asked.uri,
            resolved.label,
            "" if resolved.version is None else str(resolved.version),
            resolved.digest,
            sample.flavour,
            sample.engine,
        ),
        machine=fingerprint.this_machine(),
        input=asked.input,
        input_rows=sample.rows,
        seed=asked.seed,
        command=asked.command,
        at=at,
        took_s=time.perf_counter() - clock.began,
        offline=batch,
        single=single,
        server=server,
        parity=same,
        notes=_notes(asked, sample, batch, server, before, clock),
        asked=shlex.join(asked.reading.flags),
    )


def _settled(asked: Asked, folder: Path, clock: Clock, say: Say) -> tuple[Found, Model]:
    """The model and its engine: made now where one can be, as a server would make it beside its first requests."""
    found, state = asked.find(), str(folder / "state")
    model = settled(asked, found, state)
    place = proven.entry(found.resolved.digest, asked.read_as)
    if asked.engine != predictor.AUTO or found.compiled is not None or place.record() is not None:
        return found, model
    say("looking for a faster engine", clock.gone)
    command = ["models", "compile", "--json", *msgspec.structs.replace(model, engine=predictor.AUTO).flags]
    with contextlib.suppress(ForetellError):
        ran(command, model.environment, clock.began + _COMPILING * clock.budget)
        found = asked.find()
    return found, settled(asked, found, state)


def _offline(jobs: Jobs, sample: Sample, folder: Path, clock: Clock, start: float, say: Say) -> Offline:
    say("batch: the first rows", clock.gone)
    few = max(1, round(_ANSWERS * clock.budget / sample.row_s))
    known = jobs.answers(min(few, len(sample.requests)), folder / "answers.jsonl")
    say("batch: the whole input", clock.gone)
    return offline(jobs, sample, known, clock.until("offline", _SPARE * start))


def _server(
    asked: Asked, model: Model, sample: Sample, folder: Path, clock: Clock, say: Say
) -> tuple[Single, Server, Parity]:
    say("real time: starting the server", clock.gone)
    with served(model, asked.workers, clock.end) as server, Generator() as generator:
        _check(server, sample)
        loading = Loading(generator, server, sample.requests, asked.seed)

        def tell(what: str) -> None:
            say(f"real time: {what}", clock.gone)

        tell("the same rows as in batch")
        until = clock.until("parity")
        with (folder / "answers.jsonl").open("rb") as lines:
            same = parity(lines, server.answers(sample.requests, until))
        tell("one client")
        until = clock.until("single")
        single = loading.single(max(0.1, 0.7 * (until - time.perf_counter())))
        if not single.rps:
            raise OutOfTime("no request was answered")
        most = loading.most(max(0.1, until - time.perf_counter()), 1 / single.rps)
        bound = search.derived_slo(single) if asked.slo_p99 is None else asked.slo_p99
        loading.bear(most, bound)
        until = clock.until("search")
        looked = search.Search(loading, bound, most, until - time.perf_counter())
        looked.run(until, tell)
        steps, stages = search.curve(loading, server, looked.aim, looked.capacity or most, clock.until("curve"), tell)
        told = search.told(server, looked, given=asked.slo_p99 is not None, steps=steps, stages=stages)
        told = msgspec.structs.replace(told, workers=asked.workers)
        return single, told, same


def _check(server: Served, sample: Sample) -> None:
    """That requests are answered at all, before they are many."""
    status, body = server.ask(sample.requests[0])
    if status != 200:
        told = body.decode("utf-8", "replace")[:300]
        raise ForetellError(f"the server refuses the input's first row, which a job predicts: HTTP {status}: {told}")


def _notes(
    asked: Asked, sample: Sample, batch: Offline, server: Server, before: tuple[float, float], clock: Clock
) -> list[str]:
    notes = []
    if asked.reading.options.delimiter is None and sample.delimiter not in ("", ","):
        notes.append(f"The input was read with {sample.delimiter!r} as its delimiter.")
    if len(batch.windows) < PASSES:
        notes.append(f"Batch was measured in {len(batch.windows)} of {PASSES} passes, as the time was short.")
    elif not batch.stable:
        low, high = min(batch.windows), max(batch.windows)
        notes.append(f"Batch is not steady: its passes did {low:,.0f} to {high:,.0f} rows a second.")
    if batch.seconds < _LEAST_PASS * len(batch.windows):
        notes.append("Batch was measured on few rows, as the time was short: a long job may do more rows a second.")
    if not server.capacity:
        notes.append(f"No rate kept p99 within {server.slo_p99 * 1000:g} ms; the curve is of what it answers at most.")
    elif server.quantile < _ASKED:
        notes.append(f"So few requests in the time tell p{server.quantile * 100:g} at most, which stands for p99.")
    if server.at_least:
        notes.append("The server may do more: the load generator, or the time, was the limit.")
    if len(server.curve) < len(search.CURVE):
        notes.append(f"The curve has {len(server.curve)} of {len(search.CURVE)} points, as the time was short.")
    whole, own = (now - then for now, then in zip(fingerprint.busy(), before, strict=True))
    others = (whole - own) / (time.perf_counter() - clock.began)
    if others > _BUSY:
        notes.append(f"Other processes used {others:.1f} cores of this machine meanwhile; on a quiet one it is faster.")
    return notes


@contextlib.contextmanager
def _tidy() -> Iterator[Path]:
    """A folder for what comes up; it goes, and with it all that was started, also by SIGTERM."""

    def ended(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, ended) if main else None
    folder = Path(tempfile.mkdtemp(prefix="foretell-compare-"))
    try:
        yield folder
    finally:
        end_all(folder)
        shutil.rmtree(folder, ignore_errors=True)
        if main:
            signal.signal(signal.SIGTERM, before)
