"""What several prepared folders are together: one table, one description."""

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from imitate.errors import UserError
from imitate.names import SECTIONS

if TYPE_CHECKING:
    from imitate.data.corpus import Corpus

log = logging.getLogger(__name__)
HEAVY = (*SECTIONS, "labels", "boxes")


def require_alike(parts: "Sequence[Corpus]") -> None:
    """UserError: two of one name, or of unlike size or resize rule. Unlike tones are warned of."""
    if twice := [name for name, count in Counter(part.name for part in parts).items() if count > 1]:
        raise UserError(f"two folders are named {twice[0]}: rename one, since its name distinguishes their patients")
    first = parts[0]
    for part in parts[1:]:
        for key in ("size", "resize", "percentiles"):
            if part.meta.get(key) != first.meta.get(key):
                raise UserError(
                    f"{first.root} has {key} {first.meta.get(key)}, {part.root} has {part.meta.get(key)}: "
                    f"prepare one of them again with the other's --{key}"
                )
    tones = {str(part.meta.get("tone", "unknown")) for part in parts}
    if len(tones) > 1:
        log.warning("the folders differ in tone (%s): a model may learn to distinguish them", ", ".join(sorted(tones)))


def require_projections(every: "Sequence[Corpus]", projections: Sequence[str]) -> None:
    """UserError: no image is of one of them."""
    counts: Counter[Any] = Counter()
    for corpus in every:
        counts.update(corpus.table["projection"].value_counts().to_dict())
    if absent := [name for name in projections if not counts[name]]:
        held = ", ".join(f"{count} {name or '(unknown)'}" for name, count in sorted(counts.items())) or "none"
        where = ", ".join(str(corpus.root) for corpus in every)
        raise UserError(f"{where}: no image of projection {absent[0]!r}; there are {held}: choose other projections")


def merged_table(parts: "Sequence[Corpus]") -> pd.DataFrame:
    """The rows one after the other; patients and studies, and image ids where two are the same, become NAME/ID."""
    light = []
    for part in parts:
        written = {f"has_{section}": part.written(section) for section in SECTIONS}
        light.append(part.table.drop(columns=list(HEAVY), errors="ignore").assign(**written))
    table = pd.concat(light, ignore_index=True)
    names = np.repeat(np.array([part.name for part in parts], dtype=object), [len(part) for part in parts])
    ids = ["patient", "study"] + (["image_id"] if table["image_id"].duplicated().any() else [])
    prefixed = {name: (names + "/" + table[name].to_numpy(dtype=object)) for name in ids}
    frame = table.assign(**prefixed, corpus=pd.Categorical(names))
    return frame.astype({name: table[name].dtype for name in ids})


def merged_meta(parts: "Sequence[Corpus]") -> dict[str, Any]:
    """What they agree on; counts are summed."""
    metas = [part.meta for part in parts]
    meta = {key: value for key, value in metas[0].items() if all(each.get(key) == value for each in metas)}
    traits = {
        key: value
        for key, value in parts[0].traits.items()
        if all(key in part.traits and part.traits[key] == value for part in parts)
    }
    splits: Counter[Any] = Counter()
    for part in parts:
        splits.update(part.table["split"].value_counts().to_dict())
    described = "\n".join(f"{part.name} {part.fingerprint}" for part in parts)
    return {
        **meta,
        "source": "+".join(str(each.get("source", "unknown")) for each in metas),
        "classes": list(dict.fromkeys(name for part in parts for name in part.classes)),
        "images": sum(map(len, parts)),
        "patients": sum(part.table["patient"].nunique() for part in parts),
        "splits": dict(splits),
        "traits": traits,
        "fingerprint": hashlib.sha256(described.encode()).hexdigest(),
        "parts": [{**each, "name": part.name} for each, part in zip(metas, parts, strict=True)],
    }
