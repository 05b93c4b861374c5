"""Use a trained model: classify, retrieve, explain, embed."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from jaxtyping import Float

from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.inference.base import TEMPERATURE, BaseEncoder
from imitate.inference.calibration import Calibration, calibration_of
from imitate.inference.embeddings import BATCH, embed_images, embed_pixels, embed_texts, require_finite
from imitate.inference.gallery import Gallery, image_vectors, reports, text_vectors
from imitate.inference.inputs import Errors, Images, Reading, radiographs
from imitate.inference.known_words import check_texts
from imitate.inference.opening import open_encoder
from imitate.inference.prompts import Prompts, Wording, choose_prompts
from imitate.inference.radiograph import Radiograph, Source, radiograph, to_original
from imitate.inference.scorer import Scorer, middle
from imitate.inference.tones import preparing, warn_of_files, warn_of_preparation
from imitate.models.hub import local_folder
from imitate.names import Branch

if TYPE_CHECKING:
    from imitate.inference.transform import Transform
    from imitate.models.types import TextEncoder

Index = Corpus | Images
POSITIVE = "positive"  # ends the name of a column of decisions


def load(source: Path | str, *, device: str = "auto", calibration: Path | str | None = None) -> "Predictor":
    """Load a model: a run folder, a model folder within it, an exported folder, ``hf-hub:OWNER/NAME@REVISION``, or the
    file or folder of a published encoder.

    ``calibration`` is a file that ``imitate calibrate`` wrote; default: ``calibration.json`` beside the weights.
    """
    path = local_folder(source)
    encoder, chosen = open_encoder(path, name=str(source), device=device)
    found = calibration_of(encoder, path, None if calibration is None else Path(calibration))
    if calibration is not None:
        encoder.own_prompts = {}  # its classes are asked
    return Predictor(encoder, device=chosen, calibration=found)


class Predictor:
    """A trained model, ready for images and text.

    ::

        import imitate

        model = imitate.load("runs/first")
        model.classify(["a.dcm", "b.png"], {"Effusion": "pleural effusion"})   # DataFrame of probabilities
        model.heatmap("a.dcm", "left pleural effusion")                        # array over the image, 0 to 1
        model.retrieve(image="a.dcm", index="data/open-i", k=5)                # the nearest reports
        model.retrieve(text="small left effusion", index="data/open-i")        # the nearest images
        model.embed_images(paths), model.embed_texts(["No effusion."])         # unit vectors

    Images are paths (DICOM, PNG, JPEG), folders, arrays, tensors, Pillow images, pydicom data sets or open files, one
    or many; many are read as they are needed (docs/python.md). ``branch`` selects the embedding of the image:
    ``findings``, which is aligned with the Findings section of reports, ``impression`` with their Impression;
    ``both`` takes the mean of the two cosines. Research software, not a medical device.
    """

    def __init__(self, encoder: BaseEncoder, *, device: str = "cpu", calibration: Calibration | None = None) -> None:
        self.encoder = encoder
        self.calibration = calibration
        self.device = device
        self._images: dict[str, dict[str, np.ndarray]] = {}
        self._reports: dict[tuple[str, ...], Gallery] = {}

    def __repr__(self) -> str:
        return f"Predictor({', '.join(f'{name}={value!r}' for name, value in self._facts.items())})"

    def _repr_html_(self) -> str:
        """For notebooks."""
        return str(pd.Series(self._facts, name="Predictor").to_frame().to_html())

    @property
    def _facts(self) -> dict[str, str]:
        encoder, known = self.encoder, self.calibration
        return {
            "model": encoder.name,
            "backbone": encoder.backbone,
            "image": f"{encoder.preprocessing.image_size} px",
            "text": encoder.text.name if encoder.text is not None and encoder.has_text else "none",
            "calibration": f"{len(known.classes)} classes on {known.provenance}" if known else "none",
            "device": self.device,
        }

    @property
    def preprocess(self) -> "Transform":
        """A transform for a torch Dataset: turns an image into the tensor that the network reads. Holds no weights."""
        from imitate.inference.transform import Transform

        return Transform(self.encoder.preprocessing)

    def read(self, image: Source) -> Radiograph:
        """Read an image once, to pass it to several methods."""
        wanted = self.encoder.preprocessing
        return radiograph(image, **preparing(wanted))

    def classify(
        self,
        images: Images,
        prompts: Mapping[str, Wording] | Sequence[str] | None = None,
        *,
        branch: Branch = "both",
        temperature: float | None = None,
        decide: bool = False,
        language: str | None = None,
        errors: Errors = "raise",
    ) -> pd.DataFrame:
        """A table with one row for each image and one column for each class. If the model has a calibration of these
        prompts, values are probabilities; ``table.attrs["calibration"]`` states on which images each was fitted.

        Otherwise, and with a ``temperature``, a value is the weight of the positive prompts in a softmax over both
        sides: p = exp(c+ / T) / (exp(c+ / T) + exp(c- / T)), where c is the cosine of the image and the mean of the
        unit vectors of a side, and T is by default the temperature of pre-training. Such values only rank images;
        ``imitate calibrate`` turns them into probabilities. ``prompts`` may be phrases, which also name their classes;
        default: the classes of the calibration, or the built-in ones.

        With ``decide``, a column ``CLASS positive`` states which images reach the threshold of each class.
        ``language`` is that of the built-in prompts and of the sentences around a phrase; default: the language whose
        words the text encoder knows.

        With ``errors="skip"``, an image that cannot be used has a row of NaN and the reason in the column ``reason``,
        which is None for all other images. With ``raise``, it ends the call.
        """
        scorer = self.scorer(prompts, branch=branch, temperature=temperature, language=language)
        reading, seen = self._see(images, errors)
        scores = scorer.scores(image_vectors(seen, branch))
        table = pd.DataFrame(scorer.probabilities(scores).astype(np.float32), columns=list(scorer.prompts))
        if decide:
            table = table.assign(**{f"{name} {POSITIVE}": yes for name, yes in scorer.decisions(scores).items()})
        table = reading.table(table, errors)
        table.attrs["calibration"] = scorer.about
        return table

    def scorer(
        self,
        prompts: Mapping[str, Wording] | Sequence[str] | None = None,
        *,
        branch: Branch = "both",
        temperature: float | None = None,
        language: str | None = None,
    ) -> "Scorer":
        """The part of ``classify`` that follows the embedding of images; the prompts are embedded here, once."""
        if prompts is not None and not isinstance(prompts, Mapping):
            prompts = {each: each for each in ([prompts] if isinstance(prompts, str) else prompts)}
        own = None if temperature is not None else self.calibration
        if prompts is None and language is None:
            prompts = self.encoder.own_prompts or (None if own is None else own.prompts)
        temperature = self.encoder.temperature if temperature is None else temperature
        if not temperature > 0:
            raise UserError(f"temperature {temperature} must be above 0, e.g. {TEMPERATURE}")
        chosen = self._chosen(prompts, language)
        sides = [(self._middle(each.positive), self._middle(each.negative)) for each in chosen.values()]
        difference = np.stack([positive - negative for positive, negative in sides])
        asked = None if own is None else own.asked(chosen, branch)
        return Scorer(chosen, temperature, text_vectors(difference, branch), asked)

    def retrieve(
        self,
        *,
        image: Source | None = None,
        text: str | None = None,
        index: Index,
        k: int = 5,
        branch: Branch = "both",
    ) -> pd.DataFrame:
        """The ``k`` nearest texts of an image, or the ``k`` nearest images of a text, by cosine.

        ``index`` is a prepared folder, in which identical reports count once, or a list of texts (for an image) or of
        images (for a text). The vectors of a prepared folder are kept for the next call.
        """
        if (image is None) == (text is None):
            raise UserError("retrieve needs either an image, to find texts, or a text, to find images")
        if k < 1:
            raise UserError(f"k {k} must be at least 1")
        if image is not None:
            query, gallery = image_vectors(self._see(self.read(image))[1], branch), self._texts_of(index, branch)
        else:
            query, gallery = text_vectors(self._read([str(text)]), branch), self._images_of(index, branch)
        return gallery.nearest(query[0], k)

    def heatmap(self, image: Source, text: str, *, branch: Branch = "both") -> Float[np.ndarray, "height width"]:
        """Which positions of the original image contribute to its similarity with the text; see docs/heatmaps.md.

        1 marks the largest contribution, 0 none or a negative one; if no position contributes, all values are 0. Each
        map has its own scale, so its values do not show how probable the finding is.
        """
        if not self.encoder.has_maps:
            raise UserError(f"{self.encoder.name} has no heat-maps, which need gradients: use the exported run")
        from imitate.inference.heatmap import map_of

        seen = self.read(image)
        density = map_of(self.encoder.to(self.device), seen.pixels, self._read([text]), branch)
        require_finite(density, self.encoder, "heat-maps")
        density = density.clip(min=0)
        margin = (len(seen.pixels) - len(density)) // 2
        square = np.zeros(seen.pixels.shape, np.float32)
        square[margin : margin + len(density), margin : margin + len(density)] = density
        whole = to_original(square, seen.geometry)
        return whole / whole.max() if whole.max() > 0 else whole

    def similarity(
        self, images: Images, texts: str | Sequence[str], *, branch: Branch = "both", errors: Errors = "raise"
    ) -> pd.DataFrame:
        """Cosines, with a row for each image and a column for each text. ``errors`` works as in ``classify``."""
        read = self.embed_texts(texts, branch=branch)
        reading, seen = self._embed(images, branch, errors)
        columns = [texts] if isinstance(texts, str) else list(texts)
        return reading.table(pd.DataFrame(seen @ read.T, columns=columns), errors)

    def embed_images(
        self, images: Images, *, branch: Branch = "both", errors: Errors = "raise"
    ) -> Float[np.ndarray, "images width"]:
        """Unit vectors. Those of ``both`` are twice as wide; their product with a text's is the mean of both cosines.

        With ``errors="skip"``, an image that cannot be used has a row of NaN, and a warning states the reason.
        """
        reading, seen = self._embed(images, branch, errors)
        return reading.rows(seen)

    def embed_texts(self, texts: str | Sequence[str], *, branch: Branch = "both") -> Float[np.ndarray, "texts width"]:
        """Unit vectors, whose products with those of images of the same branch are cosines."""
        return text_vectors(self._read([texts] if isinstance(texts, str) else list(texts)), branch)

    @property
    def text(self) -> "TextEncoder":
        """The text encoder. UserError: the model has none."""
        if self.encoder.text is None or not self.encoder.has_text:
            raise UserError(
                f"{self.encoder.lacks}, and can only embed images: keep text/ beside model/, import with --text, "
                "or pre-train with an objective that reads text"
            )
        return self.encoder.text

    def _embed(
        self, images: Images, branch: Branch, errors: Errors
    ) -> tuple[Reading, Float[np.ndarray, "usable width"]]:
        reading, seen = self._see(images, errors)
        return reading, image_vectors(seen, branch)

    def _see(self, images: Images, errors: Errors = "raise") -> tuple[Reading, dict[str, np.ndarray]]:
        """What is known of the images, and the vectors of those that can be used."""
        wanted = self.encoder.preprocessing
        reading = Reading(radiographs(images, errors=errors, **preparing(wanted)), wanted.prepared_size)
        total = len(images) if isinstance(images, list | tuple) else None
        vectors = embed_pixels(self.encoder, reading.batches(BATCH), self.device, total=total)
        usable = len(reading.usable)
        warn_of_files(reading.flat, usable, self.encoder.name, wanted)
        return reading, {name: each[:usable] for name, each in vectors.items()}

    def _texts_of(self, index: Index, branch: Branch) -> Gallery:
        found = self._opened(index)
        if not isinstance(found, Corpus):
            sentences = [str(text) for text in cast(Iterable[Any], found)]
            return Gallery(pd.DataFrame({"text": sentences}), text_vectors(self._read(sentences), branch))
        key = (self.text.identity, found.meta["fingerprint"], branch)
        if key not in self._reports:
            self._reports[key] = reports(self.encoder, found, branch, self.device)
        return self._reports[key]

    def _images_of(self, index: Index, branch: Branch) -> Gallery:
        found = self._opened(index)
        if not isinstance(found, Corpus):
            reading, seen = self._see(found)
            return Gallery(pd.DataFrame({"image": reading.names}), image_vectors(seen, branch))
        key = found.meta["fingerprint"]
        if key not in self._images:
            warn_of_preparation(found, self.encoder.name, self.encoder.preprocessing)
            self._images[key] = embed_images(self.encoder, found, np.arange(len(found)), self.device)
        table = found.table[["image_id", "projection"]].assign(**found.reports())
        return Gallery(table, image_vectors(self._images[key], branch))

    def _opened(self, index: Index) -> Corpus | Images:
        wanted = self.encoder.preprocessing
        return Corpus.open(Path(index), size=wanted.prepared_size) if isinstance(index, str | Path) else index

    def _read(self, texts: Sequence[str]) -> Float[np.ndarray, "texts joint"]:
        check_texts(texts, self.text)
        return embed_texts(self.encoder, list(texts), self.device)

    def _chosen(self, prompts: Mapping[str, Wording] | None, language: str | None) -> dict[str, Prompts]:
        """As the text encoder can read them; without one, the classes whose vectors are known."""
        own = self.encoder.own_prompts
        if self.encoder.text is None and prompts == own:
            return {name: Prompts(**each) for name, each in own.items()}
        return choose_prompts(prompts, self.text, language=language)

    def _middle(self, texts: tuple[str, ...]) -> Float[np.ndarray, " joint"]:
        known = self.encoder.known_side(texts)
        return middle(embed_texts(self.encoder, list(texts), self.device)) if known is None else known
