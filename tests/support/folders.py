"""Small prepared folders for tests, written straight from the format's description."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

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


def write_folder(root: Path, *, n: int = 40, size: int = 36, seed: int = 0, **meta: object) -> Path:
    """Two classes told by a bright left or right half; reports that say so; a few sections missing."""
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
            "view": "PA",
            "findings": [None if i % 9 == 4 else f"{side} {words()}" for i, side in enumerate(sides)],
            "impression": [None if i % 11 == 5 else f"{side} effusion" for i, side in enumerate(sides)],
            "labels": [row.astype(np.float32).tolist() for row in labels],
            "boxes": [[] for _ in range(n)],
        }
    )
    root.mkdir(parents=True)
    np.save(root / "images.npy", images.clip(0, 255).astype(np.uint8))
    table.to_parquet(root / "table.parquet")
    described = {"format_version": 1, "source": "test", "size": size, "fit": "squash", "classes": ["Left", "Right"]}
    described |= {"images": n, "patients": (n + 1) // 2, "fingerprint": f"test-{n}-{size}-{seed}", **meta}
    (root / "meta.json").write_text(json.dumps(described))
    return root
