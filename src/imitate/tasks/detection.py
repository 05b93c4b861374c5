"""Detection with YOLOv3 heads over the encoder's pyramid: mean average precision under each convention, and FROC."""

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torchvision.ops import nms

from imitate.data.corpus import Corpus
from imitate.data.stacked import Stacked
from imitate.errors import UserError
from imitate.inference.encoder import Encoder
from imitate.losses.detection import detection_loss
from imitate.models.yolo import YOLO, anchors, decode
from imitate.statistics import metrics
from imitate.statistics.intervals import Support
from imitate.tasks.base import Budget, Predictions, Task
from imitate.tasks.dense import WholeImages, identity, pyramid, targeted, whole_images
from imitate.tasks.detection_matching import RATES, average_precision, centres, locate, match, overlaps, sensitivities
from imitate.tasks.fitting import Parts, batches, fit, parts, seeded
from imitate.tasks.options import DetectionOptions

THRESHOLDS = np.arange(8, 20) / 20  # IoU .40, .45, ... .95
CHEST = THRESHOLDS <= 0.75
COCO = THRESHOLDS >= 0.5
MOST = 100  # detections of an image
PAPER_CONFIDENCE = 0.5
OVERLAP = 0.5  # IoU above which the weaker of two detections goes


class Objects(NamedTuple):
    """The boxes of images, padded with zeros to the most of one image."""

    corners: Float[np.ndarray, "images objects 4"]
    counts: Integer[np.ndarray, " images"]


class Detection(DetectionOptions, Task):
    """YOLOv3 heads over the encoder, one class: a box of whatever label, or of ``labels``, is an object. Metrics:

    - ``map``: average precision, mean over IoU .40 to .75 in steps of .05; every image of the split counts.
    - ``map_coco``, ``ap50``: the same over IoU .50 to .95, and at .50.
    - ``froc``: mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4, 8 false positives an image, each in ``froc/<rate>``; an
      object is found by the centre of a detection in its box and, where the data has masks, on its mask.
    - ``image_auroc``: whether an image has an object at all, by the score of its surest detection.
    - ``kaggle``: TP / (TP + FP + FN) of an image's detections scored .5 and more, mean over IoU .40 to .75 and over the
      images that have an object or such a detection: the metric of RSNA's challenge.
    - ``map_paper``: as ``map``, of the detections scored .5 and more, without the images that have no such detection
      or no object, as published; the main metric in mode ``paper``.
    """

    name: ClassVar[str] = "detection"
    version: ClassVar[int] = 2  # biases and norms of the decoder have no weight decay
    title: ClassVar[str] = "Detection"
    needs: ClassVar[frozenset[str]] = frozenset({"boxes"})
    headline: ClassVar[str] = "map"
    paper_headline: ClassVar[str] = "map_paper"
    beside: ClassVar[tuple[str, ...]] = ("froc",)
    names: ClassVar[Mapping[str, str]] = {
        "map": "mAP, IoU .40 to .75",
        "map_coco": "mAP, IoU .50 to .95",
        "ap50": "AP, IoU .50",
        "map_paper": "mAP as published",
        "froc": "FROC sensitivity",
        "image_auroc": "AUROC of whole images",
        "kaggle": "challenge metric of RSNA",
    }

    def predict(self, encoder: Encoder, data: Corpus, budget: Budget) -> Predictions:
        """Boxes are corners in prepared pixels, by falling score, padded to 100 with score 0."""
        data = targeted(self.selected(data), self.labels)
        rows = parts(data, budget, test=self.split)
        network = self.train(encoder, data, budget, rows)
        boxes, scores = self._detect(network, whole_images(encoder, data, budget, self), rows.test, budget)
        masked = None if data.masks is None else on_masks(data.masks, rows.test, boxes)
        return identity(data, rows.test, budget) | tabulate(boxes, scores, objects_of(data, rows.test), masked)

    def train(self, encoder: Encoder, data: Corpus, budget: Budget, rows: Parts) -> YOLO:
        """The network of the best mean average precision on the validation images, of equal ones of the least loss."""
        view = whole_images(encoder, data, budget, self)
        objects = objects_of(data, np.arange(len(data)))
        for part, some in (("training", rows.train), ("validation", rows.validation)):
            if not objects.counts[some].any():
                raise UserError(
                    f"none of the {len(some)} {part} images of {data.root} has a box: "
                    "raise --fraction, or prepare a source that has, e.g. rsna"
                )
        with seeded(budget.seed):
            network = YOLO(pyramid(encoder, budget, self), width=self.width).to(budget.device)
        sides = anchors(view.size).to(budget.device)
        scale = view.size / data.images.shape[-1]

        validated = Objects(objects.corners[rows.validation], objects.counts[rows.validation])

        def loss(piece: np.ndarray) -> Tensor:
            corners = objects.corners[piece, : max(1, objects.counts[piece].max())] * scale
            boxes = torch.from_numpy(corners).to(budget.device, torch.float32)
            return detection_loss(network(view.images(piece)), boxes, anchors=sides, size=view.size)

        def validate() -> tuple[float, float]:
            table = tabulate(*self._detect(network, view, rows.validation, budget), validated)
            main = next(iter(self.measure(identity(data, rows.validation, budget) | table).values()))
            pieces = batches(rows.validation, self.batch_size)
            losses = [loss(piece).item() for piece in pieces]
            return -float(np.nan_to_num(main)), float(np.average(losses, weights=[len(piece) for piece in pieces]))

        fit(
            network,
            settings=self,
            budget=budget,
            rows=rows.train,
            step=lambda piece, generator: loss(piece),
            validate=validate,
            nothing=0.0,
        )
        return network.eval()

    def measure(self, predictions: Predictions, rows: np.ndarray | None = None) -> dict[str, float]:
        drawn = metrics.one_sample(rows, len(predictions["objects"]))
        return {name: float(values[0]) for name, values in self.resample(predictions, drawn).items()}

    def support(self, predictions: Predictions) -> dict[str, Support]:
        positive, negative = metrics.image_support(predictions["objects"] > 0, predictions["patient"])
        of_objects = ("map", "map_coco", "ap50", "map_paper", "froc", *(f"froc/{rate:g}" for rate in RATES))
        return {"image_auroc": (positive, negative), **dict.fromkeys(of_objects, (positive,))}

    def resample(self, predictions: Predictions, counts: np.ndarray) -> dict[str, np.ndarray]:
        scores, objects, matched = predictions["scores"], predictions["objects"], predictions["matched"]
        precision = average_precision(matched, scores, objects, counts)
        counted = counts * ((objects > 0) & (scores >= PAPER_CONFIDENCE).any(axis=1))
        paper = average_precision(matched[..., CHEST], scores, objects, counted, floor=PAPER_CONFIDENCE)
        found = sensitivities(predictions["found"], predictions["false_alarm"], scores, objects, counts)
        values = {
            "map": precision[:, CHEST].mean(axis=1),
            "map_coco": precision[:, COCO].mean(axis=1),
            "ap50": precision[:, COCO][:, 0],
            "froc": found.mean(axis=1),
            **{f"froc/{rate:g}": each for rate, each in zip(RATES, found.T, strict=True)},
            "image_auroc": metrics.auroc(objects > 0, scores.max(axis=1), counts),
            "kaggle": metrics.mean(_kaggle(matched[..., CHEST], scores >= PAPER_CONFIDENCE, objects), counts),
            "map_paper": paper.mean(axis=1),
        }
        if predictions["paper"].all():
            return {"map_paper": values["map_paper"]} | values
        return values

    @torch.no_grad()
    def _detect(
        self, network: YOLO, view: WholeImages, rows: np.ndarray, budget: Budget
    ) -> tuple[np.ndarray, np.ndarray]:
        floor = self.confidence or (PAPER_CONFIDENCE if budget.mode == "paper" else 0.05)
        boxes, scores = np.zeros((len(rows), MOST, 4), np.float32), np.zeros((len(rows), MOST), np.float32)
        image = 0
        for piece in batches(rows, self.batch_size):
            with torch.autocast(
                torch.device(view.device).type, enabled=False
            ):  # bfloat16 has eight bits and ties scores
                raw = network(view.images(piece))
            for corners, confidence in zip(*decode(raw, view.size), strict=True):
                sure = confidence >= floor
                kept = nms(corners[sure], confidence[sure], OVERLAP)[:MOST]
                boxes[image, : len(kept)] = corners[sure][kept].cpu().numpy()
                scores[image, : len(kept)] = confidence[sure][kept].cpu().numpy()
                image += 1
        return boxes * (view.data.images.shape[-1] / view.size), scores


