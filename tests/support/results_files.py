"""Results files of every task with their predictions, as ``imitate evaluate`` writes them, from a seed."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from imitate.statistics import metrics
from imitate.tasks.base import Estimate, Predictions, Results
from imitate.tasks.calibration import Recalibration
from imitate.tasks.results import write_results

CLASSES = ["Atelectasis", "Edema", "Pleural Effusion", "Fracture"]
SETTINGS = {"split": "test"}
DATA = {"name": "folder", "source": "test", "fingerprint": "0123456789abcdef", "split": "test"}


def estimated(value: float, width: float = 0.03, **levels: Any) -> Estimate:
    if math.isnan(value):
        return Estimate(value=None, **levels)
    return Estimate(value=value, low=max(0.0, value - width), high=min(1.0, value + width), **levels)


def write_file(path: Path, task: str, runs: list[Predictions], found: dict[str, Estimate], **changes: Any) -> Path:
    run = runs[0]
    values: dict[str, Any] = {
        "task": task,
        "model": "IMITATE",
        "data": {**DATA, "images": len(run["image_id"]), "patients": len(set(run["patient"].tolist()))},
        "mode": "clean",
        "fraction": 1.0,
        "seeds": list(range(len(runs))),
        "settings": SETTINGS,
        "metrics": found,
        "per_seed": [{name: each.value for name, each in found.items() if each.value is not None}] * len(runs),
        "versions": {"imitate-cxr": "0.1.0", "torch": "2.14.1"},
        "seconds": 81.5,
    }
    write_results(Results(**(values | changes)), runs, path)
    return path


def identity(n: int) -> Predictions:
    return {
        "image_id": np.array([f"image{i:04d}" for i in range(n)]),
        "patient": np.array([f"patient{i // 2:04d}" for i in range(n)]),
    }


def scored(n: int, skill: float, seed: int) -> Predictions:
    """Logits; the last class has no positive, some labels are unknown."""
    targets, noise = np.random.default_rng(1), np.random.default_rng([seed, 2])
    rates = np.array([0.3, 0.2, 0.45, 0.0])
    target = (targets.random((n, 4)) < rates).astype(np.float32)
    score = (skill * (2 * target - 1) + noise.normal(size=(n, 4)) + np.log(np.maximum(rates, 0.01))).astype(np.float32)
    target[targets.random((n, 4)) < 0.05] = np.nan
    return {**identity(n), "target": target, "score": score, "classes": np.array(CLASSES)}


def classification(
    path: Path, *, task: str = "linear-classification", skill: float = 1.0, n: int = 400, seeds: int = 2, **changes: Any
) -> Path:
    runs = [scored(n, skill, seed) for seed in range(seeds)]
    found = {}
    for name, metric in (("auroc", metrics.auroc), ("average-precision", metrics.average_precision)):
        chance = 0.5 if name == "auroc" else 0.3
        each = [metrics.per_class(name, metric, run["target"], run["score"], CLASSES) for run in runs]
        for key in each[0]:
            found[key] = estimated(float(np.mean([values[key][0] for values in each])), chance=chance)
        found[name] = found[name].model_copy(update={"note": "undefined and left out: Fracture"})
    return write_file(path, task, runs, found, **changes)


def retrieval(path: Path, *, skill: float = 0.3, n: int = 40, **changes: Any) -> Path:
    percentile = np.random.default_rng(3).random(n).astype(np.float32)
    run = {**identity(n), "figure:percentile/both/image-to-text": percentile}
    run |= {
        f"figure:recall@{k}/both/{way}": (percentile < skill * math.sqrt(k)).astype(np.float32)
        for way in ("image-to-text", "text-to-image")
        for k in (1, 5, 10)
    }
    run["top"] = np.stack([np.roll(run["image_id"], -i) for i in range(5)], axis=1)
    recalls = {
        f"recall@{k}/{branch}/{way}": estimated(min(1.0, skill * math.sqrt(k)), chance=k / n, shuffled=1.2 * k / n)
        for branch in ("both", "findings", "impression")
        for way in ("image-to-text", "text-to-image")
        for k in (1, 5, 10)
    }
    found = {"mean-recall": estimated(skill, chance=5 / n, shuffled=6 / n), **recalls}
    return write_file(path, "retrieval", [run], found, **changes)


def segmentation(path: Path, *, skill: float = 0.7, n: int = 40, size: int = 32, **changes: Any) -> Path:
    generator = np.random.default_rng(4)
    masks = np.zeros((n, size, size), dtype=bool)
    for mask, (top, left, height) in zip(masks, generator.integers(4, size // 2, (n, 3)), strict=True):
        mask[top : top + height, left : left + 9] = True
    actual = np.where(np.arange(n) % 2, masks.sum((1, 2)), 0)
    predicted = masks.sum((1, 2))
    run = {
        **identity(n),
        "intersection": np.minimum(actual, (predicted * generator.random(n)).astype(int)),
        "predicted": predicted,
        "actual": actual,
        "masks": np.packbits(masks.reshape(n, -1), axis=-1),
        "paper": np.zeros(n, bool),
    }
    found = {
        "dice": estimated(0.4 + 0.5 * skill, chance=0.78),
        "dice_positives": estimated(skill, chance=0.0),
        "dice_micro": estimated(0.9 * skill, chance=0.0),
        "false_positive_rate": estimated(0.5 - 0.4 * skill, chance=0.0),
    }
    return write_file(path, "segmentation", [run], found, **changes)


def grounding(path: Path, *, skill: float = 0.6, n: int = 40, size: int = 36, **changes: Any) -> Path:
    """A phrase an image, the first mark of an image that ``tests`` prepare."""
    generator = np.random.default_rng(6)
    levels = ("own", "chance", "centre", "usual place", "another text", "another image")
    run = {
        f"{metric}:{level}": generator.random((n, 1)).astype(np.float32)
        for metric in ("pointing", "pixel-auroc", "cnr", "cnr-absolute", "miou")
        for level in levels
    }
    run |= {**identity(n), "label": np.full((n, 1), "Edema"), "marks": np.ones((n, 1), np.int64)}
    run |= {"map": np.full((n, 1, 32, 32), 90, np.uint8), "peak": np.full((n, 1, 2), size // 3, np.int16)}
    found = {
        "pointing": estimated(skill, chance=0.1, shuffled=0.2),
        "pixel-auroc": estimated(skill, chance=0.5, shuffled=0.6),
        "cnr": estimated(0.5, chance=0.0),
        "miou": estimated(0.2, chance=0.1),
        "pixel-auroc-gain/another text": estimated(0.1),
        "pixel-auroc/centre": estimated(0.7),
    }
    return write_file(path, "grounding", [run], found, **changes)


def calibration(path: Path, *, n: int = 300, skill: float = 1.0, **changes: Any) -> Path:
    """Two classes of a model that is too sure, and one that stays uncalibrated."""
    task = Recalibration()
    parts = []
    for seed, prefix in ((1, "held"), (2, "")):
        generator = np.random.default_rng(seed)
        true = generator.normal(-1, 1.5 * skill, (n, 3))
        target = (generator.random((n, 3)) < 1 / (1 + np.exp(-true))).astype(float)
        target[:, 2] = target[:, 2] * (seed == 2)
        names = {name: np.char.add(prefix, each) for name, each in identity(n).items()}
        before = 1 / (1 + np.exp(-(2 * true + 0.5)))
        parts.append({**names, "target": target, "score": true, "before": before})
    run = task.joined(*parts, classes=np.array(CLASSES[:3]))
    found = {name: estimated(value, width=0.02) for name, value in task.measure(run).items()}
    data = {**DATA, "images": n, "patients": n // 2}
    return write_file(
        path, "calibration", [run], found, **{"settings": task.model_dump(mode="json"), "data": data, **changes}
    )


def detection(path: Path, *, skill: float = 0.2, n: int = 40, size: int = 36, **changes: Any) -> Path:
    generator = np.random.default_rng(5)
    corner = generator.uniform(2, size / 2, (n, 3, 2))
    targets = np.concatenate([corner, corner + generator.uniform(5, size / 2 - 4, (n, 3, 2))], axis=-1)
    objects = np.arange(n) % 3
    targets[np.arange(3) >= objects[:, None]] = 0
    boxes = np.zeros((n, 100, 4), dtype=np.float32)
    boxes[:, :2] = targets[:, :2] + generator.normal(0, 1.5, (n, 2, 4))
    boxes[:, 2] = [3, 3, 14, 20]
    scores = np.zeros((n, 100), dtype=np.float32)
    scores[:, :3] = -np.sort(-generator.uniform(0.05, 0.98, (n, 3)), axis=1)
    run = {
        **identity(n),
        "boxes": boxes,
        "scores": scores,
        "targets": targets,
        "objects": objects,
        "found": np.where(np.arange(3) < objects[:, None], scores[:, :3], 0),
        "false_alarm": np.arange(100) == np.full((n, 1), 2),
        "matched": (np.arange(100) < objects[:, None])[..., None] & np.ones(12, bool),
        "paper": np.zeros(n, bool),
    }
    rates = {f"froc/{rate:g}": estimated(min(1.0, skill * (1 + rate))) for rate in (0.125, 0.25, 0.5, 1, 2, 4, 8)}
    found = {"map": estimated(skill), "map_coco": estimated(skill / 2), "ap50": estimated(1.5 * skill)}
    return write_file(path, "detection", [run], {**found, "froc": estimated(2 * skill), **rates}, **changes)
