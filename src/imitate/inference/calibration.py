"""A calibration: from the scores of a model to probabilities and decisions, and on which images that was found.

``imitate calibrate`` writes it as ``calibration.json`` beside the weights. It belongs to one model, and of zero-shot
scores to their prompts and branch.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool
from pydantic import Field

from imitate.config import Config, validate
from imitate.errors import UserError
from imitate.inference.base import BaseEncoder
from imitate.inference.prompts import Prompts
from imitate.names import Aim, Branch, CalibrationMethod
from imitate.statistics.recalibration import Map, Scores

log = logging.getLogger(__name__)
FILE = "calibration.json"
UNCALIBRATED = "uncalibrated"


class Rate(Config):
    """On the test images. ``low`` to ``high`` is over patients and the choice of the threshold, ``wilson`` over the
    patients alone, with this threshold; both 95%.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    wilson_low: float | None = None
    wilson_high: float | None = None


class OperatingPoint(Config):
    """A score from which on an image is called positive, chosen on the validation images for an aim."""

    aim: Aim
    at: float  # the sensitivity or specificity that was asked for, or the cost of a missed positive in false alarms
    threshold: float  # of the score, not of the probability
    achieved: dict[str, Rate] = Field({})  # sensitivity, specificity, ppv, npv
    counts: dict[str, int] = Field({})  # of the test images: tp, fp, fn, tn


class ClassCalibration(Config):
    """Of one class. Without a ``method`` it is uncalibrated, and ``note`` says why."""

    method: CalibrationMethod | None
    note: str = ""
    slope: float = 1.0  # of temperature and platt: p = 1 / (1 + exp(-(intercept + slope * score)))
    intercept: float = 0.0
    scores: tuple[float, ...] = ()  # of isotonic: the probability at each score, a straight line in between
    values: tuple[float, ...] = ()
    positives: int = 0  # validation images
    negatives: int = 0
    prompts: Prompts | None = None  # of zero-shot scores
    operating: OperatingPoint | None = None

    def probabilities(self, scores: Scores) -> Scores:
        return Map(self.slope, self.intercept, self.scores, self.values)(scores)


