"""IMITATE: hierarchical vision-language pre-training for chest radiographs. Public names load on first use."""

from importlib import import_module
from typing import Any

_HOMES = {"Imitate": "models.imitate", "Predictor": "inference.predictor", "load": "inference.predictor"}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"imitate.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'imitate' has no attribute {name!r}")
