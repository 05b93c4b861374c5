"""``imitate prepare``: raw archives to prepared folders."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from imitate.commands.source_flags import with_flags
from imitate.config import Config, validate
from imitate.data import prepared as first_edition
from imitate.data.annotations import Box, draw_mask
from imitate.data.chunks import Preparation
from imitate.data.manifest import Excluded, Record
from imitate.data.unfinished import META
from imitate.data.writing import write_prepared
from imitate.errors import UserError
from imitate.names import Fit
from imitate.sources import Traits, find_source

log = logging.getLogger(__name__)
SMALL = 250  # images that one process has done by the time that another one is up


def prepare(
    source: str, /, *, out: Path, size: int = 256, fit: Fit = "squash", workers: int | None = None, **options: Any
) -> dict[str, Any]:
    """Turn a raw archive into a prepared folder; the same command again continues after an interruption.

    Args:
        source: What the archive is.
        out: The prepared folder to write.
        size: Side of the prepared images, in pixels.
        fit: squash gives up the aspect ratio, pad keeps it and fills up with black.
        workers: Processes that decode; by default one a core, fewer for a small archive, where they do not pay.
        options: Those of the source, such as ``raw``, the folder of the archive.
    """
    if workers is not None and workers < 1:
        raise UserError(f"--workers {workers}: give 1 or more, or leave it out")
    chosen = find_source(source)
    if "raw" not in options and chosen.Options.model_fields["raw"].is_required():
        raise UserError(f"--raw is missing: name the folder that holds the archive of {source}")
    settings = validate(chosen.Options, options, where=source)
    traits = chosen.traits_of(settings)
    preparation = validate(
        Preparation,
        {"source": source, "size": size, "fit": fit, "classes": chosen.classes_of(settings)} | _recorded(settings),
        where=source,
    )
    with TemporaryDirectory() as temporary:
        if getattr(settings, "raw", temporary) is None:  # a source that makes its images
            settings = settings.model_copy(update={"raw": Path(temporary)})
        # Read whole before decoding: a faulty table ends a run in its first minutes, and the time left is known.
        records = [] if (out / META).is_file() else list(_first_edition(chosen.records(settings), traits))
        workers = workers or min(_cores(), 1 + len(records) // SMALL)
        meta = write_prepared(iter(records), out, preparation, total=len(records), workers=workers)
    log.info("%s: %d images of %d patients", out, meta["images"], meta["patients"])
    summarise(split=meta["splits"], excluded=meta["dropped"], box_excluded=meta["boxes_dropped"])
    return meta


def command_line(arguments: list[str]) -> Callable[..., Any]:
    """The verb, with the options of the source that the first word names."""
    named = arguments and not arguments[0].startswith("-")
    return with_flags(prepare, arguments[0] if named else None)


def _recorded(settings: Config) -> dict[str, Any]:
    """``mode`` and ``options`` of the folder's settings."""
    values = settings.model_dump(mode="json", exclude={"mode"}, exclude_none=True)
    if "raw" in values:
        values["raw"] = str(Path(values["raw"]).resolve())
    return {"mode": getattr(settings, "mode", "clean"), "options": values}


def _first_edition(
    records: Iterable[Record | Excluded], traits: Traits
) -> Iterator[first_edition.Record | first_edition.Dropped]:
    """As the writer of format 1 takes them, of the projections that are selected by default."""
    for record in records:
        if isinstance(record, Excluded):
            yield first_edition.Dropped(record.source, record.reason)
        elif traits.projections is not None and record.projection not in traits.projections:
            yield first_edition.Dropped(record.image_id, f"projection {record.projection or 'unknown'}")
        else:
            yield first_edition.Record(
                image_id=record.image_id,
                image=record.image,
                patient=record.patient,
                study=record.study,
                split=record.split,
                view=record.projection,
                labels=record.labels,
                findings=record.findings,
                impression=record.impression,
                boxes=tuple(each for each in record.annotations if isinstance(each, Box)),
                mask=partial(draw_mask, record.annotations) if traits.masks else None,
            )


def summarise(**counts: Mapping[str, int]) -> None:
    for what, each in counts.items():
        for name, count in sorted(each.items(), key=lambda item: -item[1]):
            log.info("%9d  %s: %s", count, what.replace("_", " "), name)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
