"""PyTorch models on the CPU: exported programs freely, pickled modules and TorchScript under trust. One thread a call;
the caller parallelises, and sums do not depend on how many cores there are."""

import importlib
import pickle
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from foretell.batch import Answers, Batch, Call, Output
from foretell.cells import TYPES, Column
from foretell.errors import FormWrong, ModelUnreadable, RowRefused
from foretell.models.load import Loaded, import_code
from foretell.models.mlmodel import StoredModel
from foretell.models.torch_files import NotReviewed, is_script, read_program
from foretell.models.torch_program import Given, Program, steady
from foretell.signature import Signature
from foretell.storage import contained

_BLOCK = 32
_PICKLES = ("", "pickle", "cloudpickle", "mlflow.pytorch.pickle_module")
"""Pickle modules whose files Python's own pickle reads; others are imported, as the model names them."""

_COLUMNS = {cell.dtype: name for name, cell in reversed(TYPES.items()) if cell.kind in ("int", "float", "bool")}


def runs_code(model: StoredModel) -> list[str]:
    """A pickle and TorchScript do; an exported program, where it holds more than reviewed operators and plain tensors.

    Raises ModelUnreadable for weights without a network.
    """
    path = model_file(model)
    if path.suffix.lower() == ".pt2":
        try:
            read_program(path)
        except NotReviewed as found:
            return [f"{path.name} (an exported program with {found})"]
        return []
    if is_script(path):
        return [f"{path.name} (TorchScript)"]
    held = _weights(path)
    if held:
        raise ModelUnreadable(
            f"{path} holds {held}, which are weights without the network that they belong to",
            "Save the network with them: torch.export.save(torch.export.export(model, (example,)), 'model.pt2')",
        )
    return [f"{path.name} (a pickle)"]


def load(model: StoredModel, trusted: bool) -> Loaded:
    """Loads the network. trusted: it may be unpickled, and an exported program may hold anything."""
    import torch

    torch.set_num_threads(1)
    path = model_file(model)
    if path.suffix.lower() == ".pt2":
        try:
            program = Program(read_program(path))
        except NotReviewed as found:
            if not trusted:
                raise ModelUnreadable(f"{path} holds {found}, and was not trusted") from found
            return _module(_exported(model, path), model)
        run = TorchEngine(lambda inputs, _: program(*inputs), program.inputs, program.outputs, program.block(_BLOCK))
        return Loaded(run, _known_inputs(program.inputs))
    if not trusted:
        raise ModelUnreadable(f"{path} is a pickle and was not trusted")
    return _module(_unpickled(model, path), model)


def model_file(model: StoredModel) -> Path:
    """The file that holds the network."""
    if model.path.is_file():
        return model.path
    entry = model.flavours["pytorch"]
    data = contained(model.folder, entry.get("model_data") or model.flavours.get("python_function", {}).get("data"))
    if data.is_file():
        return data
    found = next((data / name for name in ("model.pth", "model.pt2") if (data / name).is_file()), None)
    if found is None:
        raise ModelUnreadable(f"{data} holds neither model.pth nor model.pt2")
    return model.file(found.relative_to(model.folder).as_posix())


def _weights(path: Path) -> str:
    """What a file of mere tensors holds, for people; empty for a pickle of anything else. Nothing of it runs."""
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            held = torch.load(path, map_location="meta", weights_only=True)
    except pickle.UnpicklingError:
        return ""
    except Exception as error:
        raise ModelUnreadable(f"{path} is not a readable PyTorch file: {_first_line(error)}") from error
    return f"{len(held)} entries" if isinstance(held, dict) else f"a {type(held).__name__}"


def _exported(model: StoredModel, path: Path) -> Any:
    import torch

    import_code(model)
    try:
        return torch.export.load(path).module()
    except ModuleNotFoundError:
        raise
    except Exception as error:
        raise ModelUnreadable(f"{path} cannot be loaded: {_first_line(error)}") from error


def _unpickled(model: StoredModel, path: Path) -> Any:
    import torch

    import_code(model)
    try:
        if is_script(path):
            module = torch.jit.load(path, map_location="cpu")
        else:
            named = pickle if model.path.is_file() else _pickle_module(path)
            module = torch.load(path, "cpu", pickle_module=named, weights_only=False)
    except ModuleNotFoundError:
        raise
    except Exception as error:
        raise ModelUnreadable(f"{path} cannot be unpickled: {_first_line(error)}") from error
    if not isinstance(module, torch.nn.Module):
        raise ModelUnreadable(f"{path} holds a {type(module).__name__}, which is no torch.nn.Module")
    return module.eval()


def _pickle_module(path: Path) -> Any:
    """The module that MLflow wrote the pickle with, by the note beside it."""
    note = path.with_name("pickle_module_info.txt")
    name = note.read_text().strip() if note.is_file() and note.stat().st_size < 1000 else ""
    if name not in _PICKLES and not re.fullmatch(r"\w+(\.\w+)*", name):
        raise ModelUnreadable(f"{note} names no Python module")
    return pickle if name in _PICKLES else importlib.import_module(name)


