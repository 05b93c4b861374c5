import json
from collections import Counter
from pathlib import Path

import pytest

from imitate.config import Config
from imitate.data.records import Excluded, Record
from imitate.errors import UserError
from imitate.sources import covidx as module
from imitate.sources.covidx import SOURCE

LABELS = ("normal", "pneumonia", "COVID-19")


def rows(count: int, *, part: str, images: int = 2) -> list[str]:
    return [f"{part}-{i // images} {part}.{i}.png {LABELS[i // images % 3]} rsna" for i in range(count)]


def tree(root: Path, train: list[str], test: list[str], *, name: str = "COVIDx9A") -> Config:
    for part, lines in (("train", train), ("test", test)):
        (root / f"{part}_{name}.txt").write_text("\n".join(lines) + "\n")
        (root / part).mkdir(exist_ok=True)
        for line in lines:
            (root / part / line.split()[1]).touch()
    return SOURCE.Options(raw=root)


def test_clean_divides_patients_and_paper_images(tmp_path: Path) -> None:
    options = tree(tmp_path, rows(100, part="a"), rows(9, part="b"))
    for mode in ("clean", "paper"):
        records = [r for r in SOURCE.records(options.model_copy(update={"mode": mode})) if isinstance(r, Record)]
        assert Counter(r.split for r in records) == {"train": 80, "val": 20, "test": 9}
        homes = {split: {r.patient for r in records if r.split == split} for split in ("train", "val")}
        assert bool(homes["train"] & homes["val"]) == (mode == "paper")
    assert {r.split for r in records if r.image.parent.name == "test"} == {"test"}


def test_labels_are_one_hot(tmp_path: Path) -> None:
    records = SOURCE.records(tree(tmp_path, rows(12, part="a"), rows(9, part="b")))
    labels = {r.image_id: r.labels for r in records if isinstance(r, Record)}
    assert labels["test/b.4.png"] == {"normal": 0.0, "pneumonia": 0.0, "COVID-19": 1.0}
    assert all(sum(row.values()) == 1 for row in labels.values() if row)


def test_the_published_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "present", lambda record, root: record)
    (tmp_path / "train_COVIDx9A.txt").write_text("\n".join(rows(30_130, part="a", images=1)))
    (tmp_path / "test_COVIDx9A.txt").write_text("\n".join(rows(400, part="b", images=1)))
    records = SOURCE.records(SOURCE.Options(raw=tmp_path, mode="paper"))
    assert Counter(r.split for r in records if isinstance(r, Record)) == {"train": 24_104, "val": 6_026, "test": 400}


def test_clean_prefers_the_cleaned_list_and_paper_the_published_one(tmp_path: Path) -> None:
    tree(tmp_path, rows(12, part="a"), rows(9, part="b"))
    options = tree(tmp_path, rows(24, part="c"), rows(9, part="d"), name="COVIDx_CXR-3A")
    assert {r.image_id[6] for r in SOURCE.records(options) if isinstance(r, Record) and r.split == "train"} == {"c"}
    paper = SOURCE.records(options.model_copy(update={"mode": "paper"}))
    assert {r.image_id[6] for r in paper if isinstance(r, Record) and r.split == "train"} == {"a"}


def test_missing_repeated_and_shared_rows_are_excluded_and_counted(tmp_path: Path) -> None:
    train = [*rows(20, part="a"), rows(20, part="a")[3], "b-0 x.png normal rsna"]
    options = tree(tmp_path, train, rows(9, part="b"))
    (tmp_path / "train" / "a.7.png").unlink()
    found = list(SOURCE.records(options))
    reasons = Counter(item.reason for item in found if isinstance(item, Excluded))
    assert reasons == {"missing file": 1, "listed again": 1, "patient of the test list": 1}
    assert len(found) == len(train) + 9


@pytest.mark.parametrize(
    ("line", "reported"),
    [
        ("a x.png normal", "line 7: 3 fields"),
        ("a x y.png normal rsna", "line 7: 5 fields"),
        ("a x.png positive rsna", "class 'positive' is none of normal, pneumonia, COVID-19"),
    ],
)
def test_a_row_that_is_none_is_reported_with_its_line(tmp_path: Path, line: str, reported: str) -> None:
    with pytest.raises(UserError, match=reported):
        list(SOURCE.records(tree(tmp_path, [*rows(6, part="a"), line], rows(9, part="b"))))


def test_lists_without_three_classes_do_not_count(tmp_path: Path) -> None:
    options = tree(tmp_path, rows(6, part="a"), rows(9, part="b"), name="COVIDx9B")
    with pytest.raises(UserError, match=r"has no train_COVIDx_CXR-3A\.txt or train_COVIDx9A\.txt"):
        list(SOURCE.records(options))


def test_images_of_rsna_have_its_patients_where_the_mapping_is_there(tmp_path: Path) -> None:
    """Of one patient of ChestX-ray14 no image is in test and another one in train, whatever the lists call them."""
    train = [f"p{i} a{i}.png normal {('rsna', 'rnsa', 'sirm')[i % 3]}" for i in range(30)]
    options = tree(tmp_path, train, ["q b.png pneumonia rsna", "r c.png normal ricord", "s d.png COVID-19 sirm"])
    assert len({r.patient for r in SOURCE.records(options) if isinstance(r, Record)}) == 33
    listed = [{"subset_img_id": f"a{i}", "img_id": f"{i // 6:08d}_{i:03d}.png"} for i in range(30)]
    listed.append({"subset_img_id": "b", "img_id": "00000000_001.png"})
    (tmp_path / "pneumonia-challenge-dataset-mappings_2018.json").write_text(json.dumps(listed))
    found = list(SOURCE.records(options))
    patients = {r.image_id: r.patient for r in found if isinstance(r, Record)}
    assert patients["test/b.png"] == "chest-xray14:00000000" and patients["train/a6.png"] == "chest-xray14:00000001"
    assert patients["train/a8.png"] == "p8", "of another source than RSNA"
    excluded = [each.source for each in found if isinstance(each, Excluded)]
    assert excluded == ["a0.png", "a1.png", "a3.png", "a4.png"]
