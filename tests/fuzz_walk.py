"""Bends tables of trees at random, under AddressSanitizer and UndefinedBehaviorSanitizer: a table is refused, or rows
walk in it without leaving it. Usage: python fuzz_walk.py TABLES [SEED]

Builds trees/_walk.c anew with the sanitizers, and starts itself again with them loaded.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

SOURCE = Path(__file__).parent.parent / "src" / "foretell" / "trees" / "_walk.c"
FLAGS = ["-O1", "-g", "-shared", "-fPIC", "-ffp-contract=off", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all"]
EDGES = (0, 1, 2, 5, -1, 1 << 24, (1 << 24) - 1, 1 << 29, 1 << 30, (1 << 31) - 1, -(1 << 31), 0x7F800000, 0x7FC00000)


def build(folder: Path) -> Path:
    """The extension with the sanitizers in it."""
    made = folder / "_walk.so"
    include = f"-I{sysconfig.get_path('include')}"
    subprocess.run(["gcc", *FLAGS, "-fsanitize=address,undefined", include, str(SOURCE), "-o", str(made)], check=True)
    return made


def possible() -> bool:
    """Whether there is a compiler, with its sanitizers."""
    return shutil.which("gcc") is not None and all(Path(library).is_file() for library in _libraries())


def _libraries() -> list[str]:
    return [
        subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]


def run(tables: int, seed: int) -> subprocess.CompletedProcess[str]:
    """This program with the sanitizers loaded before Python."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "LD_PRELOAD": ":".join(_libraries()),
            "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1:allocator_may_return_null=1",
            "UBSAN_OPTIONS": "print_stacktrace=1",
            "PYTHONMALLOC": "malloc",  # so that each array has its own redzone
        }
        command = [sys.executable, __file__, "--within", str(build(Path(folder))), str(tables), str(seed)]
        return subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=False)


def load(path: str) -> None:
    """The sanitized extension in the place of the installed one."""
    spec = importlib.util.spec_from_file_location("foretell.trees._walk", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    import foretell.trees

    sys.modules["foretell.trees._walk"] = foretell.trees._walk = module  # type: ignore[attr-defined]


def bent(numbers: np.random.Generator, array: np.ndarray) -> np.ndarray:
    """An array with some of its words at the edges or at random, or cut."""
    changed = array.copy()
    if not changed.size:
        return changed
    if numbers.random() < 0.1:
        return changed[: numbers.integers(0, len(changed) + 1)]
    words = changed.view("int32").reshape(-1)
    for at in numbers.integers(0, words.size, numbers.integers(1, 4)):
        near = words[at].astype("int64") + numbers.integers(-2, 3)
        words[at] = numbers.choice(
            [*EDGES, numbers.integers(-(1 << 31), 1 << 31), np.clip(near, -(1 << 31), 2**31 - 1)]
        )
    return changed


def fuzz(tables: int, seed: int) -> None:
    from foretell.trees.forest import planted
    from test_forest import COLUMNS, numeric, rows_of, special, wide

    numbers = np.random.default_rng(seed)
    rows = rows_of(numbers, 67)
    kinds: list[tuple[Any, Any]] = [("float32", "float32"), ("float32", "float64"), ("float64", "float64")]
    forests = [
        planted(make(numbers), COLUMNS, start=[0.0] * 3, number=number, sums=sums)
        for make in (numeric, wide, special)
        for number, sums in kinds
    ]
    counted = {"refused": 0, "walked": 0}
    for _ in range(tables):
        forest = forests[numbers.integers(len(forests))]
        name = str(numbers.choice(["nodes", "nodes", "nodes", "trees", "slots", "bits", "leaves", "columns"]))
        to = int(numbers.choice([0, 1, 4, 6, 1 << 25])) if name == "columns" else bent(numbers, getattr(forest, name))
        try:
            table = replace(forest, **{name: to})
        except ValueError:
            counted["refused"] += 1
            continue
        for count in (1, 7, 67):
            table.sums(np.resize(rows, (count, table.columns)))
        counted["walked"] += 1
    print(counted)
    assert min(counted.values()) > tables // 10, "the fuzzer bends too much, or too little"


if __name__ == "__main__":
    if sys.argv[1] == "--within":
        load(sys.argv[2])
        fuzz(int(sys.argv[3]), int(sys.argv[4]))
    else:
        ran = run(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
        sys.exit(f"{ran.stdout}{ran.stderr}" if ran.returncode else print(ran.stdout, end=""))
