"""Zero-shot classification: a radiograph against what a report would say with and without each finding."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor
from torch.nn.functional import normalize

from imitate.data.corpus import Corpus
from imitate.data.languages import report_language
from imitate.errors import Lacking, UserError
from imitate.inference.base import of_branch
from imitate.inference.embeddings import BATCH, embed_images, embed_texts
from imitate.inference.encoder import Encoder
from imitate.inference.known_words import encoder_language
from imitate.inference.label_texts import own_prompts
from imitate.inference.peer import PeerEncoder, PeerEnsemble
from imitate.inference.prompts import (
    Prompts,
    built_in_languages,
    built_in_prompts,
    known_prompts,
    matching,
    read_prompts,
)
from imitate.models.types import TextEncoder
from imitate.names import Mode
from imitate.statistics import metrics
from imitate.statistics.thresholds import (
    accuracy,
    balanced_accuracy,
    best_threshold,
    called,
    called_at_max_f1,
    matthews,
    of,
)
from imitate.tasks.base import Budget, Predictions
from imitate.tasks.classes import AT_THRESHOLD, RANKING, OfClasses, of_exclusive
from imitate.tasks.fitting import batches, pixels
from imitate.tasks.options import ZeroShotOptions
from imitate.tasks.studies import mean

log = logging.getLogger(__name__)


class ZeroShot(ZeroShotOptions, OfClasses):
    """The score of a class is cos(image, its positive prompts) - cos(image, its negative ones).

    - ``ensemble``: the prompts of one side count by the mean of their unit vectors, by their mean cosine, or by the
      best one (GLoRIA).
    - ``scoring``: the margin, or the positive side alone, by which publications choose one of several classes;
      ``standardised``, then each class is z-scored over the test images, which only the accuracy feels (GLoRIA).
    - ``threshold`` of F1, accuracy, balanced accuracy and Matthews correlation of yes or no: ``oracle`` has the best F1
      of each class on the test images, as MedKLIP and its successors choose it, ``val`` on those of that split (a class
      that has only one label there has none), ``even`` is a margin of 0.
    - ``unit``: study, the score is the mean of those of its images, before a threshold is chosen.

    Where the classes exclude each other, the metrics of the highest score come with them. A class of which the split
    knows no label, or whose prompts the text encoder cannot express, takes no part.
    """

    name: ClassVar[str] = "zero-shot"
    version: ClassVar[int] = 2  # only what the text encoder can express
    modes: ClassVar[tuple[Mode, ...]] = ("clean",)  # what publications do differently are settings
    title: ClassVar[str] = "Zero-shot classification"
    needs: ClassVar[frozenset[str]] = frozenset({"labels", "text"})
    trains: ClassVar[bool] = False
    headline: ClassVar[str] = "auroc"
    beside: ClassVar[tuple[str, ...]] = ("average-precision", "accuracy")
    names: ClassVar[Mapping[str, str]] = {
        **OfClasses.names,
        "oracle-max-f1": "F1 at the best threshold (oracle)",
        "oracle-accuracy": "accuracy at the best F1 (oracle)",
        "oracle-balanced-accuracy": "balanced accuracy at the best F1 (oracle)",
        "oracle-mcc": "Matthews correlation at the best F1 (oracle)",
        "threshold-accuracy": "accuracy at the threshold",
    }

    def predict(self, encoder: Encoder, data: Corpus, budget: Budget) -> Predictions:
        settings = self._as_authors(encoder) if self.authors else self
        data = self.selected(data)
        rows = data.rows(self.split)
        labels = dict(zip(data.classes, data.labels.T, strict=True))
        prompts = {
            label: each
            for label, each in self._prompts(encoder, data).items()
            if not np.isnan(labels[label][rows]).all()
        }
        if not prompts:
            raise UserError(f"{data.root} has no label in split {self.split!r}: choose another split")
        target = np.stack([labels[label] for label in prompts], axis=1)
        asked = list(prompts.values())
        found = settings._scored(encoder, data, rows, target, asked, budget)
        if self.threshold != "oracle":
            found["called"] = found["score"] > 0
        if self.threshold == "val":
            held = settings._scored(encoder, data, data.rows("val"), target, asked, budget)
            columns = zip(held["target"].T, held["score"].T, strict=True)
            at = np.array([best_threshold(*column) for column in columns])
            found["called"] = np.where(np.isnan(at), np.nan, found["score"] >= at)
            if lacking := [name for name, value in zip(prompts, at, strict=True) if np.isnan(value)]:
                log.warning(
                    "validation images of both labels are lacking, so without threshold: %s", ", ".join(lacking)
                )
        return {**found, "classes": np.array(list(prompts))}

    def _scored(
        self,
        encoder: Encoder,
        data: Corpus,
        rows: np.ndarray,
        target: np.ndarray,
        prompts: list[Prompts],
        budget: Budget,
    ) -> Predictions:
        """Of the images of these rows, or of their studies."""
        found = {"target": target[rows], "score": self._scores(encoder, data, rows, prompts, budget)}
        return self.by_unit(found, data.table.iloc[rows], mean)

    def _prompts(self, encoder: Encoder, data: Corpus) -> dict[str, Prompts]:
        """The authors' templates, where these are asked for and there are any."""
        theirs = encoder.scoring if self.authors else None
        if theirs is None or not theirs.positive or self.prompts is not None:
            return class_prompts(data, self.prompts, encoder.text, language=self.language)
        made = {
            name: {
                "positive": tuple(each.format(name) for each in theirs.positive),
                "negative": tuple(each.format(name) for each in theirs.negative),
            }
            for name in data.classes
        }
        return {name: Prompts(**sides) for name, sides in made.items()}

    def _as_authors(self, encoder: Encoder) -> "ZeroShot":
        """With the ensemble and the scoring of the encoder's authors. UserError: it has none."""
        if encoder.scoring is None:
            raise Lacking(f"{encoder.name} has no scoring of its authors: omit --authors")
        if self.threshold == "even" and encoder.scoring.scoring != "margin":
            raise UserError(f"threshold even is a margin of 0, which the authors of {encoder.name} do not have")
        return self.model_copy(update={"ensemble": encoder.scoring.ensemble, "scoring": encoder.scoring.scoring})

    def _scores(
        self, encoder: Encoder, data: Corpus, rows: np.ndarray, prompts: list[Prompts], budget: Budget
    ) -> np.ndarray:
        """(images, classes); of several checkpoints the mean probability, less a half."""
        if isinstance(encoder, PeerEnsemble):
            each = [self._scores(member, data, rows, prompts, budget) for member in encoder.members()]
            return np.asarray(np.mean([expit(margin) for margin in each], axis=0) - 0.5)
        if self.authors and isinstance(encoder, PeerEncoder) and encoder.asks:
            return self._standardised(self._decoded(encoder, data, rows, prompts, budget)).cpu().numpy()
        sides = [
            [
                torch.from_numpy(embed_texts(encoder, list(side), budget.device)).to(budget.device)
                for side in (each.positive, each.negative)
            ]
            for each in prompts
        ]
        embedded = of_branch(embed_images(encoder, data, rows, budget.device), self.branch)
        images = [torch.from_numpy(each).to(budget.device) for each in embedded]
        margin = self.scoring == "margin"
        if self.ensemble == "embedding":
            middles = [[normalize(side.mean(0), dim=0) for side in each] for each in sides]
            directions = torch.stack([positive - negative if margin else positive for positive, negative in middles])
            found = torch.stack([vectors @ directions.T for vectors in images]).mean(0)
        else:
            pairs = [[self._cosine(images, side) for side in each] for each in sides]
            found = torch.stack([positive - negative if margin else positive for positive, negative in pairs], dim=1)
        return self._standardised(found).cpu().numpy()

    def _decoded(
        self, encoder: PeerEncoder, data: Corpus, rows: np.ndarray, prompts: list[Prompts], budget: Budget
    ) -> Tensor:
        """By what the authors compare images and prompts with, of the positive side alone.

        Where classes are asked together, so are those of the prompts' file that the data do not have.
        """
        every = list(prompts)
        if encoder.together and self.prompts is not None:
            every += [each for each in read_prompts(self.prompts).values() if each not in prompts]
        asked = [each.positive[:1] if encoder.together else each.positive for each in every]
        encoder.to(budget.device)
        read = encoder.ask([prompt for each in asked for prompt in each])
        parts = [encoder.decode(pixels(data, some, budget.device), read) for some in batches(rows, BATCH)]
        of_classes = torch.cat(parts).float().split([len(each) for each in asked], 1)
        return torch.stack([self._joined(each) for each in of_classes[: len(prompts)]], 1)

    def _joined(self, scores: Tensor) -> Tensor:
        """Those of several prompts, in the last dimension."""
        return scores.amax(-1) if self.ensemble == "max" else scores.mean(-1)

    def _standardised(self, scores: Tensor) -> Tensor:
        if self.scoring != "standardised":
            return scores
        return (scores - scores.mean(0)) / scores.std(0, correction=0).clamp(min=torch.finfo(scores.dtype).tiny)

    def _cosine(self, images: list[Tensor], prompts: Tensor) -> Tensor:
        """Of each image with the prompts of one side, the mean over the sections of the branch."""
        cosines = torch.stack([vectors @ prompts.T for vectors in images])
        return self._joined(cosines).mean(0)

    def resample(self, predictions: Predictions, counts: np.ndarray) -> dict[str, np.ndarray]:
        target, score, classes = predictions["target"], predictions["score"], predictions["classes"].tolist()
        found: dict[str, np.ndarray] = {}
        ranked = RANKING if "called" in predictions else RANKING | ORACLES
        for name, metric in ranked.items():
            found |= metrics.per_class(name, metric, target, score, classes, counts, least=self.macro_least)
        if "called" in predictions:
            found |= self._divided(predictions, counts)
        return found | of_exclusive(target, score, counts)

    def _divided(self, predictions: Predictions, counts: np.ndarray) -> dict[str, np.ndarray]:
        """NaN of a class without a threshold, which takes no part in macro averages."""
        target, called, names = predictions["target"], predictions["called"], predictions["classes"]
        decided = ~np.isnan(called).any(0)
        found: dict[str, np.ndarray] = {}
        for name, metric in DIVIDED.items():
            found |= {each: np.full(len(counts), np.nan) for each in (name, *(f"{name}/{label}" for label in names))}
            if decided.any():
                some = target[:, decided], called[:, decided], names[decided].tolist()
                found |= metrics.per_class(name, metric, *some, counts, least=self.macro_least)
        return found

    def chance(self, predictions: Predictions) -> dict[str, float]:
        """Of a constant score, and of a constant yes or no where its level does not depend on which of them it is."""
        constant: Predictions = {
            key: np.zeros_like(predictions[key]) for key in ("score", "called") if key in predictions
        }
        found, excluded = self.measure({**predictions, **constant}), DIVIDED.keys() - AT_THRESHOLD.keys()
        return {name: level for name, level in found.items() if name.partition("/")[0] not in excluded}


