"""How a model stands between its registry and its port: which version serves, which could, and what became of tries."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from foretell.predictor import Found
from foretell.serve.figures import Series

SWAPPED, FAILED, ROLLED_BACK = "swapped", "failed", "rolled_back"
"""What becomes of an attempt to serve another version."""


@dataclass(frozen=True)
class Version:
    """A version that serves or served. label: its number, else how its digest begins. uri: of just this version."""

    label: str
    digest: str
    uri: str

    @classmethod
    def of(cls, found: Found) -> "Version":
        resolved = found.resolved
        return cls(resolved.label_of_version, resolved.digest, resolved.pinned)


@dataclass
class Standing:
    """One model's. serving: None while it cannot be loaded. before: what a rollback goes back to. newer: the number of
    a version that its uri means and that does not serve; 0 for none. problem: why not, or why there is none. refused:
    versions that failed, or were rolled back from, and are not tried again unless somebody asks. confirmed: when its
    registry last said what its uri means, in seconds since the epoch; 0 where that never changes."""

    name: str
    uri: str
    serving: Version | None = None
    before: Version | None = None
    newer: int = 0
    problem: str = ""
    refused: set[str] = field(default_factory=set)
    confirmed: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)

    def told(self) -> dict[str, Any]:
        """For who asks: as JSON."""
        return {
            "version": self.serving.label if self.serving else None,
            "digest": self.serving.digest if self.serving else None,
            "newer": str(self.newer) if self.newer else None,
            "previous": self.before.label if self.before else None,
            "problem": self.problem or None,
        }

    def series(self) -> Series:
        """For /metrics."""
        found: Series = {("foretell_reloads", (self.name, kind)): count for kind, count in self.outcomes.items()}
        if self.confirmed:
            found["foretell_newer_version", (self.name,)] = self.newer
            found["foretell_registry_confirmed_time_seconds", (self.name,)] = self.confirmed
        return found
