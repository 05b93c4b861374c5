"""index.json, written last: what a prepared folder holds, shard by shard."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from imitate.config.digests import sha256
from imitate.data.changes import Seen
from imitate.data.demographics import Values, counted
from imitate.data.files import remove_parts, replacing
from imitate.data.manifest import Manifests
from imitate.data.shards import FOLDER, shard_path
from imitate.data.tone import measured_tone
from imitate.errors import UserError

INDEX, FORMAT = "index.json", 2
VALUES = ("sex", "age", "scanner", "extra")
LIBRARIES = ("pillow", "pydicom", "numpy", "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg")


def versions() -> dict[str, str]:
    """Of what decides the pixels."""
    found = {}
    for name, package in (("imitate", "imitate-cxr"), *zip(LIBRARIES, LIBRARIES, strict=True)):
        try:
            found[name] = version(package)
        except PackageNotFoundError:  # imitate's own source tree that was never installed
            found[name] = "unknown"
    return found


def read_index(folder: Path) -> dict[str, Any] | None:
    """None where the folder is incomplete."""
    path = folder / INDEX
    if not path.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found["parts"], found["settings"]["inputs"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}): delete it and run the same command again") from error
    return found


def write_index(folder: Path, *, inputs: dict[str, str]) -> dict[str, Any]:
    """For a folder whose shards are all complete; ``inputs`` are the digests of the source's tables now."""
    with Manifests.of(folder) as manifests:
        index = _build(folder, manifests, inputs)
    if not index["images"]:
        for path in (*folder.glob("manifest*.parquet"), *(folder / FOLDER).iterdir()):
            path.unlink()
        (folder / FOLDER).rmdir()
        raise no_image(index["settings"]["source"], index["excluded"])
    for each in (folder, folder / FOLDER):
        remove_parts(each)
    with replacing(folder / INDEX) as part:
        part.write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    return index


def no_image(source: str, reasons: dict[str, int]) -> UserError:
    found = "; ".join(f"{count} x {reason}" for reason, count in Counter(reasons).most_common())
    return UserError(f"no usable image in {source} ({found or 'it lists no record'}): correct these problems")


def fingerprint(settings: dict[str, Any], shards: list[dict[str, Any]]) -> str:
    """SHA-256 of what a reader of the folder sees; the lists of excluded records name places, which do not matter."""
    chosen = {name: settings[name] for name in ("size", "resize", "classes")}
    files = [[digest for name, digest in sorted(each["sha256"].items()) if ".excluded." not in name] for each in shards]
    return hashlib.sha256(json.dumps([FORMAT, chosen, files], sort_keys=True).encode()).hexdigest()


def _build(folder: Path, manifests: Manifests, inputs: dict[str, str]) -> dict[str, Any]:
    described = manifests.described[-1]
    excluded, boxes, notes, patients, homes = Counter[str](), Counter[str](), Counter[str](), Seen(), Homes()
    values, headers = Values(), Counter[str]()
    for written in manifests.written:
        excluded.update(written.excluded)
    shards = []
    for shard in range(manifests.shards):
        path = shard_path(folder, shard)
        with pq.ParquetFile(path) as file:
            about = json.loads(file.metadata.metadata[b"imitate"])
            columns = file.read(columns=["split", "patient", "pixels", *VALUES]).to_pydict()
        homes.add(columns["pixels"], columns["split"])
        patients.add(columns["patient"])
        values.add(columns)
        headers.update(about.get("originals", {}))
        boxes.update(about["boxes_excluded"])
        notes.update(about["notes"])
        digests = {**about["sha256"], path.name: sha256(path)}
        listed = shard_path(folder, shard, ".excluded.parquet")
        if listed.is_file():
            excluded.update(pq.read_table(listed, columns=["reason"])["reason"].to_pylist())
            digests[listed.name] = sha256(listed)
        size = sum((folder / FOLDER / name).stat().st_size for name in digests)
        shards.append({"name": path.stem, "rows": len(columns["split"]), "sha256": digests, "bytes": size})
    settings = {**described["settings"], "inputs": inputs}
    images, originals = sum(each["rows"] for each in shards), manifests.written[-1].originals or {}
    parts = [
        {"manifest": path.name, "sha256": written.sha256, "records": written.records}
        | {"excluded": sum(written.excluded.values()), "versions": of_part["versions"]}
        for path, written, of_part in zip(manifests.paths, manifests.written, manifests.described, strict=True)
    ]
    return {
        "format": FORMAT,
        "settings": settings,
        "traits": described["traits"],
        "tone": _tone(folder, settings, described["traits"], shards),
        "versions": described["versions"],
        "parts": parts,
        "shards": shards,
        "images": images,
        "patients": len(patients),
        "splits": _sorted(homes.splits),
        "excluded": _sorted(excluded),
        "boxes_excluded": _sorted(boxes),
        "notes": _sorted(notes),
        "demographics": values.as_dict(images),
        "originals": {"tables": counted(originals), "headers": counted(headers)},
        "shared": homes.shared(),
        "fingerprint": fingerprint(settings, shards),
    }


def _tone(folder: Path, settings: dict[str, Any], traits: dict[str, Any], shards: list[dict[str, Any]]) -> str:
    """As it was made; as the source says; else as some of the images have it."""
    if settings.get("equalized"):
        return "equalized"
    if (tone := traits.get("tone", "unknown")) != "unknown":
        return str(tone)
    return measured_tone([(folder / FOLDER / f"{each['name']}.npy", each["rows"]) for each in shards], settings["size"])


class Homes:
    """In which splits each image is, by its pixels; about 20 bytes an image."""

    def __init__(self) -> None:
        self.splits = Counter[str]()
        self._names: list[str] = []
        self._pixels: list[np.ndarray] = []
        self._codes: list[np.ndarray] = []

    def add(self, pixels: Sequence[bytes], splits: Sequence[str]) -> None:
        self.splits.update(splits)
        self._names += [name for name in dict.fromkeys(splits) if name not in self._names]
        self._pixels.append(np.array(pixels, "S16"))
        self._codes.append(np.array([self._names.index(name) for name in splits], np.int16))

    def shared(self) -> int:
        """How many are in train or val and, under another name, in another split."""
        if not self._pixels:
            return 0
        image, codes = np.unique(np.concatenate(self._pixels), return_inverse=True)[1], np.concatenate(self._codes)
        found = np.unique(np.stack([image, codes], axis=1), axis=0)
        several = np.flatnonzero(np.bincount(found[:, 0]) > 1)
        ours = np.isin(found[:, 1], [place for place, name in enumerate(self._names) if name in ("train", "val")])
        return int(np.isin(several, found[ours, 0]).sum())


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))
