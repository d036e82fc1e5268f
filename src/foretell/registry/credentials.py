"""What a tracking server is told to let us in: MLflow's own environment variables, and nothing else.

No secret leaves this module but inside a header's value: no error says one, and no error is raised from one that does.
"""

import base64
import configparser
import os
import ssl
from pathlib import Path
from urllib.parse import unquote

from foretell.errors import UsageError

SETTINGS = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"


def authorization(userinfo: str) -> str | None:
    """The Authorization header, by MLflow's precedence: the uri's user, else user and password, else the token.

    userinfo: "user:password" as it stood in the uri, or "". Raises UsageError.
    """
    for name in ("MLFLOW_TRACKING_AWS_SIGV4", "MLFLOW_TRACKING_AUTH"):
        if os.environ.get(name, "").lower() not in ("", "false", "0"):
            raise UsageError(
                f"{name} is set, a way to sign in that foretell does not have", f"Unset it; set {SETTINGS}"
            )
    if userinfo:
        user, _, password = userinfo.partition(":")
        return _basic(unquote(user), unquote(password))
    stored = _stored()
    user = os.environ.get("MLFLOW_TRACKING_USERNAME") or stored.get("mlflow_tracking_username", "")
    password = os.environ.get("MLFLOW_TRACKING_PASSWORD") or stored.get("mlflow_tracking_password", "")
    if user and password:
        return _basic(user, password)
    token = os.environ.get("MLFLOW_TRACKING_TOKEN", "")
    if not (token.isascii() and token.isprintable()):
        raise UsageError("MLFLOW_TRACKING_TOKEN holds a character that no token has", "A line break at its end?")
    return f"Bearer {token}" if token else None


def tls() -> ssl.SSLContext:
    """How a server's certificate is checked, and ours shown. Raises UsageError."""
    own = os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH")
    client = os.environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH")
    insecure = os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1")
    if insecure and own:
        raise UsageError(
            "MLFLOW_TRACKING_INSECURE_TLS and MLFLOW_TRACKING_SERVER_CERT_PATH are both set", "Set only one of them"
        )
    try:
        folder = own is not None and Path(own).is_dir()
        context = ssl.create_default_context(cafile=None if folder else own, capath=own if folder else None)
    except OSError as error:
        raise UsageError(f"MLFLOW_TRACKING_SERVER_CERT_PATH={own} cannot be read: {_why(error)}") from None
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if client:
        try:
            context.load_cert_chain(client, password=_no_password)
        except (OSError, UsageError) as error:
            raise UsageError(f"MLFLOW_TRACKING_CLIENT_CERT_PATH={client} cannot be read: {_why(error)}") from None
    return context


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _stored() -> dict[str, str]:
    """What `mlflow login` left in ~/.mlflow/credentials."""
    path = Path.home() / ".mlflow" / "credentials"
    try:
        config = configparser.ConfigParser()
        config.read(path)
        return dict(config["mlflow"]) if "mlflow" in config else {}
    except (configparser.Error, UnicodeDecodeError, OSError):
        raise UsageError(f"{path} cannot be read", "It holds [mlflow], and names and values below") from None


def _no_password() -> str:
    raise UsageError("its key wants a password")


def _why(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
