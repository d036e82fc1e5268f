"""Files that hold scikit-learn estimators, and what may be loaded: skops by a reviewed list, pickles as a whole."""

import pickle
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from foretell import imports
from foretell.errors import ModelUnreadable

_MAX_UNPACKED = 8 << 30

REVIEWED = frozenset(
    f"sklearn.{name}"
    for name in (
        "calibration._CalibratedClassifier",
        "calibration._SigmoidCalibration",
        "ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "gaussian_process.kernels.ConstantKernel",
        "gaussian_process.kernels.DotProduct",
        "gaussian_process.kernels.ExpSineSquared",
        "gaussian_process.kernels.Matern",
        "gaussian_process.kernels.Product",
        "gaussian_process.kernels.RBF",
        "gaussian_process.kernels.RationalQuadratic",
        "gaussian_process.kernels.Sum",
        "gaussian_process.kernels.WhiteKernel",
        "neural_network._stochastic_optimizers.AdamOptimizer",
        "neural_network._stochastic_optimizers.SGDOptimizer",
        "tree._tree.Tree",
        "utils._bunch.Bunch",
    )
) | {"numpy.dtype"}
"""Types beyond skops' own defaults that hold only numbers and estimators and run nothing of the file when they load.

Trees hold raw indices, which are checked after loading. Neighbour trees (KDTree, BallTree) hold raw memory layouts that
cannot be checked from outside, so they stay under trust.
"""


def is_skops(path: Path) -> bool:
    return path.suffix.lower() == ".skops"


def untrusted(path: Path) -> list[str]:
    io = _skops()
    from skops.io.exceptions import UntrustedTypesFoundException

    _check_archive(path)
    try:
        return list(io.get_untrusted_types(file=path))
    except UntrustedTypesFoundException as error:
        raise ModelUnreadable(f"{path}: {error}") from error
    except Exception as error:
        raise ModelUnreadable(f"{path} is not a readable skops file: {error}") from error


def load_skops(path: Path, trusted: bool, reviewed: frozenset[str] = REVIEWED) -> Any:
    io = _skops()
    _check_archive(path)
    try:
        types = io.get_untrusted_types(file=path)
        return io.load(path, trusted=[name for name in types if trusted or name in reviewed])
    except ModuleNotFoundError:
        raise
    except Exception as error:
        raise ModelUnreadable(f"{path} cannot be loaded: {error}") from error


def _skops() -> Any:
    """It imports all of scikit-learn, with a module that is torch's alone and another for tests."""
    with imports.without("sklearn.externals.array_api_compat.torch", "pytest"):
        from skops import io
    return io


