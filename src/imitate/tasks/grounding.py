"""Grounding: does the heat-map of a phrase show the place where the phrase is marked?"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from imitate.data.corpus import Corpus
from imitate.data.marks import Mark, marked
from imitate.errors import Lacking, UserError
from imitate.inference.embeddings import embed_texts
from imitate.inference.encoder import Encoder
from imitate.inference.heatmap import central, heatmap, over_square
from imitate.inference.known_words import unread_texts
from imitate.names import Mode
from imitate.statistics import metrics
from imitate.statistics.intervals import Support
from imitate.tasks.base import Budget, Predictions, Task
from imitate.tasks.fitting import batches, pixels, progress
from imitate.tasks.grounding_pairs import NONE, Key, Pairs, find_pairs, other_images, other_texts, padded
from imitate.tasks.grounding_scores import METRICS, UsualPlaces, centre, scores, shown
from imitate.tasks.options import GroundingOptions
from imitate.tasks.zero_shot import class_prompts

log = logging.getLogger(__name__)
BATCH = 16  # maps at once, whose gradients need memory
ALL = "all"  # in place of a split
KEPT = 32  # side of the maps that are kept for examples
OWN, CHANCE = "own", "chance"
CENTRE, USUAL, TEXT, IMAGE = "centre", "usual place", "another text", "another image"
CONTROLS = (CENTRE, USUAL, TEXT, IMAGE)
GAINS = tuple(metric for metric in METRICS if metric != "cnr-absolute")
NAMES = {
    "pointing": "pointing game",
    "pixel-auroc": "AUROC of pixels",
    "cnr": "CNR",
    "cnr-absolute": "CNR, absolute",
    "miou": "mIoU",
}
Add = Callable[..., None]
"""As what maps are compared with the marks of which pairs."""


class Request(NamedTuple):
    """A map, and the pairs whose marks it is compared with, as what."""

    row: int
    key: Key
    uses: list[tuple[int, str]]


class Grounding(GroundingOptions, Task):
    """A heat-map of each phrase that is marked on an image is compared with the marks.

    - ``pointing``: the pointing game, the fraction of phrases for which the highest pixel of the map, among those that
      the network sees, is marked. There is no tolerance; of equally high pixels, the fraction that is marked counts.
    - ``pixel-auroc``: AUROC of the marked pixels against the others.
    - ``cnr``: contrast-to-noise ratio, the difference of the means of both over the root of the sum of their variances;
      ``cnr-absolute`` is the mean of its absolute values, as it is published.
    - ``miou``: IoU with the pixels above .1, .2, .3, .4 and .5 of the map as it is shown (clipped at 0, highest 1).

    All are over the whole prepared square. ``centre``, ``usual place``, ``another text`` and ``another image`` are the
    same metrics of other maps of the same marks, and ``gain`` is the difference from them, paired phrase by phrase:
    1 in the middle falling to the corners; where this class is marked in other patients; the map of a text of another
    class on this image; and the map of this text on another patient's image.
    """

    name: ClassVar[str] = "grounding"
    title: ClassVar[str] = "Grounding of phrases"
    modes: ClassVar[tuple[Mode, ...]] = ("clean",)
    needs: ClassVar[frozenset[str]] = frozenset({"phrases", "text"})
    trains: ClassVar[bool] = False
    headline: ClassVar[str] = "pointing"
    beside: ClassVar[tuple[str, ...]] = (
        "pixel-auroc", "cnr", "miou", *(f"pixel-auroc-gain/{name}" for name in (USUAL, TEXT, IMAGE)),
    )  # fmt: skip
    units: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("cnr", "cnr-absolute", *(f"{metric}-gain" for metric in GAINS)), "%"
    )
    names: ClassVar[Mapping[str, str]] = {
        **NAMES,
        **{f"{metric}-gain": f"{name}, gain over" for metric, name in NAMES.items() if metric in GAINS},
    }
    about_chance: ClassVar[str] = (
        "Chance is a constant map. “Shuffled” is the map of the same text on another patient's image: the level that "
        "a map reaches without this image."
    )

    def predict(self, encoder: Encoder, data: Corpus, budget: Budget) -> Predictions:
        """Columns ``<metric>:<map>`` (images, phrases), NaN where an image has fewer phrases.

        ``label`` is the class of each, ``map`` (images, phrases, side, side) what is shown of it, small, and ``peak``
        its highest pixel, (down, across); ``marks`` are the bits of those of ``data.marks`` that it is compared with.
        """
        data = self.selected(data)
        pairs, vectors = self._asked(encoder, data, budget)
        total, side = len(pairs.pairs), min(KEPT, data.size)
        log.info("%d phrases on %d images", total, len(np.unique(pairs.rows)))
        found = {
            f"{metric}:{what}": np.full(total, np.nan, np.float32)
            for what in (OWN, CHANCE, *CONTROLS)
            for metric in METRICS
        }
        maps, peaks = np.zeros((total, side, side), np.uint8), np.zeros((total, 2), np.int16)

        def add(what: str, places: list[int], given: np.ndarray, seen: np.ndarray | None = None) -> None:
            for metric, values in scores(given, pairs.masks[places], seen).items():
                found[f"{metric}:{what}"][places] = values

        _add_baselines(pairs, add)
        for given, requests in self._maps(encoder, data, _requests(pairs), vectors, budget):
            drawn, part = over_square(given, data.size), central(given.shape[-1], data.size)
            seen = np.zeros((data.size, data.size), bool)
            seen[part, part] = True
            for what in (OWN, TEXT, IMAGE):
                chosen = [(i, place) for i, each in enumerate(requests) for place, role in each.uses if role == what]
                if chosen:
                    numbers, places = map(list, zip(*chosen, strict=True))
                    add(what, places, drawn[numbers].numpy(), seen)
                    if what == OWN:
                        maps[places], peaks[places] = _small(drawn[numbers]), part.start + _peaks(given[numbers])
        table = data.table.iloc[np.unique(pairs.rows)]
        images = {key: table[key].to_numpy().astype(np.str_) for key in ("image_id", "patient")}
        columns: Predictions = {**found, "map": maps, "peak": peaks, "label": pairs.labels}
        columns["marks"] = np.array([pair.marks for pair in pairs.pairs], np.int64)
        return images | {name: padded(values, pairs.rows) for name, values in columns.items()}

    def _asked(self, encoder: Encoder, data: Corpus, budget: Budget) -> tuple[Pairs, dict[Key, Tensor]]:
        """The pairs of the split, and the vector of each text. UserError: there is none."""
        rows = np.arange(len(data)) if self.split == ALL else data.rows(self.split)
        pairs = find_pairs(data, rows[marked(data)[rows]], self._key)
        keys = list(dict.fromkeys(pair.key for pair in pairs.pairs))
        phrases = [key for key in keys if key.is_phrase]
        if encoder.text and (unread := unread_texts([key.text for key in phrases], encoder.text)):
            log.warning("%s knows no word of %d of %d phrases", encoder.text.name, len(unread), len(phrases))
        vectors = dict(zip(phrases, self._embed(encoder, [key.text for key in phrases], budget), strict=True))
        if labels := [key.text for key in keys if not key.is_phrase]:
            try:
                prompts = class_prompts(data, self.prompts, encoder.text, classes=labels, language=self.language)
            except UserError as error:
                if not phrases:
                    raise
                log.warning("%s; marks without a phrase are excluded", error)
                prompts = {}
            for label, each in prompts.items():
                middle = F.normalize(self._embed(encoder, list(each.positive), budget).mean(0), dim=0)
                vectors[Key(label, is_phrase=False)] = middle
        pairs = pairs.having(vectors)
        if not pairs.pairs:
            raise Lacking(f"{data.root} has no marked phrase or class in split {self.split!r}: choose another split")
        return pairs, vectors

    def _key(self, mark: Mark) -> Key | None:
        if mark.phrase and self.texts == "phrases":
            return Key(mark.phrase, is_phrase=True)
        return Key(mark.label, is_phrase=False) if mark.label else None

    def _embed(self, encoder: Encoder, texts: list[str], budget: Budget) -> Float[Tensor, "texts joint"]:
        """Unit vectors."""
        if not texts:
            return torch.zeros(0, 1)
        return torch.from_numpy(embed_texts(encoder, texts, budget.device)).to(budget.device)

    def _maps(
        self, encoder: Encoder, data: Corpus, maps: list[Request], vectors: Mapping[Key, Tensor], budget: Budget
    ) -> Iterator[tuple[Float[Tensor, "maps side side"], list[Request]]]:
        """Each map once, over what the encoder sees, in batches."""
        encoder.to(budget.device)
        for some in progress(batches(np.arange(len(maps)), BATCH), "heat-maps"):
            asked = [maps[number] for number in some]
            seen = pixels(data, np.array([each.row for each in asked]), budget.device)
            texts = torch.stack([vectors[each.key] for each in asked])
            found = heatmap(encoder, encoder.prepare(seen), texts, self.branch, self.map)
            if not found.isfinite().all():
                raise UserError(f"{encoder.name} gives heat-maps that are not finite: its weights are unusable")
            yield found.float().cpu(), asked

    def measure(self, predictions: Predictions, rows: np.ndarray | None = None) -> dict[str, float]:
        counts = metrics.one_sample(rows, len(predictions["patient"]))
        return {name: float(values[0]) for name, values in self.resample(predictions, counts).items()}

    def resample(self, predictions: Predictions, counts: np.ndarray) -> dict[str, np.ndarray]:
        """The metrics of the maps, their gains, the metrics of the other maps, those of each class."""
        own = {metric: predictions[f"{metric}:{OWN}"] for metric in METRICS}
        label = predictions["label"]
        found = {metric: self._mean(values, label, counts) for metric, values in own.items()}
        for metric in GAINS:
            for what in (CHANCE, *CONTROLS):
                gain = own[metric] - predictions[f"{metric}:{what}"]
                found[f"{metric}-gain/{what}"] = self._mean(gain, label, counts)
        for what in CONTROLS:
            for metric in METRICS:
                found[f"{metric}/{what}"] = self._mean(predictions[f"{metric}:{what}"], label, counts)
        for name in _classes(label):
            for metric, values in own.items():
                found[f"{metric}/{name}"] = _mean(np.where(label == name, values, np.nan), counts)
        return found

    def chance(self, predictions: Predictions) -> dict[str, float]:
        """Of a map that is the same everywhere."""
        label, one = predictions["label"], metrics.one_sample(None, len(predictions["patient"]))
        found = {}
        for metric in METRICS:
            if metric != "cnr-absolute":  # that of noise is above 0
                values = predictions[f"{metric}:{CHANCE}"]
                found[metric] = float(self._mean(values, label, one)[0])
                for name in _classes(label):
                    found[f"{metric}/{name}"] = float(_mean(np.where(label == name, values, np.nan), one)[0])
        return found

    def shuffled(self, predictions: Predictions) -> dict[str, float]:
        """Of the same text on another image."""
        label, one = predictions["label"], metrics.one_sample(None, len(predictions["patient"]))
        return {metric: float(self._mean(predictions[f"{metric}:{IMAGE}"], label, one)[0]) for metric in METRICS}

    def support(self, predictions: Predictions) -> dict[str, Support]:
        """The patients with a phrase of which the metric is known, of a mean over classes those of each class."""
        patients, label = predictions["patient"], predictions["label"]

        def number(known: np.ndarray) -> int:
            return len(np.unique(patients[known.any(1)]))

        found: dict[str, Support] = {}
        for metric in METRICS:
            own = ~np.isnan(predictions[f"{metric}:{OWN}"])
            each = [number(own & (label == name)) for name in _classes(label)]
            found |= {f"{metric}/{name}": (count,) for name, count in zip(_classes(label), each, strict=True)}
            whole = tuple(each) if self.average == "classes" else (number(own),)
            names = [metric, *(f"{metric}{part}/{what}" for part in ("", "-gain") for what in (CHANCE, *CONTROLS))]
            found |= dict.fromkeys(names, whole)
        return found

    def _mean(self, values: np.ndarray, label: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Over the phrases, or over the means of the classes."""
        if self.average == "phrases":
            return _mean(values, counts)
        return np.mean([_mean(np.where(label == name, values, np.nan), counts) for name in _classes(label)], axis=0)


