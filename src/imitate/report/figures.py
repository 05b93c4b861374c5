"""The plots of a report, each as a data URI."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Num, UInt8
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from imitate.report import folds
from imitate.report.canvas import GRAY, png, styled, svg
from imitate.report.folds import Scored

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#444444")  # for all kinds of vision
DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
TRUTH, FOUND = "#2fe07f", "#ff9d2e"
LONGEST_NAME = 40
PANEL = (3.2, 2.9)
BINS = 10  # of a calibration curve


class Style(NamedTuple):
    colour: str
    dash: str
    marker: str


class Point(NamedTuple):
    value: float
    low: float
    high: float


Styles = Mapping[str, Style]
Runs = Mapping[str, Sequence[Scored]]
Lines = Mapping[str, Mapping[str, Point]]
"""A line's label, and on it a point a method."""


def styles(names: Sequence[str]) -> dict[str, Style]:
    """A colour, a dash and a marker for each name, so that a method looks the same in every plot."""
    return {
        name: Style(COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)], MARKERS[i % len(MARKERS)])
        for i, name in enumerate(names)
    }


@styled
def roc(runs: Runs, look: Styles) -> str:
    """One line a run, of cross-validation the mean of its folds."""

    def paint(axes: Axes) -> None:
        axes.plot([0, 100], [0, 100], color=GRAY, linewidth=0.8, linestyle=":")
        for name, run, width in _each(runs):
            false, true = folds.roc(run)
            axes.plot(*_thinned(100 * false, 100 * true), **_line(look[name], width))
        _square(axes, "false-positive rate, %", "sensitivity, %")

    return svg(paint, PANEL, _methods(runs, look))


@styled
def precision_recall(runs: Runs, look: Styles) -> str:
    """One line a run, of cross-validation the mean of its folds, in steps; dotted: the precision of chance."""

    def paint(axes: Axes) -> None:
        for name, run, width in _each(runs):
            recall, precision = folds.precision_recall(run)
            axes.axhline(100 * folds.positive_rate(run), color=GRAY, linewidth=0.8, linestyle=":")
            line = _thinned(100 * recall, 100 * precision)
            axes.plot(*line, drawstyle="steps-pre", **_line(look[name], width))
        _square(axes, "recall, %", "precision, %")

    return svg(paint, PANEL, _methods(runs, look))


@styled
def reliability(runs: Runs, look: Styles) -> str:
    """Scores are probabilities, of whichever seed or fold. Positives against mean score, in bins of as many images."""

    def paint(axes: Axes) -> None:
        axes.plot([0, 100], [0, 100], color=GRAY, linewidth=0.8, linestyle=":")
        for name, scored in runs.items():
            target, score = (np.concatenate([run[i] for run in scored]) for i in (0, 1))
            bins = [part for part in np.array_split(np.argsort(score, kind="stable"), BINS) if len(part)]
            points = [(100 * score[part].mean(), 100 * (target[part] > 0).mean()) for part in bins]
            axes.plot(*zip(*points, strict=True), **_line(look[name], 1.2), marker=look[name].marker, markersize=4)
        _square(axes, "predicted probability, %", "fraction of positives, %")

    return svg(paint, PANEL, _methods(runs, look, marked=True))


@styled
def efficiency(methods: Mapping[str, Mapping[float, Point]], look: Styles, *, metric: str, chance: float | None) -> str:
    """A metric over the fraction of training patients, with a band for its interval."""

    def paint(axes: Axes) -> None:
        fractions = sorted({fraction for points in methods.values() for fraction in points})
        for name, points in methods.items():
            x = sorted(points)
            axes.plot(x, [points[fraction].value for fraction in x], **_line(look[name], 1.6), marker=look[name].marker)
            low, high = zip(*((points[fraction].low, points[fraction].high) for fraction in x), strict=True)
            axes.fill_between(x, low, high, color=look[name].colour, alpha=0.13, linewidth=0)
        if chance is not None:
            axes.axhline(chance, color=GRAY, linewidth=0.8, linestyle=":")
        axes.set(xscale="log", xlabel="training patients", ylabel=metric)
        axes.set_xticks(fractions, [f"{100 * fraction:g}%" for fraction in fractions])
        axes.set_xticks([], minor=True)

    legend = [*_methods(methods, look, marked=True), *([] if chance is None else [_dotted("chance")])]
    return svg(paint, (3.5, 2.7), legend)


@styled
def forest(lines: Lines, look: Styles, *, chance: Mapping[str, float], dotted: str = "chance", unit: str = "%") -> str:
    """A point with its interval a method, on a line a metric; a dotted tick at chance, or at what ``dotted`` says."""
    names = list(dict.fromkeys(name for line in lines.values() for name in line))
    step = 0.8 / len(names)

    def paint(axes: Axes) -> None:
        for y, (label, line) in enumerate(lines.items()):
            for name, point in line.items():
                at = y + (names.index(name) - (len(names) - 1) / 2) * step
                axes.plot(point[1:], [at, at], **_line(look[name], 1.6))
                axes.plot([point.value], [at], look[name].marker, color=look[name].colour, markersize=5)
            if label in chance:
                axes.plot([chance[label]] * 2, [y - 0.45, y + 0.45], color=GRAY, linestyle=":")
        axes.set_yticks(range(len(lines)), [_short(label) for label in lines])
        axes.set(ylim=(len(lines) - 0.5, -0.5), xlabel=unit)
        axes.grid(visible=False, axis="y")

    legend = [*_methods(names, look, marked=True), *([_dotted(dotted)] if chance else [])]
    return svg(paint, (5.4, 0.9 + len(lines) * max(0.26, 0.13 * len(names))), legend)


