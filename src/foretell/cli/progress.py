"""How a running job is shown to whoever watches, and how it is stopped."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator

from foretell.job.running import Stop, Tally


def shown(tallies: Iterator[Tally]) -> Iterator[Tally]:
    """Passes a job's progress on, with a bar where a person watches."""
    if not sys.stderr.isatty():
        return tallies
    from foretell.cli.bar import drawn

    return drawn(tallies)


@contextlib.contextmanager
def stopped_by_signals(stop: Stop | None, *, resumable: bool) -> Iterator[None]:
    """The first SIGINT or SIGTERM lets the block at hand be finished, the second ends all at once. What comes through a
    pipe cannot be gone on with, so there the first one ends it."""

    def asked(number: int, _: object) -> None:
        code = 128 + number
        if not resumable or stop is None:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(code)
        if stop.code is not None:
            os._exit(code)
        stop.code = code

    before = {number: signal.signal(number, asked) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
