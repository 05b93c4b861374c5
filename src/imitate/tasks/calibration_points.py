"""What the decisions at the threshold of each class do to the test patients, and how a calibration is written down."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np

from imitate.inference.calibration import Calibration, ClassCalibration, OperatingPoint, Rate
from imitate.inference.prompts import Prompts
from imitate.statistics import operating
from imitate.tasks.base import Estimate, Predictions
from imitate.tasks.calibration import TEST, VALIDATION, Recalibration, part_of

RATES = ("sensitivity", "specificity", "ppv", "npv")


class Point(NamedTuple):
    """Of a class that has a threshold."""

    name: str
    threshold: float
    counts: dict[str, int]  # tp, fp, fn, tn of the test images
    wilson: dict[str, tuple[float, float] | None]  # of each rate, at this very threshold


def points(task: Recalibration, predictions: Predictions) -> list[Point]:
    """Those of the classes that have a threshold."""
    found = []
    for column, (name, at) in enumerate(
        zip(predictions["classes"].tolist(), task.thresholds(predictions), strict=True)
    ):
        threshold = float(at[0])
        if not np.isfinite(threshold):
            continue
        target, score, patient = part_of(predictions, TEST, column)
        called = operating.calls(target, score, threshold)
        counts = {
            "tp": called.true_positive, "fp": called.false_positive, "fn": called.false_negative,
            "tn": called.true_negative,
        }  # fmt: skip
        wilson = _wilson(target > 0, score >= threshold, patient)
        found.append(Point(name, threshold, {key: int(number[0]) for key, number in counts.items()}, wilson))
    return found


def _wilson(positive: np.ndarray, called: np.ndarray, patient: np.ndarray) -> dict[str, tuple[float, float] | None]:
    """With as many cases as patients: several images of a patient are no independent cases."""
    found = {}
    for rate, among, right in (
        ("sensitivity", positive, called),
        ("specificity", ~positive, ~called),
        ("ppv", called, positive),
        ("npv", ~called, ~positive),
    ):
        patients = len(np.unique(patient[among]))
        fraction = float(right[among].mean()) if patients else 0.0
        found[rate] = operating.wilson(fraction * patients, patients)
    return found


def written(
    task: Recalibration,
    predictions: Predictions,
    metrics: Mapping[str, Estimate],
    *,
    prompts: Mapping[str, Prompts],
    facts: Mapping[str, Any],
) -> Calibration:
    """``metrics`` are those of these predictions; ``facts`` are fields of the calibration."""
    at = {point.name: point for point in points(task, predictions)}
    classes: dict[str, ClassCalibration] = {}
    for column, (name, each, note) in enumerate(task.maps(predictions)):
        target, _, _ = part_of(predictions, VALIDATION, column)
        point = at.get(name)
        classes[name] = ClassCalibration(
            method=None if each is None else task.calibrator,
            note=note,
            **({} if each is None else each._asdict()),
            positives=int((target > 0).sum()),
            negatives=int((target <= 0).sum()),
            prompts=prompts.get(name),
            operating=None if point is None else _operating(task, point, metrics),
        )
    held = predictions["part"] == VALIDATION
    data = {"images": int(held.sum()), "patients": len(np.unique(predictions["patient"][held]))}
    values = {"method": task.calibrator, "date": f"{datetime.now(UTC):%Y-%m-%d}", "classes": classes, **facts}
    return Calibration(**{**values, "data": {**facts["data"], **data}})


def _operating(task: Recalibration, point: Point, metrics: Mapping[str, Estimate]) -> OperatingPoint:
    achieved = {}
    for rate in RATES:
        found = metrics.get(f"{rate}/{point.name}", Estimate(value=None))
        low, high = point.wilson[rate] or (None, None)
        achieved[rate] = Rate(value=found.value, low=found.low, high=found.high, wilson_low=low, wilson_high=high)
    return OperatingPoint(aim=task.aim, at=task.at, threshold=point.threshold, achieved=achieved, counts=point.counts)


def table(task: Recalibration, calibration: Calibration) -> list[list[str]]:
    """For a terminal: a line a class, with its decisions on the test images."""
    aim = {"youden": "largest sensitivity + specificity", "cost": f"a miss costs {task.at:g} false alarms"}
    heads = ["", "threshold", "probability there", "sensitivity", "specificity", "PPV", "NPV", "TP", "FP", "FN", "TN"]
    rows = [[f"threshold: {aim.get(task.aim, f'{task.aim} {task.at:g} on validation')}", *heads[1:]]]
    for name, each in calibration.classes.items():
        if (point := each.operating) is None:
            rows.append([name, "none", *[""] * 9])
            continue
        there = calibration.threshold_probability(name)
        rates = [_shown(point.achieved[rate]) for rate in RATES]
        counts = [f"{point.counts[key]:,}" for key in ("tp", "fp", "fn", "tn")]
        rows.append([name, f"{point.threshold:.4g}", "" if there is None else f"{there:.3f}", *rates, *counts])
    return rows


def _shown(rate: Rate) -> str:
    if rate.value is None:
        return "-"
    between = "" if rate.low is None or rate.high is None else f" ({rate.low:.2f}-{rate.high:.2f})"
    return f"{rate.value:.2f}{between}"
