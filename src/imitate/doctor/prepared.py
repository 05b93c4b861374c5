"""A prepared folder: complete, unchanged since it was written, and fit for use."""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from imitate.config import validate
from imitate.config.digests import sha256
from imitate.data.folder import Lenient, map_pixels, open_folder, read_json
from imitate.data.index import FORMAT, INDEX, Homes, fingerprint
from imitate.data.manifest import Manifests, row_digest
from imitate.data.shards import FOLDER, shard_path
from imitate.data.table_files import read_bounded
from imitate.doctor.checks import Census, Check, State, examine_ids, examine_labels, examine_notes, examine_splits
from imitate.errors import UserError

COLUMNS = ("split", "patient", "language", "labels", "boxes", "has_findings", "has_impression", "pixels")
AGAIN = "prepare it again"
Place = TypeVar("Place")
Result = TypeVar("Result")


class _Settings(Lenient):
    source: str
    mode: str
    resize: str
    size: int = Field(ge=1, le=2**14)
    classes: list[str]


class _Traits(Lenient):
    masks: bool
    patients: str = "patients"


class _Part(Lenient):
    manifest: str
    sha256: str


class _Shard(Lenient):
    name: str = Field(pattern=r"^\d{5,12}$")
    rows: int = Field(ge=0, le=2**31)
    sha256: dict[str, str]


class _Index(Lenient):
    """What is read of it here."""

    format: Literal[2]
    settings: _Settings
    traits: _Traits
    parts: list[_Part]
    shards: list[_Shard]
    images: int
    notes: dict[str, int] = Field({})
    fingerprint: str


def examine_prepared(path: Path) -> Iterator[Check]:
    """Files and their digests, shapes, manifests, splits, labels, texts."""
    if not (path / INDEX).is_file():
        yield _first_format(path)
        return
    try:
        index = read_json(path / INDEX)
        validate(_Index, index, where=f"{path / INDEX} is damaged")
    except UserError as error:
        yield Check("broken", "folder", str(error))
        return
    settings, shards = index["settings"], index["shards"]
    size, masks, classes = settings["size"], index["traits"]["masks"], settings["classes"]
    summary = f"{index['images']:,} images of {size} px from {settings['source']}, mode {settings['mode']}"
    yield Check("ok", "folder", summary)
    yield Check("ok", "tone", str(index.get("tone", "unknown")))
    same = fingerprint(settings, shards) == index["fingerprint"]
    yield Check("ok" if same else "broken", "fingerprint", "as written" if same else f"{INDEX} changed: {AGAIN}")
    faults = [fault for shard in shards for fault in _shard_faults(path / FOLDER, shard, size=size, masks=masks)]
    yield _summed("shards", faults, f"{len(shards):,}, each as written")
    yield _summed("manifests", list(_manifest_faults(path, index)), f"{len(index['parts']):,}, each as written")
    if not faults:
        try:
            yield from _examine_tables(path, index, classes)
        except (ValueError, TypeError, KeyError, pa.ArrowException) as error:
            yield Check(
                "broken", "tables", f"do not have the content of a prepared folder ({str(error)[:200]}): {AGAIN}"
            )
    yield from examine_notes(index.get("notes", {}))


def _first_format(path: Path) -> Check:
    if not (path / "meta.json").is_file():
        return Check("broken", "folder", f"{path} is incomplete: run the same `imitate prepare` again")
    try:
        rows = sum(shard.rows for shard in open_folder(path).shards)
    except UserError as error:
        return Check("broken", "folder", str(error))
    found = (
        f"{rows:,} images in the format of version 0.1: they can be read, but only what is prepared again is checked"
    )
    return Check("warn", "folder", found)


def excluded(folder: Path) -> Iterator[tuple[str, str]]:
    """Where each excluded record comes from, and why it is excluded: before decoding, then while decoding."""
    with _manifests(folder) as manifests:
        for shard in range(manifests.shards):
            for row in manifests.rows(shard, columns=["source_place", "excluded"]):
                if row["excluded"] is not None:
                    yield row["source_place"], row["excluded"]
        for shard in range(manifests.shards):
            listed = shard_path(folder, shard, ".excluded.parquet")
            if listed.is_file():
                with pq.ParquetFile(listed) as file:
                    rows = read_bounded(file, listed, ["source_place", "reason"]).to_pylist()
                for row in rows:
                    yield row["source_place"], row["reason"]


def _manifests(folder: Path) -> Manifests:
    found = Manifests.of(folder)
    if not found.paths:
        raise UserError(f"{folder} has no manifest: give a prepared folder of format {FORMAT}")
    return found


