"""The section of a calibration: before and after in each class, its operating points, diagrams and decision curves."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from imitate.report import calibration_figures as drawn
from imitate.report.calibration_figures import Curve
from imitate.report.figures import Styles
from imitate.report.groups import Group
from imitate.report.page import Cell, Details, Figure, Heading, Line, Table
from imitate.report.tables import cell, label
from imitate.statistics.operating import net_benefit, net_benefit_of_all
from imitate.statistics.resampling import bootstrap
from imitate.tasks.base import Predictions
from imitate.tasks.calibration import TEST, Recalibration
from imitate.tasks.calibration_metrics import BEFORE, WHEN
from imitate.tasks.calibration_points import RATES, Point, points
from imitate.tasks.comparable import task_of

COMPARED = ("brier", "log-loss", "smooth-ece", "slope", "intercept")
RESAMPLES = 200  # behind the band of a decision curve
STEPS = 60  # of its thresholds
UNFOLDED = 2  # classes whose figures are shown at once
Runs = Mapping[str, list[Predictions]]
AIMS = {
    "sensitivity": "the highest threshold with a sensitivity of at least {at:g} on the validation images",
    "specificity": "the lowest threshold with a specificity of at least {at:g} on the validation images",
    "youden": "the threshold of the largest sensitivity + specificity on the validation images",
    "cost": "the threshold of the least cost on the validation images, where a miss costs {at:g} false alarms",
}
HOW = (
    "Operating points: {aim}. Intervals of the achieved rates are over the patients of both splits, with the threshold "
    "chosen again in each bootstrap sample; Wilson's takes the threshold as given, with as many cases as patients. PPV "
    "and NPV hold at the prevalence of these test images only."
)
BANDS = (
    "Diagrams: bins of equally many images, with Wilson's 95% intervals for as many cases as patients; below, how "
    "often each probability occurs, each side with its own scale. Decision curves: acting from a probability of t on "
    "means that a miss is (1 - t) / t times as bad as a false alarm; the band is 95% over patients. They hold at the "
    "prevalence of these images. Both have the probabilities of all seeds together."
)


class Shown(NamedTuple):
    """What is added to the section of a group."""

    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
    folded: Sequence[Details] = ()


def shown(group: Group, runs: Runs, look: Styles) -> Shown:
    """Nothing of another task."""
    if group.task != Recalibration.name:
        return Shown()
    fraction = group.fractions[-1]
    tasks = {name: task_of(entry.results, entry.path) for name, entry in group.at(fraction).items()}
    every = {name: task for name, task in tasks.items() if isinstance(task, Recalibration)}
    tables = [_before_and_after(group, name) for name in every]
    tables += [_operating(group, every[name], name, each) for name, each in runs.items()]
    details = _figures(every, runs, look)
    first = next(iter(every.values()))
    notes = [HOW.format(aim=AIMS[first.aim].format(at=first.at)), *([BANDS] if details else [])]
    return Shown(tables, notes, details)


def _before_and_after(group: Group, name: str) -> Table:
    metrics = group.at(group.fractions[-1])[name].results.metrics
    classes = [key.partition("/")[2] for key in metrics if key.startswith(f"{COMPARED[0]}{BEFORE}/")]
    columns = [Heading(label(metric), ["before", "after"]) for metric in COMPARED]
    lines = []
    for of in (*classes, ""):
        keys = [f"{metric}{when}{'/' if of else ''}{of}" for metric in COMPARED for when in (BEFORE, "")]
        scale = {key: group.scale(key) for key in keys}
        cells = [cell(metrics.get(key), bold=False, scale=scale[key]) for key in keys]
        lines.append(Line(of or "mean of the calibrated classes", cells))
    return Table(f"Calibration before and after: {name}", columns, lines, corner="class")


def _operating(group: Group, task: Recalibration, name: str, runs: list[Predictions]) -> Table:
    """Counts and Wilson's intervals of the first seed."""
    metrics = group.at(group.fractions[-1])[name].results.metrics
    found: dict[str, Point] = {point.name: point for point in points(task, runs[0])}
    at_prevalence = [rate for rate in ("ppv-at-prevalence", "npv-at-prevalence") if rate in metrics]
    columns = [
        Heading("threshold", ["score", "probability"]),
        *(Heading(label(rate), ["achieved", "Wilson"]) for rate in RATES),
        *(Heading(label(rate)) for rate in at_prevalence),
        Heading("test images", ["TP", "FP", "FN", "TN"]),
    ]
    lines = []
    for column, of in enumerate(runs[0]["classes"].tolist()):
        point = found.get(of)
        if point is None:
            width = 6 + 2 * len(RATES) + len(at_prevalence)
            lines.append(Line(of, [Cell("none"), *[Cell("–")] * (width - 1)]))
            continue
        cells = [Cell(f"{point.threshold:.3g}"), Cell(_probability(task, runs[0], column, point.threshold))]
        for rate in RATES:
            between = point.wilson[rate]
            ends = "–" if between is None else "–".join(f"{100 * end:.1f}" for end in between)
            cells += [cell(metrics.get(f"{rate}/{of}"), bold=False, scale=100), Cell(ends)]
        cells += [cell(metrics.get(f"{rate}/{of}"), bold=False, scale=100) for rate in at_prevalence]
        cells += [Cell(f"{point.counts[key]:,}") for key in ("tp", "fp", "fn", "tn")]
        lines.append(Line(of, cells))
    of_first = f" (thresholds, Wilson's intervals and counts: the first of {len(runs)} seeds)" if len(runs) > 1 else ""
    return Table(f"Operating points, %: {name}{of_first}", columns, lines, corner="class")


