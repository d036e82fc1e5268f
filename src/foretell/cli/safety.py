"""The options that say who may ask a server, and what is said of them at the start."""

import re
import socket
from pathlib import Path
from typing import Any

import click

from foretell.cli.main import Decorated, option
from foretell.errors import UsageError
from foretell.serve.safety import Safety
from foretell.serve.sockets import bind
from foretell.serve.tls import TlsFiles

_PATH = click.Path(path_type=str)


def safety_options(function: Decorated) -> Decorated:
    """Who may ask."""
    for one in (
        option("admin_host"),
        option("admin_port", type=click.IntRange(0, 65535)),
        option("allowed_hosts", metavar="HOST,…"),
        option("insecure", is_flag=True),
        option("tls_client_ca", type=_PATH),
        option("tls_key", type=_PATH),
        option("tls_cert", type=_PATH),
        option("api_key_file", type=_PATH),
    ):
        function = one(function)
    return function


def safety_of(given: dict[str, Any]) -> Safety:
    """The options, put together. Raises UsageError."""
    certificate, key, authority = (given[name] for name in ("tls_cert", "tls_key", "tls_client_ca"))
    if not certificate and (key or authority):
        raise UsageError(f"--{'tls-key' if key else 'tls-client-ca'} needs --tls-cert, the server's certificate")
    names = tuple(re.split(r"[,\s]+", (given["allowed_hosts"] or "").strip(", ")))
    for name in names:
        if name and not re.fullmatch(r"(\*\.)?[A-Za-z0-9._-]+(:\d+)?|\[[0-9A-Fa-f:.]+\](:\d+)?", name):
            raise UsageError(f"--allowed-hosts {name}: not a host", "For example: api.example.com,*.example.org")
    return Safety(
        Path(given["api_key_file"]) if given["api_key_file"] else None,
        TlsFiles(*map(Path, (certificate, key or certificate, *filter(None, [authority])))) if certificate else None,
        tuple(filter(None, names)),
        given["insecure"],
    )


def bind_beside(given: dict[str, Any]) -> list[socket.socket]:
    """The listeners of the port for metrics and administration, if there is to be one."""
    if given["admin_port"] is None:
        if given["admin_host"]:
            raise UsageError("--admin-host needs --admin-port")
        return []
    return bind(given["admin_host"], given["admin_port"], "--admin-port")
