"""What an MLflow tracking server holds, asked over its REST interface. Works with MLflow 2 and 3."""

from collections.abc import Callable, Iterator
from typing import Annotated, TypeVar
from urllib.parse import quote

import msgspec

from foretell.errors import ModelNotFound, ModelUnreadable, UsageError
from foretell.registry.connection import Connection, Reply
from foretell.registry.mlflow import ModelVersion

API = "/api/2.0/mlflow"
_PAGE = 1000
_MOST_PAGES = 1000

Number = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
Decoded = TypeVar("Decoded")


class _Named(msgspec.Struct):
    name: str


class _Models(msgspec.Struct):
    registered_models: list[_Named] = []
    next_page_token: str = ""


class _Alias(msgspec.Struct):
    alias: str
    version: Number


class _Aliases(msgspec.Struct):
    aliases: list[_Alias] = []


class _Registered(msgspec.Struct):
    registered_model: _Aliases


class _Version(msgspec.Struct):
    name: str
    version: Number
    current_stage: str = "None"
    source: str = ""
    status: str = "READY"


class _Versions(msgspec.Struct):
    model_versions: list[_Version] = []
    next_page_token: str = ""


class _Location(msgspec.Struct):
    artifact_uri: str


class _Info(msgspec.Struct):
    artifact_uri: str
    name: str = ""
    experiment_id: str = ""


class _Holder(msgspec.Struct):
    info: _Info


class _Logged(msgspec.Struct):
    model: _Holder


class _LoggedModels(msgspec.Struct):
    models: list[_Holder] = []


class _Run(msgspec.Struct):
    run: _Holder


class RestStore:
    """A tracking server as a registry; see `mlflow.Store`.

    uri: http://… or https://…, a user and password allowed. say: told what takes long, in a line.

    address: the uri without these, and with the workspace where one is set: names count within it. Raises UsageError
    for what cannot be asked; every call raises RegistryDown, ModelUnreadable, and ModelError where we are not let in.
    """

    def __init__(self, uri: str, say: Callable[[str], None] | None = None) -> None:
        self.server = Connection(uri, say)
        workspace = self.server.workspace
        self.address = f"{self.server.address}#{quote(workspace)}" if workspace else self.server.address

    def close(self) -> None:
        self.server.close()

    def models(self) -> list[str]:
        """The names of all registered models, sorted."""
        found: list[str] = []
        for page in self._pages(_Models, "registered-models/search", {"max_results": _PAGE}):
            found += [self._plain(model.name) for model in page.registered_models]
        return sorted(found)

    def versions(self, name: str) -> list[ModelVersion]:
        """A model's versions, rising; none where there is no such model. Two calls, and one for each 1,000 versions.

        location is where the version was registered from; `location` asks for where it lies.
        """
        reply = self.server.ask(f"{API}/registered-models/get", {"name": name})
        if reply.code == "RESOURCE_DOES_NOT_EXIST":
            return []
        aliases = self._decoded(_Registered, reply).registered_model.aliases
        wanted = {"filter": f"name={_quoted(name)}", "max_results": _PAGE}
        found: dict[int, ModelVersion] = {}
        for page in self._pages(_Versions, "model-versions/search", wanted):
            for version in page.model_versions:
                if version.name != name:
                    continue
                number = version.version
                found[number] = ModelVersion(
                    name,
                    number,
                    self._plain(version.current_stage),
                    self._plain(version.source),
                    self._plain(version.status),
                    tuple(self._plain(alias.alias) for alias in aliases if alias.version == number),
                )
        return [found[number] for number in sorted(found)]

    def location(self, name: str, number: int) -> str:
        """The address of a version's artifacts. Raises ModelNotFound."""
        query = {"name": name, "version": number}
        found = self._get(_Location, "model-versions/get-download-uri", query, f"{name} version {number}")
        return self._plain(found.artifact_uri)

    def logged_model(self, model_id: str) -> str:
        """The address of a logged model's artifacts. Raises ModelNotFound."""
        path = f"logged-models/{quote(model_id, safe='')}"
        return self._plain(self._get(_Logged, path, {}, f"model {model_id}").model.info.artifact_uri)

    def run(self, run_id: str) -> str:
        """The address of a run's artifacts. Raises ModelNotFound."""
        return self._plain(self._run(run_id).artifact_uri)

    def run_model(self, run_id: str, path: str) -> str:
        """The address of `runs:/run_id/path`: in the model that the run logged under that name (MLflow 3), or, where
        there is none, among the run's own artifacts. Raises ModelNotFound.
        """
        run = self._run(run_id)
        name, _, inside = path.strip("/").partition("/")
        wanted = {"experiment_ids": [run.experiment_id], "filter": f"source_run_id = {_quoted(run_id)}"}
        reply = self.server.ask(f"{API}/logged-models/search", body=msgspec.json.encode(wanted))
        models = self._decoded(_LoggedModels, reply).models if reply.status == 200 else []
        logged = next((model.info.artifact_uri for model in models if model.info.name == name), None)
        parts = (logged, inside) if logged is not None else (run.artifact_uri, name, inside)
        return self._plain("/".join(part.rstrip("/") for part in parts if part))

    def _run(self, run_id: str) -> _Info:
        return self._get(_Run, "runs/get", {"run_id": run_id}, f"run {run_id}").run.info

    def _get(self, kind: type[Decoded], path: str, query: dict[str, object], what: str) -> Decoded:
        reply = self.server.ask(f"{API}/{path}", query)
        if reply.code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise ModelNotFound(f"no {what} on {self.address}")
        return self._decoded(kind, reply)

    def _pages(self, kind: type[Decoded], path: str, query: dict[str, object]) -> Iterator[Decoded]:
        seen = {""}
        token = ""
        for _ in range(_MOST_PAGES):
            reply = self.server.ask(f"{API}/{path}", {**query, "page_token": token} if token else query)
            page = self._decoded(kind, reply)
            yield page
            token = getattr(page, "next_page_token", "")
            if not token:
                return
            if token in seen:
                break
            seen.add(token)
        raise ModelUnreadable(f"{self.address} gives one page after another, without an end")

    def _decoded(self, kind: type[Decoded], reply: Reply) -> Decoded:
        return decoded(kind, reply, self.address)

    def _plain(self, text: str) -> str:
        """Text of the server that may be shown on a terminal."""
        if not text.isprintable() or len(text) > 2000:
            raise ModelUnreadable(f"{self.address} answers with a name or an address that is no text")
        return text


def decoded(kind: type[Decoded], reply: Reply, address: str) -> Decoded:
    """An answer of the shape that MLflow gives. Raises ModelUnreadable."""
    if reply.status != 200 and reply.code:
        raise ModelUnreadable(f"{address} refuses what it was asked: {reply.code} (HTTP {reply.status})")
    try:
        if reply.status == 200:
            return msgspec.json.decode(reply.body, type=kind, strict=False)
        why = f"HTTP {reply.status}"
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        why = "something else than MLflow's JSON"
    raise ModelUnreadable(
        f"{address} answers {why}, so it is no MLflow tracking server",
        "Give the server's own address, as mlflow has it",
    )


def _quoted(text: str) -> str:
    """As MLflow's filters want it; they have no way to escape a quote."""
    for mark in ("'", '"'):
        if mark not in text:
            return f"{mark}{text}{mark}"
    raise UsageError(f"{text!r} holds both kinds of quotes, which MLflow cannot be asked for")
