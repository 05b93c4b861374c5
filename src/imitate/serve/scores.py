"""Scores of classes. Sentences are embedded once; an index's images give the percentile of a score."""

import logging
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.inference.base import Seen
from imitate.inference.calibration import UNCALIBRATED, Calibration
from imitate.inference.embeddings import embed_images, embed_texts
from imitate.inference.gallery import image_vectors, text_vectors
from imitate.inference.known_words import remarks
from imitate.inference.predictor import Predictor, Scorer, middle
from imitate.inference.prompts import Prompts, choose_prompts
from imitate.inference.tones import warn_of_preparation
from imitate.names import Branch
from imitate.serve.schema import Pair, Score, Sentence
from imitate.serve.worker import noting

log = logging.getLogger(__name__)
REMEMBERED = 1024  # classes, each with its sentences
COMPARED = 500  # images of the index, of which a percentile has a standard error of 2.3 at most


class Words(NamedTuple):
    """A class as the text encoder knows it, with one vector for each sentence."""

    prompts: Prompts
    positive: Float[np.ndarray, "sentences joint"]
    negative: Float[np.ndarray, "sentences joint"]

    @property
    def difference(self) -> Float[np.ndarray, " joint"]:
        return middle(self.positive) - middle(self.negative)


class Scores:
    def __init__(self, predictor: Predictor, index: Corpus | None = None) -> None:
        self.predictor = predictor
        self.compared: Seen | None = None if index is None else self._compare(index)
        self._words = lru_cache(REMEMBERED)(self._read)

    @property
    def images(self) -> int | None:
        """How many images percentiles are among."""
        return None if self.compared is None else len(next(iter(self.compared.values())))

    def __call__(
        self, seen: Seen, wordings: Mapping[str, str | Pair], *, branch: Branch, temperature: float | None = None
    ) -> list[Score]:
        """A class whose sentences cannot be used has a problem in place of scores; UserError where all have."""
        words, problems = dict[str, Words](), dict[str, str]()
        for name, wording in wordings.items():
            found, notes = self._words(name, wording)
            for note in notes:  # said each time, not only when the words are new
                remarks.warning("%s", note)
            if isinstance(found, Words):
                words[name] = found
            else:
                problems[name] = found
        if not words:
            raise UserError(next(iter(problems.values())))
        scored = self._score(image_vectors(seen, branch), words, branch, temperature)
        return [scored.get(name) or Score(name=name, problem=problems[name]) for name in wordings]

    def _score(
        self, image: Float[np.ndarray, "1 width"], words: Mapping[str, Words], branch: Branch, temperature: float | None
    ) -> dict[str, Score]:
        """With a temperature of the asker's own, nothing is calibrated."""
        prompts = {name: each.prompts for name, each in words.items()}
        differences = text_vectors(np.stack([each.difference for each in words.values()]), branch)
        scorer = Scorer(prompts, temperature or self.predictor.encoder.temperature, differences)
        raw = scorer.scores(image)
        percentiles = self._percentiles(image, differences, branch)
        own = None if temperature is not None else self.predictor.calibration
        calibration = own and own.asked(prompts, branch)
        return {
            name: Score(
                name=name,
                score=float(score),
                percentile=percentile,
                positive=_cosines(each.prompts.positive, each.positive, image, branch),
                negative=_cosines(each.prompts.negative, each.negative, image, branch),
                **_calibrated(calibration, name, float(raw[0, column])),
            )
            for column, ((name, each), score, percentile) in enumerate(
                zip(words.items(), scorer.probabilities(raw)[0], percentiles, strict=True)
            )
        }

    def _percentiles(
        self, image: Float[np.ndarray, "1 width"], differences: Float[np.ndarray, "classes width"], branch: Branch
    ) -> list[float] | list[None]:
        """The percentage of images with a lower score; those with the same count half."""
        if self.compared is None:
            return [None] * len(differences)
        own, others = image @ differences.T, image_vectors(self.compared, branch) @ differences.T
        below: list[float] = (((others < own).mean(0) + (others == own).mean(0) / 2) * 100).tolist()
        return below

    def _read(self, name: str, wording: str | Pair) -> tuple[Words | str, list[str]]:
        """The class, or what is wrong with its words; and notes on them."""
        return noting(lambda: self._embed(name, wording))

    def _embed(self, name: str, wording: str | Pair) -> Words | str:
        encoder = self.predictor.encoder
        assert encoder.text is not None
        try:
            prompts = choose_prompts({name: wording}, encoder.text)[name]
        except UserError as error:
            return str(error)
        vectors = embed_texts(encoder, [*prompts.positive, *prompts.negative], self.predictor.device)
        positive, negative = np.split(vectors, [len(prompts.positive)])
        return Words(prompts, positive, negative)

    def _compare(self, index: Corpus) -> Seen:
        """Evenly chosen images of the index."""
        encoder = self.predictor.encoder
        warn_of_preparation(index, encoder.name, encoder.preprocessing)
        rows = np.linspace(0, len(index) - 1, min(COMPARED, len(index))).round().astype(int)
        log.info("embedding %d images of the index, for the percentiles of scores", len(rows))
        return embed_images(encoder, index, rows, self.predictor.device)


def _calibrated(calibration: Calibration | None, name: str, score: float) -> dict[str, Any]:
    """The fields of a Score that a calibration gives: none of a class that it does not have."""
    if calibration is None:
        return {"provenance": UNCALIBRATED}
    found: dict[str, Any] = {"provenance": calibration.about(name)}
    if calibration.calibrated(name):
        found["probability"] = float(calibration.probabilities(name, np.array([score]))[0])
        if (threshold := calibration.threshold(name)) is not None:
            found |= {"threshold": calibration.threshold_probability(name), "above_threshold": bool(score >= threshold)}
    return found


def _cosines(
    sentences: tuple[str, ...],
    vectors: Float[np.ndarray, "sentences joint"],
    image: Float[np.ndarray, "1 width"],
    branch: Branch,
) -> list[Sentence]:
    cosines = (text_vectors(vectors, branch) @ image[0]).tolist()
    return [Sentence(text=text, cosine=cosine) for text, cosine in zip(sentences, cosines, strict=True)]
