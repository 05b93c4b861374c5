"""What the server does, apart from HTTP: a predictor, the images that it was shown, and the questions put to it."""

import logging
import secrets
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Float

from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.inference.predictor import Predictor
from imitate.inference.prompts import choose_prompts
from imitate.names import Branch
from imitate.serve.examples import Drawing, drawings
from imitate.serve.images import Held, colours, hold, png, read_upload
from imitate.serve.schema import (
    About,
    ClassifyQuestion,
    Example,
    HeatmapQuestion,
    Pair,
    Probability,
    Report,
    ReportsQuestion,
)

log = logging.getLogger(__name__)
HELD = 64  # images, about a megabyte each
MAX_BYTES = 64 * 2**20  # of a file: the largest detectors give 45 MB


class Service:
    """Its methods but ``find`` and ``keep`` take time, and must not run at the same time."""

    def __init__(self, predictor: Predictor, index: Corpus | None = None) -> None:
        if not predictor.encoder.has_text:
            raise UserError(
                f"{predictor.encoder.lacks}, and could answer nothing: keep text/ beside model/, import with --text, "
                "or pre-train with an objective that reads text"
            )
        self.predictor, self.index = predictor, index
        self._uploads: OrderedDict[str, tuple[Held, str]] = OrderedDict()  # the longest unasked first
        drawn = {f"example-{number}": drawing for number, drawing in enumerate(drawings(), 1)}
        self._examples = {id_: hold(drawing.pixels, predictor) for id_, drawing in drawn.items()}
        self.about = self._describe(drawn)
        if index is not None:
            log.info("reading the reports of %d images", len(index))
            self._read_index(index)

    def find(self, id_: str) -> Held | None:
        if id_ in self._uploads:
            self._uploads.move_to_end(id_)
            return self._uploads[id_][0]
        return self._examples.get(id_)

    def keep(self, held: Held, address: str = "") -> str:
        """The id under which it is found. Past HELD images, the address that has most of them loses its oldest."""
        id_ = secrets.token_urlsafe(16)
        self._uploads[id_] = held, address
        if len(self._uploads) > HELD:
            ((largest, _),) = Counter(owner for _, owner in self._uploads.values()).most_common(1)
            del self._uploads[next(each for each, (_, owner) in self._uploads.items() if owner == largest)]
        return id_

    def read(self, content: bytes) -> Held:
        return read_upload(content, self.predictor)

    def classify(self, held: Held, question: ClassifyQuestion) -> list[Probability]:
        """A class whose prompts cannot be used has a problem in place of a probability; UserError where all have."""
        prompts, problems = question.prompts, dict[str, str]()
        if prompts is not None:
            problems = {name: problem for name, each in prompts.items() if (problem := self._problem(name, each))}
            if len(problems) < len(prompts):
                prompts = {name: each for name, each in prompts.items() if name not in problems}
        table = self.predictor.classify(
            held.radiograph, prompts, branch=question.branch, temperature=question.temperature
        )
        found = {str(name): float(value) for name, value in table.iloc[0].items()}
        return [
            Probability(name=name, probability=found.get(name), problem=problems.get(name))
            for name in question.prompts or found
        ]

    def _problem(self, name: str, wording: str | Pair) -> str | None:
        assert self.predictor.encoder.text is not None
        try:
            choose_prompts({name: wording}, self.predictor.encoder.text)
        except UserError as error:
            return str(error)
        return None

    def heatmap(self, held: Held, question: HeatmapQuestion) -> bytes:
        heat = self.predictor.heatmap(held.radiograph, question.phrase, branch=question.branch)
        if question.format == "png":
            return png(colours(heat))
        content = BytesIO()
        np.save(content, heat, allow_pickle=False)
        return content.getvalue()

    def reports(self, held: Held, question: ReportsQuestion) -> list[Report]:
        if self.index is None:
            raise UserError("this server has no reports: start it with --index and a prepared folder")
        found = self.predictor.retrieve(image=held.radiograph, index=self.index, k=question.k, branch=question.branch)
        rows = found.astype(object).where(found.notna(), None).to_dict("records")
        return [Report.model_validate(row) for row in rows]

    def embed_image(self, held: Held, branch: Branch) -> list[list[float]]:
        return _listed(self.predictor.embed_images(held.radiograph, branch=branch))

    def embed_texts(self, texts: Sequence[str], branch: Branch) -> list[list[float]]:
        return _listed(self.predictor.embed_texts(texts, branch=branch))

    def _describe(self, drawn: Mapping[str, Drawing]) -> About:
        examples = [
            Example(id=id_, width=held.width, height=held.height, title=drawn[id_].title, phrase=drawn[id_].phrase)
            for id_, held in self._examples.items()
        ]
        return About(
            model="/".join(Path(self.predictor.encoder.name).parts[-2:]),  # of a path no more than of a hub id
            backbone=self.predictor.encoder.backbone,
            temperature=self.predictor.encoder.temperature,
            index=None if self.index is None else self.index.root.name,
            max_bytes=MAX_BYTES,
            prompts=self._built_in(),
            examples=examples,
        )

    def _built_in(self) -> dict[str, Pair]:
        assert self.predictor.encoder.text is not None
        try:
            chosen = choose_prompts(None, self.predictor.encoder.text)
        except UserError:  # reports of another language: the user brings all words
            return {}
        return {name: Pair(**each.model_dump()) for name, each in chosen.items()}

    def _read_index(self, index: Corpus) -> None:
        """Now, so that nobody waits later; this also finds what a folder lacks."""
        example = next(iter(self._examples.values()))
        branches: tuple[Branch, ...] = ("both", "findings", "impression")
        for branch in branches:
            self.predictor.retrieve(image=example.radiograph, index=index, k=1, branch=branch)


def _listed(vectors: Float[np.ndarray, "rows width"]) -> list[list[float]]:
    listed: list[list[float]] = vectors.tolist()
    return listed
