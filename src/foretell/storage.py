"""Bytes on disk: writes that are whole or not at all, digests, and paths that stay inside their folder."""

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from foretell.errors import ModelUnreadable, UsageError

_CHUNK = 1 << 20
_HERE, _EXCHANGE = -100, 2
"""Linux's AT_FDCWD and RENAME_EXCHANGE."""
UNCOUNTED = "registered_model_meta"
"""What MLflow adds when it downloads a registered model: its name and version, which are no part of the model."""
_META = re.compile(rb"(model_(name|version): ?[ -~]{0,1000}\n([ ]+[ -~]{0,1000}\n)*)+")
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d|conin\$|conout\$)(\..*)?", re.I)


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Writes all of data under path, or leaves what was there; survives a crash at any point. Raises OSError."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.draft")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
        raise
    sync_folder(path.parent)


def make_private(folder: Path) -> None:
    """Makes a folder, and those above it that are missing, for the owner alone, whatever the umask. Raises OSError."""
    for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)


def cache_home() -> Path:
    """Where the user's cache is, or will be: FORETELL_CACHE, or foretell/ in XDG_CACHE_HOME or ~/.cache."""
    if own := os.environ.get("FORETELL_CACHE"):
        return Path(own).absolute()
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "foretell"


def state_home() -> Path:
    """Where the user's state is, or will be: FORETELL_STATE, or foretell/ in XDG_STATE_HOME or ~/.local/state."""
    if own := os.environ.get("FORETELL_STATE"):
        return Path(own).absolute()
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local" / "state") / "foretell"


def only_ours(folder: Path) -> None:
    """Refuses a folder that somebody else owns or may write to, or may put another in the place of."""
    status, above = folder.stat(), folder.resolve().parent.stat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise UsageError(
            f"{folder} belongs to somebody else or can be written by others, so it is no cache",
            f"chmod go-w {folder}, or set FORETELL_CACHE to a folder of your own",
        )
    if above.st_mode & 0o002 and not above.st_mode & stat.S_ISVTX:
        raise UsageError(
            f"{folder.parent} can be written by everybody, so it cannot hold a cache",
            "Set FORETELL_CACHE to a folder in your home",
        )


def sync_folder(folder: Path) -> None:
    """Makes renames inside folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def swap(one: Path, other: Path) -> bool:
    """Gives each of two the other's name, at once; False where the system cannot. Raises OSError."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    rename = getattr(libc, "renameat2", None)
    if rename is None:
        return False
    if not rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE):
        return True
    if (code := ctypes.get_errno()) in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
        return False
    raise OSError(code, os.strerror(code))


def sync_tree(root: Path) -> None:
    """Makes everything in a folder durable. Raises OSError."""
    for path in (*root.rglob("*"), root):
        if path.is_dir():
            sync_folder(path)
            continue
        with path.open("rb") as file:
            os.fsync(file.fileno())


def remove(path: Path) -> None:
    """Removes a file, or a folder with all that is in it, also where its folders may not be written. Raises OSError."""
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        return
    path.chmod(0o700)
    for folder, inner, _ in os.walk(path):
        for name in inner:
            if not Path(folder, name).is_symlink():
                Path(folder, name).chmod(0o700)
    shutil.rmtree(path)


def copy_durable(source: Path, target: Path) -> None:
    """Copies one regular file's bytes and syncs them. Raises OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as read, target.open("xb") as write:
        while chunk := read.read(_CHUNK):
            write.write(chunk)
        write.flush()
        os.fsync(write.fileno())


def files_under(root: Path) -> Iterator[tuple[str, Path]]:
    """Every file of a model, as ("a/b", path), in order; a single file stands for itself.

    Raises ModelUnreadable for a link or a special file: what a model is must lie inside its folder. A hard link, which
    package managers and backups make too, leads outside only if the file has another owner than the folder.
    """
    if root.is_file():
        yield root.name, root
        return
    owner = root.stat().st_uid
    for path in sorted(root.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ModelUnreadable(f"{path} is a link or a special file; a model's folder holds plain files only")
        name = path.relative_to(root).as_posix()
        if not name.isprintable() or "\udc80" <= max(name) <= "\udcff":
            raise ModelUnreadable(f"{root} holds a file whose name is no text: {name!r}")
        if path.is_file():
            status = path.stat()
            if name == UNCOUNTED and not (status.st_size < _CHUNK and _META.fullmatch(path.read_bytes())):
                raise ModelUnreadable(f"{path} is not what MLflow writes under that name", "Remove it")
            if status.st_nlink > 1 and status.st_uid != owner:
                raise ModelUnreadable(f"{path} is a hard link to a file of another owner", "Copy the model instead")
            yield name, path


def sha256(path: Path) -> str:
    """The file's sha256, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(files: dict[str, str]) -> str:
    """One digest for a model's files, {"a/b": sha256 in hex}: "sha256:" and the sha256 of the sorted lines.

    What MLflow adds when it downloads a registered model does not count.
    """
    lines = "".join(f"{name}\0{files[name]}\n" for name in sorted(files) if name != UNCOUNTED)
    return "sha256:" + hashlib.sha256(lines.encode()).hexdigest()


def contained(folder: Path, relative: object) -> Path:
    """The path of a file that a model names, which must exist inside the model's folder. Raises ModelUnreadable."""
    if not isinstance(relative, str) or len(relative) > 1000:
        raise ModelUnreadable(f"{folder}: the model names a file by something that is no file's name")
    path, meta = folder / relative, folder / UNCOUNTED
    if relative == UNCOUNTED or (meta.exists() and path.exists() and path.samefile(meta)):
        raise ModelUnreadable(f"{folder}: the model names {relative!r}, which is none of its own files")
    if not is_inner(relative):
        raise ModelUnreadable(f"{folder}: the model names the file {relative!r}, which is not inside its folder")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ModelUnreadable(f"{folder}: the model names {relative!r}, a link that leads out of its folder")
    if not path.exists():
        raise ModelUnreadable(f"{folder}: the model names {relative!r}, but there is no such file")
    return path


def is_inner(relative: str) -> bool:
    """Whether a name from elsewhere stays inside the folder that it is joined to, on any system: no way up, no root,
    drive or home, no backslash or control character, no name of a device."""
    parts = relative.split("/")
    plain = relative.isprintable() and "\\" not in relative and ":" not in relative
    return (
        plain
        and all(0 < len(part) <= 250 and part != ".." for part in parts)
        and not any(part.startswith("~") or _DEVICE.fullmatch(part) for part in parts)
    )
