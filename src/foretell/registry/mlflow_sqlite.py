"""MLflow's registry in an sqlite file, read directly and never written to.

Tables: https://github.com/mlflow/mlflow/tree/master/mlflow/store/db_migrations. What stands in them is not trusted:
sizes, types and the time that a query takes have limits.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from foretell.errors import ModelNotFound, ModelUnreadable, RegistryDown
from foretell.registry.mlflow import ModelVersion

_BUSY = 10.0
_SLOW = 60.0
_MAX_TEXT = 1 << 20
_MAX_ROWS = 100_000
_MAX_LOCATION = 4096
_READY = 2
_PROMPT = "mlflow.prompt.is_prompt"
_LOGGED_BY = """SELECT * FROM logged_models WHERE source_run_id = :id AND name = :name
    ORDER BY creation_timestamp_ms DESC"""


class SqliteStore:
    """The registry in one sqlite file; see `mlflow.LocalStore`. address: "sqlite:////absolute/path", with the workspace
    where it is not MLflow's default."""

    def __init__(self, path: Path, workspace: str = "default") -> None:
        self._path = path.resolve()
        self._workspace = workspace
        self.places: tuple[Path, ...] = (self._path.parent,)
        self.address = f"sqlite:///{self._path}" + (f"?workspace={quote(workspace)}" if workspace != "default" else "")

    def models(self) -> list[str]:
        with self._reading() as tables:
            names = {self._text(row["name"], "name") for row in tables.rows("SELECT * FROM registered_models")}
            if tables.has("registered_model_tags"):
                tagged = tables.rows("SELECT * FROM registered_model_tags WHERE key = :key", key=_PROMPT)
                names -= {row["name"] for row in tagged if str(row["value"]).lower() == "true"}
        return sorted(names)

    def versions(self, name: str) -> list[ModelVersion]:
        with self._reading() as tables:
            aliases = self._aliases(tables, name)
            rows = tables.rows("SELECT * FROM model_versions WHERE name = :name", name=name)
            found = [self._version(name, row, aliases) for row in rows if row["current_stage"] != "Deleted_Internal"]
        return sorted(found, key=lambda version: version.number)

    def location(self, name: str, number: int) -> str:
        found = next((version for version in self.versions(name) if version.number == number), None)
        if found is None:
            raise ModelNotFound(f"no version {number} of model {name!r} in the registry {self.address}")
        return found.location

    def logged_model(self, model_id: str) -> str:
        with self._reading() as tables:
            found = self._logged(tables, "SELECT * FROM logged_models WHERE model_id = :id", id=model_id)
        if found is None:
            raise ModelNotFound(f"no logged model {model_id} in the registry {self.address}")
        return found

    def run(self, run_id: str) -> str:
        with self._reading() as tables:
            for row in tables.rows("SELECT * FROM runs WHERE run_uuid = :id", id=run_id):
                if tables.ours(row):
                    return self._text(row["artifact_uri"], "artifact_uri")
        raise ModelNotFound(f"no run {run_id} in the registry {self.address}")

    def run_model(self, run_id: str, path: str) -> str:
        name, _, inside = path.partition("/")
        with self._reading() as tables:
            logged = self._logged(tables, _LOGGED_BY, id=run_id, name=name)
        parts = (self.run(run_id), path) if logged is None else (logged, inside)
        return "/".join(part.rstrip("/") for part in parts if part)

    def close(self) -> None:
        """Nothing stays open between two questions."""

    def _logged(self, tables: "_Tables", query: str, **values: str) -> str | None:
        """The address of the first of some logged models that is ours."""
        for row in tables.rows(query, **values) if tables.has("logged_models") else ():
            if row["lifecycle_stage"] != "deleted" and tables.ours(row):
                if row["status"] != _READY:
                    raise ModelNotFound(f"the logged model {row['model_id']!s:.50} in {self.address} is not ready")
                return self._text(row["artifact_location"], "artifact_location")
        return None

    def _aliases(self, tables: "_Tables", name: str) -> dict[int, list[str]]:
        aliases: dict[int, list[str]] = {}
        if tables.has("registered_model_aliases"):
            query = "SELECT * FROM registered_model_aliases WHERE name = :name ORDER BY alias"
            for row in tables.rows(query, name=name):
                aliases.setdefault(self._number(row["version"]), []).append(self._text(row["alias"], "alias"))
        return aliases

    def _version(self, name: str, row: sqlite3.Row, aliases: dict[int, list[str]]) -> ModelVersion:
        number = self._number(row["version"])
        location = (row["storage_location"] if "storage_location" in row.keys() else None) or row["source"]  # noqa: SIM118
        return ModelVersion(
            name,
            number,
            self._text(row["current_stage"] or "None", "current_stage"),
            self._text(location, "source"),
            self._text(row["status"] or "READY", "status"),
            tuple(aliases.get(number, ())),
        )

    def _text(self, value: object, column: str) -> str:
        if not isinstance(value, str) or not value or len(value) > _MAX_LOCATION or "\0" in value:
            raise ModelUnreadable(f"{self.address} holds a {column} that is none: {value!r:.60}")
        return value

    def _number(self, value: object) -> int:
        if not isinstance(value, int) or not 0 < value < 1 << 31:
            raise ModelUnreadable(f"{self.address} holds a version that is no number: {value!r:.60}")
        return value

    @contextmanager
    def _reading(self) -> Iterator["_Tables"]:
        try:
            with closing(_opened(self._path)) as connection:
                tables = _Tables(connection, self._workspace)
                missing = [name for name in ("registered_models", "model_versions", "runs") if not tables.has(name)]
                if missing and tables.has("experiments"):
                    raise ModelUnreadable(
                        f"{self._path} was written by an old MLflow: it has no table {missing[0]}",
                        f"mlflow db upgrade sqlite:///{self._path}",
                    )
                if missing:
                    raise ModelUnreadable(f"{self._path} is no database of MLflow's: it has no table {missing[0]}")
                yield tables
        except (sqlite3.Error, OSError, IndexError) as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> ModelUnreadable | RegistryDown:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return RegistryDown(f"{self._path} stays locked by another program", "Try again in a moment")
        if code == sqlite3.SQLITE_NOTADB:
            return ModelUnreadable(f"{self._path} is no sqlite database")
        if code == sqlite3.SQLITE_INTERRUPT:
            return ModelUnreadable(f"{self._path} takes over {_SLOW:.0f} seconds to search")
        return ModelUnreadable(f"{self._path} cannot be read: {' '.join(str(error).split())[:200]}")