def _check_archive(path: Path) -> None:
    """A skops file is a zip: bounded before anything is unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _MAX_UNPACKED:
                raise ModelUnreadable(f"{path} would unpack to over {_MAX_UNPACKED >> 30} GiB")
    except (zipfile.BadZipFile, OSError) as error:
        raise ModelUnreadable(f"{path} is not a skops file: {error}") from error


def load_pickle(path: Path) -> Any:
    """joblib reads its own files, and plain and cloud pickles too."""
    import joblib

    try:
        return joblib.load(path)
    except ModuleNotFoundError:
        raise
    except (
        pickle.UnpicklingError,
        EOFError,
        AttributeError,
        ImportError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
    ) as error:
        raise ModelUnreadable(f"{path} cannot be unpickled: {error}") from error


def check_trees(parts: Iterable[Any], path: Path) -> None:
    """That every index in a tree points forward into the tree, and to a column there is: C code follows them."""
    try:
        found = list(parts)
        columns: dict[int, int] = {}
        categorical: dict[int, list[Any]] = {}
        for part in found:
            for member in _members(part):
                columns[id(member)] = min(int(part.n_features_in_), columns.get(id(member), _MANY))
                mapper = getattr(part, "_bin_mapper", None)
                categorical.setdefault(id(member), []).append(getattr(mapper, "is_categorical_", ()))
        for part in found:
            known = min(int(getattr(part, "n_features_in_", _MANY)), columns.get(id(part), _MANY))
            if hasattr(part, "_raw_predict_init"):
                _check_stages(part, path)
            tree = getattr(part, "tree_", None)
            if tree is not None and hasattr(tree, "children_left"):
                left, right = tree.children_left, tree.children_right
                _check_nodes(left, right, tree.feature, left < 0, known, path)
            if type(part).__name__ == "TreePredictor":
                nodes = part.nodes
                leaf = nodes["is_leaf"].astype(bool)
                _check_nodes(nodes["left"], nodes["right"], nodes["feature_idx"], leaf, known, path)
                _check_bitsets(nodes[~leaf], part.raw_left_cat_bitsets, categorical.get(id(part), [()]), path)
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError) as error:
        raise ModelUnreadable(f"{path} holds a tree that cannot be read: {error}") from error


_MANY = 2**31


def _members(part: Any) -> Iterator[Any]:
    """The trees of an ensemble, which see at most the columns that it takes."""
    waiting = [getattr(part, name, None) for name in ("estimators_", "_predictors")]
    while waiting:
        member = waiting.pop()
        if isinstance(member, list | tuple | np.ndarray):
            waiting.extend(member)
        elif hasattr(member, "tree_") or type(member).__name__ == "TreePredictor":
            yield member


def _check_stages(boosting: Any, path: Path) -> None:
    """As many trees a stage as there are sums, to which C code adds them."""
    row = np.zeros((1, int(boosting.n_features_in_)), "float32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sums = boosting._raw_predict_init(row).shape[1]
    if boosting.estimators_.ndim != 2 or boosting.estimators_.shape[1] != sums:
        raise ModelUnreadable(f"{path} holds stages of trees that do not fit their sums")


def _check_nodes(left: Any, right: Any, feature: Any, leaf: Any, features: int, path: Path) -> None:
    inner = ~leaf
    here = np.arange(len(left))[inner]
    ahead = [(side[inner].astype("int64") > here) & (side[inner] < len(left)) for side in (left, right)]
    columns = feature[inner]
    known = (columns >= 0) & (columns < features)
    if not (ahead[0].all() and ahead[1].all() and known.all()):
        raise ModelUnreadable(f"{path} holds a tree whose nodes point outside of it")


def _check_bitsets(nodes: Any, bitsets: Any, categorical: list[Any], path: Path) -> None:
    """A split by categories names a set of them, and a column that every ensemble around knows to hold categories."""
    splits = nodes[nodes["is_categorical"].astype(bool)]
    if not len(splits):
        return
    sound = bitsets.ndim == 2 and bitsets.shape[1] == _WORDS and (splits["bitset_idx"] < len(bitsets)).all()
    masks = [np.asarray(mask, bool) for mask in categorical]
    columns = splits["feature_idx"]
    if not sound or not all((columns < len(mask)).all() and mask[columns].all() for mask in masks):
        raise ModelUnreadable(f"{path} holds a tree whose categories are not there")


_WORDS = 8
"""Of 32 bits each: a category is a number below 256."""


def check_machines(parts: Iterable[Any], path: Path) -> None:
    """That the arrays of a support vector machine fit each other: libsvm follows them unseen."""
    for part in parts:
        if not hasattr(part, "_n_support"):
            continue
        try:
            sound = bool(part._sparse) or _is_sound_machine(part)
        except (ValueError, TypeError, IndexError, AttributeError, OverflowError):
            sound = False
        if not sound:
            raise ModelUnreadable(f"{path} holds a {type(part).__name__} whose parts do not fit each other")


def _is_sound_machine(machine: Any) -> bool:
    groups, count = len(machine._n_support), len(machine.support_)
    pairs = groups * (groups - 1) // 2
    given = machine.kernel == "precomputed"
    vectors = (0, 0) if given else (count, machine.n_features_in_)
    held = machine._n_support.astype("int64")
    regression = not hasattr(machine, "classes_")
    return bool(
        "_impl" not in vars(machine)
        and groups >= 2
        and (held >= 0).all()
        and (held == count if regression else held.sum() == count).all()
        and machine.support_vectors_.shape == vectors
        and (not given or ((machine.support_ >= 0) & (machine.support_ < machine.n_features_in_)).all())
        and machine._dual_coef_.shape == (groups - 1, count)
        and machine._intercept_.shape == (pairs,)
        and all(len(part) in (0, pairs) for part in (machine._probA, machine._probB))
    )
