"""A raw tree, as ``imitate prepare`` would read it."""

import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from imitate.data.prepared import Dropped, Record
from imitate.data.tables import MISSING
from imitate.doctor.checks import Census, Finding, counts, examine_labels, examine_splits
from imitate.errors import UserError
from imitate.names import SourceName
from imitate.sources import SourceOptions, dataset

SAMPLE = 16  # images to decode
SHOWN = 4  # counts that differ


def examine_raw(path: Path, source: SourceName) -> Iterator[Finding]:
    """Tables, missing files, counts, splits, labels; a few images are decoded."""
    origin = dataset(source)
    records: list[Record] = []
    dropped: Counter[str] = Counter()
    try:
        for record in origin.records(SourceOptions(raw=path)):
            if isinstance(record, Dropped):
                dropped[record.reason] += 1
            else:
                records.append(record)
    except UserError as error:
        yield Finding("broken", "tables", str(error))
        return
    yield Finding("ok" if records else "broken", "records", f"{len(records):,} usable, {dropped.total():,} left out")
    for reason, count in dropped.most_common():
        yield Finding("warn" if reason == MISSING else "ok", "left out", f"{count:,} x {reason}")
    if not records:
        return
    labels = [[(record.labels or {}).get(name, math.nan) for name in origin.classes] for record in records]
    census = Census(
        splits=[record.split for record in records],
        patients=[record.patient for record in records],
        labels=np.array(labels, np.float32),
        classes=origin.classes,
        boxes=sum(len(record.boxes) for record in records),
    )
    if origin.expectations:
        found = counts(census) + Counter({f"dropped: {reason}": count for reason, count in dropped.items()})
        found["records"] = len(records) + dropped.total()
        yield _compare(found, origin.expectations)
    yield from examine_splits(census, overlap="broken")
    yield from examine_labels(census)
    yield _decode([record.image for record in records])


def _compare(found: Mapping[str, int], expectations: Mapping[str, int]) -> Finding:
    """The published counts are of a copy of the data and of its full size: to differ from them is no fault."""
    differ = [
        f"{what} {found.get(what, 0):,} of {count:,}"
        for what, count in expectations.items()
        if found.get(what, 0) != count
    ]
    if not differ:
        return Finding("ok", "published counts", f"all {len(expectations)} agree")
    more = f", and {len(differ) - SHOWN} more" if len(differ) > SHOWN else ""
    return Finding("warn", "published counts", f"a part, or another version? {', '.join(differ[:SHOWN])}{more}")


def _decode(images: Sequence[Path]) -> Finding:
    from imitate.data.pixels import ImageError, read_gray

    sample = random.Random(0).sample(images, min(SAMPLE, len(images)))
    reasons: Counter[str] = Counter()
    sides: list[int] = []
    for path in sample:
        try:
            sides += read_gray(path).shape
        except ImageError as error:
            reasons[error.reason] += 1
    if not reasons:
        return Finding("ok", "images", f"{len(sample)} decoded, sides of {min(sides)} to {max(sides)} px")
    told = ", ".join(f"{count} x {reason}" for reason, count in reasons.most_common())
    return Finding(
        "warn" if sides else "broken", "images", f"{reasons.total()} of {len(sample)} cannot be decoded: {told}"
    )
