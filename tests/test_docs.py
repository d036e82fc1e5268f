"""The docs say what the code does."""

import runpy
from pathlib import Path

from foretell.compare.page import needs_told
from foretell.compare.scenarios import SCENARIOS

ROOT = Path(__file__).parent.parent


def test_the_page_of_models_is_what_the_tables_say() -> None:
    """docs/models.md is generated: a flavour or a format that is added shows up there."""
    page = runpy.run_path(str(ROOT / "scripts" / "models_page.py"))["page"]
    assert page() == (ROOT / "docs" / "models.md").read_text(), "run: make docs"


def test_the_guide_walks_through_every_scenario() -> None:
    """docs/batch-or-real-time.md has each scenario with its needs as they are now, and its command."""
    guide = runpy.run_path(str(ROOT / "scripts" / "compare_page.py"))
    page = (ROOT / "docs" / "batch-or-real-time.md").read_text()
    for name, scenario in SCENARIOS.items():
        head, text = guide["TEXTS"][name]
        is_ = f"`--scenario {name}` is: {'; '.join(needs_told(scenario.needs))}."
        for part in (
            head,
            " ".join(text.split()),
            is_,
            f"$ foretell models compare --from churn.json --scenario {name}",
        ):
            assert part in " ".join(page.split()), "run: make guide"
    assert guide["TAIL"] in page
