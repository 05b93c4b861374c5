"""The tables and forest plots of a study, in percent, from its folder alone."""

import base64
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from imitate.errors import UserError
from imitate.report import figures
from imitate.report.groups import Entry, group_entries
from imitate.report.markdown import markdown, markdown_table, percent
from imitate.report.tables import label
from imitate.tasks import find_task
from imitate.tasks.base import Estimate
from layout import Folder, Json
from study import Cell

ALPHA = 0.05
HOW = (
    "p is of a paired t test whose variance is that over patients (bootstrap) plus that between seeds, corrected by "
    "Holm over this table{}; bold below .05."
)


class Line(NamedTuple):
    """Of a table: a metric of a task, by default its main one, under a name of its own."""

    text: str
    task: str
    metric: str | None = None
    fraction: float = 1.0


def metrics(
    study: Folder,
    methods: Sequence[str],
    lines: Sequence[Line],
    *,
    chance: bool = False,
    first: Sequence[Sequence[str]] = (),
) -> str:
    """Metrics as lines below those of ``first``, methods as columns."""
    written = [*map(list, first), *values(study, methods, lines)]
    if chance:
        levels = [*("" for _ in first), *(_chance(study, methods, line) for line in lines)]
        written = [[text, level, *cells] for (text, *cells), level in zip(written, levels, strict=True)]
    return markdown_table(["", *(["chance"] if chance else []), *methods], written)


def values(study: Folder, methods: Sequence[str], lines: Sequence[Line]) -> list[list[str]]:
    return [[line.text, *(percent(_estimate(study, method, line)) for method in methods)] for line in lines]


def _estimate(study: Folder, method: str, line: Line) -> Estimate | None:
    return study.estimate(Cell(method, line.task, line.fraction), line.metric)


def _chance(study: Folder, methods: Sequence[str], line: Line) -> str:
    found = (_estimate(study, method, line) for method in methods)
    return next((f"{100 * each.chance:.1f}" for each in found if each and each.chance is not None), "")


def main_metrics(study: Folder) -> str:
    """Every method, on the main metric of every task."""
    columns = list(dict.fromkeys(cell[1:] for cell in study.cells))
    head = ["method", "seeds", *(title(study, *column) for column in columns)]
    lines = []
    for method in study.methods:
        cells = [Cell(method, *column) for column in columns]
        values = [percent(study.estimate(cell)) if cell in study.results else "" for cell in cells]
        lines.append([method, str(study.seeds(method)), *values])
    return tall(head, lines)


def tests(study: Folder, family: str) -> str:
    found = {(each["method"], each["task"], each["fraction"]): each for each in of_family(study, family)}
    if not found:
        raise UserError(f"there are no paired tests of {family}: run experiments/compare.py")
    columns = list(dict.fromkeys(key[1:] for key in found))
    methods = dict.fromkeys(key[0] for key in found)
    lines = [[method, *(_tested(found.get((method, *column))) for column in columns)] for method in methods]
    return tall([f"minus {reference(study, family)}", *(title(study, *column) for column in columns)], lines)


class Spent(NamedTuple):
    """On each of a method's runs: medians over those that were not interrupted, if there are any."""

    runs: int
    pairs: int
    steps: int
    seconds: float
    cpu_seconds: float


def spent(study: Folder, method: str) -> Spent:
    runs = study.about["compute"][method]
    whole = [run for run in runs if not run["resumed"]] or runs
    took = (statistics.median(run[key] for run in whole) for key in ("seconds", "cpu_seconds"))
    return Spent(len(runs), runs[0]["pairs"], runs[0]["steps"], *took)


def compute(study: Folder) -> str:
    """With the processors of each method's runs where not all are the study's, and the precisions where they differ."""
    usual, lines, processors, precisions = study.about["machine"]["processor"], [], [], []
    for method, runs in study.about["compute"].items():
        each = spent(study, method)
        took = [f"{value:.0f}" for value in (each.seconds, each.cpu_seconds)]
        lines.append([method, str(each.runs), f"{each.pairs:,}", f"{each.steps:,}", *took])
        processors.append(", ".join(dict.fromkeys(run.get("processor", usual) for run in runs)))
        precisions.append(", ".join(dict.fromkeys(run.get("precision", "not recorded") for run in runs)))
    heads = ["method", "runs", "pairs", "steps", "seconds per run", "CPU seconds per run"]
    for name, values, shown in (
        ("processor", processors, set(processors) - {usual}),
        ("precision", precisions, len(set(precisions)) > 1),
    ):
        if shown:
            heads, lines = [*heads, name], [[*line, each] for line, each in zip(lines, values, strict=True)]
    return markdown_table(heads, lines)


