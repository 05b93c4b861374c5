import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from imitate.data.annotations import Box
from imitate.data.records import Excluded, Record
from imitate.errors import UserError
from imitate.sources.tbx11k import SOURCE
from imitate.synthetic.layouts import LAYOUTS

SIZE = 64


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tbx") / "raw"
    LAYOUTS["tbx11k"](folder, n=60, seed=3, size=SIZE)
    return folder


def copied(original: Path, folder: Path) -> Path:
    shutil.copytree(original, folder / "raw")
    return folder / "raw"


def found(root: Path, **options: Any) -> dict[str, Record]:
    every = SOURCE.records(SOURCE.Options(raw=root, **options))
    return {each.image_id: each for each in every if isinstance(each, Record)}


def simplified(original: Path, root: Path) -> Path:
    """The edition of one table, nested as its archive unpacks; a box of the originals' pixels a row."""
    (root / "images").mkdir(parents=True)
    rows = ["fname,image_height,image_width,source,bbox,target,tb_type,image_type"]
    kinds = {"health": "healthy", "sick": "sick_but_no_tb", "tb": "tb"}
    for name, record in found(original).items():
        kind, file = name.split("/")
        shutil.copy(record.image, root / "images" / file)
        for box in record.annotations:
            assert isinstance(box, Box)
            words = dict(zip(("xmin", "ymin", "width", "height"), box[1:5], strict=True))
            tb_type = "active_tb" if box.label.startswith("Active") else "latent_tb"
            rows.append(f'{file},{SIZE},{SIZE},train,"{words}",tb,{tb_type},tb')
        if not record.annotations:
            rows.append(f"{file},{SIZE},{SIZE},train,none,no_tb,none,{kinds[kind]}")
    (root / "data.csv").write_text("\n".join(rows) + "\n")
    return root


def test_the_official_parts_leave_out_the_hidden_test(original: Path) -> None:
    records = found(original)
    assert len(list((original / "imgs/test").iterdir())) == 6 and len(records) == 54
    train, val = (
        json.loads((original / f"annotations/json/TBX11K_{part}.json").read_text()) for part in ("train", "val")
    )
    names = {each["file_name"] for each in val["images"]}
    assert {name for name, each in records.items() if each.split == "test"} == names
    counts = Counter(each.split for each in records.values())
    assert counts == {"train": len(train["images"]) - 4, "val": 4, "test": len(names)}
    assert all(each.patient == name for name, each in records.items())


def test_the_folder_is_the_class_and_boxes_are_of_tuberculosis(original: Path) -> None:
    records = found(original)
    classes = {"health": "Healthy", "sick": "Sick without tuberculosis", "tb": "Tuberculosis"}
    for name, record in records.items():
        label = classes[name.split("/")[0]]
        assert record.labels == {each: float(each == label) for each in classes.values()}
        assert bool(record.annotations) == (label == "Tuberculosis") and record.annotated
    kinds = Counter(box.label for each in records.values() for box in each.annotations)
    assert kinds.keys() == {"Active tuberculosis", "Latent tuberculosis"}
    assert SOURCE.traits_of(SOURCE.Options(raw=original)).exclusive


def test_xml_counts_in_pixels_of_the_originals(original: Path, tmp_path: Path) -> None:
    root = copied(original, tmp_path)
    shutil.rmtree(root / "annotations/json")
    for name, record in found(root).items():
        of_json = found(original)[name]
        assert record.split == of_json.split
        for box, same in zip(record.annotations, of_json.annotations, strict=True):
            assert isinstance(box, Box) and isinstance(same, Box) and box.label == same.label
            assert box.reference_size == (3 * SIZE, 3 * SIZE) and box[1:5] == tuple(3 * value for value in same[1:5])


def test_the_simplified_edition_has_the_same_boxes_and_no_parts(original: Path, tmp_path: Path) -> None:
    simplified(original, tmp_path / "tbx11k-simplified" / "tbx11k-simplified")
    records, before = found(tmp_path), found(original)
    assert len(records) == len(before)
    for name, record in before.items():
        same = records[name.split("/")[1]]
        assert same.annotations == record.annotations and same.labels == record.labels
    assert Counter(each.split for each in records.values()) == {"train": 38, "val": 8, "test": 8}
    with pytest.raises(UserError, match=r"data\.csv names no official parts: give --split-by image"):
        found(tmp_path, split_by="official")
    counts = [SOURCE.expected_of(SOURCE.Options(raw=each))["images in test"] for each in (tmp_path, original)]
    assert counts == [1_260, 1_800]
    by_image = found(original, split_by="image")
    assert Counter(each.split for each in by_image.values()) == {"train": 38, "val": 8, "test": 8}


