"""``imitate import-reference``: checkpoints of the published code."""

import logging
from pathlib import Path

from imitate.errors import UserError
from imitate.names import AnyPath

log = logging.getLogger(__name__)


def import_reference(checkpoint: AnyPath, /, *, out: AnyPath, text: str | None = None) -> None:
    """Read a checkpoint of the published code into a run folder that every other command takes.

    Args:
        checkpoint: the published model's state dict, or an encoder-only file with torchvision's ResNet-50 names.
        out: run folder to create.
        text: its text encoder, hf:<id>@<revision>; needed for retrieval and zero-shot only.
    """
    from imitate.models.reference import import_published
    from imitate.models.text import fit_or_load, save_text_encoder

    out = Path(out)
    if (out / "model").exists():
        raise UserError(f"{out} already holds a model: choose another --out")
    model = import_published(Path(checkpoint))
    if text is not None:
        encoder = fit_or_load(text, [])
        if encoder.width != model.config.text_width:
            raise UserError(
                f"{text} is {encoder.width} wide, the checkpoint's text head takes {model.config.text_width}"
            )
        save_text_encoder(encoder, out / "text")
    model.save(out / "model")
    log.info("imported to %s", out)
