from collections import Counter
from pathlib import Path

import pytest

from imitate.config import Config
from imitate.data.annotations import Box
from imitate.data.records import Excluded, Record
from imitate.errors import UserError
from imitate.sources.chestxray14 import NIH as CLASSES
from imitate.sources.chestxray14 import SOURCE

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)


def names(patients: int, images: int = 2) -> list[str]:
    return [f"{patient:08}_{image:03}.png" for patient in range(patients) for image in range(images)]


def tree(root: Path, *, findings: dict[str, str] | None = None, patients: int = 40, tested: int = 8) -> Config:
    rows = [
        f"{name},{(findings or {}).get(name, 'No Finding')},0,{int(name[:8])},60,M,PA,2500,2048,0.171,0.171"
        for name in names(patients)
    ]
    (root / "Data_Entry_2017_v2020.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    (root / "test_list.txt").write_text("\n".join(names(tested)))
    (root / "train_val_list.txt").write_text("\n".join(names(patients)[2 * tested :]))
    (root / "images").mkdir()
    for name in names(patients):
        (root / "images" / name).touch()
    return SOURCE.Options(raw=root)


def boxes(root: Path, *rows: str) -> None:
    (root / "BBox_List_2017.csv").write_text("\n".join(["Image Index,Finding Label,Bbox [x,y,w,h],,,", *rows]) + "\n")


def kept(options: Config) -> dict[str, Record]:
    return {item.image_id: item for item in SOURCE.records(options) if isinstance(item, Record)}


def test_findings_become_a_vector(tmp_path: Path) -> None:
    found = {"00000000_000.png": "Pleural_Thickening|Infiltration|Hernia"}
    records = kept(tree(tmp_path, findings=found))
    expected = dict.fromkeys(CLASSES, 0.0) | {"Pleural_Thickening": 1.0, "Infiltration": 1.0, "Hernia": 1.0}
    assert records["00000000_000.png"].labels == expected
    assert records["00000000_001.png"].labels == dict.fromkeys(CLASSES, 0.0)
    assert (records["00000000_001.png"].patient, records["00000000_001.png"].projection) == ("0", "PA")


def test_official_lists_with_val_by_patient(tmp_path: Path) -> None:
    records = kept(tree(tmp_path)).values()
    assert Counter(r.split for r in records) == {"train": 58, "val": 6, "test": 16}
    assert {r.patient for r in records if r.split == "test"} == {str(i) for i in range(8)}
    assert len({(r.patient, r.split) for r in records}) == 40


def test_patients_are_divided_where_the_lists_do_not_fit(tmp_path: Path) -> None:
    options = tree(tmp_path)
    (tmp_path / "test_list.txt").unlink()
    with pytest.raises(UserError, match=r"no list .*test_list\.txt: download it, or .*--split-by patient"):
        list(SOURCE.records(options))
    records = kept(options.model_copy(update={"split_by": "patient"})).values()
    assert Counter(r.split for r in records) == {"train": 56, "val": 8, "test": 16}
    assert len({(r.patient, r.split) for r in records}) == 40


def test_boxes_count_in_the_published_frame(tmp_path: Path) -> None:
    options = tree(tmp_path)
    boxes(
        tmp_path,
        "00000001_000.png,Infiltrate,337.9,509.6,417.6,403.5",
        "00000001_000.png,Mass,1,2,30,40,,,",
        "00000002_000.png,Atelectasis,1024,5,10,10",
    )
    found = list(SOURCE.records(options))
    record = kept(options)["00000001_000.png"]
    first, second = Box("Infiltration", 337.9, 509.6, 417.6, 403.5), Box("Mass", 1, 2, 30, 40)
    assert record.annotations == tuple(box._replace(reference_size=(1024, 1024)) for box in (first, second))
    assert {name for name, each in kept(options).items() if each.annotated} == {"00000001_000.png"}
    excluded = [item for item in found if isinstance(item, Excluded)]
    assert excluded == [Excluded("00000002_000.png", "box outside the image")]


def test_unlisted_and_missing_images_are_excluded(tmp_path: Path) -> None:
    options = tree(tmp_path)
    (tmp_path / "train_val_list.txt").write_text("\n".join(names(40)[20:]))
    (tmp_path / "images" / "00000039_001.png").unlink()
    reasons = Counter(item.reason for item in SOURCE.records(options) if isinstance(item, Excluded))
    assert reasons == {"in neither list": 4, "missing file": 1}


def test_the_archives_may_stay_in_their_own_folders(tmp_path: Path) -> None:
    options = tree(tmp_path)
    (tmp_path / "images_001").mkdir()
    (tmp_path / "images").rename(tmp_path / "images_001" / "images")
    assert len(kept(options)) == 80


def test_wrong_trees_are_reported_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no Data_Entry_2017_v2020\.csv or Data_Entry_2017\.csv"):
        list(SOURCE.records(SOURCE.Options(raw=tmp_path)))
    options = tree(tmp_path, findings={"00000003_000.png": "Edema|Scoliosis"})
    with pytest.raises(UserError, match="names the finding 'Scoliosis', which is none of the fourteen"):
        list(SOURCE.records(options))
    boxes(tmp_path, "00000001_000.png,Mass,left,2,30,40")
    with pytest.raises(UserError, match=r"BBox_List_2017\.csv: column 'Bbox \[x' holds 'left'"):
        list(SOURCE.records(options))
    (tmp_path / "test_list.txt").write_text("\n".join(names(40)[-3:]))
    with pytest.raises(UserError, match="3 images are in both lists, 00000038_001"):
        list(SOURCE.records(options))
    (tmp_path / "test_list.txt").write_text("")
    with pytest.raises(UserError, match="split 'test' is empty"):
        list(SOURCE.records(options))


def test_the_real_sample(real_data: Path) -> None:
    raw = real_data / "chestxray14"
    records = kept(SOURCE.Options(raw=raw))
    assert len(records) == 786
    assert len({r.patient for r in records.values()}) == 640
    assert sum(len(r.annotations) for r in records.values()) == 30
    assert {box.label for r in records.values() for box in r.annotations} <= set(CLASSES)
    assert Counter(r.split == "test" for r in records.values()) == {True: 106, False: 680}
    divided = kept(SOURCE.Options(raw=raw, split_by="patient")).values()
    sizes = Counter(r.split for r in divided)
    assert sizes["test"] == pytest.approx(157, abs=5)
    assert sizes["val"] == pytest.approx(79, abs=5)
    assert len({(r.patient, r.split) for r in divided}) == 640
