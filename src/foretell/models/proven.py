"""What was compiled for a model and proven equal to its library: the record, and where it lies in the user's cache.

    ~/.cache/foretell/engines/KEY/record.json     what was tried, proven and measured, and what it depends on
    ~/.cache/foretell/engines/KEY/NAME/…          a compiled model of the engine NAME
    ~/.cache/foretell/engines/KEY/demoted.json    why the model's library predicts in spite of it
    ~/.cache/foretell/engines/KEY/seen.json       how many rows of real data were checked

KEY stands for the model's files and for the types that its columns are read as. Batch and real time both look here.
"""

import hashlib
import math
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

import foretell
from foretell import storage
from foretell.errors import OutputError, UsageError

FORMAT = 1
NATIVE = "native"
SIZES = (1, 32, 4096)
"""Rows a call, at which engines are timed."""


class Verified(msgspec.Struct, frozen=True):
    """How an engine's answers compare with the library's.

    rows: compared, alone, in 32 and in 4,096. refused: those that the library refuses. kinds: rows by how they were
    made. exact: equal to the bit, and the same rows refused. largest: difference of two numbers. changed: rows with
    another label. why: the first difference, for people.
    """

    rows: int
    refused: int
    kinds: dict[str, int]
    exact: bool
    largest: float = 0.0
    changed: int = 0
    why: str = ""


class Tried(msgspec.Struct, frozen=True):
    """An engine that was tried. label: for people. seconds: of a call, by its rows. why: it cannot be used."""

    engine: str
    label: str
    seconds: dict[int, float] = {}
    verified: Verified | None = None
    why: str = ""

    @property
    def usable(self) -> bool:
        return self.engine == NATIVE or (self.verified is not None and self.verified.exact)


class Record(msgspec.Struct, frozen=True):
    """What is known of a model's engines. of: the model, for people. made: what the proof depends on, by name.

    start: seconds that loading the library took. chosen: the engine that predicts, and why.
    """

    format: int
    of: str
    digest: str
    flavour: str
    made: dict[str, str]
    when: str
    seconds: float
    start: float
    tried: list[Tried]
    chosen: str
    why: str

    @property
    def sound(self) -> bool:
        """Whether it holds together: a stranger may have written it."""
        times = [seconds for tried in self.tried for seconds in tried.seconds.values()]
        chosen = self.of_engine(self.chosen)
        return (
            all(0 < each < math.inf for each in times) and chosen is not None and chosen.usable and "" not in self.made
        )

    def of_engine(self, name: str) -> Tried | None:
        return next((tried for tried in self.tried if tried.engine == name), None)


class _Demoted(msgspec.Struct):
    why: str


class _Seen(msgspec.Struct):
    rows: int


@dataclass(frozen=True)
class Entry:
    """A model's place in the cache, which need not exist yet."""

    folder: Path

    def record(self) -> Record | None:
        """What was proven here, where all that it depends on is still so."""
        record: Record | None = self._read("record.json", Record)
        if (
            record is None
            or record.format != FORMAT
            or not record.sound
            or record.made != circumstances(tuple(record.made))
        ):
            return None
        return record

    def chosen(self) -> Path | None:
        """The compiled model to predict with; None where the library does."""
        record = self.record()
        if record is None or record.chosen == NATIVE or self.demoted() is not None:
            return None
        return self.compiled(record.chosen)

    def compiled(self, engine: str) -> Path | None:
        """The compiled model of an engine, if one was made."""
        folder = self.folder / engine
        return folder if engine.isidentifier() and (folder / "MLmodel").is_file() else None

    def demoted(self) -> str | None:
        """Why nothing compiled is used any more."""
        found = self._read("demoted.json", _Demoted)
        return None if found is None else found.why

    def demote(self, why: str) -> None:
        """From here on the library predicts, in every process. Raises OutputError."""
        self._write("demoted.json", _Demoted(why))

    def seen(self) -> int:
        """Rows of real data that were checked."""
        found = self._read("seen.json", _Seen)
        return 0 if found is None else found.rows

    def saw(self, rows: int) -> None:
        """Counts rows of real data whose answers were the same. Raises OutputError."""
        self._write("seen.json", _Seen(self.seen() + rows))

    def keep(self, record: Record) -> None:
        """Writes the record, last of all. Raises OutputError."""
        self._write("record.json", record)
        for name in ("seen.json", "demoted.json"):
            (self.folder / name).unlink(missing_ok=True)

    def make(self) -> None:
        """Makes the folder, for its owner alone. Raises OutputError, UsageError."""
        try:
            storage.make_private(self.folder)
            self._check_ours()
        except OSError as error:
            raise OutputError(f"{self.folder} cannot be made: {error.strerror}", "Set FORETELL_CACHE") from error

    def _read(self, name: str, kind: type[Any]) -> Any:
        """A file that is ours, decoded; None where there is none, or somebody else could have written it."""
        try:
            self._check_ours()
            return msgspec.json.decode((self.folder / name).read_bytes(), type=kind)
        except (OSError, UsageError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None

    def _check_ours(self) -> None:
        for folder in (self.folder.parent.parent, self.folder.parent, self.folder):
            storage.only_ours(folder)

    def _write(self, name: str, value: Any) -> None:
        try:
            storage.write_atomic(self.folder / name, msgspec.json.encode(value), mode=0o600)
        except OSError as error:
            raise OutputError(f"{self.folder / name} cannot be written: {error.strerror}") from error


def entry(digest: str, variant: str = "") -> Entry:
    """A model's place. variant: what else its columns' types follow from, such as --cast; "" for nothing."""
    name = hashlib.sha256(f"{digest}\0{variant}".encode()).hexdigest()
    return Entry(storage.cache_home() / "engines" / name)


def circumstances(names: tuple[str, ...]) -> dict[str, str]:
    """What bits depend on, as it is here, by name: "cpu", "blas", "foretell", or a package."""
    return {name: _known(name) for name in names}


def _known(name: str) -> str:
    if name == "cpu":
        return cpu()
    if name == "blas":
        return _blas()
    if name == "foretell":
        return f"{foretell.__version__} format {FORMAT}"
    from foretell.models.requirements import installed

    return installed(name) or "none"


def cpu() -> str:
    """The processor as far as numpy and BLAS choose their code by it."""
    from numpy._core._multiarray_umath import __cpu_features__ as features  # type: ignore[import-not-found]

    there = " ".join(sorted(name for name, has in features.items() if has))
    return f"{platform.machine()} {hashlib.sha256(there.encode()).hexdigest()[:12]}"


def _blas() -> str:
    """What makes OpenBLAS take another kernel, or cut its work otherwise."""
    return f"{os.environ.get('OPENBLAS_CORETYPE', 'its own')} kernels, {os.cpu_count()} cores"
