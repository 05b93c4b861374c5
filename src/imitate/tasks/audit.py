"""``imitate audit``: how a model's results differ between groups of patients. docs/audit.md has the formulas."""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from imitate.config import Config, validate
from imitate.data.groups import BANDS, JOIN, UNKNOWN
from imitate.errors import UserError
from imitate.statistics import subgroups
from imitate.statistics.intervals import Runs, holm, interval, share_interval, spread
from imitate.statistics.operating import Aim
from imitate.statistics.resampling import bootstrap
from imitate.statistics.subgroups import Scored
from imitate.tasks.audit_inputs import Inputs, is_no_finding, read_inputs
from imitate.tasks.base import Estimate
from imitate.tasks.results import check_out, read_json, write_text

log = logging.getLogger(__name__)
KIND = "audit"
SLOW = ("smooth-ece", "slope")  # metrics with fewer resamples
FEWER = 200
ALPHA = 0.05
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


class _Division(NamedTuple):
    """The test images by one column."""

    by: str
    names: list[str]  # of the groups, ``unknown`` last
    codes: np.ndarray


def audit_results(results: Path, data: Path, options: AuditOptions, *, out: Path) -> Audit:
    """Also writes it."""
    started = time.monotonic()
    check_out(out)
    inputs = read_inputs(results, data, options)
    divisions = [_divide(by, inputs.groups[by]) for by in inputs.by]
    notes = _alone(divisions, inputs.patients, options)
    groups, gaps = [], []
    for label, fits in inputs.fits.items():
        drawn = _drawn(fits, divisions, inputs.patients, options.resamples)
        for division in divisions:
            log.info("%s by %s", label, division.by)
            groups += _group_metrics(label, fits, division, drawn, inputs.patients)
            gaps += _gaps(label, fits, division, drawn, inputs, options)
    if not gaps:
        raise UserError(
            f"{results}: in no class do two groups have {options.least} patients of each kind: give coarser groups, "
            "fewer --bands, or a smaller --least"
        )
    adjusted = holm([np.nan if each.p is None else each.p for each in gaps])
    gaps = [
        gap.model_copy(update={"p_holm": _finite(p), "flagged": bool(p < ALPHA)})
        for gap, p in zip(gaps, adjusted, strict=True)
    ]
    found = Audit(
        task=inputs.results.task,
        model=inputs.results.model,
        data=inputs.results.data,
        seeds=inputs.results.seeds,
        settings=options.model_dump(mode="json", exclude={"threshold_from", "calibration"}) | {"by": list(inputs.by)},
        threshold=inputs.threshold,
        thresholds=inputs.thresholds,
        probabilities=inputs.probabilities,
        unknown={by: int((values == UNKNOWN).sum()) for by, values in inputs.groups.items() if by in inputs.by},
        groups=groups,
        gaps=gaps,
        notes=[*inputs.notes, *notes],
        versions=inputs.results.versions,
        seconds=round(time.monotonic() - started, 1),
    )
    write_text(out, found.model_dump_json(indent=1))
    flagged = [each for each in gaps if each.flagged]
    log.info("%s: %d of %d gaps are flagged", out, len(flagged), len(gaps))
    for each in flagged:
        log.info("%s, %s, %s: %s", each.label, each.metric, each.by, said(each))
    return found


def read_audit(path: Path) -> Audit:
    """UserError where it is none."""
    return validate(Audit, read_json(path, "imitate audit"), where=str(path))


def said(gap: Gap) -> str:
    """In words."""
    ends = "" if gap.low is None or gap.high is None else f" ({gap.low:.3f} to {gap.high:.3f})"
    worst, best = gap.values
    return f"{gap.worst} {worst:.3f}, {gap.best} {best:.3f}, gap {gap.gap:.3f}{ends}"


def _divide(by: str, values: np.ndarray) -> _Division:
    names = sorted({*values.tolist()} - {UNKNOWN}) + [UNKNOWN] * bool((values == UNKNOWN).any())
    return _Division(by, names, np.searchsorted(names, values) if UNKNOWN not in names else _codes(names, values))


def _codes(names: list[str], values: np.ndarray) -> np.ndarray:
    place = {name: code for code, name in enumerate(names)}
    return np.array([place[value] for value in values.tolist()])


