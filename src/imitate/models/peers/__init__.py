"""Published encoders of other groups: recognised by the tensors of a file, built from their shapes, never from a name.

Each family is a record (``Family``) with a function that builds its network; ``load_peer`` returns a ``Peer``.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from imitate.errors import UserError
from imitate.models.peers import (
    ark,
    biomedclip,
    biovil,
    carzero,
    chexzero,
    clip,
    cxrclip,
    dinov2,
    gloria,
    kad,
    mae,
    medclip,
    medklip,
    mgca,
    plain,
    prior,
    rad_dino,
    siglip,
    xrv,
)
from imitate.models.peers.base import Family, Peer, Shape
from imitate.models.peers.files import SUFFIXES, Checkpoint, read_checkpoint, read_json_file
from imitate.models.peers.state import State
from imitate.models.peers.texts import outputs_of
from imitate.models.peers.tokens import find_tokenizer

FAMILIES: tuple[Family, ...] = (
    chexzero.FAMILY,
    biovil.BIOVIL_T,
    biovil.BIOVIL,
    mgca.FAMILY,
    gloria.FAMILY,
    biomedclip.FAMILY,
    cxrclip.FAMILY,
    medclip.FAMILY,
    medklip.FAMILY,
    kad.FAMILY,
    carzero.FAMILY,
    prior.FAMILY,
    mae.MRM,
    mae.MAE,
    ark.FAMILY,
    dinov2.CHEXFOUND,
    dinov2.DINOV2,
    xrv.DENSENET,
    xrv.RESNET,
    siglip.FAMILY,
    clip.FAMILY,
    rad_dino.FAMILY,
)
"""The more particular ones first."""
PLAIN = plain.FAMILY
WEIGHTS = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""Of a folder, the file to read."""
IMPORTED = "peer.json"
EVERYWHERE = (
    r"(.*\.)?(position_ids|num_batches_tracked|relative_position_index|attn_mask)",
)  # tensors that carry no information


class Found(NamedTuple):
    """A family, and its tensors in a file."""

    family: Family
    state: State
    file: Path


def find_peer(path: Path, *, stubs: bool = False) -> Found | None:
    """What a file or folder holds; None where no family has such tensors, nor most of a family's signs.

    ``stubs``: see ``read_checkpoint``. UserError: no checkpoint; or one that lacks a sign of its family. Of a folder it
    is the first file of a family; what else lies there, such as a text encoder, need not be readable by itself.
    """
    problems: list[UserError] = []
    for file in weights_of(path):
        try:
            found = recognise(read_checkpoint(file, stubs=stubs))
        except UserError as error:
            problems.append(error)
        else:
            if found is not None and (path.is_file() or found.family.name != PLAIN.name):
                return found
    if problems:
        raise problems[0]
    return None


def recognise(checkpoint: Checkpoint) -> Found | None:
    """See ``find_peer``."""
    where, folder = str(checkpoint.path), checkpoint.path.parent
    for family in FAMILIES:
        for tensors in _candidates(family, checkpoint.parts):
            if all(_fits(tensors, name, shape) for name, shape in family.signs.items()) and not any(
                name in tensors for name in family.absent
            ):
                config = read_json_file(folder / "config.json")
                config |= {"preprocessor": read_json_file(folder / "preprocessor_config.json") or None}
                config |= read_json_file(folder / IMPORTED).get("config", {})
                text = _companion(family, checkpoint)
                return Found(family, State({**tensors, **text}, where, config), checkpoint.path)
    for family in FAMILIES:
        for tensors in _candidates(family, checkpoint.parts):
            _check_signs(family, tensors, where)
    for tensors in _candidates(plain.FAMILY, checkpoint.parts):
        if plain.prefix_of(list(tensors)) is not None:
            kind = plain.RELEASE if plain.IMITATE in tensors else PLAIN
            return Found(kind, State(tensors, where), checkpoint.path)
    return None


def build(found: Found) -> Peer:
    """The network with the tensors of the file; UserError names one that is lacking, unknown or of another shape."""
    family, state, _ = found
    state.where = f"{state.where} looks like {family.title}"
    try:
        peer = family.build(state)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # what networks make of numbers that do not fit together
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError(f"{state.where}, but no network has these sizes: {first}") from error
    state.finish([*family.unused, *EVERYWHERE])
    width = outputs_of(peer.head) if peer.head is not None else peer.image.width
    if peer.text is not None and peer.text.width != width:
        raise UserError(f"{state.where}: vectors of images have {width} numbers, those of texts {peer.text.width}")
    return peer.eval().requires_grad_(False)


