"""What a check is, and the checks that a raw tree and a prepared folder share."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

State = Literal["ok", "warn", "broken"]


class Check(NamedTuple):
    state: State
    what: str
    found: str


class Census(NamedTuple):
    """One entry an image."""

    splits: Sequence[str]
    patients: Sequence[str]
    labels: np.ndarray  # (images, classes), NaN where unknown
    classes: Sequence[str]
    boxes: int  # of all images


def counts(census: Census) -> Counter[str]:
    """Under the names of a source's ``expected``: images, patients, boxes, <class>, each also "in <split>"."""
    found = Counter({"images": len(census.splits), "patients": len(set(census.patients)), "boxes": census.boxes})
    splits = np.array(census.splits)
    for split in set(census.splits):
        found[f"images in {split}"] = int((splits == split).sum())
    for name, values in zip(census.classes, census.labels.T, strict=True):
        found[name] = int((values == 1).sum())
        for split in set(census.splits):
            found[f"{name} in {split}"] = int((values[splits == split] == 1).sum())
    return found


def examine_splits(census: Census, *, overlap: State) -> Iterator[Check]:
    """``overlap`` is how bad it is that a patient of train or val is in another split too."""
    sizes = Counter(census.splits)
    yield Check("ok", "splits", ", ".join(f"{count:,} {split}" for split, count in sizes.most_common()))
    homes: dict[str, set[str]] = {}
    for split, patient in zip(census.splits, census.patients, strict=True):
        homes.setdefault(patient, set()).add(split)
    shared = sum(len(splits) > 1 and bool(splits & {"train", "val"}) for splits in homes.values())
    found = f"{shared:,} of {len(homes):,} are in train or val and in another split"
    yield Check(overlap if shared else "ok", "patients", found)


def examine_ids(named: str) -> Iterator[Check]:
    """``named`` is what the patient ids of a source really name: patients, studies or images."""
    if named != "patients":
        found = f"name {named}, not patients: a patient may have several, in more than one split"
        yield Check("warn", "patient ids", found)


def examine_notes(notes: Mapping[str, int], *, of: str = "") -> Iterator[Check]:
    """What is odd about the images; ``of`` says of how many, where it is not all of them."""
    if any(notes.values()):
        yield Check("warn", "notes", listed(notes) + of)


def listed(counted: Mapping[str, int]) -> str:
    """The most frequent first."""
    return ", ".join(f"{count:,} x {what}" for what, count in sorted(counted.items(), key=lambda item: -item[1]))


def examine_labels(census: Census) -> Iterator[Check]:
    if not census.classes:
        return
    values = census.labels
    if strange := int(((values < 0) | (values > 1)).sum()):
        yield Check("broken", "labels", f"{strange} values are neither unknown nor from 0 to 1")
    if fractions := int(((values > 0) & (values < 1)).sum()):
        yield Check("warn", "labels", f"{fractions:,} values lie between 0 and 1, as fractions of several readers do")
    known = (~np.isnan(values)).sum(axis=0)
    positive = (values == 1).sum(axis=0)
    prevalence = {name: yes / of for name, yes, of in zip(census.classes, positive, known, strict=True) if of}
    single = [name for name, value in prevalence.items() if value in (0, 1)]
    if single:
        yield Check("warn", "labels", f"positive in no image or in all images: {', '.join(single)}")
    yield Check("ok", "prevalence", ", ".join(f"{name} {value:.1%}" for name, value in prevalence.items()))
