"""Batch or real time: the advice as a function of what was measured and what is needed."""

import random

import pytest

from foretell.compare.advice import NEITHER, UNDECIDED, advise
from foretell.compare.costs import (
    JOBS,
    SERVERS,
    Speeds,
    break_even_rate,
    break_even_refresh,
    capacity,
    jobs,
    latency,
    refresh_for,
    replicas,
)
from foretell.compare.frontier import batch_wins, youngest
from foretell.compare.measured import Measured
from foretell.compare.needs import Needs
from foretell.compare.scenarios import SCENARIOS
from foretell.compare.units import DAY
from foretell.compare.ways import BOTH
from made_measured import measured, with_offline, with_server

LIGHT = measured()
HEAVY = measured(start=4.0, rows_per_s=400.0, capacity=150.0, slo=0.05)
HOPELESS = measured(capacity=0.0)
FRAUD = SCENARIOS["fraud"].needs

VERDICTS = {
    "overnight": (LIGHT, SCENARIOS["overnight"].needs, JOBS),
    "recommend": (LIGHT, SCENARIOS["recommend"].needs, SERVERS),
    "recommend, a heavy model": (HEAVY, SCENARIOS["recommend"].needs, BOTH),
    "budget": (LIGHT, SCENARIOS["budget"].needs, JOBS),
    "fraud": (LIGHT, FRAUD, SERVERS),
    "daily": (LIGHT, SCENARIOS["daily"].needs, JOBS),
    "no server keeps the SLO": (HOPELESS, FRAUD, NEITHER),
    "no server, but old answers help": (HOPELESS, Needs(rows_per_day=1e6, max_age=DAY), JOBS),
    "younger than a start": (LIGHT, Needs(rows_per_day=1e6, max_age=1.5), SERVERS),
    "a refresh as short as a run": (LIGHT, Needs(rows_per_day=1e7, refresh=1.0001), SERVERS),
    "many keys, few of them asked for": (HEAVY, Needs(slo=0.05, rows_per_day=1e5, refresh=3600, keys=2e6), SERVERS),
    "as many keys, all asked for": (HEAVY, Needs(slo=0.05, rows_per_day=5e7, refresh=3600, keys=2e6), JOBS),
    "nothing said": (LIGHT, Needs(), UNDECIDED),
    "no freshness": (LIGHT, Needs(rows_per_day=1e6), UNDECIDED),
    "no volume": (LIGHT, Needs(max_age=DAY), UNDECIDED),
    "only a peak": (LIGHT, Needs(peak=300, max_age=DAY), JOBS),
}


@pytest.mark.parametrize(("found", "needs", "verdict"), VERDICTS.values(), ids=VERDICTS)
def test_the_cheapest_way_that_meets_every_need_wins(found: Measured, needs: Needs, verdict: str) -> None:
    """The verdict follows from the numbers; with too little said there is none."""
    assert verdict == advise(found, needs).verdict


@pytest.mark.parametrize(("found", "needs", "verdict"), VERDICTS.values(), ids=VERDICTS)
def test_every_advice_says_why_and_what_would_change_it(found: Measured, needs: Needs, verdict: str) -> None:
    """One sentence, two reasons with numbers where there is a verdict, and always what it hangs on."""
    advice = advise(found, needs)
    assert advice.sentence.endswith(".")
    assert advice.changes
    if verdict not in (UNDECIDED, NEITHER):
        assert 2 == len(advice.reasons)
        assert all(any(mark.isdigit() for mark in reason) for reason in advice.reasons)


def speeds_at_random(count: int) -> list[tuple[Speeds, float, float]]:
    """Machines, rates and refreshes of every magnitude."""
    dice = random.Random(8)
    return [
        (
            Speeds(10 ** dice.uniform(-1, 2), 10 ** dice.uniform(1, 6), 10 ** dice.uniform(0, 5)),
            10 ** dice.uniform(-3, 5),
            10 ** dice.uniform(0, 6),
        )
        for _ in range(count)
    ]


def test_more_rows_never_cost_less_and_rarer_jobs_never_more() -> None:
    """Costs grow with the rate and the peak, and shrink with the refresh, whose answers grow older."""
    for speeds, rate, refresh in speeds_at_random(500):
        made = [jobs(speeds, rate * times, refresh * longer) for times, longer in ((1, 1), (2, 1), (1, 2))]
        if made[0] and made[1] and made[2]:
            assert made[0].cost <= made[1].cost
            assert made[2].cost <= made[0].cost * (1 + 1e-9)
            assert made[0].mean_age < made[0].worst_age < made[2].worst_age
            assert made[0].seconds <= made[0].refresh * (1 + 1e-9)
        one, other = replicas(speeds, rate, rate), replicas(speeds, rate, rate * 3)
        assert one and other and one.cost <= other.cost and 0 <= one.idle < 1


def test_the_break_even_rate_is_where_the_costs_meet() -> None:
    """At the rate, both cost the same; below it one way is cheaper, above it the other."""
    met = 0
    for speeds, _, refresh in speeds_at_random(3000):
        found = break_even_rate(speeds, refresh)
        if found.rate is None:
            continue
        met += 1
        at, served = jobs(speeds, found.rate, refresh), replicas(speeds, found.rate, found.rate)
        under, over = jobs(speeds, found.rate * 0.99, refresh), jobs(speeds, found.rate * 1.01, refresh)
        assert at and served and under and over
        assert at.cost == pytest.approx(served.cost)
        assert (JOBS, SERVERS) == (found.below, found.above)
        assert under.cost < served.cost < over.cost
    assert met > 50


