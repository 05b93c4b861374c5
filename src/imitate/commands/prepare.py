"""``imitate prepare``: raw archives to prepared folders."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from imitate.config import validate
from imitate.data.manifest import Excluded, Record
from imitate.data.shards import Settings
from imitate.data.writer import Archive, Engine, write_folder
from imitate.errors import UserError
from imitate.names import Fit, SourceName
from imitate.sources import SourceOptions, dataset

DEFAULTS = SourceOptions()


def prepare(
    source: SourceName,
    /,
    *,
    out: Path,
    size: int = 256,
    fit: Fit = "squash",
    workers: int | None = None,
    archive: SourceOptions = DEFAULTS,
) -> dict[str, Any] | None:
    """Turn a raw archive into a prepared folder; the same command again goes on after an interruption.

    Args:
        source: What the archive is.
        out: The prepared folder to write.
        size: Side of the prepared images, in pixels.
        fit: squash gives up the aspect ratio, pad keeps it and fills up with black.
        workers: Processes that decode; by default one a core, fewer for a small archive, where they do not pay.
        archive: Where the raw archive lies and how to read it.
    """
    if source == "synthetic" and archive.raw == Path():
        with TemporaryDirectory() as raw:
            drawn = archive.model_copy(update={"raw": Path(raw)})
            return prepare(source, out=out, size=size, fit=fit, workers=workers, archive=drawn)
    if archive.raw == Path():
        raise UserError(f"--raw is missing: say where the archive of {source} lies (the current folder: --raw $PWD)")
    chosen = dataset(source)
    resize = {"squash": "stretch", "pad": "letterbox"}[fit]
    values = {"source": source, "size": size, "resize": resize, "mode": archive.mode}
    more = {"classes": chosen.classes or archive.columns.labels, "options": _told(source, archive)}
    settings = validate(Settings, {**values, **more}, where=source)
    records = cast(Iterator[Record | Excluded], chosen.records(archive))
    return write_folder(records, out, settings, archive=Archive(archive.raw), engine=Engine(workers=workers))


def _told(source: SourceName, archive: SourceOptions) -> dict[str, Any]:
    """The options that this source heeds."""
    if source == "synthetic":
        return {"n": archive.n, "seed": archive.seed}
    told = archive.model_dump(mode="json", exclude={"mode", "n", "seed"}, exclude_defaults=True)
    return told | {"raw": str(archive.raw.resolve())}
