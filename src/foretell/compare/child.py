"""A command of foretell's as a process of its own: run to its end within its time, or watched while it runs. What it
used is told, and nothing of it is left behind."""

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from foretell import parent
from foretell.errors import ForetellError, InputError, RejectsExceeded, UsageError, printable

_TICK = 0.02
_KINDS: dict[int, type[ForetellError]] = {2: UsageError, 3: InputError, 4: RejectsExceeded}
_CLOCK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class OutOfTime(ForetellError):
    """A command took longer than it was given."""


@dataclass(frozen=True)
class Ended:
    """seconds: from the process's start to its end. cpu_s: of it and its children. peak: bytes of resident memory that
    all of them held at a time. said: what it wrote on stderr."""

    seconds: float
    cpu_s: float
    peak: int
    said: str


class Child:
    """A process, of a session of its own so that Ctrl-C comes to its parent alone, which ends it; when that is killed,
    or the thread ends that made this, it ends too. Use with `with`.

    command: foretell's, or a module's of ours and its arguments.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], module: str = "foretell") -> None:
        self.name = " ".join((module, *command[:2])) if module == "foretell" else module
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed on leaving
        self.started = time.perf_counter()
        self.process = subprocess.Popen(  # noqa: S603 - our own command
            parent.command(module, *command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=environment,
            start_new_session=True,
        )

    def __enter__(self) -> "Child":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._said.close()

    def kill(self) -> None:
        """Ends it and all that it started."""
        for pid in reversed(family(self.process.pid)):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def said(self) -> str:
        """What it wrote on stderr so far."""
        self._said.seek(0)
        return self._said.read().decode("utf-8", "replace")

    def error(self, code: int) -> ForetellError:
        """Its own error, as it told it."""
        lines = self.said.splitlines()
        at = next((at for at, line in enumerate(lines) if line.startswith("error: ")), None)
        if at is None:
            last = next((line for line in reversed(lines) if line.strip()), "")
            return ForetellError(f"{self.name} ended with code {code}: {last}")
        message = lines[at].removeprefix("error: ")
        more = [line.strip() for line in lines[at + 1 :] if line.startswith("  ")]
        found = _KINDS.get(code, ForetellError)(message, more[-1] if more else "")
        found.details = tuple(map(printable, more[:-1]))
        return found


def ran(command: Sequence[str], environment: Mapping[str, str], until: float, module: str = "foretell") -> Ended:
    """Runs a command to its end. until: by the clock of perf_counter. Raises its own error, or OutOfTime."""
    with Child(command, environment, module) as child:
        ended = _Waiting(child)
        peak = 0
        while not ended.wait(_TICK):
            peak = max(peak, resident(child.process.pid))
            if time.perf_counter() > until:
                raise OutOfTime(f"{child.name} took longer than {max(0.0, until - child.started):.1f} s")
        if ended.code:
            raise child.error(ended.code)
        return Ended(ended.at - child.started, ended.cpu_s, peak, child.said)


class _Waiting:
    """Waits for a process in a thread, so as to know the moment of its end."""

    def __init__(self, child: Child) -> None:
        self._process = child.process
        self._ended = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def wait(self, seconds: float) -> bool:
        return self._ended.wait(seconds)

    def _run(self) -> None:
        with contextlib.suppress(ChildProcessError):
            _, status, used = os.wait4(self._process.pid, 0)
            self.at = time.perf_counter()
            self.cpu_s = used.ru_utime + used.ru_stime
            self.code = self._process.returncode = os.waitstatus_to_exitcode(status)
        self._ended.set()


def family(pid: int) -> list[int]:
    """A process and its children, and theirs."""
    found = [pid]
    for tasks in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{tasks}/task").iterdir():
                with contextlib.suppress(OSError):
                    found += map(int, (task / "children").read_text().split())
    return found


def end_all(folder: Path) -> None:
    """Ends the children of this process whose environment names that folder: those too that a signal came between when
    they were started, so that nobody knows of them."""
    for pid in family(os.getpid())[1:]:
        with contextlib.suppress(OSError):
            if os.fsencode(folder) in Path(f"/proc/{pid}/environ").read_bytes():
                os.kill(pid, signal.SIGKILL)


def resident(pid: int) -> int:
    """Bytes that a process and its children hold; what they share counts for each."""
    pages = 0
    for one in family(pid):
        with contextlib.suppress(OSError, IndexError):
            pages += int(Path(f"/proc/{one}/statm").read_text().split()[1])
    return pages * _PAGE


def cpu(pid: int) -> float:
    """Seconds of CPU that a process and its children used so far, those that ended too."""
    ticks = 0
    for one in family(pid):
        with contextlib.suppress(OSError, IndexError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / _CLOCK
