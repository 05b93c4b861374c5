"""What the server does, apart from HTTP: a predictor, the images that it was shown, and the questions put to it."""

import logging
import secrets
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np

from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.inference.base import Seen
from imitate.inference.calibration import Calibration
from imitate.inference.embeddings import embed_pixels
from imitate.inference.gallery import Gallery, image_vectors, reports
from imitate.inference.predictor import Predictor
from imitate.inference.prompts import Prompts, choose_prompts, plain
from imitate.names import Branch
from imitate.serve.examples import Drawing, drawings
from imitate.serve.images import Held, coarse, colours, hold, png, read_upload
from imitate.serve.schema import (
    About,
    Calibrated,
    ClassifyQuestion,
    Example,
    Groups,
    HeatmapQuestion,
    Pair,
    Report,
    ReportsQuestion,
    Score,
    Uploaded,
)
from imitate.serve.scores import Scores

log = logging.getLogger(__name__)
HELD = 64  # images
HELD_BYTES = 2**30  # of all of them, compressed
MAX_BYTES = 64 * 2**20  # of a file: the largest detectors give 45 MB


class Service:
    """Its methods but ``find`` and ``keep`` take time, and must not run at the same time."""

    def __init__(self, predictor: Predictor, index: Corpus | None = None, groups: Groups | None = None) -> None:
        if not predictor.encoder.has_text:
            raise UserError(
                f"{predictor.encoder.lacks}, and nothing could be shown: keep text/ beside model/, import with --text, "
                "or pre-train with an objective that reads text"
            )
        predictor.encoder.name = "/".join(Path(predictor.encoder.name).parts[-2:])  # what clients read names no path
        self.predictor, self.index, self.groups = predictor, index, groups
        self._uploads: OrderedDict[str, tuple[Held, str]] = OrderedDict()  # the longest unasked first
        self._reports: dict[Branch, Gallery] = {} if index is None else self._read_index(index)
        self.scores = Scores(predictor, index)
        synthetic = {f"example-{number}": drawing for number, drawing in enumerate(drawings(), 1)}
        self._examples = {id_: hold(drawing.pixels, predictor) for id_, drawing in synthetic.items()}
        self.about = self._describe(synthetic)

    def find(self, id_: str) -> Held | None:
        if id_ in self._uploads:
            self._uploads.move_to_end(id_)
            return self._uploads[id_][0]
        return self._examples.get(id_)

    def keep(self, held: Held, address: str = "") -> str:
        """The id under which it is found. Past the limits, the address that has most of them loses its oldest."""
        id_ = secrets.token_urlsafe(16)
        self._uploads[id_] = held, address
        while len(self._uploads) > HELD or (self._size() > HELD_BYTES and len(self._uploads) > 1):
            ((largest, _),) = Counter(owner for _, owner in self._uploads.values()).most_common(1)
            self.forget(next(each for each, (_, owner) in self._uploads.items() if owner == largest))
        return id_

    def forget(self, id_: str) -> bool:
        """Whether there was such an upload."""
        return self._uploads.pop(id_, None) is not None

    def _size(self) -> int:
        return sum(held.size for held, _ in self._uploads.values())

    def read(self, content: bytes) -> Held:
        return read_upload(content, self.predictor)

    def seen(self, held: Held) -> Seen:
        """Its vectors, computed once."""
        if held.seen is None:
            predictor = self.predictor
            held.seen = embed_pixels(predictor.encoder, [held.radiograph.pixels[None]], predictor.device)
        return held.seen

    def classify(self, held: Held, question: ClassifyQuestion) -> list[Score]:
        """UserError where no class can be scored."""
        prompts = self.about.prompts if question.prompts is None else question.prompts
        if not prompts:
            raise UserError(
                "the model knows the words of none of the built-in classes: give prompts in the words of the reports"
            )
        return self.scores(self.seen(held), prompts, branch=question.branch, temperature=question.temperature)

    def heatmap(self, held: Held, question: HeatmapQuestion) -> bytes:
        small = question.format == "png"
        radiograph = coarse(held.radiograph) if small else held.radiograph
        heat = self.predictor.heatmap(radiograph, question.phrase, branch=question.branch)
        if small:
            return png(colours(heat))
        content = BytesIO()
        np.save(content, heat, allow_pickle=False)
        return content.getvalue()

    def reports(self, held: Held, question: ReportsQuestion) -> list[Report]:
        if self.index is None:
            raise UserError("this server has no reports: start it with --index and a prepared folder")
        found = self._reports[question.branch].nearest(image_vectors(self.seen(held), question.branch)[0], question.k)
        rows = found.astype(object).where(found.notna(), None).to_dict("records")
        return [Report.model_validate(row) for row in rows]

    def embed_image(self, held: Held, branch: Branch) -> list[list[float]]:
        vectors: list[list[float]] = image_vectors(self.seen(held), branch).tolist()
        return vectors

    def embed_texts(self, texts: Sequence[str], branch: Branch) -> list[list[float]]:
        vectors: list[list[float]] = self.predictor.embed_texts(texts, branch=branch).tolist()
        return vectors

    def _describe(self, synthetic: Mapping[str, Drawing]) -> About:
        calibration = self.predictor.calibration
        examples = [
            Example(**describe(id_, held).model_dump(), title=synthetic[id_].title, phrase=synthetic[id_].phrase)
            for id_, held in self._examples.items()
        ]
        return About(
            model=self.predictor.encoder.name,
            backbone=self.predictor.encoder.backbone,
            temperature=self.predictor.encoder.temperature,
            index=None if self.index is None else self.index.root.name,
            compared=self.scores.images,
            max_bytes=MAX_BYTES,
            maps=self.predictor.encoder.has_maps,
            branch=calibration.branch if calibration and calibration.branch else "both",
            calibration=None if calibration is None else _describe_calibration(calibration),
            groups=self.groups,
            prompts=self._prompts(),
            examples=examples,
        )

    def _prompts(self) -> dict[str, Pair]:
        """Those of the calibration, the model's own, and the built-in ones of other classes that it has words for."""
        assert self.predictor.encoder.text is not None
        calibration = self.predictor.calibration
        prompts = {name: Prompts(**each) for name, each in self.predictor.encoder.own_prompts.items()}
        prompts = {**(calibration.prompts if calibration else {}), **prompts}
        named = {plain(name) for name in prompts}
        with suppress(UserError):  # reports of another language: the user brings all words
            built_in = choose_prompts(None, self.predictor.encoder.text)
            prompts |= {name: each for name, each in built_in.items() if plain(name) not in named}
        return {name: Pair(**each.model_dump()) for name, each in prompts.items()}

    def _read_index(self, index: Corpus) -> dict[Branch, Gallery]:
        """Now, so that nobody waits later; this also finds what a folder lacks."""
        log.info("reading the reports of %d images", len(index))
        predictor = self.predictor
        branches: tuple[Branch, ...] = ("both", "findings", "impression")
        return {branch: reports(predictor.encoder, index, branch, predictor.device) for branch in branches}


def describe(id_: str, held: Held) -> Uploaded:
    return Uploaded(id=id_, width=held.width, height=held.height, pixels=held.pixels)


def _describe_calibration(calibration: Calibration) -> Calibrated:
    points = {name: calibration.operating(name) for name in calibration.classes}
    return Calibrated(
        provenance=calibration.provenance,
        branch=calibration.branch,
        operating={name: point for name, point in points.items() if point is not None},
    )
