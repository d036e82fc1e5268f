"""The environment that a model was saved in, made again by uv from its requirements, and kept by what is in it.

A folder of the cache holds one: the model's packages, what foretell needs itself, and foretell's own code. It is made
under another name while a lock is held, and renamed when it is complete; a build that was killed counts for nothing.
Installing runs code of others, so the caller settles trust first.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import foretell
from foretell.errors import LibraryMissing, ModelUnreadable, OutputError, UsageError
from foretell.models import requirements
from foretell.models.load import FLAVOURS, Settled
from foretell.storage import make_private, sha256, write_atomic

_OLDEST = (3, 11)
_SHOWN = 500
_SETTINGS = Path(".uv") / "uv.toml"
"""uv's settings for the folder that it runs in. It looks for them upwards, where others may have put some, such as
another index: so empty ones lie there, beside which the user's own still count."""
_LEFT_OUT = ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONDONTWRITEBYTECODE")
"""Variables of this process's own Python. Bytecode is kept as modules are first imported: to compile all of them takes
four times as long."""
_MODELS_OWN = ("numpy", "onnxruntime")
"""What foretell needs too, and takes in the model's version, where that is older than foretell's own bound."""
_WITH_NUMPY_1 = "pyarrow<24"
"""Later ones refuse numpy 1 when they are imported, and say so nowhere else."""


@dataclass(frozen=True)
class Recipe:
    """All that an environment follows from. lines, constraints: of a requirements file. count: of the model's packages.
    python: its minor version, "3.12"."""

    lines: tuple[str, ...]
    constraints: tuple[str, ...]
    count: int
    python: str

    @property
    def key(self) -> str:
        """One name for one content, also of the machine's Python and of foretell's own code."""
        here = (self.python, sys.base_prefix, str(sys.implementation.cache_tag), sysconfig.get_platform())
        code = (f"{name} {sha256(path)}" for name, path in _own_code())
        parts = ("\n".join(part) for part in (self.lines, self.constraints, here, code))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def recipe(settled: Settled) -> Recipe:
    """What a model's environment holds. Raises ModelUnreadable for requirements that are not plain."""
    model = settled.model
    found = requirements.of(model, settled.flavour)
    if not found.there:
        raise ModelUnreadable(
            f"{model.path} has no {requirements.FILE}, so nobody knows its environment",
            "Leave --env-manager away, and install what it needs beside foretell",
        )
    if found.refused:
        raise ModelUnreadable(
            f"{model.path / requirements.FILE}: {found.refused[0]} is no plain requirement, such as numpy==2.0.1",
            "foretell installs packages of the index by name and version; no options, urls or paths",
        )
    named = {package.name for package in found.packages}
    core = [package for package in requirements.own("") if package.name not in named or package.name not in _MODELS_OWN]
    named |= {requirements.TWINS[name] for name in named & requirements.TWINS.keys()}
    extra = FLAVOURS[settled.flavour].extra
    brought = [package for package in (requirements.own(extra) if extra else ()) if package.name not in named]
    lines = {package.line for package in (*found.packages, *core, *brought)}
    if any(package.name == "numpy" and (package.pin or "").startswith("1.") for package in found.packages):
        lines.add(_WITH_NUMPY_1)
    bounds = {package.line for package in found.constraints}
    return Recipe(tuple(sorted(lines)), tuple(sorted(bounds)), len(found.packages), _python(settled))


def _python(settled: Settled) -> str:
    """The minor version of Python that the model was saved with, where foretell runs on it; else this one's."""
    said = str(settled.model.flavours.get("python_function", {}).get("python_version", ""))
    found = re.match(r"(3)\.(\d{1,2})(?!\d)", said)
    if found and (int(found[1]), int(found[2])) >= _OLDEST:
        return found[0]
    return _this_python()


def _this_python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def ready(wanted: Recipe, say: Callable[[str], None]) -> Path:
    """The Python of the environment, which is made if it is not there yet; several processes may ask at once.

    say: told what takes long. Raises LibraryMissing, OutputError, UsageError.
    """
    folder = _home()
    target = folder / wanted.key
    if (target / "bin" / "python").exists():
        return target / "bin" / "python"
    uv = find_uv()
    with _locked(folder / f".{wanted.key}.lock", say) as lock:
        if not (target / "bin" / "python").exists():
            say(f"Making an environment for this model ({wanted.count} package{'s' * (wanted.count != 1)}) …")
            draft = folder / f".{wanted.key}.draft"
            for left in (draft, target):
                shutil.rmtree(left, ignore_errors=True)
            try:
                draft.mkdir(mode=0o700)
                _Uv(uv, (folder / _SETTINGS).parent, lock).build(wanted, draft, say)
                draft.rename(target)
            except OSError as error:
                raise OutputError(f"{draft} cannot be made: {error.strerror}", "XDG_CACHE_HOME moves it") from error
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    return target / "bin" / "python"


