"""Where something was measured, and with what."""

import importlib.metadata
import platform
import resource
from contextlib import suppress
from pathlib import Path

import foretell
from foretell import machine
from foretell.compare.measured import Machine

_LIBRARIES = (
    "numpy",
    "pyarrow",
    "msgspec",
    "uvicorn",
    "uvloop",
    "httptools",
    "onnxruntime",
    "scikit-learn",
    "pandas",
    "xgboost",
    "xgboost-cpu",
    "lightgbm",
    "catboost",
    "statsmodels",
    "torch",
    "mlflow",
)
_IDLE = (3, 4)


def this_machine() -> Machine:
    """The machine, the system and the libraries that are installed. Imports none of them."""
    versions = {}
    for name in _LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return Machine(
        cores=machine.cores(),
        memory=machine.memory(),
        processor=_processor(),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        foretell=foretell.__version__,
        versions=versions,
    )


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return f"{value.strip()} ({platform.machine()})"
    return platform.processor() or platform.machine()


def busy() -> tuple[float, float]:
    """(CPU seconds of the whole machine, those of this process and its children that ended) so far; the former may be
    of more than a container's share."""
    with suppress(OSError, ValueError, IndexError):
        fields = list(map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]))
        ticks = sum(ticks for at, ticks in enumerate(fields) if at not in _IDLE)
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return ticks / _CLOCK, sum(one.ru_utime + one.ru_stime for one in used)
    return 0.0, 0.0


_CLOCK = 100
"""/proc/stat counts hundredths of a second on every Linux."""
