"""Who may ask what: every request is looked at here when its head has come, before a byte of its body is read."""

from foretell.serve.exchange import Reply
from foretell.serve.head import Familiar
from foretell.serve.hosts import Hosts
from foretell.serve.keys import ROLES, Keyring
from foretell.serve.kinds import Kind
from foretell.serve.problems import problem
from foretell.serve.watched import Watched

Headers = list[tuple[bytes, bytes]]

_HARMLESS = frozenset((b"GET", b"HEAD", b"OPTIONS"))
_OWN_PAGES = (b"same-origin", b"none")
_BEARER = b"bearer"


class Gate:
    """What one port lets in.

    kinds: what is served here; probes always are. hosts: names that the server may be called by. named: whether it must
    be called by one. keys: None where none is wanted. certified: whether clients need a certificate. administered:
    whether who comes without a key may change the server.
    """

    def __init__(
        self,
        kinds: frozenset[Kind],
        hosts: Hosts,
        *,
        named: bool,
        keys: Watched[Keyring] | None = None,
        certified: bool = False,
        administered: bool = False,
    ) -> None:
        self._kinds = kinds
        self._hosts = hosts
        self.named = named
        self._keys = keys
        self._certified = certified
        self._administered = administered
        self._familiar = Familiar()
        self._keyring = keys.value if keys else None

    def look(self) -> None:
        """Forgets whom it let in when the keys have changed; called now and then."""
        if self._keys is not None and self._keys.value is not self._keyring:
            self._keyring = self._keys.value
            self._familiar.clear()

    def familiar(self, *, certified: bool) -> Familiar:
        """The heads that need not be looked at again, if they come from such a client."""
        return self._familiar if certified or not self._certified else Familiar()

    @property
    def keyed(self) -> bool:
        """Whether a key is wanted."""
        return self._keys is not None

    @property
    def administers(self) -> bool:
        """Whether the server can be changed here, by who may."""
        return Kind.ADMIN in self._kinds and (self._administered or self.keyed)

    def admit(self, kind: Kind, method: bytes, headers: Headers, *, certified: bool = False) -> Reply | str:
        """The name of the key that a request came with, "" without one; or what it is refused with.

        certified: whether its client has shown a certificate.
        """
        if kind is Kind.PROBE:
            return ""
        if kind not in self._kinds:
            return problem(404, "ENDPOINT_NOT_FOUND", "this is not served at this port")
        said = dict(headers)
        host = said.get(b"host")
        if self.named and host is not None and not self._hosts.allow(host):
            return _misnamed(host)
        if (b"origin" in said or b"sec-fetch-site" in said) and self._strange(method, said):
            return _strange_page()
        if self._certified and not certified:
            return problem(
                403, "PERMISSION_DENIED", "a client's certificate is needed, by this server's --tls-client-ca"
            )
        if self._keys is not None and kind is not Kind.SHELL:
            return self._opened(self._keys.value, kind, said)
        if kind is Kind.ADMIN and not self._administered:
            return problem(403, "PERMISSION_DENIED", "this takes a key of the role admin, and the server knows no keys")
        return ""

    def _strange(self, method: bytes, said: dict[bytes, bytes]) -> bool:
        """Whether another site's page is behind the request. Browsers say so, in one header or the other."""
        site, origin = said.get(b"sec-fetch-site"), said.get(b"origin")
        if origin is not None and self._hosts.list(origin.partition(b"://")[2]):
            return False
        if site is not None and (site in _OWN_PAGES or method not in _HARMLESS):
            return site not in _OWN_PAGES
        return origin is not None and origin.partition(b"://")[2] != said.get(b"host")

    def _opened(self, keys: Keyring, kind: Kind, said: dict[bytes, bytes]) -> Reply | str:
        scheme, _, given = said.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != _BEARER:
            given = said.get(b"x-api-key", b"")
        key = keys.find(given.strip()) if given else None
        if key is None:
            wrong = "this key is not known here" if given else "a key is needed"
            return problem(401, "UNAUTHENTICATED", f"{wrong}: Authorization: Bearer KEY, or X-API-Key: KEY")
        if kind not in ROLES[key.role]:
            what = kind.name.lower()
            return problem(403, "PERMISSION_DENIED", f"the key {key.name} is of the role {key.role}: not for {what}")
        return key.name


def _misnamed(host: bytes) -> Reply:
    shown = ascii(host[:80].decode("latin-1"))[1:-1]
    said = f"this server is not called {shown}; if it should be, start it with --allowed-hosts {shown}"
    return problem(421, "MISDIRECTED_REQUEST", said)


def _strange_page() -> Reply:
    said = "another site's page may not ask this server; --allowed-hosts names those whose pages may"
    return problem(403, "PERMISSION_DENIED", said)
