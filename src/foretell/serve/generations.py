"""How versions change where there are several server processes: other processes take over, all at once, on the same
listeners. So nothing of the version before is left in them, whatever code it brought and wherever it hangs."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from foretell.errors import ForetellError, ModelError
from foretell.predictor import Found
from foretell.serve.changes import Report
from foretell.serve.figures import merged, rows
from foretell.serve.follower import Asked, Follower
from foretell.serve.standing import Standing, Version
from foretell.serve.swapper import Manners, check_room, check_signature
from foretell.serve.wanted import Wanted, keep_trust
from foretell.serve.workers import Supervisor
from foretell.signature import Signature

Targets = dict[str, Version]


class Generations:
    """The hands of a parent. command: starts a worker that serves these versions."""

    def __init__(
        self,
        wanted: Mapping[str, Wanted],
        first: Mapping[str, Callable[[], Found]],
        supervisor: Supervisor,
        command: Callable[[Targets], list[str]],
        manners: Manners,
        say: Callable[[str], None],
        *,
        poll: float,
    ) -> None:
        self._supervisor = supervisor
        self._command = command
        self._manners = manners
        self._targets: Targets = {}
        self._begun = False
        self._follower = Follower(wanted, first, self, self._opened, lambda _: None, say, poll=poll)

    def start(self) -> None:
        self._follower.start()

    def ask(self, asked: Asked) -> None:
        self._follower.ask(asked)

    def open(self, name: str, found: Found) -> None:
        """At the start waits for what the first workers say; later lets others take over. Raises ForetellError."""
        target = Version.of(found)
        if not self._begun:
            report = self._supervisor.first()
            if name in report.failed:
                raise ModelError(report.failed[name])
            self._targets[name] = target
            return
        keep_trust(found)
        targets = {**self._targets, name: target}
        held = sum(map(_own_memory, self._supervisor.pids()))
        check_room(found, copies=self._supervisor.count, beside=held)
        before = self._supervisor.report()

        def judge(report: Report) -> str:
            try:
                self._judge(name, target, before, report)
            except ForetellError as error:
                return error.message
            return ""

        if wrong := self._supervisor.change(self._command(targets), judge, self._manners.seconds):
            raise ModelError(wrong)
        self._targets = targets

    def unserved(self, name: str, reason: str) -> None:
        """The workers say so themselves."""

    def told(self, standings: list[Standing]) -> None:
        told = {each.name: each.told() for each in standings}
        self._supervisor.tell(told, rows(merged(each.series() for each in standings)))

    def _opened(self) -> None:
        self._begun = True

    def _judge(self, name: str, target: Version, before: Report, now: Report) -> None:
        """Raises ModelError for workers that should not take over."""
        for other, reason in now.failed.items():
            if other == name or other not in before.failed:
                raise ModelError(reason if other == name else f"beside it {other} cannot be loaded: {reason}")
        if now.known[name]["digest"] != target.digest:
            raise ModelError("its files changed while it was loaded")
        if name in before.known and not self._manners.other_signature:
            check_signature(_signature(before.known[name]), _signature(now.known[name]))


def _signature(known: dict[str, Any]) -> Signature:
    return msgspec.convert(known["signature"], Signature)


def _own_memory(pid: int) -> int:
    """Bytes that a process holds, what it shares with others in parts; 0 where that is not to be known."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next((int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:")), 0)
    except (OSError, ValueError, IndexError):
        return 0
