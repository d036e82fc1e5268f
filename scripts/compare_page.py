"""Writes docs/batch-or-real-time.md: trains a model, compares both ways on it, and asks for each scenario. Takes two
minutes on a quiet machine: python scripts/compare_page.py"""

import os
import re
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

from foretell.compare import scenarios
from foretell.compare.page import needs_told

PAGE = Path(__file__).parent.parent / "docs" / "batch-or-real-time.md"

TRAIN = """
import numpy as np, pandas as pd, skops.io
from sklearn.ensemble import GradientBoostingClassifier
random = np.random.default_rng(20)
customers = pd.DataFrame({
    "age": random.normal(44, 13, 20000).round(1),
    "months": random.integers(1, 120, 20000).astype(float),
    "charge": random.lognormal(4, 0.5, 20000).round(2),
    "calls": random.poisson(2, 20000).astype(float),
    "late_payments": random.poisson(0.4, 20000).astype(float),
})
risk = customers.calls * 0.6 + customers.late_payments - customers.months / 30 + random.normal(0, 1, 20000)
model = GradientBoostingClassifier(n_estimators=200, max_depth=4, random_state=1).fit(customers, (risk > 0).astype(int))
skops.io.dump(model, "churn.skops")
customers.insert(0, "customer", [f"C{at:05d}" for at in range(20000)])
customers.to_csv("customers.csv", index=False)
"""

SETUP = "foretell registry add churn churn.skops --stage Production"
MEASURE = "foretell models compare -m models:/churn/Production -i customers.csv --slo p99=20ms --json churn.json"

HEAD = """# Batch or real time?

Somebody has a trained model and asks whether to run it over files now and then, or to keep it behind a port. Rules of
thumb do not know the model, the rows, the machine or the needs. `foretell models compare` measures the first three in a
minute, asks for the fourth, and does the arithmetic. This page walks through five common needs on one model; every
output is the command's own (`python scripts/compare_page.py` writes this page).

The model says which customers may leave: scikit-learn's gradient boosting, 200 trees; `customers.csv` has 20,000 rows.
Both ways are measured once, with no needs yet, and kept as `churn.json`:

    $ {measure}
{measured}
The sentence and the map are the answer to "it depends on what?". Where the command knows what is needed it gives a
verdict; `--from churn.json` measures nothing again. `--scenario` gives needs to those who have no numbers yet; each of
its numbers is replaced by its option.

"""

TEXTS = {
    "overnight": (
        "## A large customer file, every night",
        "A company wants to see how its customers develop, and looks at it in the morning. The rows are all there in "
        "the evening, and nobody waits for any one of them.",
    ),
    "recommend": (
        "## An answer while a page loads",
        "A shop recommends to whoever opens it. Most visitors were there before, so their answers can be made ahead; "
        "somebody new cannot be known ahead. So there is a third way: precomputed answers, and a server for the rest.",
    ),
    "budget": (
        "## A lot of rows, little money",
        "The answers help for days, and what counts is what they cost. A job's machine is paid while it runs, a "
        "server's all day.",
    ),
    "fraud": (
        "## An answer inside a transaction",
        "A payment waits for the answer, and its row did not exist a second ago. No job can have predicted it.",
    ),
    "daily": (
        "## A forecast every day",
        "A forecast is made once a day from yesterday's figures. Nobody waits; a server would.",
    ),
}

