"""How a server is kept from those who may not ask it: its settings, and the gates that they come to."""

import socket
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from pathlib import Path

from foretell.errors import UsageError
from foretell.serve import keys, tls
from foretell.serve.entrance import Entrance
from foretell.serve.gate import Gate
from foretell.serve.hosts import Hosts
from foretell.serve.kinds import Kind
from foretell.serve.tls import TlsFiles
from foretell.serve.watched import Watched

_BESIDE = frozenset((Kind.METRICS, Kind.ADMIN))
"""What has its own port, where there is one."""


@dataclass(frozen=True)
class Safety:
    """key_file: of those who may ask. insecure: whether everybody may who can reach the server."""

    key_file: Path | None = None
    tls: TlsFiles | None = None
    allowed_hosts: tuple[str, ...] = ()
    insecure: bool = False

    def check(self, sockets: list[socket.socket]) -> list[str]:
        """What should be known of listeners that other machines can reach. Raises UsageError where nothing protects
        them, or what should cannot be used."""
        if self.key_file and not keys.read(self.key_file).keys:
            raise UsageError(f"{self.key_file} has no key", f"Make one: foretell keys new NAME --file {self.key_file}")
        notes = [tls.complaint(self.tls, tls.context(self.tls))] if self.tls else []
        for opened in sockets:
            if not is_loopback([opened]):
                notes.append(self._reachable(opened.getsockname()[0]))
        return [note for note in dict.fromkeys(notes) if note]

    def _reachable(self, host: str) -> str:
        reached = f"{host} can be reached from other machines"
        if not (self.key_file or self.tls or self.insecure):
            raise UsageError(
                f"{reached}, and anyone there could ask",
                "Give --api-key-file FILE (foretell keys new NAME --file FILE makes one), or --tls-cert with "
                "--tls-client-ca, or --insecure to let everybody ask",
            )
        if self.key_file:
            return "" if self.tls else f"{reached}, and keys and rows travel unencrypted; --tls-cert encrypts them"
        return "" if self.tls and self.tls.client_ca else f"{reached}, and anyone there may ask"


def is_loopback(sockets: list[socket.socket]) -> bool:
    """Whether only this machine can reach them."""
    return all(ip_address(opened.getsockname()[0].partition("%")[0]).is_loopback for opened in sockets)


def entrances(sockets: list[socket.socket], beside: list[socket.socket], safety: Safety) -> list[Entrance]:
    """The server's port and, where beside has listeners, that of metrics and administration. Raises UsageError."""
    known = safety.key_file and Watched(
        f"the keys of {safety.key_file}", (safety.key_file,), partial(keys.read, safety.key_file)
    )
    secured = safety.tls and Watched(
        f"the certificates of {safety.tls.certificate}", safety.tls.paths, partial(tls.context, safety.tls)
    )
    certified = bool(safety.tls and safety.tls.client_ca)

    def gate(kinds: frozenset[Kind], listeners: list[socket.socket], *, administered: bool) -> Gate:
        loopback = is_loopback(listeners)
        return Gate(
            kinds,
            Hosts(safety.allowed_hosts),
            named=loopback or bool(safety.allowed_hosts),
            keys=known or None,
            certified=certified,
            administered=loopback or administered,
        )

    if not beside:
        return [Entrance(sockets, gate(frozenset(Kind), sockets, administered=False), secured or None, known or None)]
    main, other = frozenset(Kind) - _BESIDE, _BESIDE
    return [
        Entrance(sockets, gate(main, sockets, administered=False), secured or None, known or None),
        Entrance(beside, gate(other, beside, administered=certified), secured or None, None),
    ]
