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
    known = secured = None
    if safety.key_file is not None:
        known = Watched(f"the keys of {safety.key_file}", (safety.key_file,), partial(keys.read, safety.key_file))
    if safety.tls is not None:
        what = f"the certificate {safety.tls.certificate} and its key"
        secured = Watched(what, safety.tls.paths, partial(tls.context, safety.tls))
    certified = bool(safety.tls and safety.tls.client_ca)

    def entrance(listeners: list[socket.socket], kinds: frozenset[Kind], *, administered: bool) -> Entrance:
        loopback = is_loopback(listeners)
        gate = Gate(
            kinds,
            Hosts(safety.allowed_hosts),
            named=loopback or bool(safety.allowed_hosts),
            keys=known,
            certified=certified,
            administered=loopback or administered,
        )
        return Entrance(listeners, gate, secured, known)

    if not beside:
        return [entrance(sockets, frozenset(Kind), administered=False)]
    main = entrance(sockets, frozenset(Kind) - _BESIDE, administered=False)
    return [main, entrance(beside, _BESIDE, administered=certified)]
