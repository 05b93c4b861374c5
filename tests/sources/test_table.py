import math
from pathlib import Path

import pandas as pd
import pytest

from imitate.data.records import Excluded, Record
from imitate.errors import UserError
from imitate.sources.table import SOURCE

REPORT = "Findings: Clear lungs.\nImpression: Normal."


def tree(root: Path, *images: str) -> Path:
    for image in images:
        (root / image).parent.mkdir(parents=True, exist_ok=True)
        (root / image).write_bytes(b"pixels")
    return root


def read(raw: Path, **options: object) -> list[Record | Excluded]:
    return list(SOURCE.records(SOURCE.Options(raw=raw, **options)))


def reasons(found: list[Record | Excluded]) -> list[str]:
    return [entry.reason if isinstance(entry, Excluded) else "ok" for entry in found]


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.tsv", "t.parquet"])
def test_a_report_column_in_any_form(tmp_path: Path, name: str) -> None:
    tree(tmp_path, "x/1.dcm", "x/2.dcm")
    table = pd.DataFrame({"image_path": ["x/1.dcm", "x/2.dcm"], "patient": ["007", "8"], "report": [REPORT, None]})
    table["split"], table["projection"], table["study"] = ["validate", "test"], ["pa", None], ["s1", "s2"]
    path = tmp_path / name
    if name.endswith("parquet"):
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="\t" if name.endswith("tsv") else ",")
    record, excluded = read(tmp_path)
    image = tmp_path.resolve() / "x/1.dcm"
    assert record == Record(
        "x/1.dcm", image, "007", "s1", split="val", projection="PA", findings="Clear lungs.", impression="Normal."
    )
    assert excluded == Excluded(f"{name}, row 2", "no findings and no impression")


def test_columns_by_other_names_sections_and_labels(tmp_path: Path) -> None:
    tree(tmp_path, "1.png", "2.png", "3.png")
    (tmp_path / "t.csv").write_text(
        "Datei;Pat;Befund;Urteil;report;Edema;Nodule\n"
        "1.png;7;Frei.;;Findings: unread;1;\n"
        "2.png;8;nan; ;;true;0.0\n"
        "3.png;9;;;;;NA\n"
    )
    columns = dict(
        image_path="Datei", patient="Pat", findings="Befund", impression="Urteil", labels=("Nodule", "Edema")
    )
    first, second, third = read(tmp_path / "t.csv", **columns)
    assert (first.findings, first.impression, first.study) == ("Frei.", None, "1.png")
    assert list(first.labels) == ["Nodule", "Edema"]
    assert math.isnan(first.labels["Nodule"]) and first.labels["Edema"] == 1
    assert second.findings is None and second.labels == {"Nodule": 0, "Edema": 1}
    assert third == Excluded("t.csv, row 3", "no findings and no impression")


def test_the_old_name_of_the_projection_column_is_read_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tree(tmp_path, "1.png")
    (tmp_path / "t.csv").write_text("image_path,patient,findings,view\n1.png,7,x,Lateral\n")
    [record] = read(tmp_path)
    assert record.projection == "LATERAL"
    assert "t.csv: the column view is now called projection: rename it" in caplog.text


def test_a_house_style(tmp_path: Path) -> None:
    tree(tmp_path, "1.png")
    (tmp_path / "t.csv").write_text('image_path,patient,report\n1.png,7,"BEFUND: Frei.\nUrteil: Normal."\n')
    headers = tmp_path / "headers.yaml"
    headers.write_text("Befund: findings\nUrteil: impression\n")
    [record] = read(tmp_path, sections=headers)
    assert (record.findings, record.impression) == ("Frei.", "Normal.")


def test_images_stay_inside_the_folder(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", "in/1.png")
    tree(tmp_path, "out/2.png")
    (root / "link").symlink_to(tmp_path / "out")
    (root / "within").symlink_to(root / "in")
    (root / "loop").symlink_to(root / "loop")
    names = ["in/1.png", "../out/2.png", "link/2.png", "within/1.png", str(tmp_path / "out/2.png")]
    names += [str(root / "in/1.png"), r"in\1.png", "in/../in/1.png", "in", "absent.png"]
    rows = "".join(f"{name},7,Impression: x\n" for name in [*names, "loop", ""])
    (root / "t.csv").write_text(f"image_path,patient,report\n{rows}")
    outside, missing = "image outside the root", "missing file"
    expected = ["ok", outside, outside, "ok", outside, "ok", "ok", "ok", missing, missing]
    found = reasons(read(root))
    assert found[:10] == expected
    assert found[10] in (outside, missing)  # a loop: Python 3.13 no longer raises
    assert found[11] == "no image path"


def test_without_split_column_a_patient_stays_together(tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(60)]
    tree(tmp_path, *names)
    rows = "".join(f"{name},{number % 20},x\n" for number, name in enumerate(names))
    (tmp_path / "t.csv").write_text(f"image_path,patient,findings\n{rows}")
    found = read(tmp_path)
    splits = {record.patient: record.split for record in found}
    assert all(record.split == splits[record.patient] for record in found)
    assert set(splits.values()) == {"train", "val", "test"}


def test_rows_that_cannot_be_used(tmp_path: Path) -> None:
    tree(tmp_path, "1.png")
    (tmp_path / "t.csv").write_text("image_path,patient,findings,split\n1.png,,x,train\n1.png,7,x,\n1.png,7,x,dev\n")
    assert reasons(read(tmp_path)) == ["no patient", "no split", "ok"]


def test_a_patient_in_two_splits_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tree(tmp_path, "1.png")
    (tmp_path / "t.csv").write_text(
        "image_path,patient,findings,split\n1.png,7,x,train\n1.png,7,x,test\n1.png,8,x,val\n"
    )
    read(tmp_path)
    assert "1 patients are in more than one split" in caplog.text


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("path,patient\n1.png,7\n", {}, "lacks column 'image_path'; its columns are path, patient"),
        ("image_path,patient,text\n1.png,7,x\n", {}, "has no column report, findings, impression, and no label"),
        ("image_path,patient,e\n1.png,7,2\n", {"labels": ("e",)}, "'e' holds '2': write 1, 0"),
        ("image_path,patient,e\n1.png,7,2\n", {"labels": ("f",)}, "lacks column 'f'"),
        ("image_path,patient,report,split\n1.png,7,x,trian\n", {}, "unknown split 'trian'"),
        ("image_path,patient,report\n1.png,7,x\n", {"sections": Path("absent.yaml")}, "absent.yaml"),
    ],
)
def test_a_wrong_table_is_told_before_any_record(
    tmp_path: Path, content: str, options: dict[str, object], message: str
) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(UserError, match=message):
        next(SOURCE.records(SOURCE.Options(raw=tmp_path, **options)))


def test_the_table_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="it holds none"):
        read(tmp_path)
    tree(tmp_path, "a.csv", "b.parquet")
    with pytest.raises(UserError, match=r"it holds a\.csv, b\.parquet: name the file"):
        read(tmp_path)
    with pytest.raises(UserError, match="no table at"):
        read(tmp_path / "absent")
