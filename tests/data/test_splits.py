from collections import Counter

import numpy as np
import pytest

from imitate.data.splits import draw_patients, patient_folds, published_three, published_two, require_splits
from imitate.errors import UserError


def test_a_draw_holds_whole_patients_whatever_the_order_of_the_rows() -> None:
    patients = [f"p{i % 37}" for i in range(300)]
    drawn = draw_patients(patients, images=60)
    assert 60 <= drawn.sum() <= 60 + 9
    taken = {patient for patient, one in zip(patients, drawn, strict=True) if one}
    assert not taken & {patient for patient, one in zip(patients, drawn, strict=True) if not one}
    np.testing.assert_array_equal(draw_patients(patients[::-1], images=60), drawn[::-1])
    assert (draw_patients(patients, images=60, seed=1) != drawn).any()


def test_folds_hold_whole_patients_equally_many_whatever_the_order_of_the_rows() -> None:
    patients = [f"p{i * i % 37}" for i in range(300)]
    fold = patient_folds(patients, 4)
    owners = {patient: set(fold[[one == patient for one in patients]].tolist()) for patient in patients}
    assert all(len(each) == 1 for each in owners.values())
    held = Counter(each.pop() for each in owners.values())
    assert set(held) == {0, 1, 2, 3} and max(held.values()) - min(held.values()) <= 1
    np.testing.assert_array_equal(patient_folds(patients[::-1], 4), fold[::-1])
    for count in (1, 20):
        with pytest.raises(UserError, match=f"{count} folds of 19 patients"):
            patient_folds(patients, count)


def test_a_draw_leaves_a_patient() -> None:
    assert draw_patients(["a", "a", "b"], images=100).sum() in (1, 2)


def test_the_published_draws_have_the_published_sizes() -> None:
    assert Counter(published_three(26_684, held_out=10_674)) == {"train": 16_010, "val": 5_337, "test": 5_337}
    assert Counter(published_three(12_954, held_out=3_887)) == {"train": 9_067, "val": 1_944, "test": 1_943}
    assert Counter(published_two(30_130, train=0.8)) == {"train": 24_104, "val": 6_026}
    assert Counter(published_two(29_634, train=0.8)) == {"train": 23_707, "val": 5_927}


def test_the_published_draw_is_pinned() -> None:
    """The two steps from their definition: RandomState(0) permutes, the held-out part comes first; then again."""
    first = np.random.RandomState(0).permutation(20)
    rest = first[:8]
    second = np.random.RandomState(0).permutation(8)
    names = published_three(20, held_out=8)
    assert set(np.flatnonzero(names == "train")) == set(first[8:])
    assert set(np.flatnonzero(names == "val")) == set(rest[second[:4]])
    assert set(np.flatnonzero(names == "test")) == set(rest[second[4:]])


def test_too_few_images_are_a_mistake_of_the_user() -> None:
    assert Counter(published_three(3, held_out=0)) == {"train": 1, "val": 1, "test": 1}
    with pytest.raises(UserError, match="2 images are too few"):
        published_three(2, held_out=1)
    with pytest.raises(UserError, match="1 images are too few"):
        published_two(1, train=0.8)


def test_an_empty_split_is_named() -> None:
    require_splits(["train", "val", "test", "5x200"], where="tree")
    with pytest.raises(UserError, match=r"tree: split 'val' is empty \(2 train, 1 test\)"):
        require_splits(["train", "train", "test"], where="tree")