def _shard_faults(folder: Path, shard: dict[str, Any], *, size: int, masks: bool) -> Iterator[str]:
    """What is wrong with a shard's files, one text each."""
    name, rows = shard["name"], shard["rows"]
    for file in [f"{name}.parquet", f"{name}.npy", *[f"{name}.masks.npy"] * masks]:
        if file not in shard["sha256"]:
            yield f"{file} is not in {INDEX}"
    for file, digest in shard["sha256"].items():
        found = _read(sha256, folder / file)
        if found != digest:
            yield f"{file} {found if isinstance(found, _Unreadable) else 'changed since it was written'}"
        if file.endswith(".npy"):
            if isinstance(_read(partial(map_pixels, shape=(rows, size, size)), folder / file), _Unreadable):
                yield f"{file} is not a complete array of uint8 {rows} x {size} x {size}"
        elif file == f"{name}.parquet":
            metadata = _read(pq.read_metadata, folder / file)
            if isinstance(metadata, _Unreadable):
                yield f"{file} is not a complete table"
            elif metadata.num_rows != rows:
                yield f"{file} holds {metadata.num_rows} rows, not {rows}"


def _manifest_faults(folder: Path, index: dict[str, Any]) -> Iterator[str]:
    try:
        manifests = _manifests(folder)
    except UserError as error:
        yield str(error)
        return
    with manifests:
        if [path.name for path in manifests.paths] != [part["manifest"] for part in index["parts"]]:
            yield "manifests other than those of index.json: run the same `imitate prepare` again"
            return
        if manifests.shards != len(index["shards"]):
            yield f"{manifests.shards} row groups for {len(index['shards'])} shards"
        for path, written, part in zip(manifests.paths, manifests.written, index["parts"], strict=True):
            if written.sha256 != part["sha256"]:
                yield f"{path.name} differs from {INDEX}"
        for shard in range(manifests.shards):
            rows = _read(manifests.rows, shard)
            if isinstance(rows, _Unreadable) or any(row["digest"] != row_digest(row) for row in rows):
                yield f"{manifests.paths[manifests.part(shard)].name} is damaged"
                return


def _examine_tables(folder: Path, index: dict[str, Any], classes: list[str]) -> Iterator[Check]:
    splits: list[str] = []
    patients: list[str] = []
    labels, boxes, texts, homes, languages = [], 0, np.zeros(2, int), Homes(), Counter[str]()
    for shard in index["shards"]:
        path = folder / FOLDER / f"{shard['name']}.parquet"
        with pq.ParquetFile(path) as file:
            table = read_bounded(file, path, [name for name in COLUMNS if name in file.schema_arrow.names])
        if "pixels" in table.column_names:  # not in the first folders of this format
            homes.add(table["pixels"].to_pylist(), table["split"].to_pylist())
        splits += table["split"].to_pylist()
        patients += table["patient"].to_pylist()
        boxes += sum(map(len, table["boxes"].to_pylist()))
        reported = table.filter(pc.or_(table["has_findings"], table["has_impression"]))
        languages.update(name or "" for name in reported["language"].to_pylist())
        texts += [sum(table[f"has_{section}"].to_pylist()) for section in ("findings", "impression")]
        if classes:
            labels.append(np.array(table["labels"].to_pylist(), np.float32).reshape(len(table), len(classes)))
    values = np.concatenate(labels) if labels else np.empty((len(splits), 0), np.float32)
    census = Census(splits=splits, patients=patients, labels=values, classes=classes, boxes=boxes)
    overlap: State = "broken" if index["settings"]["mode"] == "clean" else "warn"
    yield from examine_splits(census, overlap=overlap)
    yield from examine_ids(index["traits"].get("patients", "patients"))
    if shared := homes.shared():
        where = "in train or val and, under another name, in another split"
        found = f"{shared:,} are {where}: metrics will be too optimistic"
        yield Check("warn", "same pixels", found)
    yield from examine_labels(census)
    if texts.any():
        fractions = texts / max(len(splits), 1)
        yield Check("ok", "text", f"{fractions[0]:.0%} have findings, {fractions[1]:.0%} have impression")
        spoken = ", ".join(f"{count:,} {name or 'not recorded'}" for name, count in languages.most_common())
        yield Check("ok", "language", spoken)


def _summed(what: str, faults: list[str], sound: str) -> Check:
    """One line, whatever the number of faults."""
    if not faults:
        return Check("ok", what, sound)
    more = f" and {len(faults) - 3:,} more" if len(faults) > 3 else ""
    return Check("broken", what, f"{'; '.join(faults[:3])}{more}: {AGAIN}")


class _Unreadable(str):
    """What is wrong with a file."""


def _read(read: Callable[[Place], Result], place: Place) -> Result | _Unreadable:
    try:
        return read(place)
    except FileNotFoundError:
        return _Unreadable("is missing")
    except (OSError, ValueError, EOFError, OverflowError, pa.ArrowException) as error:
        return _Unreadable(f"cannot be read ({error})")
