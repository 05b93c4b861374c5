import json
from collections import Counter
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from imitate.config import Config
from imitate.data.annotations import Box, draw_mask
from imitate.data.records import Excluded, Record
from imitate.data.splits import published_three
from imitate.errors import UserError
from imitate.sources.rsna import SOURCE


def tree(root: Path, rows: list[str], *, missing: tuple[str, ...] = ()) -> Config:
    (root / "stage_2_train_images").mkdir()
    text = "\n".join(["patientId,x,y,width,height,Target", *rows]) + "\n"
    (root / "stage_2_train_labels.csv").write_text(text)
    for name in {row.split(",")[0] for row in rows} - set(missing):
        (root / "stage_2_train_images" / f"{name}.dcm").touch()
    return SOURCE.Options(raw=root)


def negatives(count: int) -> list[str]:
    return [f"{UUID(int=i * 2**100)},,,,,0" for i in range(count)]


def test_boxes_of_one_image_are_one_record_with_the_union_as_mask(tmp_path: Path) -> None:
    options = tree(tmp_path, ["a,264.0,152.0,213.0,379.0,1", "a,562.0,152.0,256.0,453.0,1", *negatives(5)])
    found = {record.image_id: record for record in SOURCE.records(options)}
    assert len(found) == 6
    record = found["a"]
    assert isinstance(record, Record)
    assert record.labels == {"Pneumonia": 1.0}
    first, second = Box("Pneumonia", 264, 152, 213, 379), Box("Pneumonia", 562, 152, 256, 453)
    assert record.annotations == tuple(box._replace(reference_size=(1024, 1024)) for box in (first, second))
    assert SOURCE.traits_of(options).masks and SOURCE.traits_of(options).patients == "images" and record.annotated
    mask = draw_mask(record.annotations, 1024, 1024)
    expected = np.zeros((1024, 1024), bool)
    expected[152 : 152 + 379, 264 : 264 + 213] = True
    expected[152 : 152 + 453, 562 : 562 + 256] = True
    np.testing.assert_array_equal(mask, expected)
    negative = found[negatives(1)[0].split(",")[0]]
    assert isinstance(negative, Record)
    assert negative.labels == {"Pneumonia": 0.0}
    assert negative.annotated and not draw_mask(negative.annotations, 8, 8).any()


def test_the_published_sizes(tmp_path: Path) -> None:
    """The tables of 26,684 images; without the images, so that each record is excluded after its split is drawn."""
    from imitate.sources import rsna

    options = tree(tmp_path, negatives(26_684), missing=tuple(row.split(",")[0] for row in negatives(26_684)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rsna, "present", lambda record, root: record)
        clean = {record.image_id: record.split for record in SOURCE.records(options)}
        paper = {r.image_id: r.split for r in SOURCE.records(options.model_copy(update={"mode": "paper"}))}
    assert Counter(clean.values()) == {"train": 16_010, "val": 5_337, "test": 5_337}
    assert Counter(paper.values()) == {"train": 18_678, "val": 4_003, "test": 4_003}
    assert sum(clean[name] == "test" and paper[name] == "train" for name in clean) == 1_328


def test_the_split_follows_the_sorted_ids_not_the_rows(tmp_path: Path) -> None:
    rows = negatives(30)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    forward = {r.image_id: r.split for r in SOURCE.records(tree(tmp_path / "a", rows))}
    backward = {r.image_id: r.split for r in SOURCE.records(tree(tmp_path / "b", rows[::-1]))}
    assert forward == backward
    assert Counter(forward.values()) == {"train": 18, "val": 6, "test": 6}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("bad,1024,10,20,20,1", "box outside the image"),
        ("bad,10,10,0,20,1", "box without area"),
        ("bad,10,10,,20,1", "box without coordinates"),
        ("bad,,,,,1", "Target and boxes disagree"),
        ("bad,10,10,20,20,0", "Target and boxes disagree"),
    ],
)
def test_one_bad_record_is_excluded_with_its_reason(tmp_path: Path, row: str, reason: str) -> None:
    found = list(SOURCE.records(tree(tmp_path, [row, *negatives(5)])))
    assert [item for item in found if isinstance(item, Excluded)] == [Excluded("bad", reason)]
    assert len(found) == 6


