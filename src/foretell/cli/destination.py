"""Where predictions are to go, and what can be known to be wrong with that before any work is done."""

from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from foretell.errors import FormatUnknown, OutputError, UsageError
from foretell.job.one_file import OneFile
from foretell.job.outputs import Output, Stdout, Target
from foretell.job.parts import Parts, foreign
from foretell.tables import compression, formats
from foretell.tables.files import STDIN
from foretell.tables.formats import ARROW, ARROW_STREAM, Format

_MB = 1 << 20
ENDINGS = [
    name.removeprefix(".")
    for fmt in formats.SPELLINGS
    for name in (fmt.suffixes[0], *(fmt.suffixes[0] + end for end in compression.SUFFIXES if fmt.text))
]


@dataclass(frozen=True)
class Destination:
    """An output. ending: of its files' names, as far as it was said. part: bytes of a part, in a folder of them."""

    path: str
    ending: str
    part: int | None

    def format(self, given: Format) -> Format:
        """The output's, for an input of that format."""
        if self.ending:
            return formats.by_suffix(f"x{self.ending}", "output")
        return ARROW_STREAM if given is ARROW and self.path == STDIN else given

    @property
    def by_part(self) -> str | None:
        """What each piece is packed with."""
        return self._codec if self._codec == compression.BY_PART else None

    def open(self, fmt: Format, stdout: IO[bytes], report: Path | None = None) -> Target:
        """report: where the job's goes, besides."""
        if self.path == STDIN:
            return Stdout(stdout, report)
        whole = self._codec if self._codec != compression.BY_PART else None
        path = Path(self.path)
        if self.part is None:
            return Output(path, OneFile(path, whole), report)
        return Output(path, Parts(path, self.ending or fmt.suffixes[0], self.part, whole), report)

    @property
    def _codec(self) -> str | None:
        return compression.split(f"x{self.ending}")[1]


def destination(given: dict[str, Any], source: str, paths: list[str]) -> Destination:
    """By the command's options. Raises UsageError, OutputError."""
    target, said = given["output_path"], f".{given['output_format'] or ''}".rstrip(".")
    if target == STDIN:
        return Destination(target, said, None)
    path = Path(target)
    folder = target.endswith("/") or path.is_dir()
    ending = said or _ending(path.name, needed=not folder)
    if not path.parent.is_dir():
        raise OutputError(f"{target}: there is no folder {path.parent}", f"mkdir -p {path.parent}")
    if folder:
        _check_folder(path, paths)
    if path.exists():
        if given["no_clobber"] and not (folder and not any(path.iterdir())):
            raise UsageError(f"{target} is there already, and --no-clobber was given")
        if any(Path(one).exists() and Path(one).samefile(target) for one in paths):
            raise UsageError(f"{target} is the input too", "Give the output another name")
    if source != STDIN and Path(source).is_dir() and path.parent.samefile(source):
        raise UsageError(f"{target} would be among the inputs of the next run", "Give it another folder")
    return Destination(target, ending, given["part_mb"] * _MB if folder else None)


def _ending(name: str, *, needed: bool) -> str:
    """A name's ending, where it tells a format."""
    try:
        formats.by_suffix(name, "output")
    except FormatUnknown as error:
        if needed:
            raise UsageError(error.message, error.hint) from error
        return ""
    inner = compression.split(name)[0]
    return Path(inner).suffix + name[len(inner) :]


def _check_folder(path: Path, paths: list[str]) -> None:
    if path.is_mount():
        raise UsageError(
            f"{path} is a place where a disk is mounted, which cannot be replaced", f"-o {path}/predictions/"
        )
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path} is a file, not a folder", "Give the output another name")
    if any(path.resolve() in Path(one).resolve().parents for one in paths):
        raise UsageError(f"{path} holds the input", "Give the output another name")
    if path.is_dir() and (other := foreign(path)):
        raise UsageError(
            f"{path} is a folder, and holds {other}, which foretell did not write",
            "Give a new folder, an empty one, or one of an earlier output",
        )
