"""Compiles a model that nobody trusts: its code runs in a sandbox, and what it leaves is read as a stranger's file."""

import os
import stat
import sys
from pathlib import Path

import msgspec

from foretell import predictor as predictors
from foretell import storage
from foretell.compiler.candidates import MAKERS
from foretell.compiler.compile import Say, depends_on
from foretell.errors import ModelError, ModelUnreadable, OutputError
from foretell.models import compiled, mlmodel, proven
from foretell.models import load as models
from foretell.models.proven import Entry, Record
from foretell.registry.resolve import Resolved
from foretell.sandbox import command as sandbox

_SECONDS = 900.0
_MEMORY = 12 << 30
_LARGEST = 4 << 30
_PASSED_ON = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
"""Variables that bits may depend on."""


def compile_sandboxed(
    resolved: Resolved,
    *,
    schema: str | None = None,
    cast: dict[str, str] | None = None,
    engine: str = predictors.AUTO,
    say: Say = lambda told: None,
) -> Record:
    """Compiles a model in a sandbox into the cache, without trusting it. Raises ModelError, UsageError, OutputError.

    What the model's code says of itself there, the proof too, is its own word; but nothing of it runs afterwards.
    """
    place = proven.entry(resolved.digest, predictors.variant(schema, cast))
    place.make()
    try:
        with place.locked(say), place.draft() as folder:
            say("compiling in a sandbox, which may take minutes …")
            left = _left(resolved, Path(folder).absolute(), schema, cast or {}, engine)
            return _taken(resolved, place, left / "engines" / place.folder.name)
    except OSError as error:
        raise OutputError(
            f"{place.folder} cannot be written: {error.strerror or error}", "Set FORETELL_CACHE"
        ) from error


def _left(resolved: Resolved, writable: Path, schema: str | None, cast: dict[str, str], engine: str) -> Path:
    """Runs the compilation; returns the cache that it filled."""
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment |= {"HOME": str(writable), "FORETELL_CACHE": str(writable / "cache"), "FORETELL_TRUST": resolved.digest}
    command = [sys.executable, "-P", "-m", "foretell", "models", "compile", "--engine", engine]
    command += ["-m", str(resolved.path.absolute())]
    command += [part for name, kind in cast.items() for part in ("--cast", f"{name}={kind}")]
    command += ["--schema", str(Path(schema).absolute())] if schema else []
    readable = [resolved.path.absolute(), *([Path(schema).absolute()] if schema else [])]
    ended = sandbox.run(
        command, readable=readable, writable=writable, environment=environment, seconds=_SECONDS, memory=_MEMORY
    )
    if ended.code:
        why = f"it took {ended.limit}" if ended.limit else ended.said or f"exit code {ended.code}"
        raise ModelError(f"{resolved.label} could not be compiled in the sandbox: {why}")
    return writable / "cache"


def _taken(resolved: Resolved, place: Entry, left: Path) -> Record:
    """What was left in the sandbox, checked and copied into the cache."""
    try:
        kept = msgspec.json.decode(_plain_bytes(left / "record.json", 1 << 20), type=proven.Kept)
        record = kept.record
        known = proven.circumstances(depends_on(record.flavour))
        if record.digest != resolved.digest or record.made != known or not record.sound:
            raise ModelUnreadable(f"what the sandbox left is no record of {resolved.label}")
        record = msgspec.structs.replace(record, of=resolved.label)
        engines = [tried.engine for tried in record.tried if tried.engine in MAKERS and tried.verified is not None]
        with place.draft() as draft:
            for name in engines:
                _copied(resolved, kept.folder(left, name), Path(draft) / name)
            place.keep(record, {name: Path(draft) / name for name in engines})
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ModelUnreadable(f"what the sandbox left of {resolved.label} cannot be read: {error}") from error
    return record


def _copied(resolved: Resolved, left: Path, draft: Path) -> None:
    """One compiled model: copied file by file, then opened as it will be, before it takes its place."""
    room = _LARGEST
    for name, path in storage.files_under(left):
        data = _plain_bytes(path, room)
        room -= len(data)
        (draft / name).parent.mkdir(parents=True, exist_ok=True)
        (draft / name).write_bytes(data)
    opened = models.load(models.Settled(mlmodel.read(draft), models.COMPILED, trusted=False))
    if opened.digest != resolved.digest or compiled.record(draft) is None:
        raise ModelUnreadable(f"what the sandbox left was not compiled of {resolved.label}")


def _plain_bytes(path: Path, most: int) -> bytes:
    """A plain file's content. Raises OSError, OutputError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > most:
            raise OutputError(f"{path.name}, which the sandbox left, is no plain file, or too large")
        return file.read(most)