def forest_file(family: str) -> str:
    return f"forest-{family.replace(' ', '-')}.svg"


def forest(study: Folder, family: str) -> bytes:
    """SVG. A mark for each method and task: the difference to the reference in points, with its interval.

    What there is more of, methods or tasks, stands on the axis; the other has the colours.
    """
    found = [each for each in of_family(study, family) if each["low"] is not None]
    titles = {(each["task"], each["fraction"]): title(study, each["task"], each["fraction"]) for each in found}
    many_tasks = len(titles) > len({each["method"] for each in found})
    lines: dict[str, dict[str, figures.Point]] = {}
    for each in found:
        point = figures.Point(*(100 * each[key] for key in ("difference", "low", "high")))
        task, method = titles[each["task"], each["fraction"]], each["method"]
        line, mark = (task, method) if many_tasks else (method, task)
        lines.setdefault(line, {})[mark] = point
    look = figures.styles(list(dict.fromkeys(name for line in lines.values() for name in line)))
    level, dotted = dict.fromkeys(lines, 0.0), f"as {reference(study, family)}"
    drawn = figures.forest(lines, look, chance=level, dotted=dotted, unit="points")
    return base64.b64decode(drawn.split(",", 1)[1])


def _with(study: Folder) -> str:
    """The other studies whose tests the correction includes."""
    others = study.about["differences"].get("corrected_with", {})
    return f" and the same table of {', '.join(f'`{name}`' for name in others)}" if others else ""


def all_metrics(study: Folder) -> str:
    """A section a task, as `imitate report --out report.md` writes them."""
    return markdown(group_entries([Entry(Path(cell.file), found) for cell, found in study.results.items()]))


def page(study: Folder) -> str:
    """Everything that the study's folder holds, as Markdown."""
    about, machine = study.about, study.about["machine"]
    made, old = about["made_by"], older(study)
    parts = [
        "<!-- written by `make results` -->",
        f"Made by `{made['command']}` with `{about['recipe']}`, both of commit {made['commit'][:7]}; "
        f"{machine['processor']}, {machine['threads']} thread(s) per run, {machine['workers']} run(s) at a time. "
        f"{_kept(about)} Research software, not a medical device.",
        *([f"Measured by an earlier version of the code, so that today's gives other values: {old}."] if old else []),
        "## Main metrics, % with 95% intervals over seeds and patients",
        main_metrics(study),
    ]
    for family in families(study):
        heading = f"## {family.capitalize()} minus {reference(study, family)}, in points with 95% intervals"
        parts += [heading, HOW.format(_with(study)), tests(study, family), f"![{family}]({forest_file(family)})"]
    parts += ["## Compute", compute(study), "## All metrics", all_metrics(study).rstrip()]
    return "\n\n".join(parts) + "\n"


def older(study: Folder) -> str:
    """The tasks that today's code measures in another way than these results were; nothing where there are none."""
    now = {cell.task: find_task(found.task).method() for cell, found in study.results.items()}
    then = {cell.task: found.method for cell, found in study.results.items() if found.method != now[cell.task]}
    return ", ".join(f"{task} by method {method}, now {now[task]}" for task, method in then.items())


def _kept(about: Json) -> str:
    kept = about["predictions"]
    if kept and kept["file"]:
        return f"Its predictions are in {kept['file']}: the paired tests can be repeated from them."
    return "Its predictions are not kept here: run the command to make them again."


def families(study: Folder) -> list[str]:
    return list(dict.fromkeys(each["family"] for each in study.differences))


def reference(study: Folder, family: str) -> str:
    """The method from which the others of the family differ."""
    return str(of_family(study, family)[0].get("reference", study.about["reference"]))


def of_family(study: Folder, family: str) -> list[Json]:
    return [each for each in study.differences if each["family"] == family]


def title(study: Folder, task: str, fraction: float) -> str:
    cell = next(cell for cell in study.cells if cell[1:] == (task, fraction))
    at = "" if fraction == 1 else f" at {100 * fraction:g}%"
    return f"{task}{at}, {label(study.main_metric(cell))}"


def tall(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table that is at least as tall as it is wide: its columns become its lines where it is not."""
    whole = [head, *lines]
    if len(head) > len(whole):
        whole = list(zip(*whole, strict=True))
    return markdown_table(whole[0], whole[1:])


def _points(each: Json) -> str:
    between = "" if each["low"] is None else f" ({100 * each['low']:+.1f} to {100 * each['high']:+.1f})"
    return f"{100 * each['difference']:+.1f}{between}"


def _tested(each: Json | None) -> str:
    if each is None:
        return ""
    written = f"{_points(each)}, p {each['p_holm']:.2g}"
    return f"**{written}**" if each["p_holm"] < ALPHA else written