def _module(module: Any, model: StoredModel) -> Loaded:
    """A module of Python, which takes one tensor: floats from columns, else what the tensor signature says."""
    stored = model.signature
    tensor = stored is not None and (stored.tensor is not None or not stored.tabular)
    if tensor and stored is not None and not (stored.tabular or len(stored.inputs) == 1):
        raise ModelUnreadable(
            f"{model.path} takes {len(stored.inputs)} tensors; a pickled module of MLflow's takes one"
        )
    dtype = stored.inputs[0].cell.dtype if tensor and stored is not None else "float32"
    shape = () if stored is None else (len(stored.inputs),) if stored.tabular else stored.inputs[0].shape
    takes = Given("", dtype, (-1, *shape) if shape else ())
    block = _BLOCK if steady(lambda fed, watch: _watched(module, fed, watch), [takes], _BLOCK) else 1
    return Loaded(TorchEngine(lambda inputs, params: module(*inputs, **params), [takes], [], block), None)


def _watched(module: Any, fed: list[Any], watch: Callable[[Any], None]) -> Any:
    from torch.nn.modules.module import register_module_forward_hook

    hook = register_module_forward_hook(lambda part, given, result: watch(result))
    try:
        return module(*fed)
    finally:
        hook.remove()


def _known_inputs(inputs: list[Given]) -> Signature:
    """One (rows, k) input is k unnamed columns; else a column an input."""
    rows = next((given.sizes[0] for given in inputs if given.sizes and given.sizes[0] > 1), None)
    kinds = [_COLUMNS.get(given.dtype, "float") for given in inputs]
    if len(inputs) == 1 and len(inputs[0].sizes) == 2 and inputs[0].sizes[1] > 0:
        columns = Signature.unnamed(inputs[0].sizes[1], kinds[0]).inputs
        return Signature(columns, tensor=inputs[0].name, rows=rows)
    shapes = [() if given.sizes[1:] in ((), (1,)) else given.sizes[1:] for given in inputs]
    made = tuple(Column(*parts) for parts in zip((given.name for given in inputs), kinds, shapes, strict=True))
    return Signature(made, rows=rows, tensor=made[0].name if len(made) == 1 and shapes[0] else None)


class TorchEngine:
    """torch's own operators, on blocks of one shape: of 32 rows where it was tried that a row's bits are then the same
    at every place, else of one row."""

    name = "PyTorch"
    proba = False

    def __init__(
        self,
        run: Callable[[list[Any], dict[str, Any]], Any],
        inputs: list[Given],
        outputs: list[str],
        block: int,
    ) -> None:
        self._run = run
        self._inputs = inputs
        self._outputs = outputs
        self.block: int | None = block

    def predict(self, batch: Batch, call: Call) -> Answers:
        import torch

        with torch.no_grad():
            answer = self._run(self._feed(batch), dict(call.params))
        return Answers(tuple(Output(name, _array(value)) for name, value in self._named(answer)))

    def _feed(self, batch: Batch) -> list[Any]:
        import torch

        matrix = len(self._inputs) == 1 and len(self._inputs[0].sizes) in (0, 2) and batch.columns[0].ndim == 1
        arrays = [batch.matrix] if matrix else batch.columns
        if len(arrays) != len(self._inputs):
            raise FormWrong(f"the model takes {len(self._inputs)} tensors, and its signature has {len(arrays)}")
        fed = []
        for given, array in zip(self._inputs, arrays, strict=True):
            dtype = getattr(torch, given.dtype)
            tensor = torch.tensor(_cast(array, "float32" if given.dtype == "bfloat16" else given.dtype), dtype=dtype)
            fed.append(tensor[:, None] if len(given.sizes) == 2 and tensor.ndim == 1 else tensor)
        return fed

    def _named(self, answer: Any) -> list[tuple[str, Any]]:
        if isinstance(answer, dict):
            return [(str(name), value) for name, value in answer.items()]
        if isinstance(answer, list | tuple):
            names = self._outputs or [str(at) for at in range(len(answer))]
            return list(zip(names, answer, strict=True)) if len(answer) > 1 else [("", answer[0])]
        return [("", answer)]


def _array(value: Any) -> np.ndarray:
    """A tensor as an array; (rows, 1) as (rows,)."""
    import torch

    if not isinstance(value, torch.Tensor):
        raise TypeError(f"the network gave a {type(value).__name__} where a tensor was expected")
    tensor = value.detach().resolve_conj().cpu()
    array: np.ndarray = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def _cast(array: np.ndarray, dtype: str) -> np.ndarray:
    """As the network takes it: doubles become floats, as MLflow does, but none may overflow, and none be cut."""
    if array.dtype == object:
        array = array.astype("float64")
    with np.errstate(over="ignore", invalid="ignore"):
        cast = array.astype(dtype)
    if cast.dtype.kind == "f":
        if np.isinf(cast).any() and not np.isinf(array).any():
            raise RowRefused(f"a value is out of the range of the model's {dtype} input")
    elif array.dtype.kind == "f" and not (cast == array).all():
        raise RowRefused(f"a value is no {dtype}, which the model's input takes")
    return cast


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
