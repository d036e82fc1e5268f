"""Files that hold PyTorch models, looked at without torch's own loaders.

torch.export.load unpickles weights, evaluates the expressions of shapes and builds Python source from names: all of it
code, if a file wants it to be. So an exported program is read here as what it is, a zip of one JSON graph and of raw
weights, and computed by models/torch_program; what is beyond plain tensors and reviewed operators needs trust.

Source of the format: torch/export/pt2_archive and torch/_export/serde/schema.py.
"""

import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foretell.cells import show
from foretell.errors import ModelUnreadable

_MAX_JSON = 64 << 20
_MAX_ENTRIES = 100_000

_REVIEWED = """
abs acos acosh add addmm alias amax amin any all arange argmax argmin argsort as_strided asin asinh atan atan2 atanh
avg_pool1d avg_pool2d avg_pool3d baddbmm batch_norm bitwise_and bitwise_not bitwise_or bitwise_xor bmm bucketize cat
cdist ceil celu chunk clamp clamp_max clamp_min clone concat constant_pad_nd contiguous conv1d conv2d conv3d
conv_transpose1d conv_transpose2d conv_transpose3d convolution copy cos cosh cosine_similarity cross cumprod cumsum
detach detach_ diag diag_embed diagonal diff div dot dropout einsum elu embedding eq erf erfc exp exp2 expand
expand_as expm1 eye feature_dropout fill flatten flip floor floor_divide fmod frac full full_like gather ge gelu glu
group_norm gru gt hardshrink hardsigmoid hardswish hardtanh index index_add index_fill index_put index_select
instance_norm isfinite isinf isnan layer_norm le leaky_relu lerp lift_fresh lift_fresh_copy linalg_vector_norm
linear log log10 log1p log2 log_sigmoid log_softmax logaddexp logical_and logical_not logical_or logical_xor logit
logsumexp lstm lt masked_fill matmul max max_pool1d max_pool2d max_pool2d_with_indices max_pool3d maximum mean
median meshgrid min minimum mish mm movedim mul mv nan_to_num narrow native_layer_norm ne neg new_full new_ones
new_zeros norm one_hot ones ones_like outer pad permute pixel_shuffle pixel_unshuffle pow prelu prod rad2deg
reciprocal reflection_pad1d reflection_pad2d relu relu6 remainder repeat reshape rms_norm rnn_relu rnn_tanh roll
round rsqrt rsub scalar_tensor scaled_dot_product_attention scatter scatter_add searchsorted select select_scatter
selu sigmoid sign silu sin sinh slice slice_scatter softmax softplus softshrink sort split split_with_sizes sqrt
square squeeze stack std sub sum sym_numel sym_size sym_storage_offset sym_stride t take tan tanh threshold tile to
topk transpose tril triu trunc type_as unbind unflatten unfold unsqueeze upsample_bicubic2d upsample_bilinear2d
upsample_nearest1d upsample_nearest2d var view view_as where zeros zeros_like adaptive_avg_pool1d
adaptive_avg_pool2d adaptive_max_pool2d _softmax _log_softmax _to_copy _unsafe_view _adaptive_avg_pool2d
_native_batch_norm_legit_no_training _assert_tensor_metadata _assert_scalar sym_constrain_range
sym_constrain_range_for_size relu_ add_ mul_ sub_ div_ clamp_ hardtanh_ hardswish_ hardsigmoid_ leaky_relu_ elu_
silu_ sigmoid_ tanh_ masked_fill_ dropout_ selu_ mish_ celu_ relu6_ unsqueeze_ squeeze_ exp_ neg_ __and__ __or__
__xor__
"""
OPERATORS = frozenset(_REVIEWED.split())
"""Reviewed operators of torch.ops.aten: arithmetic on tensors, with checked bounds. Not those that open files, read
memory that nobody wrote (empty), keep state, or draw random numbers."""

SYMBOLIC = frozenset(
    [
        *(f"_operator.{name}" for name in ("add", "sub", "mul", "floordiv", "mod", "truediv", "neg", "getitem")),
        *(f"_operator.{name}" for name in ("eq", "ne", "lt", "le", "gt", "ge", "and_", "or_", "not_")),
        *(f"math.{name}" for name in ("ceil", "floor", "trunc")),
        *(f"torch.sym_{name}" for name in ("max", "min", "int", "float", "not", "ite")),
    ]
)
"""Reviewed functions of sizes."""

_ARGUMENTS = frozenset(
    f"as_{name}"
    for name in (
        *("none", "tensor", "tensors", "optional_tensor", "optional_tensors", "int", "ints", "float", "floats", "bool"),
        *("bools", "string", "sym_int", "sym_ints", "sym_float", "sym_floats", "sym_bool", "scalar_type", "device"),
        *("memory_format", "layout"),
    )
)
_TARGET = re.compile(r"torch\.ops\.aten\.(\w+)\.(\w+)", re.ASCII)


