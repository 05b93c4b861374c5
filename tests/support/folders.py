"""Small prepared folders for tests, written straight from the description of format 2, several shards each."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from imitate.data.corpus import Corpus

SHARD = 16  # rows
STRINGS = ("image_id", "patient", "study", "split", "projection", "findings", "impression", "language")
BOX = pa.struct(
    [
        ("label", pa.string()),
        *((name, pa.float64()) for name in ("x", "y", "width", "height")),
        ("phrase", pa.string()),
        ("reader", pa.string()),
    ]
)
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in STRINGS),
        ("labels", pa.list_(pa.float32())),
        ("boxes", pa.list_(BOX)),
        ("annotated", pa.bool_()),
        ("sex", pa.string()),
        ("age", pa.float64()),
        ("scanner", pa.string()),
        ("extra", pa.map_(pa.string(), pa.string())),
        ("has_findings", pa.bool_()),
        ("has_impression", pa.bool_()),
    ]
)
REGIONS = pa.field(
    "regions", pa.list_(pa.struct([(name, pa.string()) for name in ("label", "phrase", "reader", "runs")]))
)
SETTINGS = ("source", "size", "resize", "percentiles", "mode", "classes", "options", "inputs", "projections")
ABSENT: dict[str, Any] = {"projection": "PA", "findings": None, "impression": None, "language": "en", "labels": None, "boxes": [],
          "annotated": None, "sex": "", "age": None, "scanner": "", "extra": {}}  # fmt: skip

WORDS = [
    "heart",
    "size",
    "normal",
    "lungs",
    "clear",
    "effusion",
    "left",
    "right",
    "small",
    "large",
    "opacity",
    "lobe",
    "upper",
    "lower",
    "edema",
    "mild",
]


def write_shards(
    root: Path, table: pd.DataFrame, images: np.ndarray, *, masks: np.ndarray | None = None, **meta: object
) -> Path:
    """A prepared folder of these rows; what ``table`` lacks is unknown. ``meta`` goes into index.json."""
    (root / "shards").mkdir(parents=True)
    rows = [_row(row) for row in table.to_dict("records")]
    shards = []
    for start in range(0, len(rows), SHARD):
        name, part = f"{start // SHARD:05d}", slice(start, start + SHARD)
        base = root / "shards" / name
        np.save(base.with_suffix(".npy"), images[part])
        if masks is not None:
            np.save(base.with_suffix(".masks.npy"), masks[part])
        schema = SCHEMA.append(REGIONS) if "regions" in table else SCHEMA
        pq.write_table(pa.Table.from_pylist(rows[part], schema), base.with_suffix(".parquet"))
        files = sorted((root / "shards").glob(f"{name}.*"))
        digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
        size = sum(path.stat().st_size for path in files)
        shards.append({"name": name, "rows": len(rows[part]), "sha256": digests, "bytes": size})
    splits = table["split"].value_counts().to_dict() if "split" in table else {}
    index: dict = {
        "format": 2,
        "settings": {"source": "test", "size": images.shape[-1], "resize": "stretch", "mode": "clean", "classes": []},
        "traits": {"masks": masks is not None, "projections": None},
        "tone": "unknown",
        "shards": shards,
        "images": len(rows),
        "patients": int(table["patient"].nunique()),
        "splits": splits,
        "fingerprint": f"test-{len(rows)}-{images.shape[-1]}",
    }
    (root / "index.json").write_text(json.dumps(_changed(index, meta)))
    return root


def edit_index(root: Path, **meta: object) -> None:
    """Other values in index.json, of the settings too."""
    path = root / "index.json"
    path.write_text(json.dumps(_changed(json.loads(path.read_text()), meta)))


def edit_rows(root: Path, **columns: Sequence) -> None:
    """Other values in these columns of a folder."""
    paths = sorted(path for path in (root / "shards").glob("*.parquet") if "excluded" not in path.name)
    rows = [row for path in paths for row in pq.read_table(path).to_pylist()]
    changed = [
        _row({**row, **dict(zip(columns, values, strict=True))})
        for row, *values in zip(rows, *columns.values(), strict=True)
    ]
    for start, path in zip(range(0, len(rows), SHARD), paths, strict=True):
        pq.write_table(pa.Table.from_pylist(changed[start : start + SHARD], SCHEMA), path)


def _changed(index: dict, meta: Mapping[str, object]) -> dict:
    settings = {key: value for key, value in meta.items() if key in SETTINGS}
    others = {key: value for key, value in meta.items() if key not in SETTINGS}
    traits = {**index["traits"], **others.pop("traits", {})}  # type: ignore[dict-item]
    return {**index, **others, "traits": traits, "settings": {**index["settings"], **settings}}


def _row(row: Mapping) -> dict:
    """Of pandas' values Arrow's."""
    whole = {**ABSENT, **row}
    for section in ("findings", "impression"):
        whole[section] = whole[section] if isinstance(whole[section], str) else None
        whole[f"has_{section}"] = whole[section] is not None
    names = [*SCHEMA.names, *(["regions"] if "regions" in row else [])]
    return {name: list(dict(whole[name]).items()) if name == "extra" else whole[name] for name in names}


def in_memory(data: Corpus) -> Corpus:
    """The corpus with everything in memory, for tests that change it."""
    table = data.table.drop(columns=["has_findings", "has_impression"]).assign(**data.reports())
    table["boxes"] = pd.Series([[box._asdict() for box in data.boxes(row)] for row in range(len(data))], dtype=object)
    if data.classes:
        table["labels"] = list(data.labels)
    masks = None if data.masks is None else data.masks[:]
    return replace(data, table=table, images=data.images[:], masks=masks, columns=None, parts=())


def write_folder(root: Path, *, n: int = 40, size: int = 36, seed: int = 0, **meta: object) -> Path:
    """Two classes, a bright left or right half; reports that say so; a few sections missing."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, (n, 2))
    images = generator.integers(20, 90, (n, size, size))
    images[:, :, : size // 2] += 120 * labels[:, :1, None]
    images[:, :, size // 2 :] += 120 * labels[:, 1:, None]

    def words() -> str:
        return " ".join(generator.choice(WORDS, 6))

    sides = [" ".join(name for name, on in zip(("left", "right"), row, strict=True) if on) or "clear" for row in labels]
    table = pd.DataFrame(
        {
            "image_id": [f"image{i:04d}" for i in range(n)],
            "patient": [f"patient{i // 2:04d}" for i in range(n)],
            "study": [f"study{i:04d}" for i in range(n)],
            "split": [("train", "train", "train", "val", "test")[i // 2 % 5] for i in range(n)],
            "projection": "PA",
            "findings": [None if i % 9 == 4 else f"{side} {words()}" for i, side in enumerate(sides)],
            "impression": [None if i % 11 == 5 else f"{side} effusion" for i, side in enumerate(sides)],
            "labels": [row.astype(np.float32).tolist() for row in labels],
        }
    )
    described: dict[str, Any] = {"classes": ["Left", "Right"], "fingerprint": f"test-{n}-{size}-{seed}", **meta}
    return write_shards(root, table, images.clip(0, 255).astype(np.uint8), **described)
