"""A folder of predictions.

settings.json        what decides the content, written before any part and compared when the folder is continued
images.parquet       of a folder of files: their names and sizes, in row groups of a part each
part-00017.parquet   image, reason (null where the image was readable), and vector or one column for each class
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32

from imitate.data.corpus import Corpus
from imitate.data.files import FULL, locked, replacing
from imitate.data.files import PART as UNFINISHED
from imitate.data.progress import log_counts
from imitate.errors import UserError
from imitate.inference.calibration import Calibration
from imitate.inference.inputs import find_images

if TYPE_CHECKING:
    from imitate.inference.bulk import Question

log = logging.getLogger(__name__)
PART = 1024  # images
SETTINGS, LISTING, LOCK = "settings.json", "images.parquet", ".lock"
UNLIKE = {"encoder": "another model", "prompts": "other prompts", "source": "images from another kind of folder",
          "digest": "another prepared folder", "calibration": "another calibration"}  # fmt: skip


def part_path(out: Path, number: int) -> Path:
    return out / f"part-{number:05d}.parquet"


def absent(out: Path, numbers: Iterable[int]) -> list[int]:
    found = {path.name for path in out.glob("part-*.parquet")}
    return [number for number in numbers if part_path(out, number).name not in found]


def check_place(out: Path, images: Path | None) -> None:
    """UserError where nothing can be written to, or other things lie."""
    if images and out.resolve().is_relative_to(images.resolve()):
        raise UserError(f"--out {out} lies in the folder of images {images}: choose one outside")
    try:
        out.mkdir(parents=True, exist_ok=True)
        names = [path.name for path in out.iterdir()]
    except OSError as error:
        raise UserError(f"cannot write into {out} ({error.strerror}): choose another --out") from error
    begun = SETTINGS in names
    if not begun and any(name not in (LOCK, LISTING) and not name.endswith(UNFINISHED) for name in names):
        raise UserError(f"{out} is not empty and holds no predictions: choose another --out")


def list_images(folder: Path) -> pa.Table:
    """Names of its radiographs, relative to ``folder``, and sizes in bytes; -1 where a link leads nowhere."""
    if not folder.is_dir():
        raise UserError(f"--images {folder} is not a folder: give one, or an --out such as table.csv for single files")
    names = [path.relative_to(folder).as_posix() for path in find_images(folder)]
    try:
        return pa.table({"image": pa.array(names, pa.string()), "bytes": [_size(folder / name) for name in names]})
    except UnicodeEncodeError as error:
        raise UserError(f"{folder} has a file whose name is not Unicode, {error.object!r}: rename it") from error


def listed(out: Path, number: int) -> list[str]:
    """The names of a part."""
    with pq.ParquetFile(out / LISTING) as file:
        names: list[str] = file.read_row_group(number, columns=["image"])["image"].to_pylist()
    return names


def settings_of(
    question: "Question", identity: str, source: pa.Table | Corpus | None, calibration: Calibration | None = None
) -> dict[str, Any]:
    """What must be the same when a folder is continued; prompts and temperature of the question are resolved."""
    assert source is not None
    corpus = isinstance(source, Corpus)
    settings = {
        "action": question.action,
        "encoder": identity,
        "branch": question.branch,
        "source": "data" if corpus else "images",
        "digest": source.fingerprint if corpus else _digest(source),
        "images": len(source),
        "part": PART,
    }
    if question.action == "classify":
        settings |= {"temperature": question.temperature, "prompts": _plain(question.prompts or {})}
    if calibration is not None:
        settings |= {"calibration": calibration.model_dump(mode="json"), "decide": question.decide}
    found: dict[str, Any] = json.loads(json.dumps(settings))  # as it will be read back
    return found


def begin(out: Path, settings: Mapping[str, Any], listing: pa.Table | None, images: Path | None) -> None:
    """The first writes listing and settings, all others compare theirs with them."""
    with locked(out / LOCK):
        path = out / SETTINGS
        if path.is_file():
            _compare(out, json.loads(path.read_text(encoding="utf-8")), settings, listing, images)
            return
        if listing is not None:
            with replacing(out / LISTING) as part:
                pq.write_table(listing, part, row_group_size=PART, compression="zstd")
        with replacing(path) as part:
            part.write_text(f"{json.dumps(settings, indent=1, ensure_ascii=False)}\n", encoding="utf-8")


def remove_interrupted(out: Path, numbers: Sequence[int]) -> None:
    """What a killed process left of these parts."""
    names = {part_path(out, number).name for number in numbers}
    for path in out.glob(f"part-*{UNFINISHED}"):
        if f"{path.name.partition('.')[0]}.parquet" in names:
            path.unlink(missing_ok=True)


def save(
    out: Path,
    number: int,
    names: Sequence[str],
    reasons: Sequence[str | None],
    values: Float32[np.ndarray, "readable width"],
    columns: Sequence[str] | None,
    yes_no: Sequence[str] = (),
) -> None:
    """Write a part. ``values`` are of the readable images, in order; without names of ``columns`` they are vectors.

    The columns ``yes_no`` are booleans.
    """
    readable = np.array([reason is None for reason in reasons], bool)
    places = pa.array(np.cumsum(readable) - 1, mask=~readable)
    if columns is None:
        found = {"vector": pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])}
    else:
        each = {name: value > 0 if name in yes_no else value for name, value in zip(columns, values.T, strict=True)}
        found = {name: pa.array(np.ascontiguousarray(value)) for name, value in each.items()}
    head = {"image": pa.array(names, pa.string()), "reason": pa.array(reasons, pa.string())}
    table = pa.table(head | {name: array.take(places) for name, array in found.items()})
    try:
        with replacing(part_path(out, number)) as part:
            pq.write_table(table, part, compression="zstd")
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise UserError(
            f"no space left for {out} ({error.strerror}): "
            "make room and run the same command again; it continues from there"
        ) from error


def finish(out: Path, images: int) -> bool:
    """Report; whether all parts are there."""
    count = -(-images // PART)
    if left := absent(out, range(count)):
        log.info("%s: %d of %d parts are complete; other jobs write the rest", out, count - len(left), count)
        return False
    reasons = Counter[str]()
    for number in range(count):
        reasons.update(pq.read_table(part_path(out, number), columns=["reason"])["reason"].drop_null().to_pylist())
    log.info("%s: %d images, %d of them excluded", out, images, reasons.total())
    log_counts(excluded=reasons)
    return True


def _compare(
    out: Path, before: dict[str, Any], now: Mapping[str, Any], listing: pa.Table | None, images: Path | None
) -> None:
    keys = [key for key in dict.fromkeys([*before, *now]) if before.get(key) != now.get(key)]
    found = [UNLIKE.get(key) or f"{key} {before.get(key)}, not {now.get(key)}" for key in keys]
    if {"digest", "images"} & set(keys) and "source" not in keys and listing is not None:
        raise UserError(
            f"{out} was begun with different images: {_changes(out, listing)} in {images}: choose another --out"
        )
    if found:
        raise UserError(f"{out} was begun with {'; '.join(found)}: choose another --out, or delete it first")


def _changes(out: Path, listing: pa.Table) -> str:
    old, new = (
        {row["image"]: row["bytes"] for row in each.to_pylist()} for each in (pq.read_table(out / LISTING), listing)
    )
    changed = sum(old[name] != new[name] for name in old.keys() & new.keys())
    return f"{len(new.keys() - old.keys())} files are new, {len(old.keys() - new.keys())} gone and {changed} changed"


def _digest(listing: pa.Table) -> str:
    digest = hashlib.sha256()
    for batch in listing.to_batches(max_chunksize=PART):
        digest.update(json.dumps(batch.to_pydict(), sort_keys=True).encode())
    return digest.hexdigest()


def _plain(prompts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: each.model_dump() for name, each in prompts.items()}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
