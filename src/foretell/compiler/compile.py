"""Compiles a model: makes the engines that could predict in its library's place, proves which of them are equal,
measures, chooses, and keeps what was found for both ways to use."""

import itertools
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from foretell import predictor as predictors
from foretell.batch import Call
from foretell.compiler import verify
from foretell.compiler.candidates import MAKERS, Artifact
from foretell.compiler.draw import draw
from foretell.compiler.measure import score, timed
from foretell.errors import ForetellError, ModelError, OutputError, UsageError, printable
from foretell.kernels.node import NotCovered
from foretell.models import compiled, proven
from foretell.models import load as models
from foretell.models.proven import FORMAT, NATIVE, Entry, Record, Tried, Verified
from foretell.models.requirements import LIBRARIES
from foretell.predictor import Found, Predictor

Say = Callable[[str], None]


def compile_model(
    found: Found,
    *,
    schema: str | None = None,
    cast: dict[str, str] | None = None,
    engine: str = predictors.AUTO,
    again: bool = False,
    loaded: Predictor | None = None,
    say: Say = lambda told: None,
) -> Record:
    """Compiles a model into the cache and returns what is known of it then; what is there already counts, unless again.
    Several processes may ask at once: one works, the others wait.

    engine: "auto" for all that may be exact, or one engine's name, also where it is not. loaded: the model by its own
    library, where it is loaded already. Raises ModelError, UsageError, OutputError.
    """
    place = proven.entry(found.resolved.digest, predictors.variant(schema, cast))
    place.make()
    try:
        with place.locked(say), warnings.catch_warnings():
            # What libraries say about rows that were made up is about no row of anybody's.
            warnings.simplefilter("ignore")
            known = None if again or place.demoted() is not None else place.record()
            if known is not None and (engine == predictors.AUTO or known.of_engine(engine) is not None):
                return known
            started = time.perf_counter()
            native = loaded or predictors.load(found.native, schema=schema, cast=cast)
            if native.flavour == models.COMPILED:
                raise UsageError(f"{found.resolved.label} is compiled already", "Name the model that it was made of")
            work = _Work(native, place, say)
            tried, proofs = work.proven(_names(engine, known, native), engine)
            best = min((one for one in tried if one.usable), key=lambda one: score(one, tried[0]))
            record = Record(
                FORMAT,
                found.resolved.label,
                found.resolved.digest,
                native.flavour,
                proven.circumstances(depends_on(native.flavour)),
                datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
                time.perf_counter() - started,
                native.seconds,
                tried,
                best.engine,
                _reason(best, tried),
            )
            with place.draft() as draft:
                place.keep(
                    record, {name: work.written(name, proof, record, Path(draft)) for name, proof in proofs.items()}
                )
            return record
    except OSError as error:
        raise OutputError(
            f"{place.folder} cannot be written: {error.strerror or error}", "Set FORETELL_CACHE"
        ) from error


def obtained(
    found: Found, engine: str, *, schema: str | None, cast: dict[str, str] | None, say: Say = lambda told: None
) -> Found:
    """A found model, to be loaded with an engine by its name, made if it is not there; that it rounds otherwise is
    said. Raises ModelError, UsageError, OutputError."""
    if found.compiled is None and found.settled.flavour == models.COMPILED:
        if (own := compiled.describe(found.settled.model).engine) == engine:
            return found
        told_ = f"{found.resolved.label} is compiled for the engine {own!r}, and has no other"
        raise UsageError(told_, "Leave --engine away, or FORETELL_ENGINE if that is set")
    record = compile_model(found, schema=schema, cast=cast, engine=engine, say=say)
    tried, native = record.of_engine(engine), record.of_engine(NATIVE)
    folder = proven.entry(found.resolved.digest, predictors.variant(schema, cast)).compiled(engine)
    if tried is None or native is None or folder is None:
        raise ModelError(f"{found.resolved.label}: --engine {engine}: {tried.why if tried else 'no such engine'}")
    if (proof := tried.verified) is not None and not proof.exact:
        say(f"{tried.label} does not answer as {native.label} does: {told(proof)}")
    return replace(found, compiled=folder)


def compared(proof: Verified) -> str:
    """On what an engine that is exact was compared, for people."""
    refused = f", {proof.refused:,} refused by both" if proof.refused else ""
    return f"{proof.answered:,} rows{refused}"


def told(proof: Verified) -> str:
    """How an engine that is not exact compares, for people."""
    parts = [proof.why]
    if proof.largest:
        parts.append(f"numbers differ by {proof.largest:.2g} at most")
    if proof.changed:
        parts.append(f"{proof.changed:,} of {proof.answered:,} rows got another label")
    return "; ".join(parts)


def _names(engine: str, known: Record | None, native: Predictor) -> list[str]:
    """The engines to make: all that may be exact, and those that were or are asked for."""
    asked = {tried.engine for tried in known.tried} if known else set()
    if engine in MAKERS and native.flavour not in MAKERS[engine].flavours:
        raise ModelError(f"{native.resolved.label} is {native.engine.name}'s, for which there is no engine {engine!r}")
    if engine not in (predictors.AUTO, NATIVE, *MAKERS):
        raise UsageError(f"--engine {engine}: no such engine", f"Engines: auto, native, {', '.join(MAKERS)}")
    usual = {name for name, maker in MAKERS.items() if maker.makes(native.flavour)}
    return [name for name in MAKERS if name in usual or name == engine or name in asked]


@dataclass(frozen=True)
class _Proof:
    """An engine that was made, as it will be loaded, and how it compares."""

    artifact: Artifact
    candidate: Predictor
    verified: Verified


