"""Plots of a calibration: reliability diagrams and decision curves, each as a data URI."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from imitate.report.canvas import GRAY, styled, svg
from imitate.report.figures import Style, Styles, _line, _short
from imitate.statistics.operating import wilson

BINS = 10  # of as many images each
CELLS = 40  # of the histogram
PANEL = (3.2, 3.4)


class Bin(NamedTuple):
    predicted: float
    observed: float
    low: float  # Wilson's, with as many cases as the bin has patients
    high: float


class Curve(NamedTuple):
    """Net benefit at each threshold probability, with its 95% band."""

    value: Float[np.ndarray, " points"]
    low: Float[np.ndarray, " points"]
    high: Float[np.ndarray, " points"]


def reliability_bins(target: np.ndarray, probability: np.ndarray, patient: np.ndarray) -> list[Bin]:
    """Images of equal probability share a bin, so that there may be fewer."""
    edges = np.unique(np.quantile(probability, np.linspace(0, 1, BINS + 1)))
    place = np.clip(np.searchsorted(edges, probability, "right") - 1, 0, max(0, len(edges) - 2))
    found = []
    for number in np.unique(place):
        rows = place == number
        cases, fraction = len(np.unique(patient[rows])), float((target[rows] > 0).mean())
        low, high = wilson(fraction * cases, cases) or (0.0, 1.0)
        found.append(Bin(float(probability[rows].mean()), fraction, low, high))
    return found


@styled
def reliability(target: np.ndarray, probability: np.ndarray, patient: np.ndarray, style: Style) -> str:
    """Fraction of positives against probability, in bins; below how many images have which probability."""
    bins = reliability_bins(target, probability, patient)
    most = float(np.quantile(probability, 0.99))
    top = _rounded(100 * max(most, *(max(each.predicted, each.high) for each in bins)))

    def paint(axes: Axes) -> None:
        axes.plot([0, 100], [0, 100], color=GRAY, linewidth=0.8, linestyle=":")
        x, y, low, high = 100 * np.array(bins).T
        axes.vlines(x, low, high, color=style.colour, linewidth=1.2, alpha=0.6)
        axes.plot(x, y, color=style.colour, linewidth=1.2, marker=style.marker, markersize=4.5)
        margin = 0.03 * top
        axes.set(xlim=(-margin, top + margin), ylim=(-margin, top + margin), ylabel="fraction of positives, %")
        axes.tick_params(labelbottom=False)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.yaxis.set_major_locator(MaxNLocator(6))
        below = axes.inset_axes((0, -0.26, 1, 0.2), sharex=axes)
        edges = np.linspace(0, top, CELLS + 1)
        for kind, colour, bottom in ((target <= 0, "#bbbbbb", 0.0), (target > 0, style.colour, 1.0)):
            counts, _ = np.histogram((100 * probability[kind]).clip(0, top), edges)
            height = counts / max(1, counts.max())
            below.bar(edges[:-1], height if bottom else -height, np.diff(edges), align="edge", color=colour, alpha=0.9)
        below.axhline(0, color=GRAY, linewidth=0.6)
        below.set(ylim=(-1.05, 1.05), xlabel="predicted probability, %", yticks=[])
        below.grid(visible=False)
        for side in ("left", "top", "right"):
            below.spines[side].set_visible(False)

    legend = [
        Patch(color=style.colour, label="images with the finding"),
        Patch(color="#bbbbbb", label="images without it"),
    ]
    return svg(paint, PANEL, legend)


@styled
def decisions(
    thresholds: Float[np.ndarray, " points"],
    curves: Mapping[str, Curve],
    of_all: Float[np.ndarray, " points"],
    look: Styles,
) -> str:
    """Net benefit per 100 patients over the probability from which one would act."""

    def paint(axes: Axes) -> None:
        x = 100 * thresholds
        axes.axhline(0, color="#222222", linewidth=1)
        axes.plot(x, 100 * of_all, color=GRAY, linestyle="--", linewidth=1.2)
        for name, curve in curves.items():
            axes.fill_between(x, 100 * curve.low, 100 * curve.high, color=look[name].colour, alpha=0.15, linewidth=0)
            axes.plot(x, 100 * curve.value, **_line(look[name], 1.6))
        top = 100 * max(float(curve.high.max()) for curve in curves.values())
        axes.set(
            xlim=(x[0], x[-1]), ylim=(-0.25 * top, 1.05 * top), xlabel="threshold probability, %",
            ylabel="net benefit per 100 images",
        )  # fmt: skip

    lines = [Line2D([], [], **_line(look[name], 1.5), label=_short(name)) for name in curves]
    others = [
        Line2D([], [], color=GRAY, linestyle="--", label="act on all"),
        Line2D([], [], color="#222222", label="act on none"),
    ]
    return svg(paint, (3.4, 2.9), [*lines, *others])


def _rounded(percent: float) -> float:
    """A round end of an axis, from 5 to 100."""
    return next((end for end in (5.0, 10.0, 20.0, 30.0, 40.0, 60.0, 80.0) if percent <= end), 100.0)
