"""Fill the tables of docs/*.md (``PAGES``) from docs/results/*.json, and draw the curves of growth and of quality.

``<!-- table FILE NAME -->`` and ``<!-- end -->`` enclose what is generated. Without FILE.json that says how to get it.

    python benchmarks/pages.py
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from measuring import RESULTS, Row, shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOCS = RESULTS.parent
PAGES = (
    "audit.md",
    "calibration.md",
    "hierarchy.md",
    "languages.md",
    "performance.md",
    "quickstart.md",
    "scaling.md",
    "statistics.md",
)
PATTERN = re.compile(r"(<!-- (table|machine|figure) ([\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)
CURVES = {  # title: file, table, abscissa, ordinate
    "prepare: time": ("data", "growth", "images", "s"),
    "prepare: memory": ("data", "growth", "images", "peak GB"),
    "exact ranks: time": ("retrieval", "retrieval", "texts", "s"),
    "exact ranks: memory": ("retrieval", "retrieval", "texts", "GB above the vectors"),
    "step by batch: time": ("growth", "batch", "batch", "s a step"),
    "step by batch: memory": ("growth", "batch", "batch", "GB of the step"),
    "step by image side: time": ("growth", "image", "image px", "s a step"),
    "step by image side: memory": ("growth", "image", "image px", "GB of the step"),
}


def fill(page: str) -> str:
    """The page with every generated part anew."""

    def part(found: re.Match[str]) -> str:
        kind, words = found[2], found[3].split()
        makers: dict[str, Callable[..., str]] = {"table": _table, "machine": _machine, "figure": _figure}
        made = makers[kind](*words)
        return f"{found[1]}{made}\n{found[4]}"

    return PATTERN.sub(part, page)


def results(file: str) -> dict[str, Any] | None:
    path = RESULTS / f"{file}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _table(file: str, name: str) -> str:
    found = results(file)
    if found is None or name not in found["tables"]:
        return f"*Not measured yet: `python benchmarks/{file}.py`.*"
    return markdown(found["tables"][name])


def markdown(rows: list[Row]) -> str:
    align = ["right" if isinstance(value, int | float) else "left" for value in rows[0].values()]
    frame = pd.DataFrame([[shown(value) for value in row.values()] for row in rows], columns=list(rows[0]))
    return frame.to_markdown(index=False, disable_numparse=True, colalign=align)


def _machine(file: str) -> str:
    found = results(file)
    if found is None:
        return "*No machine yet.*"
    return "Measured on: " + ", ".join(f"{key} {shown(value)}" for key, value in found["machine"].items()) + "."


def _figure(name: str) -> str:
    return f"![{name}](figures/{name}.svg)" if (DOCS / "figures" / f"{name}.svg").is_file() else "*No curve yet.*"


def _points(file: str, table: str, x: str, y: str) -> list[tuple[float, float]]:
    rows = (results(file) or {"tables": {}})["tables"].get(table, [])
    return [(row[x], row[y]) for row in rows if not str(row.get("search", "all ranks")).startswith("5")]


def growth() -> "Figure | None":
    """Logarithmic on both axes, so that what is linear has slope 1; the dotted line has it."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    shown_curves = {title: points for title, curve in CURVES.items() if (points := _points(*curve))}
    if not shown_curves:
        return None
    figure = Figure((10, 2.6 * -(-len(shown_curves) // 4)), layout="constrained")
    panels = figure.subplots(-(-len(shown_curves) // 4), 4, squeeze=False).flat
    for axes, (title, points) in zip(panels, shown_curves.items(), strict=False):
        x, y = zip(*points, strict=True)
        axes.loglog(x, y, marker="o")
        axes.loglog([x[0], x[-1]], [y[0], y[0] * x[-1] / x[0]], linestyle=":", color="gray")
        axes.set_title(title, fontsize=9)
        axes.set_xlabel(CURVES[title][2])
        axes.set_ylabel(CURVES[title][3])
        axes.set_xticks(x, [f"{value / 1000:g}k" if value >= 1000 else f"{value:g}" for value in x], fontsize=8)
        axes.set_xticks([], minor=True)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_yticks([], minor=True)
    return figure


def quality() -> "Figure | None":
    """A panel for each metric: means over seeds with their range, against CPU seconds; dotted, the reference's
    last value."""
    from matplotlib.figure import Figure

    found = results("quality")
    if found is None:
        return None
    frame = pd.DataFrame(found["tables"]["curves"])
    metrics = [str(name) for name in frame if name not in ("method", "seed", "steps", "CPU s")]
    figure = Figure((10, 4.4), layout="constrained")
    for axes, metric in zip(figure.subplots(1, len(metrics)), metrics, strict=True):
        for number, (name, rows) in enumerate(frame.groupby("method", sort=False)):
            epochs = rows.groupby("steps")
            x, y = epochs["CPU s"].mean(), 100 * epochs[metric].mean()
            (line,) = axes.plot(x, y, marker="o", markersize=3, label=str(name))
            axes.fill_between(
                x,
                100 * epochs[metric].min(),
                100 * epochs[metric].max(),
                color=line.get_color(),
                alpha=0.15,
                linewidth=0,
            )
            if number == 0:
                axes.axhline(y.iloc[-1], linestyle=":", color=line.get_color())
        axes.set_xlabel("CPU seconds of training")
        axes.set_ylabel(f"{metric}, %")
        axes.grid(alpha=0.3)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


FIGURES: "dict[str, Callable[[], Figure | None]]" = {"growth": growth, "quality": quality}


def draw(folder: Path) -> None:
    from matplotlib import rc_context

    folder.mkdir(parents=True, exist_ok=True)
    for name, make in FIGURES.items():
        with rc_context({"svg.hashsalt": name}):  # else equal figures differ in their ids
            if (figure := make()) is not None:
                figure.savefig(folder / f"{name}.svg", format="svg", metadata={"Date": None, "Creator": None})


def main() -> None:
    draw(DOCS / "figures")
    for name in PAGES:
        path = DOCS / name
        path.write_text(fill(path.read_text(encoding="utf-8")), encoding="utf-8")
        print(f"filled {path}")


if __name__ == "__main__":
    main()
