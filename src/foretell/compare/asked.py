"""What a comparison is asked to measure, and how its commands are called: the same model, read alike, both ways."""

import csv
import io
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from foretell import predictor
from foretell.cells import NULLS
from foretell.models.proven import NATIVE
from foretell.predictor import Found
from foretell.tables.csv_header import CsvOptions

_NOT_OURS = (
    "FORETELL_API_KEY_FILE",
    "FORETELL_ADMIN_PORT",
    "FORETELL_ADMIN_HOST",
    "FORETELL_ALLOWED_HOSTS",
    "FORETELL_CONFIG",
    "FORETELL_FOLLOW",
    "FORETELL_LOG_PREDICTIONS",
    "FORETELL_OTEL_ENDPOINT",
    "FORETELL_TLS_CERT",
    "FORETELL_TLS_KEY",
    "FORETELL_TLS_CLIENT_CA",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
)
"""Settings of a server for others, which is not the one that is measured; nobody wants that one's requests logged."""

Say = Callable[[str, float], None]
"""Told what is being done, and what share of the time is gone."""


class Reading(msgspec.Struct, frozen=True):
    """How the input is read, and what is asked of the model besides its rows. format: a key of FORMATS; None for what
    the files' names tell. params: a JSON object."""

    format: str | None = None
    options: CsvOptions = CsvOptions()
    proba: bool = False
    params: str = "{}"

    @property
    def flags(self) -> list[str]:
        """How a job is told of it; nothing of what is so anyway."""
        options, usual = self.options, CsvOptions()
        told = {
            "content-type": self.format,
            "params": None if self.params == "{}" else self.params,
            "null-values": None if options.rules.nulls == NULLS else _words(options.rules.nulls[1:]),
            "encoding": None if options.encoding == usual.encoding else options.encoding,
            "decimal": None if options.rules.decimal == usual.rules.decimal else options.rules.decimal,
            "delimiter": options.delimiter,
            "columns": _words(options.columns) if options.columns else None,
        }
        flags = [f"--{name}={value}" for name, value in told.items() if value is not None]
        return flags + ["--proba"] * self.proba + ["--no-header"] * (options.columns == ())

    @property
    def target(self) -> str:
        """Where a server is asked for it."""
        return "/invocations?proba=true" if self.proba else "/invocations"


@dataclass(frozen=True)
class Asked:
    """uri … cast: the model, as every command takes it. input: a file, a folder or a pattern of files. slo_p99: seconds
    within which 99 % of answers are to come; None to derive it. budget: seconds for everything. workers: processes of
    the server. command: what a person says to have the same again. reading: besides the model, what both ways are
    told."""

    uri: str
    input: str
    registry: str | None = None
    trust: bool = False
    engine: str = predictor.AUTO
    schema: str | None = None
    cast: Mapping[str, str] = field(default_factory=dict)
    slo_p99: float | None = None
    budget: float = 60.0
    seed: int = 1
    workers: int = 1
    command: str = ""
    reading: Reading = field(default_factory=Reading)

    @property
    def read_as(self) -> str:
        """What the model's columns are read as. Raises UsageError."""
        return predictor.variant(self.schema, dict(self.cast))

    def find(self) -> Found:
        """The model. Raises ModelError, UsageError."""
        registry, engine = self.registry, self.engine
        return predictor.find(self.uri, registry=registry, trust=self.trust, engine=engine, variant=self.read_as)


class Model(msgspec.Struct, frozen=True):
    """The very version that is measured, with the engine that answers both ways. environment: every command's, in which
    the user's ledger of jobs is another one."""

    uri: str
    engine: str
    registry: str | None
    schema: str | None
    cast: dict[str, str]
    environment: dict[str, str]
    reading: Reading = Reading()

    @property
    def flags(self) -> list[str]:
        """How a command is told which model it is."""
        flags = ["-m", self.uri, "--engine", self.engine]
        for name, value in (("--registry", self.registry), ("--schema", self.schema)):
            flags += [name, value] if value else []
        return flags + [part for name, kind in self.cast.items() for part in ("--cast", f"{name}={kind}")]


def settled(asked: Asked, found: Found, state: str) -> Model:
    """How commands are told of what was found. state: a folder for what they note."""
    resolved = found.resolved
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_OURS}
    environment["FORETELL_STATE"] = state
    if found.compiled is None and found.settled.trusted:
        environment["FORETELL_TRUST"] = resolved.digest
    return Model(
        asked.uri if resolved.version is None else f"models:/{resolved.name}/{resolved.version}",
        NATIVE if asked.engine == predictor.AUTO and found.compiled is None else asked.engine,
        asked.registry,
        asked.schema,
        dict(asked.cast),
        environment,
        asked.reading,
    )


def _words(words: tuple[str, ...]) -> str:
    """With commas between them, as options take them."""
    told = io.StringIO()
    csv.writer(told, lineterminator="").writerow(words)
    return told.getvalue()
