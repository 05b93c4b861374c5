"""Layouts of the sources with boxes, masks and phrases: official names, columns and quirks."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from imitate.data.annotations import Shape, runs_mask, shapes_mask
from imitate.data.coco import to_runs, unpack_counts
from imitate.names import CHEXPERT, VINDR
from imitate.synthetic.box_layouts import outline
from imitate.synthetic.layouts import LAYOUTS
from imitate.synthetic.mask_layouts import DRAWN

N, SIZE = 40, 64


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("layouts")
    for name in ("vindr-cxr", "chexlocalize", "ms-cxr", "padchest-gr", "tbx11k", "chestx-det"):
        LAYOUTS[name](folder / name, n=N, seed=3, size=SIZE)
    return folder


def test_vindr_has_three_readers_in_training_and_none_in_test(root: Path) -> None:
    base = root / "vindr-cxr"
    tables = {path.stem: pd.read_csv(path) for path in (base / "annotations").iterdir()}
    corners = ["class_name", "x_min", "y_min", "x_max", "y_max"]
    assert tables["image_labels_train"].columns.tolist() == ["image_id", "rad_id", *VINDR]
    assert tables["annotations_train"].columns.tolist() == ["image_id", "rad_id", *corners]
    assert tables["annotations_test"].columns.tolist() == ["image_id", *corners]
    assert "Other disease" in tables["image_labels_test"] and "rad_id" not in tables["image_labels_test"]
    assert set(Counter(tables["image_labels_train"]["image_id"]).values()) == {3}
    for part in ("train", "test"):
        names = {path.stem for path in (base / part).glob("*.dicom")}
        assert (
            names == set(tables[f"image_labels_{part}"]["image_id"]) == set(tables[f"annotations_{part}"]["image_id"])
        )
        boxes = tables[f"annotations_{part}"]
        assert (boxes["class_name"] == "No finding").equals(boxes["x_min"].isna())
    votes = tables["image_labels_train"].groupby("image_id")[[*VINDR]].sum()
    assert votes.isin([1, 2]).any(axis=None)  # readers disagree


def test_chexlocalize_has_masks_of_every_key_and_outlines_of_positives(root: Path) -> None:
    base = root / "chexlocalize"
    val, test = (pd.read_csv(base / f"CheXpert/{part}_labels.csv") for part in ("val", "test"))
    assert val.columns.tolist() == ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT]
    assert test.columns.tolist() == ["Path", *CHEXPERT]
    assert val["Path"].str.startswith("CheXpert-v1.0/valid/").all() and len(val) + len(test) == N
    for part, table in (("val", val), ("test", test)):
        masks, outlines = (
            json.loads((base / f"CheXlocalize/gt_{kind}_{part}.json").read_text())
            for kind in ("segmentations", "annotations")
        )
        assert masks.keys() <= set(table["Path"].str.split("/").str[-3:].str.join("_").str.removesuffix(".jpg"))
        for key, drawn in masks.items():
            assert drawn.keys() == set(DRAWN)
            height, width = outlines[key]["img_size"]
            for label, mask in drawn.items():
                runs = to_runs(unpack_counts(mask["counts"]), pixels=width * height)
                assert mask["size"] == [height, width] and bool(runs) == (label in outlines[key])
            with Image.open(base / "CheXpert" / part / f"{key.replace('_', '/', 2)}.jpg") as image:
                assert image.size == (width, height)


def test_ms_cxr_has_two_boxes_of_what_is_on_both_sides(root: Path) -> None:
    table = pd.read_csv(root / "ms-cxr/MS_CXR_Local_Alignment_v1.1.0.csv")
    assert table.columns.tolist() == [
        "dicom_id", "category_name", "label_text", "path", "x", "y", "w", "h", "image_width", "image_height", "split",
    ]  # fmt: skip
    assert table["path"].str.fullmatch(r"files/p1\d/p1\d{7}/s5\d{7}/[0-9a-f-]{44}\.jpg").all()
    assert table["dicom_id"].nunique() == N and table.groupby("dicom_id")["label_text"].nunique().max() > 1
    assert table.groupby(["dicom_id", "label_text"]).size().max() == 2
    assert (table["x"] + table["w"] <= table["image_width"]).all()
    assert all((root / "ms-cxr" / path).is_file() for path in table["path"])


def test_padchest_gr_has_sentences_in_two_languages_and_two_readers(root: Path) -> None:
    base = root / "padchest-gr"
    (path,) = base.glob("grounded_reports_*.json")
    entries = json.loads(path.read_text(encoding="utf-8"))
    findings = [finding for entry in entries for finding in entry["findings"]]
    boxes = np.array([box for finding in findings for box in finding.get("boxes", ())])
    assert boxes.min() >= 0 and boxes.max() <= 1 and (boxes[:, :2] < boxes[:, 2:]).all()
    abnormal = [finding for finding in findings if finding["abnormal"]]
    assert not all(finding["boxes"] for finding in abnormal) and any(finding["extra_boxes"] for finding in abnormal)
    assert any(len(finding["boxes"]) == 2 for finding in abnormal)
    table = pd.read_csv(base / "master_table.csv")
    assert set(table["split"]) == {"train", "validation", "test"} and table["ImageID"].nunique() == len(entries) == N
    with Image.open(base / "PadChest_GR" / entries[0]["ImageID"]) as image:
        assert image.mode.startswith("I;16") or image.mode == "I"


def test_tbx11k_says_the_same_in_json_and_xml(root: Path) -> None:
    base = root / "tbx11k"
    assert {path.name for path in (base / "imgs").iterdir()} == {"health", "sick", "tb", "test"}
    for part in ("train", "val"):
        values = json.loads((base / f"annotations/json/TBX11K_{part}.json").read_text())
        listed = (base / f"lists/TBX11K_{part}.txt").read_text().split()
        assert [image["file_name"] for image in values["images"]] == listed
        boxed = {values["images"][each["image_id"] - 1]["file_name"] for each in values["annotations"]}
        assert boxed == {name for name in listed if name.startswith("tb/")}
        assert all((base / f"annotations/xml/{Path(name).stem}.xml").is_file() for name in boxed)


def test_outlines_of_chestx_det_lie_around_their_boxes(root: Path) -> None:
    entries = json.loads((root / "chestx-det/ChestX_Det_train.json").read_text())
    assert any(entry["syms"] for entry in entries) and any(not entry["syms"] for entry in entries)
    for entry in entries:
        for box, polygon in zip(entry["boxes"], entry["polygons"], strict=True):
            points = np.array(polygon)
            assert (points.min(axis=0) >= np.array(box[:2]) - 1).all()
            assert (points.max(axis=0) <= np.array(box[2:]) + 1).all()


def test_an_outline_covers_its_region() -> None:
    mask = runs_mask(40, 30, runs=["300 10 18 14 14 18 12 16"], frame=(40, 30))
    points = tuple((float(x), float(y)) for x, y in outline(mask))
    drawn = shapes_mask(40, 30, shapes=[Shape("", "polygon", points)])
    assert drawn[mask].all() and drawn.sum() < 2 * mask.sum()
