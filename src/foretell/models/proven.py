"""What was compiled for a model and proven equal to its library: the record, and where it lies in the user's cache.

    ~/.cache/foretell/engines/KEY/record.json        what was tried, proven and measured, what it depends on; and its ID
    ~/.cache/foretell/engines/KEY/NAME-ID/…          a compiled model of the engine NAME
    ~/.cache/foretell/engines/KEY/demoted-ID.json    why the model's library predicts in spite of it
    ~/.cache/foretell/engines/KEY/seen-ID.json       how many rows of real data were checked

KEY stands for the model's files and for the types that its columns are read as. Batch and real time both look here.
The record is written last and names all that belongs to it, so whatever the moment of a crash, one whole proof counts.
"""

import contextlib
import fcntl
import hashlib
import math
import os
import platform
import re
import secrets
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

import foretell
from foretell import storage
from foretell.errors import OutputError, UsageError

FORMAT = 2
NATIVE = "native"
SIZES = (1, 32, 4096)
"""Rows a call, at which engines are timed."""


class Verified(msgspec.Struct, frozen=True):
    """How an engine's answers compare with the library's.

    answered: rows that the library answers, compared alone, in 32 and in 4,096. refused: rows that it refuses. kinds:
    rows of both sorts, by how they were made. exact: the former answered alike to the bit, the latter refused too.
    largest: difference of two numbers. changed: rows with another label. why: the first difference, for people.
    """

    answered: int
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


class Kept(msgspec.Struct, frozen=True):
    """record.json. id: in the name of all that belongs to it."""

    id: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{16}\Z")]
    record: Record

    def folder(self, entry: Path, engine: str) -> Path:
        """Where a compiled model lies in the entry, if there is one."""
        return entry / f"{engine}-{self.id}"


class _Demoted(msgspec.Struct):
    why: str


class _Seen(msgspec.Struct):
    rows: int


_DRAFT = "draft-"
_OURS = re.compile(r"draft-[a-z0-9_]{8}|\.record\.json\.[0-9a-f]{8}\.draft|[a-z]+-(?P<id>[0-9a-f]{16})(\.json)?")
"""What may be swept from an entry."""


@dataclass(frozen=True)
class Entry:
    """A model's place in the cache, which need not exist yet.

    Where a method takes a compiled model's folder, it is about the proof that this one belongs to, which need not be
    the present one any more; without, about the present one.
    """

    folder: Path

    def record(self) -> Record | None:
        """What was proven here, where all that it depends on is still so."""
        kept = self._kept()
        return None if kept is None else kept.record

    def chosen(self) -> Path | None:
        """The compiled model to predict with; None where the library does."""
        kept = self._kept()
        if kept is None or kept.record.chosen == NATIVE or self._demoted(kept.id) is not None:
            return None
        return self._compiled(kept, kept.record.chosen)

    def compiled(self, engine: str) -> Path | None:
        """The compiled model of an engine, if one was made."""
        kept = self._kept()
        return None if kept is None else self._compiled(kept, engine)

    def demoted(self, folder: Path | None = None) -> str | None:
        """Why nothing compiled is used any more."""
        id_ = self._id(folder)
        return None if id_ is None else self._demoted(id_)

    def demote(self, why: str, folder: Path | None = None) -> None:
        """From here on the library predicts, in every process. Raises OutputError."""
        if (id_ := self._id(folder)) is not None:
            self._write(f"demoted-{id_}.json", _Demoted(why))

    def seen(self, folder: Path | None = None) -> int:
        """Rows of real data that were checked."""
        found = self._read(f"seen-{self._id(folder)}.json", _Seen)
        return 0 if found is None else found.rows

    def saw(self, rows: int, folder: Path | None = None) -> None:
        """Counts rows of real data whose answers were the same. Raises OutputError."""
        if (id_ := self._id(folder)) is not None:
            self._write(f"seen-{id_}.json", _Seen(self.seen(folder) + rows))

    def keep(self, record: Record, engines: dict[str, Path]) -> None:
        """Puts compiled models in place, and then the record that names them: with that they count, and what was there
        before does not. engines: their drafts, by the engine's name. Raises OutputError."""
        kept = Kept(secrets.token_hex(8), record)
        try:
            for name, draft in engines.items():
                storage.sync_tree(draft)
                draft.rename(kept.folder(self.folder, name))
            storage.sync_folder(self.folder)
        except OSError as error:
            raise OutputError(f"{self.folder} cannot be written: {error.strerror}") from error
        self._write("record.json", kept)

    def make(self) -> None:
        """Makes the folder, for its owner alone. Raises OutputError, UsageError."""
        try:
            storage.make_private(self.folder)
            self._check_ours()
        except OSError as error:
            raise OutputError(f"{self.folder} cannot be made: {error.strerror}", "Set FORETELL_CACHE") from error

    @contextlib.contextmanager
    def locked(self, say: Callable[[str], None]) -> Iterator[None]:
        """For one process at a time, to compile in; what an earlier one left is swept. The lock ends with the process.
        say: told that another one is waited for. Raises OSError."""
        descriptor = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("another process compiles this model; waiting for it …")
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            self._sweep()
            yield
        finally:
            os.close(descriptor)

    def draft(self) -> "tempfile.TemporaryDirectory[str]":
        """A folder to write in, which is gone afterwards. Raises OSError."""
        return tempfile.TemporaryDirectory(prefix=_DRAFT, dir=self.folder)

    def _sweep(self) -> None:
        """Removes drafts, and what belongs to no record or to one that was replaced. Raises OSError."""
        kept = self._read("record.json", Kept)
        for path in self.folder.iterdir():
            found = _OURS.fullmatch(path.name)
            if found is not None and (kept is None or found["id"] != kept.id):
                storage.remove(path)

    def _kept(self) -> Kept | None:
        kept: Kept | None = self._read("record.json", Kept)
        if kept is None:
            return None
        record = kept.record
        counts = record.format == FORMAT and record.sound and record.made == circumstances(tuple(record.made))
        return kept if counts else None

    def _id(self, folder: Path | None) -> str | None:
        if folder is not None:
            return folder.name.rpartition("-")[2]
        kept = self._kept()
        return None if kept is None else kept.id

    def _compiled(self, kept: Kept, engine: str) -> Path | None:
        folder = kept.folder(self.folder, engine)
        return folder if engine.isidentifier() and (folder / "MLmodel").is_file() else None

    def _demoted(self, id_: str) -> str | None:
        found = self._read(f"demoted-{id_}.json", _Demoted)
        return None if found is None else found.why

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


def replaced(folder: Path, *, automatic: bool) -> Path | None:
    """The compiled model that counts in a cached one's place, where another process has put one there. automatic:
    whether that is the chosen one, and not one of the same engine."""
    place = Entry(folder.parent)
    now = place.chosen() if automatic else place.compiled(folder.name.rpartition("-")[0])
    return None if now == folder else now


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
