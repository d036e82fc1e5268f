"""How fast a batch prediction is, beside others and beside its floors, all in one run: python benchmarks/batch.py

Makes its own files and models. iris: a linear classifier on 4 columns; xgb: 500 trees of depth 6 on 30. Others are
`mlflow models predict`, a pandas and a polars script (with the library's own predict on all rows), and Ray Data and
Spark, where --install has put them into environments of their own. What runs longer than --limit is ended.

Two floors: a job whose model does nothing (wall and CPU), and what cutting, parsing, predicting and writing take of one
processor, over the number of processors, after the start, which is no work for two. It is measured by as many bare
loops at once as there are processors: they share memory and caches, as the job's threads do. At the end it is said
whether the answers are equal. --floors: without the others.

--rows 1 means 10 million rows for iris and 1 million for xgb. --memory: only foretell's peak, from 1 to 100 million
rows. --bad: only what foretell pays for bad rows.
"""

import argparse
import contextlib
import ctypes
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import batch_scripts as scripts
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv

FULL = {"iris": (10_000_000, 4), "xgb": (1_000_000, 30)}
IRIS = ("sepal_length", "sepal_width", "petal_length", "petal_width")
PEERS = {"ray": ["ray[data]==2.60.0"], "pyspark": ["pyspark==4.3.0"]}
SHARED = ("mlflow", "scikit-learn", "xgboost-cpu", "skops", "pandas", "numpy")
_SUBREAPER, _LATE = 36, 124


@dataclass(frozen=True)
class Took:
    """One run. seconds: by the wall, start included; cpu: of all its processes; peak: MiB of all at once."""

    seconds: float
    cpu: float
    peak: float


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--rows", type=float, default=1.0, help="share of the full number of rows")
    given.add_argument("--repeat", type=int, default=1, help="rounds of all; the median counts")
    given.add_argument("--only", choices=list(FULL), help="one of the two")
    given.add_argument("--limit", type=float, default=600.0, help="seconds that anything may take")
    given.add_argument("--folder", type=Path, help="where files and environments go, and stay")
    given.add_argument("--install", action="store_true", help="install Ray and Spark into the folder")
    given.add_argument("--floors", action="store_true", help="only foretell and its floors")
    given.add_argument("--memory", action="store_true", help="only foretell's peak, as rows grow a hundredfold")
    given.add_argument("--bad", action="store_true", help="only foretell, with bad rows and with none")
    told = given.parse_args()
    folder = told.folder or Path(tempfile.mkdtemp(prefix="batch-"))
    folder.mkdir(parents=True, exist_ok=True)
    # Whatever a run leaves behind becomes a child of this process, and is counted and ended with it.
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    try:
        if told.install:
            install(folder)
        if told.memory or told.bad:
            (memory if told.memory else bad)(folder, told)
            return
        for kind in [told.only] if told.only else FULL:
            compare(kind, folder, told)
    finally:
        if told.folder is None:
            shutil.rmtree(folder)


def compare(kind: str, folder: Path, told: argparse.Namespace) -> None:
    rows, columns = int(FULL[kind][0] * told.rows), FULL[kind][1]
    source, model = folder / f"{kind}-{rows}.csv", made(kind, columns, folder)
    if not source.exists():
        write(source, rows, names_of(kind, columns), digits=1 if kind == "iris" else 16)
    cores = len(os.sched_getaffinity(0))
    print(f"\n{kind}: {rows:,} rows × {columns}, {source.stat().st_size / 1e6:,.0f} MB, {cores} cores", flush=True)
    warm(model, source, folder)
    given = (model, source, kind)
    runs = {
        "foretell": predicting(model, source, folder / "foretell.csv"),
        "floor: no model": script(scripts.FLOOR, *given, folder / "floor.csv"),
        "mlflow models predict": mlflow(model, source, folder / "mlflow.csv"),
        "pandas script": script(scripts.PANDAS, *given, folder / "pandas.csv"),
        "polars script": script(scripts.POLARS, *given, folder / "polars.csv"),
    }
    for name, library, text in (("Ray Data", "ray", scripts.RAY), ("Spark", "pyspark", scripts.SPARK)):
        if (there := environment(library, folder)) is None:
            print(f"{name} is not installed here, and left out (--install)")
        else:
            runs[name] = script(text, *given, folder / library, python=there)
    if told.floors:
        runs = {name: runs[name] for name in ("foretell", "floor: no model")}
    took: dict[str, list[Took]] = {}
    stages: list[list[float]] = []
    for _ in range(told.repeat):
        for name, command in [*runs.items()]:
            if (one := measured(command, told.limit)) is None:
                print(f"{name} failed, or was ended after {told.limit:.0f} s")
                del runs[name]
            else:
                took.setdefault(name, []).append(one)
        stages += bare(given, folder, cores)
    each = [statistics.median(stage) for stage in zip(*stages, strict=True)]
    show(rows, cores, {name: median(took[name]) for name in runs}, each)
    print(f"answers equal: {agree(folder, rows, runs)}")