def test_where_lines_do_not_meet_one_way_is_cheaper_at_every_rate() -> None:
    """No break-even is claimed where there is none, and none is missed."""
    for speeds, _, refresh in speeds_at_random(300):
        found = break_even_rate(speeds, refresh)
        if found.rate is not None or found.below != JOBS:
            continue
        for power in range(-3, 7):
            made, served = jobs(speeds, 10.0**power, refresh), replicas(speeds, 10.0**power, 10.0**power)
            assert made and served and made.cost <= served.cost * (1 + 1e-9)


def test_the_break_even_refresh_is_where_the_costs_meet() -> None:
    """Jobs at that refresh cost what the servers do; of new rows and of keys."""
    for keys in (None, 1e5):
        met = 0
        for speeds, rate, _ in speeds_at_random(500):
            refresh = break_even_refresh(speeds, rate, rate, keys)
            served = replicas(speeds, rate, rate)
            if refresh is None or served is None or refresh < speeds.start * 1.01:
                continue
            met += 1
            at, shorter = jobs(speeds, rate, refresh, keys), jobs(speeds, rate, refresh * 0.999, keys)
            assert at and at.cost == pytest.approx(served.cost)
            assert shorter is None or shorter.cost > served.cost
        assert met > 100


def test_with_keys_servers_win_while_few_are_asked_for() -> None:
    """Jobs over keys cost the same at every rate, so the cheaper way below the break-even is the server."""
    speeds = Speeds(1.0, 400.0, 150.0)
    found = break_even_rate(speeds, 3600.0, keys=4e6)
    assert (SERVERS, JOBS) == (found.below, found.above)
    made = jobs(speeds, 1.0, 3600.0, 4e6)
    assert found.rate and made
    under, over = replicas(speeds, found.rate, found.rate), replicas(speeds, found.rate * 1.01, found.rate * 1.01)
    assert under and over and under.cost <= made.cost < over.cost


def test_a_refresh_chosen_for_an_age_keeps_it() -> None:
    """The longest refresh whose oldest answer is young enough."""
    kept = 0
    for speeds, rate, age in speeds_at_random(1000):
        refresh = refresh_for(speeds, rate, age)
        made = refresh and jobs(speeds, rate, refresh)
        if made:
            kept += 1
            assert made.worst_age <= age * (1 + 1e-6)
    assert kept > 300


def test_a_run_that_would_end_too_late_is_shared_by_more_machines() -> None:
    """A day's rows whose job takes 14 h, where answers may be 36 h old: two machines, for half as long."""
    way = advise(HEAVY, Needs(slo=0.05, rows_per_day=2e7, refresh=DAY, max_age=1.5 * DAY)).way(JOBS)
    assert way is not None
    assert way.run_s is not None
    assert (True, 2) == (way.feasible, way.machines)
    assert way.run_s < DAY / 2


def test_batch_wins_on_one_side_of_the_map_s_line() -> None:
    """Older answers allowed: batch; younger ones needed: not."""
    speeds = Speeds(1.0, 1e5, 1e3)
    for rate in (0.01, 1.0, 100.0, 1e4):
        age = youngest(speeds, rate)
        assert age is not None
        assert batch_wins(speeds, rate, age * 1.01)
        assert not batch_wins(speeds, rate, age * 0.99)


def test_another_slo_than_was_searched_for_is_read_off_the_curve() -> None:
    """Stricter: the fastest step that kept it. Looser: at least what was found. Unmeasured: nothing is promised."""
    assert 1000.0 == capacity(LIGHT, 0.02)
    assert 500.0 == capacity(LIGHT, 0.005)
    assert 0.0 == capacity(LIGHT, 0.001)
    assert capacity(LIGHT, 1.0) >= 1000.0


def test_p99_between_steps_lies_between_theirs() -> None:
    """At a step its own, between two an estimate within both their intervals, beyond the last none."""
    at, between = latency(LIGHT, 500.0), latency(LIGHT, 600.0)
    after = latency(LIGHT, 750.0)
    assert at and between and after
    assert at.measured and not between.measured
    assert at.p99 < between.p99 < after.p99
    assert between.low <= at.low <= after.high <= between.high
    assert latency(LIGHT, 5000.0) is None


def test_a_verdict_within_the_noise_is_said_to_be_unsure() -> None:
    """Costs a few per cent apart make it low; a trial that was not steady, or a weak generator, makes it medium."""
    close = Needs(slo=0.05, rows_per_day=1e5, refresh=3600, keys=1.36e6)
    assert "low" == advise(HEAVY, close).confidence.level
    sure = SCENARIOS["daily"].needs
    assert "high" == advise(LIGHT, sure).confidence.level
    unsteady = advise(with_offline(LIGHT, stable=False), sure).confidence
    assert ("medium", True) == (unsteady.level, "not steady" in unsteady.why[0])
    weak = advise(with_server(LIGHT, at_least=True), sure).confidence
    assert ("medium", True) == (weak.level, "generator" in weak.why[0])


def test_what_would_change_it_does_change_it() -> None:
    """Just beyond the value that is told, the verdict is the one that is told."""
    needs = Needs(slo=0.05, rows_per_day=1e5, refresh=3600.0, keys=2e6)
    advice = advise(HEAVY, needs)
    assert SERVERS == advice.verdict
    assert any(change.startswith("a refresh longer than 1.4 h: batch") for change in advice.changes), advice.changes
    assert JOBS == advise(HEAVY, Needs(slo=0.05, rows_per_day=1e5, refresh=1.45 * 3600, keys=2e6)).verdict
    assert SERVERS == advise(HEAVY, Needs(slo=0.05, rows_per_day=1e5, refresh=1.35 * 3600, keys=2e6)).verdict