@styled
def bars(
    groups: Lines, look: Styles, *, axis: str, chance: Mapping[str, float], shuffled: Mapping[str, Mapping[str, float]]
) -> str:
    """A group of bars a metric: chance, then each method, crossed by a line at its value with shuffled images."""
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    width = 0.84 / (1 + len(names))

    def paint(axes: Axes) -> None:
        for x, (label, group) in enumerate(groups.items()):
            left = x - 0.42 + width / 2
            axes.bar(left, chance.get(label, 0), 0.9 * width, color="#bbbbbb")
            for name, point in group.items():
                at = left + (1 + names.index(name)) * width
                axes.bar(at, point.value, 0.9 * width, color=look[name].colour)
                axes.plot([at, at], point[1:], color="#222222", linewidth=1)
                level = shuffled.get(label, {}).get(name)
                if level is not None:
                    axes.plot([at - width / 2, at + width / 2], [level, level], color="#222222", linestyle=":")
        axes.set_xticks(range(len(groups)), list(groups))
        axes.grid(visible=False, axis="x")
        axes.set_ylabel(f"{axis}, %")

    marks = [(look[name].colour, _short(name)) for name in names] + [("#bbbbbb", "chance")]
    legend = [Rectangle((0, 0), 1, 1, color=colour, label=label) for colour, label in marks]
    return svg(paint, (3.5, 2.6), [*legend, _dotted("shuffled", "#222222")])


@styled
def contours(
    image: UInt8[np.ndarray, "size size"],
    truth: Bool[np.ndarray, "size size"],
    predicted: Bool[np.ndarray, "side side"],
) -> str:
    """The outline of the truth and of a prediction, each mask laid over the whole image."""

    def paint(axes: Axes) -> None:
        for mask, colour, dash in ((truth, TRUTH, "-"), (predicted, FOUND, "--")):
            rimmed = np.pad(mask, 1).astype(float)  # so that the outline of what touches the border closes
            at = (np.arange(len(rimmed)) - 0.5) * len(image) / len(mask) - 0.5
            if mask.any():
                axes.contour(at, at, rimmed, [0.5], colors=[colour], linestyles=[dash], linewidths=1.4)

    return png(image, paint)


@styled
def boxes(
    image: UInt8[np.ndarray, "size size"],
    truth: Num[np.ndarray, "objects 4"],
    found: Num[np.ndarray, "boxes 4"],
    scores: Float[np.ndarray, " boxes"],
) -> str:
    """Boxes by their corners in image pixels, the found ones with their scores."""

    def paint(axes: Axes) -> None:
        for box, colour, dash in [*((b, TRUTH, "-") for b in truth), *((b, FOUND, "--") for b in found)]:
            width, height = box[2:] - box[:2]
            axes.add_patch(Rectangle(box[:2], width, height, fill=False, edgecolor=colour, linestyle=dash))
        for box, score in zip(found, scores, strict=True):
            axes.text(float(box[0]), float(box[1]) - 2, f"{score:.2f}", color=FOUND, size=8, clip_on=True)

    return png(image, paint)


@styled
def heat(
    image: UInt8[np.ndarray, "size size"],
    truth: Bool[np.ndarray, "size size"],
    shown: UInt8[np.ndarray, "side side"],
    peak: Num[np.ndarray, "2"],
) -> str:
    """A map over the whole image, the more opaque the higher, with its peak (down, across) and the marked outline."""

    def paint(axes: Axes) -> None:
        side = len(image)
        whole = (-0.5, side - 0.5, side - 0.5, -0.5)
        height = shown / 255
        axes.imshow(height, cmap="inferno", alpha=0.65 * height, extent=whole, interpolation="bilinear", vmin=0, vmax=1)
        rimmed, at = np.pad(truth, 1).astype(float), np.arange(side + 2) - 1.0
        if truth.any():
            axes.contour(at, at, rimmed, [0.5], colors=[TRUTH], linewidths=1.4)
        axes.plot([peak[1]], [peak[0]], "+", color="#ffffff", markersize=11, markeredgewidth=2.2)
        axes.plot([peak[1]], [peak[0]], "+", color=FOUND, markersize=10, markeredgewidth=1.2)

    return png(image, paint)


@styled
def radiograph(image: UInt8[np.ndarray, "size size"]) -> str:
    return png(image, lambda axes: None)


def _each(runs: Runs) -> list[tuple[str, Scored, float]]:
    return [(name, run, 1.5 if len(scored) == 1 else 0.8) for name, scored in runs.items() for run in scored]


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Without the points that lie within half a percent of the one before: a screen cannot show them."""
    moved = np.diff(np.round(2 * np.stack([x, y])), axis=1).any(0)
    kept = np.flatnonzero(np.append(True, moved) | (np.arange(len(x)) == len(x) - 1))
    return x[kept], y[kept]


def _line(style: Style, width: float) -> dict[str, Any]:
    return {"color": style.colour, "linestyle": style.dash, "linewidth": width}


def _short(name: str) -> str:
    """With its end: that is where the names of runs differ."""
    half = LONGEST_NAME // 2
    return name if len(name) <= LONGEST_NAME else f"{name[:half]}…{name[1 - half :]}"


def _methods(names: Iterable[str], look: Styles, *, marked: bool = False) -> list[Any]:
    return [
        Line2D([], [], **_line(look[name], 1.5), marker=look[name].marker if marked else "", label=_short(name))
        for name in names
    ]


def _dotted(label: str, colour: str = GRAY) -> Line2D:
    return Line2D([], [], color=colour, linestyle=":", label=label)


def _square(axes: Axes, x: str, y: str) -> None:
    axes.set(xlim=(-2, 102), ylim=(-2, 102), xlabel=x, ylabel=y)
