from collections import Counter
from pathlib import Path

import pytest

from imitate.config import Config
from imitate.data.annotations import RunLengths, draw_mask
from imitate.data.records import Excluded, Record
from imitate.errors import UserError
from imitate.sources import siim as module
from imitate.sources.siim import SOURCE


def tree(root: Path, rows: list[str], *, header: str = "ImageId, EncodedPixels") -> Config:
    (root / "train-rle.csv").write_text("\n".join([header, *rows]) + "\n")
    for name in {row.split(",")[0].strip() for row in rows}:
        series = root / "dicom-images-train" / f"1.2.{name}" / f"1.3.{name}"
        series.mkdir(parents=True)
        (series / f"{name}.dcm").touch()
    return SOURCE.Options(raw=root)


def negatives(count: int) -> list[str]:
    return [f"1.2.276.{i:05}, -1" for i in range(count)]


@pytest.mark.parametrize("header", ["ImageId, EncodedPixels", "ImageId,EncodedPixels", " ImageId,  EncodedPixels "])
def test_negatives_are_negative_in_every_mirror(tmp_path: Path, header: str) -> None:
    options = tree(tmp_path, ["n1, -1", "n2,-1", "n3,-1 ", "p, 5 3"], header=header)
    labels = {r.image_id: r.labels for r in SOURCE.records(options) if isinstance(r, Record)}
    assert labels == {name: {"Pneumothorax": float(name == "p")} for name in ("n1", "n2", "n3", "p")}


def test_rows_of_an_image_are_united_and_lie_as_published(tmp_path: Path) -> None:
    options = tree(tmp_path, ["p, 1024 2 1022 1", "p, 10 1", *negatives(4)])
    records = {r.image_id: r for r in SOURCE.records(options) if isinstance(r, Record)}
    assert len(records) == 5
    mask = draw_mask(records["p"].annotations, 1024, 1024)
    assert sorted(zip(*mask.nonzero(), strict=True)) == [(0, 1), (0, 2), (1, 1), (10, 0)]  # (row, column)
    empty = records["1.2.276.00000"]
    assert empty.annotations == (RunLengths("Pneumothorax", "", (1024, 1024)),) and empty.annotated
    assert not draw_mask(empty.annotations, 1024, 1024).any()


def test_clean_divides_images_and_paper_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """12,047 images in 12,954 rows, rows an image as counted; the files are taken as given."""
    repeats = {2: 447, 3: 112, 4: 40, 5: 18, 6: 3, 7: 1, 8: 2, 10: 1}
    rows = [
        f"{i:05},{j} 1"
        for i, n in enumerate(n for n, images in repeats.items() for _ in range(images))
        for j in range(n)
    ]
    rows += [f"{i:05},-1" for i in range(12_047 - 624)]
    rows = [row if row.endswith(" 1") else f"9{row}" for row in rows]
    (tmp_path / "train-rle.csv").write_text("\n".join(["ImageId, EncodedPixels", *rows]))
    (tmp_path / "one.dcm").touch()
    monkeypatch.setattr(module, "_record", lambda image, split, runs, file, suffix: (image, split, runs))
    clean = list(SOURCE.records(SOURCE.Options(raw=tmp_path)))
    assert Counter(split for _, split, _ in clean) == {"train": 8_433, "val": 1_807, "test": 1_807}
    paper = list(SOURCE.records(SOURCE.Options(raw=tmp_path, mode="paper")))
    sizes = Counter(split for _, split, runs in paper for _ in runs)
    assert sizes == {"train": 9_067, "val": 1_944, "test": 1_943}
    assert len({image for image, _, _ in paper}) == 12_047 < len(paper)


def test_paper_keeps_ids_unique(tmp_path: Path) -> None:
    options = tree(tmp_path, [f"p, {i} 1" for i in range(20)]).model_copy(update={"mode": "paper"})
    records = [r for r in SOURCE.records(options) if isinstance(r, Record)]
    assert {r.image_id for r in records} == {"p@train", "p@val", "p@test"}
    assert {r.patient for r in records} == {"p"}
    assert sum(draw_mask(r.annotations, 1024, 1024).sum() for r in records) == 20


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (["bad, 1048576 1"], "run lengths exceed the image"),
        (["bad, 5"], "run lengths are not pairs of gap and length"),
        (["bad, five 1"], "run lengths are not integers"),
        (["bad, 5 1", "bad, -1"], "both negative and drawn"),
    ],
)
def test_one_bad_mask_is_excluded_with_its_reason(tmp_path: Path, rows: list[str], reason: str) -> None:
    found = list(SOURCE.records(tree(tmp_path, [*rows, *negatives(4)])))
    assert [item for item in found if isinstance(item, Excluded)] == [Excluded("bad", reason)]
    assert len(found) == 5


def test_a_missing_file_is_excluded_and_a_missing_archive_reported(tmp_path: Path) -> None:
    options = tree(tmp_path, negatives(4))
    first = next(tmp_path.glob("*/*/*/*00000.dcm"))
    first.unlink()
    found = list(SOURCE.records(options))
    assert [item for item in found if isinstance(item, Excluded)] == [Excluded("1.2.276.00000", "missing file")]
    for file in tmp_path.glob("*/*/*/*.dcm"):
        file.unlink()
    with pytest.raises(UserError, match=r"no \.dcm files"):
        list(SOURCE.records(options))


def test_wrong_tables_are_reported_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no stage_2_train\.csv or train-rle\.csv"):
        list(SOURCE.records(SOURCE.Options(raw=tmp_path)))
    with pytest.raises(UserError, match="lacks the columns ImageId, EncodedPixels; it has ImageId, Pixels"):
        list(SOURCE.records(tree(tmp_path, negatives(4), header="ImageId,Pixels")))
    (tmp_path / "train-rle.csv").write_text("ImageId, EncodedPixels\na,\nb, -1\n")
    with pytest.raises(UserError, match="column 'EncodedPixels' is blank in 1 of 2 rows"):
        list(SOURCE.records(SOURCE.Options(raw=tmp_path)))
