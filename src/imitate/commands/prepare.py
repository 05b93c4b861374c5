"""``imitate prepare``: raw archives to prepared folders."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from imitate.config import validate
from imitate.data.chunks import Preparation
from imitate.data.unfinished import META
from imitate.data.writing import write_prepared
from imitate.errors import UserError
from imitate.names import Fit, SourceName
from imitate.sources import SourceOptions, dataset

log = logging.getLogger(__name__)
DEFAULTS = SourceOptions()
SMALL = 250  # images that one process has done by the time that another one is up


def prepare(
    source: SourceName,
    /,
    *,
    out: Path,
    size: int = 256,
    fit: Fit = "squash",
    workers: int | None = None,
    archive: SourceOptions = DEFAULTS,
) -> dict[str, Any]:
    """Turn a raw archive into a prepared folder; the same command again goes on after an interruption.

    Args:
        source: What the archive is.
        out: The prepared folder to write.
        size: Side of the prepared images, in pixels.
        fit: squash gives up the aspect ratio, pad keeps it and fills up with black.
        workers: Processes that decode; by default one a core, fewer for a small archive, where they do not pay.
        archive: Where the raw archive lies and how to read it.
    """
    if workers is not None and workers < 1:
        raise UserError(f"--workers {workers}: give 1 or more, or leave it out")
    if source == "synthetic" and archive.raw == Path():
        with TemporaryDirectory() as raw:
            drawn = archive.model_copy(update={"raw": Path(raw)})
            return prepare(source, out=out, size=size, fit=fit, workers=workers, archive=drawn)
    if archive.raw == Path():
        raise UserError(f"--raw is missing: say where the archive of {source} lies (the current folder: --raw $PWD)")
    chosen = dataset(source)
    settings = {"source": source, "size": size, "fit": fit, "mode": archive.mode}
    more = {"classes": chosen.classes or archive.columns.labels, "options": _told(source, archive)}
    preparation = validate(Preparation, {**settings, **more}, where=source)
    total = archive.n
    if source != "synthetic" and not (out / META).is_file():
        # Read twice: cheap beside decoding, it tells the time left of hours, and a faulty table before them.
        total = sum(1 for _ in chosen.records(archive))
    workers = workers or min(_cores(), 1 + total // SMALL)
    meta = write_prepared(chosen.records(archive), out, preparation, total=total, workers=workers)
    log.info("%s: %d images of %d patients", out, meta["images"], meta["patients"])
    summarise(split=meta["splits"], dropped=meta["dropped"], box_dropped=meta["boxes_dropped"])
    return meta


def _told(source: SourceName, archive: SourceOptions) -> dict[str, Any]:
    """The options that this source heeds."""
    if source == "synthetic":
        return {"n": archive.n, "seed": archive.seed}
    told = archive.model_dump(mode="json", exclude={"mode", "n", "seed"}, exclude_defaults=True)
    return told | {"raw": str(archive.raw.resolve())}


def summarise(**counts: Mapping[str, int]) -> None:
    for what, each in counts.items():
        for name, count in sorted(each.items(), key=lambda item: -item[1]):
            log.info("%9d  %s: %s", count, what.replace("_", " "), name)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
