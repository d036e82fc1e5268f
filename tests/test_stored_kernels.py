"""Kernels on disk: what was written is read again, and a file that says anything else is refused; nothing runs."""

import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foretell.errors import ModelUnreadable
from foretell.kernels import stored
from foretell.kernels.categories import REFUSED
from foretell.kernels.columns import Branch, Branches, Chain
from foretell.kernels.encoding import OneHot
from foretell.kernels.imputing import Imputer
from foretell.kernels.kernel import Kernel
from foretell.kernels.linear import LinearClassifier
from foretell.kernels.scaling import Scaler


def kernel() -> Kernel:
    """Of every kind of field: text, numbers that are not finite, nothing, arrays, nodes in nodes."""
    filled = Imputer(np.nan, np.array([1.5, -0.0]), None, np.array([1]), floats=True, objects=False)
    words = Imputer(None, np.array(["", 3, True, np.nan], object), None, None, floats=False, objects=True)
    known = (np.array(["a", "\u00e9", "🎈", None, True, np.nan], object), np.array([-1.0, 0.0, np.inf]))
    encoded = OneHot(known, np.array([0, 1, 2, 3, 4, 5, REFUSED, -1, 6, 7, -1]), 8, sparse=True, dtype="float32")
    scaled = Scaler(minus=np.arange(3.0), over=np.ones(3))
    branches = (Branch((2, 0), Chain((filled, scaled)), 0.1), Branch(None, encoded, 2), Branch((1,), words))
    labels = np.array(["no", "yes"])
    head = LinearClassifier(np.asfortranarray(np.ones((1, 12))), np.zeros(1), labels, 8, "C", "sigmoid")
    return Kernel((Branches(branches, None),), head, frame=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A written kernel."""
    stored.write(kernel(), tmp_path)
    return tmp_path


def plain(value: Any) -> Any:
    """A kernel as values that can be compared."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, repr(value.tolist())
    if hasattr(value, "__dataclass_fields__"):
        return type(value).__name__, {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    return tuple(map(plain, value)) if isinstance(value, tuple) else repr(value)


def test_what_was_written_is_read(folder: Path) -> None:
    """Every field comes back, of the same type."""
    assert plain(kernel()) == plain(stored.read(folder))


def test_arrays_stay_mapped_and_cannot_be_written(folder: Path) -> None:
    """Workers share an array's pages."""
    head = stored.read(folder).head
    assert isinstance(head, LinearClassifier)
    with pytest.raises(ValueError, match="read-only"):
        head.coef[0, 0] = 1.0


def changed(tree: dict[str, Any], *path: Any, to: Any) -> None:
    at: Any = tree["kernel"]
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = to


def node(name: str, **fields: Any) -> dict[str, Any]:
    return {"node": name, "fields": fields}


_STEPS = ("fields", "steps")
_HEAD = ("fields", "head")
_ONE_HOT = (*_STEPS, 0, "fields", "branches", 1, "fields", "step", "fields")

TREES: dict[str, Callable[[dict[str, Any]], None]] = {
    "another format": lambda tree: tree.update(format=2),
    "no format": lambda tree: tree.pop("format"),
    "a format that is no number": lambda tree: tree.update(format=[]),
    "no kernel": lambda tree: tree.pop("kernel"),
    "a kernel that is a number": lambda tree: tree.update(kernel=1),
    "a kernel that is text": lambda tree: tree.update(kernel="Kernel"),
    "a kernel that is a step": lambda tree: tree.update(kernel=tree["kernel"]["fields"]["steps"][0]),
    "no count of arrays": lambda tree: tree.pop("arrays"),
    "a count that is text": lambda tree: tree.update(arrays="many"),
    "more arrays than there are": lambda tree: tree.update(arrays=10**9),
    "fewer arrays than there are": lambda tree: tree.update(arrays=1),
    "no array": lambda tree: tree.update(arrays=-1),
    "an unknown node": lambda tree: changed(tree, *_STEPS, 0, to=node("Popen", args="true")),
    "a node of Python's": lambda tree: changed(tree, *_STEPS, 0, to=node("os.system", command="true")),
    "a node whose name is no text": lambda tree: changed(tree, *_STEPS, 0, to={"node": ["Scaler"], "fields": {}}),
    "a node without fields": lambda tree: changed(tree, *_STEPS, 0, to={"node": "Scaler"}),
    "a node whose fields are a list": lambda tree: changed(tree, *_STEPS, 0, to={"node": "Scaler", "fields": []}),
    "a field too many": lambda tree: changed(tree, "fields", "more", to=1),
    "a field too few": lambda tree: changed(tree, *_HEAD, to=node("LinearClassifier", coef=None)),
    "a private field": lambda tree: changed(tree, *_HEAD, "fields", "__class__", to="x"),
    "a head among the steps": lambda tree: changed(tree, *_STEPS, to=[tree["kernel"]["fields"]["head"]]),
    "a step as the head": lambda tree: changed(tree, *_HEAD, to=tree["kernel"]["fields"]["steps"][0]),
    "no head": lambda tree: changed(tree, *_HEAD, to=None),
    "steps that are a node": lambda tree: changed(tree, *_STEPS, to=node("Chain", steps=[])),
    "a flag that is a number": lambda tree: changed(tree, "fields", "frame", to=1),
    "a number that is a flag": lambda tree: changed(tree, *_HEAD, "fields", "block", to=True),
    "a number that is text": lambda tree: changed(tree, *_HEAD, "fields", "block", to="8"),
    "a number that is a fraction": lambda tree: changed(tree, *_HEAD, "fields", "block", to=8.5),
    "an order that is none": lambda tree: changed(tree, *_HEAD, "fields", "order", to="K"),
    "an order that is an array": lambda tree: changed(tree, *_HEAD, "fields", "order", to={"array": 0}),
    "a dtype of objects": lambda tree: changed(tree, *_ONE_HOT, "dtype", to="object"),
    "a dtype of a gigabyte": lambda tree: changed(tree, *_ONE_HOT, "dtype", to="V1000000000"),
    "weights that are a list": lambda tree: changed(tree, *_HEAD, "fields", "coef", to=[1.0]),
    "weights that are nothing": lambda tree: changed(tree, *_HEAD, "fields", "coef", to=None),
    "an array that is not there": lambda tree: changed(tree, *_HEAD, "fields", "coef", to={"array": 99}),
    "an array from the end": lambda tree: changed(tree, *_HEAD, "fields", "coef", to={"array": -1}),
    "an array by a fraction": lambda tree: changed(tree, *_HEAD, "fields", "coef", to={"array": 0.5}),
    "an array by text": lambda tree: changed(tree, *_HEAD, "fields", "coef", to={"array": "0"}),
    "an array by a path": lambda tree: changed(tree, *_HEAD, "fields", "coef", to={"array": "../0.npy"}),
    "an array by a huge number": lambda tree: changed(tree, *_HEAD, "fields", "coef", to={"array": 2**62}),
    "objects that are a number": lambda tree: changed(tree, *_ONE_HOT, "known", 0, to={"objects": 1}),
    "a float that is text": lambda tree: changed(tree, *_ONE_HOT, "known", 0, to={"float": "x"}),
    "a float that is a list": lambda tree: changed(tree, *_ONE_HOT, "known", 0, to={"float": []}),
    "categories of no column": lambda tree: changed(tree, *_ONE_HOT, "known", to=[]),
    "categories of one column more": lambda tree: tree["kernel"]["fields"]["steps"][0]["fields"]["branches"][1][
        "fields"
    ]["step"]["fields"]["known"].append({"objects": ["x"]}),
    "deep": lambda tree: changed(tree, *_STEPS, 0, to=deep(100)),
    "objects, deep": lambda tree: changed(tree, *_ONE_HOT, "known", 0, to={"objects": json.loads("[" * 90 + "]" * 90)}),
}


def deep(levels: int) -> Any:
    inner: Any = node("Chain", steps=[])
    for _ in range(levels):
        inner = node("Chain", steps=[inner])
    return inner


@pytest.mark.parametrize("change", TREES.values(), ids=TREES)
def test_a_changed_structure_is_refused(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Whatever kernel.json says in place of what was written is an unreadable model, not another error."""
    path = folder / "kernel.json"
    tree = json.loads(path.read_text())
    change(tree)
    path.write_text(json.dumps(tree))
    with pytest.raises(ModelUnreadable):
        stored.read(folder)


TEXTS = {
    "nothing": b"",
    "no JSON": b"kernel",
    "half of it": b'{"format": 1, "arrays"',
    "a list": b"[1]",
    "no text": b"\xff\xfe\x00",
    "very deep": b'{"format": 1, "arrays": 0, "kernel": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "very deep nodes": b'{"format": 1, "arrays": 0, "kernel": '
    + b'{"node": "Chain", "fields": {"steps": [' * 900
    + b"]}}" * 900
    + b"}",
    "a number past all": b'{"format": 1, "arrays": 1e999, "kernel": {}}',
    "a whole number of thousands of digits": b'{"format": 1, "arrays": ' + b"9" * 5000 + b', "kernel": {}}',
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_what_is_no_structure_is_refused(folder: Path, text: bytes) -> None:
    """So is a kernel.json that cannot be read at all."""
    (folder / "kernel.json").write_bytes(text)
    with pytest.raises(ModelUnreadable):
        stored.read(folder)


class Bomb:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self._mark,)


def header(said: str, data: bytes = bytes(64)) -> bytes:
    """An array file of what its header says."""
    text = said.encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def of(descr: str = "'<f8'", shape: str = "(1,)") -> bytes:
    return header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}")


def _pickled(mark: Path) -> bytes:
    return pickle.dumps(Bomb(mark))


def _objects(mark: Path) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([Bomb(mark)], object), allow_pickle=True)
    return file.getvalue()


def _archive(mark: Path) -> bytes:
    file = io.BytesIO()
    np.savez(file, np.arange(3), allow_pickle=True, x=np.array([Bomb(mark)], object))
    return file.getvalue()


ARRAYS: dict[str, Callable[[Path], bytes]] = {
    "a pickle": _pickled,
    "an array of objects": _objects,
    "an archive": _archive,
    "nothing": lambda _: b"",
    "half a header": lambda _: of()[:40],
    "fewer numbers than it says": lambda _: of(shape="(1000,)"),
    "numbers past all memory": lambda _: of(shape="(4611686018427387904,)"),
    "numbers past all numbers": lambda _: of(shape="(1000000000000000000000000000000,)"),
    "less than no numbers": lambda _: of(shape="(-3, -2)"),
    "a flag as its length": lambda _: of(shape="(True,)"),
    "a call as its length": lambda _: of(shape="(__import__('os').getpid(),)"),
    "a list as its shape": lambda _: of(shape="[1]"),
    "dates": lambda _: of("'<M8[ns]'"),
    "bytes as they are": lambda _: of("'|V8'"),
    "complex numbers": lambda _: of("'<c16'", "(1,)"),
    "records": lambda _: of("[('x', '<f8')]"),
    "the other byte order": lambda _: of("'>f8'"),
    "a dtype of objects": lambda _: of("'|O'"),
    "a dtype that is none": lambda _: of("'nonsense'"),
    "keys that do not compare": lambda _: header("{'descr': '<f8', b'fortran_order': False, 'shape': (1,), }"),
    "brackets that stay open": lambda _: header("{'descr': ((((((((((((((((((("),
    "another version": lambda _: b"\x93NUMPY\x09\x00" + of()[8:],
    "an endless header": lambda _: header("{" + " " * 60_000 + "}"),
}


@pytest.mark.parametrize("made", ARRAYS.values(), ids=ARRAYS)
def test_a_changed_array_is_refused_and_nothing_runs(folder: Path, made: Callable[[Path], bytes]) -> None:
    """An array file holds raw numbers or text, or the model is unreadable."""
    mark = folder / "ran"
    (folder / "0.npy").write_bytes(made(mark))
    with pytest.raises(ModelUnreadable):
        stored.read(folder)
    assert not mark.exists()


def test_a_missing_array_is_refused(folder: Path) -> None:
    """Nothing is read in its place."""
    (folder / "1.npy").unlink()
    with pytest.raises(ModelUnreadable, match=r"1\.npy"):
        stored.read(folder)


def test_a_missing_kernel_is_refused(tmp_path: Path) -> None:
    """An empty folder holds none."""
    with pytest.raises(ModelUnreadable, match=r"kernel\.json"):
        stored.read(tmp_path)


@pytest.mark.parametrize(
    "value", [{1}, b"x", 1j, np.datetime64("2020"), lambda: 1], ids=lambda value: type(value).__name__
)
def test_only_plain_values_are_written(tmp_path: Path, value: Any) -> None:
    """What could not be read again is not written."""
    head = kernel().head
    with pytest.raises(TypeError, match="a kernel cannot hold"):
        stored.write(Kernel((Scaler(low=value),), head), tmp_path)