def _kaggle(matched: np.ndarray, kept: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """One value an image, the mean of those of the thresholds; NaN where there is nothing to find and nothing found."""
    called = (kept.sum(axis=1) + objects)[:, None]
    hits = (matched & kept[..., None]).sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.where(called > 0, hits / (called - hits), np.nan).mean(axis=1)


def objects_of(data: Corpus, rows: np.ndarray) -> Objects:
    """Corners in prepared pixels; boxes without area are excluded."""
    found = [[box for box in data.boxes(int(row)) if box.width > 0 and box.height > 0] for row in rows]
    counts = np.array([len(boxes) for boxes in found])
    corners = np.zeros((len(rows), max(1, counts.max()), 4))
    for i, boxes in enumerate(found):
        for j, box in enumerate(boxes):
            corners[i, j] = box.x, box.y, box.x + box.width, box.y + box.height
    return Objects(corners, counts)


def on_masks(masks: np.ndarray | Stacked, rows: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Whether each box's centre is on its image's mask."""
    x, y = np.moveaxis(centres(boxes).astype(np.int64).clip(0, masks.shape[-1] - 1), -1, 0)
    return np.array([masks[int(row)][v, u] > 0 for row, v, u in zip(rows, y, x, strict=True)], bool).reshape(y.shape)


def tabulate(boxes: np.ndarray, scores: np.ndarray, objects: Objects, masked: np.ndarray | None = None) -> Predictions:
    """Detections beside the objects, with all that ``measure`` needs to know of each image."""
    found, false_alarm = locate(boxes, scores, objects.corners, masked)
    return {
        "boxes": boxes,
        "scores": scores,
        "targets": objects.corners,
        "objects": objects.counts,
        "matched": match(overlaps(boxes, objects.corners), scores, objects.counts, THRESHOLDS),
        "found": found,
        "false_alarm": false_alarm,
    }
