"""Retrieval: from a radiograph to its report among all the others, and back."""

import logging
from collections.abc import Iterator, Mapping
from typing import ClassVar, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.inference.base import BRANCHES, of_branch
from imitate.inference.embeddings import embed_images, embed_reports, texts_of
from imitate.inference.encoder import Encoder
from imitate.inference.nearest import nearest
from imitate.statistics import metrics
from imitate.statistics.intervals import Support
from imitate.tasks.base import Budget, Predictions, Task
from imitate.tasks.options import RetrievalOptions
from imitate.tasks.retrieval_ranking import Ranks, Side, at_random, query_metrics, rank_each

log = logging.getLogger(__name__)
PERMUTATIONS = 5
NEAREST = 5


class Pairs(NamedTuple):
    """The images of a branch, as indices into the split's rows, and both sides."""

    branch: str
    present: Int[np.ndarray, " images"]
    images: Side
    texts: Side


class Retrieval(RetrievalOptions, Task):
    """Recall@k, percentile rank and class precision@k, for each section and both, in both directions.

    - recall@k: fraction of queries with a hit among the first k; ``mean-recall`` is the mean of those of ``both``
    - percentile: fraction of the other candidates that stand behind the first hit
    - precision@k: fraction of the first k with a positive class in common with the query, or like the query with none

    The gallery holds distinct texts: identical reports take one place (with all classes of their images), and every
    image of a text is a hit for it; mode ``paper`` gives each report a place of its own, as the peers do. ``both``
    compares by the mean cosine of the sections that a report has, or of a model that learnt from whole reports, by that
    of the whole report. Equal similarities count by the mean over their
    orders, so that a model that distinguishes nothing is at chance exactly. A metric is the mean over images, or texts.

    ``followups``: excluded, an image and a text are no candidates of each other where the text is not the image's own,
    but that of another image of the same patient. Each query then has a gallery of its own, for chance as well.
    """

    name: ClassVar[str] = "retrieval"
    title: ClassVar[str] = "Retrieval"
    needs: ClassVar[frozenset[str]] = frozenset({"reports", "text"})
    trains: ClassVar[bool] = False
    headline: ClassVar[str] = "mean-recall"
    beside: ClassVar[tuple[str, ...]] = tuple(
        f"recall@{k}/both/{way}" for way in ("image-to-text", "text-to-image") for k in (1, 5, 10)
    )
    also: ClassVar[tuple[str, ...]] = ("percentile", "precision@5")
    names: ClassVar[Mapping[str, str]] = {"mean-recall": "mean recall", "percentile": "percentile rank"}
    about_chance: ClassVar[str] = (
        "Chance is the exact expectation for a random order. “Shuffled” is the same model with its images permuted: "
        "its level without the right image."
    )

    controls: ClassVar[bool] = True  # False: metrics alone, without chance, shuffled images and nearest reports

    def predict(self, encoder: Encoder, data: Corpus, budget: Budget) -> Predictions:
        """Columns ``<level>:<metric>/<branch>/<direction>`` with level figure, chance, shuffled or weight.

        ``top`` names the reports nearest to each image, by both sections, as the images that they belong to.
        """
        data = self.selected(data)
        rows = data.rows(self.split)
        table = data.table.iloc[rows]
        out: Predictions = {key: table[key].to_numpy().astype(np.str_) for key in ("image_id", "patient")}
        excluding = self.followups == "excluded"
        if excluding and (ids := data.traits.get("patients", "patients")) != "patients":
            log.warning("%s: patients are not known, only %s: follow-ups cannot be excluded", data.root, ids)
        for pairs in _pairs(encoder, data, rows, budget, excluding=excluding):
            for name, column in _columns(pairs, controls=self.controls).items():
                whole = np.full(len(rows), np.nan, dtype=np.float32)
                whole[pairs.present] = column
                out[name] = whole
            if pairs.branch == "both" and self.controls:
                out["top"] = _nearest(pairs, out["image_id"])
        if len(out) == 2:
            raise UserError(
                f"{data.root} has fewer than two distinct reports in split {self.split!r}: "
                "choose another split or prepare a source with reports"
            )
        return out

    def measure(self, predictions: Predictions, rows: np.ndarray | None = None) -> dict[str, float]:
        counts = metrics.one_sample(rows, len(predictions["patient"]))
        return {name: float(values[0]) for name, values in _means(predictions, "figure", counts).items()}

    def support(self, predictions: Predictions) -> dict[str, Support]:
        """The patients of whose images the metric is known."""
        found = {
            name: len(np.unique(predictions["patient"][~np.isnan(column)]))
            for key, column in predictions.items()
            for level, _, name in [key.partition(":")]
            if level == "figure"
        }
        main = [number for name, number in found.items() if name.startswith("recall@") and "/both/" in name]
        return {name: (number,) for name, number in {"mean-recall": min(main), **found}.items()}

    def resample(self, predictions: Predictions, counts: np.ndarray) -> dict[str, np.ndarray]:
        return _means(predictions, "figure", counts)

    def chance(self, predictions: Predictions) -> dict[str, float]:
        return {name: float(values[0]) for name, values in _means(predictions, "chance").items()}

    def shuffled(self, predictions: Predictions) -> dict[str, float]:
        """The mean over a few permutations of the images against their reports."""
        return {name: float(values[0]) for name, values in _means(predictions, "shuffled").items()}


