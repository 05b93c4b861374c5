"""The main metrics of version 0.1.0 beside today's."""

import json

import tables
from imitate.report.markdown import markdown_table
from layout import Folder, Json
from study import ROOT, Cell

BEFORE = ROOT / "docs/results/version_0.1.0.json"  # main metrics of its studies, from the trees of its commit
WHY = {  # of what stands beside 0.1.0's value: what is measured in another way since
    "retrieval": "the gallery has another size",
    "zero-shot": "only classes that the text encoder can express",
    "probe": "a weight decay for each class",
    "probe-open-i": "a weight decay for each class",
    "probe-chestxray14": "AUROC within folds; a weight decay for each class",
    "supervised-open-i": "12 epochs, not 20; blocks have learning rates of their own; biases and norms do not decay",
    "supervised-chestxray14": "blocks have learning rates of their own; biases and norms do not decay",
    "fine-tuned": "blocks have learning rates of their own; biases and norms do not decay; fewer steps",
    "segmentation": "pixels of the stored masks; biases and norms do not decay; fewer steps",
    "detection": "patience from the first hit; ties by the loss; biases and norms do not decay; fewer steps",
}


def table(study: Folder, name: str) -> str:
    """A line for each main metric of version 0.1.0: its value and today's, of each method, and why they differ."""
    before = [row for row in json.loads(BEFORE.read_text(encoding="utf-8"))["rows"] if row["study"] == name]
    methods = list(dict.fromkeys(row["method"] for row in before))
    lines = []
    for task, fraction in dict.fromkeys((row["task"], row["fraction"]) for row in before):
        old = {row["method"]: row for row in before if (row["task"], row["fraction"]) == (task, fraction)}
        cells = [_changed(study, old.get(method)) for method in methods]
        measured = any((cell.task, cell.fraction) == (task, fraction) for cell in study.cells)
        title = (
            tables.title(study, task, fraction)
            if measured
            else f"{task}{'' if fraction == 1 else f' at {100 * fraction:g}%'}"
        )
        lines.append([title, *cells, WHY[task] if measured else "no longer in the study"])
    return markdown_table(["0.1.0 → now", *methods, "what changed"], lines)


def _changed(study: Folder, old: Json | None) -> str:
    if old is None:
        return ""
    now = study.estimate(Cell(old["method"], old["task"], old["fraction"]), old["metric"])
    after = "–" if now is None or now.value is None or tables.older(study) else f"{100 * now.value:.1f}"
    return f"{100 * old['value']:.1f} → {after}"
