"""Which registry: the one given, the environment's, or what lies in the working directory and above it.

`choose` decides and touches nothing; `open_registry` opens. The command line prints the Choice, once.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, unquote, urlsplit

from foretell.errors import ModelNotFound, UsageError
from foretell.registry.local import FOLDER, LocalRegistry

if TYPE_CHECKING:
    from foretell.registry.mlflow import LocalStore
    from foretell.registry.rest import RestStore

    Opened = LocalRegistry | LocalStore | RestStore

ENVIRONMENT = ("FORETELL_REGISTRY", "MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_URI")
"""The variables that name a registry, the stronger first."""

_DATABASES = ("postgresql", "postgres", "mysql", "mariadb", "mssql", "oracle")
_FORMS = "a folder, sqlite:///mlflow.db, or a tracking server: http://…"

KINDS = ("embedded", "sqlite", "files", "server")
"""foretell's own; MLflow's database, file store and tracking server."""


@dataclass(frozen=True)
class Choice:
    """A registry, chosen and not opened.

    kind: one of KINDS. address: for people and for what trust is given to; without secrets,
    absolute. said: what names it, such as MLFLOW_TRACKING_URI; "" for a new one, in the working directory.
    path: of a local one. uri: of a server, as it was given.
    """

    kind: str
    address: str
    said: str
    path: Path = Path()
    uri: str = ""
    workspace: str = "default"

    def __repr__(self) -> str:
        return f"<{self.kind} registry {self.address}>"


def choose(given: str | None = None, *, new: bool = False) -> Choice:
    """The registry that is meant. given: --registry. new: it may come into being.

    Raises ModelNotFound for one that is not there, UsageError for one that foretell cannot read.
    """
    if given:
        return _named(given, "--registry", new)
    for variable in ENVIRONMENT:
        if value := os.environ.get(variable, "").strip():
            return _named(value, variable, new)
    return _nearest()


def open_registry(choice: Choice, say: Callable[[str], None] | None = None) -> "Opened":
    """The chosen registry. say: told what takes long, in a line. Raises UsageError."""
    if choice.kind == "embedded":
        return LocalRegistry(choice.path)
    if choice.kind == "sqlite":
        from foretell.registry.mlflow_sqlite import SqliteStore

        return SqliteStore(choice.path, choice.workspace)
    if choice.kind == "files":
        from foretell.registry.mlflow_files import FileStore

        return FileStore(choice.path)
    from foretell.registry.rest import RestStore

    return RestStore(choice.uri, say)


def without_secrets(uri: str) -> str:
    """A registry's uri as it may be shown: no user, no password, no query; of a database's the scheme alone."""
    scheme, slashes, rest = uri.partition("://")
    if not slashes:
        return uri
    if scheme.lower() not in ("http", "https", "file", "sqlite"):
        return f"{scheme}://…"
    if scheme.lower() in ("http", "https"):
        rest = re.split(r"[?#]", rest.rpartition("@")[2])[0]
    return f"{scheme}://{rest}"


def _named(value: str, said: str, new: bool) -> Choice:
    """A registry that somebody named. In MLflow's variables a folder is a file store."""
    scheme = re.match(r"([a-zA-Z][a-zA-Z0-9.-]+)(\+[a-zA-Z0-9_]+)?:", value)
    kind = scheme.group(1).lower() if scheme else value.lower() if value.lower().startswith("databricks") else ""
    if kind in ("http", "https"):
        return Choice("server", without_secrets(value).rstrip("/"), said, uri=value)
    if kind == "sqlite":
        return _sqlite_uri(value, said)
    if re.fullmatch(r"[\w.-]+:\d+(/.*)?", value) and not Path(value).exists():
        raise UsageError(f"{said} {value}: no scheme", f"A tracking server is http://{value} or https://{value}")
    if kind and kind != "file":
        raise _unread(kind, value, said)
    path = Path(unquote(urlsplit(value).path)) if kind == "file" else Path(value)
    if path.is_file():
        return _sqlite(path, said, _workspace())
    return _folder(path, said, new, files=kind == "file" or said.startswith("MLFLOW_"))


