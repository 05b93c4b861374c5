"""The tables and forest plots of a study, from its JSON files alone.

    python experiments/tables.py docs/results/open_i      (writes tables.md and a forest plot of each family there)

`python experiments/compare.py` writes the differences.json that the paired tests are read from.
"""

import argparse
import base64
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from imitate.report import figures
from imitate.report.tables import label

Json = dict[str, Any]
ALPHA = 0.05
HOW = "p is of a paired bootstrap over seeds and patients, corrected by Holm over this table; bold below .05."


class Column(NamedTuple):
    """A task at a share of the training patients, and its main figure."""

    measure: str
    fraction: float
    figure: str

    @property
    def title(self) -> str:
        share = "" if self.fraction == 1 else f" at {100 * self.fraction:g}%"
        return f"{self.measure}{share}, {label(self.figure)}"


class Study(NamedTuple):
    """What the runner and the comparison wrote; ``cells[row][column]`` is the estimate of a figure."""

    about: Json
    cells: dict[str, dict[Column, Json]]
    seeds: dict[str, int]
    differences: list[Json]

    @property
    def columns(self) -> list[Column]:
        return list(dict.fromkeys(column for row in self.cells.values() for column in row))


def read(folder: Path) -> Study:
    about = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    cells: dict[str, dict[Column, Json]] = {}
    seeds: dict[str, int] = {}
    for file, (row, measure, fraction) in about["results"].items():
        found = json.loads((folder / file).read_text(encoding="utf-8"))
        figure, estimate = next(iter(found["metrics"].items()))
        cells.setdefault(row, {})[Column(measure, fraction, figure)] = estimate
        seeds[row] = len(found["seeds"])
    path = folder / "differences.json"
    return Study(about, cells, seeds, json.loads(path.read_text(encoding="utf-8")) if path.is_file() else [])


def values(study: Study) -> str:
    head = ["row", "seeds", *(column.title for column in study.columns)]
    rows = [
        [row, str(study.seeds[row]), *(estimated(found.get(column)) for column in study.columns)]
        for row, found in study.cells.items()
    ]
    return markdown(head, rows)


def tests(study: Study, family: str) -> str:
    found = {(each["b"], at(each)): each for each in study.differences if each["family"] == family}
    columns = list(dict.fromkeys(column for _, column in found))
    names = dict.fromkeys(row for row, _ in found)
    rows = [[row, *(tested(found.get((row, column))) for column in columns)] for row in names]
    return markdown([f"minus {study.about['reference']}", *(column.title for column in columns)], rows)


def compute(study: Study) -> str:
    """Medians over a row's runs, without those that were interrupted."""
    rows = []
    for row, runs in study.about["compute"].items():
        whole = [run for run in runs if not run["resumed"]] or runs
        took = [f"{statistics.median(run[key] for run in whole):.0f}" for key in ("seconds", "cpu_seconds")]
        rows.append([row, str(len(runs)), f"{runs[0]['pairs']:,}", f"{runs[0]['steps']:,}", *took])
    return markdown(["row", "runs", "pairs", "steps", "seconds a run", "processor seconds a run"], rows)


def forest(study: Study, family: str) -> bytes:
    """SVG. A mark for each row and task: the difference to the reference in points, with its interval.

    What there is more of, rows or tasks, stands on the axis; the other has the colours.
    """
    found = [each for each in study.differences if each["family"] == family and each["low"] is not None]
    many_tasks = len({at(each) for each in found}) > len({each["b"] for each in found})
    rows: dict[str, dict[str, figures.Point]] = {}
    for each in found:
        point = figures.Point(*(100 * each[key] for key in ("difference", "low", "high")))
        row, mark = (at(each).title, each["b"]) if many_tasks else (each["b"], at(each).title)
        rows.setdefault(row, {})[mark] = point
    look = figures.styles(list(dict.fromkeys(name for row in rows.values() for name in row)))
    level, dotted = dict.fromkeys(rows, 0.0), f"as {study.about['reference']}"
    drawn = figures.forest(rows, look, chance=level, dotted=dotted, unit="points")
    return base64.b64decode(drawn.split(",", 1)[1])


def at(each: Json) -> Column:
    return Column(each["measure"], each["fraction"], each["metric"])


def estimated(found: Json | None) -> str:
    if found is None or found["value"] is None:
        return "" if found is None else "undefined"
    between = "" if found["low"] is None else f" ({100 * found['low']:.1f} to {100 * found['high']:.1f})"
    return f"{100 * found['value']:.1f}{between}"


def tested(each: Json | None) -> str:
    if each is None:
        return ""
    between = "" if each["low"] is None else f" ({100 * each['low']:+.1f} to {100 * each['high']:+.1f})"
    told = f"{100 * each['difference']:+.1f}{between}, p {each['p_holm']:.2g}"
    return f"**{told}**" if each["p_holm"] < ALPHA else told


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that is at least as tall as it is wide: its columns become its rows where it is not."""
    lines = [head, *rows]
    if len(head) > len(lines):
        lines = list(zip(*lines, strict=True))
    lines.insert(1, ["---", *(["---:"] * (len(lines[0]) - 1))])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def families_of(study: Study) -> list[str]:
    return list(dict.fromkeys(each["family"] for each in study.differences))


def page(study: Study) -> str:
    about, machine = study.about, study.about["machine"]
    where = f"{machine['processor']}, {machine['threads']} thread(s) a run, {machine['workers']} run(s) at a time"
    parts = [
        f"Recipe `{about['recipe']}`; {where}. Research software, not a medical device.",
        "## Figures, % with 95% intervals over seeds and patients",
        values(study),
    ]
    for family in families_of(study):
        title = f"## {family.capitalize()} minus {about['reference']}, in points with 95% intervals"
        parts += [title, HOW, tests(study, family), f"![{family}](forest-{family}.svg)"]
    return "\n\n".join([*parts, "## Compute", compute(study)]) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what the runner has as --out")
    folder = parser.parse_args().folder
    study = read(folder)
    for family in families_of(study):
        (folder / f"forest-{family}.svg").write_bytes(forest(study, family))
    (folder / "tables.md").write_text(page(study), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
