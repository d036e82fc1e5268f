"""The arguments are told in _load.c."""

from typing import Any

def run(*arguments: Any) -> tuple[int, int, int, int, int]: ...
