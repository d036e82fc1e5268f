"""Who is told of every request for predictions when it has its answer: traces, the log of predictions."""

from typing import TYPE_CHECKING, Protocol

from foretell.serve.exchange import Exchange, Reply

if TYPE_CHECKING:
    from foretell.serve.counts import Counts


class Witness(Protocol):
    """Its work is done on a thread of its own; what there is no room for is dropped and counted."""

    def take(self, client: tuple[str, int] | None, exchange: Exchange, reply: Reply, seconds: float) -> None:
        """A request has its answer, so many seconds after its head had come. On the loop; never waits."""
        ...

    def look(self, counts: "Counts") -> None:
        """Called now and then, on the loop: what was done and dropped since is counted."""
        ...

    def close(self) -> None:
        """Finishes what it has, for a few seconds at most."""
        ...
