"""The files of the server's pages, and what a page may do: run the script and the style that stand in it, ask this
server, and nothing else."""

import base64
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


@dataclass(frozen=True)
class Html:
    """A page, or a template of one, and its Content-Security-Policy."""

    text: str
    policy: bytes


@cache
def html(name: str) -> Html:
    """The page in a file of that name."""
    text = (files("foretell.serve") / f"{name}.html").read_text("utf-8")
    return Html(text, _policy(text))


def _policy(text: str) -> bytes:
    """By the hashes of what stands in it, so that nothing that a model brings ever runs, however it got there."""
    allowed = {"script": "", "style": ""}
    for kind, inner in _INLINE.findall(text):
        digest = base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()
        allowed[kind] += f" 'sha256-{digest}'"
    parts = [
        "default-src 'none'",
        f"style-src{allowed['style']}",
        f"script-src{allowed['script']}",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    return "; ".join(parts).encode()
