"""The shards of a prepared folder: shard k holds what can be decoded of the manifests' row group k.

00017.npy               uint8 (n, S, S)
00017.masks.npy         likewise, 0 or 1, where the source has masks
00017.excluded.parquet  image_id, source_place, reason of those excluded while decoding, where there are any
00017.parquet           one row an image; written last: its presence means that the shard is complete

A shard depends on nothing but the manifest, k and the settings, so that any process on any machine may write it.
"""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import groupby
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, model_validator

from imitate.config import Config
from imitate.config.digests import sha256
from imitate.data.demographics import HEADERS, with_header
from imitate.data.files import replacing
from imitate.data.jobs import Decoded, Job, Percentiles, Resize, Setup
from imitate.data.manifest import Layout, Manifests, batches, escape
from imitate.data.pool import Pool
from imitate.data.records import Record
from imitate.data.worker import Failure

FOLDER = "shards"
CHUNK = 64  # records that a worker is given at once
CHUNK_PIXELS = 2**24  # of their prepared images at most, for memory
HEADER = 128  # bytes of an .npy header
DECODER = "imitate.data.decoding:Decoder"
BOX = pa.struct(
    [
        ("label", pa.string()),
        *((name, pa.float64()) for name in ("x", "y", "width", "height")),
        ("phrase", pa.string()),
        ("reader", pa.string()),
    ]
)
REGION = pa.struct([(name, pa.string()) for name in ("label", "phrase", "reader", "runs")])
TEXTS = ("image_id", "patient", "study", "split", "projection", "findings", "impression", "language")
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in TEXTS),
        ("labels", pa.list_(pa.float32())),
        ("boxes", pa.list_(BOX)),
        ("annotated", pa.bool_()),
        ("sex", pa.string()),
        ("age", pa.float64()),
        ("scanner", pa.string()),
        ("extra", pa.map_(pa.string(), pa.string())),
        ("has_findings", pa.bool_()),
        ("has_impression", pa.bool_()),
        ("pixels", pa.binary(16)),  # BLAKE2 of the image: equal images have the same
    ]
)
REGIONS = pa.field("regions", pa.list_(REGION))
"""A column of those shards alone that have any."""
EXCLUDED = pa.schema([(name, pa.string()) for name in ("image_id", "source_place", "reason")])


class Settings(Config):
    """What decides the content of a prepared folder; one begun with other values is never continued."""

    source: str
    size: int = Field(256, ge=16, le=4096)
    resize: Resize = "stretch"
    mode: str = "clean"
    classes: tuple[str, ...] = ()  # the order of the labels
    options: dict[str, Any] = Field({})  # the source's own
    projections: tuple[str, ...] | None = None  # decode only these
    percentiles: Percentiles | None = None  # of the values, which become black and white; None: the extremes
    equalized: bool | None = None  # their histogram is made flat
    from_header: tuple[str, ...] | None = None  # elements of DICOM headers that fill what the tables leave blank

    @model_validator(mode="after")
    def _in_order(self) -> "Settings":
        if self.percentiles and not 0 <= self.percentiles[0] < self.percentiles[1] <= 100:
            raise ValueError("percentiles: give two numbers from 0 to 100 in ascending order, such as 0.5 99.5")
        if strange := sorted({*(self.from_header or ())} - HEADERS.keys()):
            raise ValueError(f"from_header: {strange[0]} is not one of {', '.join(HEADERS)}")
        return self


class Plan(NamedTuple):
    """What it takes to write any shard of a folder."""

    out: Path
    root: Path  # of the raw archive
    settings: Settings
    masks: bool
    time_limit: float  # seconds for a record

    @property
    def layout(self) -> Layout:
        return Layout(self.root, self.settings.classes)

    def pool(self, workers: int) -> Pool:
        chosen = self.settings
        given = (chosen.size, chosen.resize, self.masks, chosen.percentiles)
        setup = Setup(*given, from_header=chosen.from_header or (), equalized=bool(chosen.equalized))
        return Pool(DECODER, setup=setup, workers=workers, time_limit=self.time_limit)


class _Key(NamedTuple):
    shard: int
    records: list[Record]


def shard_path(out: Path, shard: int, suffix: str = ".parquet") -> Path:
    return out / FOLDER / f"{shard:05d}{suffix}"


def absent_shards(out: Path, shards: int) -> list[int]:
    """Those that are not complete."""
    found = {path.name for path in (out / FOLDER).glob("*.parquet")}
    return [shard for shard in range(shards) if shard_path(out, shard).name not in found]


