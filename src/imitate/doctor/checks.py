"""What a check finds, and the checks that a raw tree and a prepared folder share."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

State = Literal["ok", "warn", "broken"]


class Finding(NamedTuple):
    state: State
    what: str
    told: str


class Census(NamedTuple):
    """One entry an image."""

    splits: Sequence[str]
    patients: Sequence[str]
    labels: np.ndarray  # (images, classes), NaN where unknown
    classes: Sequence[str]
    boxes: int  # of all images


def counts(census: Census) -> Counter[str]:
    """Under the names of a source's expectations: images, patients, boxes, <class>, each also "in <split>"."""
    found = Counter({"images": len(census.splits), "patients": len(set(census.patients)), "boxes": census.boxes})
    splits = np.array(census.splits)
    for split in set(census.splits):
        found[f"images in {split}"] = int((splits == split).sum())
    for name, values in zip(census.classes, census.labels.T, strict=True):
        found[name] = int((values == 1).sum())
        for split in set(census.splits):
            found[f"{name} in {split}"] = int((values[splits == split] == 1).sum())
    return found


def examine_splits(census: Census, *, overlap: State) -> Iterator[Finding]:
    """``overlap`` is how bad it is that a patient of train or val stands in another split too."""
    sizes = Counter(census.splits)
    yield Finding("ok", "splits", ", ".join(f"{count:,} {split}" for split, count in sizes.most_common()))
    homes: dict[str, set[str]] = {}
    for split, patient in zip(census.splits, census.patients, strict=True):
        homes.setdefault(patient, set()).add(split)
    shared = sum(len(splits) > 1 and bool(splits & {"train", "val"}) for splits in homes.values())
    told = f"{shared:,} of {len(homes):,} stand in train or val and in another split"
    yield Finding(overlap if shared else "ok", "patients", told)


def examine_labels(census: Census) -> Iterator[Finding]:
    if not census.classes:
        return
    values = census.labels
    strange = int((~np.isin(values, (0, 1)) & ~np.isnan(values)).sum())
    if strange:
        yield Finding("broken", "labels", f"{strange} values are neither 0, 1 nor unknown")
    known = (~np.isnan(values)).sum(axis=0)
    positive = (values == 1).sum(axis=0)
    shares = {name: yes / of for name, yes, of in zip(census.classes, positive, known, strict=True) if of}
    single = [name for name, share in shares.items() if share in (0, 1)]
    if single:
        yield Finding("warn", "labels", f"positive for no image, or for every one: {', '.join(single)}")
    yield Finding("ok", "prevalence", ", ".join(f"{name} {share:.1%}" for name, share in shares.items()))
