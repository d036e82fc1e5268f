"""How a process ends when the one that started it does, however that ends: children of `sandbox/` and `compare/`."""

import ctypes
import os
import signal
from collections.abc import Callable

_DEATH_SIGNAL = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def end_with(parent: int | None = None) -> None:
    """From now on the kernel ends this process when the thread that started it ends. It keeps this when it becomes
    another program; its children do not have it.

    parent: its parent's id, for which this ends at once where that one is no more. Raises OSError.
    """
    if _LIBC.prctl(ctypes.c_int(_DEATH_SIGNAL), *map(ctypes.c_ulong, (signal.SIGKILL, 0, 0, 0))):
        error = ctypes.get_errno()
        raise OSError(error, f"prctl: {os.strerror(error)}")
    if parent is not None and os.getppid() != parent:
        os._exit(1)


def bound() -> Callable[[], None]:
    """For `preexec_fn`: the child ends with this process. It has to be started by a thread that outlasts it."""
    parent = os.getpid()
    return lambda: end_with(parent)
