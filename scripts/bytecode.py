"""Compiles what a virtual environment holds, with all processors: python scripts/bytecode.py FOLDER [OTHER].

Left out is what no test imports: the libraries' own tests, and plotly. Files that an environment OTHER holds too, and
has compiled, are not compiled again.
"""

import compileall
import importlib.util
import re
import struct
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

LEFT_OUT = re.compile(r"/tests?/|/site-packages/plotly/")
CHUNK = 200


def main(folder: Path, other: Path | None = None) -> None:
    sources = [path for path in _packages(folder).rglob("*.py") if not LEFT_OUT.search(str(path))]
    wanted = [path for path in sources if not _done(path) and not (other and _taken(path, folder, other))]
    if not wanted:
        return
    chunks = [wanted[at : at + CHUNK] for at in range(0, len(wanted), CHUNK)]
    with ProcessPoolExecutor() as pool:
        list(pool.map(_compile, chunks))


def _packages(folder: Path) -> Path:
    return next(folder.glob("lib/python*/site-packages"))


def _compiled(source: Path) -> Path:
    return Path(importlib.util.cache_from_source(str(source)))


def _done(source: Path) -> bool:
    """Bytecode is good for a source of the time and the size that it notes."""
    try:
        with _compiled(source).open("rb") as code:
            noted = code.read(16)[8:]
    except OSError:
        return False
    return noted == struct.pack("<II", int(source.stat().st_mtime), source.stat().st_size)


def _taken(source: Path, folder: Path, other: Path) -> bool:
    """The same file, unpacked at another time."""
    twin = _packages(other) / source.relative_to(_packages(folder))
    try:
        if source.read_bytes() != twin.read_bytes():
            return False
        code = _compiled(twin).read_bytes()
        _compiled(source).parent.mkdir(exist_ok=True)
        _compiled(source).write_bytes(code[:8] + struct.pack("<I", int(source.stat().st_mtime)) + code[12:])
    except OSError:
        return False
    return True


def _compile(sources: list[Path]) -> None:
    """A library's files for a newer Python stay as they are."""
    for source in sources:
        compileall.compile_file(source, quiet=2)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
