"""Foreign checkpoints as folders of tensors: from then on nothing is unpickled."""

import json
import logging
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from imitate.errors import UserError
from imitate.models import peers
from imitate.models.peers.base import SIDE_KEY
from imitate.models.peers.tokens import ALL_FILES, FILES
from imitate.models.reference import import_published
from imitate.models.text import fit_or_load, save_text_encoder

log = logging.getLogger(__name__)
COPIED = ("config.json", "preprocessor_config.json", "open_clip_config.json")


def import_checkpoint(path: Path, out: Path, *, text: str | None = None, size: int | None = None) -> None:
    """``imitate import``. UserError: the file is none that is known or has images of another size, or ``out`` holds a
    model.
    """
    if (out / "model").exists() or (out / peers.IMPORTED).exists():
        raise UserError(f"{out} already holds a model: choose another --out")
    found = peers.find_peer(path, stubs=True)
    sizes = found.family.sizes if found else ()
    if size is not None and size not in sizes:
        can = f"it can be {' or '.join(map(str, sizes))}" if sizes else "its tensors say what it is"
        raise UserError(f"{path}: images have no side of {size} px here, {can}")
    if found is None or found.family.name == "plain":
        _import_published(path, out, text)
    else:
        _import_peer(found, out, Path(text) if text else found.file.parent, {} if size is None else {SIDE_KEY: size})
    log.info("imported to %s", out)


def _import_peer(found: peers.Found, out: Path, vocabulary: Path, config: dict[str, int]) -> None:
    family, file = found.family, found.file
    if not any(name.startswith("text/") for name in found.state.tensors):
        found.state.tensors.update(peers.text_tensors(family, vocabulary, beside=file))
    tensors = dict(found.state.tensors)
    found.state.config.update(config)
    peer = peers.build(found)  # which refuses what is damaged, before anything is written
    if (side := peer.preprocessing.prepared_size) not in config.values() and config:
        raise UserError(f"{file} is for images of {side} px, as its tensors show: omit --size")
    text = peer.queries or peer.text
    rules = text.rules if text is not None else None
    if rules is not None and not any((vocabulary / name).is_file() for name in FILES[rules.kind]):
        log.warning("%s holds no vocabulary (%s): texts cannot be encoded", vocabulary, family.vocabulary)
    needed = {name for name in tensors if name in family.signs or found.state.took(name)}
    kept = {name: each for name, each in tensors.items() if name in needed or not peers.is_unused(family, name)}
    out.mkdir(parents=True, exist_ok=True)
    copies = {name: tensor.clone().contiguous() for name, tensor in kept.items()}  # of shared storage, too
    save_file(copies, out / peers.WEIGHTS[0])
    for name in COPIED:
        if (file.parent / name).is_file() and (file.parent / name).resolve() != (out / name).resolve():
            shutil.copyfile(file.parent / name, out / name)
    for name in ALL_FILES if rules is not None else ():
        if (vocabulary / name).is_file():
            shutil.copyfile(vocabulary / name, out / name)
    record = {"format_version": 1, "family": family.name, "title": family.title, "licence": family.licence}
    record |= {"file": file.name, **({"config": config} if config else {})}
    (out / peers.IMPORTED).write_text(json.dumps(record, indent=1), encoding="utf-8")
    shutil.copymode(out / peers.IMPORTED, out / peers.WEIGHTS[0])  # else 0600


def _import_published(path: Path, out: Path, text: str | None) -> None:
    """The released IMITATE, or an encoder under torchvision's names, as a run folder."""
    model = import_published(path)
    if text is not None:
        encoder = fit_or_load(text, [])
        if encoder.width != model.config.text_width:
            raise UserError(
                f"{text} has width {encoder.width}, but the checkpoint needs width {model.config.text_width}"
            )
        save_text_encoder(encoder, out / "text")
    with torch.no_grad():
        model.save(out / "model")
