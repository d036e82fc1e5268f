"""PyTorch: exported programs load freely and run nothing of the file; what could run needs trust; bits hold still."""

import json
import random
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.export import Dim

import foretell
from foretell.errors import ForetellError, ModelUnreadable, ModelUntrusted, PredictionError
from foretell.models.torch_files import OPERATORS

MARKER = "it-ran"
PAYLOAD = f"__import__('pathlib').Path({MARKER!r}).touch()"


class Pair(nn.Module):
    """Two inputs, two outputs by name."""

    def __init__(self) -> None:
        super().__init__()
        self.sums = nn.Linear(4, 3)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> dict[str, torch.Tensor]:
        z = self.sums(a) + b
        return {"z": z, "best": z.argmax(1)}


class Words(nn.Module):
    """A transformer over tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.head = nn.Linear(16, 2)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(self.embed(tokens)).mean(1))


class Series(nn.Module):
    """A recurrent net."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.LSTM(3, 8, batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        return self.head(self.net(steps)[0][:, -1])


def _plain() -> nn.Module:
    return nn.Sequential(nn.Linear(7, 53), nn.ReLU(), nn.Linear(53, 17), nn.Tanh(), nn.Linear(17, 3))


def _image() -> nn.Module:
    first = (nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
    return nn.Sequential(*first, nn.Flatten(), nn.Linear(64, 10), nn.Softmax(1))


NETS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], list[torch.Tensor]]]] = {
    "plain": (_plain, lambda rows: [torch.randn(rows, 7)]),
    "doubles": (lambda: _plain().double(), lambda rows: [torch.randn(rows, 7).double()]),
    "image": (_image, lambda rows: [torch.randn(rows, 1, 8, 8)]),
    "words": (Words, lambda rows: [torch.randint(0, 50, (rows, 12))]),
    "series": (Series, lambda rows: [torch.randn(rows, 5, 3)]),
    "pair": (Pair, lambda rows: [torch.randn(rows, 4), torch.randn(rows, 3)]),
}


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every net as an exported program for any number of rows, and plain ones in other forms."""
    folder = tmp_path_factory.mktemp("programs")
    torch.manual_seed(5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, (make, inputs) in NETS.items():
            given = tuple(inputs(8))
            shapes = tuple({0: Dim("rows")} for _ in given)
            exported = torch.export.export(make().eval(), given, dynamic_shapes=shapes)
            torch.export.save(exported, folder / f"{name}.pt2")
        net = _plain().eval()
        for rows in (1, 3):
            torch.export.save(torch.export.export(net, (torch.randn(rows, 7),)), folder / f"fixed{rows}.pt2")
        torch.save(net, folder / "pickle.pth")
        torch.save(net.state_dict(), folder / "weights.pth")
        torch.jit.trace(net, torch.randn(2, 7)).save(folder / "script.pt")
    return folder


def _rows(inputs: list[torch.Tensor]) -> Any:
    """Rows for foretell: the array itself, or one record a row."""
    if len(inputs) == 1:
        return inputs[0].tolist()
    return [{"a": a, "b": b} for a, b in zip(*(given.tolist() for given in inputs), strict=True)]


@pytest.mark.parametrize("name", NETS)
def test_an_exported_program_gives_torchs_own_bits(name: str, programs: Path) -> None:
    """A block of rows, computed node by node, is what torch's own loader makes of the file; no trust is asked for."""
    opened = foretell.load(str(programs / f"{name}.pt2"))
    block = opened._predictor.engine.block or 1
    inputs = NETS[name][1](block)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        theirs = torch.export.load(programs / f"{name}.pt2").module()(*inputs)
    answers = opened._predictor.predict(opened._predictor.decoder.values(_rows(inputs)))
    expected = theirs if isinstance(theirs, dict) else {"": theirs}
    assert list(expected) == [output.name for output in answers.outputs]
    for output in answers.outputs:
        assert np.array_equal(expected[output.name].numpy(), output.values)


@pytest.mark.parametrize("name", NETS)
def test_a_rows_bits_do_not_depend_on_its_neighbours(name: str, programs: Path) -> None:
    """Alone, at any place among 32, and among 4,096: the same bits."""
    opened = foretell.load(str(programs / f"{name}.pt2"))._predictor
    batch = opened.decoder.values(_rows(NETS[name][1](4096)))
    whole = opened.predict(batch)
    for at in (*range(0, 40), 4095):
        for company in (batch[at : at + 1], batch[max(0, at - 7) : at + 25]):
            place = 0 if company.rows == 1 else min(at, 7)
            got = opened.predict(company)[place : place + 1]
            for ours, theirs in zip(got.outputs, whole[at : at + 1].outputs, strict=True):
                assert np.array_equal(ours.values, theirs.values), at