def bare(given: tuple[object, ...], folder: Path, cores: int) -> list[list[float]]:
    """CPU seconds of the start and of each stage, by as many loops as there are processors."""
    loops = [script(scripts.STAGES, *given, folder / f"stages-{at}.csv") for at in range(cores)]
    with ThreadPoolExecutor(cores) as pool:
        return [[*map(float, told.split())] for told in pool.map(said, loops)]


def show(rows: int, cores: int, took: dict[str, Took], stages: list[float]) -> None:
    start, *work = stages
    ours, no_model, busy = took["foretell"], took["floor: no model"], start + sum(work) / cores
    floor = max(no_model.seconds, busy)
    print(f"{'':<23}{'wall s':>8}{'CPU s':>8}{'peak MB':>9}{'rows/s':>12}{'× floor':>9}{'× wall':>8}{'× CPU':>8}")
    for name, one in took.items():
        beside = f"{one.seconds / ours.seconds:>8.2f}{one.cpu / ours.cpu:>8.2f}"
        figures = f"{one.seconds:>8.2f}{one.cpu:>8.2f}{one.peak:>9.0f}{rows / one.seconds:>12,.0f}"
        print(f"{name:<23}{figures}{one.seconds / floor:>9.2f}{beside}")
    told = zip(("start", "cut", "parse", "predict", "write"), stages, strict=True)
    print(f"CPU s by stage: {', '.join(f'{stage} {each:.2f}' for stage, each in told)}; shared out {busy:.2f}")
    print(f"foretell ÷ the larger floor: {ours.seconds / floor:.2f} by the wall; ", end="")
    print(f"CPU: {ours.cpu / no_model.cpu:.2f} × no model's, {ours.cpu / sum(stages):.2f} × the stages'")


def memory(folder: Path, told: argparse.Namespace) -> None:
    """The same rows again and again: nothing may be kept of them."""
    model, part, source = made("iris", 4, folder), folder / "part.csv", folder / "long.csv"
    write(part, 1_000_000, list(IRIS), digits=1)
    warm(model, part, folder)
    header, rows = part.read_bytes().split(b"\n", 1)
    for millions in (0, 1, 10, 100):
        with source.open("wb") as file:
            file.write(header + b"\n")
            file.writelines([rows[:1000].rpartition(b"\n")[0] + b"\n"] if not millions else [rows] * millions)
        one = measured(predicting(model, source, folder / "long-out.csv"), told.limit)
        assert one is not None
        print(f"{millions:>4} million rows: {one.peak:>5.0f} MiB, {one.seconds:.1f} s, {one.cpu:.1f} CPU s", flush=True)
    source.unlink()


def bad(folder: Path, told: argparse.Namespace) -> None:
    """What --on-error reject costs, without a bad row and with one in 10,000, beside a job that would stop at one."""
    rows = int(FULL["iris"][0] * told.rows)
    model, source, spoiled = made("iris", 4, folder), folder / f"iris-{rows}.csv", folder / "spoiled.csv"
    if not source.exists():
        write(source, rows, list(IRIS), digits=1)
    warm(model, source, folder)
    with source.open("rb") as clean, spoiled.open("wb") as file:
        file.writelines(line if at % 10_000 != 5_000 else b"tall,1,1,1\n" for at, line in enumerate(clean))
    reject = ["--on-error", "reject"]
    runs = {
        "stop, clean": predicting(model, source, folder / "bad-out.csv"),
        "reject, clean": predicting(model, source, folder / "bad-out.csv") + reject,
        "reject, 0.01 % bad": predicting(model, spoiled, folder / "bad-out.csv") + reject,
    }
    took: dict[str, list[Took]] = {name: [] for name in runs}
    for _ in range(told.repeat):
        for name, command in runs.items():
            one = measured(command, told.limit)
            assert one is not None
            took[name].append(one)
    usual = median(took["stop, clean"])
    for name, all_runs in took.items():
        one = median(all_runs)
        beside = f"{one.seconds / usual.seconds:.2f} × wall, {one.cpu / usual.cpu:.2f} × CPU"
        print(f"{name:<20} {one.seconds:>6.2f} s, {one.cpu:>6.2f} CPU s, {one.peak:>4.0f} MiB: {beside}", flush=True)
    spoiled.unlink()


def names_of(kind: str, columns: int) -> list[str]:
    return list(IRIS) if kind == "iris" else [f"f{at}" for at in range(columns)]


def made(kind: str, columns: int, folder: Path) -> Path:
    model = folder / kind
    if not model.exists():
        said(script(scripts.MAKE, model, kind, *names_of(kind, columns)))
    return model


