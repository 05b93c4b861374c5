"""The lines of tables of results: what each is called, and which metric it is."""

from layout import Folder
from tables import Line


def auroc(study: Folder, task: str) -> list[Line]:
    """The macro average, and each class that is in it: those with enough positive test images."""
    least = study.about["tasks"][task]["settings"]["macro_least"]
    counts = {name: count for name, count in study.about["positives"][task].items() if count >= least}
    single = [Line(f"{name} ({count} images)", task, f"auroc/{name}") for name, count in counts.items()]
    return [Line("macro average over these", task), *single]


def recalls() -> list[Line]:
    ways = {"image-to-text": "image → text", "text-to-image": "text → image"}
    found = []
    for way, words in ways.items():
        kinds = {f"R@{k}": f"recall@{k}" for k in ((1, 5, 10) if way == "image-to-text" else (10,))}
        kinds |= {"percentile rank": "percentile", "class P@5": "precision@5"}
        lines = [Line(text, "retrieval", f"{metric}/both/{way}") for text, metric in kinds.items()]
        found += [lines[0]._replace(text=f"{lines[0].text}, {words}"), *lines[1:]]
    return found


def fractions(text: str, task: str) -> list[Line]:
    return [Line(f"{text}, {100 * fraction:g}% of the patients", task, fraction=fraction) for fraction in (1.0, 0.1)]


README = [
    Line("Open-i: retrieval, mean recall", "retrieval"),
    Line("Open-i: zero-shot, AUROC", "zero-shot"),
]
MAIN = [Line("retrieval, mean recall", "retrieval"), Line("zero-shot, AUROC", "zero-shot")]
SYNTHETIC = [
    *MAIN,
    *fractions("linear probe, AUROC", "probe"),
]
SMALL = [
    Line("zero-shot, AUROC", "zero-shot"),
    Line("linear probe, AUROC", "probe"),
    Line("linear probe, 10% of the patients", "probe", fraction=0.1),
]
MIXTURE = [
    Line(f"{title}, tested on {place}", f"{task}-{place}")
    for place in ("north", "south")
    for task, title in (("retrieval", "retrieval, mean recall"), ("zero-shot", "zero-shot, AUROC"))
]
CONFIRMED = {
    "retrieval": "retrieval, mean recall",
    "zero-shot": "zero-shot, AUROC",
    "zero-shot-chestxray14": "zero-shot on ChestX-ray14, AUROC",
    "probe": "linear probe, AUROC (not tested)",
    "retrieval-val": "validation split: retrieval, mean recall (not tested)",
    "zero-shot-val": "validation split: zero-shot, AUROC (not tested)",
}
SUPERVISED = [Line("Open-i", "supervised-open-i"), Line("ChestX-ray14 sample", "supervised-chestxray14")]
