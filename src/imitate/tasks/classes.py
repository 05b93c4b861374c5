"""What every classification shares: its metrics, and the unit that has a score."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.special import expit

from imitate.errors import UserError
from imitate.statistics import metrics
from imitate.statistics.intervals import Support
from imitate.statistics.thresholds import balanced_accuracy, called, called_highest, matthews, of
from imitate.tasks.base import Predictions, Task
from imitate.tasks.options import ClassificationOptions
from imitate.tasks.studies import Average, by_study

CLOSE = 1e-3  # of the sum of probabilities that were kept in single precision
RANKING = {"auroc": metrics.auroc, "average-precision": metrics.average_precision}
AT_THRESHOLD = {
    "threshold-balanced-accuracy": of(called, balanced_accuracy),
    "threshold-mcc": of(called, matthews),
}
EXCLUSIVE = {
    "accuracy": metrics.accuracy,
    "balanced-accuracy": of(called_highest, balanced_accuracy),
    "mcc": of(called_highest, matthews),
}


class OfClasses(ClassificationOptions, Task):
    """Predictions hold target, score (rows, classes) and classes. Of classes that exclude each other:

    - ``accuracy``: how often the class of the highest score is the right one.
    - ``balanced-accuracy``: the mean of this over the images of each class.
    - ``mcc``: the correlation of both, 0 for a constant call (Matthews, 1975; of several classes Gorodkin, 2004).

    Where they do not, ``threshold-balanced-accuracy`` and ``threshold-mcc`` are of the yes or no of each class.
    ``unit``: study has one score a study, the mean over its images (``tasks.studies``).
    """

    curves: ClassVar[bool] = True
    units: ClassVar[Mapping[str, str]] = dict.fromkeys(("mcc", "threshold-mcc", "oracle-mcc"), "%")
    names: ClassVar[Mapping[str, str]] = {
        "f1": "F1",
        "balanced-accuracy": "balanced accuracy",
        "mcc": "Matthews correlation",
        "threshold-balanced-accuracy": "balanced accuracy at the threshold",
        "threshold-mcc": "Matthews correlation at the threshold",
    }

    def measure(self, predictions: Predictions, rows: np.ndarray | None = None) -> dict[str, float]:
        counts = metrics.one_sample(rows, len(predictions["target"]))
        return {name: float(values[0]) for name, values in self.resample(predictions, counts).items()}

    def support(self, predictions: Predictions) -> dict[str, Support]:
        target, patients, classes = (predictions[key] for key in ("target", "patient", "classes"))
        means = metrics.class_support(["balanced-accuracy", "mcc"], target, patients, classes.tolist())
        return {**means, **super().support(predictions)}

    def by_unit(self, predictions: Predictions, table: pd.DataFrame, average: Average) -> Predictions:
        """Of images, ``table``'s rows, or of their studies."""
        names = {key: table[key].to_numpy().astype(np.str_) for key in ("image_id", "patient")}
        if self.unit == "image":
            return {**predictions, **names}
        return by_study({**predictions, **names}, table["study"].to_numpy().astype(np.str_), average)


def probabilities(
    score: Float[np.ndarray, "rows classes"],
) -> Float[np.ndarray, "rows classes"]:
    """Of the logits of a head, or of its log-probabilities of exclusive classes, which ``are_exclusive``."""
    return np.exp(score) if are_exclusive(score) else expit(score)


def are_exclusive(score: Float[np.ndarray, "rows classes"]) -> bool:
    """Whether scores are log-probabilities of classes that exclude each other, of which each row has all.

    The labels do not say it: the test images can have one class each where those of training had several.
    """
    return bool(score.shape[1] > 1 and (score <= CLOSE).all() and np.allclose(np.exp(score).sum(1), 1, atol=CLOSE))


def check_undecided(score: Float[np.ndarray, "rows classes"]) -> None:
    """UserError where scores are probabilities, of which another sigmoid would make others between .5 and .73."""
    if (score >= 0).all() and (score <= 1).all() and np.ptp(score, axis=0).any():
        raise UserError(
            "the scores lie between 0 and 1, as probabilities do: a task must keep logits, or log-probabilities of "
            "exclusive classes"
        )


def of_exclusive(
    target: Float[np.ndarray, "rows classes"], score: Float[np.ndarray, "rows classes"], counts: metrics.Counts
) -> dict[str, metrics.Metric]:
    """Nothing where the classes do not exclude each other."""
    if not metrics.exclusive(target):
        return {}
    return {name: metric(target, score, counts) for name, metric in EXCLUSIVE.items()}
