"""What changed between the records of a manifest and those that the same source yields now; in bounded memory.

A record is known by 16-byte digests of its id and of its fields: 32 bytes a record.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from imitate.data.manifest import SCHEMA, Layout, Manifests, batches, excluded_row
from imitate.data.records import Excluded, Record

RECENT = 2**16  # ids that are held as Python objects
SHOWN = 5  # ids in a message
DUPLICATE, UNSELECTED = "duplicate image id", "projection not selected"


class Seen:
    """A set of texts that only grows, in 16 bytes each."""

    def __init__(self) -> None:
        self._recent: set[bytes] = set()
        self._blocks: list[np.ndarray] = []  # sorted, each less than half as long as the one before

    def __len__(self) -> int:
        return len(self._recent) + sum(map(len, self._blocks))

    def add(self, texts: Sequence[str]) -> list[bool]:
        """Which of them are new; of two that are equal, the first."""
        keys = _digests(texts)
        known = np.zeros(len(keys), bool)
        for block in self._blocks:
            known |= _find(block, keys)[1]
        new = []
        for key, old in zip(keys.tolist(), known, strict=True):
            new.append(not old and key not in self._recent)
            if new[-1]:
                self._recent.add(key)
        if len(self._recent) >= RECENT:
            self._blocks.append(np.sort(np.array(list(self._recent), "S16")))
            self._recent = set()
            while len(self._blocks) > 1 and 2 * len(self._blocks[-1]) > len(self._blocks[-2]):
                self._blocks[-2:] = [np.sort(np.concatenate(self._blocks[-2:]))]
        return new


def manifest_rows(
    records: Iterable[Record | Excluded], layout: Layout, projections: tuple[str, ...] | None
) -> Iterator[dict[str, Any]]:
    """Rows of a manifest; of two records with one image_id, as stored, the second is excluded."""
    seen = Seen()
    for batch in batches(records, 1024):
        rows = [excluded_row(each) if isinstance(each, Excluded) else layout.to_row(each) for each in batch]
        usable = [place for place, row in enumerate(rows) if row["excluded"] is None]
        for place, new in zip(usable, seen.add([rows[place]["image_id"] for place in usable]), strict=True):
            image_id, projection = rows[place]["image_id"], rows[place]["projection"]
            if not new:
                rows[place] = excluded_row(Excluded(image_id, DUPLICATE))
            elif projections is not None and not _selected(projection, projections):
                rows[place] = excluded_row(Excluded(image_id, UNSELECTED))
        yield from rows


class Changes(NamedTuple):
    changed: np.ndarray  # positions among the usable records of the new manifest
    vanished: np.ndarray  # positions among those of the old ones
    added: np.ndarray  # (usable records of the new manifest,) bool
    added_excluded: np.ndarray  # (excluded records of the new manifest,) bool

    @classmethod
    def between(cls, old: Manifests, new: Manifests) -> "Changes":
        before, after = _Contents.read(old), _Contents.read(new)
        order = np.argsort(before.ids)
        place, known = _find(before.ids[order], after.ids)
        changed = known.copy()
        changed[known] = before.rows[order][place[known]] != after.rows[known]
        _, kept = _find(np.sort(after.ids), before.ids)
        _, listed = _find(np.sort(before.excluded), after.excluded)
        return cls(np.flatnonzero(changed), np.flatnonzero(~kept), ~known, ~listed)


def image_ids(manifests: Manifests, positions: np.ndarray) -> list[str]:
    """The ids of the first few of these usable records."""
    wanted, found, position = set(positions[:SHOWN].tolist()), [], 0
    for shard in range(manifests.shards):
        for row in manifests.rows(shard, columns=["image_id", "excluded"]):
            if row["excluded"] is None:
                if position in wanted:
                    found.append(row["image_id"])
                position += 1
        if len(found) == len(wanted):
            break
    return found


def added_rows(new: Manifests, changes: Changes) -> Iterator[dict[str, Any]]:
    """What ``new`` holds beyond the old manifests."""
    usable, excluded = iter(changes.added), iter(changes.added_excluded)
    for shard in range(new.shards):
        for row in new.rows(shard):
            if next(usable if row["excluded"] is None else excluded):
                yield {name: row[name] for name in SCHEMA.names[:-1]}


class _Contents(NamedTuple):
    ids: np.ndarray  # of the usable records
    rows: np.ndarray  # their digests
    excluded: np.ndarray  # digests of the excluded records

    @classmethod
    def read(cls, manifests: Manifests) -> "_Contents":
        parts: tuple[list[np.ndarray], ...] = ([np.empty(0, "S16")], [np.empty(0, "S16")], [np.empty(0, "S16")])
        for shard in range(manifests.shards):
            rows = manifests.rows(shard, columns=["image_id", "excluded", "digest"])
            usable = [row for row in rows if row["excluded"] is None]
            parts[0].append(_digests([row["image_id"] for row in usable]))
            parts[1].append(np.array([row["digest"] for row in usable], "S16"))
            parts[2].append(np.array([row["digest"] for row in rows if row["excluded"] is not None], "S16"))
        return cls(*map(np.concatenate, parts))


def _digests(texts: Sequence[str]) -> np.ndarray:
    return np.array([hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts], "S16")


def _find(block: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each key stands in a sorted block, and whether it does."""
    if not len(block):
        return np.zeros(len(keys), int), np.zeros(len(keys), bool)
    place = np.minimum(np.searchsorted(block, keys), len(block) - 1)
    return place, block[place] == keys


def _selected(projection: str, projections: tuple[str, ...]) -> bool:
    """FRONTAL is PA or AP."""
    return projection in projections or (projection == "FRONTAL" and {"PA", "AP"} <= set(projections))