def test_its_own_shapes_say_what_it_takes(programs: Path) -> None:
    """Inputs come from the program: k columns, or cells of a shape, with their types."""
    taken = {name: foretell.load(str(programs / f"{name}.pt2"))._predictor.signature for name in NETS}
    assert ["float"] * 7 == [column.type for column in taken["plain"].inputs]
    assert ["double"] * 7 == [column.type for column in taken["doubles"].inputs]
    assert ["long"] * 12 == [column.type for column in taken["words"].inputs]
    assert [("steps", (5, 3))] == [(c.name, c.shape) for c in taken["series"].inputs]
    assert [("a", (4,)), ("b", (3,))] == [(c.name, c.shape) for c in taken["pair"].inputs]


def test_a_program_of_fixed_size(programs: Path) -> None:
    """One made for a single row is given row after row; one made for three insists on three."""
    single = foretell.load(str(programs / "fixed1.pt2"))
    rows = torch.randn(5, 7).tolist()
    assert (5, 3) == single.predict(rows).shape
    three = foretell.load(str(programs / "fixed3.pt2"))
    assert (3, 3) == three.predict(rows[:3]).shape
    with pytest.raises(ForetellError, match="exactly 3 rows"):
        three.predict(rows)


@pytest.mark.parametrize(
    ("name", "reason"), [("pickle.pth", "pickle.pth (a pickle)"), ("script.pt", "script.pt (TorchScript)")]
)
def test_what_may_run_code_needs_trust(name: str, reason: str, programs: Path) -> None:
    """A pickled module and TorchScript are refused until they are trusted, and answer alike then."""
    with pytest.raises(ModelUntrusted) as refused:
        foretell.load(str(programs / name))
    assert reason == refused.value.file
    Path("schema.json").write_text(json.dumps([{"name": f"x{at}", "type": "double"} for at in range(7)]))
    trusted = foretell.load(str(programs / name), trust=True, schema="schema.json")
    assert (2, 3) == trusted.predict([[0.5] * 7, [1.5] * 7]).shape


def test_weights_alone_are_no_model(programs: Path) -> None:
    """A state dict is named for what it is, with how to save the network too."""
    with pytest.raises(ModelUnreadable) as refused:
        foretell.load(str(programs / "weights.pth"))
    assert "weights without the network" in refused.value.message
    assert "torch.export.save" in refused.value.hint


def _changed(source: Path, target: Path, change: Callable[[dict[str, Any]], None], **records: bytes) -> Path:
    """A program with its graph changed, and some records replaced, in an archive that torch's loader reads."""
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as made:
        for entry in archive.infolist():
            data = records.get(entry.filename.rpartition("/")[2], archive.read(entry))
            if entry.filename.endswith("models/model.json"):
                graph = json.loads(data)
                change(graph)
                data = json.dumps(graph).encode()
            elif entry.filename.endswith("model_weights_config.json") and records:
                config = json.loads(data)
                for weight in config["config"].values():
                    weight["use_pickle"] = weight["path_name"] in records
                data = json.dumps(config).encode()
            made.writestr(zipfile.ZipInfo(entry.filename), data)
    return target


def _expression(graph: dict[str, Any]) -> None:
    values = graph["graph_module"]["graph"]["tensor_values"]
    for meta in values.values():
        for size in meta["sizes"]:
            if "as_expr" in size:
                size["as_expr"]["expr_str"] = PAYLOAD


def _guard(graph: dict[str, Any]) -> None:
    graph["guards_code"] = [PAYLOAD]


def _name(graph: dict[str, Any]) -> None:
    text = json.dumps(graph["graph_module"])
    old = graph["graph_module"]["signature"]["input_specs"][-1]["user_input"]["arg"]["as_tensor"]["name"]
    new = json.dumps(f"x={PAYLOAD}")[1:-1]
    text = text.replace(f'{{"as_tensor": {{"name": "{old}"}}}}', f'{{"as_tensor": {{"name": "{new}"}}}}')
    graph["graph_module"] = json.loads(text.replace(f'"{old}": {{"dtype"', f'"{new}": {{"dtype"'))