TAIL = """## With your own numbers

    foretell models compare -m MODEL -i FILE --rows-per-day 2e6 --peak-rate 300 --max-age 1h -o report.html

| option | is |
|---|---|
| `--slo p99=20ms` | how fast 99 of 100 answers have to be; without it a bound is taken from what one row takes alone |
| `--rows-per-day 2e6` | predictions that are asked for |
| `--peak-rate 300` | how many a second at the busiest; the servers have to answer those |
| `--max-age 1h` | how old an answer may be, or how long a new row may wait for one |
| `--refresh 15min` | how often a job runs; without it as seldom as `--max-age` allows |
| `--known 90%` | how many of the requests are for rows that are there before |
| `--keys 1M` | that each job predicts the same keys again, whether anybody asks for them or not |
| `--price 0.05` | of a machine like this one, an hour; without it costs are machine time |
| `--job-overhead 90s` | what a machine takes to be there before a job can start on it |

How the file is written and what is asked of the model is said as `predict` takes it: `-t`, `--encoding`, `--delimiter`,
`--decimal`, `--null-values`, `--no-header`, `--columns`, `--proba`, `--params`. Jobs read the file so, requests hold
the same rows as JSON, with the same params, and ask for probabilities where the job does.

`-o report.html` is a page with everything that was measured, which needs no network and runs no code; `--json` keeps
every raw number and the seed. `--against older.json` says what changed between two versions of a model, or two
machines, and exits 1 where a figure is worse by more than `--max-regression` and by more than noise.

## What is measured

Both ways are the commands that you would run, as processes of their own: the job on your file, again and again until
it is long enough; one client that asks, is answered, and asks again; and requests that arrive at random (Poisson),
each from your rows, faster and faster until p99 breaks its bound. Latency counts from the moment at which a request
was *due*, so a server that stalls is not spared the requests that it kept from being sent. No quantile is told from
fewer requests than can tell it (459 for p99, at 99 % confidence), and p99 comes with a 95 % bootstrap interval. If
the load generator was the limit the report says "at least". At the end every row of the sample has gone both ways,
and the answers are compared to the bit.

## The arithmetic

- A **job** costs its start and its rows, as often as it runs: `runs a day × (start + rows / rows a second)`. Where
  one run would take longer than its refresh, or its answers would be too old, more machines share it.
- A **server** costs all day: `24 h × replicas`, with `replicas = peak / rate that keeps the SLO`, rounded up. What it
  waits is paid too.
- **Both**: jobs for the rows that are known ahead, servers for the rest.
- A job's answers are `refresh / 2 + run` old on average, and `refresh + run` at worst. A server's are new.
- The **break-even rate** is where both cost the same at your refresh, the **break-even refresh** where they do at
  your rate. Often there is no such rate: a machine that works through a file needs less time a row than one that is
  asked for each, so freshness decides, and not volume.
- The cheapest way that meets every need wins. The advice says at which value of each need another would win, and it
  is unsure where that happens within what was measured, from the slowest window to the fastest.
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        os.environ.update(FORETELL_CACHE=f"{folder}/cache", FORETELL_STATE=f"{folder}/state")
        subprocess.run([sys.executable, "-W", "ignore", "-c", TRAIN], check=True)
        subprocess.run(SETUP.split(), check=True, capture_output=True)
        page = (
            HEAD.format(measure=MEASURE, measured=output(MEASURE)) + "".join(map(section, scenarios.SCENARIOS)) + TAIL
        )
    PAGE.write_text(page)


def section(name: str) -> str:
    """A scenario's: who needs what, the command and what it prints."""
    head, text = TEXTS[name]
    command = f"foretell models compare --from churn.json --scenario {name}"
    needs = "; ".join(needs_told(scenarios.SCENARIOS[name].needs))
    is_ = _filled(f"`--scenario {name}` is: {needs}.")
    return f"{head}\n\n{_filled(text)}\n\n{is_}\n\n    $ {command}\n{output(command)}\n"


def _filled(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def output(command: str) -> str:
    """What a command prints, as a block of code."""
    ran = subprocess.run(command.split(), capture_output=True, text=True, check=False)
    if longer := re.search(r"Give it more: (--budget \w+)", ran.stderr):
        ran = subprocess.run([*command.split(), *longer[1].split()], capture_output=True, text=True, check=False)
    if ran.returncode:
        sys.exit(ran.stderr)
    return "".join(f"    {line.rstrip()}".rstrip() + "\n" for line in ran.stdout.splitlines())


if __name__ == "__main__":
    main()
