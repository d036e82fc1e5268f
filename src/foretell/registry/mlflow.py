"""What MLflow's registries have in common: what is asked of each, and what a uri means in any of them."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class ModelVersion:
    """One version of a registered model.

    location: the address of its artifacts: a local path, `file:…`, `mlflow-artifacts:/…`, or another scheme. stage: one
    of MLflow's four. status: MLflow's, "READY" once it can be used.
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

    def logged_model(self, model_id: str) -> str:
        """The address of a logged model's artifacts. Raises ModelNotFound, RegistryDown, ModelUnreadable."""
        ...

    def run(self, run_id: str) -> str:
        """The address of a run's artifacts. Raises ModelNotFound, RegistryDown, ModelUnreadable."""
        ...
