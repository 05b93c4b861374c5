"""A raw archive of small PNG files and its records, made by hand: some of everything that a source may yield."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from imitate.data.annotations import Box, RunLengths
from imitate.data.records import Excluded, Record
from imitate.data.shards import Settings
from imitate.data.writer import Archive

N = 150
SETTINGS = Settings(source="table", size=24, classes=("Edema", "Fracture"), options={"raw": "/archive"})


def make_archive(folder: Path) -> Archive:
    """Every tenth image is black, one is cut short."""
    for i in range(N):
        gray = np.random.default_rng(i).integers(1, 255, (40, 32)).astype(np.uint8)
        Image.fromarray(gray * (i % 10 != 3)).save(folder / f"{i}.png")
    (folder / "5.png").write_bytes((folder / "5.png").read_bytes()[:300])
    return archive_of(folder)


def archive_of(folder: Path) -> Archive:
    return Archive(folder, traits={"masks": True}, inputs={"table.csv": "one"})


def archive_records(folder: Path) -> Iterator[Record | Excluded]:
    """Some masks, boxes, labels and texts; black, broken and absent files; a repeated id."""
    for i in range(N + 3):
        if i % 20 == 11:
            yield Excluded(f"row {i}", "no split")
            continue
        boxes = (Box("Edema", 4, 4, 8, 8, phrase="left", reader="R"), Box("Edema", 99, 99, 1, 1))[: i % 3]
        runs = (RunLengths("Edema", f"{40 * (i % 20)} 240", (32, 40)),) if i > 40 and i % 2 else ()
        yield Record(
            image_id="7" if i == 77 else str(i),
            image=folder / f"{i}.png",
            patient=f"p{i // 3}",
            study=f"s{i}",
            split=("train", "val", "test")[i % 3],
            projection="PA",
            findings=f"Ombre à gauche, {i}." if i % 4 else None,
            impression="" if i % 5 == 0 else f"Stable {i}.",
            language="fr",
            labels={"Edema": float(i % 2)} if i % 3 else None,
            annotations=(*boxes, *runs),
            annotated=bool(i % 2),
            sex="F" if i % 2 else "",
            age=40.5 + i,
            extra={"site": str(i % 4)},
        )


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
