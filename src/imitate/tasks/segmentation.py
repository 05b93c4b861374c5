"""Segmentation with a U-Net decoder over the encoder's pyramid: Dice under each of the conventions in use."""

from collections.abc import Mapping
from math import isqrt
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from imitate.data.augment import normalise
from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.inference.encoder import Encoder
from imitate.losses.segmentation import cross_entropy, segmentation_loss
from imitate.models.unet import UNet
from imitate.models.upernet import UPerNet
from imitate.statistics import metrics
from imitate.statistics.intervals import Support
from imitate.statistics.surfaces import Outlines, compared
from imitate.tasks.base import Budget, Predictions, Task
from imitate.tasks.dense import Gray, WholeImages, identity, pyramid, targeted, whole_images
from imitate.tasks.fitting import Parts, autocast, batches, fit, parts, seeded
from imitate.tasks.options import SegmentationOptions

READ_AT_ONCE = 256  # masks
AUXILIARY = 0.4  # weight of the loss of a head beside the main one
SURFACES = Outlines._fields


class Segmentation(SegmentationOptions, Task):
    """Metrics:

    - ``dice``: mean over images of 2|P and T| / (|P| + |T|), 1 where both are empty. Where most images are empty it
      rewards empty predictions: read it beside its chance level, the always-empty predictor, and the next three.
    - ``dice_positives``: the same over the images that have a target.
    - ``dice_micro``: one Dice over all pixels together; ``dice_classes``: the mean of it and of that of the background.
    - ``false_positive_rate``: fraction of the images without a target that get a prediction.
    - ``iou``, ``iou_positives``: as ``dice`` and ``dice_positives``, of |P and T| / |P or T|.
    - ``hd95``: of the images that have a target, mean 95th percentile of the distance between the outlines, the larger
      one of both directions, in pixels of the folder's masks; an image's diagonal where nothing is predicted.
    - ``surface_dice``: of the images that have a target, mean fraction of both outlines within ``tolerance`` of the
      other one, in the same pixels; 0 where nothing is predicted.
    - ``dice_batched``: mean over batches of their mean Dice, as published; the main metric in mode ``paper``.
    """

    name: ClassVar[str] = "segmentation"
    version: ClassVar[int] = 2  # biases and norms of the decoder have no weight decay
    title: ClassVar[str] = "Segmentation"
    needs: ClassVar[frozenset[str]] = frozenset({"masks"})
    headline: ClassVar[str] = "dice"
    paper_headline: ClassVar[str] = "dice_batched"
    beside: ClassVar[tuple[str, ...]] = ("dice_positives", "false_positive_rate")
    larger_is_better: ClassVar[Mapping[str, bool]] = {"false_positive_rate": False, "hd95": False}
    units: ClassVar[Mapping[str, str]] = {"hd95": "px"}
    names: ClassVar[Mapping[str, str]] = {
        "dice": "Dice",
        "dice_positives": "Dice, positives only",
        "dice_micro": "Dice, all pixels together",
        "dice_classes": "Dice, mean of target and background",
        "dice_batched": "Dice, mean of batches",
        "false_positive_rate": "false-positive rate",
        "iou": "IoU",
        "iou_positives": "IoU, positives only",
        "hd95": "HD95 in px, positives only",
        "surface_dice": "surface Dice, positives only",
    }
    about_chance: ClassVar[str] = (
        "Chance is an empty prediction for every image: if most images have no target, its Dice is high."
    )

    def predict(self, encoder: Encoder, data: Corpus, budget: Budget) -> Predictions:
        """Pixel counts, and the predicted masks: pixels of the stored ones row by row, eight a byte (np.packbits)."""
        data = targeted(self.selected(data), self.labels)
        if data.masks is None:
            raise UserError(f"{data.root} has no masks: prepare a source that has, e.g. siim or rsna")
        rows = parts(data, budget, test=self.split)
        network = self.train(encoder, data, budget, rows)
        view = whole_images(encoder, data, budget, self)
        counts = [_count(network, view, piece, self.tolerance) for piece in batches(rows.test, self.batch_size)]
        joined = {name: np.concatenate([part[name] for part in counts]) for name in counts[0]}
        return identity(data, rows.test, budget) | joined

    def train(self, encoder: Encoder, data: Corpus, budget: Budget, rows: Parts) -> UNet | UPerNet:
        """The network of the best validation metric."""
        view = whole_images(encoder, data, budget, self)
        kind = UPerNet if self.decoder == "upernet" else UNet
        with seeded(budget.seed):
            network = kind(pyramid(encoder, budget, self), width=self.width).to(budget.device)
        loss = cross_entropy if self.loss == "cross-entropy" else segmentation_loss

        def step(piece: np.ndarray, generator: torch.Generator) -> Tensor:
            gray, masks = self._scale_and_rotate(view.gray(piece), view.masks(piece), generator)
            main, *others = network.heads(normalise(gray, view.config))
            return loss(main, masks) + sum(AUXILIARY * loss(each, masks) for each in others)

        def validate() -> float | tuple[float, float]:
            short = budget.mode == "paper" and len(rows.validation) >= self.batch_size
            pieces = batches(rows.validation, self.batch_size, drop_last=short)
            losses, counts = [], np.zeros((4, 1))
            for piece in pieces:
                logits, masks = network(view.images(piece)), view.masks(piece)
                losses.append(loss(logits, masks).item())
                counts += _overlap(logits > 0, masks > 0.5)
            mean = float(np.average(losses, weights=[len(piece) for piece in pieces]))
            return mean if self.monitor == "loss" else (-float(_dice_classes(*counts)[0]), mean)

        chosen = self._training(data, rows.train, budget)
        fit(network, settings=self, budget=budget, rows=chosen, step=step, validate=validate)
        return network.eval()

    def measure(self, predictions: Predictions, rows: np.ndarray | None = None) -> dict[str, float]:
        drawn = metrics.one_sample(rows, len(predictions["actual"]))
        return {name: float(values[0]) for name, values in self.resample(predictions, drawn).items()}

    def support(self, predictions: Predictions) -> dict[str, Support]:
        positive, negative = metrics.image_support(predictions["actual"] > 0, predictions["patient"])
        of_positives = ("dice_positives", "dice_micro", "dice_classes", "iou_positives", *SURFACES)
        return {**dict.fromkeys(of_positives, (positive,)), "false_positive_rate": (negative,)}

    def resample(self, predictions: Predictions, counts: np.ndarray) -> dict[str, np.ndarray]:
        both, predicted, actual = (predictions[name] for name in ("intersection", "predicted", "actual"))
        dice, iou = _dice(both, predicted, actual), _iou(both, predicted, actual)
        found = {
            "dice": metrics.mean(dice, counts),
            "dice_positives": metrics.mean(np.where(actual > 0, dice, np.nan), counts),
            "dice_micro": _dice(counts @ both, counts @ predicted, counts @ actual),
            "false_positive_rate": metrics.mean(np.where(actual == 0, predicted > 0, np.nan), counts),
            **(
                {"dice_classes": _dice_classes(*(counts @ each for each in self._pixels(predictions)))}
                if "masks" in predictions
                else {}
            ),
            "dice_batched": np.array([self._batched(np.repeat(dice, drawn.astype(int))) for drawn in counts]),
            "iou": metrics.mean(iou, counts),
            "iou_positives": metrics.mean(np.where(actual > 0, iou, np.nan), counts),
            **{name: metrics.mean(predictions[name], counts) for name in SURFACES if name in predictions},
        }
        if predictions["paper"].all():
            return {"dice_batched": found["dice_batched"]} | found
        return found

    def _pixels(self, predictions: Predictions) -> list[np.ndarray]:
        """Of each image: those in both, predicted, actual, and all."""
        counted = [predictions[name] for name in ("intersection", "predicted", "actual")]
        return [*counted, np.full(len(counted[0]), isqrt(8 * predictions["masks"].shape[1]) ** 2)]

    def _batched(self, dice: np.ndarray) -> float:
        return float(np.mean([piece.mean() for piece in batches(dice, self.batch_size)]))

    def chance(self, predictions: Predictions) -> dict[str, float]:
        """Of the predictor that never finds anything."""
        names = ("predicted", "intersection", "surface_dice")
        nothing = {name: 0 * predictions[name] for name in names if name in predictions}
        if "hd95" in predictions:
            side = isqrt(8 * predictions["masks"].shape[1])
            nothing["hd95"] = np.where(np.isnan(predictions["hd95"]), np.nan, np.hypot(side, side))
        found = self.measure(predictions | nothing)
        return {name: value for name, value in found.items() if not np.isnan(value)}

    def _training(self, data: Corpus, rows: np.ndarray, budget: Budget) -> np.ndarray:
        """The rows to train on: all, or the positive ones and as many empty ones, drawn by the seed."""
        assert data.masks is not None
        positive = np.concatenate([data.masks[piece].any(axis=(1, 2)) for piece in batches(rows, READ_AT_ONCE)])
        if not positive.any():
            raise UserError(f"none of the {len(rows)} training images has a mask: raise --fraction")
        if not self.balanced:
            return rows
        empty = np.random.default_rng(budget.seed).permutation(rows[~positive])
        return np.sort(np.concatenate([rows[positive], empty[: positive.sum()]]))

    def _scale_and_rotate(self, gray: Gray, masks: Gray, generator: torch.Generator) -> tuple[Gray, Gray]:
        """One random warp an image about its centre, with probability ``augment``; black comes in at the border.

        Then a horizontal flip, with probability ``flip``.
        """
        draws = torch.rand((3, len(gray)), generator=generator, device=gray.device)
        used = draws[0] < self.augment
        zoom = 1 + used * self.scale * (2 * draws[1] - 1)
        angle = used * self.rotation * (2 * draws[2] - 1) * (torch.pi / 180)
        cosine, sine, none = angle.cos() / zoom, angle.sin() / zoom, torch.zeros_like(angle)
        inverse = torch.stack([cosine, -sine, none, sine, cosine, none], dim=1).view(-1, 2, 3)
        both = torch.stack([gray, masks], dim=1)
        grid = functional.affine_grid(inverse, list(both.shape), align_corners=False)
        warped = functional.grid_sample(both, grid, align_corners=False).clamp(0, 1)
        if self.flip:
            flipped = torch.rand((len(gray), 1, 1, 1), generator=generator, device=gray.device) < self.flip
            warped = torch.where(flipped, warped.flip(3), warped)
        return warped[:, 0], warped[:, 1]


