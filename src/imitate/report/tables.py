"""Groups of results as tables: methods as rows, shares of the training patients as columns, in percent."""

from collections.abc import Mapping, Sequence
from functools import cache

from imitate.report.figures import Style, Styles
from imitate.report.groups import Group
from imitate.report.page import Html, anchor, details, element, join, note, table
from imitate.tasks import find_task, task_names
from imitate.tasks.base import Estimate

WAYS = {"image-to-text": "image → text", "text-to-image": "text → image"}
PAPER = "Mode paper keeps the sizes and quirks of published tables, to stand beside them: never compare it with clean."
LACKING = "Acquisition alone lifts a probe well above chance. To see what was learned, add the baselines"


@cache
def _names() -> Mapping[str, str]:
    own = {metric: name for task in task_names() for metric, name in find_task(task).names.items()}
    return {"auroc": "AUROC", "average-precision": "average precision", **own}


def two_ways(group: Group) -> bool:
    """Whether its metrics are of two directions, as those of retrieval are."""
    return any(metric.rpartition("/")[2] in WAYS for metric in group.figures)


def label(figure: str) -> str:
    """What a table calls a metric such as ``auroc/Edema``."""
    base, *parts = figure.split("/")
    named = _names().get(base, base.replace("recall@", "R@").replace("precision@", "P@"))
    if base == "froc" and parts:
        parts = [f"{parts[0]} false positives an image"]
    return " · ".join([named, *(WAYS.get(part, part) for part in parts)])


def headlines(group: Group) -> list[str]:
    """The figures of the first table: the main one, then those that it must be read beside."""
    main, *others = group.figures
    quoted = [figure for each in group.published for row in each.rows.values() for figure in row]
    chosen = [figure for figure in dict.fromkeys([*group.kind.beside, *quoted]) if figure in others]
    return [main, *sorted(chosen, key=lambda figure: figure.endswith("text-to-image"))]


def overview(groups: Sequence[Group], look: Styles) -> Html:
    """The main figure of every group, each method at its largest share."""
    rows = []
    for group in groups:
        main, share = group.figures[0], group.shares[-1]
        cells = _cells(group, main, share, list(look))
        link = element("a", group.title, href=f"#{anchor_of(group)}")
        small = element("small", f" {label(main)}{at_share(group, share)}")
        rows.append((join([link, small]), [_percent(group.chance(main)), *cells]))
    return table("Main figures, % with 95% intervals", _beside_chance(list(look), look), rows, corner="task and data")


def sources(groups: Sequence[Group]) -> Html:
    """What was measured on."""
    fields = ("source", "fingerprint", "split", "images", "patients")
    seen = {(group.data["name"], *(group.data.get(field, "") for field in fields)) for group in groups}
    rows = [
        (name, [source, str(fingerprint)[:8], split, f"{images:,}", f"{patients:,}"])
        for name, source, fingerprint, split, images, patients in sorted(seen)
    ]
    return table("Test data", dict.fromkeys(fields, ()), rows, corner="data set")


def main_table(group: Group, look: Styles) -> Html:
    """Methods against shares of the training patients, for each headline figure; below them the levels of chance."""
    chosen, shares = headlines(group), group.shares
    columns: dict[str, list[str]] = {}
    for figure in chosen:
        if two_ways(group):
            name, *parts = label(figure).split(" · ")
            columns.setdefault(parts[-1] if parts else name, []).extend([name] if parts else [])
        else:
            columns[label(figure)] = [f"{100 * share:g}%" for share in shares] if len(shares) > 1 else []
    cells = [_cells(group, figure, share, list(group.methods)) for figure in chosen for share in shares]
    rows: list[tuple[str, Sequence[str]]] = [
        (key(name, look[name]), row) for name, row in zip(group.methods, zip(*cells, strict=True), strict=True)
    ]
    for name, levels in _levels(group, chosen):
        rows.append((element("em", name), [element("em", level) for level in levels for _ in shares]))
    rows += _published(group, chosen)
    share = "" if len(shares) > 1 else at_share(group, shares[0])
    return table(f"Main figures, % with 95% intervals{share}", columns, rows, corner="method")


def all_figures(group: Group, look: Styles) -> Html:
    """Every figure, also those of single classes, folded; a table a share."""
    tables = []
    for share in reversed(group.shares):
        found = group.at(share)
        rows = [
            (label(figure), [_percent(group.chance(figure)), *_cells(group, figure, share, list(found))])
            for figure in group.figures
        ]
        caption = f"All figures{at_share(group, share)}"
        tables.append(table(caption, _beside_chance(list(found), look), rows, corner="figure, %"))
    others = [figure for figure in group.figures if figure not in headlines(group)]
    return details("All figures", *tables, *_told(group, others))


def notes(group: Group) -> list[Html]:
    """What a reader must know to read the tables of this group."""
    written = []
    if group.kind.about_chance:
        written.append(note(group.kind.about_chance))
    if missing := _missing_baselines(group):
        written.append(note(f"{LACKING} {' and '.join(missing)}: imitate evaluate --beside {' '.join(missing)}."))
    for each in group.published:
        told = f"{each.source}{f' ({each.note})' if each.note else ''}"
        written.append(note(f"Rows marked published were not measured here: they are quoted from {told}."))
    if group.mode == "paper":
        written.append(note(PAPER))
    return [*written, *_told(group, headlines(group))]


