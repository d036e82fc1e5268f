"""What comes from outside is hostile: a test for each class of fault that MLflow's own advisories have published.

Deserialisation (CVE-2024-37052 to -37060) and what a description may name: tests/test_trust.py.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from onnx import TensorProto, helper

import foretell as library
from conftest import foretell
from foretell.errors import ModelUnreadable

SECRET = np.array([1, 2, 3, 4], "float32").tobytes()


@dataclass(frozen=True)
class Weights:
    """Where an ONNX model says that its weights lie. place: puts them there. loads: whether that is inside."""

    location: str
    place: Callable[[Path, Path], object]
    offset: str = "0"
    length: str = str(len(SECRET))
    loads: bool = False


def _inside(folder: Path, secret: Path) -> None:
    (folder / "w.bin").write_bytes(SECRET)


WEIGHTS = {
    "inside": Weights("w.bin", _inside, loads=True),
    "above": Weights("../secret.bin", lambda folder, secret: None),
    "above, by way of a folder": Weights("sub/../../secret.bin", lambda folder, secret: (folder / "sub").mkdir()),
    "absolute": Weights("/proc/self/environ", lambda folder, secret: None),
    "a device": Weights("/dev/zero", lambda folder, secret: None),
    "a symbolic link": Weights("w.bin", lambda folder, secret: (folder / "w.bin").symlink_to(secret)),
    "a hard link to another's file": Weights("w.bin", lambda folder, secret: os.link(secret, folder / "w.bin")),
    "before the file": Weights("w.bin", _inside, offset="-16"),
    "past the file": Weights("w.bin", _inside, length="99999999"),
    "an address in memory": Weights("*/_ORT_MEM_ADDR_/*", lambda folder, secret: None, offset="140000000"),
}


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
def test_onnx_weights_are_read_from_the_models_folder_only(weights: Weights, tmp_path: Path) -> None:
    """External data stays inside: no way up, no link, no device, no address. (Path traversal read, CVE-2023-1177.)"""
    secret = tmp_path / "secret.bin"
    secret.write_bytes(SECRET)
    os.chown(secret, 12345, 12345)
    folder = _onnx(tmp_path / "model", weights)
    weights.place(folder, secret)
    if weights.loads:
        assert [[1.0], [4.0]] == library.load(str(folder)).predict([[1, 0, 0, 0], [0, 0, 0, 1]])[:, None].tolist()
        return
    with pytest.raises(ModelUnreadable):
        library.load(str(folder))


@pytest.mark.parametrize(
    "name", ["nul", "COM1.txt", "aux.onnx", "a\\b", "c:\\m.onnx", "~/m.onnx", "\x1b[2J", "a\u202eb", "x" * 251]
)
def test_a_name_that_means_something_else_on_some_system_is_refused(name: str, tmp_path: Path) -> None:
    """Devices, drives, homes, backslashes (CVE-2023-2780) and what a terminal would act on."""
    folder = _onnx(tmp_path / "model", WEIGHTS["inside"])
    _describe(folder, name)
    ran = foretell("models", "predict", "-m", folder, "-i", os.devnull)
    assert 3 == ran.code
    assert "Traceback" not in ran.err
    assert "\x1b[2J" not in ran.err


def _onnx(folder: Path, weights: Weights) -> Path:
    """A model y = x @ w in MLflow's format, whose w lies outside of the .onnx file."""
    folder.mkdir()
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 1], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": weights.location, "offset": weights.offset, "length": weights.length}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])],
        [tensor],
    )
    opset = [helper.make_opsetid("", 18)]
    (folder / "model.onnx").write_bytes(helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString())
    _describe(folder, "model.onnx")
    return folder


def _describe(folder: Path, data: str) -> None:
    flavours = {"onnx": {"data": data}, "python_function": {"loader_module": "mlflow.onnx", "data": data}}
    (folder / "MLmodel").write_text(yaml.safe_dump({"flavors": flavours}))