@pytest.mark.parametrize("change", [_expression, _guard, _name], ids=["expression", "guard", "name"])
def test_nothing_of_a_graph_is_evaluated(change: Callable[[dict[str, Any]], None], programs: Path) -> None:
    """Python where torch keeps expressions, guards and names is text to us: the rows are answered, and it never ran."""
    bad = _changed(programs / "plain.pt2", Path("bad.pt2"), change)
    rows = torch.randn(32, 7).tolist()
    assert np.array_equal(
        foretell.load(str(bad)).predict(rows), foretell.load(str(programs / "plain.pt2")).predict(rows)
    )
    assert not Path(MARKER).exists()


def test_the_same_file_runs_in_torchs_own_loader(programs: Path) -> None:
    """The payload of the test above is a live one."""
    bad = _changed(programs / "plain.pt2", Path("bad.pt2"), _expression)
    script = f"import torch; torch.export.load({str(bad)!r})"
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, check=False)
    assert Path(MARKER).exists()


class Payload:
    """Pickles as code that leaves a file behind."""

    def __reduce__(self) -> Any:
        return eval, (PAYLOAD,)


def test_a_pickle_among_the_weights_needs_trust(programs: Path) -> None:
    """Weights that torch would unpickle are seen before anything is."""
    torch.save(Payload(), "payload")
    bad = _changed(programs / "plain.pt2", Path("bad.pt2"), lambda _: None, weight_0=Path("payload").read_bytes())
    with pytest.raises(ModelUntrusted, match='"weight_0", a pickle'):
        foretell.load(str(bad))
    torch.save({"weights": Payload()}, "smuggled.pth")
    with pytest.raises(ModelUntrusted, match=r"smuggled.pth \(a pickle\)"):
        foretell.load("smuggled.pth")
    assert not Path(MARKER).exists()


@pytest.mark.parametrize(
    "target",
    [
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.add.out",
        "torch.ops.prim.device.default",
        "torch.hub.load",
        "_operator.attrgetter",
        "builtins.eval",
    ],
)
def test_operators_that_nobody_reviewed_need_trust(target: str, programs: Path) -> None:
    """Only listed operators of aten, and of sizes, are called."""

    def change(graph: dict[str, Any]) -> None:
        graph["graph_module"]["graph"]["nodes"][0]["target"] = target

    bad = _changed(programs / "plain.pt2", Path("bad.pt2"), change)
    with pytest.raises(ModelUntrusted, match=f'the operator "{target[:30]}'):
        foretell.load(str(bad))


def test_listed_operators_are_torchs() -> None:
    """The list names operators that there are, and none with a file's name, a generator or raw storage to take."""
    for name in OPERATORS:
        packet = getattr(torch.ops.aten, name)
        for overload in packet.overloads():
            if overload.endswith(("out", "str")):
                continue
            taken = {str(argument.type) for argument in getattr(packet, overload)._schema.arguments}
            assert not taken & {"Storage", "Stream", "Optional[Generator]"}, (name, overload)


def test_a_shape_that_does_not_fit_is_said(programs: Path) -> None:
    """Where MLmodel and the program differ, the answer is an error and no guess."""
    Path("schema.json").write_text(json.dumps([{"name": f"x{at}", "type": "double"} for at in range(9)]))
    opened = foretell.load(str(programs / "plain.pt2"), schema="schema.json")
    with pytest.raises(PredictionError, match=r"shape \(-1, 7\), and got \(1, 9\)"):
        opened.predict([[1.0] * 9])


def test_broken_programs_are_refused_in_words(programs: Path) -> None:
    """However a graph is torn, what comes out is an error of ours, or answers."""
    numbers = random.Random(3)
    seen = 0
    for _ in range(60):

        def tear(graph: dict[str, Any]) -> None:
            places = list(_places(graph["graph_module"]))
            for holder, key in numbers.sample(places, 2):
                holder[key] = numbers.choice([None, -1, 2**70, "", "input", [], {}, {"as_int": -5}, True])

        bad = _changed(programs / "plain.pt2", Path("bad.pt2"), tear)
        try:
            foretell.load(str(bad)).predict([[1.0] * 7])
        except ForetellError as error:
            seen += 1
            assert "\n" not in error.message
    assert seen > 20


def _places(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        if key != "metadata":
            yield value, key
            yield from _places(inner)
