"""The docs say what the code does."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_page_of_models_is_what_the_tables_say() -> None:
    """docs/models.md is generated: a flavour or a format that is added shows up there."""
    page = runpy.run_path(str(ROOT / "scripts" / "models_page.py"))["page"]
    assert page() == (ROOT / "docs" / "models.md").read_text(), "run: make docs"
