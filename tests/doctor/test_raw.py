from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from imitate.data.prepared import Dropped, Record
from imitate.doctor.checks import Finding
from imitate.doctor.raw import examine_raw
from imitate.errors import UserError
from imitate.names import SourceName
from imitate.sources import Dataset, SourceOptions, dataset, object_cxr


def tree(root: Path, images: int = 10) -> Path:
    for part in ("train", "dev"):
        (root / part).mkdir()
        rows = [f"{i}.png,{'0 5 5 20 20' if i % 2 else ''}" for i in range(images)]
        (root / f"{part}.csv").write_text("\n".join(["image_name,annotation", *rows]))
        for i in range(images):
            pixels = np.random.default_rng(i).integers(0, 255, (40, 30), dtype=np.uint8)
            Image.fromarray(pixels).save(root / part / f"{i}.png")
    return root


def examined(path: Path) -> dict[str, Finding]:
    return {finding.what: finding for finding in examine_raw(path, "object-cxr")}


def test_a_sound_tree_differs_from_the_published_counts_alone(tmp_path: Path) -> None:
    found = examined(tree(tmp_path))
    assert {what for what, finding in found.items() if finding.state != "ok"} == {"published counts"}
    assert found["published counts"].state == "warn"
    assert "images in train 8 of 6,400" in found["published counts"].told
    assert found["records"].told == "20 usable, 0 left out"
    assert found["images"].told == "16 decoded, sides of 30 to 40 px"
    assert found["prevalence"].told == "Foreign object 50.0%"


def test_the_published_counts_can_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {"records": 20, "images": 19, "images in test": 10, "boxes": 9, "Foreign object in test": 5}
    monkeypatch.setattr(object_cxr, "DATASET", object_cxr.DATASET._replace(expectations=expected))
    (tree(tmp_path) / "train" / "1.png").unlink()
    assert examined(tmp_path)["published counts"] == Finding("ok", "published counts", "all 5 agree")


def test_missing_and_unreadable_images_are_counted(tmp_path: Path) -> None:
    tree(tmp_path)
    (tmp_path / "dev" / "3.png").unlink()
    for i in range(6):
        (tmp_path / "train" / f"{i}.png").write_bytes(b"")
    found = examined(tmp_path)
    assert found["left out"] == Finding("warn", "left out", "1 x missing file")
    assert found["images"].state == "warn"
    assert "cannot be decoded" in found["images"].told
    for file in tmp_path.glob("*/*.png"):
        file.write_bytes(b"not an image")
    assert examined(tmp_path)["images"].state == "broken"


def test_faulty_tables_and_empty_trees_are_broken(tmp_path: Path) -> None:
    assert examined(tmp_path)["tables"].state == "broken"
    tree(tmp_path)
    for file in tmp_path.glob("*/*.png"):
        file.unlink()
    found = examined(tmp_path)
    assert found["records"] == Finding("broken", "records", "0 usable, 20 left out")


def test_a_patient_in_two_splits_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def records(options: SourceOptions) -> Iterator[Record | Dropped]:
        for split in ("train", "test"):
            yield Record(image_id=split, image=tmp_path / "a.png", patient="p", study="s", split=split)

    monkeypatch.setattr(object_cxr, "DATASET", Dataset(records))
    found = examined(tmp_path)
    assert found["patients"].state == "broken"
    assert "prevalence" not in found


def test_every_source_with_expectations_counts_what_it_expects(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is never counted would warn for ever."""
    for name in set(get_args(SourceName)) - {"synthetic", "table"}:
        source = dataset(name)
        assert source.expectations
        known = {"records", "images", "patients", "boxes", *source.classes}
        for what in source.expectations:
            assert what.split(" in ")[0] in known or what == "dropped: not frontal", f"{name}: {what}"
            assert " in " not in what or what.split(" in ")[1] in ("train", "val", "test"), f"{name}: {what}"


def test_the_real_sample_is_sound(real_data: Path) -> None:
    found = {finding.what: finding for finding in examine_raw(real_data / "chestxray14", "chestxray14")}
    assert {what for what, finding in found.items() if finding.state != "ok"} == {"published counts"}
    assert "patients 640 of 30,805" in found["published counts"].told


def test_an_error_while_records_are_read_is_one_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def records(options: SourceOptions) -> Iterator[Record | Dropped]:
        yield Dropped("a", "black image")
        raise UserError("the second table is torn")

    monkeypatch.setattr(object_cxr, "DATASET", Dataset(records))
    assert list(examine_raw(tmp_path, "object-cxr")) == [Finding("broken", "tables", "the second table is torn")]
