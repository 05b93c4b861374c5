"""Which patients and images prepared folders have in common, by 64-bit hashes of patient ids and of prepared pixels.

Ids of two folders are comparable where their sources say so (the trait ``population``), or where both come from the
same tables. A patient id such as chest-xray14:00000013 names its population itself. Pixels are comparable where both
folders were prepared in the same way: of another size or resize rule none are equal.
"""

import hashlib
import json
import logging
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, UInt64

from imitate.data.corpus import Corpus
from imitate.data.files import replacing
from imitate.data.stacked import by_piece
from imitate.data.words import plain_number
from imitate.errors import UserError
from imitate.models import hub
from imitate.names import POPULATIONS

log = logging.getLogger(__name__)
FILE = "trained_on.npz"


class Keys(NamedTuple):
    """Of patients and of images; sorted, each once."""

    patients: UInt64[np.ndarray, " patients"]
    images: UInt64[np.ndarray, " images"]

    def joined(self, other: "Keys") -> "Keys":
        return Keys(*map(np.union1d, self, other))

    def save(self, path: Path) -> None:
        with replacing(path) as part, part.open("wb") as file:
            np.savez(file, **self._asdict())

    @classmethod
    def load(cls, path: Path) -> "Keys":
        try:
            with np.load(path, allow_pickle=False) as file:
                return cls(*(file[name].astype(np.uint64) for name in cls._fields))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} is damaged ({error}): delete it; overlaps are then not checked") from error


NONE = Keys(np.zeros(0, np.uint64), np.zeros(0, np.uint64))


def keys_of(data: Corpus, rows: Int[np.ndarray, " rows"]) -> Keys:
    """Of these rows of one or several folders."""
    found = NONE
    for part, local in _parts(data, rows):
        found = found.joined(Keys(np.unique(patient_keys(part)[local]), np.unique(image_keys(part, local))))
    return found


def shared(data: Corpus, rows: Int[np.ndarray, " rows"], known: Keys) -> dict[str, tuple[int, int]]:
    """How many of the patients and of the images in these rows are known, and how many there are."""
    found = keys_of(data, rows)
    return {
        name: (int(np.isin(there, here, assume_unique=True).sum()), len(there))
        for name, here, there in zip(Keys._fields, known, found, strict=True)
    }


def trained_on(model: str | Path) -> Keys | None:
    """What a run, or a model in a run's folder, was trained on; None of any other model, which does not know it."""
    path = Path(model)
    for folder in (path, hub.run_of(path) or path.parent) if path.exists() else ():  # a word is no path
        if (folder / FILE).is_file():
            return Keys.load(folder / FILE)
    return None


def note_training(run: Path, data: Corpus, rows: Int[np.ndarray, " rows"], *, after: str | None = None) -> None:
    """Write what a run is trained on into its folder, with what the weights that it starts from were trained on."""
    if not (run / FILE).is_file():
        before = trained_on(after) if after else None
        keys_of(data, rows).joined(before or NONE).save(run / FILE)


def without_held_out(data: Corpus, rows: Sequence[Int[np.ndarray, " _"]]) -> list[Int[np.ndarray, " _"]]:
    """Training rows of each folder without those whose patient or image another folder holds out, with a warning."""
    if not data.parts:
        return list(rows)
    ends = np.cumsum([len(part) for part in data.parts])
    held = [keys_of(part, np.flatnonzero(part.table["split"].to_numpy() != "train")) for part in data.parts]
    kept = []
    for number, (part, every) in enumerate(zip(data.parts, rows, strict=True)):
        leaks = np.zeros(len(every), bool)
        for other, keys in enumerate(held):
            if other != number:
                local = every - (ends[number] - len(part))
                leaks |= _known(part, local, keys)
        if leaks.any():
            log.warning(
                "%s: %d of %d training images are excluded: another folder has their patients or the same images "
                "outside its training split",
                part.root,
                leaks.sum(),
                len(every),
            )
        if leaks.all():
            raise UserError(f"{part.root}: every training image is held out by another folder: train without it")
        kept.append(every[~leaks])
    return kept


def _known(part: Corpus, rows: Int[np.ndarray, " rows"], keys: Keys) -> Bool[np.ndarray, " rows"]:
    images = image_keys(part, rows)
    known = np.isin(patient_keys(part)[rows], keys.patients)
    return known | np.isin(images, keys.images) if len(images) else known


def patient_keys(data: Corpus) -> UInt64[np.ndarray, " rows"]:
    """Of each row of one folder."""
    population = str(data.traits.get("population") or _archive(data))
    ids = data.table["patient"].to_numpy()
    names, places = np.unique(ids.astype(str), return_inverse=True)
    return np.array([_hash(_named(name, population)) for name in names.tolist()], np.uint64)[places]


def _named(patient: str, population: str) -> str:
    own, colon, rest = patient.partition(":")
    return f"{own}\0{plain_number(rest)}" if colon and own in POPULATIONS else f"{population}\0{plain_number(patient)}"


def _archive(data: Corpus) -> str:
    """For a source whose ids mean nothing elsewhere: the same tables, or where there are none the same folder."""
    meta = data.columns.folder.meta if data.columns else data.meta
    if not meta.get("inputs"):
        return str(meta["fingerprint"])
    return json.dumps([meta.get(key) for key in ("source", "options", "inputs")], sort_keys=True)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def image_keys(data: Corpus, rows: Int[np.ndarray, " rows"]) -> UInt64[np.ndarray, " keys"]:
    """Of each of these rows of one folder; none where it does not have the digests, as that of an older version."""
    columns = data.columns
    if columns is None or not len(rows) or not columns.folder.shards or not columns.folder.holds(0, "pixels"):
        return np.zeros(0, np.uint64)
    digests = columns.take("pixels", rows).to_pylist()
    return np.frombuffer(b"".join(digest[:8] for digest in digests), "<u8").astype(np.uint64)


def _parts(data: Corpus, rows: Int[np.ndarray, " rows"]) -> list[tuple[Corpus, Int[np.ndarray, " _"]]]:
    if not data.parts:
        return [(data, rows)]
    ends = np.cumsum([len(part) for part in data.parts], dtype=np.int64)
    return [(data.parts[number], local) for number, _, local in by_piece(np.asarray(rows), ends)]
