"""What is known of a model without loading it: its files, columns, trust, and what was proven of its engines."""

from pathlib import Path
from typing import Any

import msgspec

from foretell import predictor, storage
from foretell.errors import LibraryMissing
from foretell.models import compiled, mlmodel, proven
from foretell.models import load as models
from foretell.models.load import COMPILED
from foretell.models.mlmodel import StoredModel
from foretell.models.proven import NATIVE, Entry, Record
from foretell.models.requirements import LIBRARIES, installed, saved_with
from foretell.models.trust import open_store
from foretell.registry.resolve import Resolved
from foretell.signature import from_schema_file


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """trust: "free", "trusted" or "needed"; runs: what loading would run. signature: None where only the loaded model
    tells its columns. engine: what predicts by default, and why. demoted: why what was compiled is not used. seen: rows
    of real data that were checked."""

    uri: str
    model: str
    version: int | None
    registry: str | None
    path: str
    digest: str
    files: int
    bytes: int
    flavour: str
    library: str | None
    saved_with: str | None
    trust: str
    runs: list[str]
    signature: dict[str, Any] | None
    engine: str
    why: str
    demoted: str | None
    seen: int
    record: Record | None


def known(
    resolved: Resolved, registry: str | None = None, *, schema: str | None = None, cast: dict[str, str] | None = None
) -> Known:
    """Reads what is there. schema, cast: what its columns are read as. Raises ModelError, UsageError."""
    stored = mlmodel.read(resolved.path)
    flavour = models.flavour_of(stored)
    sizes = [path.stat().st_size for _, path in storage.files_under(resolved.path)]
    models.check_types(flavour, resolved.label, schema, cast)
    place = proven.entry(resolved.digest, predictor.variant(schema, cast))
    record = compiled.record(resolved.path) if flavour == COMPILED else place.record()
    demoted = None if flavour == COMPILED else place.demoted()
    runs = _runs(stored, flavour)
    trusted = bool(runs) and open_store().covers(predictor.origin_of(resolved, registry))
    own = compiled.describe(stored).engine if flavour == COMPILED else None
    engine, why = _engine(own, record, demoted)
    library = LIBRARIES.get(flavour)
    version = installed(library.name) if library else None
    return Known(
        uri=resolved.uri,
        model=resolved.name,
        version=resolved.version,
        registry=resolved.registry,
        path=str(resolved.path),
        digest=resolved.digest,
        files=len(sizes),
        bytes=sum(sizes),
        flavour=flavour,
        library=f"{library.name} {version or '(not installed)'}" if library else None,
        saved_with=saved_with(stored, flavour),
        trust="trusted" if trusted else "needed" if runs else "free",
        runs=runs,
        signature=_signature(stored, flavour, place, schema, cast),
        engine=engine,
        why=why,
        demoted=demoted,
        seen=place.seen(),
        record=record,
    )


def _runs(stored: StoredModel, flavour: str) -> list[str]:
    try:
        return models.runs_code(stored, flavour)
    except LibraryMissing as error:
        return [f"not known: {error.message}"]


def _engine(own: str | None, record: Record | None, demoted: str | None) -> tuple[str, str]:
    """The engine that predicts, and why. own: that of a compiled model, which has no other."""
    if own is not None and (record is None or own != record.chosen):
        proof = record.of_engine(own) if record else None
        exact = proof is not None and proof.verified is not None and proof.verified.exact
        return own, "equal to the library, and asked for" if exact else "asked for, and not proven equal to the library"
    if record is None:
        return NATIVE, "not compiled yet"
    if demoted is not None:
        return NATIVE, demoted
    return record.chosen, record.why


def _signature(
    stored: StoredModel, flavour: str, place: Entry, schema: str | None, cast: dict[str, str] | None
) -> dict[str, Any] | None:
    """That of what was compiled of the model; else its own, or the schema's."""
    if flavour == COMPILED:
        return compiled.describe(stored).signature.to_dict()
    if (folder := place.chosen()) is not None:
        return compiled.describe(mlmodel.read(folder)).signature.to_dict()
    found = from_schema_file(Path(schema)) if schema else stored.signature
    return None if found is None else found.cast(cast or {}).to_dict()