def _requests(pairs: Pairs) -> list[Request]:
    """Each map that is needed once, in the order of the images."""
    uses: dict[tuple[int, Key], list[tuple[int, str]]] = defaultdict(list)
    others = zip(pairs.pairs, other_texts(pairs), other_images(pairs), strict=True)
    for place, (pair, text, image) in enumerate(others):
        uses[pair.row, pair.key].append((place, OWN))
        if text is not None:
            uses[pair.row, text].append((place, TEXT))
        if image != NONE:
            uses[image, pair.key].append((place, IMAGE))
    return [Request(row, key, roles) for (row, key), roles in sorted(uses.items())]


def _add_baselines(pairs: Pairs, add: Add) -> None:
    size = pairs.masks.shape[-1]
    usual = UsualPlaces(pairs.masks, pairs.labels, pairs.patients)
    fixed = {CHANCE: np.ones((size, size)), CENTRE: centre(size)}
    for place in range(len(pairs.pairs)):
        for what, each in (*fixed.items(), (USUAL, usual(place))):
            if each is not None:
                add(what, [place], each[None])


def _small(maps: Float[Tensor, "maps size size"]) -> np.ndarray:
    """What is shown of them, from 0 to 255."""
    visible = torch.from_numpy(shown(maps.numpy()))
    small = F.adaptive_avg_pool2d(visible[:, None], min(KEPT, maps.shape[-1])).squeeze(1)
    return (255 * small).round().byte().numpy()


def _peaks(maps: Float[Tensor, "maps side side"]) -> np.ndarray:
    """Where the highest pixel is, (down, across), the first of equal ones."""
    return np.stack(np.divmod(maps.flatten(1).argmax(1).numpy(), maps.shape[-1]), 1)


def _classes(label: np.ndarray) -> list[str]:
    return [name for name in np.unique(label).tolist() if name]


def _mean(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Over the phrases of which the metric is known; ``counts`` are of the images."""
    known = ~np.isnan(values)
    number = known.sum(1)
    of_image = np.where(number > 0, np.where(known, values, 0).sum(1, dtype=np.float64) / np.maximum(number, 1), np.nan)
    return metrics.mean(of_image, counts, number.astype(np.float64))