def write(path: Path, rows: int, names: list[str], digits: int) -> None:
    numbers = np.random.default_rng(0)
    schema = pa.schema([(name, pa.float64()) for name in names])
    with arrow_csv.CSVWriter(path, schema, write_options=arrow_csv.WriteOptions(quoting_style="none")) as writer:
        for start in range(0, rows, 500_000):
            count = min(500_000, rows - start)
            writer.write_table(pa.table({name: numbers.uniform(0.1, 7.9, count).round(digits) for name in names}))


def warm(model: Path, source: Path, folder: Path) -> None:
    """Once in a model's life its engine is compiled, and checked on real rows: before the clock runs."""
    few = folder / "few.csv"
    with source.open("rb") as file:
        few.write_bytes(b"".join(file.readline() for _ in range(5000)))
    said([sys.executable, "-m", "foretell", "models", "compile", "--trust", "-m", str(model)])
    said(predicting(model, few, folder / "few-out.csv"))


def predicting(model: Path, source: Path, target: Path) -> list[str]:
    command = ["models", "predict", "--trust", "-m", model, "-i", source, "-o", target]
    return [sys.executable, "-m", "foretell", *map(str, command)]


def mlflow(model: Path, source: Path, target: Path) -> list[str]:
    command = ["models", "predict", "-m", model, "-i", source, "-o", target, "-t", "csv", "--env-manager", "local"]
    return [sys.executable, "-W", "ignore", "-m", "mlflow", *map(str, command)]


def script(text: str, model: Path, source: object, kind: str, *more: object, python: str = sys.executable) -> list[str]:
    """A script's arguments are model, source, target and kind; of the one that makes a model, what it is told."""
    arguments = (model, source, more[0], kind) if more and text is not scripts.MAKE else (model, source, kind, *more)
    return [python, "-W", "ignore", "-c", text, *map(str, arguments)]


def install(folder: Path) -> None:
    """Each peer in an environment of its own, with the versions of all that computes here."""
    shared = [f"{name}=={version(name)}" for name in SHARED]
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    for library, pinned in PEERS.items():
        if environment(library, folder) is None:
            subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(folder / f"{library}-venv")], check=True)
            there = str(folder / f"{library}-venv/bin/python")
            command = [uv, "pip", "install", "-q", "--compile-bytecode", "--python", there, *pinned, *shared]
            subprocess.run(command, check=True)


def environment(library: str, folder: Path) -> str | None:
    """The Python of a peer, if it is installed."""
    there = folder / f"{library}-venv/bin/python"
    command = [str(there), "-c", f"import {library}"]
    works = there.exists() and not subprocess.run(command, capture_output=True, check=False).returncode
    return str(there) if works else None


def said(command: list[str]) -> str:
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        sys.exit(f"{' '.join(command)[:300]}\n{ran.stderr[-2000:]}")
    return ran.stdout


def measured(command: list[str], limit: float) -> Took | None:
    """Runs a command and all that it starts; None where it fails, or is ended at the limit."""
    before, started = spent(), time.perf_counter()
    with tempfile.TemporaryFile() as err:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=err, start_new_session=True)
        peak, done = [0.0], threading.Event()
        watching = threading.Thread(target=watch, args=(peak, done))
        watching.start()
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            status = _LATE
        took = time.perf_counter() - started
        done.set()
        watching.join()
        end_all()
        if status:
            err.seek(0)
            print(f"exit {status}: {err.read().decode().strip()[-500:]}")
    return None if status else Took(took, spent() - before, peak[0])


def spent() -> float:
    """Seconds that processors worked for children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def watch(peak: list[float], done: threading.Event) -> None:
    while not done.wait(0.02):
        peak[0] = max(peak[0], sum(resident(pid) for pid in below(os.getpid())))


def below(pid: int) -> list[int]:
    children: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            children += map(int, (task / "children").read_text().split())
    return [one for child in children for one in (child, *below(child))]


def resident(pid: int) -> float:
    """MiB of a process that no other shares, and its part of what is shared."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("Pss:")).split()[1]) / 1024
    return 0.0


def end_all() -> None:
    """Ends what a run has left, which is nothing but children of this process by now."""
    while left := below(os.getpid()):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, 0):
                pass


def median(runs: list[Took]) -> Took:
    return Took(*(statistics.median(getattr(run, name) for run in runs) for name in ("seconds", "cpu", "peak")))


def agree(folder: Path, rows: int, runs: dict[str, list[str]]) -> bool:
    """Whether foretell's predictions are the others', to float32."""
    ours = column(folder / "foretell.csv")
    others = [column(folder / f"{name}.csv") for name in ("pandas", "polars") if f"{name} script" in runs]
    if "mlflow models predict" in runs:
        document = msgspec.json.decode((folder / "mlflow.csv").read_bytes())["predictions"]
        others.append(np.array([next(iter(one.values())) if isinstance(one, dict) else one for one in document]))
    return len(ours) == rows and all(np.allclose(ours, other, rtol=1e-6) for other in others)


def column(path: Path) -> np.ndarray:
    return np.asarray(arrow_csv.read_csv(path)["prediction"], "float64")


if __name__ == "__main__":
    main()
