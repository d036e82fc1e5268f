"""Every job that ran here, with its report: a small database in the user's state folder, which commands write and
whoever advises or compares reads.

Nothing depends on it: whoever cannot write or read it goes on without. It is in SQLite's rollback mode, not WAL, as
home folders are shared between machines, where WAL breaks.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foretell.errors import LedgerError
from foretell.ledger import processes
from foretell.ledger.entry import COUNTED, RUNNING, Begun, Entry, Use
from foretell.storage import make_private, state_home

if TYPE_CHECKING:
    import sqlite3

NAME = "jobs.sqlite"
_PATIENCE = 5.0
_VERSION = 1
LARGEST = 256 << 10
"""Most bytes of a report that are kept."""

_BEGUN = ("name", "folder", "command", "omitted", "model", "label", "digest", "source", "output", "since")
_COLUMNS = ("id", "state", "process", "host", "until", "seconds", "rows", "rejected", "error", "report", *_BEGUN)
_MAKE = """
create table jobs (
  id integer primary key autoincrement, state text not null, process text not null, host text not null,
  until real not null, seconds real not null, rows integer not null, rejected integer not null, error text not null,
  report blob not null, name text not null, folder text not null, command text not null, omitted text not null,
  model text not null, label text not null, digest text not null, source text not null, output text not null,
  since real not null
);
create index jobs_by_name on jobs (name, id);
create index jobs_by_digest on jobs (digest, since);
"""


class Ledger:
    """The jobs of one user. folder: where it lies, by default in the user's state folder. keep: how many jobs. Every
    method raises LedgerError where the file is broken, locked for too long, or may not be written."""

    def __init__(self, folder: Path | None = None, keep: int = 1000) -> None:
        self._folder = folder
        self._keep = keep

    @property
    def path(self) -> Path:
        """Its file. Raises LedgerError where the user has no home."""
        try:
            return (state_home() if self._folder is None else self._folder) / NAME
        except RuntimeError as error:
            raise LedgerError("this user has no home folder for it", "Name a folder: FORETELL_STATE") from error

    def begin(self, begun: Begun) -> int:
        """Notes a job that this process runs; returns its id."""
        values = {
            "state": RUNNING,
            "process": processes.me(),
            "host": processes.host(),
            "until": 0.0,
            "seconds": 0.0,
            "rows": 0,
            "rejected": 0,
            "error": "",
            "report": b"",
            **{name: getattr(begun, name) for name in _BEGUN},
            "command": json.dumps(begun.command),
            "omitted": json.dumps(begun.omitted),
        }
        names = ", ".join(values)
        with self._changed() as database:
            marks = ", ".join("?" * len(values))
            done = database.execute(f"insert into jobs ({names}) values ({marks})", [*map(_storable, values.values())])  # noqa: S608
            self._prune(database)
            return int(done.lastrowid or 0)

    def end(
        self,
        job: int,
        state: str,
        *,
        rows: int,
        rejected: int = 0,
        seconds: float,
        error: str = "",
        report: bytes = b"",
    ) -> None:
        """Notes how a job ended. report: JSON; one that is too large is not kept."""
        kept = report if len(report) <= LARGEST else b""
        values = (state, time.time(), seconds, rows, rejected, _storable(error), kept, job)
        with self._changed() as database:
            database.execute(
                "update jobs set state=?, until=?, seconds=?, rows=?, rejected=?, error=?, report=? where id=?", values
            )

    def mark(self, job: int, state: str) -> None:
        """Gives a job another state, in which nothing is wrong with it any more."""
        with self._changed() as database:
            database.execute("update jobs set state=?, error='' where id=?", (state, job))

    def forget(self, jobs: Iterable[int]) -> int:
        """Removes jobs; returns how many there were."""
        with self._changed() as database:
            return database.executemany("delete from jobs where id=?", [(job,) for job in jobs]).rowcount

    def entries(self, most: int = 1_000_000, *, output: str | None = None) -> list[Entry]:
        """The newest jobs, the last one first. output: only those that write there."""
        where, values = ("", []) if output is None else ("where output=?", [output])
        return self._found(f"{where} order by id desc limit ?", [*values, most])

    def entry(self, job: int) -> Entry | None:
        return next(iter(self._found("where id=?", [job])), None)

    def last(self, name: str) -> Entry | None:
        """The last job of a name whose output was put in place, and that has a report."""
        query = f"where name=? and state in ({_marks(COUNTED)}) and report != x'' order by id desc limit 1"
        return next(iter(self._found(query, [name, *COUNTED])), None)

    def recent(self, model: str, since: float = 0.0) -> list[Use]:
        """What a model was used for since a time, the newest first. model: its digest."""
        query = f"select since, rows, seconds from jobs where digest=? and since>=? and state in ({_marks(COUNTED)})"  # noqa: S608
        with self._opened() as database:
            rows = [] if database is None else database.execute(query, [model, since, *COUNTED]).fetchall()
        return sorted((Use(*row) for row in rows), key=lambda use: -use.at)

    def _found(self, rest: str, values: Sequence[Any]) -> list[Entry]:
        query = f"select {', '.join(_COLUMNS)} from jobs {rest}"  # noqa: S608
        with self._opened() as database:
            rows = [] if database is None else database.execute(query, list(values)).fetchall()
            return [_entry(dict(zip(_COLUMNS, row, strict=True))) for row in rows]

    def _prune(self, database: "sqlite3.Connection") -> None:
        """Removes the oldest jobs; the last finished one of a name stays longer, as the next is compared with it."""
        database.execute(
            f"delete from jobs where id not in (select id from jobs order by id desc limit ?) and id not in (select "  # noqa: S608
            f"max(id) from jobs where state in ({_marks(COUNTED)}) group by name order by 1 desc limit ?)",
            (self._keep, *COUNTED, self._keep),
        )

    @contextlib.contextmanager
    def _changed(self) -> "Iterator[sqlite3.Connection]":
        """The database, made if it is not there, in a transaction of its own."""
        with self._errors():
            make_private(self.path.parent)
            self._check_owner()
            with self._connection("rwc") as database:
                database.execute("begin immediate")
                if _version(database) == 0:
                    self.path.chmod(0o600)
                    for statement in _MAKE.split(";"):
                        database.execute(statement)
                    database.execute(f"pragma user_version={_VERSION}")
                yield database
                database.execute("commit")

    @contextlib.contextmanager
    def _opened(self) -> "Iterator[sqlite3.Connection | None]":
        """The database, to be read; None before there is one."""
        with self._errors():
            if not self.path.exists():
                yield None
                return
            self._check_owner()
            with self._connection("rw") as database:
                yield database if _version(database) else None

    def _check_owner(self) -> None:
        """Whoever may write it could have a user run commands again that were never run."""
        for path in (self.path.parent, self.path):
            if path.exists() and ((status := path.stat()).st_uid != os.getuid() or status.st_mode & 0o022):
                raise LedgerError(f"{path} belongs to somebody else, or can be written by others", f"chmod go-w {path}")

    @contextlib.contextmanager
    def _connection(self, mode: str) -> "Iterator[sqlite3.Connection]":
        import sqlite3

        uri = f"{self.path.absolute().as_uri()}?mode={mode}"
        with contextlib.closing(sqlite3.connect(uri, timeout=_PATIENCE, isolation_level=None, uri=True)) as database:
            database.execute("pragma synchronous=normal")
            if (version := _version(database)) > _VERSION:
                raise LedgerError(f"{self.path} was written by a newer foretell (its version is {version})")
            yield database

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            import sqlite3
        except ImportError as error:
            raise LedgerError("this Python has no SQLite, so jobs are not kept in a ledger") from error
        try:
            yield
        except (sqlite3.Error, OSError, ValueError, TypeError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            hint = "Move it away" if "database" in reason and "locked" not in reason else ""
            raise LedgerError(f"{self.path}: {reason}", hint) from error


def _entry(row: dict[str, Any]) -> Entry:
    row["command"], row["omitted"] = (tuple(map(str, json.loads(row[name]))) for name in ("command", "omitted"))
    begun = Begun(**{name: row.pop(name) for name in _BEGUN})
    return Entry(begun=begun, **row)


def _storable(value: Any) -> Any:
    """Names of files may hold bytes that are no text, which SQLite does not take."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


def _version(database: "sqlite3.Connection") -> int:
    return int(database.execute("pragma user_version").fetchone()[0])


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))
