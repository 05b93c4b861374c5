"""A prepared folder: complete, unchanged since it was written, and fit for use."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from imitate.data.corpus import Corpus
from imitate.data.folder import FORMAT
from imitate.doctor.checks import Census, Finding, State, examine_labels, examine_splits
from imitate.errors import UserError
from imitate.names import SECTIONS


def examine_prepared(path: Path) -> Iterator[Finding]:
    """Shapes, fingerprint, splits, labels, text."""
    try:
        data = Corpus.open(path)
    except UserError as error:
        yield Finding("broken", "folder", str(error))
        return
    size, mode = data.meta["size"], data.meta["mode"]
    yield Finding("ok", "folder", f"{len(data):,} images of {size} px from {data.meta['source']}, mode {mode}")
    for name, pixels in (("images", data.images), ("masks", data.masks)):
        if pixels is not None and (pixels.shape != (len(data), size, size) or pixels.dtype != np.uint8):
            found = " x ".join(map(str, pixels.shape))
            yield Finding("broken", name, f"{pixels.dtype} {found}, not uint8 {len(data)} x {size} x {size}")
    yield _compare_fingerprint(data)
    census = Census(
        splits=data.table["split"].tolist(),
        patients=data.table["patient"].tolist(),
        labels=data.labels if data.classes else np.empty((len(data), 0), np.float32),
        classes=data.classes,
        boxes=int(data.box_counts().sum()),
    )
    yield from examine_splits(census, overlap="broken" if mode == "clean" else "warn")
    yield from examine_labels(census)
    yield from _examine_text(data)


def _compare_fingerprint(data: Corpus) -> Finding:
    if data.meta["format"] == FORMAT:
        changed = damaged(data)
    else:
        from imitate.data.writing import fingerprint

        changed = [] if fingerprint(data.root) == data.fingerprint else ["images.npy or table.parquet"]
    if not changed:
        return Finding("ok", "fingerprint", "as written")
    return Finding(
        "broken",
        "fingerprint",
        f"{data.root} changed since it was written ({', '.join(changed[:5])}): prepare it again",
    )


def damaged(data: Corpus) -> list[str]:
    """Files of the shards that no longer have the digest which the index states."""
    found = []
    for shard in data.meta["shards"]:
        for name, digest in shard.get("sha256", {}).items():
            path = data.root / "shards" / Path(name).name
            if not path.is_file() or _digest(path) != digest:
                found.append(f"shards/{path.name}")
    return found


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _examine_text(data: Corpus) -> Iterator[Finding]:
    present = {section: data.has(section) for section in SECTIONS}
    if not any(rows.any() for rows in present.values()):
        return
    yield Finding("ok", "text", ", ".join(f"{rows.mean():.0%} have {section}" for section, rows in present.items()))
    encoders = [folder for folder in sorted((data.root / "text").glob("*")) if folder.is_dir()]
    if not encoders:
        yield Finding("ok", "embeddings", "none yet: the first pre-training computes them")
    for encoder in encoders:
        if not (encoder / "meta.json").is_file():  # written last
            yield Finding("ok", f"embeddings {encoder.name}", "unfinished: the next pre-training computes them again")
            continue
        faults = [fault for section, rows in present.items() if (fault := _fault(encoder / f"{section}.npy", rows))]
        state: State = "broken" if faults else "ok"
        told = f"{', '.join(faults)}: delete {encoder}" if faults else "fit the table"
        yield Finding(state, f"embeddings {encoder.name}", told)


def _fault(path: Path, present: np.ndarray) -> str | None:
    if not path.is_file():
        return f"no {path.name}"
    vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    if len(vectors) != len(present):
        return f"{len(vectors)} rows in {path.name}, not {len(present)}"
    if not np.isfinite(vectors).all():
        return f"{path.name} is not finite"
    if vectors[~present].any():
        return f"{path.name} has vectors where the section is missing"
    return None
