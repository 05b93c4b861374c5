import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imitate.data.records import Excluded, Record
from imitate.doctor.checks import Check
from imitate.doctor.raw import examine_raw
from imitate.errors import UserError
from imitate.sources import BUILT_IN, Options, Source, Traits, find_source, object_cxr


def tree(root: Path, images: int = 10) -> Path:
    for part in ("train", "dev"):
        (root / part).mkdir()
        rows = [f"{i}.png,{'0 5 5 20 20' if i % 2 else ''}" for i in range(images)]
        (root / f"{part}.csv").write_text("\n".join(["image_name,annotation", *rows]))
        for i in range(images):
            pixels = np.random.default_rng(i).integers(0, 255, (40, 30), dtype=np.uint8)
            Image.fromarray(pixels).save(root / part / f"{i}.png")
    return root


def examined(path: Path, **options: object) -> dict[str, Check]:
    return {check.what: check for check in examine_raw(path, "object-cxr", options)}


def test_a_sound_tree_differs_from_the_published_counts_alone(tmp_path: Path) -> None:
    found = examined(tree(tmp_path))
    assert {what for what, check in found.items() if check.state != "ok"} == {"published counts", "patient ids"}
    assert found["published counts"].state == found["patient ids"].state == "warn"
    assert found["patient ids"].found.startswith("name images, not patients")
    assert found["projections"].found == "20 unknown; all are selected by default"
    assert "images in train 8 of 6,400" in found["published counts"].found
    assert found["records"].found == "20 usable, 0 excluded"
    assert found["images"].found == "16 decoded, sides of 30 to 40 px"
    assert found["prevalence"].found == "Foreign object 50.0%"


def test_the_published_counts_can_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {"records": 20, "images": 19, "images in test": 10, "boxes": 9, "Foreign object in test": 5}
    monkeypatch.setattr(object_cxr, "SOURCE", object_cxr.SOURCE._replace(expected=expected))
    (tree(tmp_path) / "train" / "1.png").unlink()
    assert examined(tmp_path)["published counts"] == Check("ok", "published counts", "all 5 agree")


def test_missing_and_unreadable_images_are_counted(tmp_path: Path) -> None:
    tree(tmp_path)
    (tmp_path / "dev" / "3.png").unlink()
    for i in range(6):
        (tmp_path / "train" / f"{i}.png").write_bytes(b"")
    found = examined(tmp_path)
    assert found["excluded"] == Check("warn", "excluded", "1 x missing file")
    assert found["images"].state == "warn"
    assert "cannot be decoded" in found["images"].found
    for file in tmp_path.glob("*/*.png"):
        file.write_bytes(b"not an image")
    assert examined(tmp_path)["images"].state == "broken"


def test_faulty_tables_and_empty_trees_are_broken(tmp_path: Path) -> None:
    assert examined(tmp_path)["tables"].state == "broken"
    tree(tmp_path)
    for file in tmp_path.glob("*/*.png"):
        file.unlink()
    found = examined(tmp_path)
    assert found["records"] == Check("broken", "records", "0 usable, 20 excluded")


def test_a_patient_in_two_splits_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def records(options: Options) -> Iterator[Record | Excluded]:
        for split in ("train", "test"):
            yield Record(image_id=split, image=tmp_path / "a.png", patient="p", study="s", split=split)

    monkeypatch.setattr(object_cxr, "SOURCE", Source(records, Options))
    found = examined(tmp_path)
    assert found["patients"].state == "broken"
    assert "prevalence" not in found


def test_every_source_counts_what_it_expects() -> None:
    """A name that is never counted would warn for ever."""
    for name in set(BUILT_IN) - {"dicomweb", "synthetic", "table"}:
        source = find_source(name)
        options = source.Options.model_validate({"raw": "x"})
        expected = source.expected_of(options)
        assert expected
        known = {"records", "images", "patients", "boxes", *source.classes_of(options), "LATERAL images"}
        for what in expected:
            assert what.split(" in ")[0] in known, f"{name}: {what}"
            assert " in " not in what or what.split(" in ")[1] in ("train", "val", "test"), f"{name}: {what}"


