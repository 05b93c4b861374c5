"""Low-data subsets of the patients: stratified, nested, drawn from a seed, stored with a checksum."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from imitate.errors import UserError


def subset(patients: np.ndarray, labels: np.ndarray | None, fraction: float, seed: int) -> list[str]:
    """The patients of a low-data run, sorted: a prefix of one order by seed, so that 1% lies within 10%.

    Patients are stratified by the rarest finding that any of their images (rows) is labelled with; each prefix has
    every stratum's fraction to within one patient. UserError where the fraction holds no patient.
    """
    names, owner = np.unique(patients, return_inverse=True)
    if not 0 < fraction <= 1:
        raise UserError(f"fraction {fraction} is not in (0, 1]: give a fraction of the patients such as 0.01")
    if fraction * len(names) < 1:
        raise UserError(
            f"fraction {fraction} of {len(names)} patients is less than one patient: use at least {1 / len(names):.2g}"
        )
    found = np.zeros((len(names), 0 if labels is None else labels.shape[1]), dtype=bool)
    if labels is not None:
        np.logical_or.at(found, owner, labels > 0)
    commonness = np.where(found, found.sum(0), len(names) + 1)
    rarest = np.column_stack([commonness, np.full(len(names), len(names))]).argmin(1)
    generator = np.random.default_rng(seed)
    place = np.empty(len(names))
    for stratum in np.unique(rarest):
        members = generator.permutation(np.flatnonzero(rarest == stratum))
        place[members] = (np.arange(len(members)) + generator.random()) / len(members)
    return sorted(str(name) for name in names[np.argsort(place)[: round(fraction * len(names))]])


def stored_subset(
    path: Path, patients: np.ndarray, labels: np.ndarray | None, *, fraction: float, seed: int
) -> list[str]:
    """``subset`` as the JSON at ``path`` has it; drawn and written where there is none.

    UserError where the file was changed, or belongs to other patients, another fraction or another seed.
    """
    asked = {"fraction": fraction, "seed": seed, "drawn_from": _checksum(np.unique(patients))}
    if not path.is_file():
        chosen = subset(patients, labels, fraction, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")  # two evaluations may share the folder
        partial.write_text(
            json.dumps({**asked, "sha256": _checksum(chosen), "patients": chosen}, indent=1), encoding="utf-8"
        )
        partial.replace(path)
        return chosen
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        chosen = [str(name) for name in stored["patients"]]
        intact = stored["sha256"] == _checksum(chosen)
    except (ValueError, KeyError, TypeError):
        intact = False
    if not intact:
        raise UserError(f"{path} is damaged, its checksum does not match: restore it, or delete it to create it again")
    for key, value in asked.items():
        if stored.get(key) != value:
            raise UserError(f"{path} was created with {key} {stored.get(key)}, not {value}: use another cache folder")
    return chosen


def _checksum(names: Sequence[str] | np.ndarray) -> str:
    return hashlib.sha256("\n".join(sorted(map(str, names))).encode()).hexdigest()
