"""Whether a process that wrote its name down still runs. A number alone does not tell: numbers are given again."""

import contextlib
import os
import socket
import time
from pathlib import Path

_PROC = Path("/proc")


def me() -> str:
    """This process's name: the machine's boot, the space of process numbers, its number, and when it started."""
    return f"{_boot()} {_space()} {os.getpid()} {_started(os.getpid())}"


def host() -> str:
    return socket.gethostname()


def pid_of(process: str) -> int | None:
    """The number in a process's name."""
    parts = process.split(" ")
    return int(parts[2]) if len(parts) == 4 and parts[2].isdigit() else None


def runs(process: str, where: str) -> bool | None:
    """Whether a process still runs; None where it cannot be told from here: it is of another machine or container.

    process, where: what me() and host() told there.
    """
    number = pid_of(process)
    if number is None:
        return False
    boot, space, _, started = process.split(" ")
    if boot != _boot():
        return False if where == host() else None
    if space != _space():
        return None
    return _started(number) == started


def since_start() -> float:
    """Seconds since this process was started, in hundredths; 0.0 where the system does not tell."""
    with contextlib.suppress(OSError, ValueError):
        ticks = int(_started(os.getpid())) / os.sysconf("SC_CLK_TCK")
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - ticks)
    return 0.0


def _started(number: int) -> str:
    """When a process was started, in ticks since the boot; empty where there is none, or none but its remains."""
    with contextlib.suppress(OSError, IndexError):
        fields = (_PROC / str(number) / "stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    return ""


def _boot() -> str:
    with contextlib.suppress(OSError):
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    return "-"


def _space() -> str:
    with contextlib.suppress(OSError):
        return str((_PROC / "self/ns/pid").stat().st_ino)
    return "-"
