"""One score a study: the mean over its images.

The mean of logits or log-probabilities is that of the probabilities, written as a logit or log-probability again.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped

from imitate.errors import UserError
from imitate.statistics.metrics import exclusive
from imitate.tasks.base import Predictions

Scores = Float[np.ndarray, "rows classes"]
Starts = Int[np.ndarray, " studies"]
Means = Float[np.ndarray, "studies classes"]
Average = Callable[[Scores, Starts], Means]
"""Of consecutive rows, each study from its start to the next one's."""


def by_study(predictions: Predictions, study: Shaped[np.ndarray, " rows"], average: Average) -> Predictions:
    """A row a study of a patient, in the order of their first images, whose ``image_id`` it has.

    A label is positive where that of any image is, else unknown where one is, else negative. UserError where this gives
    a study several of the classes that exclude each other in its images.
    """
    names = pd.DataFrame({"patient": predictions["patient"], "study": study})
    number = names.groupby(["patient", "study"], sort=False).ngroup().to_numpy()
    order = np.argsort(number, kind="stable")
    starts = np.flatnonzero(np.diff(number[order], prepend=-1))
    target = predictions["target"][order]
    positive, unknown = (np.logical_or.reduceat(each, starts) for each in (target > 0, np.isnan(target)))
    found = np.where(positive, 1, np.where(unknown, np.nan, 0)).astype(target.dtype)
    if exclusive(target) and not exclusive(found):
        where = order[starts[np.flatnonzero(found.sum(1) > 1)[0]]]
        raise UserError(
            f"images of study {study[where]} have different classes, but a study can have only one: "
            "measure by image, unit image"
        )
    rest = {key: predictions[key][order[starts]] for key in ("image_id", "patient")}
    score = average(predictions["score"][order].astype(np.float64), starts).astype(predictions["score"].dtype)
    return {**predictions, **rest, "target": found, "score": score}


def mean(scores: Scores, starts: Starts) -> Means:
    """Of scores such as cosines."""
    return np.add.reduceat(scores, starts) / _sizes(scores, starts)


def mean_of_logs(scores: Scores, starts: Starts) -> Means:
    """Of log-probabilities."""
    return np.logaddexp.reduceat(scores, starts) - np.log(_sizes(scores, starts))


def mean_of_logits(scores: Scores, starts: Starts) -> Means:
    """Of the logits of probabilities: exact where these are 0 or 1 but for rounding."""
    yes, no = (mean_of_logs(-np.logaddexp(0, sign * scores), starts) for sign in (-1, 1))
    return yes - no


def _sizes(scores: Scores, starts: Starts) -> Int[np.ndarray, "studies 1"]:
    return np.diff(starts, append=len(scores))[:, None]