class Calibration(Config):
    """The calibration of the classes of a model. ``imitate.inference.calibration.read`` reads it from its file.

    Scores are the outputs of the model: for zero-shot classification, the cosine with the positive prompts minus that
    with the negative ones; for a probe or a fine-tuned head, the logits.
    """

    format_version: Literal[1] = 1
    task: str  # zero-shot, or the task of the results that it was made from
    method: CalibrationMethod
    data: dict[str, Any]  # of the validation images: name, source, fingerprint, split, images, patients
    date: str
    weights: str  # digest
    encoder: str = ""  # of zero-shot scores: the identity of the encoder, as results of tasks name it
    preprocessing: str  # digest
    branch: Branch | None = None  # of zero-shot scores
    settings: str = ""  # digest of those that a probe or a head was fitted with
    classes: dict[str, ClassCalibration]
    versions: dict[str, str] = Field({})
    approximate: str = ""  # why its probabilities and thresholds are not exactly those of the model that uses it

    def calibrated(self, name: str) -> bool:
        return name in self.classes and self.classes[name].method is not None

    def probabilities(self, name: str, scores: Scores) -> Scores:
        """The probabilities of these scores. UserError: the class is not calibrated."""
        if not self.calibrated(name):
            raise UserError(f"{name} is {self.about(name)}")
        return self.classes[name].probabilities(scores)

    def operating(self, name: str) -> OperatingPoint | None:
        return self.classes[name].operating if name in self.classes else None

    def threshold(self, name: str) -> float | None:
        """The threshold of the score; None if the class has none."""
        point = self.operating(name)
        return None if point is None else point.threshold

    def threshold_probability(self, name: str) -> float | None:
        """The calibrated probability at the threshold."""
        at = self.threshold(name)
        if at is None or not self.calibrated(name):
            return None
        return float(self.classes[name].probabilities(np.array([at]))[0])

    def decisions(self, name: str, scores: Scores) -> Bool[np.ndarray, " rows"]:
        """Which scores reach the threshold. UserError: the class has none."""
        at = self.threshold(name)
        if at is None:
            why = self.classes[name].note if name in self.classes else ""
            raise UserError(f"{name} has no threshold{f': {why}' if why else ''}")
        decided: Bool[np.ndarray, " rows"] = np.asarray(scores, dtype=np.float64) >= at
        return decided

    @property
    def provenance(self) -> str:
        """The images on which it was fitted, in words."""
        data = self.data
        return (
            f"{self.method}, fitted on {data['images']:,} images of {data['patients']:,} {data.get('unit', 'patients')}"
            f" ({data['name']}, split {data['split']}), {self.date}{self.approximate and f'; {self.approximate}'}"
        )

    def about(self, name: str) -> str:
        """The provenance of one class, or that it is uncalibrated, and why."""
        if name not in self.classes:
            return f"{UNCALIBRATED}: no calibration of this class"
        found = self.classes[name]
        if found.method is None:
            return f"{UNCALIBRATED}: {found.note}" if found.note else UNCALIBRATED
        return f"{self.provenance}, {found.positives:,} of {found.positives + found.negatives:,} positive"

    def unlike(self, encoder: BaseEncoder) -> str:
        """Why it is not of this model; "" where it is."""
        if self.branch is None:
            return f"it is of {self.task}, not of the model's zero-shot scores"
        if self.weights != encoder.digest():
            return "it is of another model: its weights differ"
        if self.preprocessing != preprocessing_digest(encoder):
            return "it is of another model: its images are prepared differently"
        return ""

    @property
    def prompts(self) -> dict[str, Prompts]:
        return {name: each.prompts for name, each in self.classes.items() if each.prompts is not None}

    def asked(self, prompts: Mapping[str, Prompts], branch: Branch) -> "Calibration":
        """Of these prompts: other ones, and those of another branch, are uncalibrated."""
        found: dict[str, ClassCalibration] = {}
        for name, wanted in prompts.items():
            if name not in self.classes:
                why = "no calibration of this class"
            elif self.classes[name].prompts != wanted:
                why = "the calibration is of other prompts"
            elif branch != self.branch:
                why = f"the calibration is of branch {self.branch}"
            else:
                found[name] = self.classes[name]
                continue
            found[name] = ClassCalibration(method=None, note=why)
        return self.model_copy(update={"classes": found})

    def save(self, path: Path) -> None:
        """Whole or not at all."""
        part = path.with_name(f"{path.name}.part")
        try:
            part.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
            part.replace(path)
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}") from error
        log.info("wrote %s", path)


def preprocessing_digest(encoder: BaseEncoder) -> str:
    return hashlib.sha256(encoder.preprocessing.model_dump_json().encode()).hexdigest()


def beside(folder: Path) -> Path:
    """Where the calibration of a run, or of a model folder, lies."""
    return (folder / "model" if (folder / "model").is_dir() else folder) / FILE


def calibration_of(encoder: BaseEncoder, folder: Path, given: Path | None = None) -> Calibration | None:
    """``given``, or what lies beside the weights. UserError where the one that is given is of another model; one that
    lies there is ignored with a warning.
    """
    path = given or beside(folder)
    if given is None and not path.is_file():
        own = encoder.own_calibration
        return None if own is None else _used(validate(Calibration, own, where=str(folder)), encoder)
    found = read(path)
    why = found.unlike(encoder)
    if why and given is not None:
        raise UserError(f"{path} cannot be used with {encoder.name}: {why}")
    if why:
        log.warning("%s is not used, since %s: run imitate calibrate again, or delete it", path, why)
    return None if why else _used(found, encoder)


def _used(found: Calibration, encoder: BaseEncoder) -> Calibration:
    """The calibration as this encoder can use it: that of one in 8 bits says so wherever it is quoted."""
    if encoder.precision == "float32":
        return found
    said = "%s has 8-bit weights, but its calibration was fitted to float32 scores: probabilities are approximate"
    log.warning(said, encoder.name)
    return in_8_bits(found)


def in_8_bits(found: Calibration) -> Calibration:
    return found.model_copy(
        update={"approximate": "approximate: fitted to float32 scores, but the model has 8-bit weights"}
    )


def read(path: Path) -> Calibration:
    """Read a calibration from its file. UserError: there is none, or it is damaged or of another version."""
    if not path.is_file():
        raise UserError(f"no calibration at {path}: make one with imitate calibrate")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON: give a file that imitate calibrate wrote") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} is not a calibration: give a file that imitate calibrate wrote")
    return validate(Calibration, values, where=str(path))
