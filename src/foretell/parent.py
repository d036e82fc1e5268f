"""How a process ends when the one that started it does, however that ends: children of `sandbox/` and `compare/`.

As a module it runs another one so. `preexec_fn` will not do: a fork runs Python's hooks, which swallow what a signal's
handler raises in them.
"""

import ctypes
import os
import runpy
import signal
import sys

_DEATH_SIGNAL = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def command(module: str, *arguments: str) -> list[str]:
    """What runs `python -m module` as a child that ends with the thread that starts it."""
    return [sys.executable, "-P", "-m", "foretell.parent", str(os.getpid()), module, *arguments]


def end_with(parent: int | None = None) -> None:
    """From now on the kernel ends this process when the thread that started it ends. Its own children do not have this.

    parent: its parent's id, for which this ends at once where that one is no more. Raises OSError.
    """
    if _LIBC.prctl(ctypes.c_int(_DEATH_SIGNAL), *map(ctypes.c_ulong, (signal.SIGKILL, 0, 0, 0))):
        error = ctypes.get_errno()
        raise OSError(error, f"prctl: {os.strerror(error)}")
    if parent is not None and os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    end_with(int(sys.argv[1]))
    module = sys.argv[2]
    del sys.argv[1:3]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
