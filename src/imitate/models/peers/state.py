"""The tensors of a checkpoint under the names that its authors gave them, and modules that are filled from them."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from imitate.errors import UserError

Module = TypeVar("Module", bound=nn.Module)
Rename = Callable[[str], str]
"""Of a name in the file what the module calls it. ``a|1.b`` is the second part of ``a.b``, to be concatenated."""
COUNTER = "num_batches_tracked"


class State:
    """A checkpoint's tensors; it knows which of them a module has taken, so that none is overlooked.

    ``config`` is what a file beside the tensors says of the architecture, where there is one.
    """

    def __init__(self, tensors: Mapping[str, Tensor], where: str, config: Mapping[str, Any] | None = None) -> None:
        self.tensors, self.where, self.config = dict(tensors), where, dict(config or {})
        self._taken: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._tensor(name).shape)

    def take(self, name: str) -> Tensor:
        """As float32."""
        self._taken.add(name)
        return self._tensor(name).float()

    def number(self, name: str, default: float) -> float:
        """A scalar; the default where the file lacks it, or was read without values."""
        if name not in self.tensors:
            return default
        found = self.take(name)
        return default if found.is_meta else float(found.reshape(-1)[0])

    def count(self, pattern: str) -> int:
        """How many tensors have the name ``pattern`` with 0, 1, 2, ... at its braces. UserError: none."""
        found = 0
        while pattern.replace("{}", str(found)) in self.tensors:
            found += 1
        if not found:
            self._tensor(pattern.replace("{}", "0"))
        return found

    def fill(self, module: Module, prefix: str, *, rename: Rename | None = None, unused: Iterable[str] = ()) -> Module:
        """The module with the tensors below ``prefix``, all of which it must have and no other.

        ``unused`` are patterns of names that the file has and the module does not need. UserError names the first
        tensor that is lacking, unknown or of another shape.
        """
        found: dict[str, list[tuple[int, str]]] = {}
        for name in self.tensors:
            inner = name.removeprefix(prefix)
            if not name.startswith(prefix) or any(re.fullmatch(pattern, inner) for pattern in unused):
                continue
            target, _, rest = (rename(inner) if rename else inner).partition("|")
            found.setdefault(target + rest[1:], []).append((int(rest[:1] or 0), name))
        wanted = module.state_dict()
        self._check_names(found, wanted, prefix)
        given: dict[str, Tensor] = {}
        for target, sources in found.items():
            parts = [self.take(name) for _, name in sorted(sources)]
            tensor = torch.cat(parts) if len(parts) > 1 else parts[0]
            if tensor.shape != wanted[target].shape and tensor.numel() == wanted[target].numel():
                tensor = tensor.reshape(wanted[target].shape) if _only_ones(tensor, wanted[target]) else tensor
            if tensor.shape != wanted[target].shape:
                raise UserError(
                    f"{self.where}: {sources[0][1]} has the shape {list(tensor.shape)}, "
                    f"the rest of the file makes it {list(wanted[target].shape)}"
                )
            given[target] = tensor.to(wanted[target].dtype)
        module.load_state_dict(given, strict=False, assign=True)
        return module

    def _check_names(self, found: Mapping[str, list[tuple[int, str]]], wanted: Mapping[str, Any], prefix: str) -> None:
        lacking = [name for name in wanted if name not in found and not name.endswith(COUNTER)]
        unknown = [sources[0][1] for target, sources in found.items() if target not in wanted]
        if lacking or unknown:
            problems = [f"has the unknown tensor {unknown[0]}"] if unknown else []
            problems += [f"lacks the tensor for {prefix}{lacking[0]}"] if lacking else []
            raise UserError(f"{self.where}: the file {' and '.join(problems)}")

    def finish(self, unused: Iterable[str]) -> None:
        """UserError: a tensor that no module took and that is none of the patterns ``unused``."""
        for name in self.tensors:
            if name not in self._taken and not any(re.fullmatch(pattern, name) for pattern in unused):
                raise UserError(f"{self.where}: the file has the unknown tensor {name}")

    def took(self, name: str) -> bool:
        """Whether a module has taken this tensor."""
        return name in self._taken

    def _tensor(self, name: str) -> Tensor:
        if name not in self.tensors:
            raise UserError(f"{self.where}: the file lacks the tensor {name}")
        return self.tensors[name]


def _only_ones(a: Tensor, b: Tensor) -> bool:
    """Whether two shapes differ in dimensions of 1 alone."""
    return [side for side in a.shape if side > 1] == [side for side in b.shape if side > 1]
