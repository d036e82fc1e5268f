"""What a route is for, as its path says: who may ask it, and at which port, depends on that."""

import enum


class Kind(enum.Enum):
    """PROBE: health, for balancers. PREDICT. LOOK: pages and descriptions, and whatever there is not. SHELL: a page
    that tells nothing by itself, and asks for a key. METRICS. ADMIN: what changes the server."""

    PROBE = enum.auto()
    PREDICT = enum.auto()
    LOOK = enum.auto()
    SHELL = enum.auto()
    METRICS = enum.auto()
    ADMIN = enum.auto()


PROBES = frozenset((b"/ping", b"/health", b"/readyz", b"/livez"))


def kind_of(path: bytes) -> Kind:
    """path: as the routes read it, with nothing percent-encoded."""
    if path in PROBES:
        return Kind.PROBE
    if path == b"/invocations":
        return Kind.PREDICT
    if path.startswith(b"/models/"):
        last = path.rpartition(b"/")[2]
        return {b"invocations": Kind.PREDICT, b"ready": Kind.PROBE}.get(last, Kind.LOOK)
    if path == b"/metrics":
        return Kind.METRICS
    if path == b"/docs":
        return Kind.SHELL
    return Kind.ADMIN if path == b"/admin" or path.startswith(b"/admin/") else Kind.LOOK
