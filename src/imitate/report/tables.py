"""Groups of results as tables: methods as lines, fractions of the training patients as columns, in percent."""

import re
from collections.abc import Mapping, Sequence
from functools import cache

from imitate.report.figures import Styles
from imitate.report.groups import Group
from imitate.report.page import Cell, Heading, Line, Table, anchor, texts
from imitate.tasks import find_task, task_names
from imitate.tasks.audit_model import Audit
from imitate.tasks.base import Estimate, Results

WAYS = {"image-to-text": "image → text", "text-to-image": "text → image"}
PAPER = "Mode paper reproduces the sizes and quirks of published tables; never compare it with mode clean."
LACKING = "How images were acquired can lift a probe well above chance. To see what was learned, add the baseline"
RESAMPLES = "of the resamples"  # in a note: how often an interval lacks a metric
FEW = "since they have few positive test images"


@cache
def _names() -> Mapping[str, str]:
    own = {metric: name for task in task_names() for metric, name in find_task(task).names.items()}
    return {"auroc": "AUROC", "average-precision": "average precision", **own}


def two_ways(group: Group) -> bool:
    """Whether its metrics are of two directions, as those of retrieval are."""
    return any(metric.rpartition("/")[2] in WAYS for metric in group.metrics)


def label(metric: str) -> str:
    """What a table calls a metric such as ``auroc/Edema``."""
    base, *parts = metric.split("/")
    named = _names().get(base, base.replace("recall@", "R@").replace("precision@", "P@"))
    if base == "froc" and parts:
        parts = [f"{parts[0]} false positives an image"]
    return " · ".join([named, *(WAYS.get(part, part) for part in parts)])


def headlines(group: Group) -> list[str]:
    """The metrics of the first table: the main one, then those that it must be read beside."""
    main, *others = group.metrics
    quoted = [metric for each in group.published for values in each.rows.values() for metric in values]
    chosen = [metric for metric in dict.fromkeys([*group.kind.beside, *quoted]) if metric in others]
    return [main, *sorted(chosen, key=lambda metric: metric.endswith("text-to-image"))]


def overview(groups: Sequence[Group], look: Styles) -> Table:
    """The main metric of every group, each method at its largest fraction."""
    lines = []
    for group in groups:
        main, fraction = group.metrics[0], group.fractions[-1]
        cells = [Cell(_level(group, main)), *_cells(group, main, fraction, list(look))]
        small = f"{label(main)}{at_fraction(group, fraction)}{on_split(group)}"
        lines.append(Line(group.title, cells, link=anchor_of(group), small=small))
    return Table("Main metrics, % with 95% intervals", _beside_chance(list(look), look), lines, corner="task and data")


def sources(groups: Sequence[Group | Audit]) -> Table:
    """What was measured on."""
    fields = ("source", "fingerprint", "split", "images", "patients")
    seen = {(group.data["name"], *(group.data.get(field, "") for field in fields)) for group in groups}
    lines = [
        Line(name, texts([source, str(fingerprint)[:8], split, f"{images:,}", f"{patients:,}"]))
        for name, source, fingerprint, split, images, patients in sorted(seen)
    ]
    return Table("Test data", [Heading(field) for field in fields], lines, corner="data set")


def main_table(group: Group, look: Styles) -> Table:
    """Methods against fractions of the training patients, for each headline metric; below them the levels of chance."""
    chosen, fractions = headlines(group), group.fractions
    columns: dict[str, list[str]] = {}
    for metric in chosen:
        if two_ways(group):
            name, *parts = label(metric).split(" · ")
            columns.setdefault(parts[-1] if parts else name, []).extend([name] if parts else [])
        else:
            columns[label(metric)] = [f"{100 * fraction:g}%" for fraction in fractions] if len(fractions) > 1 else []
    cells = [_cells(group, metric, fraction, list(group.methods)) for metric in chosen for fraction in fractions]
    lines = [
        Line(name, line, colour=look[name].colour)
        for name, line in zip(group.methods, zip(*cells, strict=True), strict=True)
    ]
    for name, levels in _levels(group, chosen):
        lines.append(Line(name, texts([level for level in levels for _ in fractions]), kind="level"))
    lines += _published(group, chosen)
    where = "" if len(fractions) > 1 else at_fraction(group, fractions[0])
    headings = [Heading(text, parts) for text, parts in columns.items()]
    return Table(f"Main metrics, % with 95% intervals{where}{on_split(group)}", headings, lines, corner="method")


