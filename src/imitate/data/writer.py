"""Write a prepared folder, continue one that was interrupted, or append new records to one.

The files are the same, byte for byte, whatever the number of processes and machines, and however often they were
interrupted.
"""

import json
import logging
import os
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from imitate.data.changes import Changes, added_rows, image_ids, manifest_rows
from imitate.data.cluster import on_cluster
from imitate.data.files import FULL, PART, locked, replacing, sync
from imitate.data.index import no_image, read_index, versions, write_index
from imitate.data.jobs import Job
from imitate.data.manifest import NAME, Layout, Manifests, write_manifest
from imitate.data.progress import log_counts, progress
from imitate.data.records import Excluded, Record
from imitate.data.shards import FOLDER, Plan, Settings, absent_shards, write_one, write_shards
from imitate.data.worker import Failure
from imitate.errors import UserError

log = logging.getLogger(__name__)
LOCK = ".lock"
COUNTED = {"split": "splits", "excluded": "excluded", "box_excluded": "boxes_excluded", "note": "notes"}
SHARED = "%d images are in train or val and, under another name, in another split: metrics will be too optimistic"
SMALL = 250  # records that one process has decoded by the time that another one is up


@dataclass(frozen=True)
class Archive:
    """What the records come from."""

    root: Path
    traits: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)  # SHA-256 of tables and section files, by file name


