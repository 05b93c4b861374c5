"""Checkpoints of other groups as tensors: safetensors, torch files, and pickles that need an unpickler of our own."""

import json
import pickle
import re
import tarfile
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor

from imitate.errors import UserError

SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".tar")
STUBS = (
    r"pytorch_lightning\..+",
    r"omegaconf\..+",
    r"torchxrayvision\.models\..+",
    r"torch\.nn\.modules\..+",
    r"typing\.Any",
    r"argparse\.Namespace",
    r"numpy\.(_?core\.multiarray\.(scalar|_reconstruct)|dtype|ndarray)",
    r"_codecs\.encode",
)
"""What published files refer to beside tensors; a stand-in takes its place, which does nothing."""
ALLOWED: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "collections.defaultdict": defaultdict,
    "torch._utils._rebuild_tensor": lambda *given: torch._utils._rebuild_tensor(*given),
    "torch._utils._rebuild_tensor_v2": lambda *given: torch._utils._rebuild_tensor_v2(*given),
    "torch._utils._rebuild_parameter": lambda *given: torch._utils._rebuild_parameter(*given),
    "torch.Size": torch.Size,
    "torch.device": torch.device,
}
"""What may be called, torch's functions behind ours: a pickle can set attributes of what it names."""
PLAIN = (dict, list, set, frozenset, tuple, int, float, bool, str, bytes, bytearray, complex)
ALLOWED |= {f"builtins.{kind.__name__}": kind for kind in PLAIN}
DEPTH = 6  # dictionaries within dictionaries that tensors are looked for in


class Checkpoint(NamedTuple):
    """``parts`` are the dictionaries of tensors within a file, by name; "" those that lie in no other."""

    path: Path
    parts: Mapping[str, Mapping[str, Tensor]]


class Stub:
    """Stands for an object of a class that is not here; it keeps its state and does nothing."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            self.__dict__.update({str(key): value for key, value in state.items()})


def read_checkpoint(path: Path, *, stubs: bool = False) -> Checkpoint:
    """The tensors of a file. With ``stubs`` it may also refer to what ``STUBS`` lists; nothing of it is ever run.

    UserError: no file of tensors; or it refers to something else, which is named.
    """
    if not path.is_file():
        raise UserError(f"no checkpoint at {path}")
    content = load_file(path) if path.suffix == ".safetensors" else _unpickled(path, stubs)
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in _tensors(content, "", 0):
        part, _, inner = name.rpartition("/")
        parts.setdefault(part, {})[inner] = tensor
    if not parts:
        raise UserError(f"{path} holds no tensors")
    return Checkpoint(path, {name: _without_parallel(part) for name, part in parts.items()})


def read_json_file(path: Path) -> dict[str, Any]:
    """Nothing where there is no such file. UserError: it is none of JSON."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is not a JSON file: {error}") from error
    return found if isinstance(found, dict) else {}


def _unpickled(path: Path, stubs: bool) -> Any:
    _check_kind(path)
    try:
        return torch.load(path, "cpu", weights_only=True)
    except Exception as error:
        if not stubs:  # torch's own text may advise to run the file
            named = re.search(r"GLOBAL (\S+) was not", str(error))
            hint = f"imitate import {path} --out FOLDER reads it without running it"
            why = f"it refers to {named[1]}: {hint}" if named else "it is damaged, or no checkpoint"
            raise UserError(f"{path} is not a file of plain tensors: {why}") from error
    try:
        return torch.load(path, "cpu", weights_only=False, pickle_module=_module(path))
    except UserError:
        raise
    except Exception as error:  # on a foreign file the unpickler may raise anything
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError(f"{path} is not a checkpoint: {first}") from error


def _check_kind(path: Path) -> None:
    """UserError where torch would read a file in a way that runs code of it."""
    if tarfile.is_tarfile(path):
        raise UserError(f"{path} is an archive: unpack it, and give the checkpoint within")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("constants.pkl") for name in archive.namelist()):
                raise UserError(f"{path} is a TorchScript program, not a checkpoint: it is not run")


def _module(path: Path) -> Any:
    """What torch takes in place of ``pickle``."""

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            whole = f"{module.replace('__builtin__', 'builtins')}.{name}"
            if whole in ALLOWED:
                return ALLOWED[whole]
            if any(re.fullmatch(pattern, whole) for pattern in STUBS):
                return type(name, (Stub,), {"__module__": module})
            raise UserError(f"{path} refers to {whole}, which no published checkpoint needs: it is not read")

    def load(file: Any, **options: Any) -> Any:
        return Unpickler(file, **options).load()

    return SimpleNamespace(Unpickler=Unpickler, load=load, __name__="pickle")


def _tensors(content: Any, where: str, depth: int) -> Iterator[tuple[str, Tensor]]:
    """Each with ``PART/`` before its name where it lies within a dictionary, or within a stand-in of a module."""
    if isinstance(content, Stub):
        yield from ((f"{where}/{name}" if where else name, tensor) for name, tensor in _of_module(content, ""))
    elif isinstance(content, Mapping) and depth < DEPTH:
        for key, value in content.items():
            name = f"{where}/{key}" if where else str(key)
            if isinstance(value, Tensor):
                yield name, value.detach()
            elif isinstance(key, str) and (isinstance(value, Mapping | Stub)):
                yield from _tensors(value, name, depth + 1)


def _of_module(module: Stub, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """The state dict of a torch module that was pickled whole."""
    for kind in ("_parameters", "_buffers"):
        for name, tensor in (getattr(module, kind, None) or {}).items():
            if isinstance(tensor, Tensor):
                yield f"{prefix}{name}", tensor.detach()
    for name, inner in (getattr(module, "_modules", None) or {}).items():
        if isinstance(inner, Stub):
            yield from _of_module(inner, f"{prefix}{name}.")


def _without_parallel(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefix that training on several devices adds to every name."""
    every = all(name.startswith("module.") for name in tensors)
    return {name.removeprefix("module.") if every else name: tensor for name, tensor in tensors.items()}