def _probability(task: Recalibration, run: Predictions, column: int, threshold: float) -> str:
    each = [found for _, found, _ in task.maps(run)][column]
    return "uncalibrated" if each is None else f"{100 * float(each(np.array([threshold]))[0]):.1f}%"


def _figures(tasks: Mapping[str, Recalibration], runs: Runs, look: Styles) -> list[Details]:
    found: list[Details] = []
    for of in dict.fromkeys(str(name) for each in runs.values() for name in each[0]["classes"]):
        images: dict[str, str] = {}
        parts = {name: part for name, each in runs.items() if (part := _test(each, of))}
        for name, part in parts.items():
            whose = f", {name}" if len(parts) > 1 else ""
            for when, kind in reversed(WHEN.items()):
                if not np.isnan(part[kind]).any():
                    what = "before calibration" if when else "after calibration"
                    given = (part["target"], part[kind], part["patient"], look[name])
                    images[f"Reliability of {of}, {what}{whose}"] = drawn.reliability(*given)
        if curves := {name: part for name, part in parts.items() if not np.isnan(part["probability"]).any()}:
            images[f"Decision curve of {of}"] = _decisions(tasks, curves, look)
        if images:
            target = _test(runs[next(iter(parts))][:1], of)["target"]  # of one seed: all have the same images
            counts = int((target > 0).sum()), len(target)
            caption = f"{of}: {counts[0]:,} of {counts[1]:,} are positive; {'; '.join(images)}"
            found.append(Details(caption, [Figure(caption, images)], open=len(found) < UNFOLDED))
    return found


def _test(runs: list[Predictions], of: str) -> dict[str, Any]:
    """The known rows of a class, of all seeds; {} where it is not there, or has one label only."""
    each = []
    for run in runs:
        if of not in run["classes"]:
            continue
        column = run["classes"].tolist().index(of)
        rows = (run["part"] == TEST) & ~np.isnan(run["target"][:, column])
        each.append({key: run[key][rows, column] for key in ("target", "probability", "before")}
                    | {"patient": run["patient"][rows]})  # fmt: skip
    joined = {key: np.concatenate([part[key] for part in each]) for key in each[0]} if each else {}
    return joined if joined and 0 < (joined["target"] > 0).mean() < 1 else {}


def _decisions(tasks: Mapping[str, Recalibration], parts: Mapping[str, dict[str, Any]], look: Styles) -> str:
    low, high = next(iter(tasks.values())).benefit
    thresholds = np.linspace(low, high, STEPS)
    curves = {}
    for name, part in parts.items():
        value = net_benefit(part["target"], part["probability"], thresholds)[0]

        def resample(counts: np.ndarray, part: dict[str, Any] = part) -> dict[str, np.ndarray]:
            return {"": net_benefit(part["target"], part["probability"], thresholds, counts)}

        samples = bootstrap([resample], part["patient"], resamples=RESAMPLES)[""][0]
        curves[name] = Curve(value, *np.quantile(samples, [0.025, 0.975], axis=0))
    of_all = net_benefit_of_all(next(iter(parts.values()))["target"], thresholds)[0]
    return drawn.decisions(thresholds, curves, of_all, look)
