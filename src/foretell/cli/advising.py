"""One line of advice where a command is used for the other's job: on a terminal only, and at most once a day."""

import contextlib
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from foretell.cli.registry import say
from foretell.compare.other_way import RECENT, Counted, Streak, by_handfuls
from foretell.compare.units import DAY
from foretell.errors import LedgerError
from foretell.registry.choose import without_secrets
from foretell.storage import make_private, state_home

if TYPE_CHECKING:
    from foretell.ledger.ledger import Ledger
    from foretell.serve.door import Door


def advise_job(ledger: "Ledger", digest: str, uri: str) -> None:
    """After a job: if the model is predicted with by handfuls, what that costs, and what else there is."""
    if not sys.stderr.isatty():
        return
    with contextlib.suppress(LedgerError):
        told = by_handfuls(ledger.recent(digest, time.time() - RECENT))
        if told is not None and _first_today("predict", ledger.path.parent):
            quoted = shlex.quote(without_secrets(uri))
            say(f"{told}. A server keeps the model loaded: foretell models serve -m {quoted}; {_compare(quoted)}")


def advising(uri: str) -> "Callable[[Door], None] | None":
    """What looks at a server's counts at every tick; None where nobody would see what it says."""
    if not sys.stderr.isatty():
        return None
    streak, quoted = Streak(), shlex.quote(without_secrets(uri))

    def look(door: "Door") -> None:
        told = streak.look(_counted(door))
        if told is not None and _first_today("serve", state_home()):
            say(f"{told}. If they come from a file: foretell models predict -m {quoted} -i FILE; {_compare(quoted)}")

    return look


def _compare(uri: str) -> str:
    return f"what that saves, tells: foretell models compare -m {uri} -i FILE"


def _counted(door: "Door") -> Counted:
    meter = door.main.meter
    return Counted(
        at=time.monotonic(),
        requests=meter.good,
        rows=meter.rows,
        calls=sum(meter.batch.counts),
        alone=meter.batch.counts[0],
        waited=meter.whole.total,
        computed=meter.compute.total,
        connections=door.connections,
    )


def _first_today(kind: str, folder: Path) -> bool:
    """Whether this was not said within a day, which it then is. Where that cannot be noted it is never said."""
    mark = folder / f"advised-{kind}"
    with contextlib.suppress(OSError):
        try:
            if time.time() - mark.stat().st_mtime < DAY:
                return False
        except FileNotFoundError:
            make_private(mark.parent)
        mark.touch()
        return True
    return False
