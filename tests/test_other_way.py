"""A line of advice where one way is used for the other's job."""

import contextlib
import os
import pty
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from conftest import COMMAND, PATIENCE
from foretell.compare.other_way import Counted, Streak, by_handfuls
from foretell.ledger.entry import FINISHED, Begun
from foretell.ledger.ledger import Ledger


@dataclass(frozen=True)
class Used:
    rows: int
    seconds: float = 1.5


HANDFULS = {
    "five of one row": ([Used(1)] * 5, "5 jobs within an hour predicted 5 rows in 7.5 s: 1.5 s a row"),
    "six of ten": ([Used(10)] * 6, "6 jobs within an hour predicted 60 rows in 9 s: 150 ms a row"),
    "among larger ones": ([Used(3), Used(10**6), *[Used(3)] * 4], "5 jobs within an hour predicted 15 rows"),
    "four": ([Used(1)] * 4, None),
    "none": ([], None),
    "large ones": ([Used(1000)] * 9, None),
    "the last one large": ([Used(1000), *[Used(1)] * 5], None),
    "empty ones": ([Used(0)] * 9, None),
}


@pytest.mark.parametrize(("uses", "told"), HANDFULS.values(), ids=HANDFULS)
def test_jobs_by_handfuls_are_told_with_their_cost(uses: list[Used], told: str | None) -> None:
    """Five jobs of at most a hundred rows within an hour, the last one too; what a row of theirs took."""
    found = by_handfuls(uses)
    assert found == told if told is None else str(found).startswith(told)


def predicted_on_a_terminal() -> str:
    """What a prediction of three rows writes on stderr, which is a terminal."""
    above, below = pty.openpty()
    command = [*COMMAND, "models", "predict", "-m", "models:/my-model/Production", "-i", "few.csv", "-o", "out.csv"]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=below, timeout=PATIENCE, check=True)
    os.close(below)
    said = b""
    with contextlib.suppress(OSError):  # At its end a terminal without a process is an error.
        while got := os.read(above, 4096):
            said += got
    os.close(above)
    return said.decode()


def test_predict_speaks_up_on_a_terminal_once_a_day() -> None:
    """The fifth job of a handful within an hour tells what such jobs cost; the sixth does not tell again."""
    subprocess.run([*COMMAND, "demo"], capture_output=True, timeout=PATIENCE, check=True)
    Path("few.csv").write_text("".join(Path("batch_input.csv").read_text().splitlines(keepends=True)[:4]))
    assert "jobs within an hour" not in predicted_on_a_terminal()
    ledger = Ledger()
    (first,) = ledger.entries()
    for _ in range(3):
        begun = Begun("x", "/", (), (), "m", "m", first.begun.digest, "few.csv", "", time.time())
        ledger.end(ledger.begin(begun), FINISHED, rows=3, seconds=1.0)
    said = predicted_on_a_terminal()
    assert "note: 5 jobs within an hour predicted 15 rows in" in said
    assert (
        "foretell models serve -m models:/my-model/Production; what that saves, tells: foretell models compare" in said
    )
    assert "jobs within an hour" not in predicted_on_a_terminal()


START = Counted(at=100.0, requests=0, rows=4096, calls=1, alone=0, waited=0.0, computed=0.1, connections=1)


def second(at: int, **changed: float) -> Counted:
    """A server's counts after so many seconds of one client that sends 200 rows a second one by one."""
    sent = 200 * at
    counted = replace(
        START,
        at=START.at + at,
        requests=sent,
        rows=START.rows + sent,
        calls=START.calls + sent,
        alone=START.alone + sent,
        waited=0.004 * sent,
        computed=START.computed + 0.001 * sent,
    )
    return replace(counted, **changed)


def told_by(looks: list[Counted]) -> list[str]:
    streak = Streak()
    return [told for look in looks if (told := streak.look(look)) is not None]


def test_a_client_that_streams_a_file_is_told_once_it_has_lasted() -> None:
    """After 20 s, with the rows, the time a row, and how much of it was the model's."""
    assert [] == told_by([second(at) for at in range(20)])
    assert ["one client sent 4,000 rows one by one in 20 s: 5 ms a row, of which the model computed 20 %"] == told_by(
        [second(at) for at in range(21)]
    )


def test_a_request_under_way_at_a_look_is_no_matter() -> None:
    """It was given to the model and has no answer yet, or the client has just closed its connection."""
    looks = [second(at, rows=second(at).rows + at % 2, connections=(at + 1) % 2) for at in range(21)]
    assert 1 == len(told_by(looks))


OTHERS = {
    "two clients": [second(at, connections=2) for at in range(60)],
    "two rows a request": [second(at, rows=START.rows + 400 * at) for at in range(60)],
    "batches": [second(at, calls=START.calls + 50 * at) for at in range(60)],
    "several at a time": [second(at, waited=2.0 * at) for at in range(60)],
    "seldom": [replace(second(at), at=START.at + 60 * at) for at in range(60)],
    "nobody": [replace(START, at=START.at + at) for at in range(60)],
    "with pauses": [replace(second(at // 10 * 10), at=START.at + at) for at in range(60)],
    "a new version each 10 s": [replace(second(at % 10), at=START.at + at) for at in range(60)],
}


@pytest.mark.parametrize("looks", OTHERS.values(), ids=OTHERS)
def test_whoever_asks_otherwise_is_left_alone(looks: list[Counted]) -> None:
    """Several clients, several rows, people who ask now and then: nothing is said."""
    assert [] == told_by(looks)
