"""A library's trees as a forest for a kernel, where there can be one."""

from collections.abc import Sequence
from typing import Any

from foretell.kernels.node import NotCovered
from foretell.trees import forest
from foretell.trees.forest import Forest, planted
from foretell.trees.tree import Tree


def plant(trees: Sequence[Tree], columns: int, **options: Any) -> Forest:
    """trees.forest.planted. Raises NotCovered."""
    if not forest.available():
        raise NotCovered("trees, as foretell was installed without its compiled part")
    try:
        return planted(trees, columns, **options)
    except ValueError as error:
        raise NotCovered(str(error)) from error
