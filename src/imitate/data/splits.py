"""Who trains and who is tested: draws by patient, and the published draws by image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING

from imitate.data.lazy import np
from imitate.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Bool, Int, Shaped


def draw_patients(patients: Sequence[str], *, images: int, seed: int = 0) -> Bool[np.ndarray, " images"]:
    """Whole patients until they hold ``images`` images or a little more: True for each image of theirs.

    Patients come in the order of a hash of seed and id, whatever the order of the rows. At least one stays undrawn.
    """
    sizes = Counter(patients)
    order = sorted(sizes, key=lambda patient: sha256(f"{seed}/{patient}".encode()).digest())
    drawn: set[str] = set()
    held = 0
    for patient in order[:-1]:
        if held >= images:
            break
        drawn.add(patient)
        held += sizes[patient]
    return np.array([patient in drawn for patient in patients], dtype=bool)


def patient_folds(patients: Sequence[str], count: int, *, seed: int = 0) -> Int[np.ndarray, " images"]:
    """The fold of each image, 0 to ``count`` - 1: whole patients, equally many a fold, in any order of the rows."""
    names, owner = np.unique(patients, return_inverse=True)
    if not 2 <= count <= len(names):
        raise UserError(
            f"{count} folds of {len(names)} patients: give at least 2 folds, and at most as many as patients"
        )
    order = np.argsort([sha256(f"{seed}/{name}".encode()).hexdigest() for name in names])
    fold = np.empty(len(names), dtype=np.int64)
    fold[order] = np.arange(len(names)) % count
    return fold[owner]


def published_three(count: int, *, held_out: int) -> Shaped[np.ndarray, " count"]:
    """``train``, ``val`` or ``test`` by position: hold out with seed 0, then halve with seed 0, test half first."""
    from sklearn.model_selection import train_test_split

    if count < 3:
        raise UserError(f"{count} images are too few for train, val and test: give at least 3")
    train, rest = train_test_split(np.arange(count), test_size=min(max(held_out, 2), count - 1), random_state=0)
    test, _ = train_test_split(rest, test_size=0.5, random_state=0)
    names = np.full(count, "val", dtype="<U5")
    names[train], names[test] = "train", "test"
    return names


def published_two(count: int, *, train: float) -> Shaped[np.ndarray, " count"]:
    """``train`` or ``val`` by position, with seed 0."""
    from sklearn.model_selection import train_test_split

    if count < 2:
        raise UserError(f"{count} images are too few for train and val: give at least 2")
    _, val = train_test_split(np.arange(count), train_size=train, random_state=0)
    names = np.full(count, "train", dtype="<U5")
    names[val] = "val"
    return names


def require_splits(splits: Iterable[str], *, where: object) -> None:
    """UserError where train, val or test is empty."""
    counts = Counter(splits)
    for name in ("train", "val", "test"):
        if not counts[name]:
            held = ", ".join(f"{count} {split}" for split, count in counts.items()) or "nothing"
            raise UserError(f"{where}: split {name!r} is empty ({held}): too few patients, or a list is missing")