def write_shards(
    plan: Plan, shards: Iterable[int], *, workers: int, advance: Callable[[int], object] = int
) -> Iterator[int]:
    """Write shards one after the other, decoding ahead; yields the number of each when it is complete.

    ``advance`` is called with numbers of records.
    """
    chunk = max(1, min(CHUNK, CHUNK_PIXELS // plan.settings.size**2))
    with Manifests.of(plan.out) as manifests, plan.pool(workers) as pool:

        def jobs() -> Iterator[tuple[_Key, list[Job]]]:
            for shard in shards:
                records = manifests.records(shard, plan.layout)
                advance(manifests.length(shard) - len(records))
                for some in list(batches(records, chunk)) or [[]]:
                    yield _Key(shard, some), [Job.of(record) for record in some]

        for shard, group in groupby(pool.map(jobs()), key=lambda pair: pair[0].shard):
            _write(plan, shard, _pairs(group, advance))
            yield shard


def _pairs(
    group: Iterable[tuple[_Key, list[Any]]], advance: Callable[[int], object]
) -> Iterator[tuple[Record, Decoded | Failure]]:
    for key, found in group:
        yield from zip(key.records, found, strict=True)
        advance(len(found))


def write_one(plan: Plan, shard: int) -> int:
    """A task of a cluster: one shard with one worker process."""
    (done,) = write_shards(plan, [shard], workers=1)
    return done


def _write(plan: Plan, shard: int, results: Iterable[tuple[Record, Decoded | Failure]]) -> None:
    (plan.out / FOLDER).mkdir(exist_ok=True)
    images_path, masks_path = (shard_path(plan.out, shard, suffix) for suffix in (".npy", ".masks.npy"))
    rows, excluded, outside, notes, originals = [], [], 0, Counter[str](), Counter[str]()
    with (
        _array(images_path, plan.settings.size) as images,
        _array(masks_path, plan.settings.size) if plan.masks else nullcontext() as masks,
    ):
        for record, found in results:
            if isinstance(found, Failure):
                place = "/".join(escape(part) for part in (str(record.image), record.member) if part)
                excluded.append({"image_id": record.image_id, "source_place": place, "reason": found.reason})
                continue
            images.write(found.image.tobytes())
            if masks is not None and found.mask is not None:
                masks.write(found.mask.tobytes())
            if plan.settings.from_header:
                record = with_header(record, found.header)
                originals.update(record.originals)
            rows.append(_row(record, found, plan.settings.classes))
            outside += found.boxes_outside
            notes.update((*record.notes, *found.notes))
    excluded_path = shard_path(plan.out, shard, ".excluded.parquet")
    excluded_path.unlink(missing_ok=True)  # of an interrupted attempt
    if excluded:
        with replacing(excluded_path) as part:
            pq.write_table(pa.Table.from_pylist(excluded, EXCLUDED), part, compression="zstd")
    about = {
        "sha256": {path.name: sha256(path) for path in (images_path, masks_path) if path.is_file()},
        "boxes_excluded": {"outside the image": outside} if outside else {},
        "notes": dict(sorted(notes.items())),
    } | ({"originals": dict(sorted(originals.items()))} if originals else {})
    schema = SCHEMA.append(REGIONS) if any(row["regions"] for row in rows) else SCHEMA
    table = pa.Table.from_pylist(rows, schema.with_metadata({"imitate": json.dumps(about)}))
    with replacing(shard_path(plan.out, shard)) as part:
        pq.write_table(table, part, compression="zstd")


@contextmanager
def _array(path: Path, size: int) -> Iterator[IO[bytes]]:
    """Yield a file for the bytes of square images, which becomes a whole .npy file."""
    with replacing(path) as part, part.open("wb") as file:
        file.seek(HEADER)
        yield file
        header = io.BytesIO()
        shape = ((file.tell() - HEADER) // size**2, size, size)
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
        assert header.tell() == HEADER
        file.seek(0)
        file.write(header.getvalue())


def _row(record: Record, found: Decoded, classes: tuple[str, ...]) -> dict[str, Any]:
    names = (*TEXTS, "annotated", "sex", "age", "scanner")
    labels = record.labels or {}
    return {name: getattr(record, name) for name in names} | {
        "labels": [labels.get(name, float("nan")) for name in classes] if classes else None,
        "boxes": found.boxes,
        "regions": found.regions,
        "extra": list(record.extra.items()),
        "has_findings": record.findings is not None,
        "has_impression": record.impression is not None,
        "pixels": hashlib.blake2b(found.image.tobytes(), digest_size=16).digest(),
    }