@dataclass(frozen=True)
class Engine:
    """Who decodes; none of it changes a file."""

    workers: int | None = None  # processes; None: one a core, fewer for a small archive, where they do not pay
    part: tuple[int, int] = (1, 1)  # (i, n): only the shards k with k mod n = i - 1, the others being written elsewhere
    cluster: str | None = None  # address of a Dask scheduler
    time_limit: float = 120.0  # seconds for a record

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise UserError(f"--workers {self.workers}: give 1 or more, or omit it")
        if not 1 <= self.part[0] <= self.part[1]:
            raise UserError(f"--part {self.part[0]}/{self.part[1]}: write it as i/n with i from 1 to n")

    def processes(self, count: int) -> int:
        """How many are started for so many images."""
        return self.workers or min(cores(), 1 + count // SMALL)


def write_folder(
    records: Iterable[Record | Excluded],
    out: Path,
    settings: Settings,
    *,
    archive: Archive,
    engine: Engine | None = None,
    append: bool = False,
) -> dict[str, Any] | None:
    """Write what is absent of ``out``; returns what index.json holds, None where other parts have shards to write.

    ``records`` are all of the source. ``append``: those with a new image_id become new shards. UserError: a folder of
    other settings or other records, a full disk, no usable record.
    """
    engine = engine or Engine()
    described = _described(settings, archive)
    plan = Plan(out.absolute(), archive.root.absolute(), settings, described["traits"]["masks"], engine.time_limit)
    with _room(out):
        _open(out)
        with Manifests.of(out) as manifests:  # before the tables are read
            for before in manifests.described:
                _require_same(out, before, described)
        rows = manifest_rows(records, plan.layout, settings.projections)
        _publish(rows, out, described, append=append)
        with Manifests.of(out) as manifests:
            lengths = [manifests.length(shard) for shard in range(manifests.shards)]
            absent = absent_shards(out, manifests.shards)
            _require_versions(out, manifests, absent, described["versions"])
            index = read_index(out)
            parts = len(manifests.paths)
        if index and len(index["parts"]) == parts and not absent and index["settings"]["inputs"] == described["inputs"]:
            log.info("%s is complete already", out)
            return index
        _run(plan, engine, absent, lengths)
        return _finish(out, described["inputs"])


class Check(NamedTuple):
    """What ``imitate prepare --check`` finds."""

    records: int  # usable according to the tables
    excluded: dict[str, int]  # by reason
    decoded: int  # of the sample
    failed: dict[str, int]  # of the sample, by reason
    notes: dict[str, int]  # of the sample

    def log(self) -> None:
        log.info("%d usable records; %d images of a sample decoded", self.records, self.decoded)
        log_counts(excluded=self.excluded, not_decoded=self.failed, note=self.notes)


def check_records(
    records: Iterable[Record | Excluded], settings: Settings, *, archive: Archive, sample: int = 16
) -> Check:
    """Read the tables and decode ``sample`` images spread over the archive, without writing a folder."""
    layout = Layout(archive.root, settings.classes)
    with TemporaryDirectory() as folder:
        rows = manifest_rows(records, layout, settings.projections)
        written = write_manifest(rows, Path(folder) / f"{NAME}.parquet", described={})
        plan = Plan(Path(folder), archive.root, settings, bool(archive.traits.get("masks")), Engine.time_limit)
        with Manifests.of(Path(folder)) as manifests, plan.pool(1) as pool:
            wanted = {written.records * number // sample for number in range(sample)}
            usable = (each for shard in range(manifests.shards) for each in manifests.records(shard, layout))
            jobs = [Job.of(record) for number, record in enumerate(usable) if number in wanted]
            found = [result for _, results in pool.map([(None, jobs)]) for result in results]
    failed = Counter(each.reason for each in found if isinstance(each, Failure))
    notes = Counter(note for each in found if not isinstance(each, Failure) for note in each.notes)
    counts = [dict(sorted(each.items())) for each in (failed, notes)]
    return Check(written.records, written.excluded, len(found) - failed.total(), *counts)


def _open(out: Path) -> None:
    """Make the folder; UserError where it holds something else."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        names = [path.name for path in out.iterdir()]
    except OSError as error:
        raise UserError(f"cannot write into {out} ({error.strerror}): choose another --out") from error
    if "meta.json" in names or "progress.jsonl" in names:
        raise UserError(f"{out} holds a prepared folder of format 1: choose another --out")
    if f"{NAME}.parquet" not in names and any(name != LOCK and not name.endswith(PART) for name in names):
        raise UserError(f"{out} is not empty and holds no prepared folder: choose another --out")


def _publish(rows: Iterator[dict[str, Any]], out: Path, described: dict[str, Any], *, append: bool) -> None:
    """The first writes the manifest, all others compare theirs with it; ``append`` adds a manifest of what is new."""
    first = out / f"{NAME}.parquet"
    with TemporaryDirectory() as folder:
        mine = (Path(folder) if first.is_file() else out) / f"{NAME}.{secrets.token_hex(4)}{PART}"
        try:
            written = write_manifest(rows, mine, described=described)
            if not written.records and not first.is_file():
                raise no_image(described["settings"]["source"], written.excluded)
            with locked(out / LOCK):
                if not first.is_file():
                    sync(mine)
                    mine.replace(first)
                    return
                with Manifests.of(out) as old, Manifests([mine]) as new:
                    _compare(out, old, new, append=append)
        finally:
            mine.unlink(missing_ok=True)


def _compare(out: Path, old: Manifests, new: Manifests, *, append: bool) -> None:
    """UserError where settings or records are not what they were; ``append`` allows for new records."""
    before, now = old.described[-1], new.described[0]
    _require_same(out, before, now)
    changes = Changes.between(old, new)
    added = int(changes.added.sum())
    index = read_index(out)
    if index and len(index["parts"]) == len(old.paths):
        before = index["settings"]
    inputs = [name for name in sorted({*before["inputs"], *now["inputs"]})
              if before["inputs"].get(name) != now["inputs"].get(name)]  # fmt: skip
    found = [f"{', '.join(inputs)} changed"] * bool(inputs)
    for what, manifests, places in (("changed", new, changes.changed), ("vanished", old, changes.vanished)):
        if len(places):
            found.append(f"{len(places)} records {what} ({', '.join(image_ids(manifests, places))})")
    broken = len(changes.changed) or len(changes.vanished)
    found += [f"{added} records are new"] * bool(added)
    found += ["the records are the same"] * (not broken and not added)
    if broken or ((inputs or added) and not append):
        way = "choose another --out" if broken else "add --append, or choose another --out"
        note = ", since --append only adds records" if append else ""
        raise UserError(f"the raw data changed since {out} was begun: {'; '.join(found)}: {way}{note}")
    if added:
        with replacing(out / f"{NAME}-{len(old.paths)}.parquet") as part:
            write_manifest(added_rows(new, changes), part, described=now, originals=new.written[0].originals)
    if append:
        log.info("%d new records", added)


def _require_same(out: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """UserError that says what ``out`` was prepared with, where settings or traits differ."""
    added = {key: now["traits"][key] for key in ("population",) if key in now["traits"]}  # since older folders
    before = {**before, "traits": {**added, **before["traits"]}}
    old, new = (
        {**each["settings"], **each["settings"]["options"], **each["traits"], "options": {}} for each in (before, now)
    )
    differences = [
        f"{key} {json.dumps(old.get(key))}, not {json.dumps(new.get(key))}"
        for key in dict.fromkeys([*new, *old])
        if old.get(key) != new.get(key)
    ]
    if differences:
        raise UserError(f"{out} was prepared with {'; '.join(differences)}: choose another --out, or delete it first")


def _require_versions(out: Path, manifests: Manifests, absent: list[int], now: dict[str, str]) -> None:
    """UserError where a part was begun, and not finished, with other versions of what decides the pixels."""
    for part in sorted({manifests.part(shard) for shard in absent}):
        before = manifests.described[part]["versions"]
        different = [name for name in now if before.get(name) != now[name]]
        if different:
            old, new = (", ".join(f"{name} {each.get(name)}" for name in different) for each in (before, now))
            raise UserError(f"{out} was begun with {old}, not {new}: install those versions, or choose another --out")


def _run(plan: Plan, engine: Engine, absent: list[int], lengths: list[int]) -> None:
    index, parts = engine.part
    mine = [shard for shard in absent if shard % parts == index - 1]
    names = {f"{shard:05d}" for shard in mine}
    for path in (plan.out / FOLDER).glob(f"*{PART}"):  # of a killed process
        if path.name.partition(".")[0] in names:
            path.unlink(missing_ok=True)
    left = sum(lengths[shard] for shard in mine)
    total = sum(length for shard, length in enumerate(lengths) if shard % parts == index - 1)
    if left < total:
        log.info("continuing after %d records", total - left)
    with progress(total=total, done=total - left) as advance:
        if engine.cluster is not None:
            for shard in on_cluster(partial(write_one, plan), mine, engine.cluster):
                advance(lengths[shard])
        else:
            for _ in write_shards(plan, mine, workers=engine.processes(left), advance=advance):
                pass


def _finish(out: Path, inputs: dict[str, str]) -> dict[str, Any] | None:
    with locked(out / LOCK):
        with Manifests.of(out) as manifests:
            shards = manifests.shards
        if absent := absent_shards(out, shards):
            log.info("%s: %d of %d shards are complete; other parts write the rest", out, shards - len(absent), shards)
            return None
        index = write_index(out, inputs=inputs)
    log.info("%s: %d images of %d patients", out, index["images"], index["patients"])
    log_counts(**{name: index[key] for name, key in COUNTED.items()})
    log_counts(**index["demographics"])
    for where, columns in index["originals"].items():
        log_counts(**{f"{column} in {where}": kinds for column, kinds in columns.items()})
    if index["shared"]:
        log.warning(SHARED, index["shared"])
    return index


def _described(settings: Settings, archive: Archive) -> dict[str, Any]:
    traits = {"masks": False, "tone": "unknown", **archive.traits}
    inputs = dict(sorted(archive.inputs.items()))
    values = {"settings": settings.model_dump(mode="json"), "traits": traits, "inputs": inputs, "versions": versions()}
    described: dict[str, Any] = json.loads(json.dumps(values))  # as it will be read back
    return described


@contextmanager
def _room(out: Path) -> Iterator[None]:
    """A full disk is the user's to fix; complete shards stay good."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        shards = len(list((out / FOLDER).glob("[0-9]*[0-9].parquet")))
        raise UserError(
            f"no space left for {out} after {shards} shards ({error.strerror}): "
            "make room and run the same command again; it continues from there"
        ) from error


def cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
