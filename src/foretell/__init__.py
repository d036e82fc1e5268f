"""foretell runs a trained model both ways: batch prediction over files and real-time serving, with the same answers.

The public names load on first use, so that `import foretell` stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foretell.errors import ForetellError as ForetellError
    from foretell.errors import InputError as InputError
    from foretell.errors import ModelError as ModelError
    from foretell.frames import Model as Model
    from foretell.frames import load as load
    from foretell.signature import Signature as Signature

__version__ = "0.1.0"

_HOMES = {
    "ForetellError": "foretell.errors",
    "InputError": "foretell.errors",
    "Model": "foretell.frames",
    "ModelError": "foretell.errors",
    "Signature": "foretell.signature",
    "load": "foretell.frames",
}

__all__ = ["ForetellError", "InputError", "Model", "ModelError", "Signature", "__version__", "load"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'foretell' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
