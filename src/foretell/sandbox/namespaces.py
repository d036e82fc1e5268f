"""What a command in a sandbox sees, and what ends it: the work of the helper that `sandbox` starts.

The helper enters new namespaces. Its child is their first process: it mounts what may be seen, starts the command
without any right, and watches its limits. When it ends, however that comes, the kernel ends everything in there; and it
ends with the helper, which ends with its caller.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import stat
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from foretell.parent import end_with
from foretell.sandbox import seccomp

_ID = 1000
"""Who the command is in there. As that is not root, even where the caller is, the kernel gives it no rights."""
_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
_TASKS = 1024
_FILES = 256
_TMP = b"size=64m,nr_inodes=8k,mode=0700"
_TICK = 0.02

_LIBC = ctypes.CDLL(None, use_errno=True)
_NEW = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
"""Mounts, cgroups, host name, IPC, users, processes, network."""
_READ_ONLY, _NO_SUID, _NO_DEVICES, _NO_EXEC = 1, 2, 4, 8
_PRIVATE = 1 << 18 | 1 << 14
_DETACH = 2
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_HERE, _CLONE, _RECURSIVE, _BY_DESCRIPTOR, _FROM_DESCRIPTOR = -100, 1, 0x8000, 0x1000, 4
_DUMPABLE, _DROP_CAPABILITY, _NO_NEW_PRIVILEGES = 4, 24, 38


class _Refused(OSError):
    """The kernel does not let this process do that."""


def inside() -> NoReturn:
    """Reads what `command.run` wants on stdin and reports on stdout how it ended, as JSON both."""
    wanted = json.load(sys.stdin)
    try:
        _enter(wanted["caller"])
        if first := os.fork():
            code = os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])
            if code < 0:
                _report(code=code, limit="it was killed from outside")
        else:
            _report(**_first(wanted))
    except _Refused as error:
        _report(refused=error.strerror)
    except subprocess.SubprocessError:
        _report(refused="a process cannot give up its rights")
    except OSError as error:
        _report(failed=f"{error.filename}: {error.strerror}" if error.filename else str(error))
    os._exit(0)


def _report(**told: Any) -> None:
    os.write(1, json.dumps(told).encode())


def _enter(caller: int) -> None:
    """Makes the new namespaces. This process itself stays outside that of processes; its children will be in it."""
    user, group = os.geteuid(), os.getegid()
    with contextlib.suppress(OSError):
        # Where the machine's memory ends, this ends first.
        Path("/proc/self/oom_score_adj").write_text("1000")
    with contextlib.suppress(PermissionError):
        os.setgroups([])
    _call("unshare", _NEW)
    try:
        for name, text in {"setgroups": "deny", "uid_map": f"{_ID} {user} 1", "gid_map": f"{_ID} {group} 1"}.items():
            Path("/proc/self", name).write_text(text)
    except OSError as error:
        raise _Refused(error.errno, f"{name}: {error.strerror}") from error
    with contextlib.suppress(OSError):
        Path("/proc/sys/user/max_user_namespaces").write_text("0")
    end_with(caller)


def _first(wanted: dict[str, Any]) -> dict[str, Any]:
    """The first process: no signal from within ends it, and nobody there can look into it."""
    end_with()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _call("sethostname", b"sandbox", len(b"sandbox"))
    processes = _furnish(wanted["readable"], wanted["writable"])
    _call("prctl", _DUMPABLE, 0, 0, 0, 0)
    return _watch(wanted, processes)


def _furnish(readable: list[str], writable: str) -> "_Processes":
    """Makes a root that holds only what may be seen, and leaves the old one."""
    links = {Path("/dev/shm"): "/tmp"}  # noqa: S108 - the sandbox's own
    # A device can be written to all the same, but nobody can change its mode.
    shown = {Path(name): _READ_ONLY | _NO_SUID | _NO_EXEC for name in _DEVICES if Path(name).exists()}
    shown |= {_real(Path(name), links): _READ_ONLY | _NO_SUID | _NO_DEVICES for name in readable}
    target = _real(Path(writable), links)
    shown[target] = _NO_SUID | _NO_DEVICES
    _call("mount", None, b"/", None, _PRIVATE, None)
    # From the outer to the inner, so that of two that lie in each other both count.
    trees = {path: _tree(path, shown[path]) for path in sorted(shown, key=lambda path: len(path.parts))}
    _call("mount", b"tmpfs", os.fsencode(target), b"tmpfs", _NO_SUID | _NO_DEVICES, b"size=1m,mode=0755")
    os.chdir(target)
    for name in ("etc", "proc", "tmp"):
        Path(name).mkdir()
    Path("etc/passwd").write_text(f"sandbox:x:{_ID}:{_ID}::/tmp:/bin/false\n")
    _call("mount", b"tmpfs", b"tmp", b"tmpfs", _NO_SUID | _NO_DEVICES, _TMP)
    processes = _processes()
    for path, tree in trees.items():
        _put(tree, path.relative_to("/"))
    for link, text in links.items():
        place = link.relative_to("/")
        if not os.path.lexists(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(text)
    _set_flags(_HERE, b".", 0, _READ_ONLY)
    _call("pivot_root", b".", b".")
    _call("umount2", b".", _DETACH)
    os.chdir("/")
    return processes


def _real(path: Path, links: dict[Path, str]) -> Path:
    """Where a path leads, without links. Those on the way are added, to be made again. Raises OSError."""
    path.stat()
    real, rest = Path("/"), list(path.parts)
    while rest:
        step = real / rest.pop(0)
        if step.name == "..":
            real = real.parent
        elif step.is_symlink():
            links[step] = str(step.readlink())
            rest[:0] = Path(links[step]).parts
        else:
            real = step
    return real


def _tree(path: Path, flags: int) -> int:
    """A file or folder with all that is mounted in it, to be mounted elsewhere with these flags; a descriptor."""
    tree = _call("syscall", _OPEN_TREE, _HERE, os.fsencode(path), _CLONE | _RECURSIVE | os.O_CLOEXEC)
    _set_flags(tree, b"", _BY_DESCRIPTOR | _RECURSIVE, flags)
    return tree


def _set_flags(folder: int, path: bytes, how: int, flags: int) -> None:
    """Adds flags to a mount. None is taken away: what the machine set stays."""
    _call("syscall", _MOUNT_SETATTR, folder, path, how, struct.pack("4Q", flags, 0, 0, 0), 32)


def _put(tree: int, place: Path) -> None:
    """Mounts a tree in the new root."""
    folder = stat.S_ISDIR(os.fstat(tree).st_mode)
    (place if folder else place.parent).mkdir(parents=True, exist_ok=True)
    if not place.exists():
        place.touch()
    _call("syscall", _MOVE_MOUNT, tree, b"", _HERE, os.fsencode(place), _FROM_DESCRIPTOR)
    os.close(tree)


def _watch(wanted: dict[str, Any], processes: "_Processes") -> dict[str, Any]:
    """Runs the command until it ends, or goes past a limit. Raises OSError, SubprocessError."""
    memory, seconds = wanted["memory"], wanted["seconds"]
    # Open, since the command may put another folder under that name.
    folder = os.open(wanted["writable"], os.O_RDONLY | os.O_DIRECTORY)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    until, free = time.monotonic() + seconds, _free(folder)
    command = subprocess.Popen(  # noqa: S603 - that is what all this is for
        wanted["command"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        cwd=wanted["writable"],
        env=wanted["environment"],
        start_new_session=True,
        preexec_fn=lambda: _give_up_rights(seconds, memory),
    )
    while True:
        signal.sigtimedwait([signal.SIGCHLD], _TICK)
        for _ in range(_TASKS):
            ended, status = os.waitpid(-1, os.WNOHANG)
            if ended == command.pid:
                return {"code": os.waitstatus_to_exitcode(status), "limit": ""}
            if not ended:
                break
        tasks, used = processes.used()
        past = {
            f"longer than {seconds:g} s": time.monotonic() > until,
            f"more than {_TASKS} processes and threads": tasks > _TASKS,
            f"more than {memory >> 20} MiB of memory": used > memory,
            "more than half of the disk's free space": any(
                now < before // 2 for now, before in zip(_free(folder), free, strict=True)
            ),
        }
        for limit in (limit for limit, is_past in past.items() if is_past):
            return {"code": -signal.SIGKILL, "limit": limit}


@dataclass(frozen=True)
class _Processes:
    """Where the processes in there can be counted. descriptor: of a /proc. others: whether it shows others too."""

    descriptor: int
    others: bool

    def used(self) -> tuple[int, int]:
        """(processes and threads, bytes of memory) of all in there."""
        tasks = pages = 0
        own = self._namespace("self")
        with os.scandir(self.descriptor) as found:
            names = [entry.name for entry in found if entry.name.isdigit()]
        for name in names:
            with contextlib.suppress(OSError):
                if not self.others or self._namespace(name) == own:
                    fields = self._read(f"{name}/stat").rpartition(b")")[2].split()
                    tasks, pages = tasks + int(fields[17]), pages + int(fields[21])
        return tasks, pages * resource.getpagesize()

    def _read(self, name: str) -> bytes:
        with os.fdopen(os.open(name, os.O_RDONLY, dir_fd=self.descriptor), "rb") as file:
            return file.read()

    def _namespace(self, name: str) -> int:
        return os.stat(f"{name}/ns/pid", dir_fd=self.descriptor).st_ino


def _processes() -> _Processes:
    """Mounts a /proc in the new root. Some containers allow none: then the old one counts, and nobody else sees it."""
    # Read only, since root may change the kernel's settings in it, and the caller may be root.
    flags = _READ_ONLY | _NO_SUID | _NO_DEVICES | _NO_EXEC
    try:
        _call("mount", b"proc", b"proc", b"proc", flags, b"subset=pid")
    except _Refused:
        return _Processes(os.open("/proc", os.O_RDONLY), others=True)
    return _Processes(os.open("proc", os.O_RDONLY), others=False)


def _free(folder: int) -> tuple[int, int]:
    """(blocks, files) that are free where an open folder lies."""
    disk = os.statvfs(folder)
    return disk.f_bavail, disk.f_favail


def _give_up_rights(seconds: float, memory: int) -> None:
    """In the command's process, just before it becomes the command, which is when it loses the capabilities too."""
    os.nice(5)
    for capability in range(64):
        with contextlib.suppress(_Refused):
            _call("prctl", _DROP_CAPABILITY, capability, 0, 0, 0)
    _call("prctl", _NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    limits = {"CPU": int(seconds) + 2, "NPROC": _TASKS, "FSIZE": memory, "NOFILE": _FILES, "RTPRIO": 0}
    # Not 0, which still hands a crash to the machine's own program for them.
    for name, most in {**limits, "CORE": 1, "AS": memory}.items():
        which = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(which)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(which, (least, least))
    seccomp.install()


def _call(name: str, *arguments: int | bytes | None) -> int:
    """A function of the C library. Raises _Refused."""
    done = _LIBC[name](*(ctypes.c_long(said) if isinstance(said, int) else said for said in arguments))
    if done < 0:
        error = ctypes.get_errno()
        raise _Refused(error, f"{name}: {os.strerror(error)}")
    return int(done)
