"""``imitate audit``: how a model's results differ between groups of patients. docs/audit.md has the formulas."""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from imitate.data.groups import UNKNOWN
from imitate.errors import UserError
from imitate.statistics import subgroups
from imitate.statistics.intervals import Runs, Support, fraction_interval, holm, independent, interval, spread
from imitate.statistics.resampling import bootstrap
from imitate.statistics.subgroups import Scored
from imitate.tasks.audit_gaps import ALPHA, FEWER, Compared, Division, gaps_of, key
from imitate.tasks.audit_inputs import Inputs, read_inputs
from imitate.tasks.audit_model import Audit, AuditOptions, GroupMetrics, said, title
from imitate.tasks.base import Estimate
from imitate.tasks.results import check_out, write_text

log = logging.getLogger(__name__)
SHOWN = 5  # groups of a note
SLOW = ("slope",)  # metrics with fewer resamples
BIASED = ("smooth-ece",)  # larger in every resample than in the data, as in the data than in truth: without an interval


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
            groups += _group_metrics(label, fits, division, drawn, inputs)
            gaps += gaps_of(Compared(label, fits, division, drawn, inputs, options))
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
        weights=inputs.results.weights,
        settings=options.model_dump(mode="json", exclude={"threshold_from", "calibration"}) | {"by": list(inputs.by)},
        threshold=inputs.threshold,
        thresholds=inputs.thresholds,
        probabilities=inputs.probabilities,
        unknown={by: int((values == UNKNOWN).sum()) for by, values in inputs.groups.items() if by in inputs.by},
        groups=groups,
        gaps=gaps,
        notes=[*inputs.notes, *notes, *_one_kind(groups)],
        versions=inputs.results.versions,
        seconds=round(time.monotonic() - started, 1),
    )
    write_text(out, found.model_dump_json(indent=1))
    for note in found.notes:
        log.info("%s", note)
    flagged = [each for each in gaps if each.flagged]
    log.info("%s: %d of %d gaps are flagged", out, len(flagged), len(gaps))
    for each in flagged:
        log.info("%s, %s by %s: %s", each.label, title(each.metric, each.label), each.by, said(each))
    return found


def _divide(by: str, values: np.ndarray) -> Division:
    names = sorted({*values.tolist()} - {UNKNOWN}) + [UNKNOWN] * bool((values == UNKNOWN).any())
    place = {name: code for code, name in enumerate(names)}
    return Division(by, names, np.array([place[value] for value in values.tolist()]))


def _alone(divisions: Sequence[Division], patients: np.ndarray, options: AuditOptions) -> list[str]:
    """What is said of columns with one group; UserError where none has two."""
    notes = []
    for by, names, codes in divisions:
        known = [name for name in names if name != UNKNOWN]
        counts = {name: len(np.unique(patients[codes == names.index(name)])) for name in known}
        if len(known) < 2:
            notes.append(f"{by}: the test images have one group only, {names[0]}")
        if small := [f"{name} ({count})" for name, count in counts.items() if count < options.least]:
            notes.append(f"{by}: fewer than {options.least} patients, not compared: {', '.join(small)}")
    if all(len([name for name in names if name != UNKNOWN]) < 2 for _, names, _ in divisions):
        raise UserError(f"nothing to compare: {'; '.join(notes)}: give other columns as --by")
    return notes


def _one_kind(groups: Sequence[GroupMetrics]) -> list[str]:
    """A line a column: in which groups a class has no positives, or no negatives."""
    found: dict[str, list[str]] = {}
    for each in groups:
        if each.note and each.group != UNKNOWN:
            found.setdefault(each.by, []).append(f"{each.label} in {each.group} ({each.note})")
    more = {by: f", and {len(those) - SHOWN} more" if len(those) > SHOWN else "" for by, those in found.items()}
    return [f"{by}: undefined and not compared: {', '.join(those[:SHOWN])}{more[by]}" for by, those in found.items()]


def _drawn(
    fits: Sequence[Scored], divisions: Sequence[Division], patients: np.ndarray, resamples: int
) -> dict[str, np.ndarray]:
    """The metrics of every group under the same resamples of the patients: BY, GROUP, METRIC -> (fits, resamples)."""

    def of(fit: Scored, names: Sequence[str], counts: np.ndarray) -> dict[str, np.ndarray]:
        found = {}
        for by, groups, codes in divisions:
            for code, group in enumerate(groups):
                rows = np.flatnonzero(codes == code)
                for name, values in subgroups.measured(fit.at(rows), counts[:, rows], names=names).items():
                    found[key(by, group, name)] = values
        return found

    fast = [name for name in subgroups.METRICS if name not in (*SLOW, *BIASED)]
    drawn: dict[str, np.ndarray] = {}
    for names, number in ((fast, resamples), (SLOW, min(FEWER, resamples))):
        runs = [lambda counts, fit=fit, names=names: of(fit, names, counts) for fit in fits]
        if runs[0](np.ones((1, len(patients)))):
            drawn |= bootstrap(runs, patients, resamples=number)
    return drawn


def _group_metrics(
    label: str, fits: Sequence[Scored], division: Division, drawn: Mapping[str, np.ndarray], inputs: Inputs
) -> list[GroupMetrics]:
    found, patients = [], inputs.patients
    for code, group in enumerate(division.names):
        rows = np.flatnonzero(division.codes == code)
        target = fits[0].target[rows]
        known = ~np.isnan(target)
        values = [subgroups.measured(fit.at(rows)) for fit in fits]
        kinds = [len(np.unique(patients[rows][target == kind])) for kind in (1, 0)]
        called = min(_called(fit.at(rows), patients[rows]) for fit in fits)
        both = (kinds[0], kinds[1])
        supports: dict[str, Support] = {"fnr": both[:1], "fpr": both[1:], "ppv": min(both, (called,), key=min)}
        metrics = {}
        for name in values[0]:
            each = np.array([value[name][0] for value in values])
            support = supports.get(name, both)
            of = drawn.get(key(division.by, group, name))
            runs = None if of is None else independent(of, each, inputs.results.pretrained)
            metrics[name] = _estimate(name, float(each.mean()), runs, support)
        note = "no positives" if not kinds[0] else "no negatives" if not kinds[1] else ""
        found.append(
            GroupMetrics(
                by=division.by, group=group, label=label, images=int(known.sum()),
                patients=len(np.unique(patients[rows][known])), positives=int((target == 1).sum()),
                metrics=metrics, note=note,
            )
        )  # fmt: skip
    return found


def _called(fit: Scored, patients: np.ndarray) -> int:
    """How many patients a predictive value is a mean over."""
    return 0 if fit.called is None else len(np.unique(patients[fit.called & ~np.isnan(fit.target)]))


def _estimate(name: str, value: float, runs: Runs | None, support: Support) -> Estimate:
    varies = None if runs is None else spread(runs, support=support)
    ends = interval(value, varies) if name == "slope" else fraction_interval(value, varies)
    low, high = ends or (None, None)
    return Estimate(value=_finite(value), low=low, high=high)


def _finite(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