class NotReviewed(Exception):
    """A program that holds more than plain tensors and reviewed operators; the text says what."""


@dataclass(frozen=True)
class StoredProgram:
    """An exported program, checked and not loaded.

    graph: inputs, outputs, nodes and the tensors' shapes. signature: what each input and output is. call: how the
    outputs are handed out. ranges: of the symbols in shapes. weights: by name, its record and its layout.
    """

    path: Path
    root: str
    graph: dict[str, Any]
    signature: dict[str, Any]
    call: dict[str, Any]
    ranges: dict[str, Any]
    weights: dict[str, tuple[str, dict[str, Any]]]


def read_program(path: Path) -> StoredProgram:
    """Reads and checks an exported program. Raises ModelUnreadable; NotReviewed where it needs torch's own loader."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if len(entries) > _MAX_ENTRIES:
                raise ModelUnreadable(f"{path} has over {_MAX_ENTRIES} entries, which no exported program has")
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise NotReviewed("compressed records")
            root = entries[0].filename.partition("/")[0]
            if f"{root}/models/model.json" not in archive.NameToInfo:
                raise NotReviewed("an archive of another version")
            whole = _json(archive, f"{root}/models/model.json")
            module = whole["graph_module"]
            _check_nodes(module["graph"]["nodes"])
            _check_signature(module["signature"])
            weights = {
                **_payload(archive, f"{root}/data/weights/", "model_weights_config.json"),
                **_payload(archive, f"{root}/data/constants/", "model_constants_config.json"),
            }
            call = next((entry["signature"] for entry in module["module_call_graph"] if entry["fqn"] == ""), None) or {}
            ranges = whole["range_constraints"]
            return StoredProgram(path, root, module["graph"], module["signature"], call, ranges, weights)
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError) as error:
        raise ModelUnreadable(f"{path} is not an exported program: {error}") from error
    except MALFORMED as error:
        raise ModelUnreadable(f"{path} holds a program that cannot be read: {type(error).__name__} {error}") from error


MALFORMED = (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError, OverflowError, StopIteration)
"""What comes of a graph that does not have the format's shape."""


def is_script(path: Path) -> bool:
    """Whether torch.jit.save wrote it: a zip with code in TorchScript."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(("/constants.pkl", "/code/__torch__.py")) for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return False


def only(union: dict[str, Any]) -> tuple[str, Any]:
    """The one field of a union."""
    ((kind, value),) = union.items()
    return kind, value


def _json(archive: zipfile.ZipFile, name: str) -> Any:
    if archive.getinfo(name).file_size > _MAX_JSON:
        raise ModelUnreadable(f"{archive.filename}: {name} is over {_MAX_JSON >> 20} MiB")
    return json.loads(archive.read(name))


def _check_nodes(nodes: list[dict[str, Any]]) -> None:
    for node in nodes:
        target = node["target"]
        found = _TARGET.fullmatch(target)
        named = found is not None and found[1] in OPERATORS and not found[2].endswith(("out", "str"))
        if not (named or target in SYMBOLIC):
            raise NotReviewed(f"the operator {show(target)}")
        for kind in [*(only(given["arg"])[0] for given in node["inputs"]), *(only(got)[0] for got in node["outputs"])]:
            if kind not in _ARGUMENTS:
                raise NotReviewed(f"an argument of the kind {show(kind.removeprefix('as_'))}")


def _check_signature(signature: dict[str, Any]) -> None:
    for spec in signature["input_specs"]:
        kind, value = only(spec)
        plain = kind in ("parameter", "buffer", "tensor_constant", "constant_input")
        if not plain and not (kind == "user_input" and only(value["arg"])[0] == "as_tensor"):
            raise NotReviewed(f"an input of the kind {show(kind)}")
    for spec in signature["output_specs"]:
        kind, value = only(spec)
        if kind != "user_output" or only(value["arg"])[0] != "as_tensor":
            raise NotReviewed(f"an output of the kind {show(kind)}")


def _payload(archive: zipfile.ZipFile, folder: str, config: str) -> dict[str, tuple[str, dict[str, Any]]]:
    if folder + config not in archive.NameToInfo:
        raise NotReviewed("weights of another version")
    found = {}
    for name, entry in _json(archive, folder + config)["config"].items():
        if entry["use_pickle"] or entry["tensor_meta"] is None:
            raise NotReviewed(f"{show(entry['path_name'])}, a pickle")
        record = folder + entry["path_name"]
        archive.getinfo(record)
        found[name] = (record, entry["tensor_meta"])
    return found
