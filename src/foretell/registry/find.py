"""What a uri means in one of MLflow's registries, whichever it is: the rules of MLflow, over what a Store tells."""

from dataclasses import dataclass

from foretell.errors import ModelNotFound, ModelUnreadable, UsageError
from foretell.registry.held import Held, shown, suggest
from foretell.registry.mlflow import ModelVersion, Store
from foretell.registry.uri import ArtifactUri, LoggedModelUri, RegistryUri, RunUri, Uri, parse

_HOPS = 4


@dataclass(frozen=True)
class Located:
    """A model found in a registry. name: for people. version: None where it has no number. address: of its files."""

    name: str
    version: int | None
    address: str


def locate(store: Store, uri: Uri) -> Located:
    """Where the artifacts of a model lie. Raises ModelNotFound, saying what there is, RegistryDown, ModelUnreadable."""
    match uri:
        case RegistryUri():
            version = find(store, uri)
            return Located(version.name, version.number, _followed(store, store.location(version.name, version.number)))
        case LoggedModelUri():
            return Located(uri.model_id, None, _followed(store, store.logged_model(uri.model_id)))
        case RunUri():
            return Located(uri.path.rsplit("/", 1)[-1], None, store.run_model(uri.run_id, uri.path))
        case ArtifactUri():
            where = f"//{uri.host}/{uri.path}" if uri.host else f"/{uri.path}"
            return Located(uri.path.rsplit("/", 1)[-1], None, f"mlflow-artifacts:{where}")


def find(store: Store, uri: RegistryUri) -> ModelVersion:
    """The version that a uri means, if it can be used. Raises like locate."""
    versions = store.versions(uri.name)
    number = held(versions).number(uri, store.address, lambda name: suggestion(store, name))
    version = next(version for version in versions if version.number == number)
    if version.status != "READY":
        raise ModelNotFound(
            f"version {number} of model {uri.name!r} in the registry {store.address} is not ready: "
            f"its status is {shown(version.status)}",
            "MLflow says READY once all of a version's files are there; register it again, or take another version",
        )
    return version


def held(versions: list[ModelVersion]) -> Held:
    """What there is of a model, and what points to it."""
    return Held(
        [version.number for version in versions],
        {version.number: version.stage for version in versions if version.stage.lower() != "none"},
        {alias: version.number for version in versions for alias in version.aliases},
    )


def suggestion(store: Store, name: str) -> str:
    """What the registry holds, with the uri to type."""
    how = "Register a model in it: mlflow.register_model(…), or take another registry: --registry"
    return suggest(name, store.models(), lambda model: held(store.versions(model)), how)


def _followed(store: Store, location: str) -> str:
    """An address that is none of a registry's own names: `models:/m-…` and the like are looked up, a few times."""
    for _ in range(_HOPS):
        if not location.startswith(("models:", "runs:")):
            return location
        try:
            uri = parse(location)
        except UsageError as error:
            raise ModelUnreadable(f"the registry {store.address} names {shown(location)!r}, no proper uri") from error
        match uri:
            case RegistryUri():
                location = store.location(uri.name, find(store, uri).number)
            case LoggedModelUri():
                location = store.logged_model(uri.model_id)
            case RunUri():
                location = store.run_model(uri.run_id, uri.path)
    raise ModelUnreadable(f"the registry {store.address} names {shown(location)!r}, which leads in a circle")
