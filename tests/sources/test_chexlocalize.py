import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imitate.data.annotations import RunLengths, runs_mask
from imitate.data.coco import pack_counts
from imitate.data.records import Excluded, Record
from imitate.errors import UserError
from imitate.names import CHEXPERT
from imitate.sources.chexlocalize import DRAWN, SOURCE

SIZE = [6, 5]  # height, width
EMPTY = {"size": SIZE, "counts": pack_counts([30])}
SQUARE = {"size": SIZE, "counts": "7330:N"}


def row(path: str, *positive: str, about: str = "") -> str:
    return ",".join([path, *filter(None, [about]), *(str(float(name in positive)) for name in CHEXPERT)])


def tree(root: Path, **masks: Any) -> Path:
    """Three images of val and one of test; ``masks`` in place of those of the first."""
    names = ",".join(CHEXPERT)
    first = "patient64541/study1/view1_frontal.jpg"
    val = [
        row(f"CheXpert-v1.0/valid/{first}", "Lung Opacity", about="Female,68,Frontal,AP"),
        row("CheXpert-v1.0/valid/patient64541/study1/view2_lateral.jpg", about="Female,68,Lateral,"),
        row("CheXpert-v1.0/valid/patient64542/study1/view1_frontal.jpg", "Edema", about="Male,0,Frontal,PA"),
    ]
    test = [row("test/patient64741/study1/view1_frontal.jpg", "Support Devices")]
    (root / "CheXpert").mkdir()
    (root / "CheXlocalize").mkdir()
    header = f"Path,Sex,Age,Frontal/Lateral,AP/PA,{names}"
    (root / "CheXpert/val_labels.csv").write_text("\n".join([header, *val]) + "\n")
    (root / "CheXpert/test_labels.csv").write_text("\n".join([f"Path,{names}", *test]) + "\n")
    drawn = dict.fromkeys(DRAWN, EMPTY) | {"Airspace Opacity": SQUARE} | masks
    save(root, "val", {"patient64541_study1_view1_frontal": drawn})
    save(root, "test", {"patient64741_study1_view1_frontal": {"Support Devices": SQUARE}})
    for path in (first, first.replace("view1_frontal", "view2_lateral"), first.replace("64541", "64542")):
        (root / "CheXpert/val" / path).parent.mkdir(parents=True, exist_ok=True)
        (root / "CheXpert/val" / path).touch()
    (root / "CheXpert/test/patient64741/study1").mkdir(parents=True)
    (root / "CheXpert/test/patient64741/study1/view1_frontal.jpg").touch()
    return root


def save(root: Path, part: str, values: object) -> None:
    (root / f"CheXlocalize/gt_segmentations_{part}.json").write_text(json.dumps(values))


def found(root: Path, **options: Any) -> dict[str, Record]:
    every = SOURCE.records(SOURCE.Options(raw=root, **options))
    return {each.image_id: each for each in every if isinstance(each, Record)}


def test_masks_join_the_labels_of_their_image(tmp_path: Path) -> None:
    records = found(tree(tmp_path))
    first = records["val/patient64541/study1/view1_frontal.jpg"]
    (mask,) = first.annotations
    assert isinstance(mask, RunLengths) and (mask.label, mask.reference_size) == ("Lung Opacity", (5, 6))
    expected = np.zeros((6, 5), bool)
    expected[1:4, 1:3], expected[5, 4] = True, True
    np.testing.assert_array_equal(runs_mask(5, 6, runs=[mask.runs], frame=(5, 6)), expected)
    assert first.labels == {name: float(name == "Lung Opacity") for name in CHEXPERT}
    assert (first.patient, first.sex, first.age, first.projection) == ("patient64541", "F", 68.0, "AP")
    assert [each.projection for each in records.values()] == ["AP", "LATERAL", "PA", "FRONTAL"]
    assert [each.split for each in records.values()] == ["val", "val", "val", "test"]
    assert len({each.study for each in records.values()}) == 3
    test = records["test/patient64741/study1/view1_frontal.jpg"]
    assert test.annotations and (test.sex, test.age) == ("", None)  # the table has neither
    assert all(each.annotated for each in records.values())