@dataclass(frozen=True)
class _Work:
    """One compilation. native: the model by its library."""

    native: Predictor
    place: Entry
    say: Say

    def proven(self, names: list[str], asked: str) -> tuple[list[Tried], dict[str, _Proof]]:
        """What came of each engine, the library first, and those that were made. asked: the engine that was named."""
        refused: list[Tried] = []
        proofs: dict[str, _Proof] = {}
        for name in names:
            if MAKERS[name].last and name != asked and any(proof.verified.exact for proof in proofs.values()):
                continue
            try:
                proofs[name] = self._first_exact(name, _begun(MAKERS[name].make(self.native)))
            except Exception as error:
                refused.append(Tried(name, MAKERS[name].label, why=_why(error)))
        native = Tried(NATIVE, self.native.engine.name)
        if not proofs:
            return [native, *refused], {}
        calls, expected = self._expected
        sample = expected.rows if expected.rows.rows else self.native.example()
        seconds = timed([self.native, *(proof.candidate for proof in proofs.values())], sample, calls[0])
        tried = [Tried(NATIVE, native.label, seconds[0])]
        for (name, proof), times in zip(proofs.items(), seconds[1:], strict=True):
            tried.append(Tried(name, MAKERS[name].label, times, proof.verified, proof.verified.why))
        return [*tried, *refused], proofs

    @cached_property
    def _expected(self) -> tuple[list[Call], verify.Reference]:
        """The calls, and what the library answers to them."""
        calls = calls_of(self.native)
        rows = draw(self.native, verify.labeller(self.native, calls[0]))
        self.say(f"comparing with {self.native.engine.name} on {len(rows):,} rows …")
        return calls, verify.reference(self.native, rows, calls)

    def _first_exact(self, name: str, artifacts: Iterator[Artifact]) -> _Proof:
        """The first way to make an engine that is exact, else the first that opens. Raises what the first one raised,
        where none opens."""
        best: _Proof | None = None
        first: Exception | None = None
        _, expected = self._expected
        for artifact in artifacts:
            try:
                with self.place.draft() as folder:
                    candidate = self._opened(name, artifact, Path(folder))
                screened = verify.screened(candidate, expected) if best else None
                proof = _Proof(artifact, candidate, screened or verify.verified(candidate, expected, self.native))
            except OSError:
                raise
            except Exception as error:
                first = first or error
                continue
            if proof.verified.exact:
                return proof
            best = best or proof
        if best is None:
            raise first or NotCovered("this model")
        return best

    def _opened(self, name: str, artifact: Artifact, folder: Path) -> Predictor:
        """The engine as it will be loaded, from what was written of it."""
        artifact.files(folder)
        engine = compiled.open_engine(folder, self._described(name, artifact))
        loaded = models.Loaded(engine, self.native.signature, self.native.names)
        settled = models.Settled(self.native.stored, models.COMPILED, trusted=False)
        return Predictor(self.native.found, settled, loaded, self.native.signature)

    def _described(self, name: str, artifact: Artifact) -> compiled.Described:
        resolved = self.native.resolved
        return compiled.Described(
            name, resolved.label, resolved.digest, self.native.signature, self.native.names, artifact.more
        )

    def written(self, name: str, proof: _Proof, record: Record, draft: Path) -> Path:
        """A compiled model, in a folder of the draft. Raises OSError."""
        folder = draft / name
        folder.mkdir()
        described = self._described(name, proof.artifact)
        compiled.write(folder, described, proof.artifact.files, record, self.native.stored.example)
        return folder


def calls_of(native: Predictor) -> list[Call]:
    """What an engine is asked in every way that it can be: with probabilities if there are some, and without; with each
    flag among its parameters turned."""
    plain = dict(native.signature.call_params({}))
    ways = [plain, *({**plain, name: not value} for name, value in plain.items() if isinstance(value, bool))]
    probas = (True, False) if native.engine.proba else (False,)
    return [Call(proba, tuple(sorted(way.items()))) for proba in probas for way in ways]


def _begun(artifacts: Iterator[Artifact]) -> Iterator[Artifact]:
    """The same, with the first one made already, so that what cannot be made is known."""
    first = next(artifacts)
    return itertools.chain([first], artifacts)


def _why(error: Exception) -> str:
    if isinstance(error, NotCovered):
        return f"does not cover {error}"
    if isinstance(error, ForetellError):
        return error.message.splitlines()[0]
    return printable(" ".join(f"cannot be made: {type(error).__name__}: {error}".split()))


def depends_on(flavour: str) -> tuple[str, ...]:
    """What a proof for models of a flavour depends on, by the names of proven.circumstances."""
    library = LIBRARIES.get(flavour)
    packages = {library.name} if library else set()
    if flavour == "sklearn":
        packages |= {"scipy", "pandas"}
    if flavour in MAKERS["onnx"].flavours:
        packages |= {"skl2onnx"}
    return ("cpu", "blas", "foretell", "numpy", *sorted(packages))


def _reason(best: Tried, tried: list[Tried]) -> str:
    """Why an engine was chosen, for people."""
    native = tried[0]
    if best.engine != NATIVE:
        rows = compared(best.verified) if best.verified else "no rows"
        times = [f"{native.seconds[size] / best.seconds[size]:,.1f} x for {size:,}" for size in native.seconds]
        return f"equal to {native.label} to the bit on {rows}, and quicker: {', '.join(times)}"
    if any(one.usable for one in tried[1:]):
        return "no other engine was quicker"
    refused = [f"the {one.label} {one.why}" for one in tried[1:] if one.why]
    return "; ".join(refused) or f"foretell has no other engine for {best.label} models"
