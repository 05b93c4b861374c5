"""Results as Markdown tables, for a README, a paper's draft or a merge request."""

from collections.abc import Sequence

from imitate.report.groups import Entry, Group
from imitate.report.tables import headlines, label
from imitate.tasks.base import Estimate


def markdown(groups: Sequence[Group]) -> str:
    """A section a group: figures as rows, chance and the methods as columns, in percent with 95% intervals."""
    return "\n".join(_section(group) for group in groups)


def _section(group: Group) -> str:
    data, methods = group.data, list(group.methods)
    columns = [(name, share) for share in group.shares for name in methods if share in group.methods[name]]
    heads = [name if share == 1 else f"{name}, {100 * share:g}%" for name, share in columns]
    lines = [
        f"### {group.title}",
        "",
        f"{data['images']:,} images of {data['patients']:,} patients, split {data['split']}; in percent, with 95% "
        f"intervals over seeds and patients; {_seeds(group)}.",
        "",
        _row(["", "chance", *heads]),
        _row(["---", *["---:"] * (1 + len(heads))]),
    ]
    for figure in _figures(group):
        cells = [group.estimates(figure, share).get(name) for name, share in columns]
        level = group.chance(figure)
        lines.append(_row([label(figure), "" if level is None else f"{100 * level:.1f}", *map(_cell, cells)]))
    return "\n".join([*lines, ""])


def _figures(group: Group) -> list[str]:
    """The headlines, what belongs beside them, and the classes of the main figure that are defined."""
    chosen = headlines(group)
    for figure in group.figures:
        base, *rest = figure.split("/")
        beside = base in group.kind.also and rest[:1] == ["both"]
        defined = any(entry.results.metrics[figure].value is not None for entry in _having(group, figure))
        if (beside or base == group.figures[0]) and rest and defined and figure not in chosen:
            chosen.append(figure)
    return chosen


def _having(group: Group, figure: str) -> list[Entry]:
    return [entry for entry in group.entries if figure in entry.results.metrics]


def _seeds(group: Group) -> str:
    counts = sorted({len(entry.results.seeds) for entry in group.entries})
    return f"{' or '.join(map(str, counts))} seed{'' if counts == [1] else 's'}"


def _cell(estimate: Estimate | None) -> str:
    if estimate is None or estimate.value is None:
        return "–"
    if estimate.low is None or estimate.high is None:
        return f"{100 * estimate.value:.1f}"
    return f"{100 * estimate.value:.1f} ({100 * estimate.low:.1f}–{100 * estimate.high:.1f})"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '∣') for cell in cells)} |"