def test_a_positive_label_without_a_mask_is_noted(tmp_path: Path) -> None:
    records = found(tree(tmp_path, Edema=SQUARE))
    assert [each.notes for each in records.values()] == [(), (), ("positive without a mask",), ()]
    assert {mask.label for mask in next(iter(records.values())).annotations} == {"Lung Opacity", "Edema"}


def test_images_of_chexpert_itself_lie_under_another_name(tmp_path: Path) -> None:
    (tree(tmp_path) / "CheXpert/val").rename(tmp_path / "CheXpert/valid")
    (tmp_path / "CheXpert/valid").rename(tmp_path / "valid")
    (tmp_path / "CheXpert/test").rename(tmp_path / "test")
    assert len(found(tmp_path, images=tmp_path)) == 4
    with pytest.raises(UserError, match="CheXpert has no val or valid"):
        found(tmp_path)


def test_validation_patients_can_train(tmp_path: Path) -> None:
    records = found(tree(tmp_path), val="train")
    splits = {each.patient: each.split for each in records.values()}
    assert sorted(splits.values()) == ["test", "train", "val"] and splits["patient64741"] == "test"


@pytest.mark.parametrize(
    "mask",
    [
        {"size": [5, 5], "counts": "7330:N"}, {"size": SIZE, "counts": "\x00"}, {"size": SIZE}, "nothing",
        {"size": SIZE, "counts": [3, -3]},
    ],
)  # fmt: skip
def test_an_image_of_a_bad_mask_is_excluded(mask: object, tmp_path: Path) -> None:
    every = list(SOURCE.records(SOURCE.Options(raw=tree(tmp_path, Edema=mask))))
    assert [each for each in every if isinstance(each, Excluded)] == [
        Excluded("val/patient64541/study1/view1_frontal.jpg", "malformed mask")
    ]


def test_run_lengths_may_be_numbers(tmp_path: Path) -> None:
    record = next(iter(found(tree(tmp_path, Edema={"size": SIZE, "counts": [7, 3, 20]})).values()))
    assert [each.runs for each in record.annotations if isinstance(each, RunLengths)][-1] == "7 3"


def test_a_wrong_tree_is_reported_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tree(tmp_path, Effusion=SQUARE)
    with pytest.raises(UserError, match="patient64541_study1_view1_frontal has 'Effusion', which is none of Enlarged"):
        found(tmp_path)
    save(tmp_path, "val", {"patient1_study1_view1_frontal": {}})
    assert len(found(tmp_path)) == 4
    assert "val_labels.csv lacks 1 images that have masks, such as patient1_study1_view1_frontal" in caplog.messages
    (tmp_path / "CheXlocalize/gt_segmentations_val.json").write_text('{"a": {')
    with pytest.raises(UserError, match=r"gt_segmentations_val\.json is not readable JSON"):
        found(tmp_path)
    table = tmp_path / "CheXpert/val_labels.csv"
    text = table.read_text()
    for old, new, said in (
        ("Pneumothorax", "Pneumo", r"val_labels\.csv lacks column 'Pneumothorax'"),
        ("view1_frontal.jpg,Female", "frontal.jpg,Female", "does not end in patientN/studyN/viewN_frontal.jpg"),
        (
            "view2_lateral.jpg",
            "view1_frontal.jpg",
            "lists 1 ids more than once, first 'patient64541_study1_view1_frontal'",
        ),
        (",0.0\n", ",-1.0\n", "column 'Support Devices' holds '-1.0' in 1 rows: expected 0, 1"),
    ):
        table.write_text(text.replace(old, new, 1))
        with pytest.raises(UserError, match=said):
            found(tmp_path)