def all_metrics(group: Group, look: Styles) -> list[Table]:
    """Every metric, also those of single classes; one table for each fraction."""
    tables = []
    for fraction in reversed(group.fractions):
        found = list(group.at(fraction))
        lines = [
            Line(label(metric), [Cell(_level(group, metric)), *_cells(group, metric, fraction, found)])
            for metric in group.metrics
        ]
        caption = f"All metrics{at_fraction(group, fraction)}{on_split(group)}"
        tables.append(Table(caption, _beside_chance(found, look), lines, corner="metric, %"))
    return tables


def notes(group: Group) -> list[str]:
    """What a reader must know to read the main table of this group."""
    written = []
    if group.kind.about_chance:
        written.append(group.kind.about_chance)
    if missing := _missing_baselines(group):
        names = f"{'s' if len(missing) > 1 else ''} {' and '.join(missing)}"
        written.append(f"{LACKING}{names}: imitate evaluate --beside {' '.join(missing)}.")
    for each in group.published:
        quoted = f"{each.source}{f' ({each.note})' if each.note else ''}"
        written.append(f"Methods marked published were not measured here: their values are quoted from {quoted}.")
    if group.mode == "paper":
        written.append(PAPER)
    found = _notes_by_text(group)
    written += [_note(text, where) for text, where in found.items() if RESAMPLES not in text]
    if any(RESAMPLES in text for text in found):
        written.append(f"Some metrics are undefined in some of the resamples, {FEW}: see All metrics.")
    return written


def all_notes(group: Group) -> list[str]:
    """The notes on resamples, in the order of how many they are."""
    found = {text: where for text, where in _notes_by_text(group).items() if RESAMPLES in text}
    return [_note(text, found[text]) for text in sorted(found, key=lambda text: -_number(text))]


def runs(group: Group) -> Table:
    """Where the values come from: a line a results file."""
    columns = ["method", "fitted on", "seeds", "mode", "seconds", "settings", "code and device"]
    lines = []
    for name, fractions in group.methods.items():
        for fraction, (path, results) in sorted(fractions.items()):
            cells = [name, _fitted(results, fraction), _fits(results), results.mode, f"{results.seconds:,.0f}"]
            used = results.used or results.settings
            settings = "; ".join(f"{key} {_setting(value)}" for key, value in used.items())
            lines.append(Line(path.name, texts([*cells, settings, _made(results)])))
    return Table("Runs and settings", [Heading(text) for text in columns], lines, corner="file", kind="runs")


def _fitted(results: Results, fraction: float) -> str:
    """The training patients as they were counted, where that is recorded; mode paper draws images."""
    part = f"{100 * fraction:g}% of the {'images' if results.mode == 'paper' else 'patients'}"
    counts = {key: results.train.get(key) for key in ("images", "patients")}
    if not all(counts.values()):
        return part if find_task(results.task).trains else "nothing"
    each = f", in each of {results.train['folds']} folds" if "folds" in results.train else ""
    return f"{part}: {counts['images']:,} images of {counts['patients']:,} patients of {results.train['name']}{each}"


def _made(results: Results) -> str:
    """By which code, on which device, of which weights."""
    code = {"method": results.method, **results.versions, "commit": (results.commit or "")[:12]}
    code["weights"] = ", ".join(dict.fromkeys(each[:8] for each in results.weights))
    code["resamples"], where = str(results.resamples or ""), (results.device, results.precision)
    return "; ".join([*(f"{key} {value}" for key, value in code.items() if value), *filter(None, where)])


def _fits(results: Results) -> str:
    """Heads of one pre-trained encoder are no pre-trainings."""
    runs = len(set(results.pretrained))
    return str(runs) if runs == len(results.seeds) else f"{len(results.seeds)} fits on {runs} encoder{'s' * (runs > 1)}"


def trained(group: Group) -> bool:
    return group.kind.trains


def at_fraction(group: Group, fraction: float) -> str:
    """Nothing for a task that trains nothing. Mode paper draws images, as publications do."""
    unit = "images" if group.mode == "paper" else "patients"
    return f" at {100 * fraction:g}% of the training {unit}" if trained(group) else ""


