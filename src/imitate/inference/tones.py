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
    "native": "equalisation cannot be undone, so the model may perform worse on them",
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
        said = "%s: the gray values are %s, but %s was trained on %s ones: %s"
        log.warning(said, images, found, model, wanted.tone, _WAYS[wanted.tone])


def warn_of_preparation(data: "Corpus", model: str, wanted: "Preprocessing") -> None:
    """Where the square of a prepared folder's images, or their black and white, were made in another way."""
    for key in ("resize", "percentiles"):
        own, learnt = getattr(data, key), getattr(wanted, key)
        if own != learnt:
            log.warning("%s has %s %s, but %s was trained on %s", data.root, key, own, model, learnt)
    warn_of_tone(str(data.root), data.meta.get("tone", "unknown"), model, wanted)


def warn_of_files(flat: int, count: int, model: str, wanted: "Preprocessing") -> None:
    """``flat`` of ``count`` image files are equalised, more than chance makes of native ones."""
    if wanted.tone == "native" and flat > count / 2:
        warn_of_tone(f"{flat} of {count} images", "equalized", model, wanted)


def preparing(wanted: "Preprocessing") -> dict[str, Any]:
    """How image files are brought to what the model learnt from: the options of ``radiograph``."""
    names = {"size": wanted.prepared_size, "resize": wanted.resize, "percentiles": wanted.percentiles}
    return {**names, "equalized": wanted.tone == "equalized"}


def in_words(wanted: "Preprocessing") -> tuple[str, str]:
    """What is done to a DICOM file, and to the gray values of any image, for those who prepare images elsewhere."""
    own = "-" not in wanted.resize  # else the rule of a published encoder
    low, high = wanted.percentiles or (0, 100)
    cut = f"the {low:g}th percentile becomes black, the {high:g}th white"
    stretched = cut if wanted.percentiles else "the darkest pixel becomes black, the lightest white"
    flat = ""
    if wanted.tone == "equalized":  # after the percentiles, and before all else
        flat = f"{cut}; " if wanted.percentiles else ""
        flat += "the histogram is equalised; "
        stretched = "the darkest pixel becomes black, the lightest white"
    if not own and (flat or not wanted.percentiles):
        stretched = "8 bits as they are, others rescaled"
    dicom = "MONOCHROME1 is applied, its window is not" if flat else "its window and MONOCHROME1 are applied"
    return dicom, f"{flat}{'black borders are cut off; ' if own else ''}{stretched}"


def described(wanted: "Preprocessing") -> str:
    """The preprocessing in a sentence, for those who read the file with another program."""
    dicom, gray = in_words(wanted)
    return (
        f"pixels: one frontal chest radiograph, gray, air is dark (of DICOM, {dicom}); {gray}; as values from 0 to 255 "
        f"resized by '{wanted.resize}' to {wanted.prepared_size} px as `imitate prepare` does; the central "
        f"{wanted.image_size} px, scaled to {list(wanted.range)}, less mean {list(wanted.mean)}, divided by std "
        f"{list(wanted.std)}; the gray value in each of {wanted.channels} channels."
    )
