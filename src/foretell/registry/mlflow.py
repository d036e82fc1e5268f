"""What MLflow's registries have in common: what is asked of each, and what a uri means in any of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class ModelVersion:
    """One version of a registered model.

    location: where it was registered from, or where it lies; Store.location says the latter for certain. stage: one of
    MLflow's four. status: MLflow's, "READY" once it can be used.
    """

    name: str
    number: int
    stage: str
    location: str
    status: str = "READY"
    aliases: tuple[str, ...] = ()


class Store(Protocol):
    """One of MLflow's registries, read only.

    address: what it is called, without secrets: for people, and for what trust is given to.
    """

    address: str

    def models(self) -> list[str]:
        """The names of all registered models, sorted. Raises RegistryDown, ModelUnreadable."""
        ...

    def versions(self, name: str) -> list[ModelVersion]:
        """A model's versions, rising; none where there is no such model. Raises RegistryDown, ModelUnreadable."""
        ...

    def location(self, name: str, number: int) -> str:
        """The address of a version's artifacts: a local path, `file:…`, `mlflow-artifacts:/…`, or another scheme.
        Raises ModelNotFound, RegistryDown, ModelUnreadable."""
        ...

    def logged_model(self, model_id: str) -> str:
        """The address of a logged model's artifacts. Raises ModelNotFound, RegistryDown, ModelUnreadable."""
        ...

    def run(self, run_id: str) -> str:
        """The address of a run's artifacts. Raises ModelNotFound, RegistryDown, ModelUnreadable."""
        ...

    def run_model(self, run_id: str, path: str) -> str:
        """The address of `runs:/run_id/path`: in the model that the run logged under the path's first name (MLflow 3),
        or among the run's own artifacts. Raises ModelNotFound, RegistryDown, ModelUnreadable."""
        ...

    def close(self) -> None:
        """Lets go of a connection, where there is one."""
        ...


@runtime_checkable
class LocalStore(Store, Protocol):
    """A registry on this machine, whose artifacts are used in place.

    places: folders under which artifacts are looked for that are no longer where the registry says.
    """

    places: tuple[Path, ...]
