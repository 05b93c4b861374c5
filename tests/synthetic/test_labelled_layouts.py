"""Layouts of the labelled sources: official columns and quirks, annotations that fit the drawing."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image

from imitate.data.annotations import encode_runs
from imitate.synthetic.cases import Finding, Place
from imitate.synthetic.labelled_layouts import COMPETITION, annotation
from imitate.synthetic.labels import CHEXPERT
from imitate.synthetic.layouts import LAYOUTS
from imitate.synthetic.lesions import Region

N, SIZE = 60, 64


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("layouts")
    for name in ("chexpert", "rsna", "covidx", "chestxray14", "siim", "object-cxr"):
        LAYOUTS[name](folder / name, n=N, seed=3, size=SIZE)
    return folder


def test_chexpert_tables_and_tree(root: Path) -> None:
    base = root / "chexpert"
    for part in ("train", "valid"):
        table = pd.read_csv(base / f"{part}.csv")
        assert table.columns.tolist() == ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT]
        assert (
            table["Path"]
            .str.fullmatch(rf"CheXpert-v1\.0-small/{part}/patient\d{{5}}/study\d/view\d_(frontal|lateral)\.jpg")
            .all()
        )
        assert all((base / path.split("/", 1)[1]).is_file() for path in table["Path"])
        lateral = table["Frontal/Lateral"] == "Lateral"
        assert table["AP/PA"].isna().equals(lateral) and lateral.equals(table["Path"].str.contains("lateral"))
        values = table[list(CHEXPERT)]
        if part == "train":
            assert set(np.unique(values.fillna(9))) == {-1.0, 0.0, 1.0, 9.0}
        else:
            assert values.isin([0, 1]).all(axis=None)


def test_chexpert_test_labels_name_the_studies_of_its_tree(root: Path) -> None:
    table = pd.read_csv(root / "chexpert" / "groundtruth.csv")
    studies = {str(path.parent.relative_to(root / "chexpert")) for path in (root / "chexpert/test").rglob("*.jpg")}
    assert table.columns.tolist() == ["Study", *CHEXPERT]
    assert {study.split("/", 1)[1] for study in table["Study"]} == studies and table["Study"].is_unique


def test_chexpert_train_holds_images_for_5x200(root: Path) -> None:
    table = pd.read_csv(root / "chexpert" / "train.csv").fillna(0)
    others = [name for name in CHEXPERT if name != "No Finding"]
    frontal = table[table["Frontal/Lateral"] == "Frontal"]
    alone = frontal[(frontal[others] != 0).sum(axis=1) == 1]
    assert all((alone[name] == 1).sum() >= 1 for name in COMPETITION)


def test_rsna_tables_agree_with_each_other_and_the_files(root: Path) -> None:
    base = root / "rsna"
    labels = pd.read_csv(base / "stage_2_train_labels.csv")
    assert labels.columns.tolist() == ["patientId", "x", "y", "width", "height", "Target"]
    classes = pd.read_csv(base / "stage_2_detailed_class_info.csv")
    assert classes.columns.tolist() == ["patientId", "class"] and len(classes) == len(labels)
    files = {path.stem for path in (base / "stage_2_train_images").glob("*.dcm")}
    assert set(labels["patientId"]) == set(classes["patientId"]) == files
    assert len(files) + len(list((base / "stage_2_test_images").glob("*.dcm"))) == N
    positive = labels["Target"] == 1
    assert (classes["class"] == "Lung Opacity").equals(positive) and 3 < positive.sum() < len(labels)
    assert set(classes["class"]) == {"Normal", "No Lung Opacity / Not Normal", "Lung Opacity"}
    boxes = labels[positive]
    assert labels[~positive][["x", "y", "width", "height"]].isna().all(axis=None)
    assert (boxes[["x", "y"]] >= 0).all(axis=None) and (boxes[["width", "height"]] >= 1024 / SIZE).all(axis=None)
    assert (boxes["x"] + boxes["width"] <= 1024).all() and (boxes["y"] + boxes["height"] <= 1024).all()


def test_dicom_files_are_plain_and_valid(root: Path, recwarn: pytest.WarningsRecorder) -> None:
    paths = [*(root / "rsna").rglob("*.dcm"), *(root / "siim").rglob("*.dcm")]
    instances = set()
    for path in paths:
        data = pydicom.dcmread(path)
        assert data.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
        assert data.PhotometricInterpretation == "MONOCHROME2" and data.pixel_array.shape == (SIZE, SIZE)
        assert data.pixel_array.dtype == np.uint8 and data.pixel_array.std() > 20
        assert data.StudyInstanceUID.is_valid and data.SOPInstanceUID.is_valid and data.ViewPosition in {"PA", "AP"}
        instances.add((path.parts[-2], data.SOPInstanceUID))
    assert len(instances) == len(paths) == 2 * N and not recwarn.list


def test_covidx_lists_name_every_file_once(root: Path) -> None:
    base, counts = root / "covidx", Counter()
    patients: dict[str, set[str]] = {}
    for part in ("train", "test"):
        rows = [line.split(" ") for line in (base / f"{part}_COVIDx9A.txt").read_text().splitlines()]
        assert all(len(row) == 4 for row in rows)
        assert {row[1] for row in rows} == {path.name for path in (base / part).iterdir()}
        counts.update(row[2] for row in rows)
        patients[part] = {row[0] for row in rows}
    assert set(counts) == {"normal", "pneumonia", "COVID-19"} and min(counts.values()) > N / 6
    assert not patients["train"] & patients["test"]


def test_chestxray14_has_the_archives_headers_and_lists(root: Path) -> None:
    base = root / "chestxray14"
    header, *rows = csv.reader((base / "Data_Entry_2017_v2020.csv").open())
    assert ",".join(header).endswith("View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]")
    assert all(len(row) == len(header) == 11 for row in rows) and len(rows) == N
    names = {row[0] for row in rows}
    assert names == {path.name for path in (base / "images").iterdir()}
    assert all(int(row[0].split("_")[0]) == int(row[3]) for row in rows)
    train, test = ((base / f"{part}_list.txt").read_text().split() for part in ("train_val", "test"))
    assert set(train) | set(test) == names and len(train) + len(test) == N


def test_chestxray14_boxes_are_in_the_frame_of_1024_and_fit_the_labels(root: Path) -> None:
    base = root / "chestxray14"
    header, *rows = csv.reader((base / "BBox_List_2017.csv").open())
    assert header == ["Image Index", "Finding Label", "Bbox [x", "y", "w", "h]", "", "", ""] and rows
    labels = {row[0]: row[1] for row in csv.reader((base / "Data_Entry_2017_v2020.csv").open())}
    test = set((base / "test_list.txt").read_text().split())
    for name, label, *rest in rows:
        x, y, width, height = map(float, rest[:4])
        assert name in test and label.replace("Infiltrate", "Infiltration") in labels[name].split("|")
        assert 0 <= x < x + width <= 1024 and 0 <= y < y + height <= 1024 and rest[4:] == ["", "", ""]


def decoded(text: str, side: int) -> np.ndarray:
    """The naive reading of relative gaps, column by column."""
    mask, place = np.zeros(side * side, bool), 0
    numbers = list(map(int, text.split()))
    for gap, length in zip(numbers[::2], numbers[1::2], strict=True):
        place += gap
        mask[place : place + length] = True
        place += length
    return mask.reshape(side, side).T


def test_run_lengths_decode_to_the_mask() -> None:
    random = np.random.default_rng(0)
    for fraction in (0.05, 0.5, 0.95):
        mask = random.random((40, 40)) < fraction
        mask[0, 0] = mask[-1, -1] = True
        assert (decoded(encode_runs(mask), 40) == mask).all()
    corner = np.zeros((8, 8), bool)
    corner[2:4, 1] = True
    assert encode_runs(corner) == "10 2"


def test_siim_table_has_its_quirks_and_masks_lie_in_dark_lung(root: Path) -> None:
    table = pd.read_csv(root / "siim" / "train-rle.csv")
    assert table.columns.tolist() == ["ImageId", " EncodedPixels"] and table[" EncodedPixels"].str.startswith(" ").all()
    files = {path.stem: path for path in (root / "siim" / "dicom-images-train").glob("*/*/*.dcm")}
    assert set(files) == set(table["ImageId"]) and len(files) == N
    drawn = table[table[" EncodedPixels"] != " -1"].groupby("ImageId")[" EncodedPixels"].apply(list)
    assert 0.2 * N < len(drawn) < 0.6 * N and {len(parts) for parts in drawn} == {1, 2, 3}
    for image, parts in drawn.items():
        masks = [decoded(text, 1024) for text in parts]
        assert all(mask.any() for mask in masks) and sum(mask.sum() for mask in masks) == np.any(masks, axis=0).sum()
        small = np.any(masks, axis=0)[8::16, 8::16]
        pixels = pydicom.dcmread(files[image]).pixel_array
        assert pixels[small].mean() < pixels.mean()


def test_object_cxr_annotations_lie_on_the_bright_objects(root: Path) -> None:
    kinds: Counter[str] = Counter()
    for part in ("train", "dev"):
        table = pd.read_csv(root / "object-cxr" / f"{part}.csv", keep_default_na=False)
        assert table.columns.tolist() == ["image_name", "annotation"]
        assert set(table["image_name"]) == {path.name for path in (root / "object-cxr" / part).iterdir()}
        assert 0.2 < (table["annotation"] != "").mean() < 0.8
        for name, text in table.itertuples(index=False):
            pixels = np.asarray(Image.open(root / "object-cxr" / part / name))
            for item in filter(None, text.split(";")):
                kind, *points = item.split(" ")
                x, y = (np.array(points[start::2], int) for start in (0, 1))
                kinds[kind] += 1
                assert len(x) == len(y) and (kind == "2") == (len(x) > 2)
                assert 0 <= x.min() < x.max() <= pixels.shape[1] and 0 <= y.min() < y.max() <= pixels.shape[0]
                assert pixels[y.min() : y.max(), x.min() : x.max()].max() > 200
    assert set(kinds) == {"0", "1", "2"}


def test_a_polygon_follows_the_necklace() -> None:
    mask = np.zeros((50, 50), bool)
    for column in range(10, 40):
        mask[20 + abs(column - 25) // 3 :, column][:3] = True
    text = annotation(Region(Finding("Foreign Object", Place(kind="necklace"), "mild"), "", mask))
    kind, *numbers = text.split(" ")
    points = np.array(numbers, int).reshape(-1, 2)
    assert kind == "2" and points[:, 0].min() == 10 and points[:, 0].max() == 39 and points[:, 1].min() == 20
    assert all(mask[row, column] or mask[row - 1, column] for column, row in points)
