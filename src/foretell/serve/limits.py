"""How much a server takes from whom: every bound of a serving process, in bytes, seconds and rows."""

import resource
from dataclasses import dataclass

LEFT_FREE = 64
"""File descriptors that are not for connections."""


@dataclass(frozen=True)
class Limits:
    """timeout: of a request. queue: requests that wait. in_flight: bytes of bodies. body_rate: bytes a second.
    drain_delay: for which new connections are still taken after SIGTERM."""

    timeout: float = 60.0
    batch_rows: int = 4096
    queue_delay: float = 0.0
    queue: int = 1024
    body: int = 64 << 20
    in_flight: int = 1 << 30
    head: int = 64 << 10
    connections: int = 10_000
    head_timeout: float = 10.0
    body_timeout: float = 10.0
    body_rate: float = 240.0
    write_timeout: float = 30.0
    keep_alive: float = 75.0
    drain_delay: float = 0.0


def connections_possible(wanted: int) -> int:
    """How many connections there can be, after asking for as many files as may be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = wanted + LEFT_FREE
    if soft != resource.RLIM_INFINITY and soft < enough:
        soft = enough if hard == resource.RLIM_INFINITY else min(enough, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft - LEFT_FREE))
