import math
import unicodedata
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


def test_a_patient_in_two_splits_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
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
        ("image_path,patient,e\n1.png,7,2\n", {"labels": ("e",)}, "'e' holds '2': write 1, 0, -1 or leave it blank"),
        ("image_path,patient,e\n1.png,7,2\n", {"labels": ("f",)}, "lacks column 'f'"),
        ("image_path,patient,report,split\n1.png,7,x,trian\n", {}, "unknown split 'trian'"),
        ("image_path,patient,report\n1.png,7,x\n", {"sections": Path("absent.yaml")}, "absent.yaml"),
    ],
)
def test_a_wrong_table_is_reported_before_any_record(
    tmp_path: Path, content: str, options: dict[str, object], message: str
) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(UserError, match=message):
        next(SOURCE.records(SOURCE.Options(raw=tmp_path, **options)))


def test_the_table_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="it holds none"):
        read(tmp_path)
    tree(tmp_path, "a.CSV", "b.parquet", ".a.csv", "~$t.xlsx", "notes.txt")
    with pytest.raises(UserError, match=r"it holds a\.CSV, b\.parquet: name the file"):
        read(tmp_path)
    with pytest.raises(UserError, match="no table at"):
        read(tmp_path / "absent")


HOUSE = "Ergebnis: Lungen frei.\nWertung: Normal.\nGezeichnet: Dr. X"


def house(root: Path, *reports: str, labels: str = "") -> Path:
    tree(root, *(f"{number}.png" for number in range(len(reports))))
    rows = [f'{number}.png,{number},train,"{report}",{labels}\n' for number, report in enumerate(reports)]
    (root / "t.csv").write_text("".join(["image_path,patient,split,report,Edema\n", *rows]))
    return root