def _nearest(pairs: Pairs, image_id: np.ndarray) -> np.ndarray:
    """(rows, k) image ids, the nearest report first: each report by its first image; empty where there is none."""
    images, texts = pairs.images, pairs.texts
    k = min(NEAREST, len(texts.text))
    first = image_id[pairs.present][np.unique(images.text.cpu().numpy(), return_index=True)[1]]
    own = np.array([*first, ""])
    named = np.full((len(image_id), k), "", dtype=image_id.dtype)
    named[pairs.present] = own[_without_followups(images, texts, k)]
    return named


def _without_followups(images: Side, texts: Side, k: int) -> np.ndarray:
    """(images, k): the nearest texts among the candidates, -1 where there are no more."""
    if images.patients is None or texts.patients is None:
        return nearest(images.vectors, texts.vectors, k).cpu().numpy()
    total, patient = len(texts.text), images.patients.indices()[1].cpu().numpy()
    text, owner = texts.patients.indices().cpu().numpy()
    top = nearest(images.vectors, texts.vectors, min(total, k + int(np.bincount(owner).max()))).cpu().numpy()
    of_patient = np.isin(patient[:, None] * total + top, owner * total + text)
    excluded = of_patient & (top != images.text.cpu().numpy()[:, None])
    order = np.argsort(excluded, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(np.where(excluded, -1, top), order, axis=1)


def _means(predictions: Predictions, level: str, counts: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Each metric's mean at this level, over images or distinct texts; first the mean of the main ones."""
    means = {}
    for key, column in predictions.items():
        at, _, name = key.partition(":")
        if at == level:
            weights = predictions.get(f"weight:text/{name.partition('/')[2]}")
            means[name] = metrics.mean(column, counts, weights)
    main = [mean for name, mean in means.items() if name.startswith("recall@") and "/both/" in name]
    return {"mean-recall": np.mean(main, axis=0), **means}


def _pairs(encoder: Encoder, data: Corpus, rows: np.ndarray, budget: Budget, *, excluding: bool) -> Iterator[Pairs]:
    embedded = embed_images(encoder, data, rows, budget.device)
    for branch, used in BRANCHES.items():
        present = np.flatnonzero(np.any([data.has(section)[rows] for section in used], axis=0))
        here = rows[present]
        text = np.arange(len(here)) if budget.mode == "paper" else _places(data.reports(used, here))
        first = here[np.unique(text, return_index=True)[1]]
        if len(first) < 2:
            log.warning("%s: fewer than two distinct texts, excluded", branch)
            continue
        sections = [
            torch.from_numpy(embed_reports(encoder, data, text, first, budget.device)).to(budget.device)
            for text in texts_of(encoder, used)
        ]
        available = torch.stack([section.any(1) for section in sections]).sum(0)
        images = torch.from_numpy(np.concatenate(of_branch(embedded, branch), 1)[present]).to(budget.device)
        image_classes, text_classes = _classes(data, here, text)
        texts = torch.cat(sections, 1) / available[:, None].clamp(min=1)
        sides = _side(images, text, image_classes), _side(texts, np.arange(len(first)), text_classes)
        if excluding:
            patient = np.unique(data.table["patient"].to_numpy(dtype=str)[here], return_inverse=True)[1]
            own, of_texts = (
                _patients(row, patient).to(side.text.device)
                for side, row in zip(sides, (np.arange(len(here)), text), strict=True)
            )
            sides = sides[0]._replace(patients=own), sides[1]._replace(patients=of_texts)
        yield Pairs(branch, present, *sides)


def _places(reports: pd.DataFrame) -> np.ndarray:
    """Identical rows have one number, counted from zero in the order of their first occurrence."""
    places: dict[tuple[str, ...], int] = {}
    keys = reports.fillna("").itertuples(index=False, name=None)
    return np.array([places.setdefault(tuple(key), len(places)) for key in keys], dtype=np.int64)


def _classes(data: Corpus, rows: np.ndarray, text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The classes of these images, and those of their texts: any class of the images that have it.

    The last class, normal, is that of an image all of whose labels are 0, and of a text all of whose images are normal.
    Where a label is not known and none is positive, nor is the class.
    """
    labels = data.labels[rows] if data.classes else np.zeros((len(rows), 0))
    positive = labels > 0
    normal = (labels == 0).all(1) if data.classes else np.zeros((len(rows), 0), dtype=bool)
    of_text = np.zeros((text.max() + 1, positive.shape[1]), dtype=bool)
    np.logical_or.at(of_text, text, positive)
    all_normal = np.ones((text.max() + 1, *normal.shape[1:]), dtype=bool)
    np.logical_and.at(all_normal, text, normal)
    return np.column_stack([positive, normal]), np.column_stack([of_text, all_normal])


def _side(vectors: Tensor, text: np.ndarray, classes: np.ndarray) -> Side:
    on = vectors.device
    return Side(vectors, torch.from_numpy(text).to(on), torch.from_numpy(classes.astype(np.float32)).to(on))


def _patients(row: np.ndarray, patient: np.ndarray) -> Float[Tensor, "rows patients"]:
    """Sparse: 1 where a row is a patient's, of whose images each names a row."""
    places = torch.from_numpy(np.unique(np.stack([row, patient]), axis=1))
    return torch.sparse_coo_tensor(places, torch.ones(places.shape[1]), check_invariants=True).coalesce()


def _columns(pairs: Pairs, *, controls: bool) -> dict[str, np.ndarray]:
    """One number an image; a text's number stands at each of its images, with a weight that makes them one."""
    images, texts = pairs.images, pairs.texts
    text = images.text.cpu().numpy()
    columns = {f"weight:text/{pairs.branch}/text-to-image": 1 / np.bincount(text)[text]}

    def add(level: str, forward: Ranks, backward: Ranks, weight: float = 1.0) -> None:
        each = [("image-to-text", name, column) for name, column in query_metrics(forward).items()]
        each += [("text-to-image", name, column[text]) for name, column in query_metrics(backward).items()]
        for direction, name, column in each:
            key = f"{level}:{name}/{pairs.branch}/{direction}"
            columns[key] = columns.get(key, 0.0) + weight * column

    generators = [np.random.default_rng(seed) for seed in range(PERMUTATIONS if controls else 0)]
    orders = [torch.from_numpy(generator.permutation(len(text))) for generator in generators]
    shuffled = [images] + [images.taken(back) for back in map(torch.argsort, orders)]
    forwards = rank_each([(each, texts) for each in shuffled])
    backwards = rank_each([(texts, each) for each in shuffled])
    add("figure", forwards[0], backwards[0])
    if not controls:
        return columns
    add("chance", at_random(forwards[0]), at_random(backwards[0]))
    for order, forward, backward in zip(orders, forwards[1:], backwards[1:], strict=True):
        add("shuffled", forward.taken(order.numpy()), backward, 1 / PERMUTATIONS)
    return columns
