"""IMITATE: hierarchical vision-language pre-training for chest radiographs.

The public names are loaded when they are first used, so that ``import imitate`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imitate.commands.audit import audit as audit
    from imitate.commands.calibrate import calibrate as calibrate
    from imitate.commands.evaluate import evaluate as evaluate
    from imitate.commands.prepare import prepare as prepare
    from imitate.commands.pretrain import pretrain as pretrain
    from imitate.inference.inputs import find_images as find_images
    from imitate.inference.predictor import Predictor as Predictor
    from imitate.inference.predictor import load as load
    from imitate.models.imitate import Imitate as Imitate

    __version__: str

_HOMES = {
    "prepare": "commands.prepare",
    "pretrain": "commands.pretrain",
    "audit": "commands.audit",
    "evaluate": "commands.evaluate",
    "calibrate": "commands.calibrate",
    "find_images": "inference.inputs",
    "load": "inference.predictor",
    "Predictor": "inference.predictor",
    "Imitate": "models.imitate",
}
__all__ = [
    "Imitate",
    "Predictor",
    "__version__",
    "audit",
    "calibrate",
    "evaluate",
    "find_images",
    "load",
    "prepare",
    "pretrain",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("imitate-cxr")
        except PackageNotFoundError:  # a source tree that was never installed
            return "unknown"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
