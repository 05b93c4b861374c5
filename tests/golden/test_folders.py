"""Corpus folders hold what those of the first edition held: ``folders.json`` has their digests, of 200 images each."""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest

from imitate.commands.prepare import prepare
from imitate.commands.synthesize import synthesize
from imitate.data.corpus import Corpus
from imitate.synthetic.layouts import LAYOUTS

KEPT = json.loads(Path(__file__).with_name("folders.json").read_text())
GOLDEN = KEPT["folders"]
N, SEED = 200, 3
TEXTS = ("image_id", "patient", "study", "split", "findings", "impression")


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory):
    """The synthetic archive of a source; made once."""
    folder = tmp_path_factory.mktemp("raw")

    def make(source: str) -> Path:
        if not (folder / source).exists():
            synthesize(source, out=folder / source, n=N, seed=SEED)
        return folder / source

    return make


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name.endswith("64 squash clean") else pytest.mark.stress)
        for name in sorted(GOLDEN)
    ],
)
def test_a_folder_is_that_of_the_first_edition(name: str, raw, tmp_path: Path) -> None:
    source, size, fit, mode = name.split()
    resize = {"squash": "stretch", "pad": "letterbox"}[fit]
    options = {"raw": raw(source)} if source in LAYOUTS else {"n": N, "seed": SEED}
    options |= {"mode": "paper"} if mode == "paper" else {}
    prepare(source, out=tmp_path / "out", size=int(size), resize=resize, workers=1, **options)
    found = digests(Corpus.open(tmp_path / "out"))
    if found["pixels"] == KEPT["pixels without AVX-512"].get(name):  # numpy's float32 functions of the generator differ
        found["pixels"] = GOLDEN[name]["pixels"]
    assert found == GOLDEN[name]


def digests(data: Corpus) -> dict[str, object]:
    """Of what is selected by default."""
    rows = np.arange(len(data))
    found: dict[str, object] = {"images": len(data), "pixels": digest(data.images[rows])}
    table = data.table.assign(**data.reports())
    if data.masks is not None:
        found["masks"] = digest(data.masks[rows])
    for column in TEXTS:
        found[column] = digest([None if text is None or text != text else str(text) for text in table[column]])
    labels = [[number(value) for value in row] for row in data.labels.tolist()] if data.classes else []
    found["labels"] = digest([data.classes, labels])
    found["boxes"] = digest([[box(each._asdict()) for each in data.boxes(row)] for row in range(len(data))])
    return found


def digest(content: object) -> str:
    data = np.ascontiguousarray(content).tobytes() if isinstance(content, np.ndarray) else json.dumps(content).encode()
    return hashlib.sha256(data).hexdigest()


def number(value: float) -> str:
    return "nan" if math.isnan(value) else repr(float(value))


def box(each: dict[str, object]) -> list[str]:
    return [str(each["label"]), *(repr(float(each[side])) for side in ("x", "y", "width", "height"))]
