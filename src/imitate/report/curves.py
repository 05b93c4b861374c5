"""The figures of a group of results: intervals, label efficiency, curves of every class, recall beside its levels."""

from collections.abc import Mapping

import numpy as np

from imitate.report import figures
from imitate.report.figures import Point, Styles
from imitate.report.folds import Scored
from imitate.report.groups import Group
from imitate.report.page import Details, Figure
from imitate.report.tables import WAYS, at_fraction, headlines, label, trained, two_ways
from imitate.tasks.base import Estimate, Predictions
from imitate.tasks.classes import probabilities

UNFOLDED = 1  # classes whose curves are shown at once
Runs = Mapping[str, list[Predictions]]


def summary(group: Group, look: Styles) -> list[Figure]:
    """Label efficiency, and the intervals side by side; retrieval has bars."""
    if two_ways(group):
        return _retrieval(group, look)[:1]
    drawn = {}
    if len(group.fractions) > 1:
        for name in headlines(group):
            if not any(_points(group, name, fraction) for fraction in group.fractions):
                continue
            alt = f"{label(name)} over the fraction of training patients, with 95% intervals; the table has the numbers"
            drawn[alt] = _efficiency(group, name, look)
    efficiency = [Figure("What more training patients bring", drawn)] if drawn else []
    return [*efficiency, *_forest(group, look)]


def folded(group: Group, look: Styles) -> list[Details]:
    """The bars of retrieval by each section alone."""
    single = _retrieval(group, look)[1:] if two_ways(group) else []
    return [Details("Recall by each section alone", single)] if single else []


def classes(group: Group, runs: Runs, look: Styles) -> list[Details]:
    """ROC and precision-recall curves of each class, and calibration where the scores stand for probabilities."""
    drawn = []
    for name in dict.fromkeys(str(name) for run in runs.values() for name in run[0]["classes"]):
        scored = _of_class(runs, name)
        if not scored:
            continue
        images = {
            f"ROC curves of {name}": figures.roc(scored, look),
            f"Precision-recall curves of {name}": figures.precision_recall(scored, look),
        }
        if trained(group):
            images[f"Calibration of {name}"] = figures.reliability(_of_class(runs, name, probable=True), look)
        target = next(iter(scored.values()))[0].target
        counted = group.data.get("measured", "images")
        drawn.append(Figure(f"{name}: {int((target > 0).sum()):,} of {len(target):,} {counted} are positive", images))
    if not drawn:
        return []
    where = at_fraction(group, group.fractions[-1])
    several = ", a thin line for each seed" if any(len(each) > 1 for each in runs.values()) else ""
    folds = ", the mean of the folds" if any("fold" in each[0] for each in runs.values()) else ""
    return [Details(f"Curves of each class{where}{folds}{several}", drawn, open=len(drawn) <= UNFOLDED)]


def _point(estimate: Estimate | None, scale: int) -> Point | None:
    """Without an interval a point."""
    if estimate is None or estimate.value is None:
        return None
    low, high = (estimate.value if end is None else end for end in (estimate.low, estimate.high))
    return Point(scale * estimate.value, scale * low, scale * high)


def _points(group: Group, name: str, fraction: float) -> dict[str, Point]:
    """In percent, or in the metric's own unit."""
    found = (
        (method, _point(estimate, group.scale(name))) for method, estimate in group.estimates(name, fraction).items()
    )
    return {method: point for method, point in found if point}


def _efficiency(group: Group, name: str, look: Styles) -> str:
    methods: dict[str, dict[float, Point]] = {}
    for fraction in group.fractions:
        for method, point in _points(group, name, fraction).items():
            methods.setdefault(method, {})[fraction] = point
    chance, scale = group.chance(name), group.scale(name)
    level = None if chance is None else scale * chance
    return figures.efficiency(methods, look, metric=f"{label(name)}{', %' if scale == 100 else ''}", chance=level)


def _forest(group: Group, look: Styles) -> list[Figure]:
    """The top metrics in percent, and the classes of the main one."""
    fraction, main = group.fractions[-1], group.metrics[0]
    names = [name for name in group.metrics if "/" not in name or name.startswith(f"{main}/")]
    names = [name for name in names if group.scale(name) == 100]
    names.sort(key=lambda name: not name.startswith(main))
    lines = {label(name): points for name in names if (points := _points(group, name, fraction))}
    if not lines:
        return []
    levels = {label(name): 100 * level for name in names if (level := group.chance(name)) is not None}
    drawn = figures.forest(lines, look, chance=levels)
    alt = f"Methods with 95% intervals: {', '.join(lines)}; the table of all metrics has the numbers"
    return [Figure(f"Methods with their 95% intervals{at_fraction(group, fraction)}", {alt: drawn})]


def _retrieval(group: Group, look: Styles) -> list[Figure]:
    """By both sections together first."""
    fraction, found = group.fractions[-1], []
    for branch in dict.fromkeys(name.split("/")[1] for name in group.metrics if name.count("/") == 2):
        images = {}
        for way, words in WAYS.items():
            names = [name for name in group.metrics if name.startswith("recall@") and name.endswith(f"/{branch}/{way}")]
            shuffled = {
                _at(name): {
                    method: 100 * estimate.shuffled
                    for method, estimate in group.estimates(name, fraction).items()
                    if estimate.shuffled is not None
                }
                for name in names
            }
            chance = {_at(name): 100 * level for name in names if (level := group.chance(name)) is not None}
            bars = {_at(name): _points(group, name, fraction) for name in names}
            images[f"Recall at k, {words}, by {branch}"] = figures.bars(
                bars, look, axis=words, chance=chance, shuffled=shuffled
            )
        by = "both sections" if branch == "both" else f"the {branch} section"
        found.append(Figure(f"Recall by {by}: image → text, then text → image", images))
    return found


def _at(name: str) -> str:
    return label(name).split(" · ")[0]


def _of_class(runs: Runs, name: str, *, probable: bool = False) -> dict[str, list[Scored]]:
    """The known targets and scores of one class, by method; nothing where no two labels can be compared."""
    found: dict[str, list[Scored]] = {}
    for method, each in runs.items():
        for run in each:
            labels = [str(label) for label in run["classes"]]
            if name not in labels:
                continue
            column = labels.index(name)
            target, score = run["target"][:, column], run["score"].astype(np.float64)
            score = (probabilities(score) if probable else score)[:, column]
            known = ~np.isnan(target)
            fold = run["fold"][known] if "fold" in run else None
            if (scored := Scored(target[known], score[known], fold)).comparable:
                found.setdefault(method, []).append(scored)
    return found
