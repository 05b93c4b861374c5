"""numpy and pandas, imported where they are first used.

The command line reads the options of a source for its help; what the source's module imports for the records must not
make it wait.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
else:

    class _Module:
        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, attribute: str) -> Any:
            found = getattr(import_module(self._name), attribute)
            setattr(self, attribute, found)
            return found

    np, pd = _Module("numpy"), _Module("pandas")

__all__ = ["np", "pd"]
