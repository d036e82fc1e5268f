"""Writes docs/models.md from the tables that the code itself works by: python scripts/models_page.py."""

from pathlib import Path

from foretell.models.load import FLAVOURS, Known
from foretell.tables.compression import SUFFIXES as PACKED
from foretell.tables.formats import SPELLINGS, Format

PAGE = Path(__file__).parent.parent / "docs" / "models.md"

HEAD = """# Models and formats

What foretell reads, as the code's own tables say (`make docs` writes this page).

## Flavours

A model is a folder in MLflow's format, written by mlflow 2 or 3, or a bare file, told by its ending. Where a folder has
several flavours, the first of this table is used. What runs code when it loads needs [trust](trust.md).

| flavour | install | bare files | loads freely | needs trust |
|---|---|---|---|---|
"""

FORMATS_HEAD = """
## Formats

Inputs and outputs, as files, on stdin and stdout, and as bodies and answers over HTTP.

| format | endings | packed | content types |
|---|---|---|---|
"""


def page() -> str:
    """The page's text."""
    flavours = "".join(_flavour(name, known) for name, known in FLAVOURS.items())
    return HEAD + flavours + FORMATS_HEAD + "".join(map(_format, SPELLINGS))


def _flavour(name: str, known: Known) -> str:
    install = f"`foretell[{known.extra}]`" if known.extra else "`foretell`"
    cells = (f"`{name}`", install, _codes(known.suffixes) or "–", known.free or "–", known.trusted or "–")
    return f"| {' | '.join(cells)} |\n"


def _format(fmt: Format) -> str:
    packed = _codes(tuple(PACKED)) if fmt.text else "inside"
    return f"| `{fmt.name}` | {_codes(fmt.suffixes)} | {packed} | {_codes(fmt.content_types)} |\n"


def _codes(words: tuple[str, ...]) -> str:
    return " ".join(f"`{word}`" for word in words)


if __name__ == "__main__":
    PAGE.write_text(page())
