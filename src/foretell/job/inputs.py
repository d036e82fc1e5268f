"""What a job reads: one file, many in order, or a pipe; as one row of blocks that can be taken up at any of them."""

import contextlib
import glob
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foretell.errors import FormatUnknown, FormWrong, InputUnreadable
from foretell.job.digests import Digests, Followed
from foretell.job.pins import identity
from foretell.job.report import FileTold
from foretell.signature import listed
from foretell.tables import formats
from foretell.tables.files import Source, open_input
from foretell.tables.formats import Format, Reader
from foretell.tables.text import Block, Position

Opener = Callable[[Source, Reader[Any] | None], Reader[Any]]
"""Opens an input; one that is not the first is written as the first was, whose reader it is given."""


@dataclass(frozen=True)
class Tagged:
    """A block, with its reader. file: the number of its input, from 0. read: bytes of all inputs up to it."""

    block: Any
    reader: Reader[Any]
    file: int
    name: str
    read: int

    @property
    def after(self) -> Position:
        return (self.file, *self.block.after)


def expand(given: str) -> list[str]:
    """The files that are meant, in the order of their names: a file; those of a folder, but not hidden ones or those
    that begin with _; or those that a pattern fits. Raises InputUnreadable."""
    path = Path(given)
    if path.is_dir():
        files = [one for one in path.iterdir() if one.is_file() and not one.name.startswith((".", "_"))]
        found = sorted(map(str, files))
        missing = "is a folder without a file in it"
    elif glob.has_magic(given) and not path.exists():
        found = sorted(one for one in glob.glob(given, recursive=True) if Path(one).is_file())  # noqa: PTH207
        missing = "fits no file"
    else:
        return [given]
    if not found:
        raise InputUnreadable(f"{given} {missing}")
    return found


def format_of(paths: Sequence[str], said: str | None = None) -> Format:
    """The files' format: as it is said, a key of FORMATS, else by their names. Raises InputUnreadable."""
    if said is not None:
        return formats.FORMATS[said]
    try:
        found = [formats.by_suffix(path, "input") for path in paths]
    except FormatUnknown as error:
        raise InputUnreadable(error.message, f"{error.hint}; or say it: -t csv") from error
    if other := next((path for path, fmt in zip(paths, found, strict=True) if fmt.name != found[0].name), None):
        raise InputUnreadable(
            f"{paths[0]} and {other} are of two formats", "Give files of one format: -i 'folder/*.csv'"
        )
    return found[0]


class Inputs:
    """Files in their order, or a pipe. Use with `with`. Raises InputError.

    reader: the first one's. identities: of the files; none for a pipe. size: bytes altogether, None where unknown.
    """

    def __init__(self, given: Sequence[str] | Source, opener: Opener) -> None:
        self._opener = opener
        self._pipe = given if isinstance(given, Source) else None
        self.paths: list[str] = [] if isinstance(given, Source) else list(given)
        self.identities = [identity(path) for path in self.paths]
        self.size = sum(one["size"] for one in self.identities) if self.paths else None
        self._open = contextlib.ExitStack()
        self._source: Source
        self._followed: list[Followed] = []
        self._behind = 0
        self.reader = self._opened(0)

    def __enter__(self) -> "Inputs":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def hash_by(self, digests: Digests) -> None:
        """Begins to hash the files; a pipe hashes itself, if it was told to."""
        self._followed = [digests.follow(Path(path)) for path in self.paths]

    def hash_to(self, file: int, read: int) -> None:
        """So far the job has read: it is hashed behind it, out of the system's cache."""
        if not self._followed:
            return
        while self._behind < file:
            self._followed[self._behind].end(self.identities[self._behind]["size"])
            self._behind += 1
        self._followed[file].grow(size=read - sum(one["size"] for one in self.identities[:file]))

    def told(self) -> list[FileTold]:
        """The files, with their digests where these are made; waits for them."""
        if self._pipe is not None and not self.paths:
            heard = self._pipe.heard
            return [FileTold(self._pipe.name, self._pipe.position, heard.hexdigest() if heard else None)]
        for followed, one in zip(self._followed, self.identities, strict=False):
            followed.end(one["size"])
        digests = [followed.digest() for followed in self._followed] or [None] * len(self.paths)
        return [FileTold(one["path"], one["size"], sha) for one, sha in zip(self.identities, digests, strict=True)]

    def blocks(self, start: Sequence[int] = (), *, tolerant: bool = False) -> Iterator[Tagged]:
        """All blocks, from a position on."""
        first, within = (start[0], tuple(start[1:])) if start else (0, ())
        before = sum(one["size"] for one in self.identities[:first])
        for file in range(first, max(1, len(self.paths))):
            reader = self.reader if file == 0 else self._opened(file)
            for block in reader.blocks(within, tolerant=tolerant):
                yield Tagged(block, reader, file, self._source.name, before + self._read(block))
            self._check(file)
            within = ()
            before += self._source.size or 0

    def _read(self, block: Any) -> int:
        """Bytes of the file at hand up to a block's end; of text that is not packed, without what was read ahead."""
        position = self._source.position
        return min(position, block.at + len(block.data)) if isinstance(block, Block) else position

    def _opened(self, file: int) -> Reader[Any]:
        if self._pipe is not None:
            self._source = self._pipe
            return self._opener(self._pipe, None)
        self._open.close()
        self._source = self._open.enter_context(open_input(self.paths[file]))
        self._check(file)
        reader = self._opener(self._source, self.reader if file else None)
        if file and reader.no_rows.names != self.reader.no_rows.names:
            raise FormWrong(
                f"{self.paths[file]} carries {listed(reader.no_rows.names) or 'no columns'}, and {self.paths[0]} "
                f"{listed(self.reader.no_rows.names) or 'none'}",
                "Say which all of them have: --keep A,B",
            )
        return reader

    def _check(self, file: int) -> None:
        """That a file is still the one that it was when the job began."""
        if self._pipe is not None or self._source.stamp is None:
            return
        if self._source.stamp != (self.identities[file]["size"], self.identities[file]["time"]):
            raise InputUnreadable(
                f"{self.paths[file]} has changed while it was read", "Run it again when it is whole; it will start over"
            )