def on_split(group: Group) -> str:
    return f", split {group.data['split']}"


def anchor_of(group: Group) -> str:
    data = group.data
    return anchor(
        f"{group.title} {data['split']} {data['fingerprint']} {data['images']} {data['patients']} {group.mode}"
    )


def _beside_chance(names: Sequence[str], look: Styles) -> list[Heading]:
    return [Heading("chance"), *(Heading(name, colour=look[name].colour) for name in names)]


def _notes_by_text(group: Group) -> dict[str, dict[str, list[str]]]:
    """Each note once: its text, the metrics that it concerns, and of which results."""
    found: dict[str, dict[str, list[str]]] = {}
    for metric in group.metrics:
        for name, fractions in group.methods.items():
            for fraction, (_, results) in fractions.items():
                estimate = results.metrics.get(metric)
                for text in estimate.note.split("; ") if estimate and estimate.note else []:
                    where = found.setdefault(text, {}).setdefault(label(metric), [])
                    where.append(f"{name}{at_fraction(group, fraction)}")
    every = len(group.entries)
    return {
        text: {metric: [] if len(names) == every else names for metric, names in where.items()}
        for text, where in found.items()
    }


def _note(text: str, where: dict[str, list[str]]) -> str:
    concerned = (f"{metric} ({', '.join(names)})" if names else metric for metric, names in where.items())
    return f"{', '.join(concerned)}: {text}"


def _number(text: str) -> float:
    return max((float(each) for each in re.findall(r"([\d.]+)%", text)), default=0.0)


def _cells(group: Group, metric: str, fraction: float, names: Sequence[str]) -> list[Cell]:
    found, best = group.estimates(metric, fraction), group.best.get((fraction, metric))
    return [cell(found.get(name), bold=name == best, scale=group.scale(metric)) for name in names]


def _level(group: Group, metric: str) -> str:
    return _shown(group.chance(metric), group.scale(metric))


def _levels(group: Group, metrics: list[str]) -> list[tuple[str, list[str]]]:
    levels = {"chance": [group.chance(metric) for metric in metrics]}
    for name, entry in group.at(group.fractions[-1]).items():
        found = [entry.results.metrics.get(metric) for metric in metrics]
        own = (
            None if each is None or group.chance(metric) is not None else each.chance
            for metric, each in zip(metrics, found, strict=True)
        )
        levels[f"{name}, chance"] = list(own)
        levels[f"{name}, shuffled"] = [estimate.shuffled if estimate else None for estimate in found]
    scales = [group.scale(metric) for metric in metrics]
    return [
        (name, [_shown(level, scale) for level, scale in zip(each, scales, strict=True)])
        for name, each in levels.items()
        if any(level is not None for level in each)
    ]


def _missing_baselines(group: Group) -> list[str]:
    """Those that a probe's table lacks."""
    seen = {name for entry in group.entries for name in entry.results.encoders}
    return [name for name in group.kind.baselines if name not in seen]


def _published(group: Group, metrics: Sequence[str]) -> list[Line]:
    """What others printed, at the fractions of the table."""
    lines = []
    for each in group.published:
        for method, quoted in each.rows.items():
            cells = []
            for metric in metrics:
                values = dict(zip(each.shares, quoted.get(metric, ()), strict=False))
                found = (values.get(fraction) for fraction in group.fractions)
                cells += ["–" if value is None else f"{value:.1f}" for value in found]
            lines.append(Line(f"{method}, published", texts(cells), kind="published"))
    return lines


def cell(estimate: Estimate | None, *, bold: bool, scale: int) -> Cell:
    """A value with its interval; a dash where nothing was measured."""
    if estimate is None or estimate.value is None:
        return Cell("–" if estimate is None else "undefined")
    value, *ends = (_shown(each, scale) for each in (estimate.value, estimate.low, estimate.high))
    if estimate.low is None or estimate.high is None:
        return Cell(value, bold=bold)
    return Cell(value, "–".join(ends), bold=bold)


def _shown(value: float | None, scale: int) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if scale == 1 and abs(value) < 3 else f"{scale * value:.1f}"  # a slope of 1.06


def _setting(value: object) -> str:
    """Of a path its last part: where a file lies is nobody's business."""
    return str(value).replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