def test_reports_without_a_known_header_are_counted_and_their_lines_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = read(house(tmp_path, HOUSE, HOUSE, REPORT, "FINDINGS:"))
    assert reasons(found) == ["no known section header"] * 2 + ["ok", "no findings and no impression"]
    (message,) = caplog.messages
    assert message.startswith("t.csv: 2 of 4 reports (50%) have no known section header and lose their text; frequent ")
    assert all(f"'{line}' (2)" in message for line in ("Ergebnis", "Wertung", "Gezeichnet"))
    assert message.endswith("; list headers in --sections FILE, or give --whole-report") and "Dr. X" not in message
    with_labels = read(house(tmp_path, HOUSE, REPORT, labels="1"), labels=("Edema",))
    assert [(each.findings, each.notes) for each in with_labels] == [
        (None, ("no known section header",)), ("Clear lungs.", ())
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("whole", "sections"), [("findings", (True, False)), ("impression", (False, True)), ("report", (True, True))]
)
def test_reports_without_a_known_header_can_be_used_whole(
    whole: str, sections: tuple[bool, bool], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    free, split = read(house(tmp_path, "Lungs clear.\nElectronically signed by: Dr X", REPORT), whole_report=whole)
    assert (free.findings, free.impression) == tuple("Lungs clear." if used else None for used in sections)
    assert free.notes == ("no known section header",) and (split.findings, split.notes) == ("Clear lungs.", ())
    assert f"1 of 2 reports (50%) have no known section header and are used whole ({whole})" in caplog.text


def test_a_section_with_another_sections_header_is_noted(tmp_path: Path) -> None:
    tree(tmp_path, "1.png", "2.png")
    (tmp_path / "t.csv").write_text("image_path,patient,findings\n1.png,1,clear impression: normal\n2.png,2,Clear.\n")
    assert [each.notes for each in read(tmp_path)] == [("a section with another section's header",), ()]


@pytest.mark.parametrize("word", ["nan", "NULL", "None", "unknown", "-"])
def test_words_for_nobody_are_no_patient(word: str, tmp_path: Path) -> None:
    tree(tmp_path, "1.png", "2.png", "3.png")
    (tmp_path / "t.csv").write_text(
        f"image_path,patient,findings,study,split\n1.png,{word},x,s,train\n2.png,2,NULL,s,train\n3.png,2,x,{word},train\n"
    )
    first, second, third = read(tmp_path)
    assert first == Excluded("t.csv, row 1", "no patient")
    assert second.reason == "no findings and no impression" and third.study == (
        "unknown" if word == "unknown" else "3.png"
    )


def test_a_patient_in_two_spellings_is_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = [f"{number}.png" for number in range(40)]
    tree(tmp_path, *names)
    rows = "".join(f"{name},{number // 2}{'.0' * (number % 2)},x\n" for number, name in enumerate(names))
    (tmp_path / "t.csv").write_text(f"image_path,patient,findings\n{rows}")
    found = read(tmp_path)
    assert [each.patient for each in found] == [str(number // 2) for number in range(40)]
    assert len({(each.patient, each.split) for each in found}) == 20
    assert "t.csv: the id of 20 patients differs from another only in leading zeros, a final .0" in caplog.text
    (tmp_path / "t.csv").write_text("image_path,patient,findings,split\n0.png,1,x,train\n1.png,001,x,test\n")
    read(tmp_path)
    assert "1 patients are in more than one split" in caplog.text


def test_what_hospitals_write_is_read(tmp_path: Path) -> None:
    tree(tmp_path, "é.png", "b.png")
    decomposed = unicodedata.normalize("NFD", "é.png")
    (tmp_path / "notes.txt").write_text(
        f"sep=;\nImage_Path;PATIENT;Report;Split;edema\n{decomposed};7;{REPORT.splitlines()[0]};Prüfung;ja\n"
        "b.png;8;Findings: x;Training;-1,0\n",
        encoding="utf-16",
    )
    first, second = read(tmp_path, labels=("Edema",))
    assert (first.image_id, first.split, first.labels) == ("é.png", "test", {"Edema": 1.0})
    assert unicodedata.normalize("NFC", first.image.name) == "é.png" and (first.findings, second.split) == (
        "Clear lungs.",
        "train",
    )
    assert math.isnan(second.labels["Edema"])


def test_the_first_path_that_is_not_there_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tree(tmp_path, "1.png")
    rows = "".join(f"C:\\bilder\\{number}.png,{number},x\n" for number in range(300))
    (tmp_path / "t.csv").write_text(f"image_path,patient,findings\n1.png,7,x\n{rows}")
    assert reasons(read(tmp_path)).count("ok") == 1
    (message,) = caplog.messages
    assert message.startswith("t.csv: 300 images were not found; paths must be relative to its folder. The first: ")
    assert "row 2: " in message and message.endswith("0.png") and "bilder" in message


def test_a_study_in_two_spellings_is_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Excel removes leading zeros."""
    tree(tmp_path, "1.png", "2.png", "3.png")
    (tmp_path / "t.csv").write_text("image_path,patient,study,findings\n1.png,7,0012,x\n2.png,7,12,x\n3.png,8,13,x\n")
    assert [each.study for each in read(tmp_path)] == ["12", "12", "13"]
    assert "t.csv: the id of 1 studies differs from another only in leading zeros" in caplog.text


def test_text_in_an_unknown_section_is_noted(tmp_path: Path) -> None:
    reports = ("Ergebnis: Beide Lungen sind frei.\nBeurteilung: Normal.", "Befund: Lungen frei.\nBeurteilung: Normal.")
    first, second = read(house(tmp_path, *reports))
    assert (first.findings, first.impression, first.notes) == (
        None,
        "Normal.",
        ("text in an unknown section excluded",),
    )
    assert (second.findings, second.notes) == ("Lungen frei.", ())


def test_columns_of_sections_hold_no_markup_and_nobody_who_signed(tmp_path: Path) -> None:
    tree(tmp_path, "1.png")
    cells = "<p>Clear &amp; dry.</p>,Normal. Electronically signed by A. Person"
    (tmp_path / "t.csv").write_text(f"image_path,patient,findings,impression\n1.png,1,{cells}\n")
    [record] = read(tmp_path)
    assert (record.findings, record.impression) == ("Clear & dry.", "Normal.")


def test_m_beside_h_is_a_woman(tmp_path: Path) -> None:
    tree(tmp_path, "1.png", "2.png")
    (tmp_path / "t.csv").write_text("image_path,patient,findings,Sexo,edad\n1.png,7,x,H,60\n2.png,8,x,M,58M\n")
    assert [each.sex for each in read(tmp_path, group_columns=("sex=Sexo",))] == ["M", "F"]
    with pytest.raises(UserError, match="age column 'edad' holds '58M': is the letter a unit or a sex"):
        read(tmp_path, group_columns=("age=edad",))


def test_a_name_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image_path,patient,findings,a,b\n1.png,7,x,1,0\n")
    with pytest.raises(UserError, match="--group-columns has 'sex' twice: keep one of them"):
        read(tmp_path, group_columns=("sex=a", "sex=b"))
    with pytest.raises(UserError, match="--labels has 'a' twice"):
        read(tmp_path, labels=("a", "b", "a"))