@torch.no_grad()
def _count(network: UNet | UPerNet, view: WholeImages, rows: np.ndarray, tolerance: float) -> Predictions:
    """In the pixels of the stored masks: whether an image has a target does not depend on the network's input."""
    with autocast(view.device):
        logits = network(view.images(rows)).float()
    actual = view.stored(rows) > 0
    if logits.shape != actual.shape:
        logits = functional.interpolate(logits[:, None], actual.shape[1:], mode="bilinear", antialias=True)[:, 0]
    masks = (logits > 0).cpu().numpy()
    each = [compared(*pair, tolerance=tolerance) for pair in zip(masks, actual.cpu().numpy(), strict=True)]
    predicted, actual = (logits > 0).flatten(1), actual.flatten(1)
    counts = {"intersection": predicted & actual, "predicted": predicted, "actual": actual}
    return {
        **{name: pixels.sum(dim=1).cpu().numpy() for name, pixels in counts.items()},
        "masks": np.packbits(masks.reshape(len(masks), -1), axis=-1),
        **{name: np.array(column, np.float32) for name, column in zip(SURFACES, zip(*each, strict=True), strict=True)},
    }


def _dice(both: np.ndarray, predicted: np.ndarray, actual: np.ndarray) -> np.ndarray:
    total = predicted + actual
    return np.where(total == 0, 1.0, 2 * both / np.maximum(total, 1))


def _dice_classes(both: np.ndarray, predicted: np.ndarray, actual: np.ndarray, every: np.ndarray) -> np.ndarray:
    """The mean of the target's and the background's, over all pixels that were counted."""
    background = _dice(every - predicted - actual + both, every - predicted, every - actual)
    return (_dice(both, predicted, actual) + background) / 2


def _overlap(predicted: Tensor, actual: Tensor) -> np.ndarray:
    """How many pixels are in both, predicted, actual, and all."""
    counts = [int(each.sum()) for each in (predicted & actual, predicted, actual)]
    return np.array([*counts, actual.numel()], float)[:, None]


def _iou(both: np.ndarray, predicted: np.ndarray, actual: np.ndarray) -> np.ndarray:
    either = predicted + actual - both
    return np.where(either == 0, 1.0, both / np.maximum(either, 1))