def test_the_real_sample_is_sound(real_data: Path) -> None:
    found = {check.what: check for check in examine_raw(real_data / "chestxray14", "chestxray14")}
    assert {what for what, check in found.items() if check.state != "ok"} == {"published counts"}
    assert "patients 640 of 30,805" in found["published counts"].found


def test_an_error_while_records_are_read_is_one_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def records(options: Options) -> Iterator[Record | Excluded]:
        yield Excluded("a", "black image")
        raise UserError("the second table is torn")

    monkeypatch.setattr(object_cxr, "SOURCE", Source(records, Options))
    assert list(examine_raw(tmp_path, "object-cxr")) == [Check("broken", "tables", "the second table is torn")]


def test_counts_are_of_the_projections_that_are_selected_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def records(options: Options) -> Iterator[Record | Excluded]:
        for name, split, projection in (("a", "test", "PA"), ("b", "test", "LATERAL"), ("c", "train", "LATERAL")):
            yield Record(name, tmp_path / "a.png", "p", "s", split=split, projection=projection, labels={"X": 1.0})

    expected = {"images": 1, "images in test": 1, "X": 1, "LATERAL images in test": 1, "records": 3}
    source = Source(records, Options, ("X",), expected=expected, traits=Traits(projections=("PA", "AP")))
    monkeypatch.setattr(object_cxr, "SOURCE", source)
    found = examined(tmp_path)
    assert found["published counts"] == Check("ok", "published counts", "all 5 agree")
    assert found["projections"] == Check("ok", "projections", "2 LATERAL, 1 PA; selected by default: PA, AP")
    assert found["splits"].found == "1 test" and "patient ids" not in found
    monkeypatch.setattr(object_cxr, "SOURCE", source._replace(traits=Traits(projections=("AP",))))
    assert examined(tmp_path)["projections"].state == "broken"


def test_the_options_of_the_source_decide(tmp_path: Path) -> None:
    paper = examined(tree(tmp_path), mode="paper")
    assert paper["splits"].found == "10 test, 9 train, 1 val" and "published counts" not in paper
    with pytest.raises(UserError, match="object-cxr: unknown key 'reports'; known: mode, raw"):
        examined(tmp_path, reports="x")


def test_reports_without_a_known_header_and_odd_images_are_warned_of(tmp_path: Path) -> None:
    stray = np.random.default_rng(0).integers(0, 50, (40, 40), dtype=np.uint8)
    stray[0, 0] = 255
    Image.fromarray(stray).save(tmp_path / "a.png")
    rows = ("1,Befund: frei", "2,Ergebnis: frei", "3,FINDINGS clear impression: normal")
    (tmp_path / "t.csv").write_text("\n".join(["image_path,patient,report", *(f"a.png,{row}" for row in rows)]))
    found = list(examine_raw(tmp_path, "table"))
    assert Check("warn", "excluded", "1 x no known section header") in found
    assert Check("warn", "notes", "2 x low contrast of 2 decoded images") in found
    whole = list(examine_raw(tmp_path, "table", {"whole_report": "findings"}))
    left_over = "1 x a section with another section's header"
    assert Check("warn", "notes", left_over) in found
    assert Check("warn", "notes", f"1 x no known section header, {left_over}") in whole
    assert Check("warn", "notes", "3 x low contrast of 3 decoded images") in whole


def test_images_in_archives_are_decoded_as_prepare_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "dev" / "3.png", "x.png")

    def records(options: Options) -> Iterator[Record | Excluded]:
        yield Record("x", tmp_path / "a.zip", "p", "s", member="x.png")

    monkeypatch.setattr(object_cxr, "SOURCE", Source(records, Options))
    assert examined(tmp_path)["images"].state == "ok"
