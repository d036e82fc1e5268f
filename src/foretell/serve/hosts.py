"""By which names a server may be called, and from which pages: what keeps other people's web pages away from it."""

from ipaddress import ip_address

_MOST_KNOWN = 256


class Hosts:
    """listed: what --allowed-hosts names: example.com, example.com:8443, or *.example.com. This machine's names for
    itself will do too; one that somebody else has given to its address will not."""

    def __init__(self, listed: tuple[str, ...]) -> None:
        self._listed = frozenset(name.lower().encode() for name in listed)
        self._ends = tuple(name[1:] for name in self._listed if name.startswith(b"*."))
        self._known: set[bytes] = set()

    def allow(self, host: bytes) -> bool:
        """host: as a request names it, with or without a port."""
        if host in self._known:
            return True
        if not (self.list(host) or _of_this_machine(_name(host.lower()))):
            return False
        if len(self._known) < _MOST_KNOWN:
            self._known.add(host)
        return True

    def list(self, host: bytes) -> bool:
        """Whether it was named by --allowed-hosts."""
        host = host.lower()
        name = _name(host)
        return name in self._listed or host in self._listed or name.endswith(self._ends)


def _name(host: bytes) -> bytes:
    if host.startswith(b"["):
        return host[: host.find(b"]") + 1]
    return host.partition(b":")[0]


def _of_this_machine(name: bytes) -> bool:
    if name == b"localhost":
        return True
    try:
        return ip_address(name.strip(b"[]").decode("latin-1")).is_loopback
    except ValueError:
        return False
