"""The options of ``imitate audit``, and what it writes."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from imitate.config import Config, validate
from imitate.data.groups import BANDS
from imitate.inference.prompts import plain
from imitate.statistics.operating import Aim
from imitate.tasks.base import Estimate
from imitate.tasks.results import read_json

KIND = "audit"
NO_FINDING = ("no finding", "no finding derived", "normal")
NAMES = {"auroc": "AUROC", "fnr": "FNR", "fpr": "FPR", "ppv": "PPV", "brier": "Brier", "smooth-ece": "smECE",
         "slope": "calibration slope"}  # fmt: skip
OF_NO_FINDING = {"fpr": "underdiagnosis rate", "fnr": "overdiagnosis rate"}


class AuditOptions(Config):
    by: tuple[str, ...] = ()  # columns, or intersections such as sex+age; (): sex, age and sex+age
    classes: tuple[str, ...] = ()  # (): all
    bands: tuple[float, ...] = BANDS
    least: int = Field(20, ge=2)  # patients of each kind that a group needs to be compared
    balance: tuple[str, ...] = ("sex", "age")
    threshold_from: Path | None = None  # results of the same model on validation images
    aim: Aim = "youden"
    at: float = 0.0  # of the aim: a sensitivity, a specificity, a cost
    calibration: Path | None = None
    resamples: int = Field(1000, ge=100)
    shuffles: int = Field(999, ge=99)


class GroupMetrics(Config):
    """Of one class in one group."""

    by: str
    group: str
    label: str
    images: int  # with a known label
    patients: int
    positives: int  # images
    metrics: dict[str, Estimate]
    note: str = ""


class Gap(Config):
    """Between the worst and the best group, of those with enough patients."""

    by: str
    label: str
    metric: str
    groups: int
    worst: str
    best: str
    values: tuple[float, float]
    gap: float  # never negative
    low: float | None = None  # simultaneous for all pairs of groups
    high: float | None = None
    shuffled: float  # the gap that shuffled labels of groups have on average
    p: float | None
    p_holm: float | None = None  # over all gaps of the audit
    flagged: bool = False
    balanced: Estimate | None = None  # the same gap at equal prevalence and, as far as known, age and sex
    kept: float | None = None  # the fraction of the images that this rests on


class Audit(Config):
    """What ``imitate audit`` writes."""

    kind: Literal["audit"] = "audit"
    format_version: Literal[1] = 1
    task: str
    model: str
    data: dict[str, Any]
    seeds: list[int]
    weights: list[str]  # the digest of each fit's encoder
    settings: dict[str, Any]
    threshold: str  # where the thresholds come from, in words
    thresholds: dict[str, list[float]] = Field({})  # of each class, one a fit
    probabilities: str  # likewise
    unknown: dict[str, int]  # of each column, the images of which the folder does not say it
    groups: list[GroupMetrics]
    gaps: list[Gap]
    notes: list[str]
    versions: dict[str, str]
    seconds: float


def is_audit(path: Path) -> bool:
    """Whether it is a file that says so."""
    return path.is_file() and path.suffix == ".json" and f'"kind": "{KIND}"' in path.read_text("utf-8", "replace")[:200]


def read_audit(path: Path) -> Audit:
    """UserError where it is none."""
    return validate(Audit, read_json(path, "imitate audit"), where=str(path))


def said(gap: Gap) -> str:
    """In words."""
    ends = "" if gap.low is None or gap.high is None else f" ({gap.low:.3f} to {gap.high:.3f})"
    worst, best = gap.values
    return f"{gap.worst} {worst:.3f}, {gap.best} {best:.3f}, gap {gap.gap:.3f}{ends}"


def title(metric: str, label: str) -> str:
    """What tables call a metric of a class; the rates of No Finding have names of their own."""
    names = OF_NO_FINDING if is_no_finding(label) else {}
    return {**NAMES, **names}.get(metric, metric)


def is_no_finding(label: str) -> bool:
    return plain(label) in NO_FINDING
