"""``imitate import-reference``: checkpoints of the published code."""

import logging
from pathlib import Path

from imitate.errors import UserError
from imitate.names import AnyPath

log = logging.getLogger(__name__)


def import_reference(checkpoint: AnyPath, /, *, out: AnyPath, text: str | None = None) -> None:
    """Convert a checkpoint of the published code to a run folder, which all other commands accept.

    Args:
        checkpoint: State dict of the published model, or of its encoder alone with torchvision's ResNet-50 names.
        out: The run folder to create.
        text: The text encoder of the checkpoint, hf:<id>@<revision>; only retrieval and zero-shot need it.
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
                f"{text} has width {encoder.width}, the checkpoint needs a text encoder of {model.config.text_width}"
            )
        save_text_encoder(encoder, out / "text")
    model.save(out / "model")
    log.info("imported to %s", out)