def _folder(path: Path, said: str, new: bool, *, files: bool) -> Choice:
    from foretell.registry.mlflow_files import is_file_store

    if not path.is_dir():
        if new and not files and not path.exists() and path.suffix != ".db":
            return _embedded(path, said)
        raise ModelNotFound(f"{said} {path}: no such registry", f"A registry is {_FORMS}")
    if not new and not is_file_store(path) and (inside := _registry_at(path)) is not None:
        raise ModelNotFound(f"{said} {path} is no registry, and {inside} is one", f"Name that: {inside}")
    if files or is_file_store(path):
        return Choice("files", path.resolve().as_uri(), said, path)
    return _embedded(path, said)


def _registry_at(path: Path) -> Path | None:
    """The registry inside of a folder, or beside its artifacts."""
    from foretell.registry.mlflow_files import is_file_store

    if (path / FOLDER).is_dir():
        return path / FOLDER
    home = path.parent if path.name == "mlruns" else path
    if (home / "mlflow.db").is_file():
        return home / "mlflow.db"
    return path / "mlruns" if is_file_store(path / "mlruns") else None


def _nearest() -> Choice:
    """In each folder, from the working directory up: foretell's registry, MLflow's database, MLflow's file store."""
    from foretell.registry.mlflow_files import is_file_store

    here = Path.cwd()
    for folder in (here, *here.parents):
        said = "in the working directory" if folder == here else "the nearest above"
        if _is_ours(folder / FOLDER.parts[0]) and (folder / FOLDER).is_dir():
            return _embedded(folder / FOLDER, said)
        if _is_ours(folder / "mlflow.db") and (folder / "mlflow.db").is_file():
            return _sqlite(folder / "mlflow.db", said, _workspace())
        if _is_ours(folder / "mlruns") and is_file_store(folder / "mlruns"):
            return Choice("files", (folder / "mlruns").resolve().as_uri(), said, folder / "mlruns")
    return _embedded(here / FOLDER, "")


def _is_ours(path: Path) -> bool:
    """Whether it may be used without being named: not what another user put into a folder that everybody can write to,
    such as /tmp."""
    try:
        shared = path.parent.stat().st_mode & 0o002
        return not shared or path.lstat().st_uid in (os.getuid(), 0)
    except OSError:
        return False


def _embedded(path: Path, said: str) -> Choice:
    return Choice("embedded", str(path.resolve()), said, path)


def _sqlite_uri(value: str, said: str) -> Choice:
    """SQLAlchemy's form: three slashes and a path, which is relative unless it begins with a fourth."""
    _, _, rest = value.partition("://")
    name, _, query = rest.partition("?")
    if not name.startswith("/") or name in ("/", "/:memory:"):
        raise UsageError(f"{said}: no sqlite file", "sqlite:///relative/mlflow.db or sqlite:////absolute/mlflow.db")
    workspace = parse_qs(query).get("workspace", [_workspace()])[0]
    return _sqlite(Path(name[1:]), said, workspace)


def _sqlite(path: Path, said: str, workspace: str) -> Choice:
    if not path.is_file():
        raise ModelNotFound(f"{said} {path}: no such file", f"A registry is {_FORMS}")
    address = f"sqlite:///{path.resolve()}" + (f"?workspace={quote(workspace)}" if workspace != "default" else "")
    return Choice("sqlite", address, said, path, workspace=workspace)


def _workspace() -> str:
    return os.environ.get("MLFLOW_WORKSPACE", "").strip() or "default"


def _unread(kind: str, value: str, said: str) -> UsageError:
    if kind in _DATABASES:
        return UsageError(
            f"{said} is a {kind} database, which foretell does not read directly",
            "Point at the tracking server that keeps it: MLFLOW_TRACKING_URI=http://HOST:5000",
        )
    if kind.startswith("databricks") or kind == "uc":
        return UsageError(
            f"{said} is {kind}, and foretell does not read the registries of Databricks and Unity Catalog",
            "Download the model (mlflow artifacts download -u models:/NAME/1) and give its folder",
        )
    return UsageError(f"{said} {without_secrets(value)}: foretell does not read {kind}: registries", f"Give {_FORMS}")