class _Tables:
    """The tables that there are, read within limits, and of their rows those in our workspace."""

    def __init__(self, connection: sqlite3.Connection, workspace: str) -> None:
        self._connection = connection
        self._workspace = workspace

    def has(self, table: str) -> bool:
        found = self._connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,))
        return found.fetchone() is not None

    def rows(self, query: str, **values: object) -> Iterator[sqlite3.Row]:
        for count, row in enumerate(self._connection.execute(query, values)):
            if count >= _MAX_ROWS:
                raise sqlite3.DataError(f"over {_MAX_ROWS:,} rows")
            if "workspace" not in row.keys() or row["workspace"] == self._workspace:  # noqa: SIM118
                yield row

    def ours(self, row: sqlite3.Row) -> bool:
        """Whether a run or a logged model lies in our workspace: its experiment does."""
        found = self.rows("SELECT * FROM experiments WHERE experiment_id = :id", id=row["experiment_id"])
        return next(found, None) is not None


def _opened(path: Path) -> sqlite3.Connection:
    """A connection that can only read, and that leaves no file beside the database.

    In WAL mode sqlite makes files even to read. Where there is no -wal file the database is whole without one, and is
    opened as immutable; where there is one, a server is at work or was killed, and its files are read along.
    """
    with path.open("rb") as file:
        header = file.read(20)
    if not header.startswith(b"SQLite format 3\0"):
        raise ModelUnreadable(f"{path} is no sqlite database")
    wal, shm = (path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))
    immutable = 2 in header[18:20] and not shm.exists() and not (wal.exists() and wal.stat().st_size)
    if 2 in header[18:20] and not immutable and not shm.exists() and not os.access(path.parent, os.W_OK):
        raise ModelUnreadable(
            f"{path} has changes in {wal.name} that cannot be read on a read-only disk",
            f"Where it can be written: sqlite3 {path.name} 'PRAGMA wal_checkpoint(TRUNCATE)'",
        )
    uri = f"file:{quote(str(path))}?mode=ro{'&immutable=1' if immutable else ''}"
    connection = sqlite3.connect(uri, uri=True, timeout=_BUSY)
    connection.row_factory = sqlite3.Row
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_TEXT)
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    until = time.monotonic() + _SLOW
    connection.set_progress_handler(lambda: time.monotonic() > until, 100_000)
    return connection
