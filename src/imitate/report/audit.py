"""The section of a report on groups of patients, from what ``imitate audit`` wrote."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from imitate.report.canvas import GRAY, styled, svg
from imitate.report.figures import COLOURS, Lines, Point, forest, styles
from imitate.report.page import Cell, Details, Figure, Heading, Line, Table, anchor, texts
from imitate.tasks.audit_model import Audit, Gap, GroupMetrics, title
from imitate.tasks.base import Estimate, extent

SHOWN = 15  # gaps of the first table, at least those that are flagged
METRICS = ("auroc", "fnr", "fpr", "ppv", "brier", "smooth-ece", "slope")
PLOTTED = ("auroc", "fnr", "fpr")
FLAGGED, PLAIN = COLOURS[1], COLOURS[0]
AXES = {"auroc": "AUROC, %", "fnr": "missed (false-negative rate), %", "fpr": "false alarms (false-positive rate), %"}
COLUMNS = ("worst group", "best group", "gap", "shuffled", "p (Holm)", "balanced gap")
HOW = (
    "A gap is the difference between the worst and the best group with enough patients; its interval holds for all "
    "pairs of groups at once. Shuffled: the gap that arises by chance, from shuffled groups. p compares with such "
    "groups and is corrected over all gaps of the audit (Holm); gaps with p < .05 are bold. Balanced: the same gap "
    "if both groups have the same prevalence, ages and sexes as far as known, so that it reflects the model's error "
    "rather than a difference of the patients. A gap that is not bold may still exist: see the counts."
)


def overview(audits: Sequence[Audit]) -> Table:
    lines = []
    for each in audits:
        flagged = sum(gap.flagged for gap in each.gaps)
        cells = texts([extent(each.data), ", ".join(each.settings["by"]), f"{flagged} of {len(each.gaps)}"])
        lines.append(Line(heading(each), cells, link=anchor(heading(each))))
    heads = [Heading(name) for name in ("test images", "groups by", "gaps beyond chance")]
    return Table("Groups of patients", heads, lines, corner="model and data")


def heading(audit: Audit) -> str:
    return f"Groups of patients: {audit.model} on {audit.data['name']}"


def section(audit: Audit) -> dict[str, Any]:
    """Of the page."""
    order = sorted(audit.gaps, key=_rank)
    first = order[: max(SHOWN, sum(gap.flagged for gap in order))]
    unknown = [f"{name} of {count:,}" for name, count in audit.unknown.items() if count]
    notes = [
        HOW,
        f"Thresholds: {audit.threshold}. Probabilities: {audit.probabilities}.",
        *([f"Unknown, and not compared: {', '.join(unknown)} images."] if unknown else []),
        *audit.notes,
    ]
    rest = [table_of_gaps(order[len(first) :], "Further gaps")] if len(order) > len(first) else []
    return {
        "id": anchor(heading(audit)),
        "title": heading(audit),
        "where": f"{audit.task}, {extent(audit.data)}, split {audit.data['split']}, "
        f"data {str(audit.data['fingerprint'])[:8]}",
        "main": table_of_gaps(first, "Gaps between groups, in percentage points with intervals"),
        "notes": notes,
        "summary": [
            Figure(
                f"Gaps of {title(metric, '')}{_shown(gaps)}", {f"gaps of {title(metric, '')}": gap_plot(gaps[:SHOWN])}
            )
            for metric, gaps in _by_metric(order).items()
        ],
        "folded": [*_further(order), *(_details(audit, by) for by in audit.settings["by"])],
        "examples": [],
        "examples_title": "",
        "examples_open": False,
        "all_metrics": [*rest, *(table_of_groups(audit, by) for by in audit.settings["by"])],
        "all_notes": ["smECE is larger in small groups by chance: compare it only between groups of similar size."],
        "runs": _settings(audit),
    }


def _by_metric(gaps: Sequence[Gap]) -> dict[str, list[Gap]]:
    found = {metric: [gap for gap in gaps if gap.metric == metric] for metric in PLOTTED}
    return {metric: some for metric, some in found.items() if some}


def _shown(gaps: Sequence[Gap]) -> str:
    return f", the {SHOWN} of {len(gaps)} with the smallest p" if len(gaps) > SHOWN else ""


def _further(order: Sequence[Gap]) -> list[Details]:
    figures = [
        Figure(title(metric, ""), {f"further gaps of {title(metric, '')}": gap_plot(gaps[SHOWN:])})
        for metric, gaps in _by_metric(order).items()
        if len(gaps) > SHOWN
    ]
    return [Details("Further gaps", figures)] if figures else []


def table_of_gaps(gaps: Sequence[Gap], caption: str) -> Table:
    lines = []
    for gap in gaps:
        worst, best = (
            f"{name} {100 * value:.1f}" for name, value in zip((gap.worst, gap.best), gap.values, strict=True)
        )
        cells = [
            Cell(worst),
            Cell(best),
            Cell(f"{100 * gap.gap:.1f}", _ends(gap.low, gap.high), gap.flagged),
            Cell(f"{100 * gap.shuffled:.1f}"),
            Cell(_p(gap.p_holm), bold=gap.flagged),
            _balanced(gap),
        ]
        lines.append(Line(gap.label, cells, small=f"{title(gap.metric, gap.label)} by {gap.by}"))
    return Table(caption, [Heading(name) for name in COLUMNS], lines, corner="class")


def table_of_groups(audit: Audit, by: str) -> Table:
    held = {name for each in audit.groups for name in each.metrics}
    names = [name for name in METRICS if name in held]
    heads = [Heading(name) for name in ("images", "patients", "positive")]
    heads += [Heading(title(name, "")) for name in names]
    lines = []
    for each in (each for each in audit.groups if each.by == by):
        counts = texts([f"{each.images:,}", f"{each.patients:,}", f"{each.positives:,}"])
        cells = [_cell(each.metrics.get(name), 1 if name == "slope" else 100) for name in names]
        lines.append(Line(f"{each.label}: {each.group}", [*counts, *cells], small=each.note))
    return Table(f"By {by}, % with 95% intervals", heads, lines, corner="class and group")


def markdown(audit: Audit) -> str:
    """The gaps as a Markdown table."""
    rows = [
        {
            "class": gap.label,
            "metric": title(gap.metric, gap.label),
            "by": gap.by,
            "worst group": f"{gap.worst} {100 * gap.values[0]:.1f}",
            "best group": f"{gap.best} {100 * gap.values[1]:.1f}",
            "gap": f"{'**' * gap.flagged}{100 * gap.gap:.1f}{'**' * gap.flagged} {_ends(gap.low, gap.high)}".strip(),
            "shuffled": f"{100 * gap.shuffled:.1f}",
            "p (Holm)": _p(gap.p_holm),
            "balanced gap": " ".join(filter(None, _balanced(gap)[:2])),
        }
        for gap in sorted(audit.gaps, key=_rank)
    ]
    text = pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)
    return f"## {heading(audit)}\n\n{text}\n\n{HOW}\n"


def card(audit: Audit) -> str:
    """What a model card says: the groups, and the gaps that are more than chance."""
    flagged = [gap for gap in sorted(audit.gaps, key=_rank) if gap.flagged]
    named: dict[str, dict[str, None]] = {}
    for each in audit.groups:
        named.setdefault(each.by, {})[each.group] = None
    groups = "; ".join(f"{by} ({', '.join(names)})" for by, names in named.items())
    tested = f"{len(audit.gaps)} gaps were tested, {len(flagged)} are significant (p < .05, corrected by Holm)."
    lines = [
        f"Measured as {audit.task} on {audit.data['name']}, split {audit.data['split']}: {extent(audit.data)}.",
        f"Groups: {groups}. {tested} A gap that is not significant may still be real.",
        f"Thresholds: {audit.threshold}.",
        "",
        *(f"- {gap.label}, {title(gap.metric, gap.label)} by {gap.by}: {_in_words(gap)}" for gap in flagged),
    ]
    return "\n".join(lines).rstrip()


def _in_words(gap: Gap) -> str:
    worst, best = (f"{name} {100 * value:.1f}%" for name, value in zip((gap.worst, gap.best), gap.values, strict=True))
    ends = _ends(gap.low, gap.high)
    return f"{worst}, {best}{f' (gap {ends} points)' if ends else ''}"


@styled
def gap_plot(gaps: Sequence[Gap]) -> str:
    """A line each: the gap with its interval, hollow the balanced one, and a tick at that of shuffled groups."""

    def paint(axes: Axes) -> None:
        for y, gap in enumerate(gaps):
            colour = FLAGGED if gap.flagged else PLAIN
            _point(axes, y - 0.16, gap.gap, gap.low, gap.high, color=colour, marker="o")
            if gap.balanced and gap.balanced.value is not None:
                found = gap.balanced
                _point(axes, y + 0.16, found.value, found.low, found.high, color=GRAY, marker="D", hollow=True)
            axes.plot([100 * gap.shuffled] * 2, [y - 0.38, y + 0.38], color="#222222", linewidth=1, linestyle=":")
        axes.axvline(0, color=GRAY, linewidth=0.8)
        axes.set_yticks(range(len(gaps)), [_named(gap) for gap in gaps])
        axes.set(ylim=(len(gaps) - 0.4, -0.6), xlabel="gap, percentage points")
        axes.grid(visible=False, axis="y")

    legend = [
        Line2D([], [], color=FLAGGED, marker="o", label="gap beyond chance"),
        Line2D([], [], color=PLAIN, marker="o", label="gap not distinguishable from chance"),
        Line2D([], [], color=GRAY, marker="D", markerfacecolor="none", label="the same, balanced"),
        Line2D([], [], color="#222222", linestyle=":", label="of shuffled groups"),
    ]
    return svg(paint, (6.6, 0.8 + 0.34 * len(gaps)), legend)


def _point(
    axes: Axes, y: float, value: float | None, low: float | None, high: float | None, *, color: str, marker: str,
    hollow: bool = False,
) -> None:  # fmt: skip
    assert value is not None
    if low is not None and high is not None:
        axes.plot([100 * low, 100 * high], [y, y], color=color, linewidth=1.1 if hollow else 1.7)
    face = "#ffffff" if hollow else color
    axes.plot([100 * value], [y], marker, color=color, markerfacecolor=face, markersize=4 if hollow else 5)


def _named(gap: Gap) -> str:
    return f"{gap.label}, {title(gap.metric, gap.label)} by {gap.by}: {gap.worst} against {gap.best}"


def _details(audit: Audit, by: str) -> Details:
    drawn = []
    for metric in PLOTTED:
        lines: Lines = _lines([each for each in audit.groups if each.by == by], metric)
        if lines:
            look = styles(list(dict.fromkeys(name for line in lines.values() for name in line)))
            picture = forest(lines, look, chance={}, unit=AXES[metric])
            drawn.append(Figure(title(metric, ""), {f"{title(metric, '')} of each group by {by}": picture}))
    return Details(f"Each group, by {by}", drawn)


def _lines(groups: Sequence[GroupMetrics], metric: str) -> dict[str, dict[str, Point]]:
    """Those with an interval."""
    lines: dict[str, dict[str, Point]] = {}
    for each in groups:
        found = each.metrics.get(metric)
        if found and found.value is not None and found.low is not None and found.high is not None:
            ends = (100 * value for value in (found.value, found.low, found.high))
            lines.setdefault(each.label, {})[each.group] = Point(*ends)
    return lines


def _settings(audit: Audit) -> Table:
    values = {**audit.settings, "seeds": audit.seeds, "task": audit.task}
    lines = [Line(name, texts([_words(value)])) for name, value in values.items()]
    return Table("Settings", [Heading("value")], lines, corner="setting")


def _words(value: Any) -> str:
    return " ".join(map(str, value)) or "all" if isinstance(value, list | tuple) else str(value)


def _rank(gap: Gap) -> tuple[bool, float]:
    return (not gap.flagged, np.inf if gap.p is None else gap.p)


def _balanced(gap: Gap) -> Cell:
    if gap.balanced is None or gap.balanced.value is None:
        return Cell("–")
    left = "" if gap.kept is None or gap.kept > 0.995 else f", {100 * gap.kept:.0f}% of the images"
    return Cell(f"{100 * gap.balanced.value:.1f}", _ends(gap.balanced.low, gap.balanced.high) + left)


def _cell(found: Estimate | None, scale: int) -> Cell:
    if found is None or found.value is None:
        return Cell("–")
    digits = 1 if scale == 100 else 2
    return Cell(f"{scale * found.value:.{digits}f}", _ends(found.low, found.high, scale))


def _ends(low: float | None, high: float | None, scale: int = 100) -> str:
    if low is None or high is None:
        return ""
    digits = 1 if scale == 100 else 2
    return f"{scale * low:.{digits}f} to {scale * high:.{digits}f}"


def _p(value: float | None) -> str:
    return "–" if value is None else "< .001" if value < 0.001 else f"{value:.3f}"
