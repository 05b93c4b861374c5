"""The one writer of a prepared folder: decodes in parallel, goes on after an interruption, finishes atomically.

Its files are the same, bit for bit, whatever the number of workers and however often the run was interrupted.
"""

import csv
import hashlib
import json
import logging
import time
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from imitate.data.chunks import STRINGS, Chunk, Preparation, Task, prepare_all, tasks
from imitate.data.prepared import FORMAT_VERSION, Dropped, Record
from imitate.data.unfinished import HEADER, HOLDER, IMAGES, JOURNAL, MASKS, META, Unfinished, require_same
from imitate.errors import UserError

log = logging.getLogger(__name__)
ROW_GROUP = 4096
LOG_EVERY = 30.0  # seconds
_BOX = pa.struct([("label", pa.string()), *((name, pa.float64()) for name in ("x", "y", "width", "height"))])
SCHEMA = pa.schema(
    [*((name, pa.string()) for name in STRINGS), ("labels", pa.list_(pa.float32())), ("boxes", pa.list_(_BOX))]
)


def write_prepared(
    records: Iterator[Record | Dropped],
    out: Path,
    preparation: Preparation,
    *,
    total: int | None = None,
    workers: int = 1,
) -> dict[str, Any]:
    """Write ``out``, or go on with it; returns what meta.json holds.

    ``records`` starts with the first record in any case, the same ones in the same order. ``total`` is their number,
    for the time left. UserError: a folder begun or finished with another preparation, a full disk, no usable record.
    """
    settings = {"format_version": FORMAT_VERSION, **preparation.model_dump(mode="json")}
    if (out / META).is_file():
        meta: dict[str, Any] = json.loads((out / META).read_text(encoding="utf-8"))
        require_same(out, {key: meta.get(key) for key in settings}, settings)
        for left in (HOLDER, JOURNAL):  # by a kill between meta.json and their removal
            (out / left).unlink(missing_ok=True)
        log.info("%s is complete already", out)
        return meta
    with Unfinished(out, settings) as folder:
        if folder.records:
            log.info("going on after %d records", folder.records)
        chunks = prepare_all(_remaining(records, folder), preparation, workers=workers)
        for chunk in _watched(chunks, done=folder.records, total=total):
            folder.append(chunk)
        return _finish(folder)


def fingerprint(root: Path) -> str:
    """SHA-256 over the pixels, masks and rows of a prepared folder; independent of how the table is compressed."""
    digest = hashlib.sha256()
    for path in (root / IMAGES, root / MASKS):
        if path.is_file():
            with path.open("rb") as file:
                file.seek(HEADER)
                while block := file.read(2**20):
                    digest.update(block)
    with pq.ParquetFile(root / "table.parquet") as table:
        for batch in table.iter_batches(ROW_GROUP):
            for row in batch.to_pylist():
                digest.update(json.dumps(row).encode())
    return digest.hexdigest()


def _remaining(records: Iterator[Record | Dropped], folder: Unfinished) -> Iterator[Task]:
    """The tasks not yet in the journal; UserError where those in it are no longer what they were."""
    every = tasks(records)
    fields = ""
    for task in islice(every, folder.chunks):
        fields = task.fields
    if fields != folder.fields:
        raise UserError(f"the raw data changed since {folder.out} was begun: delete {folder.out} and prepare it again")
    yield from every


def _watched(chunks: Iterator[Chunk], *, done: int, total: int | None) -> Iterator[Chunk]:
    """Pass chunks on, with a progress bar on a terminal and a log line now and then elsewhere."""
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    start, told, before = time.monotonic(), 0.0, done
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=total, completed=done, rate="")
        for chunk in chunks:
            yield chunk
            done += len(chunk.rows) + len(chunk.dropped)
            seconds = time.monotonic() - start
            rate = (done - before) / seconds
            progress.update(bar, completed=done, rate=f"{rate:.0f}/s")
            if not console.is_terminal and seconds - told > LOG_EVERY:
                told = seconds
                left = f" of {total}, {max(total - done, 0) / rate / 60:.0f} min left" if total else ""
                log.info("%d records%s, %.0f/s", done, left, rate)


def _finish(folder: Unfinished) -> dict[str, Any]:
    if not folder.rows:
        reasons = Counter(reason for entry in folder.entries() for _, reason in entry["dropped"])
        folder.discard()
        told = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common()) or "it yields no record"
        raise UserError(f"no usable image in {folder.settings['source']} ({told}): look at the raw folder")
    folder.seal()
    with folder.room():
        counts = _write_table(folder)
        meta = {
            **folder.settings,
            "images": folder.rows,
            **counts,
            "source_sha256": folder.source,
            "fingerprint": fingerprint(folder.out),
            "imitate": _version(),
        }
    return folder.finish(meta)


def _write_table(folder: Unfinished) -> dict[str, Any]:
    """Journal to table.parquet and dropped.csv; returns the counts for meta.json."""
    splits, reasons, boxes = Counter[str](), Counter[str](), Counter[str]()
    patients: set[str] = set()
    group: list[dict[str, Any]] = []
    with (
        pq.ParquetWriter(folder.out / "table.parquet", SCHEMA) as table,
        (folder.out / "dropped.csv").open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        dropped = csv.writer(file, lineterminator="\n")
        dropped.writerow(("source", "reason"))
        for entry in folder.entries():
            group += entry["rows"]
            dropped.writerows(entry["dropped"])
            splits.update(row["split"] for row in entry["rows"])
            patients.update(row["patient"] for row in entry["rows"])
            reasons.update(reason for _, reason in entry["dropped"])
            boxes.update(entry["boxes_dropped"])
            if len(group) >= ROW_GROUP:
                table.write_table(pa.Table.from_pylist(group, SCHEMA))
                group = []
        if group:
            table.write_table(pa.Table.from_pylist(group, SCHEMA))
    return {
        "patients": len(patients),
        "splits": dict(splits),
        "dropped": dict(reasons),
        "boxes_dropped": dict(boxes),
    }


def _version() -> str:
    try:
        return version("imitate-cxr")
    except PackageNotFoundError:  # a source tree that was never installed
        return "unknown"
