"""Tables of how well heat-maps point, for docs/heatmaps.md."""

import tables
from imitate.tasks.results import read_results
from layout import Folder
from study import ROOT, Cell
from tables import Line

SYNTHETIC = ("CLIP", "IMITATE", "pooled all levels report", "spatial all levels report",
          "spatial all levels report, texts with places", "untrained")  # fmt: skip
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


def of_synthetic(study: Folder) -> str:
    return tables.metrics(study, SYNTHETIC, MAPS, chance=True)


def of_open_i(study: Folder) -> str:
    return tables.metrics(study, OF_OPEN_I, MAPS, chance=True)


def attention(study: Folder) -> str:
    """Maps of the attention weights themselves, of the methods that have some."""
    return tables.metrics(study, OF_OPEN_I[3:5], ATTENTION, chance=True)


def of_sentences() -> str:
    """Maps of the sentences of reports, which are in no study."""
    folder = ROOT / "docs/results/grounding"
    files = {"CLIP": "synthetic-clip.json", "untrained": "synthetic-untrained.json"}
    found = {Cell(name, "grounding", 1.0): read_results(folder / file) for name, file in files.items()}
    return tables.metrics(Folder({}, found), [cell.method for cell in found], MAPS, chance=True)