ORACLES: dict[str, Callable[..., metrics.Metric]] = {
    "oracle-max-f1": metrics.max_f1,
    "oracle-accuracy": of(called_at_max_f1, accuracy),
    "oracle-balanced-accuracy": of(called_at_max_f1, balanced_accuracy),
    "oracle-mcc": of(called_at_max_f1, matthews),
}
DIVIDED: dict[str, Callable[..., metrics.Metric]] = {
    "f1": metrics.f1,
    "threshold-accuracy": of(called, accuracy),
    **AT_THRESHOLD,
}


def class_prompts(
    data: Corpus,
    path: Path | None,
    encoder: TextEncoder | None = None,
    *,
    classes: Sequence[str] | None = None,
    language: str | None = None,
) -> dict[str, Prompts]:
    """The prompts of those classes (by default all of the data's) that have any that the encoder can express; others
    are warned of.

    Built-in ones are in ``language``, by default that of the encoder's words, else of the data's reports. UserError
    where no class has any, or a file holds no valid prompts.
    """
    reports = report_language(data)
    spoken = "" if path else language or encoder_language(encoder, built_in_languages(), reports=reports)
    if spoken and spoken != (reports or "en"):
        log.info("prompts in %s, which the text encoder knows; the reports are in %s", spoken, reports)
    found = read_prompts(path) if path else built_in_prompts(spoken, own_prompts(data))
    wanted = data.classes if classes is None else classes
    chosen = matching(wanted, found)
    missing = [label for label in wanted if label not in chosen]
    where = path or f"the built-in prompts ({spoken})"
    if not chosen:
        raise Lacking(f"{where}: no prompts for any of {', '.join(missing)}: give a YAML file as --prompts FILE")
    if missing:
        log.warning("%s: no prompts for %s: excluded", where, ", ".join(missing))
    if encoder is None:
        return chosen
    known = known_prompts(chosen, encoder, built_in=path is None)
    if not known:
        raise Lacking(f"{encoder.name} does not know the words of any class of {data.root}: give other prompts")
    return known
