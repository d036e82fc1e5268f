"""What a server tells of its versions, at /version, and how they are changed: POST /admin/reload, /admin/rollback."""

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import msgspec

from foretell import __version__
from foretell.serve.door import Door
from foretell.serve.figures import Series
from foretell.serve.follower import RELOAD, ROLLBACK, Asked

VERBS = {"/admin/reload": RELOAD, "/admin/rollback": ROLLBACK}
"""By path, what is done."""


class Administration:
    """ask: has done what somebody wants, on another thread or by another process."""

    def __init__(self, door: Door, ask: Callable[[Asked], None]) -> None:
        self._door = door
        self._ask = ask

    async def do(self, path: str, query: bytes) -> tuple[int, bytes]:
        """(status, body) when it is done. query: may name a model; without it a reload is of all, a rollback of the
        one that stands for the server."""
        names = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("model", [])
        unknown = [name for name in names if name not in self._door.names]
        if unknown or len(names) > 1:
            served = ", ".join(self._door.names)
            return 404, _body({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": f"?model= is one of {served}"})
        verb = VERBS[path]
        name = names[0] if names else "" if verb == RELOAD else self._door.names[0]
        loop = asyncio.get_running_loop()
        done: asyncio.Future[tuple[bool, dict[str, Any]]] = loop.create_future()

        def settle(good: bool, told: dict[str, Any]) -> None:
            if not done.done():
                done.set_result((good, told))

        def reply(good: bool, told: dict[str, Any]) -> None:
            loop.call_soon_threadsafe(settle, good, told)

        self._ask(Asked(verb, name, reply))
        good, told = await done
        if good:
            return 200, _body({"models": told})
        problems = "; ".join(f"{name}: {one['problem']}" for name, one in told.items() if one["outcome"] == "failed")
        return 409, _body({"error_code": "INVALID_STATE", "message": problems, "models": told})

    def version(self, series: Series, accept: bytes) -> tuple[bytes, str]:
        """(body, content type): foretell's own version, and how each model stands. series: all workers' counts."""
        models = {}
        for name in self._door.names:
            ready = {
                labels[1]: int(count)
                for (metric, labels), count in series.items()
                if metric == "foretell_model_ready" and labels[0] == name and count
            }
            models[name] = {**self._door.told.get(name, {}), "workers": ready}
            if shadowed := _shadowed(name, series):
                models[name]["shadow"] = shadowed
        if b"application/json" in accept:
            return _body({"foretell": __version__, "models": models}), "application/json"
        lines = [__version__, *(_line(name, told) for name, told in models.items())]
        return ("\n".join(lines) + "\n").encode(), "text/plain; charset=utf-8"


def _line(name: str, told: dict[str, Any]) -> str:
    versions = [f"{version} in {count} workers" if count > 1 else version for version, count in told["workers"].items()]
    newer = f"; version {told['newer']} is there" if told.get("newer") else ""
    return f"{name}: {', '.join(versions) or 'none'}{newer}"


def _shadowed(name: str, series: Series) -> dict[str, Any]:
    """How a shadow's answers were, in rows, and how far its numbers were off at most."""
    rows = {
        labels[1]: int(count)
        for (metric, labels), count in series.items()
        if metric == "foretell_shadow_rows" and labels[0] == name
    }
    largest = series.get(("foretell_shadow_largest_difference", (name,)))
    return rows if largest is None else {**rows, "largest_difference": largest}


def _body(value: dict[str, Any]) -> bytes:
    return msgspec.json.encode(value)
