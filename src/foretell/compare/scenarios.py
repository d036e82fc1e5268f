"""Needs for people who have no numbers yet: five common jobs, each with its latency, rate, volume and freshness. They
are a start; every number is shown, and an option replaces it."""

from dataclasses import dataclass

from foretell.compare.needs import Needs
from foretell.compare.units import DAY, HOUR


@dataclass(frozen=True)
class Scenario:
    """line: who waits for what, in a few words."""

    line: str
    needs: Needs


SCENARIOS = {
    "overnight": Scenario(
        "a large file of customers every night, to see trends",
        Needs(slo=1.0, rows_per_day=5e6, refresh=DAY, max_age=36 * HOUR, known=1.0),
    ),
    "recommend": Scenario(
        "an answer while a page loads, most visitors known before",
        Needs(slo=0.05, rows_per_day=5e6, peak=200.0, refresh=HOUR, max_age=2 * HOUR, known=0.9, keys=1e6),
    ),
    "budget": Scenario(
        "a lot of rows on little hardware, whenever it is cheapest",
        Needs(slo=1.0, rows_per_day=2e7, refresh=DAY, max_age=3 * DAY, known=1.0),
    ),
    "fraud": Scenario(
        "an answer inside a transaction, whose row is new",
        Needs(slo=0.02, rows_per_day=2e6, peak=300.0, max_age=1.0, known=0.0),
    ),
    "daily": Scenario(
        "regular forecasts, for which nobody waits",
        Needs(slo=1.0, rows_per_day=1e5, refresh=DAY, max_age=36 * HOUR, known=1.0),
    ),
}
"""By name, as --scenario takes them."""