def edited(path: Path, edit: Any) -> None:
    values = json.loads(path.read_text())
    edit(values)
    path.write_text(json.dumps(values))


def test_an_image_of_tuberculosis_without_a_box_was_not_annotated(original: Path, tmp_path: Path) -> None:
    root = copied(original, tmp_path)
    path = root / "annotations/json/TBX11K_val.json"
    first = json.loads(path.read_text())["annotations"][0]["image_id"]
    name = next(each["file_name"] for each in json.loads(path.read_text())["images"] if each["id"] == first)

    def forget(values: dict[str, Any]) -> None:
        values["annotations"] = [each for each in values["annotations"] if each["image_id"] != first]

    edited(path, forget)
    record = found(root)[name]
    assert record.annotations == () and record.annotated is False
    assert record.labels and record.labels["Tuberculosis"] == 1


def test_bad_annotations_exclude_their_image(original: Path, tmp_path: Path) -> None:
    root = copied(original, tmp_path)
    path = root / "annotations/json/TBX11K_val.json"
    healthy = next(name for name, each in found(root).items() if each.split == "test" and name.startswith("health"))

    def spoil(values: dict[str, Any]) -> None:
        names = {each["file_name"]: each["id"] for each in values["images"]}
        values["annotations"][0]["bbox"] = [SIZE, 0, 4, 4]
        values["annotations"].append({"image_id": names[healthy], "category_id": 1, "bbox": [1, 1, 4, 4]})

    edited(path, spoil)
    (root / "imgs" / next(name for name in found(original) if name.startswith("sick"))).unlink()
    every = [each for each in SOURCE.records(SOURCE.Options(raw=root)) if isinstance(each, Excluded)]
    assert Counter(each.reason for each in every) == {
        "box outside the image": 1, "box of tuberculosis without it": 1, "missing file": 1,
    }  # fmt: skip


def test_a_wrong_tree_is_reported_in_one_line(original: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no annotations/ and no data\.csv: --raw must be the folder of TBX11K"):
        found(tmp_path)
    root = copied(original, tmp_path)
    path = root / "annotations/json/TBX11K_train.json"
    whole = path.read_text()
    for text, said in (
        (whole[:-30], r"TBX11K_train\.json is not readable JSON"),
        (whole.replace('"categories"', '"kinds"'), r"does not hold images, annotations and categories in COCO's form"),
        (whole.replace("ActiveTuberculosis", "Silicosis"), "'Silicosis' is not a kind of tuberculosis"),
        (
            whole.replace('"health/', '"wealth/', 1),
            "lists the image 'wealth/h0000.png', which is not in health, sick, tb",
        ),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=said):
            found(root)
    path.write_text((root / "annotations/json/TBX11K_val.json").read_text())
    with pytest.raises(UserError, match="is in train and in val: download the lists again"):
        found(root)
    shutil.rmtree(root / "annotations/json")
    spoilt = next((root / "annotations/xml").iterdir())
    spoilt.write_text(spoilt.read_text()[:-20])
    with pytest.raises(UserError, match=rf"{spoilt.name} is not an annotation of TBX11K"):
        found(root)
    shutil.rmtree(root / "lists")
    with pytest.raises(UserError, match=r"has no lists/TBX11K_train\.txt"):
        found(root)


def test_faulty_rows_of_the_simplified_table_are_named(original: Path, tmp_path: Path) -> None:
    path = simplified(original, tmp_path) / "data.csv"
    whole = path.read_text()
    row = next(line for line in whole.splitlines() if "xmin" in line)
    for old, new, said in (
        ("image_type", "kind", r"data\.csv lacks column 'image_type'"),
        ("'xmin'", "'left'", r"bbox .* is not a dict of xmin, ymin, width, height"),
        ("{'xmin'", "__import__('os') or {'xmin'", r"\(ValueError\) is not a dict"),
        (",healthy", ",well", "image_type 'well' is none of healthy, sick_but_no_tb, tb"),
        (
            f"{row}\n",
            f"{row}\n{row.split(',')[0]},64,64,train,none,no_tb,none,healthy\n",
            "is Tuberculosis and Healthy",
        ),
    ):
        assert old in whole
        path.write_text(whole.replace(old, new, 1))
        with pytest.raises(UserError, match=said):
            found(tmp_path)
    path.write_text(whole.replace(row, f"{row}\n{row}"))
    assert len(found(tmp_path)[row.split(",")[0]].annotations) == len(
        found(original)[f"tb/{row.split(',')[0]}"].annotations
    )
