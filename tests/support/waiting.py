"""Operations after which the host waits for the device, found without a device."""

from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

_MAKERS: tuple[Any, ...] = (torch.tensor, torch.as_tensor, Tensor.new_tensor)


class _Makers(TorchFunctionMode):
    """Tensors made on the device from Python numbers, which are copied there."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self._found = found

    def __torch_function__(self, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func in _MAKERS and made.device.type != "cpu":
            self._found.append(func.__name__)
        return made


class BlockingCopies(TorchDispatchMode):
    """``blocking`` names what was copied between the CPU and another device without ``non_blocking``."""

    def __init__(self) -> None:
        super().__init__()
        self.blocking: list[str] = []
        self._makers = _Makers(self.blocking)

    def __enter__(self) -> "BlockingCopies":
        self._makers.__enter__()
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._makers.__exit__(kind, error, trace)

    def __torch_dispatch__(self, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        operands = [value for value in torch.utils._pytree.tree_leaves(args) if isinstance(value, Tensor)]
        away = {value.device.type for value in [*operands, *([out] if isinstance(out, Tensor) else [])]}
        waits = not (kwargs or {}).get("non_blocking", False) and any(value.ndim or len(away) for value in operands)
        if len(away) > 1 and waits and str(func) != "aten.lift_fresh.default":
            self.blocking.append(str(func))
        return out