def _alone(divisions: Sequence[_Division], patients: np.ndarray, options: AuditOptions) -> list[str]:
    """What is said of columns with one group; UserError where none has two."""
    notes = []
    for by, names, codes in divisions:
        known = [name for name in names if name != UNKNOWN]
        counts = {name: len(np.unique(patients[codes == names.index(name)])) for name in known}
        if len(known) < 2:
            notes.append(f"{by}: the test images have one group only, {known[0]}")
        if small := [f"{name} ({count})" for name, count in counts.items() if count < options.least]:
            notes.append(f"{by}: fewer than {options.least} patients, not compared: {', '.join(small)}")
    if all(len([name for name in names if name != UNKNOWN]) < 2 for _, names, _ in divisions):
        raise UserError(f"nothing to compare: {'; '.join(notes)}: give other columns as --by")
    return notes


Drawn = Mapping[str, np.ndarray]


def _drawn(
    fits: Sequence[Scored], divisions: Sequence[_Division], patients: np.ndarray, resamples: int
) -> dict[str, np.ndarray]:
    """The metrics of every group under the same resamples of the patients: BY, GROUP, METRIC -> (fits, resamples)."""

    def of(fit: Scored, names: Sequence[str], counts: np.ndarray) -> dict[str, np.ndarray]:
        found = {}
        for by, groups, codes in divisions:
            for code, group in enumerate(groups):
                rows = np.flatnonzero(codes == code)
                for name, figure in subgroups.measured(fit.at(rows), counts[:, rows], names=names).items():
                    found[_key(by, group, name)] = figure
        return found

    fast = [name for name in subgroups.METRICS if name not in SLOW]
    drawn = {}
    for names, number in ((fast, resamples), (SLOW, min(FEWER, resamples))):
        runs = [lambda counts, fit=fit, names=names: of(fit, names, counts) for fit in fits]
        if runs[0](np.ones((1, len(patients)))):
            drawn |= bootstrap(runs, patients, resamples=number)
    return drawn


def _key(by: str, group: str, metric: str) -> str:
    return "\0".join((by, group, metric))


def _group_metrics(
    label: str, fits: Sequence[Scored], division: _Division, drawn: Drawn, patients: np.ndarray
) -> list[GroupMetrics]:
    found = []
    for code, group in enumerate(division.names):
        rows = np.flatnonzero(division.codes == code)
        target = fits[0].target[rows]
        known = ~np.isnan(target)
        values = [subgroups.measured(fit.at(rows)) for fit in fits]
        kinds = [len(np.unique(patients[rows][target == kind])) for kind in (1, 0)]
        metrics = {}
        for name in values[0]:
            each = np.array([value[name][0] for value in values])
            support = {"fnr": (kinds[0],), "fpr": (kinds[1],)}.get(name, (kinds[0], kinds[1]))
            metrics[name] = _estimate(name, each, drawn[_key(division.by, group, name)], support)
        note = "no positives" if not kinds[0] else "no negatives" if not kinds[1] else ""
        found.append(
            GroupMetrics(
                by=division.by, group=group, label=label, images=int(known.sum()),
                patients=len(np.unique(patients[rows][known])), positives=int((target == 1).sum()),
                metrics=metrics, note=note,
            )
        )  # fmt: skip
    return found


def _estimate(name: str, values: np.ndarray, drawn: np.ndarray, support: tuple[int, ...]) -> Estimate:
    value = float(values.mean())
    varies = spread(Runs(drawn, values), support=support)
    ends = interval(value, varies) if name == "slope" else share_interval(value, varies)
    low, high = ends or (None, None)
    return Estimate(value=_finite(value), low=low, high=high)


def _gaps(
    label: str, fits: Sequence[Scored], division: _Division, drawn: Drawn, inputs: Inputs, options: AuditOptions
) -> list[Gap]:
    """Of each metric that is tested, where two groups have enough patients."""
    _, names, codes = division
    found = []
    for metric in subgroups.TESTED:
        if metric not in subgroups.measured(fits[0], names=[metric]):
            continue
        enough = [
            code
            for code, name in enumerate(names)
            if name != UNKNOWN
            and subgroups.few(fits[0].target[codes == code], inputs.patients[codes == code], metric) >= options.least
        ]
        if len(enough) > 1:
            found.append(_gap(label, metric, fits, division, enough, drawn, inputs, options))
    return found


