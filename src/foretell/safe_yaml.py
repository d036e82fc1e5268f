"""Small YAML files by the safe loader, with limits: the one place that knows a YAML library."""

import re
from pathlib import Path
from typing import Any

import msgspec

from foretell.errors import ModelUnreadable

_MAX_SIZE = 1 << 20
_MAX_ALIASES = 64
_MAX_DEPTH = 60


def read_yaml(path: Path) -> dict[str, Any]:
    """A small YAML mapping. Raises ModelUnreadable."""
    try:
        if path.stat().st_size > _MAX_SIZE:
            raise ModelUnreadable(f"{path} is over {_MAX_SIZE >> 20} MiB, which no description of a model is")
        text = path.read_text("utf-8")
    except OSError as error:
        raise ModelUnreadable(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ModelUnreadable(f"{path} cannot be read: {error}") from error
    if _depth(text) > _MAX_DEPTH:
        raise ModelUnreadable(f"{path} is nested more than {_MAX_DEPTH} deep")
    value = _json(text) or _yaml(text, path)
    if not isinstance(value, dict):
        raise ModelUnreadable(f"{path} is not a YAML mapping")
    return value


def _json(text: str) -> Any:
    """JSON is YAML too, and needs no library that is slow to import; None where it is no JSON."""
    try:
        return msgspec.json.decode(text) if text.startswith("{") else None
    except (msgspec.DecodeError, RecursionError):
        return None


def _yaml(text: str, path: Path) -> Any:
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _check_events(yaml, loader, text, path)
        return yaml.load(text, loader)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelUnreadable(f"{path} cannot be read: {reason}") from error


def _check_events(yaml: Any, loader: Any, text: str, path: Path) -> None:
    """What the loader would do with the text, before it does: it recurses, and copies what is merged once more at each
    merge."""
    depth = aliases = 0
    for event in yaml.parse(text, loader):
        aliases += isinstance(event, yaml.AliasEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if aliases > _MAX_ALIASES:
            raise ModelUnreadable(f"{path} has over {_MAX_ALIASES} YAML aliases")
        if depth > _MAX_DEPTH:
            raise ModelUnreadable(f"{path} is nested more than {_MAX_DEPTH} deep")
        if getattr(event, "value", "") == "<<" or "merge" in str(getattr(event, "tag", "")):
            raise ModelUnreadable(f"{path} merges YAML mappings (<<), which no description of a model does")


def _depth(text: str) -> int:
    """How deep brackets and dashes nest, at least: looked at first, as the parser's time grows with its square."""
    deepest = max((found.group().count("-") for found in re.finditer(r"^\s*(?:[-?] +)+", text, re.M)), default=0)
    depth = 0
    for mark in re.findall(r"[\[\]{}]", text):
        depth = depth + 1 if mark in "[{" else max(0, depth - 1)
        deepest = max(deepest, depth)
    return deepest
