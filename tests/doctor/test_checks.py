import numpy as np
import pytest

from imitate.doctor.checks import Census, counts, examine_labels, examine_splits

NAN = float("nan")
CENSUS = Census(
    splits=["train", "train", "val", "test"],
    patients=["a", "b", "b", "c"],
    labels=np.array([[1, 0], [0, NAN], [1, 0], [1, 0]], np.float32),
    classes=["Edema", "Hernia"],
    boxes=5,
)


def test_counts_go_by_the_names_of_what_is_expected() -> None:
    found = counts(CENSUS)
    assert (found["images"], found["patients"], found["boxes"]) == (4, 3, 5)
    assert (found["images in train"], found["images in val"], found["images in nowhere"]) == (2, 1, 0)
    assert (found["Edema"], found["Edema in train"], found["Hernia"]) == (3, 1, 0)


@pytest.mark.parametrize("overlap", ["warn", "broken"])
def test_a_patient_of_train_or_val_must_not_stand_elsewhere(overlap: str) -> None:
    sizes, patients = examine_splits(CENSUS, overlap=overlap)
    assert sizes.found == "2 train, 1 val, 1 test"
    assert (patients.state, patients.found) == (overlap, "1 of 3 are in train or val and in another split")


def test_extra_sets_may_share_patients_with_the_test_split_alone() -> None:
    sets = CENSUS._replace(patients=["a", "b", "c", "c"], splits=["train", "val", "5x200", "test"])
    assert list(examine_splits(sets, overlap="broken"))[1].state == "ok"
    assert (
        list(examine_splits(sets._replace(splits=["train", "val", "5x200", "train"]), overlap="broken"))[1].state
        == "broken"
    )


def test_labels_that_cannot_be_measured_are_named() -> None:
    single, prevalence = examine_labels(CENSUS)
    assert (single.state, single.found) == ("warn", "positive in no image or in all images: Hernia")
    assert prevalence.found == "Edema 75.0%, Hernia 0.0%"  # of the images where it is known
    unknown = CENSUS._replace(labels=np.array([[1, NAN], [0, NAN], [1, NAN], [1, NAN]], np.float32))
    assert [finding.found for finding in examine_labels(unknown)] == ["Edema 75.0%"]
    strange = next(examine_labels(CENSUS._replace(labels=CENSUS.labels - 2)))
    assert (strange.state, strange.found) == ("broken", "7 values are neither unknown nor from 0 to 1")
    fractions = next(examine_labels(CENSUS._replace(labels=CENSUS.labels / 3)))
    assert (fractions.state, fractions.found[:29]) == ("warn", "3 values lie between 0 and 1,")
    assert list(examine_labels(CENSUS._replace(classes=[], labels=np.empty((4, 0), np.float32)))) == []
