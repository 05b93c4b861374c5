"""Single test images with what a model found in them, for those who have the prepared folder."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from math import isqrt
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pandas as pd

from imitate.data.chosen import only
from imitate.data.corpus import Corpus
from imitate.data.marks import marks
from imitate.report import figures
from imitate.report.groups import Group
from imitate.report.page import Figure
from imitate.tasks.base import Predictions

COLOURS = "green: the truth; orange, dashed: the model"
HEAT = "green: what is marked; bright: the map, and a cross at its peak"
MOST_BOXES = 5
FADED = 0.25  # boxes scored below this fraction of the image's best are not drawn


Report = Mapping[Hashable, str]
"""Section and text."""


class Chosen(NamedTuple):
    """A test image of a run, ``row`` of its predictions, ``place`` in the folder."""

    data: Corpus
    run: Predictions
    row: int
    place: int
    title: str
    show_reports: bool

    @property
    def image(self) -> np.ndarray:
        return np.array(self.data.images[self.place])


class Example(NamedTuple):
    """As it is shown: of retrieval with the nearest reports, whose they are and, if they may be shown, their texts."""

    figure: Figure
    own: Report = MappingProxyType({})
    nearest: Sequence[tuple[str, Report]] = ()


class Examples(NamedTuple):
    title: str = ""
    examples: Sequence[Example] = ()
    notes: Sequence[str] = ()


class Kind(NamedTuple):
    what: str
    quality: Callable[[Predictions], np.ndarray]  # of each image; NaN where it is no example
    draw: Callable[[Chosen], Example]


def examples(
    group: Group, runs: Mapping[str, list[Predictions]], folders: Mapping[str, Corpus], *, show_reports: bool
) -> Examples:
    """Best, median and worst test image of each method's first seed; without their folder a note that asks for it."""
    if group.task not in KINDS:
        return Examples()
    kind, fingerprint = KINDS[group.task], str(group.data["fingerprint"])
    if fingerprint not in folders:
        return Examples(
            notes=[f"To see {kind.what}, give --data the prepared folder of fingerprint {fingerprint[:8]}."]
        )
    data, drawn = _targeted(folders[fingerprint], group), []
    places = {str(image): i for i, image in enumerate(data.table["image_id"])}
    for method, (run, *_) in runs.items():
        for title, row in _choose(kind.quality(run)).items():
            place = places[str(run["image_id"][row])]
            drawn.append(kind.draw(Chosen(data, run, row, place, f"{method}, {title}", show_reports)))
    return Examples(f"Examples: {kind.what}", drawn)


def _targeted(data: Corpus, group: Group) -> Corpus:
    """With the masks that the results are of, where these are of some classes alone."""
    labels = next((labels for entry in group.entries if (labels := entry.results.used.get("labels"))), ())
    return only(data, labels) if labels else data