def is_unused(family: Family, name: str) -> bool:
    """Whether nothing here needs this tensor of the family's files."""
    return any(re.fullmatch(pattern, name) for pattern in (*family.unused, *EVERYWHERE))


def load_peer(path: Path, *, plain: bool = True) -> tuple[Family, Peer] | None:
    """A file or folder as an encoder, which can read where a vocabulary lies beside the weights; None: see above.

    Without ``plain`` a file of a plain image network is none.
    """
    found = find_peer(path)
    if found is None or (found.family.name == PLAIN.name and not plain):
        return None
    peer = build(found)
    for text in filter(None, (peer.text, peer.queries)):
        text.name = found.family.title
        text.tokenizer = find_tokenizer(text.rules.kind, path if path.is_dir() else path.parent)
    return found.family, peer


def averaged_in(folder: Path) -> list[Path]:
    """The checkpoints of a folder that holds several of a family whose authors average them; else nothing.

    UserError: one of them is damaged, or of another family.
    """
    files = weights_of(folder) if folder.is_dir() else []
    if len(files) < 2 or any(file.name in WEIGHTS for file in files):
        return []
    first = find_peer(files[0])
    if first is None or not first.family.averaged:
        return []
    for file in files[1:]:
        other = find_peer(file)
        if other is None or other.family.name != first.family.name:
            raise UserError(
                f"{folder} holds checkpoints of {first.family.title}, but {file.name} is not: move it elsewhere"
            )
    return files


def weights_of(path: Path) -> list[Path]:
    """A file itself; of a folder its files of weights, the usual names first."""
    if not path.is_dir():
        return [path] if path.is_file() else []
    named = [path / name for name in WEIGHTS if (path / name).is_file()]
    return named + sorted(each for each in path.iterdir() if each.suffix in SUFFIXES and each not in named)


def _candidates(family: Family, parts: Mapping[str, Mapping[str, Tensor]]) -> list[dict[str, Tensor]]:
    if family.joined:
        if not all(part in parts for part in family.joined):
            return []
        return [{f"{part}/{name}": tensor for part in family.joined for name, tensor in parts[part].items()}]
    return [dict(parts[part]) for part in family.parts if part in parts]


def _fits(tensors: Mapping[str, Tensor], name: str, shape: Shape) -> bool:
    if name not in tensors or tensors[name].ndim != len(shape):
        return False
    return all(wanted in (None, has) for wanted, has in zip(shape, tensors[name].shape, strict=True))


def _check_signs(family: Family, tensors: Mapping[str, Tensor], where: str) -> None:
    """UserError where a file has most of the signs, so that it is probably one of this family which is damaged."""
    fitting = [name for name, shape in family.signs.items() if _fits(tensors, name, shape)]
    if (
        not family.particular
        or len(fitting) < max(2, len(family.signs) - 1)
        or any(name in tensors for name in family.absent)
    ):
        return
    for name, shape in family.signs.items():
        if name not in tensors:
            raise UserError(f"{where} looks like {family.title}, but the file lacks the tensor {name}")
        if name not in fitting:
            sizes = ", ".join("any" if side is None else str(side) for side in shape)
            raise UserError(
                f"{where} looks like {family.title}, but {name} has the shape {list(tensors[name].shape)}, "
                f"not [{sizes}]"
            )


def _companion(family: Family, checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The tensors of the text encoder: of an imported folder, or of another file beside the checkpoint."""
    if family.companion and "text" in checkpoint.parts:  # imported
        return {f"text/{name}": tensor for name, tensor in checkpoint.parts["text"].items()}
    return text_tensors(family, checkpoint.path.parent, beside=checkpoint.path)


def text_tensors(family: Family, folder: Path, *, beside: Path) -> dict[str, Tensor]:
    """Those of the file in the folder that holds the family's text encoder, with ``text/`` before their names.

    Nothing where there is none, or where the file ``beside`` it holds the text encoder itself.
    """
    for other in sorted(folder.iterdir()) if family.companion and folder.is_dir() else ():
        if other.suffix in SUFFIXES and other != beside:
            try:
                tensors = read_checkpoint(other).parts.get("", {})
            except UserError:
                continue
            if any(name in tensors for name in family.companion):
                return {f"text/{name}": tensor for name, tensor in tensors.items()}
    return {}
