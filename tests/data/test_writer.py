import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from raw_archive import SETTINGS, archive_records, content, make_archive

from imitate.data import index, manifest, progress, shards, writer
from imitate.data.annotations import runs_mask
from imitate.data.corpus import Corpus
from imitate.data.pixels import read_gray, to_prepared
from imitate.data.records import Excluded, Record
from imitate.data.writer import Archive, Engine, check_records, write_folder
from imitate.errors import UserError

ONE = Engine(workers=1)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return make_archive(tmp_path_factory.mktemp("raw"))


@pytest.fixture(autouse=True, scope="module")
def small_shards() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest, "ROWS", 16)
        patch.setattr(shards, "CHUNK", 4)
        yield


@pytest.fixture(scope="module")
def reference(archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reference") / "out"
    write_folder(archive_records(archive.root), out, SETTINGS, archive=archive, engine=ONE)
    return out


def test_the_folder_holds_what_the_records_say(archive: Archive, reference: Path) -> None:
    given = {each.image_id: each for each in archive_records(archive.root) if isinstance(each, Record)}
    seen = 0
    for path in sorted((reference / "shards").glob("[0-9]*[0-9].parquet")):
        table = pq.read_table(path).to_pylist()
        images, masks = (np.load(path.with_suffix(suffix), mmap_mode="r") for suffix in (".npy", ".masks.npy"))
        assert len(table) == len(images) == len(masks)
        for row, found, mask in zip(table, images, masks, strict=True):
            seen += 1
            if row["image_id"] == "7":
                continue
            record = given[row["image_id"]]
            image, geometry = to_prepared(read_gray(record.image), 24)
            np.testing.assert_array_equal(found, image)
            assert mask.any() == bool(record.annotations) and set(np.unique(mask)) <= {0, 1}
            same = ("patient", "study", "split", "projection", "findings", "language", "annotated", "sex", "age")
            assert [row[name] for name in same] == [getattr(record, name) for name in same]
            assert row["impression"] == (record.impression or None)
            assert row["has_findings"] == bool(record.findings) and row["has_impression"] == bool(record.impression)
            assert dict(row["extra"]) == record.extra
            np.testing.assert_array_equal(row["labels"], [(record.labels or {}).get("Edema", np.nan), np.nan])
            boxes = [box for each in record.annotations if hasattr(each, "x") and (box := geometry.box(each))]
            assert [(each["label"], each["x"]) for each in row["boxes"]] == [(box.label, box.x) for box in boxes]
    assert seen == json.loads((reference / "index.json").read_text())["images"]


def test_masks_with_a_label_are_a_column_of_the_shards_that_have_any(reference: Path) -> None:
    tables = [pq.read_table(path) for path in sorted((reference / "shards").glob("[0-9]*[0-9].parquet"))]
    holds = ["regions" in table.column_names for table in tables]
    assert holds == sorted(holds) and not holds[0] and holds[-1]
    assert all(
        table.schema.remove_metadata().equals(shards.SCHEMA) for table in tables if "regions" not in table.column_names
    )
    data = Corpus.open(reference)
    for row in range(len(data)):
        regions, mask = data.columns.regions(row), data.masks[row] > 0
        assert [each.label for each in regions] == ["Edema"] * int(data.columns.region_counts()[row])
        if regions:
            np.testing.assert_array_equal(runs_mask(24, 24, runs=[regions[0].runs], frame=(24, 24)), mask)
    assert data.columns.region_counts().sum() > 20


def test_the_books_balance(archive: Archive, reference: Path) -> None:
    found = json.loads((reference / "index.json").read_text())
    assert found["images"] + sum(found["excluded"].values()) == sum(1 for _ in archive_records(archive.root))
    assert found["excluded"] == {
        "black image": 15, "damaged or truncated image": 1, "duplicate image id": 1, "missing file": 2, "no split": 8,
    }  # fmt: skip
    table = pd.concat([pd.read_parquet(path) for path in (reference / "shards").glob("[0-9]*[0-9].parquet")])
    assert found["splits"] == table["split"].value_counts().sort_index().to_dict()
    assert found["patients"] == table["patient"].nunique()
    assert found["boxes_excluded"] == {
        "outside the image": sum(name % 3 == 2 for name in table["image_id"].astype(int))
    }
    assert found["format"] == 2 and found["tone"] == "native"
    assert found["settings"] == {**SETTINGS.model_dump(mode="json"), "inputs": {"table.csv": "one"}}
    assert found["parts"][0]["records"] + found["parts"][0]["excluded"] == 153
    assert {"imitate", "pillow", "pydicom", "numpy"} <= set(found["versions"])
    assert [each["rows"] for each in found["shards"]] == [
        len(np.load(reference / "shards" / f"{each['name']}.npy")) for each in found["shards"]
    ]
    listed = [pq.read_table(path).to_pylist() for path in sorted((reference / "shards").glob("*.excluded.parquet"))]
    places = {row["source_place"] for rows in listed for row in rows if row["reason"] == "missing file"}
    assert places == {str(archive.root / "150.png"), str(archive.root / "152.png")}


@pytest.mark.parametrize("engines", [[Engine(workers=3)], [Engine(1, (part, 3)) for part in (3, 1, 2)]])
def test_any_number_of_processes_writes_the_same(
    engines: list[Engine], archive: Archive, reference: Path, tmp_path: Path
) -> None:
    found = [
        write_folder(archive_records(archive.root), tmp_path / "out", SETTINGS, archive=archive, engine=engine)
        for engine in engines
    ]
    assert found[:-1] == [None] * (len(engines) - 1)
    assert content(tmp_path / "out") == content(reference)
    assert found[-1] == json.loads((reference / "index.json").read_text())


def test_a_complete_folder_is_left_as_it_is(
    archive: Archive, reference: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def touched() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in reference.rglob("*") if path.name != ".lock"}

    before = touched()
    with caplog.at_level("INFO"):
        again = write_folder(archive_records(archive.root), reference, SETTINGS, archive=archive, engine=ONE)
    assert "complete already" in caplog.text and again == json.loads((reference / "index.json").read_text())
    for fields, message in (
        ({"size": 32}, "size 24, not 32"),
        ({"resize": "letterbox", "mode": "paper"}, 'resize "stretch", not "letterbox"; mode "clean", not "paper"'),
        ({"options": {"raw": "/b"}}, 'raw "/archive", not "/b"'),
        ({"classes": ("Edema", "Fracture", "Mass")}, "classes "),
    ):
        other = SETTINGS.model_copy(update=fields)
        with pytest.raises(UserError, match=f"was prepared with {message}"):
            write_folder(archive_records(archive.root), reference, other, archive=archive)
    with pytest.raises(UserError, match="masks true, not false"):
        write_folder(archive_records(archive.root), reference, SETTINGS, archive=replace(archive, traits={}))
    assert touched() == before


def test_changed_raw_data_are_named(archive: Archive, reference: Path) -> None:
    given = list(archive_records(archive.root))
    changed = [replace(each, sex="M") if isinstance(each, Record) and each.patient == "p3" else each for each in given]
    before = content(reference)
    for records, inputs, message in (
        (given, "two", "table.csv changed; the records are the same: add --append"),
        (changed, "two", r"table.csv changed; 2 records changed \(9, 10\): choose another --out"),
        (given[3:], "one", r"3 records vanished \(0, 1, 2\): choose another --out"),
        ([*given, Record("new", archive.root / "4.png", "p", "s")], "one", "1 records are new: add --append"),
    ):
        with pytest.raises(UserError, match=f"raw data changed since .* was begun: {message}"):
            write_folder(
                records, reference, SETTINGS, archive=replace(archive, inputs={"table.csv": inputs}), engine=ONE
            )
    for records, message in ((changed, r"2 records changed \(9, 10\)"), (given[3:], r"3 records vanished \(0, 1, 2\)")):
        with pytest.raises(UserError, match=f"{message}: .*--append only adds records"):
            write_folder(records, reference, SETTINGS, archive=archive, engine=ONE, append=True)
    assert content(reference) == before


def test_new_records_become_new_shards(
    archive: Archive, reference: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given, out = [*archive_records(archive.root)], tmp_path / "out"
    del given[77]  # the second record of one id
    begun = write_folder(given[:60], out, SETTINGS, archive=archive, engine=ONE)
    first = content(out)
    usable = [Record(f"row {number}", archive.root / "4.png", "p", "s") for number in (11, 31)]  # excluded before
    later = [*usable, *reversed(given)]
    moved = replace(archive, inputs={"table.csv": "two"})
    found = write_folder(later, out, SETTINGS, archive=moved, engine=Engine(workers=2), append=True)
    assert found and [each["manifest"] for each in found["parts"]] == ["manifest.parquet", "manifest-1.parquet"]
    assert found["settings"]["inputs"] == {"table.csv": "two"} and found["images"] == 128
    assert {name: data for name, data in content(out).items() if name in first and name != "index.json"} == {
        name: data for name, data in first.items() if name != "index.json"
    }
    ids = [
        image_id
        for each in found["shards"]
        for image_id in pq.read_table(out / "shards" / f"{each['name']}.parquet")["image_id"].to_pylist()
    ]
    assert begun and ids[begun["images"] :][:2] == ["row 11", "row 31"] and len(set(ids)) == len(ids) == 128
    before = content(out)
    with caplog.at_level("INFO"):
        assert write_folder(later, out, SETTINGS, archive=moved, engine=ONE, append=True) == found
        assert write_folder(given + usable, out, SETTINGS, archive=moved, engine=ONE) == found
    assert "0 new records" in caplog.text and "complete already" in caplog.text and content(out) == before
    third = replace(archive, inputs={"table.csv": "three"})
    accepted = write_folder(later, out, SETTINGS, archive=third, engine=ONE, append=True)
    assert accepted == {**found, "settings": {**found["settings"], "inputs": {"table.csv": "three"}}}


def test_a_crash_or_a_hang_costs_one_record(archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "DECODER", "fragile_decoder:Fragile")
    for name in ("crash", "hang"):
        (tmp_path / f"{name}.png").write_bytes((archive.root / "1.png").read_bytes())
    bad = [Record(name, tmp_path / f"{name}.png", "p", "s") for name in ("crash", "hang")]
    good = list(archive_records(archive.root))[:10]
    found = write_folder(
        [*good[:6], *bad, *good[6:]], tmp_path / "out", SETTINGS, archive=archive, engine=Engine(1, time_limit=5)
    )
    assert found and found["images"] == 8
    assert found["excluded"]["crashes its decoder"] == 1 and found["excluded"]["decoder takes over 5 s"] == 1


def test_other_versions_do_not_continue_a_folder(
    archive: Archive, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, given = tmp_path / "out", list(archive_records(archive.root))
    write_folder(given, out, SETTINGS, archive=archive, engine=Engine(1, (1, 2)))
    real = index.versions()
    monkeypatch.setattr(writer, "versions", lambda: {**real, "pillow": "9.9"})
    with pytest.raises(UserError, match=f"was begun with pillow {real['pillow']}, not pillow 9.9: install those"):
        write_folder(given, out, SETTINGS, archive=archive, engine=ONE)
    assert write_folder(given, reference, SETTINGS, archive=archive, engine=ONE)  # complete: nothing is decoded


@pytest.mark.parametrize("name", ["manifest.parquet", "index.json"])
def test_a_damaged_folder_is_named(name: str, archive: Archive, reference: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(reference, tmp_path / "out"))
    (out / name).write_bytes((out / name).read_bytes()[:100])
    with pytest.raises(UserError, match=f"{name} is damaged"):
        write_folder(archive_records(archive.root), out, SETTINGS, archive=archive, engine=ONE)


def test_no_usable_record_leaves_nothing(archive: Archive, tmp_path: Path) -> None:
    out = tmp_path / "out"
    useless = [Excluded(str(number), "no text") for number in range(9)]
    with pytest.raises(UserError, match="no usable image in table \\(9 x no text\\)"):
        write_folder(useless, out, SETTINGS, archive=archive)
    with pytest.raises(UserError, match="lists no record"):
        write_folder([], out, SETTINGS, archive=archive)
    assert not list(out.iterdir())
    with pytest.raises(UserError, match="no usable image in table \\(9 x no text; 1 x missing file\\)"):
        write_folder([*useless, Record("a", archive.root / "absent", "p", "s")], out, SETTINGS, archive=archive)
    assert [path.name for path in out.iterdir()] == [".lock"]
    write_folder(list(archive_records(archive.root))[:3], out, SETTINGS, archive=archive, engine=ONE)


def test_other_folders_are_not_written_into(archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "notes.txt").touch()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "meta.json").touch()
    for name, message in (("a", "is not empty and holds no prepared folder"), ("b", "of format 1")):
        with pytest.raises(UserError, match=message):
            write_folder([], tmp_path / name, SETTINGS, archive=archive)


@pytest.mark.parametrize(("engine", "message"), [({"workers": 0}, "--workers 0"), ({"part": (4, 3)}, "--part 4/3")])
def test_mistakes_of_the_engine(engine: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Engine(**engine)


def test_a_check_writes_nothing(archive: Archive) -> None:
    found = check_records(archive_records(archive.root), SETTINGS, archive=archive, sample=20)
    assert found.records == 144 and found.excluded == {"duplicate image id": 1, "no split": 8}
    assert found.decoded + sum(found.failed.values()) == 20 and found.failed["black image"] > 0
    few = check_records(list(archive_records(archive.root))[:2], SETTINGS, archive=archive)
    assert (few.records, few.decoded, few.failed) == (2, 2, {})


def test_progress_is_logged_where_there_is_no_terminal(
    archive: Archive, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LOG_EVERY", 0)
    with caplog.at_level("INFO"):
        write_folder(archive_records(archive.root), tmp_path / "out", SETTINGS, archive=archive, engine=ONE)
    assert "153 records of 153, " in caplog.text and "126 images of 50 patients" in caplog.text
    assert "15  excluded: black image" in caplog.text and "outside the image" in caplog.text
    assert not any(part in caplog.text for part in (str(archive.root), ".png", "Stable", "p1"))


def test_workers_fit_the_machine_and_the_archive(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(writer, "cores", lambda: 8)
    monkeypatch.setattr(writer, "SMALL", 50)
    monkeypatch.setattr(writer, "write_shards", lambda *_, workers, **__: asked.append(workers) or ())
    for engine in (Engine(), Engine(part=(1, 2)), Engine(workers=2)):
        write_folder(archive_records(archive.root), tmp_path, SETTINGS, archive=archive, engine=engine)
    assert asked == [4, 2, 2]
    assert os.cpu_count()
