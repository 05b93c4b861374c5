"""The loss curve of recipes/tiny.yaml on a fixed folder, one compute thread, and the one that is kept.

``python tests/support/curve.py`` keeps a new one: for a change that is meant to change numbers, and for no other.
"""

import json
import platform
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from folders import write_folder

from imitate.config import Recipe, load_config

KEPT = Path(__file__).with_name("tiny_curve.json")
RECIPE = Path(__file__).parents[2] / "recipes" / "tiny.yaml"
IMAGES, EPOCHS = 240, 5  # two steps an epoch


def kind_of_machine() -> dict[str, str]:
    """What decides the rounding: two machines of one kind give the same bits."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.is_file() else []
    found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    model = [found.get(key, "") for key in ("vendor_id", "cpu family", "model", "stepping")]
    kernels = torch.backends.cpu.get_cpu_capability()
    return {"torch": torch.__version__, "cpu": " ".join([platform.machine(), *model, kernels])}


def tiny_curve(folder: Path) -> list[dict[str, float]]:
    """Every step's terms, through the verb ``pretrain`` itself."""
    from imitate.commands.pretrain import pretrain

    data = write_folder(folder / "data", n=IMAGES, size=load_config(Recipe, RECIPE).model.prepared_size)
    settings = (f"training.epochs={EPOCHS}", "training.log_every=1", "training.devices=1")
    pretrain(RECIPE, data=(data,), out=folder / "run", settings=settings, threads=1)
    rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    return [{name: row[name] for name in row if name != "gradient_norm"} for row in rows if "loss" in row]


def kept() -> dict[str, Any]:
    return json.loads(KEPT.read_text(encoding="utf-8"))


if __name__ == "__main__":
    with TemporaryDirectory() as scratch:
        curve = tiny_curve(Path(scratch))
    lines = ",\n  ".join(json.dumps(row) for row in curve)
    KEPT.write_text(f'{{"machine": {json.dumps(kind_of_machine())},\n "curve": [\n  {lines}]}}\n', encoding="utf-8")
