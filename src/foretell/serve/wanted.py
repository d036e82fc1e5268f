"""A model that is to be served: under which name, found and loaded how, within which limits of its own."""

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from foretell import predictor as predictors
from foretell.compiler.background import Background
from foretell.compiler.candidates import coverable
from foretell.errors import ForetellError, ModelUnreadable
from foretell.models import proven
from foretell.models.load import foreign_code
from foretell.models.proven import NATIVE
from foretell.predictor import AUTO, Found, Predictor, variant
from foretell.registry.uri import RegistryUri, needs_registry, parse
from foretell.serve.limits import Limits
from foretell.serve.standing import Version

NAME = re.compile(r"[^\W_][\w .@+-]{0,79}")
_TRUST = "FORETELL_TRUST"


@dataclass(frozen=True)
class Wanted:
    """name: on the port. uri: of any kind. registry, engine, schema, cast: as the commands take them. trust: whether
    what the uri means at the start may run code. timeout, max_…: the model's own, in place of the server's. follow:
    whether what its uri means later is served then. shadow: the uri of a model that is compared with it.
    """

    name: str
    uri: str
    registry: str | None = None
    engine: str = AUTO
    trust: bool = False
    schema: str | None = None
    cast: dict[str, str] = field(default_factory=dict)
    timeout: float | None = None
    max_batch_size: int | None = None
    max_queue_delay_ms: float | None = None
    max_queue: int | None = None
    follow: bool = False
    shadow: str = ""

    @property
    def variant(self) -> str:
        return variant(self.schema, self.cast)

    def find(
        self, version: Version | None = None, say: Callable[[str], None] | None = None, *, trust: bool = False
    ) -> Found:
        """What the uri means now, or that version of it, found and verified. Without trust only what was trusted before
        may run code. Raises ForetellError."""
        uri = version.uri if version else self.uri
        found = predictors.find(
            uri, registry=self.registry, trust=trust, engine=self.engine, variant=self.variant, say=say
        )
        if version is not None and found.resolved.digest != version.digest:
            raise ModelUnreadable(f"{found.resolved.label} is not what it was")
        return self.with_engine(found, say or (lambda _: None))

    def with_engine(self, found: Found, say: Callable[[str], None]) -> Found:
        """With an engine that was asked for by its name, made if it is not there."""
        if self.engine in (AUTO, NATIVE):
            return found
        from foretell.compiler.compile import obtained

        return obtained(found, self.engine, schema=self.schema, cast=self.cast, say=say)

    def load(self, found: Found) -> Predictor:
        """Raises ModelError, UsageError."""
        return predictors.load(found, schema=self.schema, cast=self.cast)

    def limits(self, server: Limits) -> Limits:
        """The server's, and the model's own where it has any."""
        delay = self.max_queue_delay_ms
        own = {
            "timeout": self.timeout,
            "batch_rows": self.max_batch_size,
            "queue_delay": None if delay is None else delay / 1000,
            "queue": self.max_queue,
        }
        return replace(server, **{name: value for name, value in own.items() if value is not None})  # type: ignore[arg-type]

    def engines(self, opened: Predictor, say: Callable[[str], None]) -> Background:
        """What sees to the engine beside the server: with auto one is made, if one can be and none is there."""
        found, native = opened.found, opened.found.native
        place = proven.entry(opened.resolved.digest, self.variant)
        bare = found.automatic and found.compiled is None
        wanted = bare and place.record() is None and coverable(opened, at_once=False)
        flags = [("--schema", self.schema)] if self.schema else []
        flags += [("--cast", f"{column}={kind}") for column, kind in self.cast.items()]
        command = [sys.executable, "-P", "-m", "foretell", "models", "compile", "--beside", "--json", "--engine", AUTO]
        command += ["-m", opened.resolved.pinned, *(part for flag in flags for part in flag)]
        # Its address may hold a password, and arguments can be read by every user of the machine.
        environment = {**os.environ, **({"FORETELL_REGISTRY": self.registry} if self.registry else {})}
        return Background(opened, place, command if wanted else None, environment, lambda: self.load(native), say)


def name_of(uri: str) -> str:
    """The name that a model gets by its uri: that in a registry, or its file's. Raises UsageError, ModelNotFound."""
    parsed = parse(uri)
    if isinstance(parsed, RegistryUri):
        name = parsed.name
    elif needs_registry(uri):
        name = uri.rstrip("/").rsplit("/", 1)[-1]
    else:
        path = Path(uri).resolve()
        name = path.name if path.is_dir() else path.stem
    name = re.sub(r"[^\w .@+-]", "_", name)[:80].lstrip("_ .@+-")
    return name or "model"


def keep_trust(found: Found) -> None:
    """These very files may run code whenever this process, or one that it starts, loads them again."""
    if found.compiled is not None or not found.settled.trusted:
        return
    said = os.environ.get(_TRUST, "").strip()
    digests = [part.strip() for part in said.split(",") if part.strip()]
    if found.resolved.digest not in digests and said.lower() not in ("1", "true", "yes"):
        os.environ[_TRUST] = ",".join([*digests, found.resolved.digest])


def brings_code(found: Found) -> bool:
    """Whether loading runs Python code of the model's own, which a process can take only once."""
    if found.compiled is not None:
        return False
    model = found.settled.model
    return found.settled.flavour == "python_function" or bool(foreign_code(model))


def why(error: Exception) -> str:
    """What went wrong, in a line."""
    return error.message if isinstance(error, ForetellError) else f"{type(error).__name__}: {str(error)[:200]}"