def _gap(
    label: str,
    metric: str,
    fits: Sequence[Scored],
    division: _Division,
    compared: Sequence[int],
    drawn: Drawn,
    inputs: Inputs,
    options: AuditOptions,
) -> Gap:
    by, names, codes = division
    values = {
        names[code]: np.array([subgroups.METRICS[metric](fit.at(codes == code), None)[0] for fit in fits])
        for code in compared
    }
    means = {name: float(each.mean()) for name, each in values.items()}
    worst, best = subgroups.worst_and_best(means, metric)
    sign = 1 if subgroups.HIGHER_IS_WORSE[metric] else -1
    level = 1 - ALPHA / subgroups.pairs(len(compared))
    support = tuple(
        subgroups.few(fits[0].target[codes == names.index(name)], inputs.patients[codes == names.index(name)], kind)
        for name in (worst, best)
        for kind in (("fnr", "fpr") if metric == "auroc" else (metric,))
    )

    def apart(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return sign * (first - second)

    resampled = apart(*(drawn[_key(by, name, metric)] for name in (worst, best)))
    varies = spread(Runs(resampled, apart(values[worst], values[best])), support=support)
    gap = sign * (means[worst] - means[best])
    low, high = interval(gap, varies, level) or (None, None)
    rows = np.flatnonzero(np.isin(codes, compared) & ~np.isnan(fits[0].target))
    tested = subgroups.shuffled_gap(
        [fit.at(rows) for fit in fits],
        metric,
        np.searchsorted(compared, codes[rows]),
        inputs.patients[rows],
        shuffles=options.shuffles,
    )
    balanced, kept = _balanced(metric, fits, division, compared, (worst, best), inputs, options, support)
    return Gap(
        by=by, label=label, metric=metric, groups=len(compared), worst=worst, best=best,
        values=(means[worst], means[best]), gap=gap, low=low, high=high, shuffled=tested.gap, p=_finite(tested.p),
        balanced=balanced, kept=kept,
    )  # fmt: skip


def _balanced(
    metric: str,
    fits: Sequence[Scored],
    division: _Division,
    compared: Sequence[int],
    pair: tuple[str, str],
    inputs: Inputs,
    options: AuditOptions,
    support: tuple[int, ...],
) -> tuple[Estimate | None, float | None]:
    """The gap of the same two groups, at the same shares of positives and of the columns of ``balance``."""
    by, names, codes = division
    target = fits[0].target
    words = [inputs.groups[name] for name in inputs.balance if name not in by.split(JOIN)]
    known = ~np.isnan(target)
    strata = np.unique(np.array([np.nan_to_num(target, nan=-1).astype(np.str_), *words]), axis=1, return_inverse=True)
    strata_of = np.where(known, strata[1].reshape(-1), -1)
    codes_of = np.where(known, codes, -1)
    sign = 1 if subgroups.HIGHER_IS_WORSE[metric] else -1
    rows = [np.flatnonzero(codes == names.index(name)) for name in pair]

    def of(fit: Scored, counts: np.ndarray) -> dict[str, np.ndarray]:
        weighted, _ = subgroups.balancing(counts, codes_of, strata_of, compared=compared)
        first, second = (subgroups.METRICS[metric](fit.at(each), weighted[:, each]) for each in rows)
        return {"gap": sign * (first - second)}

    whole = np.ones((1, len(target)))
    values = np.array([of(fit, whole)["gap"][0] for fit in fits])
    _, kept = subgroups.balancing(whole, codes_of, strata_of, compared=compared)
    if np.isnan(values).any():
        return None, kept
    runs = [lambda counts, fit=fit: of(fit, counts) for fit in fits]
    drawn = bootstrap(runs, inputs.patients, resamples=min(FEWER, options.resamples))["gap"]
    value = float(values.mean())
    low, high = interval(value, spread(Runs(drawn, values), support=support)) or (None, None)
    return Estimate(value=value, low=low, high=high), kept


def title(metric: str, label: str) -> str:
    """What tables call a metric of a class; the rates of No Finding have names of their own."""
    names = OF_NO_FINDING if is_no_finding(label) else {}
    return {**NAMES, **names}.get(metric, metric)


def _finite(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
