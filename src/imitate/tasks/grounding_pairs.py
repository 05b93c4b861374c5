"""Which maps of which texts are compared with which marks: the pairs of an image and a text, and their controls."""

from collections.abc import Callable, Container
from typing import NamedTuple

import numpy as np

from imitate.data.corpus import Corpus
from imitate.data.marks import Mark, marks

BITS = 63
NONE = -1  # where a pair has no control


class Key(NamedTuple):
    """What a text is: a phrase, or a class, which its prompts express."""

    text: str
    is_phrase: bool


class Pair(NamedTuple):
    """A text and all that is marked for it on an image."""

    row: int  # of the corpus
    key: Key
    label: str
    patient: str
    marks: int  # which of the image's marks, as bits


class Pairs(NamedTuple):
    """In the order of their images. ``masks`` (pairs, size, size) are the marked pixels."""

    pairs: list[Pair]
    masks: np.ndarray

    def having(self, keys: Container[Key]) -> "Pairs":
        """Those of these texts."""
        kept = [place for place, pair in enumerate(self.pairs) if pair.key in keys]
        return Pairs([self.pairs[place] for place in kept], self.masks[kept])

    @property
    def labels(self) -> np.ndarray:
        return np.array([pair.label for pair in self.pairs])

    @property
    def patients(self) -> np.ndarray:
        return np.array([pair.patient for pair in self.pairs])

    @property
    def rows(self) -> np.ndarray:
        return np.array([pair.row for pair in self.pairs])


def find_pairs(data: Corpus, rows: np.ndarray, key_of: Callable[[Mark], Key | None]) -> Pairs:
    """Of these images; the marks of one key are one, and those of none are excluded."""
    patients = data.table["patient"].to_numpy(dtype=str)
    found, masks = [], []
    for row in rows.tolist():
        every, by_key = marks(data, row), dict[Key, list[int]]()
        for number, mark in enumerate(every):
            if (key := key_of(mark)) is not None:
                by_key.setdefault(key, []).append(number)
        for key, same in by_key.items():
            bits = sum(1 << number for number in same if number < BITS)
            found.append(Pair(row, key, every[same[0]].label, str(patients[row]), bits))
            masks.append(np.any([every[number].mask for number in same], axis=0))
    return Pairs(found, np.stack(masks) if masks else np.zeros((0, data.size, data.size), bool))


def other_texts(pairs: Pairs) -> list[Key | None]:
    """For each pair a text of another class, if possible of one that is not marked on this image, drawn at random.

    Where the marks have no classes, any other text.
    """
    by_label: dict[str, list[Key]] = {}
    for pair in pairs.pairs:
        keys = by_label.setdefault(pair.label, [])
        if pair.key not in keys:
            keys.append(pair.key)
    here: dict[int, set[str]] = {}
    for pair in pairs.pairs:
        here.setdefault(pair.row, set()).add(pair.label)
    random = np.random.default_rng(0)
    found: list[Key | None] = []
    for pair in pairs.pairs:
        absent = [label for label in by_label if label not in here[pair.row]]
        labels = absent or [label for label in by_label if label != pair.label] or [*by_label]
        keys = [key for key in by_label[labels[random.integers(len(labels))]] if key != pair.key]
        found.append(keys[random.integers(len(keys))] if keys else None)
    return found


def other_images(pairs: Pairs) -> list[int]:
    """For each pair the image of another patient, drawn at random; if possible one with the same class marked.

    NONE where there is no other patient.
    """
    labels, patients, rows = pairs.labels, pairs.patients, pairs.rows
    random = np.random.default_rng(0)
    found = []
    for label, patient in zip(labels, patients, strict=True):
        elsewhere = patients != patient
        same = np.unique(rows[elsewhere & (labels == label)])
        others = same if len(same) else np.unique(rows[elsewhere])
        found.append(int(random.choice(others)) if len(others) else NONE)
    return found


def padded(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(images, most pairs of an image, ...): the values of each image's pairs; NaN, 0 or "" where it has fewer."""
    images, place = np.unique(rows, return_inverse=True)
    within = np.arange(len(rows)) - np.searchsorted(rows, images)[place]
    whole = np.zeros((len(images), within.max() + 1, *values.shape[1:]), dtype=values.dtype)
    if values.dtype.kind == "f":
        whole[:] = np.nan
    whole[place, within] = values
    return whole
