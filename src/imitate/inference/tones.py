"""How images were prepared, and a warning where a model meets another tone than it learnt from."""

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imitate.config import Preprocessing
    from imitate.data.corpus import Corpus
    from imitate.models.imitate import Imitate

log = logging.getLogger(__name__)
_WAYS = {
    "equalized": "prepare them with --tone equalize",
    "native": "what equalisation took cannot be restored, so the model may do worse on them",
}


def preparation(data: "Corpus", start: "Imitate | None" = None) -> dict[str, Any]:
    """What a model keeps of how its images were made; ``start`` is the model with whose weights it begins."""
    tone = data.meta.get("tone", "unknown")
    if start is not None:
        warn_of_tone(str(data.root), tone, "the model to start from", start.config)
    return {"resize": data.resize, "percentiles": data.percentiles, "tone": tone}


def warn_of_tone(images: str, found: str, model: str, wanted: "Preprocessing") -> None:
    """``images`` are named by their folder, or by how many there are; an unknown tone says nothing."""
    if found != wanted.tone and "unknown" not in (found, wanted.tone):
        said = "%s: the gray values are %s, %s learnt from %s ones: %s"
        log.warning(said, images, found, model, wanted.tone, _WAYS[wanted.tone])


def warn_of_files(flat: int, count: int, model: str, wanted: "Preprocessing") -> None:
    """``flat`` of ``count`` image files are equalised, more than chance makes of native ones."""
    if wanted.tone == "native" and flat > count / 2:
        warn_of_tone(f"{flat} of {count} images", "equalized", model, wanted)


def preparing(wanted: "Preprocessing") -> dict[str, Any]:
    """How image files are brought to what the model learnt from: the options of ``radiograph``."""
    names = {"size": wanted.prepared_size, "resize": wanted.resize, "percentiles": wanted.percentiles}
    return {**names, "equalized": wanted.tone == "equalized"}