def runs(group: Group) -> Html:
    """Where the figures come from, folded: a row a results file."""
    columns = dict.fromkeys(["method", "patients used", "seeds", "mode", "seconds", "settings", "versions"], ())
    rows = []
    for name, shares in group.methods.items():
        for share, (path, results) in sorted(shares.items()):
            cells = [name, f"{100 * share:g}%", str(len(results.seeds)), results.mode, f"{results.seconds:,.0f}"]
            settings = "; ".join(f"{key} {_setting(value)}" for key, value in results.settings.items())
            versions = "; ".join(f"{package} {version}" for package, version in results.versions.items())
            rows.append((path.name, [*cells, settings, versions]))
    return details("Runs and settings", table("Runs and settings", columns, rows, corner="file", class_="runs"))


def key(name: str, style: Style) -> Html:
    """A method's name beside its mark in the figures."""
    mark = element("span", "●", class_="mark", style=f"color: {style.colour}", aria_hidden="true")
    return join([mark, f"\N{NO-BREAK SPACE}{name}"])


def trained(group: Group) -> bool:
    return group.kind.trains


def at_share(group: Group, share: float) -> str:
    """Nothing for a task that trains nothing."""
    return f" at {100 * share:g}% of the training patients" if trained(group) else ""


def anchor_of(group: Group) -> str:
    data = group.data
    return anchor(
        f"{group.title} {data['split']} {data['fingerprint']} {data['images']} {data['patients']} {group.mode}"
    )


def _beside_chance(names: Sequence[str], look: Styles) -> dict[str, Sequence[str]]:
    return dict.fromkeys(["chance", *(key(name, look[name]) for name in names)], ())


def _told(group: Group, figures: Sequence[str]) -> list[Html]:
    """The notes on these figures, each once, with the methods that it concerns if that isn't all of them."""
    told: dict[str, list[str]] = {}
    for figure in figures:
        for name, shares in group.methods.items():
            for share, (_, results) in shares.items():
                if figure in results.metrics and results.metrics[figure].note:
                    words = f"{label(figure)}: {results.metrics[figure].note}"
                    told.setdefault(words, []).append(f"{name}{at_share(group, share)}")
    every = len(group.entries)
    return [note(words if len(on) == every else f"{words} ({'; '.join(on)})") for words, on in told.items()]


def _cells(group: Group, figure: str, share: float, names: Sequence[str]) -> list[Html]:
    found = group.estimates(figure, share)
    best = _best(found, larger_is_better=group.kind.larger_is_better.get(figure, True))
    return [_cell(found.get(name), bold=name == best) for name in names]


def _best(found: dict[str, Estimate], *, larger_is_better: bool) -> str | None:
    """The best method, where its interval leaves out the value of the next; None where none is so clear."""
    sign = 1 if larger_is_better else -1
    ranked = sorted(((sign * each.value, name) for name, each in found.items() if each.value is not None), reverse=True)
    if len(ranked) < 2:
        return None
    (_, best), (runner_up, _) = ranked[:2]
    ends = [sign * end for end in (found[best].low, found[best].high) if end is not None]
    return best if ends and min(ends) > runner_up else None


def _levels(group: Group, figures: list[str]) -> list[tuple[str, list[str]]]:
    levels = {"chance": [group.chance(figure) for figure in figures]}
    for name, entry in group.at(group.shares[-1]).items():
        found = (entry.results.metrics.get(figure) for figure in figures)
        levels[f"{name}, images exchanged"] = [estimate.shuffled if estimate else None for estimate in found]
    return [
        (name, [_percent(level) for level in each])
        for name, each in levels.items()
        if any(level is not None for level in each)
    ]


def _missing_baselines(group: Group) -> list[str]:
    """The baselines that the table lacks."""
    seen = {name for entry in group.entries for name in entry.results.encoders}
    return [name for name in group.kind.baselines if name not in seen]


def _published(group: Group, figures: Sequence[str]) -> list[tuple[str, Sequence[str]]]:
    """Rows of what others printed, at the shares of the table."""
    rows: list[tuple[str, Sequence[str]]] = []
    for each in group.published:
        for method, quoted in each.rows.items():
            cells = []
            for figure in figures:
                values = dict(zip(each.shares, quoted.get(figure, ()), strict=False))
                found = (values.get(share) for share in group.shares)
                cells += [element("em", "–" if value is None else f"{value:.1f}") for value in found]
            rows.append((element("em", f"{method}, published", class_="published"), cells))
    return rows


def _cell(estimate: Estimate | None, *, bold: bool) -> Html:
    if estimate is None:
        return Html("–")
    if estimate.value is None:
        return Html("undefined")
    value = element("strong" if bold else "span", _percent(estimate.value))
    if estimate.low is None or estimate.high is None:
        return value
    return join([value, " ", element("small", f"{_percent(estimate.low)}–{_percent(estimate.high)}")])


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _setting(value: object) -> str:
    """Of a path its last part: where a file lies is nobody's business."""
    return str(value).replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
