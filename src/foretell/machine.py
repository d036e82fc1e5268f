"""What this process may use of the machine: cores and memory, by the container's limits (cgroups v1 and v2) too."""

import math
import os
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def cores(root: Path = _ROOT, own: Path = _OWN) -> int:
    """How many cores' worth of time it gets, at least one."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for folder in _folders(root, own, "cpu") if (quota := _quota(folder)) is not None]
    return max(1, math.ceil(min([there, *quotas])))


def memory(root: Path = _ROOT, own: Path = _OWN) -> int:
    """How many bytes it may fill: the machine's, or less where a container's limit says so."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    names = ("memory.max", "memory.limit_in_bytes")
    limits = [limit for folder in _folders(root, own, "memory") for name in names if (limit := _number(folder / name))]
    return int(min([there, *limits]))


def free_memory(root: Path = _ROOT, own: Path = _OWN, told: Path = Path("/proc/meminfo")) -> int:
    """How many bytes it may still fill: what is available on the machine, or less where a container's limit is nearer.
    Pages of files that nobody has used lately count as free."""
    found = [memory(root, own)]
    try:
        lines = dict(line.split(":", 1) for line in told.read_text().splitlines())
        found.append(int(lines["MemAvailable"].split()[0]) << 10)
    except (OSError, KeyError, ValueError):
        pass
    for folder in _folders(root, own, "memory"):
        for most, now, old in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit, used = _number(folder / most), _number(folder / now)
            if limit and used is not None:
                found.append(limit - used + _counted(folder / "memory.stat", old))
    return max(0, min(found))


def _folders(root: Path, own: Path, controller: str) -> list[Path]:
    """The process's cgroups that may limit it, from its own up to the root; a container often sees only the root."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return []
    found = []
    for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if controllers and controller not in controllers.split(","):
            continue
        top = root / controller if controllers else root
        inner = Path(path.lstrip("/"))
        found += [top / part for part in (inner, *inner.parents)] if ".." not in inner.parts else [top]
    return found


def _quota(folder: Path) -> float | None:
    """Cores' worth of time that a cgroup gets; None without a limit."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        quota, period = str(_number(folder / "cpu.cfs_quota_us")), str(_number(folder / "cpu.cfs_period_us"))
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) and int(quota) else None


def _counted(file: Path, name: str) -> int:
    """A line's number in a file of names and numbers; 0 where there is none."""
    try:
        pairs = dict(line.split(" ", 1) for line in file.read_text().splitlines())
        return int(pairs.get(name, 0))
    except (OSError, ValueError):
        return 0


def _number(file: Path) -> int | None:
    """A limit in a file of its own; None where there is none."""
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
