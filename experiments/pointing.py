"""Tables of how well heat-maps point, for docs/heatmaps.md."""

import json
from collections.abc import Iterable, Mapping

import tables
from imitate.report.markdown import markdown_table, percent
from imitate.tasks.base import Estimate
from imitate.tasks.results import read_results
from layout import Folder
from study import ROOT, Cell
from tables import Line

RESULTS = ROOT / "docs/results"
SYNTHETIC = ("CLIP", "IMITATE", "pooled all levels report", "spatial all levels report",
          "spatial all levels report, texts with places", "untrained")  # fmt: skip
SENTENCES = ("CLIP", "IMITATE", "pooled all levels sections", *SYNTHETIC[3:])
CONTROLS = ("centre", "usual place", "another text", "another image")
OF_OPEN_I = ("CLIP", "IMITATE", "selected", "spatial", "spatial, texts with places", "untrained")
MAPS = [
    Line("pointing game", "grounding", "pointing"),
    *(Line(f"pointing game, gain over · {each}", "grounding", f"pointing-gain/{each}") for each in CONTROLS),
    Line("AUROC of pixels", "grounding", "pixel-auroc"),
    *(Line(f"AUROC of pixels, gain over · {each}", "grounding", f"pixel-auroc-gain/{each}") for each in CONTROLS),
    Line("mIoU", "grounding", "miou"),
    Line("pointing game · centre", "grounding", "pointing/centre"),
    Line("pointing game · usual place", "grounding", "pointing/usual place"),
]
ATTENTION = [line._replace(task="attention") for line in MAPS[: len(MAPS) - 2]]
BRANCHES = ("both", "findings", "impression")
SHORT = {
    "pointing game": "pointing",
    "pointing, gain over centre": "pointing-gain/centre",
    "pointing, gain over another text": "pointing-gain/another text",
    "AUROC of pixels": "pixel-auroc",
    "AUROC, gain over centre": "pixel-auroc-gain/centre",
    "AUROC, gain over another text": "pixel-auroc-gain/another text",
    "AUROC, gain over another image": "pixel-auroc-gain/another image",
}
HALF_WIDTH = {  # docs/results/grounding/open-i-NAME-BRANCH.json
    "published objective": "published",
    "pooled levels": "pooled",
    "pooled levels, 16 epochs": "pooled-16-epochs",
    "CLIP": "clip",
}
EARLIER = {  # docs/results/tried/pointing_NAME.json
    "pointing game": "pointing",
    "AUROC of pixels": "auroc",
    "AUROC, gain over another text": "auroc over another text",
    "AUROC, gain over another image": "auroc over another image",
}
EARLIER_MAPS = {
    "centre": "image centre/",
    "usual place": "boxes of other images/",
    "IMITATE, findings": "HiResCAM C3+C4/findings",
    "IMITATE, impression": "HiResCAM C3+C4/impression",
    "untrained, findings": "untrained HiResCAM C3+C4/findings",
    "untrained, impression": "untrained HiResCAM C3+C4/impression",
}
Metrics = Mapping[str, Estimate]


def of_synthetic(study: Folder) -> str:
    return tables.metrics(study, SYNTHETIC, MAPS, chance=True)


def of_open_i(study: Folder) -> str:
    return tables.metrics(study, OF_OPEN_I, MAPS, chance=True)


def of_branches(study: Folder) -> str:
    """The maps of each branch, and the attention weights themselves, below the maps that know no image."""
    lines: list[list[str]] = []
    for method in OF_OPEN_I:
        for task, words in (("grounding", method), ("attention", f"{method}, attention weights")):
            found = {branch: study.results.get(Cell(method, _task(task, branch))) for branch in BRANCHES}
            lines += _by_branch(words, {branch: each.metrics for branch, each in found.items() if each})
    any_map = study.results[Cell(study.about["reference"], "grounding")].metrics
    return _table([*_controls(any_map), *lines])


def of_half_width() -> str:
    """Of runs of benchmarks/quality.py, which are in no study."""
    lines: list[list[str]] = []
    for method, name in HALF_WIDTH.items():
        files = {branch: RESULTS / f"grounding/open-i-{name}-{branch}.json" for branch in BRANCHES}
        lines += _by_branch(
            method, {branch: read_results(file).metrics for branch, file in files.items() if file.is_file()}
        )
    return _table(lines)


def earlier() -> str:
    """What was measured before grounding was a task, by definitions of its own."""
    lines = []
    for images, name in {"ChestX-ray14": "chestxray14", "synthetic": "synthetic"}.items():
        figures = json.loads((RESULTS / f"tried/pointing_{name}.json").read_text(encoding="utf-8"))["figures"]
        found = {each: Estimate(**values) for each, values in figures.items()}
        for words, row in EARLIER_MAPS.items():
            cells = [found.get(f"{row}/{metric}") for metric in EARLIER.values()]
            lines.append([images, words, *("" if each is None else percent(each) for each in cells)])
    return markdown_table(["images", "map", *EARLIER], lines, left=2)


def of_sentences(study: Folder) -> str:
    return tables.metrics(study, SENTENCES, MAPS, chance=True)


def of_sentences_by_attention(study: Folder) -> str:
    """The attention weights themselves, as maps; they do not depend on the sentence."""
    return tables.metrics(study, SENTENCES[3:5], ATTENTION, chance=True)


def _task(name: str, branch: str) -> str:
    return name if branch == "both" else f"{name}-{branch}"


def _by_branch(method: str, found: Mapping[str, Metrics]) -> Iterable[list[str]]:
    """A line a branch; where only one map was measured, there are no branches that differ in it."""
    for branch, metrics in found.items():
        yield [method, branch if len(found) > 1 else "", *(percent(metrics.get(metric)) for metric in SHORT.values())]


def _controls(metrics: Metrics) -> Iterable[list[str]]:
    levels = {metric: Estimate(value=metrics[metric].chance) for metric in ("pointing", "pixel-auroc")}
    yield ["constant map", "", *(percent(levels[each]) if each in levels else "" for each in SHORT.values())]
    for what in ("centre", "usual place"):
        names = {metric: f"{metric}/{what}" for metric in levels}
        yield [what, "", *(percent(metrics[names[each]]) if each in names else "" for each in SHORT.values())]


def _table(lines: Iterable[list[str]]) -> str:
    return markdown_table(["map", "branch", *SHORT], list(lines), left=2)
