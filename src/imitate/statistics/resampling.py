"""Intervals, tests and low-data subsets. The unit is the patient; everything is drawn from a seed."""

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from imitate.errors import UserError

Distribution = Float[np.ndarray, " resamples"]
Resample = Callable[[np.ndarray], dict[str, np.ndarray]]
"""One run's figures: ``counts`` (samples, rows) to named arrays (samples,)."""

NORMAL = NormalDist()
CHUNK = 2**22  # cells of a count matrix held at once


class Comparison(NamedTuple):
    difference: float  # first minus second
    error: float  # its standard error
    p: float  # two-sided


def bootstrap(
    runs: Sequence[Resample], patients: Shaped[np.ndarray, " rows"], *, resamples: int = 1000, seed: int = 0
) -> dict[str, Distribution]:
    """How the mean over the runs of each figure varies: in every resample both runs and patients are drawn again.

    A patient comes with all of their images. NaN where a resample leaves the figure undefined. Calls with one seed
    draw the same patients, and of as many runs the same ones, so that differences between them are paired.
    """
    names, owner = np.unique(patients, return_inverse=True)
    generator = np.random.default_rng(seed)
    chosen = np.random.default_rng([seed, 1]).integers(0, len(runs), (resamples, len(runs)))
    size = max(1, CHUNK // len(patients))
    pieces: dict[str, list[np.ndarray]] = {}
    for start in range(0, resamples, size):
        part = chosen[start : start + size]
        draws = generator.integers(0, len(names), (len(part), len(names)))
        counts = np.stack([np.bincount(draw, minlength=len(names)) for draw in draws])[:, owner]
        figures = [run(counts) for run in runs]
        for name in figures[0]:
            each = np.stack([figure[name] for figure in figures], axis=1)
            pieces.setdefault(name, []).append(np.take_along_axis(each, part, axis=1).mean(1))
    return {name: np.concatenate(piece) for name, piece in pieces.items()}


def interval(
    distribution: Distribution, level: float = 0.95, *, estimate: float | None = None
) -> tuple[float, float] | None:
    """Percentiles of the defined resamples; None where more than half of them are undefined.

    With ``estimate``, the value of the sample itself, the percentiles are bias-corrected (Efron, 1981): resamples of
    some metrics, such as average precision, lie above the metric of the sample, since they hold rows twice.
    """
    defined = distribution[~np.isnan(distribution)]
    if not len(defined) or 2 * len(defined) < len(distribution):
        return None
    ends = [(1 - level) / 2, (1 + level) / 2]
    if estimate is not None and not math.isnan(estimate):
        below = (defined < estimate).mean() + (defined == estimate).mean() / 2
        shift = 2 * NORMAL.inv_cdf(float(np.clip(below, 0.5 / len(defined), 1 - 0.5 / len(defined))))
        ends = [NORMAL.cdf(shift + NORMAL.inv_cdf(end)) for end in ends]
    low, high = np.quantile(defined, ends)
    return float(low), float(high)


def bootstrap_p(differences: Distribution) -> float:
    """Two-sided: twice the smaller share of resamples on one side of zero, never below 2 / (resamples + 1)."""
    defined = differences[~np.isnan(differences)]
    if not len(defined):
        return math.nan
    below, above = (defined <= 0).sum(), (defined >= 0).sum()
    return float(min(1.0, 2 * (1 + min(below, above)) / (len(defined) + 1)))


def delong_variance(target: np.ndarray, score: np.ndarray, patients: np.ndarray | None = None) -> float:
    """Variance of the AUROC (DeLong et al., Biometrics 1988); see ``delong_test``."""
    return _variance(target, *_placements(target, score), patients)


def delong_test(
    target: np.ndarray, first: np.ndarray, second: np.ndarray, *, patients: np.ndarray | None = None
) -> Comparison:
    """Paired test of two AUROCs on the same images (DeLong et al., Biometrics 1988), in O(n log n).

    Scores are (rows,), or (runs, rows) for the mean AUROC of these very runs. ``patients`` makes each patient's images
    one cluster (Obuchowski, Biometrics 1997); with one image a patient, or without it, this is DeLong's test.
    """
    positive, negative = (a - b for a, b in zip(_placements(target, first), _placements(target, second), strict=True))
    difference = float(positive.mean())
    error = math.sqrt(_variance(target, positive, negative, patients))
    p = 1.0 if difference == 0 else math.erfc(abs(difference) / error / math.sqrt(2)) if error else 0.0
    return Comparison(difference, error, p)


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p values (Holm, 1979): reject those below alpha, and at most alpha of all such families err."""
    adjusted, highest = [math.nan] * len(p), 0.0
    tested = sorted((value, i) for i, value in enumerate(p) if not math.isnan(value))
    for rank, (value, i) in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - rank) * value))
        adjusted[i] = highest
    return adjusted


def subset(patients: np.ndarray, labels: np.ndarray | None, fraction: float, seed: int) -> list[str]:
    """The patients of a low-data run, sorted: a prefix of one order by seed, so that 1% lies within 10%.

    Patients are stratified by the rarest finding that any of their images (rows) is labelled with; each prefix has
    every stratum's share to within one patient. UserError where the fraction holds no patient.
    """
    names, owner = np.unique(patients, return_inverse=True)
    if not 0 < fraction <= 1:
        raise UserError(f"fraction {fraction} is not in (0, 1]: give a share of the patients such as 0.01")
    if fraction * len(names) < 1:
        raise UserError(f"fraction {fraction} of {len(names)} patients is nobody: use at least {1 / len(names):.2g}")
    found = np.zeros((len(names), 0 if labels is None else labels.shape[1]), dtype=bool)
    if labels is not None:
        np.logical_or.at(found, owner, labels > 0)
    commonness = np.where(found, found.sum(0), len(names) + 1)
    rarest = np.column_stack([commonness, np.full(len(names), len(names))]).argmin(1)
    generator = np.random.default_rng(seed)
    place = np.empty(len(names))
    for stratum in np.unique(rarest):
        members = generator.permutation(np.flatnonzero(rarest == stratum))
        place[members] = (np.arange(len(members)) + generator.random()) / len(members)
    return sorted(str(name) for name in names[np.argsort(place)[: round(fraction * len(names))]])


def stored_subset(
    path: Path, patients: np.ndarray, labels: np.ndarray | None, *, fraction: float, seed: int
) -> list[str]:
    """``subset`` as the JSON at ``path`` has it; drawn and written where there is none.

    UserError where the file was changed, or belongs to other patients, another fraction or another seed.
    """
    asked = {"fraction": fraction, "seed": seed, "drawn_from": _checksum(np.unique(patients))}
    if not path.is_file():
        chosen = subset(patients, labels, fraction, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")  # two evaluations may share the folder
        partial.write_text(
            json.dumps({**asked, "sha256": _checksum(chosen), "patients": chosen}, indent=1), encoding="utf-8"
        )
        partial.replace(path)
        return chosen
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        chosen = [str(name) for name in stored["patients"]]
        intact = stored["sha256"] == _checksum(chosen)
    except (ValueError, KeyError, TypeError):
        intact = False
    if not intact:
        raise UserError(f"{path} is damaged, its checksum does not hold: restore it, or delete it to draw it again")
    for key, value in asked.items():
        if stored.get(key) != value:
            raise UserError(f"{path} was drawn with {key} {stored.get(key)}, not {value}: use another cache folder")
    return chosen


def _checksum(names: Sequence[str] | np.ndarray) -> str:
    return hashlib.sha256("\n".join(sorted(map(str, names))).encode()).hexdigest()


def _placements(target: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each positive the share of negatives below it, for each negative that of positives above it; ties half."""
    each = []
    for score in np.atleast_2d(scores):
        positive, negative = score[target > 0], score[target <= 0]
        each.append((_share_below(positive, negative), _share_below(-negative, -positive)))
    above, below = (np.mean(part, axis=0) for part in zip(*each, strict=True))
    return above, below


def _share_below(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    ordered = np.sort(others)
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / (2 * len(others))


def _variance(target: np.ndarray, positive: np.ndarray, negative: np.ndarray, patients: np.ndarray | None) -> float:
    """Sum over patients of their squared influence on the mean of the placements; NaN below two of either label."""
    if min(len(positive), len(negative)) < 2:
        return math.nan
    influence = np.zeros(len(target))
    for where, part in ((target > 0, positive), (target <= 0, negative)):
        influence[where] = (part - part.mean()) / math.sqrt(len(part) * (len(part) - 1))
    owner = np.arange(len(target)) if patients is None else np.unique(patients, return_inverse=True)[1]
    return float((np.bincount(owner, weights=influence) ** 2).sum())
