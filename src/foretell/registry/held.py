"""What a registry holds of a model, which version of it a uri means, and how to say so: the same in every registry."""

from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import SequenceMatcher

from foretell.errors import ModelNotFound
from foretell.registry.uri import RegistryUri

_SHOWN = 5
_COMPARED = 500


@dataclass(frozen=True)
class Held:
    """One model's versions. numbers: rising. staged: {number: stage}, where it has one. aliases: {alias: number}."""

    numbers: list[int] = field(default_factory=list)
    staged: dict[int, str] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)

    @property
    def stages(self) -> dict[str, int]:
        """The newest version in each stage."""
        return {stage: max(n for n, s in self.staged.items() if s == stage) for stage in self.staged.values()}

    def describe(self) -> str:
        """ "versions 1 to 3, Production is 2, @champion is 2"."""
        if not self.numbers:
            return "no version"
        first, last = self.numbers[0], self.numbers[-1]
        what = f"version {last}" if first == last else f"versions {first} to {last}"
        what += "".join(f", {shown(stage)} is {number}" for stage, number in self.stages.items())
        return what + "".join(f", @{shown(alias)} is {number}" for alias, number in self.aliases.items())

    def uri(self, name: str) -> str:
        """The uri that a person most likely means."""
        stages = self.stages
        for stage in ("Production", *stages):
            if stage in stages:
                return f"models:/{shown(name)}/{shown(stage)}"
        alias = f"@{shown(next(iter(self.aliases)))}" if self.aliases else "/latest"
        return f"models:/{shown(name)}{alias}"

    def number(self, uri: RegistryUri, address: str, suggestion: Callable[[str], str]) -> int:
        """The version that a uri means: of several in a stage the newest. Raises ModelNotFound, saying what there is.

        address: what the registry is called. suggestion: for a name, what the registry holds.
        """
        if not self.numbers:
            raise ModelNotFound(f"no model {uri.name!r} in the registry {address}", suggestion(uri.name))
        if uri.bare:
            raise ModelNotFound(f"models:/{uri.name} names no version", suggestion(uri.name))
        if uri.latest:
            return self.numbers[-1]
        number, what = self._named(uri)
        if number is None:
            told = f"no version {uri.version} of model {uri.name!r} in the registry {address}"
            if uri.version is None:
                told = f"model {uri.name!r} in the registry {address} has no {what}"
            raise ModelNotFound(told, suggestion(uri.name))
        return number

    def _named(self, uri: RegistryUri) -> tuple[int | None, str]:
        """(the version, or None if there is none; what was asked for)."""
        if uri.version is not None:
            return (uri.version if uri.version in self.numbers else None), f"version {uri.version}"
        if uri.alias is not None:
            return self.aliases.get(uri.alias), f"alias {uri.alias!r}"
        wanted = (uri.stage or "").lower()
        staged = (n for n in reversed(self.numbers) if self.staged.get(n, "None").lower() == wanted)
        return next(staged, None), f"stage {uri.stage!r}"


def suggest(name: str, models: list[str], held: Callable[[str], Held], empty: str) -> str:
    """What a registry holds, with the uri to type. empty: what to do where it holds nothing."""
    if not models:
        return f"The registry is empty. {empty}"
    if name in models:
        return f"It has {held(name).describe()}. Try: {held(name).uri(name)}"
    holds = "; ".join(f"{shown(model)} ({held(model).describe()})" for model in models[:_SHOWN])
    nearest = min(models[:_COMPARED], key=lambda model: _distance(model, name))
    return f"It holds {holds}{'; …' if len(models) > _SHOWN else ''}. Try: {held(nearest).uri(nearest)}"


def shown(name: str) -> str:
    """A name out of a registry as it may stand in a line on a terminal."""
    return name[:300] if name.isprintable() else ascii(name[:300])[1:-1]


def _distance(one: str, other: str) -> float:
    return -SequenceMatcher(None, one[:300].lower(), other[:300].lower()).ratio()
