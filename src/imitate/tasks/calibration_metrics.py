"""The metrics of a calibration: what they are called, in which unit, which values are better, and what chance gives."""

from collections.abc import Callable, Sequence

import numpy as np

from imitate.statistics import calibration, metrics
from imitate.statistics.calibration_intervals import ERRORS, Inverted, error_interval, fields, inverted, mean_of
from imitate.statistics.resampling import bootstrap
from imitate.tasks.base import Predictions

BEFORE = "-before"  # ends the metrics of the probabilities before calibration
WHEN = {"": "probability", BEFORE: "before"}  # the field of the predictions
MEASURES: dict[str, Callable[..., metrics.Metric]] = {
    **calibration.MEASURES,
    "reliability": lambda *given: calibration.murphy(*given).reliability,
    "resolution": lambda *given: calibration.murphy(*given).resolution,
}
CONSTANT = ("brier", "log-loss", "brier-skill")  # compared with always saying the fraction of positives
DRAWS = 200  # of labels, behind the level of an error that chance gives
SAMPLES = 200  # of patients at most, behind the interval of an error
AT_POINT = ("sensitivity", "specificity", "ppv", "npv", "ppv-at-prevalence", "npv-at-prevalence")
NAMES = {
    "brier": "Brier score",
    "brier-skill": "Brier skill",
    "log-loss": "log loss, nats",
    "smooth-ece": "smooth ECE",
    "ece": "binned ECE",
    "slope": "calibration slope, ideally 1",
    "intercept": "calibration intercept, ideally 0",
    "observed-to-expected": "observed / expected, ideally 1",
    "reliability": "Brier reliability",
    "resolution": "Brier resolution",
}
OF_POINTS = {
    "ppv": "PPV",
    "npv": "NPV",
    "ppv-at-prevalence": "PPV at the stated prevalence",
    "npv-at-prevalence": "NPV at the stated prevalence",
}
UNITS = {"brier-skill": "%", "log-loss": "nats", "slope": "", "intercept": "", "observed-to-expected": ""}
BETTER: dict[str, bool | None] = {
    **dict.fromkeys(("brier", "log-loss", *ERRORS), False),
    **dict.fromkeys(("slope", "intercept", "observed-to-expected")),  # nearest to 1, to 0 and to 1
}


def shown(name: str, when: str) -> str:
    """What tables call a metric of the probabilities after calibration, or before."""
    named, comma, unit = name.partition(", ")
    return f"{named}{when.replace('-', ' ')}{comma}{unit}"


def level_of_errors(probability: np.ndarray) -> dict[str, float]:
    """The mean of each error over labels that are drawn from the very probabilities, of which none is wrong."""
    drawn = np.random.default_rng(0).random((DRAWS, len(probability))) < probability
    target, twice = np.repeat([1.0, 0.0], len(probability)), np.tile(probability, 2)
    counts = np.concatenate([drawn, ~drawn], axis=1).astype(float)
    return {metric: float(MEASURES[metric](target, twice, counts).mean()) for metric in ERRORS}


def level_of_constant(target: np.ndarray) -> dict[str, float]:
    """Of always saying the fraction of positives."""
    constant = np.full(len(target), target.mean())
    return {metric: float(MEASURES[metric](target, constant)[0]) for metric in CONSTANT}


def error_intervals(
    runs: Sequence[Predictions], shared: Sequence[str], *, resamples: int
) -> dict[str, tuple[float, float]]:
    """Of each error and class, and of the mean over the ``shared`` classes. Over patients: runs are as they are."""
    found: dict[str, list[Inverted]] = {}
    for run in runs:
        test = run["part"] == "test"
        for column, name in enumerate(run["classes"].tolist()):
            for when, kind in WHEN.items():
                target, said = run["target"][test, column], run[kind][test, column]
                if np.isnan(said).any() or np.isnan(target).all():
                    continue
                patients, most = run["patient"][test], min(SAMPLES, resamples)
                drawn = bootstrap([fields(target, said)], patients, resamples=most)
                for metric, each in inverted(target, said, {key: field[0] for key, field in drawn.items()}).items():
                    found.setdefault(f"{metric}{when}/{name}", []).append(each)
    of_class = {name: mean_of(each) for name, each in found.items()}
    for metric in (f"{metric}{when}" for metric in ERRORS for when in WHEN):
        if common := [of_class[f"{metric}/{name}"] for name in shared if f"{metric}/{name}" in of_class]:
            of_class[metric] = mean_of(common)
    return {name: error_interval(each) for name, each in of_class.items()}