def test_a_missing_file_is_excluded(tmp_path: Path) -> None:
    found = list(SOURCE.records(tree(tmp_path, ["a,,,,,0", *negatives(5)], missing=("a",))))
    assert [item.reason for item in found if isinstance(item, Excluded)] == ["missing file"]


def test_a_wrong_tree_is_reported_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no stage_2_train_labels\.csv"):
        list(SOURCE.records(SOURCE.Options(raw=tmp_path)))
    options = tree(tmp_path, ["a,,,,,2", *negatives(5)])
    with pytest.raises(UserError, match="column 'Target' holds '2' in 1 rows: expected 0, 1 or blank"):
        list(SOURCE.records(options))
    (tmp_path / "stage_2_train_labels.csv").write_text("patientId,Target\na,0\n")
    with pytest.raises(UserError, match="lacks"):
        list(SOURCE.records(options))


def test_the_publishers_mapping_distinguishes_patients(tmp_path: Path) -> None:
    names = [row.split(",")[0] for row in negatives(61)]
    mapping = tmp_path / "mapping.json"
    listed = [{"subset_img_id": name, "img_id": f"{i // 3:08d}_{i % 3:03d}.png"} for i, name in enumerate(names[:60])]
    mapping.write_text(json.dumps([*listed, {"subset_img_id": "elsewhere", "img_id": "00000001_000.png"}]))
    options = tree(tmp_path, negatives(61)).model_copy(update={"mapping": mapping})
    found = list(SOURCE.records(options))
    assert [each for each in found if isinstance(each, Excluded)] == [Excluded(names[60], "not in the mapping")]
    records = [each for each in found if isinstance(each, Record)]
    assert {each.image_id: each.patient for each in records} == {
        name: f"{i // 3:08d}" for i, name in enumerate(names[:60])
    }
    assert len({(each.patient, each.split) for each in records}) == 20
    assert Counter(each.split for each in records) == {"train": 36, "val": 12, "test": 12}
    assert SOURCE.traits_of(options).patients == "patients"
    paper = list(SOURCE.records(options.model_copy(update={"mode": "paper"})))
    assert [each.split for each in paper if isinstance(each, Record)] == list(published_three(60, held_out=18))


@pytest.mark.parametrize("text", ["[", "{}x", '[{"img_id": "1_0.png"}]', "[1]", '{"a": 1}'])
def test_another_file_is_no_mapping(text: str, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(text)
    options = tree(tmp_path, negatives(9)).model_copy(update={"mapping": tmp_path / "m.json"})
    with pytest.raises(UserError, match=r"m\.json is not pneumonia-challenge-dataset-mappings_2018\.json"):
        list(SOURCE.records(options))


def test_a_mapping_beside_the_tables_is_used(tmp_path: Path) -> None:
    options = tree(tmp_path, negatives(60))
    assert SOURCE.expected_of(options)["images in test"] == 5_337
    listed = [
        {"subset_img_id": row.split(",")[0], "img_id": f"{i // 3:08d}_000.png"} for i, row in enumerate(negatives(60))
    ]
    (tmp_path / "pneumonia-challenge-dataset-mappings_2018.json").write_text(json.dumps(listed))
    records = [each for each in SOURCE.records(options) if isinstance(each, Record)]
    assert len({each.patient for each in records}) == len({(each.patient, each.split) for each in records}) == 20
    traits = SOURCE.traits_of(options)
    assert (traits.patients, traits.population) == ("patients", "chest-xray14")
    assert "images in test" not in SOURCE.expected_of(options), "another split than the published one"