def variables() -> dict[str, str]:
    """The process's variables for one that runs in such an environment: nothing of this one's libraries leaks in, and
    nothing that lies in the working folder is imported."""
    return {**{name: said for name, said in os.environ.items() if name not in _LEFT_OUT}, "PYTHONSAFEPATH": "1"}


def find_uv() -> str:
    """uv's executable: beside this Python, as a package, or on PATH. Raises LibraryMissing."""
    beside = Path(sys.executable).with_name("uv")
    if os.access(beside, os.X_OK):
        return str(beside)
    with contextlib.suppress(ImportError, FileNotFoundError):
        from uv import find_uv_bin

        return str(find_uv_bin())
    if (found := shutil.which("uv")) is None:
        raise LibraryMissing("--env-manager uv needs uv, which is not installed", "pip install 'foretell[uv]'")
    return str(Path(found).absolute())


def _home() -> Path:
    """The folder of all environments: ours alone, or nothing in it is run."""
    said = Path(os.environ.get("XDG_CACHE_HOME", ""))
    base = said if said.is_absolute() else Path.home() / ".cache"
    folder = base / "foretell" / "environments"
    try:
        make_private(folder)
        for checked in (folder.parent, folder):
            status = checked.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
                raise UsageError(
                    f"{checked} can be written by others, so nothing in it is run",
                    f"Look at what is in it; then remove it, or: chmod 700 {checked}",
                )
        above = folder.parent.resolve().parent
        if above.stat().st_mode & 0o002 and not above.stat().st_mode & stat.S_ISVTX:
            raise UsageError(f"{above} can be written by everybody, so nothing in it is run", f"chmod o-w {above}")
        make_private((folder / _SETTINGS).parent)
        write_atomic(folder / _SETTINGS, b"", mode=0o600)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror}", "XDG_CACHE_HOME moves it") from error
    return folder


@contextlib.contextmanager
def _locked(path: Path, say: Callable[[str], None]) -> Iterator[int]:
    """One process at a time. The lock ends with the last process that holds the file open: a uv that outlives a killed
    foretell is waited for."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another process makes this model's environment; waiting for it …")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class _Uv:
    """uv's executable, the folder that it runs in, and the lock that it holds along."""

    path: str
    folder: Path
    lock: int

    def build(self, wanted: Recipe, draft: Path, say: Callable[[str], None]) -> None:
        """Fills an empty folder. Raises LibraryMissing, OSError."""
        python = self._interpreter(wanted.python, say)
        self._run("venv", "--no-project", "--relocatable", "--python", python, str(draft))
        packages = next(draft.glob("lib/python*/site-packages"))
        for name, path in _own_code():
            copy = packages / "foretell" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        asked, bounds = draft / "requirements.txt", draft / "constraints.txt"
        asked.write_text("\n".join(wanted.lines) + "\n")
        bounds.write_text("\n".join(wanted.constraints) + "\n")
        files = ("--requirements", str(asked), "--constraints", str(bounds))
        self._run("pip", "install", "--python", str(draft / "bin" / "python"), *files)

    def _interpreter(self, minor: str, say: Callable[[str], None]) -> str:
        """An interpreter of that version that is on this machine; else this one."""
        if minor != _this_python():
            options = ("--no-project", "--system", "--no-python-downloads")
            try:
                return self._run("python", "find", *options, minor).strip()
            except LibraryMissing:
                say(f"Saved with Python {minor}, which is not here; Python {_this_python()} takes its place")
        return sys.executable

    def _run(self, *arguments: str) -> str:
        """What it prints. Its complaints, of which the last lines say why, are shown when it fails."""
        ran = subprocess.run(  # noqa: S603 - a list, no shell; what a model names stands in files that were checked
            [self.path, *arguments, "--quiet", "--no-progress", "--color", "never"],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=variables(),
            pass_fds=[self.lock],
            check=False,
        )
        if ran.returncode:
            reason = " ".join(re.sub(r"[^ -~]+", " ", ran.stderr).split())[-_SHOWN:]
            raise LibraryMissing(
                f"uv could not make the model's environment: {reason or f'exit code {ran.returncode}'}",
                "Install what the model needs beside foretell instead, without --env-manager",
            )
        return ran.stdout


def _own_code() -> Iterator[tuple[str, Path]]:
    """foretell's own files, as they lie here."""
    root = Path(foretell.__file__).parent
    for path in sorted(root.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path.relative_to(root).as_posix(), path
