"""Records to pixels, 64 at a time, in worker processes and in order."""

import hashlib
import json
import math
import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field

from imitate.config import Config
from imitate.data.annotations import Box
from imitate.data.dicom import ImageError
from imitate.data.folder import RESIZES
from imitate.data.memory import keep_freed_memory
from imitate.data.pixels import Geometry, read_gray, to_prepared
from imitate.data.prepared import Dropped, Record
from imitate.errors import UserError
from imitate.names import SECTIONS, Fit, Mode

CHUNK = 64  # records
STRINGS = ("image_id", "patient", "study", "split", "view", *SECTIONS)


class Preparation(Config):
    """What decides the content of a prepared folder; one begun with other values is never gone on with."""

    source: str
    size: int = Field(256, ge=16, le=4096)
    fit: Fit = "squash"
    mode: Mode = "clean"
    classes: tuple[str, ...] = ()  # the order of the label vector
    options: dict[str, Any] = Field({})  # what else the source was told


class Task(NamedTuple):
    """Consecutive records."""

    records: list[Record | Dropped]
    fields: str  # digest of their fields, from the first record of all on


class Chunk(NamedTuple):
    """Consecutive records, prepared: ``rows``, images and masks of the usable ones."""

    images: np.ndarray  # uint8 (n, S, S)
    masks: np.ndarray | None
    rows: list[dict[str, Any]]
    dropped: list[tuple[str, str]]  # source, reason
    boxes_dropped: dict[str, int]  # by reason
    content: str  # digest of the files and masks
    fields: str  # the task's


def tasks(records: Iterator[Record | Dropped]) -> Iterator[Task]:
    """Cut into chunks; of two records with one image_id the second is dropped."""
    seen: set[str] = set()
    fields = ""
    while chunk := list(islice(records, CHUNK)):
        for place, record in enumerate(chunk):
            if isinstance(record, Record):
                if record.image_id in seen:
                    chunk[place] = Dropped(record.image_id, "duplicate image id")
                seen.add(record.image_id)
        fields = hashlib.sha256(json.dumps([fields, *map(_fields, chunk)]).encode()).hexdigest()
        yield Task(chunk, fields)


def prepare_all(tasks: Iterator[Task], preparation: Preparation, *, workers: int) -> Iterator[Chunk]:
    """``prepare`` over all tasks, in order, a few ahead in ``workers`` processes (1: in this one)."""
    if workers == 1:
        yield from (prepare(task, preparation) for task in tasks)
        return
    context = multiprocessing.get_context("forkserver")  # its workers share one import, and none of our threads
    context.set_forkserver_preload([__name__])
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin)
    pending: deque[Future[Chunk]] = deque()
    try:
        for task in tasks:
            pending.append(pool.submit(prepare, task, preparation))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process died, for want of memory or over a file that crashes its decoder: run the same command "
            f"again with fewer --workers than {workers}, it goes on from there"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def prepare(task: Task, preparation: Preparation) -> Chunk:
    """Decode, crop and resize, boxes and masks with the pixels."""
    size = preparation.size
    images, masks, rows, dropped = [], [], [], []
    boxes_dropped: Counter[str] = Counter()
    content = hashlib.sha256()
    for record in task.records:
        if isinstance(record, Dropped):
            dropped.append((record.source, record.reason))
            continue
        content.update(_file_digest(record.image))
        try:
            image, geometry = to_prepared(read_gray(record.image), size, RESIZES[preparation.fit])
        except ImageError as error:
            dropped.append((str(record.image), error.reason))
            continue
        row = _row(record, geometry, preparation.classes)
        boxes_dropped["outside the image"] += len(record.boxes) - len(row["boxes"])
        images.append(image)
        rows.append(row)
        masks.append(_mask(record, geometry))
        content.update(masks[-1].tobytes() if record.mask else b"")
    has_masks = any(isinstance(record, Record) and record.mask for record in task.records)
    return Chunk(
        images=np.array(images, np.uint8).reshape(-1, size, size),
        masks=np.array(masks, np.uint8).reshape(-1, size, size) if has_masks else None,
        rows=rows,
        dropped=dropped,
        boxes_dropped=dict(+boxes_dropped),
        content=content.hexdigest(),
        fields=task.fields,
    )


def _mask(record: Record, geometry: Geometry) -> np.ndarray:
    if record.mask is None:
        return np.zeros((geometry.size, geometry.size), np.uint8)
    return geometry.mask(np.asarray(record.mask(geometry.width, geometry.height), bool))


def _row(record: Record, geometry: Geometry, classes: tuple[str, ...]) -> dict[str, Any]:
    """A row of the table: blank sections missing, labels in the order of ``classes``, boxes in prepared pixels."""
    row: dict[str, Any] = {}
    for name in STRINGS:
        text = getattr(record, name)
        missing = text is None or (name in SECTIONS and not text.strip())
        row[name] = None if missing else text.encode("utf-8", "replace").decode()  # file names need not be Unicode
    labels = record.labels or {}
    assert set(labels) <= set(classes), f"labels {sorted(set(labels) - set(classes))} are not among {classes}"
    row["labels"] = [float(labels.get(name, math.nan)) for name in classes] if classes else None
    boxes = [geometry.box(box, record.frame) for box in record.boxes]
    row["boxes"] = [dict(zip(Box._fields[:5], box, strict=False)) for box in boxes if box]
    return row


def _fields(record: Record | Dropped) -> list[Any]:
    """All that a record says except where its files lie."""
    if isinstance(record, Dropped):
        return [record.reason]
    labels = {name: float(value) for name, value in (record.labels or {}).items()}
    boxes = [[box.label, *map(float, box[1:5])] for box in record.boxes]
    return [*(getattr(record, name) for name in STRINGS), labels, boxes, record.frame, record.mask is not None]


def _file_digest(path: Path) -> bytes:
    """Of nothing where there is no file; a pipe or a device, which may never end, is none."""
    try:
        if path.is_file():
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").digest()
    except (FileNotFoundError, PermissionError):
        pass
    return b""


def _begin() -> None:
    """In a worker: leave interrupts to the parent, and end when the parent ends, even by SIGKILL."""
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow(sentinel: int) -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=follow, args=(parent.sentinel,), daemon=True).start()