def _choose(quality: np.ndarray) -> dict[str, int]:
    """Rows of the best, the median and the worst defined quality."""
    order = np.argsort(-quality, kind="stable")[: int((~np.isnan(quality)).sum())]
    places = {len(order) // 2: "median", len(order) - 1: "worst", 0: "best"} if len(order) else {}
    return {title: int(order[place]) for place, title in sorted(places.items())}


def _dice(run: Predictions) -> np.ndarray:
    both, predicted, actual = (run[name].astype(float) for name in ("intersection", "predicted", "actual"))
    return np.where(actual > 0, 2 * both / np.maximum(predicted + actual, 1), np.nan)


def _overlay(example: Chosen) -> Example:
    assert example.data.masks is not None
    truth, packed = np.array(example.data.masks[example.place]) > 0, example.run["masks"][example.row]
    side = isqrt(8 * len(packed))
    predicted = np.unpackbits(packed, count=side * side).reshape(side, side) > 0
    caption = f"{example.title}: Dice {100 * _dice(example.run)[example.row]:.1f}"
    drawn = figures.contours(example.image, truth, predicted)
    return Example(Figure(caption, {f"Radiograph, {caption}; {COLOURS}": drawn}))


def _found(run: Predictions) -> np.ndarray:
    """The mean score with which an image's objects were found, less the score of its worst false alarm."""
    objects = run["objects"]
    alarm = np.where(run["false_alarm"], run["scores"], 0).max(axis=1, initial=0)
    return np.where(objects > 0, run["found"].sum(axis=1) / np.maximum(objects, 1) - alarm, np.nan)


def _boxed(example: Chosen) -> Example:
    run, row = example.run, example.row
    truth, scores = run["targets"][row, : run["objects"][row]], run["scores"][row, :MOST_BOXES]
    shown = (scores > 0) & (scores >= FADED * scores.max(initial=0))
    drawn = figures.boxes(example.image, truth, run["boxes"][row, :MOST_BOXES][shown], scores[shown])
    caption = f"{example.title}: {int((run['found'][row] > 0).sum())} of {len(truth)} found"
    return Example(Figure(caption, {f"Radiograph, {caption}; {COLOURS}": drawn}))


def _percentile(run: Predictions) -> np.ndarray:
    """Of the own report; NaN of images, or runs, that have no nearest reports."""
    if "top" not in run:
        return np.full(len(run["image_id"]), np.nan)
    return run["figure:percentile/both/image-to-text"]


def _ranked(example: Chosen) -> Example:
    """The query beside the reports that rank first."""
    reports = example.data.reports().set_axis(example.data.table["image_id"]).to_dict("index")
    top = [image for image in example.run["top"][example.row] if image]  # fewer where there are fewer candidates
    ids = [example.run["image_id"][example.row], *top]
    own, *first = ({section: text for section, text in reports[str(image)].items() if pd.notna(text)} for image in ids)
    nearest = [
        ("its own report" if report == own else "another report", report if example.show_reports else {})
        for report in first
    ]
    percentile = f"its report ranks before {100 * _percentile(example.run)[example.row]:.1f}% of the others"
    query = Figure(f"{example.title}: {percentile}", {"Query radiograph": figures.radiograph(example.image)})
    return Example(query, own if example.show_reports else {}, nearest)


def _ranked_pixels(run: Predictions) -> np.ndarray:
    """AUROC of the first phrase of each image."""
    found: np.ndarray = run["pixel-auroc:own"][:, 0]
    return found


def _heated(example: Chosen) -> Example:
    """The map of the first phrase, which is shown by its class where it is part of a report that is not."""
    run, row = example.run, example.row
    bits, every = int(run["marks"][row, 0]), marks(example.data, example.place)
    chosen = [mark for number, mark in enumerate(every) if bits >> number & 1]
    truth = np.any([np.zeros(example.image.shape, bool), *(mark.mask for mark in chosen)], axis=0)
    phrases = [f"“{mark.phrase}”" for mark in chosen if mark.phrase and example.show_reports]
    what = [*phrases, str(run["label"][row, 0]) or "a phrase"][0]
    hit = run["pointing:own"][row, 0]
    where = "inside" if hit == 1 else "outside" if hit == 0 else "partly inside"
    caption = f"{example.title}: {what}, AUROC of pixels {100 * _ranked_pixels(run)[row]:.1f}, peak {where}"
    drawn = figures.heat(example.image, truth, run["map"][row, 0], run["peak"][row, 0])
    return Example(Figure(caption, {f"Radiograph, {caption}; {HEAT}": drawn}))


KINDS = {
    "segmentation": Kind(
        f"outlines on each method's best, median and worst positive image ({COLOURS})", _dice, _overlay
    ),
    "detection": Kind(f"boxes on each method's best, median and worst positive image ({COLOURS})", _found, _boxed),
    "grounding": Kind(f"maps of each method's best, median and worst image ({HEAT})", _ranked_pixels, _heated),
    "retrieval": Kind("the reports nearest to each method's best, median and worst image", _percentile, _ranked),
}
