"""TLS: the server's certificate and key, the authority of its clients, and what is wrong with them."""

import contextlib
import ssl
import time
from dataclasses import dataclass
from pathlib import Path

from foretell.errors import UsageError

_SOON_SECONDS = 7 * 86400.0


@dataclass(frozen=True)
class TlsFiles:
    """PEM files. key: of the certificate, which may lie in the same file. client_ca: whoever has a certificate by this
    authority may ask; None to want none."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        return (self.certificate, self.key) + ((self.client_ca,) if self.client_ca else ())


def context(files: TlsFiles) -> ssl.SSLContext:
    """What connections are greeted with, TLS 1.2 or newer. Raises UsageError.

    A client without a certificate is greeted too, for it may be a probe; a wrong one is not.
    """
    for path in files.paths:
        _readable(path)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.options |= ssl.OP_NO_RENEGOTIATION
    made.set_alpn_protocols(["http/1.1"])
    try:
        made.load_cert_chain(files.certificate, files.key, _no_password)
    except _Encrypted as error:
        hint = f"Decrypt it: openssl pkey -in {files.key} -out PLAIN.pem, and keep that to yourself"
        raise UsageError(f"the key {files.key} is encrypted", hint) from error
    except ssl.SSLError as error:
        raise _explained(error, files) from error
    if files.client_ca:
        made.verify_mode = ssl.CERT_OPTIONAL
        try:
            made.load_verify_locations(files.client_ca)
        except ssl.SSLError as error:
            raise UsageError(f"{files.client_ca} holds no certificate in PEM form") from error
    return made


def complaint(files: TlsFiles, made: ssl.SSLContext) -> str:
    """What clients will find wrong with the certificate by itself, or soon will; "" if nothing. It is shown to one."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(files.certificate)
    here, there = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking, answering = client.wrap_bio(here, there), made.wrap_bio(there, here, server_side=True)
    try:
        for side in (asking, answering) * 3:
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
        shown = asking.getpeercert() or {}
        left = ssl.cert_time_to_seconds(str(shown["notAfter"])) - time.time()
    except ssl.SSLCertVerificationError as error:
        return f"clients will refuse the certificate {files.certificate}: {error.verify_message}"
    except (ssl.SSLError, KeyError, ValueError):
        return ""
    return f"the certificate {files.certificate} expires in {left / 86400:.1f} days" if left < _SOON_SECONDS else ""


class _Encrypted(Exception):
    pass


def _no_password() -> str:
    raise _Encrypted


def _readable(path: Path) -> None:
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def _explained(error: ssl.SSLError, files: TlsFiles) -> UsageError:
    if "MISMATCH" in (error.reason or ""):
        return UsageError(f"{files.key} is not the key of the certificate {files.certificate}")
    text = (files.certificate.read_bytes(), files.key.read_bytes())
    for path, data, what in zip((files.certificate, files.key), text, (b"CERTIFICATE", b"PRIVATE KEY"), strict=True):
        if b"-----BEGIN " not in data or what + b"-----" not in data:
            hint = "--tls-cert takes the certificate and its chain, --tls-key its private key"
            return UsageError(f"{path} holds no {what.decode().lower()} in PEM form", hint)
    said = (error.reason or "it is damaged").replace("_", " ").lower()
    return UsageError(f"the certificate {files.certificate} with the key {files.key} cannot be used: {said}")
