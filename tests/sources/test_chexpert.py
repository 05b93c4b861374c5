import csv
from collections import Counter
from pathlib import Path

import pytest

from imitate.config import Config
from imitate.data.records import Excluded, Record
from imitate.errors import UserError
from imitate.sources import chexpert as module
from imitate.sources.chexpert import CLASSES, SOURCE

COLUMNS = (
    *("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly"),
    *("Lung Opacity", "Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax"),
    *("Pleural Effusion", "Pleural Other", "Fracture", "Support Devices"),
)
Row = dict[str, str]


def row(patient: int, *, part: str = "train", view: int = 1, lateral: bool = False, **labels: str) -> Row:
    side = "lateral" if lateral else "frontal"
    return {
        "Path": f"CheXpert-v1.0-small/{part}/patient{patient:05}/study1/view{view}_{side}.jpg",
        "Frontal/Lateral": side.title(),
        "AP/PA": "" if lateral else "AP",
    } | {name.replace("_", " "): value for name, value in labels.items()}


def write(root: Path, name: str, rows: list[Row], columns: tuple[str, ...] = COLUMNS) -> None:
    with (root / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def tree(root: Path, train: list[Row], valid: list[Row] | None = None) -> Config:
    valid = [row(90_000, part="valid", Edema="1.0")] if valid is None else valid
    for name, rows in (("train", train), ("valid", valid)):
        write(root, f"{name}.csv", rows)
        (root / name).mkdir(exist_ok=True)
        for one in rows:
            file = root / one["Path"].split("/", 1)[1]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    return SOURCE.Options(raw=root)


def plain(count: int) -> list[Row]:
    """Two frontal images and a lateral a patient, none of them fit for 5x200: two findings each."""
    return [row(i // 3, view=1 + i % 3, lateral=i % 3 == 2, Edema="1.0", Consolidation="1.0") for i in range(3 * count)]


def alone(count: int, start: int = 1_000) -> list[Row]:
    """Fit for 5x200, ``count`` a class, each with another frontal image of the patient."""
    rows = []
    for i in range(count * len(CLASSES)):
        finding = CLASSES[i % len(CLASSES)].replace(" ", "_")
        rows += [row(start + i, **{finding: "1.0"}, No_Finding="1.0"), row(start + i, view=2)]
    return rows


def kept(options: Config) -> dict[str, Record]:
    return {item.image_id: item for item in SOURCE.records(options) if isinstance(item, Record)}


def test_uncertain_labels_follow_the_published_policy_by_column_name(tmp_path: Path) -> None:
    uncertain = row(7, part="valid", **{name.replace(" ", "_"): "-1.0" for name in CLASSES})
    blank = row(8, part="valid", Lung_Lesion="1.0", Lung_Opacity="-1.0")
    plain_zero = row(9, part="valid", Cardiomegaly="1.0", Edema="0.0")
    records = kept(tree(tmp_path, plain(10), [uncertain, blank, plain_zero]))
    labels = [records[f"valid/patient0000{i}/study1/view1_frontal.jpg"].labels for i in (7, 8, 9)]
    assert labels[0] == dict(zip(CLASSES, (1, 0, 0, 1, 1), strict=True))
    assert labels[1] == dict.fromkeys(CLASSES, 0)
    assert labels[2] == dict.fromkeys(CLASSES, 0) | {"Cardiomegaly": 1}


def test_the_archive_name_is_stripped_and_projections_are_named(tmp_path: Path) -> None:
    unnamed = row(90_001, part="valid") | {"AP/PA": ""}
    options = tree(tmp_path, plain(10), [row(90_000, part="valid", Edema="1.0"), unnamed])
    assert Counter(r.projection for r in kept(options).values()) == {"AP": 21, "LATERAL": 10, "FRONTAL": 1}
    assert SOURCE.traits.projections == ("PA", "AP", "FRONTAL")
    record = kept(options)["train/patient00003/study1/view2_frontal.jpg"]
    assert record.image == tmp_path / "train/patient00003/study1/view2_frontal.jpg"
    assert (record.patient, record.study, record.projection) == ("patient00003", "train/patient00003/study1", "AP")
    assert {r.split for r in kept(options).values() if r.image_id.startswith("valid")} == {"test"}


def test_clean_validates_on_other_patients_and_paper_on_other_images(tmp_path: Path) -> None:
    """Laterals take part in the published draw alone; in clean mode they are where their patient is."""
    options = tree(tmp_path, plain(100))
    for mode, shared in (("clean", False), ("paper", True)):
        every = kept(options.model_copy(update={"mode": mode})).values()
        patients = {(r.patient, r.split) for r in every if r.split != "test"}
        assert (len(patients) > 100) == shared
        records = [r for r in every if r.projection != "LATERAL"]
        homes = {split: {r.patient for r in records if r.split == split} for split in ("train", "val")}
        assert bool(homes["train"] & homes["val"]) == shared
        sizes = Counter(r.split for r in records)
        assert 15 <= sizes["val"] <= 25
        assert sizes["train"] + sizes["val"] == 200


def test_validation_has_the_published_size() -> None:
    assert module._validation(191_027) == 5_000
    assert module._validation(1_000) == 100
    assert module._validation(3) == 1
    assert module._validation(0) == 0


def test_5x200_is_drawn_by_the_published_rule(tmp_path: Path) -> None:
    unfit = [
        row(5_000, Edema="1.0", Pneumonia="-1.0"),  # an uncertain other finding disqualifies
        row(5_001, Edema="1.0", Fracture="1.0"),
        row(5_002, lateral=True, Edema="1.0"),
        row(5_003, Edema="-1.0"),
    ]
    records = kept(tree(tmp_path, [*plain(20), *alone(410), *unfit]))
    drawn = [record for record in records.values() if record.split == "5x200-regen"]
    assert Counter(name for r in drawn for name, value in (r.labels or {}).items() if value) == dict.fromkeys(
        CLASSES, 200
    )
    assert all(record.image_id.startswith("5x200-regen/train/") for record in drawn)
    assert not {record.patient for record in drawn} & {f"patient0500{i}" for i in range(4)}


def test_a_small_tree_keeps_half_of_each_pool_to_train_on(tmp_path: Path) -> None:
    records = kept(tree(tmp_path, alone(9)))
    assert sum(r.split == "5x200-regen" for r in records.values()) == 5 * 4


@pytest.mark.parametrize(("mode", "leak"), [("clean", False), ("paper", True)])
def test_other_images_of_the_retrieval_patients(tmp_path: Path, mode: str, leak: bool) -> None:
    options = tree(tmp_path, [*plain(30), *alone(8)]).model_copy(update={"mode": mode})
    found = list(SOURCE.records(options))
    records = [item for item in found if isinstance(item, Record)]
    retrieval = {r.patient for r in records if r.split == "5x200-regen"}
    assert bool(retrieval & {r.patient for r in records if r.split in ("train", "val")}) == leak
    reasons = Counter(item.reason for item in found if isinstance(item, Excluded))
    assert reasons["patient of a retrieval set"] == (0 if leak else 20)
    assert len(found) == 30 * 3 + 80 + 1  # each row of the tables once
    assert not {r.image for r in records if r.split == "5x200-regen"} & {r.image for r in records if r.split == "train"}


def test_the_official_lists_are_used_with_their_impressions(tmp_path: Path) -> None:
    options = tree(tmp_path, [*plain(30), *alone(4)])
    listed = [one | {"Report Impression": f"text {i}"} for i, one in enumerate(alone(4)[:6:2])]
    listed[1]["Report Impression"] = ""
    write(tmp_path, "chexpert_5x200.csv", listed, (*COLUMNS, "Report Impression"))
    write(
        tmp_path, "chexpert_8x200.csv", [one | {"Variable": "Edema"} for one in alone(4)[4:8:2]], ("Variable", "Path")
    )
    records = kept(options)
    assert Counter(r.split for r in records.values() if "x200" in r.split) == {"5x200": 3, "8x200": 2}
    texts = [r.impression for r in records.values() if r.split == "5x200"]
    assert texts == ["text 0", None, "text 2"]
    eight = [r.labels for r in records.values() if r.split == "8x200"]
    assert set(eight[0] or {}) == set(module.EIGHT) <= set(SOURCE.classes)
    assert all(sum(labels.values()) == labels["Edema"] == 1 for labels in eight if labels)
    assert all(set(r.labels or {}) == set(CLASSES) for r in records.values() if r.split != "8x200")
    assert not {"patient01000", "patient01003"} & {r.patient for r in records.values() if r.split in ("train", "val")}
    both = [r.image_id for r in records.values() if r.patient == "patient01002"]
    assert len(both) == 2  # in both sets, under two ids


def test_the_test_part_is_a_split_of_its_own(tmp_path: Path) -> None:
    options = tree(tmp_path, plain(10))
    studies = [f"CheXpert-v1.0/test/patient6474{i}/study1" for i in range(2)]
    for name in ("view1_lateral.jpg", "view2_frontal.jpg"):
        (tmp_path / "test/patient64740/study1").mkdir(parents=True, exist_ok=True)
        (tmp_path / "test/patient64740/study1" / name).touch()
    rows = [{"Study": study, "Edema": "1.0", "No Finding": "0.0"} for study in studies]
    write(tmp_path, "groundtruth.csv", rows, ("Study", *COLUMNS[5:]))
    (record,) = [one for one in kept(options).values() if one.split == "consensus"]
    assert record.image == tmp_path / "test/patient64740/study1/view2_frontal.jpg"
    assert (record.patient, record.labels) == ("patient64740", dict.fromkeys(CLASSES, 0.0) | {"Edema": 1.0})
    assert "test/patient64741/study1/view1_frontal.jpg" in {
        item.source.removeprefix(f"{tmp_path}/") for item in SOURCE.records(options) if isinstance(item, Excluded)
    }
    write(tmp_path, "groundtruth.csv", [rows[0] | {"Edema": "-1"}], ("Study", *COLUMNS[5:]))
    with pytest.raises(UserError, match=r"groundtruth\.csv: column 'Edema' holds '-1' in 1 rows: expected 1, 0"):
        list(SOURCE.records(options))


def test_a_list_of_another_release_is_reported(tmp_path: Path) -> None:
    options = tree(tmp_path, plain(10))
    write(tmp_path, "chexpert_5x200.csv", [row(77_777)], ("Path",))
    with pytest.raises(UserError, match=r"lists 1 images that train\.csv lacks, train/patient77777/"):
        list(SOURCE.records(options))
    (tmp_path / "chexpert_5x200.csv").unlink()
    write(tmp_path, "chexpert_8x200.csv", [plain(10)[0] | {"Variable": "Mass"}], ("Variable", "Path"))
    with pytest.raises(UserError, match="Variable 'Mass' is none of No Finding, Cardiomegaly"):
        list(SOURCE.records(options))


def test_wrong_tables_are_reported_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no train\.csv"):
        list(SOURCE.records(SOURCE.Options(raw=tmp_path)))
    options = tree(tmp_path, [*plain(5), row(6, Edema="3")])
    with pytest.raises(UserError, match="column 'Edema' holds '3' in 1 rows: expected 1, 0, -1 or blank"):
        list(SOURCE.records(options))
    write(tmp_path, "train.csv", [*plain(5), plain(5)[0]])
    with pytest.raises(UserError, match="lists 1 ids more than once"):
        list(SOURCE.records(options))
    write(tmp_path, "train.csv", [{"Path": "train/img1.jpg", "Frontal/Lateral": "Frontal"}])
    with pytest.raises(UserError, match=r"Path 'img1\.jpg' is not"):
        list(SOURCE.records(options))
    write(tmp_path, "train.csv", plain(5))
    write(tmp_path, "valid.csv", [row(1, part="valid", lateral=True)])
    with pytest.raises(UserError, match="split 'test' is empty"):
        list(SOURCE.records(options))
    write(tmp_path, "valid.csv", [row(1, part="valid")], COLUMNS[:-1])
    with pytest.raises(UserError, match=r"valid\.csv lacks .*Support Devices"):
        list(SOURCE.records(options))
