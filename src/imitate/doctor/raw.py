"""A raw tree, as ``imitate prepare`` would read it."""

import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from imitate.config import validate
from imitate.data.annotations import Box
from imitate.data.records import Excluded, Record
from imitate.data.sections import NO_HEADER
from imitate.data.tables import MISSING
from imitate.doctor.checks import (
    Census,
    Check,
    counts,
    examine_ids,
    examine_labels,
    examine_notes,
    examine_splits,
    listed,
)
from imitate.errors import UserError
from imitate.sources import BUILT_IN, Traits, find_source, source_names

SAMPLE = 16  # images to decode
SHOWN = 4  # counts that differ


def recognise(path: Path) -> str | None:
    """The source whose signs the tree has; None where there is none, UserError where it may be one of several."""
    built_in = [name for name in BUILT_IN if _matches(path, name)]
    installed = [name for name in source_names() if name not in BUILT_IN and _matches(path, name)]
    found = [*built_in[:1], *installed]
    if len(found) > 1:
        raise UserError(f"{path} may be of {' or '.join(found)}: choose its --source")
    return found[0] if found else None


def examine_raw(path: Path, source: str, options: Mapping[str, Any] | None = None) -> Iterator[Check]:
    """Tables, missing files, counts, splits, labels; a few images are decoded.

    ``options`` are those of the source, without ``raw``. Counts are of the projections that are selected by default.
    """
    origin = find_source(source)
    chosen = validate(origin.Options, {**(options or {}), "raw": path}, where=source)
    records: list[Record] = []
    excluded: Counter[str] = Counter()
    try:
        for record in origin.records(chosen):
            if isinstance(record, Excluded):
                excluded[record.reason] += 1
            else:
                records.append(record)
    except UserError as error:
        yield Check("broken", "tables", str(error))
        return
    yield Check("ok" if records else "broken", "records", f"{len(records):,} usable, {excluded.total():,} excluded")
    for reason, count in excluded.most_common():
        yield Check("warn" if reason in (MISSING, NO_HEADER) else "ok", "excluded", f"{count:,} x {reason}")
    if not records:
        return
    traits, mode = origin.traits_of(chosen), getattr(chosen, "mode", "clean")
    yield _examine_projections(records, traits)
    yield from examine_notes(Counter(note for record in records for note in record.notes))
    census = _census(records, traits, origin.classes_of(chosen))
    expected = origin.expected_of(chosen)
    if expected and mode == "clean":
        found = counts(census) + Counter(
            f"{record.projection} images in {record.split}" for record in records if not _selected(record, traits)
        )
        found["records"] = len(records) + excluded.total()
        yield _compare(found, expected)
    yield from examine_splits(census, overlap="broken" if mode == "clean" else "warn")
    yield from examine_ids(traits.patients)
    yield from examine_labels(census)
    yield from _decode(records)


def _matches(path: Path, name: str) -> bool:
    return any(all(any(path.glob(sign)) for sign in signs) for signs in find_source(name).signs)


def _selected(record: Record, traits: Traits) -> bool:
    return traits.projections is None or record.projection in traits.projections


def _census(records: Sequence[Record], traits: Traits, classes: tuple[str, ...]) -> Census:
    chosen = [record for record in records if _selected(record, traits)]
    labels = [[(record.labels or {}).get(name, math.nan) for name in classes] for record in chosen]
    return Census(
        splits=[record.split for record in chosen],
        patients=[record.patient for record in chosen],
        labels=np.array(labels, np.float32).reshape(len(chosen), len(classes)),
        classes=classes,
        boxes=sum(isinstance(annotation, Box) for record in chosen for annotation in record.annotations),
    )


def _examine_projections(records: Sequence[Record], traits: Traits) -> Check:
    sizes = Counter(record.projection or "unknown" for record in records)
    listed = ", ".join(f"{count:,} {name}" for name, count in sizes.most_common())
    if traits.projections is None:
        return Check("ok", "projections", f"{listed}; all are selected by default")
    some = any(_selected(record, traits) for record in records)
    default = ", ".join(name or "unknown" for name in traits.projections)
    return Check("ok" if some else "broken", "projections", f"{listed}; selected by default: {default}")


def _compare(found: Mapping[str, int], expected: Mapping[str, int]) -> Check:
    """The published counts are of a copy of the data and of its full size: to differ from them is no fault."""
    differ = [
        f"{what} {found.get(what, 0):,} of {count:,}" for what, count in expected.items() if found.get(what, 0) != count
    ]
    if not differ:
        return Check("ok", "published counts", f"all {len(expected)} agree")
    more = f", and {len(differ) - SHOWN} more" if len(differ) > SHOWN else ""
    said = f"part of the archive, or a different version or options? {', '.join(differ[:SHOWN])}{more}"
    return Check("warn", "published counts", said)


def _decode(records: Sequence[Record]) -> Iterator[Check]:
    """A sample, as ``imitate prepare`` decodes it."""
    from imitate.data.decoding import Decoder
    from imitate.data.dicom import ImageError
    from imitate.data.jobs import Job, Setup
    from imitate.data.pixels import to_prepared
    from imitate.data.tone import is_flat, tone_of

    sample = random.Random(0).sample(records, min(SAMPLE, len(records)))
    decoder = Decoder(Setup(256, "stretch", masks=False))
    reasons, noted = Counter[str](), Counter[str]()
    sides: list[int] = []
    squares = []
    for record in sample:
        try:
            gray, notes = decoder.read(Job.of(record))
        except ImageError as error:
            reasons[error.reason] += 1
        else:
            sides += gray.shape
            noted.update(notes)
            with suppress(ImageError):  # black or constant
                squares.append(to_prepared(gray, 256)[0])
    if reasons:
        found = f"{reasons.total()} of {len(sample)} cannot be decoded: {listed(reasons)}"
        yield Check("warn" if sides else "broken", "images", found)
    else:
        yield Check("ok", "images", f"{len(sample)} decoded, sides of {min(sides)} to {max(sides)} px")
    flat = sum(map(is_flat, squares))
    yield Check("ok", "tone", f"{tone_of(squares)}: {flat} of {len(squares)} have an equalised histogram")
    yield from examine_notes(noted, of=f" of {len(sample)} decoded images")
