"""How a command runs so that it can do no harm: as a process that sees little, may change one folder, and has limits.

Whoever must run what nobody trusts calls `run`. It starts a helper, a fresh interpreter, since only a process of one
thread may enter new namespaces; the helper's work is `namespaces`.
"""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foretell.errors import OutputError, UsageError
from foretell.sandbox import seccomp

_HELPER = "import sys; sys.path.append(sys.argv[1]); from foretell.sandbox import namespaces; namespaces.inside()"
_SYSTEM = (
    *("/usr", "/lib", "/lib64", "/bin", "/sbin", "/nix/store"),
    *("/etc/alternatives", "/etc/ld.so.cache", "/etc/localtime"),
)
_GRACE = 10.0
"""Seconds to start, and to end after the time limit."""
_SHOWN = 500
_HINT = (
    "It takes Linux 5.12 and user namespaces: see user.max_user_namespaces, kernel.unprivileged_userns_clone and "
    "kernel.apparmor_restrict_unprivileged_userns in sysctl; in a container, its seccomp profile"
)


@dataclass(frozen=True)
class Ended:
    """How a command ended. code: its exit code, or below 0 the signal's number. said: the end of what it wrote on
    stderr, on one printable line. limit: what it went past, so that it was killed; or empty."""

    code: int
    said: str
    limit: str = ""


def run(
    command: list[str],
    *,
    readable: list[Path],
    writable: Path,
    environment: dict[str, str],
    seconds: float,
    memory: int,
) -> Ended:
    """Runs a command, and ends all that it started.

    readable: files and folders that it sees, beside what Python needs. writable: the one folder that it may change, and
    where it starts. Both have the paths that they have here. memory: bytes, of a process, of a file, and of all
    processes together. What it left in writable is its own word, links too: read plain files there, follow nothing.
    Raises UsageError where nobody can make a sandbox, OutputError.
    """
    if not seccomp.known():
        raise UsageError("A sandbox needs Linux on x86_64 or aarch64")
    if not writable.is_dir():
        raise OutputError(f"{writable} is no folder")
    wanted = {
        "command": command,
        "readable": [str(path) for path in (*_needed(), *(path.absolute() for path in readable))],
        "writable": str(writable.absolute()),
        "environment": environment,
        "seconds": seconds,
        "memory": memory,
        "caller": os.getpid(),
    }
    report, said, overdue = _told(json.dumps(wanted).encode(), seconds + _GRACE)
    if "refused" in report:
        raise UsageError(f"No sandbox can be made on this machine: {report['refused']}", _HINT)
    if overdue:
        return Ended(-signal.SIGKILL, said, f"longer than {seconds:g} s")
    if "code" not in report:
        raise OutputError(f"The sandbox cannot be started: {report.get('failed', said)}")
    return Ended(report["code"], said, report["limit"])


def _needed() -> Iterator[Path]:
    """What Python needs: itself, the system's libraries, its packages, and this one."""
    home, given = Path.home(), os.environ.get("PYTHONPATH", "").split(os.pathsep)
    # Where the command line stands and its script lies are on the path unasked; and a home holds more than packages.
    unasked = [str(Path.cwd()), str(Path(sys.argv[0]).resolve().parent)]
    packages = [name for name in sys.path if name and (name in given or name not in unasked)]
    packages = [name for name in packages if not home.is_relative_to(name)]
    own = str(Path(__file__).parents[1])
    for name in (*_SYSTEM, sys.prefix, sys.base_prefix, sys.executable, *packages, own):
        if (path := Path(name).absolute()).exists():
            yield path


def _told(wanted: bytes, seconds: float) -> tuple[dict[str, Any], str, bool]:
    """(the helper's report, the end of the command's stderr, whether it had to be killed). Raises OutputError."""
    loader = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    try:
        with subprocess.Popen(  # noqa: S603 - our own interpreter and code, no shell
            [sys.executable, "-I", "-S", "-c", _HELPER, str(Path(__file__).parents[2])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env=loader,
            start_new_session=True,
        ) as helper:
            try:
                report, said, overdue = _heard(helper, wanted, seconds)
            finally:
                helper.kill()
    except OSError as error:
        raise OutputError(f"The sandbox cannot be started: {error.strerror}") from error
    shown = "".join(mark if mark.isprintable() else " " for mark in said.decode("utf-8", "replace"))
    return json.loads(report or b"{}"), " ".join(shown.split())[-_SHOWN:], overdue


def _heard(helper: "subprocess.Popen[bytes]", wanted: bytes, seconds: float) -> tuple[bytes, bytes, bool]:
    """(stdout, the end of stderr, whether it still runs after that time). All in the sandbox hold its stderr open."""
    if helper.stdin is None or helper.stdout is None or helper.stderr is None:
        raise BrokenPipeError
    with contextlib.suppress(BrokenPipeError), helper.stdin:
        helper.stdin.write(wanted)
    kept = {helper.stdout.fileno(): b"", helper.stderr.fileno(): b""}
    until = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        for pipe in kept:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map() and (left := until - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                if not (piece := os.read(key.fd, 1 << 16)):
                    selector.unregister(key.fd)
                kept[key.fd] = (kept[key.fd] + piece)[-4 * _SHOWN :]
        report, said = kept.values()
        return report, said, bool(selector.get_map())
