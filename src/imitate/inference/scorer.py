"""From vectors of images to scores, probabilities and decisions about classes."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import expit

from imitate.errors import UserError
from imitate.inference.calibration import UNCALIBRATED, Calibration
from imitate.inference.prompts import Prompts


class Scorer(NamedTuple):
    """Scores of classes from the vectors of images, of the branch that it was made for, and what follows from them."""

    prompts: dict[str, Prompts]
    temperature: float
    differences: Float[np.ndarray, "classes width"]  # positive minus negative
    calibration: Calibration | None = None  # of these prompts

    def scores(self, vectors: Float[np.ndarray, "rows width"]) -> Float[np.ndarray, "rows classes"]:
        """Cosine with the positive side minus that with the negative one: what a calibration is of."""
        found: np.ndarray = vectors @ self.differences.T
        return found

    def probabilities(self, scores: Float[np.ndarray, "rows classes"]) -> Float[np.ndarray, "rows classes"]:
        """Calibrated where the class is; else a softmax over the two sides, which is not."""
        found = expit(scores / self.temperature)
        for column, name in enumerate(self.prompts):
            if self.calibration and self.calibration.calibrated(name):
                found[:, column] = self.calibration.probabilities(name, scores[:, column])
        return found

    def decisions(self, scores: Float[np.ndarray, "rows classes"]) -> dict[str, Bool[np.ndarray, " rows"]]:
        """Of the classes that have a threshold. UserError where none has."""
        known = self.calibration
        named = [name for name in self.prompts if known and known.threshold(name) is not None]
        if known is None or not named:
            why = "there is no calibration" if known is None else f"none of {', '.join(self.prompts)} has a threshold"
            raise UserError(f"no class can be decided, {why}: choose thresholds with imitate calibrate")
        return {
            name: known.decisions(name, scores[:, column]) for column, name in enumerate(self.prompts) if name in named
        }

    @property
    def about(self) -> dict[str, str]:
        """How the probability of each class was found, or that it is uncalibrated."""
        return {name: self.calibration.about(name) if self.calibration else UNCALIBRATED for name in self.prompts}


def middle(vectors: Float[np.ndarray, "texts joint"]) -> Float[np.ndarray, " joint"]:
    """The unit vector of a set of sentences."""
    mean = vectors.mean(0)
    unit: np.ndarray = mean / np.float32(max(float(np.linalg.norm(mean)), 1e-12))
    return unit
