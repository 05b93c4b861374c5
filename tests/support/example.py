"""The programs of examples/, as modules, and what they are run on."""

from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "examples"


def program(name: str) -> Any:
    spec = spec_from_file_location(Path(name).stem, EXAMPLES / name)
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_labelled(folder: Path, count: int, *, path_column: str, side: int = 40) -> pd.DataFrame:
    """Two images a patient. Classes are textures, which even random networks distinguish: an effusion is loud, a large heart
    coarse. One label is blank."""
    folder.mkdir(parents=True)
    random, rows = np.random.default_rng(0), []
    for number in range(count):
        effusion, heart = number % 2, (number // 2) % 2
        grain = 8 if heart else 1
        noise = random.integers(0, 120 if effusion else 15, (side // grain, side // grain), np.uint8)
        pixels = 60 + noise.repeat(grain, axis=0).repeat(grain, axis=1)
        pixels[0, :2] = 1, 255
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")
        labels = {"Effusion": effusion, "Cardiomegaly": heart}
        rows.append({path_column: f"{number:03d}.png", "patient": f"p{number // 2}", **labels})
    table = pd.DataFrame(rows)
    table["Effusion"] = table["Effusion"].astype(object)
    table.loc[3, "Effusion"] = ""
    table.to_csv(folder / "table.csv", index=False)
    return table


class Listed(torch.utils.data.Dataset[torch.Tensor]):
    """Here, so that workers that are new interpreters can import it."""

    def __init__(self, paths: list[Path], transform: Callable[[Path], torch.Tensor]) -> None:
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.transform(self.paths[index])
