"""API keys: whose each is, what it opens, and the file that holds their hashes.

A line of the file is NAME:ROLE:SHA256, in hexadecimal. A key is 256 random bits that foretell draws, so that one fast
hash hides it as well as a slow one would: there is nothing to guess from.
"""

import fcntl
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hmac import compare_digest
from pathlib import Path

from foretell import storage
from foretell.errors import UsageError
from foretell.serve.kinds import Kind

ROLES = {
    "predict": frozenset((Kind.PREDICT, Kind.LOOK)),
    "metrics": frozenset((Kind.METRICS,)),
    "admin": frozenset(Kind),
}
"""What a key opens, by its role."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LINE = re.compile(rf"({_NAME.pattern}):({'|'.join(ROLES)}):([0-9a-f]{{64}})")
_HEADER = "# Keys of foretell's servers: NAME:ROLE:SHA256. Made and removed by: foretell keys\n"
_PREFIX = "foretell_"
_MOST_BYTES = 1 << 20
_INDEX = 8


@dataclass(frozen=True)
class Key:
    """digest: sha256 of the key itself, which is kept nowhere."""

    name: str
    role: str
    digest: bytes


_NOBODY = Key("", "predict", b"")


class Keyring:
    """The keys of a file."""

    def __init__(self, keys: tuple[Key, ...]) -> None:
        self.keys = keys
        self._known = {key.digest[:_INDEX]: key for key in keys}

    def find(self, given: bytes) -> Key | None:
        """Whose key this is. How long it takes tells nothing of the keys there are: what is looked up is a hash, whose
        beginning nobody can choose, and what is found is compared in constant time."""
        digest = hashlib.sha256(given).digest()
        found = self._known.get(digest[:_INDEX], _NOBODY)
        return found if compare_digest(found.digest, digest) else None


def read(path: Path) -> Keyring:
    """The keys of a file. Raises UsageError, with the line."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        hint = f"Make one: foretell keys new NAME --file {path}"
        raise UsageError(f"the keys of {path} cannot be read: {error.strerror}", hint) from error
    if stat.S_ISREG(mode) and mode & 0o022:
        raise UsageError(f"{path} can be written by others, who could add keys of their own", f"chmod go-w {path}")
    if not data or len(data) > _MOST_BYTES:
        raise UsageError(f"{path} is {'empty' if not data else 'too large'}, so it is no file of keys")
    return Keyring(tuple(_parsed(data, path)))


def _parsed(data: bytes, path: Path) -> Iterator[Key]:
    names, digests = set(), set()
    for number, line in enumerate(data.decode("latin-1").split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            # What stands there may be a key itself, so it is not shown.
            raise UsageError(f"{path}, line {number}: not NAME:ROLE:SHA256", f"Roles: {', '.join(ROLES)}")
        name, role, digest = found.groups()
        if name in names or digest in digests:
            raise UsageError(f"{path}, line {number}: the key {name} is there twice")
        names.add(name)
        digests.add(digest)
        yield Key(name, role, bytes.fromhex(digest))


def add(path: Path, name: str, role: str) -> str:
    """A new key, whose hash is written to the file, which is made if there is none. Raises UsageError, OSError."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name[:80]} is no name of a key", "Letters, digits, and . _ - are, up to 64")
    with _alone(path):
        if path.exists() and path.stat().st_size:
            if any(key.name == name for key in read(path).keys):
                hint = "A key is replaced by a new one with another name, and then removed"
                raise UsageError(f"{path} has a key {name} already", hint)
            torn = not path.read_bytes().endswith(b"\n")
            start = "\n" * torn
        else:
            start = _HEADER
        key = _PREFIX + secrets.token_urlsafe(32)
        line = f"{start}{name}:{role}:{hashlib.sha256(key.encode()).hexdigest()}\n"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(line.encode())
            file.flush()
            os.fsync(descriptor)
    return key


def remove(path: Path, name: str) -> None:
    """Takes a key out of its file. Raises UsageError, OSError."""
    with _alone(path):
        names = [key.name for key in read(path).keys]
        if name not in names:
            raise UsageError(f"{path} has no key {name[:80]}", f"It has: {', '.join(names) or 'none'}")
        status = path.stat()
        lines = path.read_text("latin-1").splitlines(keepends=True)
        kept = "".join(line for line in lines if not line.strip().startswith(f"{name}:"))
        storage.write_atomic(path.resolve(), (kept or _HEADER).encode("latin-1"), mode=0o600)
        os.chown(path, status.st_uid, status.st_gid)
        path.chmod(stat.S_IMODE(status.st_mode))


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """No other process changes the file meanwhile: they all lock its folder first."""
    folder = os.open(path.resolve().parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
