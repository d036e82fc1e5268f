"""Whether a model may run code: settled before anything of it is loaded.

Trust is given to one digest (these very files), or to a name in a registry (every version of it, also later ones).
It lies in the user's own configuration folder, never beside a model.
"""

import json
import os
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from foretell.errors import ModelUntrusted, OutputError, UsageError
from foretell.storage import make_private, write_atomic


@dataclass(frozen=True)
class Origin:
    """Where a model came from. uri: as the user wrote it. registry, name: set where a registry vouches for the name.

    flags: what a command needs besides the uri to find it again.
    """

    uri: str
    digest: str
    registry: str | None = None
    name: str | None = None
    flags: str = ""


@dataclass
class TrustStore:
    """What the user trusts: digests, and (registry, name) pairs."""

    path: Path
    digests: set[str] = field(default_factory=set)
    names: set[tuple[str, str]] = field(default_factory=set)

    def covers(self, origin: Origin) -> bool:
        named = origin.registry is not None and (origin.registry, origin.name) in self.names
        return origin.digest in self.digests or named

    def save(self) -> None:
        stored = {"digests": sorted(self.digests), "names": [list(pair) for pair in sorted(self.names)]}
        try:
            make_private(self.path.parent)
            write_atomic(self.path, json.dumps(stored, indent=1).encode() + b"\n", mode=0o600)
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error.strerror}") from error


def open_store() -> TrustStore:
    """The user's trust store; a file that others can write to does not count. Raises UsageError."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    path = Path(base) / "foretell" / "trust.json"
    try:
        status = path.stat()
        if status.st_uid not in (os.getuid(), 0) or status.st_mode & 0o022:
            raise UsageError(f"{path} can be written by others, so it says nothing", f"chmod 600 {path}")
        stored = json.loads(path.read_bytes())
        return TrustStore(path, set(stored["digests"]), {(registry, name) for registry, name in stored["names"]})
    except FileNotFoundError:
        return TrustStore(path)
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} cannot be read: {error}", "Repair or remove it") from error


def settle(reasons: Iterable[str], origin: Origin, trusted: bool) -> bool:
    """Whether code may run: False if the model needs none, True if it is trusted. Raises ModelUntrusted.

    reasons: what would run, file by file. trusted: --trust, for the digest at hand.
    """
    needs = list(reasons)
    if not needs:
        return False
    if trusted or _by_environment(origin.digest) or open_store().covers(origin):
        return True
    target = f"models:/{origin.name}" if origin.registry is not None else origin.uri
    line = f"foretell models trust {shlex.quote(target)}{origin.flags}"
    raise ModelUntrusted(
        f"Loading {origin.uri} would run code: {'; '.join(needs)} ({origin.digest[:19]}…)",
        f"If you trust where it came from: {line}   (or --trust, for this once)",
        file="; ".join(needs),
        digest=origin.digest,
        origin=f"registry {origin.registry}" if origin.registry else origin.uri,
    )


def _by_environment(digest: str) -> bool:
    """FORETELL_TRUST: 1 for whatever this process loads, or the digests that it may load, with commas."""
    said = os.environ.get("FORETELL_TRUST", "").strip()
    return said.lower() in ("1", "true", "yes") or digest in [part.strip() for part in said.split(",")]
